"""A sound a little earlier or later in its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from regraft.modality.augmentations.base import Amounts, Augmentation


def shifted(samples: np.ndarray, chance: np.random.Generator, amounts: Amounts, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """As many samples: silence comes in at one end, what leaves at the other is lost."""
    by = round((2 * chance.random() - 1) * amounts["part"] * len(samples))
    out = np.zeros_like(samples)
    out[max(0, by) : len(samples) + min(0, by)] = samples[max(0, -by) : len(samples) - max(0, by)]
    # a sound that was all in what is lost stays as it was
    return out if out.any() else samples


AUGMENTATION = Augmentation(
    name="shift",
    task="audio",
    about="earlier or later by up to a tenth of the sound",
    amounts={"part": 0.1},
    decoded=shifted,
)
