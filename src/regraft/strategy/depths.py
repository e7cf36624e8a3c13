"""Which depth of a network to take: the rules that read a profile."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

from regraft.facts import Figure

LEVEL = 0.95
"""Of an interval by itself."""


def earliest_good_enough(behind: Sequence[Figure]) -> int:
    """The first place whose distance behind the highest figure is not clearly above zero.

    `behind` are paired differences, highest less this one, in order of depth. Their intervals are those of one comparison each: wider ones
    would call earlier places good enough, more easily than the data allow. (Breiman et al. 1984 choose the smallest tree within one
    standard error of the best; the interval here is that of the difference.)
    """
    return next(i for i, gap in enumerate(behind) if gap.low <= 0)


def widened(figure: Figure, comparisons: int) -> Figure:
    """The interval of a difference that was picked from several, so wide that all of them hold together 95 times of 100 (Bonferroni)."""
    normal = NormalDist()
    factor = normal.inv_cdf(1 - (1 - LEVEL) / 2 / max(1, comparisons)) / normal.inv_cdf(0.5 + LEVEL / 2)
    low, high = figure.value - (figure.value - figure.low) * factor, figure.value + (figure.high - figure.value) * factor
    return Figure(figure.value, low, high)
