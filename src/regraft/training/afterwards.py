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

HALVINGS = 60
"""Steps in which any interval of temperatures is halved to nothing."""

LEAST_DECIDED = 10
"""Right and wrong held-out decisions, of each, that a temperature is fitted on. Where all are right the best one is the coldest, which
promises certainty that a few examples do not show."""


def temperature(outputs: np.ndarray, truth: np.ndarray) -> float:
    """What to divide scores by so that the log-loss of these log-probabilities (n, classes) is least (Guo et al. 2017): it is convex in
    1 / temperature, so Newton's steps find it, halving where they would leave the interval that holds the minimum.
    """
    low, high = 1 / HOTTEST, 1 / COLDEST
    scores = outputs.astype(np.float64)
    scores -= scores.max(1, keepdims=True)
    right = scores[np.arange(len(truth)), truth].mean()
    inverse = 1.0
    for _ in range(HALVINGS):
        likely = np.exp(scores * inverse)
        likely /= likely.sum(1, keepdims=True)
        weighted = likely * scores
        means = weighted.sum(1)
        slope = float(means.mean() - right)
        bend = float(np.einsum("ij,ij->i", weighted, scores).mean() - (means**2).mean())
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / bend if bend > 0 else math.inf
        following = step if low < step < high else math.sqrt(low * high)
        if abs(following - inverse) <= 1e-4 * inverse:
            return 1 / following
        inverse = following
    return 1 / inverse


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
