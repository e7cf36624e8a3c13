"""Bands and a stretch of time left out of a log-mel spectrum (SpecAugment, Park et al. 2019, without its warping of time)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from regraft.modality.augmentations.base import Amounts, Augmentation


def masked(
    window: Mapping[str, np.ndarray], chance: np.random.Generator, amounts: Amounts, preprocessing: Mapping[str, Any]
) -> Mapping[str, np.ndarray]:
    """One run of bands and one of frames get the spectrum's mean. Windows of samples, or of power without a logarithm, stay as they are."""
    if "mel" not in window or preprocessing.get("spectrogram") == "mel-power":
        return window
    mel = window["mel"].copy()
    bands, frames = mel.shape
    if "positions" in window:
        # silence after the sound needs no mask
        frames = min(frames, 2 * int(window["positions"]))
    middle = mel[:, :frames].mean(dtype=np.float64)
    for axis, count, part in ((0, bands, amounts["bands"]), (1, frames, amounts["time"])):
        length = math.floor(chance.random() * (math.floor(part * count) + 1))
        start = math.floor(chance.random() * (count - length + 1))
        place = slice(start, start + length)
        mel[(place, slice(0, frames)) if axis == 0 else (slice(None), place)] = middle
    return {**window, "mel": mel}


AUGMENTATION = Augmentation(
    name="mask",
    task="audio",
    about="up to a fifth of the bands and a tenth of the time left out of the spectrum",
    amounts={"bands": 0.2, "time": 0.1},
    windows=masked,
)
