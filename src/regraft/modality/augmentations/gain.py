"""A sound louder or quieter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from regraft.modality.augmentations.base import Amounts, Augmentation


def louder(samples: np.ndarray, chance: np.random.Generator, amounts: Amounts, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """Times a factor by chance, evenly in decibels."""
    return samples * np.float32(10 ** ((2 * chance.random() - 1) * amounts["decibels"] / 20))


AUGMENTATION = Augmentation(
    name="gain",
    task="audio",
    about="up to 6 dB louder or quieter",
    amounts={"decibels": 6.0},
    decoded=louder,
)
