"""An image brighter or darker, with more or less contrast and colour, as another camera or another light would have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from regraft.modality.augmentations.base import Amounts, Augmentation

_ENHANCE = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}


def coloured(image: Image.Image, chance: np.random.Generator, amounts: Amounts, preprocessing: Mapping[str, Any]) -> Image.Image:
    """Each of them by a factor of its own around 1."""
    for name, most in amounts.items():
        image = _ENHANCE[name](image).enhance(1 + most * (2 * chance.random() - 1))
    return image


AUGMENTATION = Augmentation(
    name="colour",
    task="image",
    about="brightness, contrast and saturation up to a fifth more or less",
    amounts={"brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
    decoded=coloured,
)
