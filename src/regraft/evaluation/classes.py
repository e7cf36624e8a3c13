"""The usual figures of a classifier, each with a 95 % interval over examples.

The intervals say how the figure would move with other examples of the same kind; they do not hold what another training set
would change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from regraft.facts import Figure

Z = 1.959964
"""The 97.5 % point of the normal distribution."""

RESAMPLES = 1000

_EMPTY = 1e-12


def wilson(right: float, n: int) -> Figure:
    """A proportion with Wilson's score interval (Wilson 1927; Brown, Cai & DasGupta 2001)."""
    p = right / n
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return Figure(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def mean_interval(values: np.ndarray) -> Figure:
    """A mean with its normal interval; of one value a very wide one, since its deviation is unknown."""
    mean = float(values.mean())
    half = Z * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else max(1e6, abs(mean))
    return Figure(mean, mean - half, mean + half)


def above_zero(figure: Figure) -> Figure:
    """The interval of something that is never negative."""
    return Figure(figure.value, max(0.0, figure.low), figure.high)


def confusion_table(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts (classes, classes): row the true class, column the predicted one."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _recalls(diagonal: np.ndarray, true: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Mean over the classes that occur of the part found; the arrays are (..., classes)."""
    there = true > 0
    return np.where(there, diagonal / np.maximum(true, _EMPTY), 0).sum(-1) / np.maximum(there.sum(-1), 1)


def _f1(diagonal: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Mean over the classes that occur or are predicted of F1; the arrays are (..., classes)."""
    there = (true + predicted) > 0
    return np.where(there, 2 * diagonal / np.maximum(true + predicted, _EMPTY), 0).sum(-1) / np.maximum(there.sum(-1), 1)


def _of_table(table: np.ndarray, measure: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> float:
    return float(measure(np.diag(table), table.sum(1), table.sum(0)))


def _mean_recall(table: np.ndarray) -> Figure:
    """Balanced accuracy; its interval is put together from Wilson's for each class (MOVER: Zou & Donner 2008).

    Unlike a bootstrap it does not collapse when there are no mistakes.
    """
    each = [wilson(float(table[i, i]), int(n)) for i, n in enumerate(table.sum(1)) if n]
    value = sum(f.value for f in each) / len(each)
    below = math.sqrt(sum((f.value - f.low) ** 2 for f in each)) / len(each)
    above = math.sqrt(sum((f.high - f.value) ** 2 for f in each)) / len(each)
    return Figure(value, max(0.0, value - below), min(1.0, value + above))


def _bootstrap(table: np.ndarray, measure: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Figure:
    """Percentile bootstrap (Efron 1979): resampling examples is drawing the cells of the table from a multinomial."""
    value = _of_table(table, measure)
    if np.count_nonzero(table - np.diag(np.diag(table))) == 0:
        # no mistakes: every resample is perfect too, so the bootstrap says nothing; recall's interval does
        return _mean_recall(table)
    classes, n = len(table), int(table.sum())
    true, predicted = np.nonzero(table)
    counts = table[true, predicted]
    rng = np.random.default_rng(0)
    values = []
    step = max(1, 4_000_000 // max(1, len(counts)))
    for start in range(0, RESAMPLES, step):
        draws = rng.multinomial(n, counts / n, size=min(step, RESAMPLES - start))
        diagonal, rows, columns = (np.zeros((len(draws), classes)) for _ in range(3))
        for k, (i, j) in enumerate(zip(true, predicted, strict=True)):
            rows[:, i] += draws[:, k]
            columns[:, j] += draws[:, k]
            if i == j:
                diagonal[:, i] += draws[:, k]
        values.append(measure(diagonal, rows, columns))
    low, high = np.quantile(np.concatenate(values), [0.025, 0.975])
    return Figure(value, min(value, float(low)), max(value, float(high)))


SCORES: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {
    "accuracy": lambda labels, predicted, classes: float((labels == predicted).mean()),
    "balanced_accuracy": lambda labels, predicted, classes: _of_table(confusion_table(labels, predicted, classes), _recalls),
    "f1_macro": lambda labels, predicted, classes: _of_table(confusion_table(labels, predicted, classes), _f1),
    # the log-loss decides by itself once every strength is as good as the others
    "log_loss": lambda labels, predicted, classes: 0.0,
}
"""What choices can be made by: (labels, predicted, classes) -> higher is better."""


def figures(labels: np.ndarray, log_probabilities: np.ndarray) -> dict[str, Figure]:
    """accuracy, balanced_accuracy, f1_macro, log_loss (nats an example) and calibration_error.

    labels (n,), log_probabilities (n, classes); n at least 1.
    """
    classes = log_probabilities.shape[1]
    predicted = log_probabilities.argmax(1)
    table = confusion_table(labels, predicted, classes)
    losses = -log_probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "accuracy": wilson(float((predicted == labels).sum()), len(labels)),
        "balanced_accuracy": _mean_recall(table),
        "f1_macro": _bootstrap(table, _f1),
        "log_loss": above_zero(mean_interval(losses)),
        "calibration_error": calibration_error(labels, log_probabilities),
    }


def calibration_error(labels: np.ndarray, log_probabilities: np.ndarray, bins: int = 10) -> Figure:
    """How far the probability of the predicted class is from how often it is right, in bins of equal size (Naeini 2015).

    Its interval is a bootstrap over examples, shifted down by nothing: small sets look worse than they are.
    """
    sure = np.exp(log_probabilities.max(1).astype(np.float64))
    right = (log_probabilities.argmax(1) == labels).astype(np.float64)
    order = np.argsort(sure, kind="stable")
    gap = (right - sure)[order]
    bins = max(1, min(bins, len(gap) // 10))
    edges = np.linspace(0, len(gap), bins + 1).astype(int)[:-1]
    error = lambda g: float(np.abs(np.add.reduceat(g, edges)).sum() / len(g))
    value = error(gap)
    rng = np.random.default_rng(0)
    owner = np.searchsorted(edges, np.arange(len(gap)), side="right") - 1
    draws = []
    for _ in range(200):
        chosen = rng.integers(len(gap), size=len(gap))
        draws.append(np.abs(np.bincount(owner[chosen], weights=gap[chosen], minlength=bins)).sum() / len(gap))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Figure(value, min(value, float(low)), max(value, float(high)))


def paired_difference(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> Figure:
    """Accuracy of `ours` less that of `theirs` (predicted classes) on the same examples, with a normal interval."""
    return mean_interval((ours == labels).astype(np.float64) - (theirs == labels))


def confusion_json(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """The confusion table as plain data: labels, and a row of counts for each true label."""
    return {"labels": list(names), "rows": confusion_table(labels, predicted, len(names)).tolist()}
