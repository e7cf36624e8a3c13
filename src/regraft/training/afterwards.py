"""What can be had once a network is trained, without training: weights between its start and its end, and probabilities that mean what
they say. Both are chosen on held-out outputs, and what is reported of a fold was chosen on the other ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far from the start (the head's own fit on the pretrained network) to the end of the training (WiSE-FT, Wortsman et al. 2022, who
find one of these on held-out examples, and 0.5 good without looking)."""


def between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The tensors of `end`, those of floating point so far of the way from `start`."""
    return {name: torch.lerp(start[name], e, share) if e.is_floating_point() and share != 1 else e.clone() for name, e in end.items()}


def cross_parts(folds: np.ndarray, inner: np.ndarray) -> np.ndarray | None:
    """The part (n,) that each held-out example belongs to, for choices made outside of it: its fold; where there is one fold only, one of
    two halves of it that share no content and no group. None where nothing can be parted.
    """
    for parts in (folds, inner % 2):
        if len(np.unique(parts)) > 1:
            return parts
    return None


@dataclass(frozen=True)
class Choice:
    """Which of several options is best on all held-out examples; `outside` says for each part which one is, on the others."""

    best: int
    outside: dict[int, int]
    scores: list[float]
    losses: list[float]

    def of(self, outputs: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """Of outputs (options, n, ...) those that were chosen without each example's own part."""
        return outputs[np.array([self.outside[int(part)] for part in parts]), np.arange(len(parts))]


Score = Callable[[int, np.ndarray], float]
"""(option, places) -> how good it is there; higher is better."""


def chosen(score: Score, gains: np.ndarray, losses: np.ndarray, parts: np.ndarray) -> Choice:
    """The best of the options, whose gains and losses (options, n) are of the same examples.

    As the strength of a linear head is chosen: those whose score is within a standard error of the best one's stay in (Breiman et al.
    1984, paired), and the one with the least loss is taken.
    """

    def best(places: np.ndarray) -> tuple[int, list[float], list[float]]:
        scores = [score(option, places) for option in range(len(gains))]
        top = int(np.argmax(scores))
        slack = [float((gains[top, places] - g[places]).std() / math.sqrt(len(places))) for g in gains]
        means = [float(loss[places].mean()) for loss in losses]
        able = [k for k in range(len(scores)) if scores[top] - scores[k] <= slack[k]]
        return min(able, key=lambda k: means[k]), scores, means

    found, scores, means = best(np.arange(len(parts)))
    outside = {int(part): best(np.flatnonzero(parts != part))[0] for part in np.unique(parts)}
    return Choice(found, outside, scores, means)


COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures looked at."""

LEAST_DECIDED = 10
"""Right and wrong held-out decisions, of each, that a temperature is fitted on. Where all are right the best one is the coldest, which
promises certainty that a few examples do not show."""


def temperature(outputs: np.ndarray, truth: np.ndarray) -> float:
    """What to divide scores by so that the log-loss of these log-probabilities (n, classes) is least (Guo et al. 2017): it has one minimum
    in 1 / temperature, found by golden section.
    """
    low, high = 1 / HOTTEST, 1 / COLDEST
    golden = (math.sqrt(5) - 1) / 2
    rows = np.arange(len(truth))
    scores = outputs.astype(np.float64)

    def loss(inverse: float) -> float:
        scaled = scores * inverse
        top = scaled.max(1, keepdims=True)
        return float((np.log(np.exp(scaled - top).sum(1)) + top[:, 0] - scaled[rows, truth]).mean())

    a, b = high - golden * (high - low), low + golden * (high - low)
    at_a, at_b = loss(a), loss(b)
    while high - low > 1e-4 * high:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - golden * (high - low)
            at_a = loss(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + golden * (high - low)
            at_b = loss(b)
    return 2 / (low + high)


def tempered(outputs: np.ndarray, truth: np.ndarray, parts: np.ndarray, link: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Log-probabilities (n, classes) at the temperature that the other parts say."""
    out = outputs.copy()
    for part in np.unique(parts):
        own = parts == part
        out[own] = link(outputs[own].astype(np.float64) / temperature(outputs[~own], truth[~own]))
    return out


def told(mixes: Sequence[float], choice: Choice) -> dict[str, Any]:
    """A choice among weights as plain data."""
    return {
        "mixes": list(mixes),
        "scores": [round(s, 6) for s in choice.scores],
        "losses": [round(loss, 6) for loss in choice.losses],
        "mix": mixes[choice.best],
        "part_mixes": [mixes[k] for k in choice.outside.values()],
    }
