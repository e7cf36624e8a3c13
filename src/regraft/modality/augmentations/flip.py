"""An image mirrored left to right, or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from regraft.modality.augmentations.base import Amounts, Augmentation


def flipped(image: Image.Image, chance: np.random.Generator, amounts: Amounts, preprocessing: Mapping[str, Any]) -> Image.Image:
    """The image, or its mirror image."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if chance.random() < amounts["share"] else image


AUGMENTATION = Augmentation(
    name="flip",
    task="image",
    about="half the images mirrored left to right",
    amounts={"share": 0.5},
    decoded=flipped,
    for_certain={"share": 1.0},
)
