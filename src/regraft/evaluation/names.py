"""What figures are called, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1_micro": "F1, over all decisions",
    "f1_macro": "F1, mean of classes",
    "mean_average_precision": "mean average precision",
    "exact": "all labels right",
    "log_loss": "log-loss",
    "calibration_error": "calibration error",
    "mae": "mean absolute error",
    "rmse": "root mean square error",
    "r2": "R²",
    "coverage": "inside the 90 % interval",
}

FIRST = ("accuracy", "f1_micro", "mae")
"""The figure that stands for all, where there is room for one."""


def judged_on(result: Mapping[str, Any]) -> str:
    """How many training examples the estimate of a run is from; where training in all folds took too long, not all of them."""
    every, judged = result["n"], result.get("judged", result["n"])
    return f"cross-validated, {every:,}" if judged == every else f"held out, {judged:,} of {every:,}"


def first_key(metrics: Mapping[str, Any]) -> str:
    """The key of the figure that stands for all."""
    return next(key for key in FIRST if key in metrics)


def number(value: float) -> str:
    """Three decimals, or three digits where that says more."""
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"


def figure(value: Mapping[str, float]) -> str:
    """A figure with its interval."""
    return f"{number(value['value'])} ({number(value['low'])} to {number(value['high'])})"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
