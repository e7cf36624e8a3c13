"""The usual figures of predicted numbers, each with a 95 % interval over examples."""

from __future__ import annotations

import math

import numpy as np

from regraft.evaluation.classes import above_zero, mean_interval, wilson
from regraft.evaluation.labels import percentiles
from regraft.facts import Figure


def figures(y: np.ndarray, values: np.ndarray, half_widths: np.ndarray) -> dict[str, Figure]:
    """mae, rmse, r2 and coverage (the part of examples inside their interval); r2 only where the true values differ.

    y, values and half_widths (n,) float64; n at least 1. R² is 1 less the squared error over that of the mean of y.
    """
    errors = y - values
    squared = mean_interval(errors**2)
    found = {
        "mae": above_zero(mean_interval(np.abs(errors))),
        "rmse": Figure(*(math.sqrt(max(0.0, v)) for v in (squared.value, squared.low, squared.high))),
    }
    # centred and scaled, so that large values with small differences keep their digits
    spread = float(y.std())
    # (equal values can have a spread of rounding errors)
    if y.min() < y.max() and spread > 0:
        z, e = (y - y.mean()) / spread, errors / spread
        moments = np.stack([e**2, z, z**2], 1)
        found["r2"] = percentiles(float(1 - (e**2).mean()), len(y), lambda w: _r2(w.astype(np.float64) @ moments / len(y)))
    found["coverage"] = wilson(float((np.abs(errors) <= half_widths).sum()), len(y))
    return found


def _r2(moments: np.ndarray) -> np.ndarray:
    variance = moments[:, 2] - moments[:, 1] ** 2
    return np.where(variance > 1e-12, 1 - moments[:, 0] / np.maximum(variance, 1e-12), np.nan)


def half_width(errors: np.ndarray, level: float) -> float:
    """The half-width that holds a part `level` of new examples: a quantile of out-of-fold errors, with one example more than
    there are (split conformal prediction: Vovk et al. 2005; Lei et al. 2018). The largest error when there are too few.
    """
    sizes = np.sort(np.abs(errors))
    rank = math.ceil((len(sizes) + 1) * level)
    return float(sizes[min(rank, len(sizes)) - 1])
