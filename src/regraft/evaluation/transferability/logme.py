"""LogME: the evidence of labels under a Bayesian linear model on the features, each example's share of its logarithm.

You, Liu, Wang & Long 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning" (ICML); the iteration is that of
MacKay 1992, on the axes of the features as in You et al. 2022.
"""

from __future__ import annotations

import math

import numpy as np

from regraft.evaluation.transferability.base import TINY, Material, Score, principal

STEPS = 200
"""Rounds of the fixed point at most; it settles in 5 to 30."""

SETTLED = 1e-6
"""Relative change of alpha / beta at which it has."""

FARTHEST = 1e12
"""Bound on alpha / beta: features that say nothing of the labels drive it to infinity."""


def logme(material: Material) -> float:
    """Mean over the columns of the labels of max over alpha, beta of log p(y | features) / n, where y = features w + noise, w ~ N(0,
    1/alpha) and noise ~ N(0, 1/beta).
    """
    rows = material.rows.astype(np.float64)
    # the evidence at its maximum does not depend on the unit of the features: alpha takes it up
    rows = rows / max(math.sqrt(float(np.mean(rows**2))), TINY)
    scores, squares = principal(rows)
    along = (scores / np.sqrt(squares)).T @ material.columns
    whole = (material.columns**2).sum(0)
    values = [_evidence(squares, own**2, float(total), len(rows)) for own, total in zip(along.T, whole, strict=True)]
    return float(np.mean(values)) if values else 0.0


def _evidence(squares: np.ndarray, reached: np.ndarray, whole: float, n: int) -> float:
    """Of one column: `reached` (k,) are its squared parts along the axes, `whole` its sum of squares."""
    beyond = max(0.0, whole - float(reached.sum()))
    ratio = 1.0
    alpha = beta = 1.0
    for _ in range(STEPS):
        shrunk = ratio / (ratio + squares)
        effective = float((1 - shrunk).sum())
        weights = max(float((reached * squares / (ratio + squares) ** 2).sum()), TINY * TINY)
        rest = max(beyond + float((reached * shrunk**2).sum()), TINY * whole)
        alpha, beta = max(effective, TINY) / weights, max(n - effective, TINY) / rest
        before, ratio = ratio, min(alpha / beta, FARTHEST)
        if abs(ratio - before) <= SETTLED * before:
            break
    # for a given ratio the best beta has a closed form
    shrunk = ratio / (ratio + squares)
    quadratic = max(beyond + float((reached * shrunk).sum()), TINY * whole)
    return -0.5 * (math.log(2 * math.pi * quadratic / n) + 1 - float(np.log(shrunk).sum()) / n)


SCORE = Score("logme", "LogME", "You et al. 2021", ("class", "multilabel", "number"), logme)
