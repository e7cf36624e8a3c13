"""How a training keeps to a budget: what is asked on its way. Answers are recorded before they are acted on; the clock is the asker's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from regraft.training.loop import Bend


def _as_planned(training: int, restart: int, step: int, end: int) -> int | None:
    return None


@dataclass(frozen=True)
class Pacing:
    """A training in folds and on everything; they are numbered, the final one comes last.

    steps    (training, whether it is the final one, steps of its whole schedule) -> how many are made; may raise
    folds    (trainings done, folds) -> how many folds are trained in all, asked after each fold
    shorter  (training, restart, step, end) -> a nearer end, or None; asked after every step
    bends    training -> where its schedule was shortened before
    """

    steps: Callable[[int, bool, int], int]
    folds: Callable[[int, int], int]
    bends: Callable[[int], list[Bend]]
    shorter: Callable[[int, int, int, int], int | None] = _as_planned
