"""A piece of an image, of a size and shape by chance, stretched to the network's size (Szegedy et al. 2015, section 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from regraft.modality.augmentations.base import Amounts, Augmentation

TRIES = 10
"""Draws of a size and shape; when none fits into the image, as large a piece as its shape allows is taken."""


def cropped(image: Image.Image, chance: np.random.Generator, amounts: Amounts, preprocessing: Mapping[str, Any]) -> Image.Image:
    """The piece, in the image's own pixels."""
    size = preprocessing["size"]
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    usual, stretch = width / height, math.log(amounts["ratio"])
    for _ in range(TRIES):
        area = image.width * image.height * (amounts["area"] + (1 - amounts["area"]) * chance.random())
        shape = usual * math.exp(stretch * (2 * chance.random() - 1))
        across, down = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < across <= image.width and 0 < down <= image.height:
            break
    else:
        shape = min(max(image.width / image.height, usual / amounts["ratio"]), usual * amounts["ratio"])
        across, down = min(image.width, round(image.height * shape)), min(image.height, round(image.width / shape))
        across, down = max(1, across), max(1, down)
    left, top = (math.floor(chance.random() * (over + 1)) for over in (image.width - across, image.height - down))
    return image.crop((left, top, left + across, top + down))


def stretched(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """The piece fills the network's picture: there is no rim to cut off."""
    return {**{k: v for k, v in preprocessing.items() if k != "resize_to"}, "crop_pct": 1.0, "crop_mode": "squash"}


AUGMENTATION = Augmentation(
    name="crop",
    task="image",
    about="a piece of half the image or more, at most a third longer than wide or wider than long",
    # fine-tuning wants milder ones than the 0.08 of training from scratch: what is told apart must stay in the picture
    amounts={"area": 0.5, "ratio": 4 / 3},
    decoded=cropped,
    prepared_by=stretched,
)
