"""Which labels are suspicious: the rules that read held-out probabilities and errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]

SUREST = 0.1
"""Part of the predictions, the surest ones, that say how many labels are wrong: a model seldom errs there, so what contradicts it is mostly
the label. (On flowers5, where one in four predictions is wrong, one in two hundred of the surest tenth is; with 5 % of the labels changed
one in twenty: docs/inspect.md.)"""

SURE_AT_LEAST = 60
"""Predictions that this is read from at least, up to half of all."""

SURE = 0.9
"""Mean probability that the surest predictions must have: a model that is sure of nothing cannot say that a label is wrong."""

Z_LOW = 1.2816
"""The estimate is cut at the low end of its 80 % interval (Wilson 1927), so that clean data is not flooded with names."""

FAR_OUT = 3.0
"""Errors of numbers further than so many interquartile ranges from the quartiles are far out (Tukey 1977)."""


@dataclass(frozen=True)
class Suspicion:
    """How many labels are expected to be wrong, `expected` of `of`, and the places of the `named` ones, the most suspicious first.

    `scores` (n,) are those of all examples: below 0 where another label is likelier than the given one; NaN where nothing is held out.
    """

    expected: float
    of: int
    named: Places
    scores: Numbers


def suspicious_labels(given: Places, probabilities: Numbers) -> Suspicion:
    """Labels given (n,) of classes against held-out probabilities (n, classes), NaN where there are none.

    The score is the log of the given label's probability over that of the likeliest other one. How many labels are wrong is
    read from the surest predictions, whichever label was given: what a model leaves open between two classes makes no label wrong there,
    while a label that was changed by mistake contradicts sure predictions as often as others. So many are named, as the low end
    of the interval says. Confident learning (Northcutt et al. 2021) counts where another class reaches its own
    mean probability; where classes overlap that counts mistakes of the model too (docs/decisions/0025).
    """
    held = np.flatnonzero(np.isfinite(probabilities).all(1))
    scores = np.full(len(given), np.nan)
    p = np.maximum(probabilities[held].astype(np.float64), 1e-12)
    y = given[held]
    rows = np.arange(len(held))
    own = p[rows, y]
    others = p.copy()
    others[rows, y] = 0.0
    best = others.max(1)
    scores[held] = np.log(own) - np.log(np.maximum(best, 1e-12))
    expected, least = expected_errors(np.maximum(own, best), best > own)
    return Suspicion(expected, len(held), _most(scores, round(least)), scores)


def expected_errors(sureness: Numbers, contradicted: Flags) -> tuple[float, float]:
    """(how many labels are expected to be wrong, the low end of it) of so many predictions: the probability of each, and whether the given
    label says otherwise. Nothing is expected of a model that is sure of nothing.
    """
    n = len(sureness)
    if not n:
        return 0.0, 0.0
    count = min(max(round(SUREST * n), SURE_AT_LEAST), max(1, n // 2))
    surest = np.argsort(-sureness, kind="stable")[:count]
    if sureness[surest].mean() < SURE:
        return 0.0, 0.0
    wrong = int(contradicted[surest].sum())
    return wrong / count * n, _wilson_low(wrong, count) * n


def suspicious_marks(given: Flags, probabilities: Numbers) -> list[Suspicion]:
    """The same for several labels at once, one entry a label: given (n, labels) bool, probabilities (n, labels). Marks that are too many
    and marks that are missing are counted apart: the model is sure of one long before it is of the other.
    """
    found: list[Suspicion] = []
    for k in range(given.shape[1]):
        p = probabilities[:, k].astype(np.float64)
        held = np.flatnonzero(np.isfinite(p))
        q = np.clip(p, 1e-12, 1 - 1e-12)
        odds = np.log(q / (1 - q))
        scores = np.where(given[:, k], odds, -odds)
        expected = 0.0
        named: list[Places] = []
        for there in (True, False):
            side = held[(odds[held] > 0) == there]
            many, least = expected_errors(np.maximum(q[side], 1 - q[side]), given[side, k] != there)
            expected += many
            only = np.full(len(scores), np.nan)
            only[side] = scores[side]
            named.append(_most(only, round(least)))
        together = np.concatenate(named)
        found.append(Suspicion(expected, len(held), together[np.argsort(scores[together], kind="stable")], scores))
    return found


def suspicious_numbers(given: Numbers, predicted: Numbers) -> Suspicion:
    """Numbers given (n,) against held-out ones: those whose error is far out by Tukey's fences. Scores are minus the distance from the
    middle error, in interquartile ranges.
    """
    errors = given - predicted
    held = np.flatnonzero(np.isfinite(errors))
    scores = np.full(len(given), np.nan)
    if not len(held):
        return Suspicion(0.0, 0, held, scores)
    low, middle, high = np.quantile(errors[held], [0.25, 0.5, 0.75])
    spread = max(high - low, 1e-12)
    scores[held] = -np.abs(errors[held] - middle) / spread
    out = held[(errors[held] < low - FAR_OUT * spread) | (errors[held] > high + FAR_OUT * spread)]
    return Suspicion(float(len(out)), len(held), out[np.argsort(scores[out], kind="stable")], scores)


def _most(scores: Numbers, count: int) -> Places:
    """Places of the lowest scores, at most so many, as far as another label is likelier."""
    below = np.flatnonzero(scores < 0)
    return below[np.argsort(scores[below], kind="stable")][:count]


def _wilson_low(wrong: int, n: int) -> float:
    p, z = wrong / n, Z_LOW
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float(max(0.0, (centre - half) / (1 + z * z / n)))
