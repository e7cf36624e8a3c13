"""What a score gets, and the record that every score fills in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

TINY = 1e-12
"""Part of the largest below which a number counts as zero."""


@dataclass(frozen=True)
class Material:
    """What a score is made of: n examples with their labels, as a frozen network sees them.

    rows      features (n, d)
    y         classes (n,), several labels (n, outputs) of 0 and 1, or numbers (n,)
    kind      class, multilabel or number: what y is
    outputs   how many classes or labels there are
    old       the class (n,) that the network's own output layer says of each example; None where it has none
    """

    rows: np.ndarray
    y: np.ndarray
    kind: str
    outputs: int
    old: np.ndarray | None = None

    @cached_property
    def columns(self) -> np.ndarray:
        """The labels as numbers (n, columns): a column for each class or label that some examples have and others have not, or the number
        itself, with mean 0 and deviation 1 so that its unit does not matter.
        """
        if self.kind == "number":
            y = self.y.astype(np.float64).reshape(-1, 1)
            return (y - y.mean(0)) / np.maximum(y.std(0), TINY)
        y = np.eye(self.outputs)[self.y] if self.kind == "class" else self.y.astype(np.float64)
        return y[:, (y != y[0]).any(0)]


@dataclass(frozen=True)
class Score:
    """One way to tell from features and labels how well a network transfers, without training. Higher is better.

    name, title   in results, and as people read it
    paper         where it comes from
    kinds         the targets that it is defined for
    of            its value. Scores of different data are not comparable
    of_old        whether it reads what the network's own output layer says, in place of the features
    """

    name: str
    title: str
    paper: str
    kinds: tuple[str, ...]
    of: Callable[[Material], float]
    of_old: bool = False

    def can(self, material: Material) -> bool:
        """Whether it has a value here."""
        return material.kind in self.kinds and (not self.of_old or material.old is not None)


def principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(scores (n, k), squares (k,)): rows (n, d) along the axes of their own second moments, and the sum of squares along each; axes along
    which they do not reach are left out. From the smaller one of the two square matrices, as d may be ten times n.
    """
    wide = rows.astype(np.float64)
    if wide.shape[0] <= wide.shape[1]:
        squares, axes = np.linalg.eigh(wide @ wide.T)
        there = squares > TINY * max(squares[-1], TINY)
        return axes[:, there] * np.sqrt(squares[there]), squares[there]
    squares, axes = np.linalg.eigh(wide.T @ wide)
    there = squares > TINY * max(squares[-1], TINY)
    return wide @ axes[:, there], squares[there]
