"""What is told of a training on its way: each step, and each fold as it is judged. Nothing here changes what is trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.names import METRIC_NAMES, number
from regraft.events import Done, HeldOut, Progress, Speed, Started

if TYPE_CHECKING:
    from regraft.jobs.work import Work
    from regraft.training.deeper import Tick

SMOOTHING = 0.9
"""What a step's loss leaves of the smoothed one."""


@dataclass
class _Stage:
    """A training on its way."""

    name: str
    speed: Speed
    begun: float = field(default_factory=time.perf_counter)
    step: int = 0
    lr: float = 0.0
    total: float = 0.0
    weight: float = 0.0

    @property
    def loss(self) -> float:
        """The mean loss, the last steps counting most."""
        return self.total / self.weight

    def take(self, tick: Tick) -> None:
        """Count a step, once; from none where a training went back to its start."""
        if tick.step < self.step:
            self.total = self.weight = 0.0
        if tick.step != self.step:
            self.total = SMOOTHING * self.total + (1 - SMOOTHING) * tick.loss
            self.weight = SMOOTHING * self.weight + (1 - SMOOTHING)
            self.step, self.lr = tick.step, tick.lr


class Watching:
    """Makes a stage of each training of some work, `what` being what they are called together; it ends where its fold is judged."""

    def __init__(self, what: str, work: Work) -> None:
        self._what, self._work = work.recorder.called(what), work
        self._stage: _Stage | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """What `tune` and `tune_encoder` take."""
        return {"watch": self.step, "judged": self.judged}

    def step(self, tick: Tick) -> None:
        """Hear of a step."""
        emit, name = self._work.emit, f"{self._what}, {tick.training}"
        if self._stage is None or self._stage.name != name:
            self._stage = _Stage(name, Speed(tick.steps, tick.examples))
            emit(Started(name, tick.steps, "steps"))
        stage = self._stage
        stage.take(tick)
        per_second, left = stage.speed(tick.step) if tick.step < tick.steps else (stage.speed(tick.step)[0], 0.0)
        emit(Progress(name, tick.step, tick.steps, *map(_short, (per_second, left, stage.loss, stage.lr))))
        if tick.step == tick.steps and tick.training == ALL:
            emit(Done(name, time.perf_counter() - stage.begun, f"{tick.steps} steps, loss {stage.loss:.3g}"))

    def judged(self, fold: int, folds: int, scores: np.ndarray) -> None:
        """Hear of a fold that was judged."""
        work, stage = self._work, self._stage
        validation, metric = work.validation, work.validation.metric
        outputs = validation.linked(scores)
        places = np.flatnonzero(np.isfinite(outputs).all(1))
        own = places[work.folds[places] == fold]
        name = f"{self._what}, fold {fold + 1} of {folds}"
        value, head, so_far = (validation.value(*of) for of in ((outputs, own), (work.head_held_out, own), (outputs, places)))
        work.emit(HeldOut(name, fold + 1, folds, metric, value, head, so_far, len(own)))
        note = f"{METRIC_NAMES[metric]} {number(value)} held out (head {number(head)})"
        # taken up after its last step, it has no stage here
        here = stage if stage is not None and stage.name == name else None
        seconds, loss = (time.perf_counter() - here.begun, f", loss {here.loss:.3g}") if here else (0.0, "")
        work.emit(Done(name, seconds, note + loss))


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


ALL = "all examples"
"""What the final training is called: no fold judges it."""
