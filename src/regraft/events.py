"""Small records of what is happening. Rooms emit them; the command line, a program or a log reads them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened."""

    def to_json(self) -> dict[str, Any]:
        """The event as plain data, with its kind."""
        return {"event": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Started(Event):
    """A stage began; `total` is how many `unit` it will take, 0 when unknown."""

    stage: str
    total: int = 0
    unit: str = ""


@dataclass(frozen=True)
class Progress(Event):
    """`done` of the stage's total, or of `total` where that became known only now.

    per_second    examples a second, or whatever the stage counts, over the last seconds
    seconds_left  to the end of the stage, if it goes on so
    loss          of a training: that of its last steps, smoothed
    lr            of a training: the learning rate of the step, of the head and the last block
    """

    stage: str
    done: int
    total: int = 0
    per_second: float | None = None
    seconds_left: float | None = None
    loss: float | None = None
    lr: float | None = None


@dataclass(frozen=True)
class HeldOut(Event):
    """A fold was judged by a network that had not seen it.

    metric    what choices are made by
    value     of the fold's examples
    head      the same of the linear head, on the same examples
    so_far    of the examples of all folds that were judged
    examples  how many the fold has
    """

    stage: str
    fold: int
    folds: int
    metric: str
    value: float
    head: float
    so_far: float
    examples: int


@dataclass(frozen=True)
class Done(Event):
    """A stage ended after `seconds`; `note` says what came of it."""

    stage: str
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Said(Event):
    """Something inferred or decided, said aloud."""

    message: str


@dataclass(frozen=True)
class Warned(Event):
    """Something the user should know before trusting the result."""

    message: str


@dataclass(frozen=True)
class Decided(Event):
    """Decisions that were written down, and are acted on from here."""

    decisions: dict[str, Any]


@dataclass(frozen=True)
class Measured(Event):
    """A figure, with what it was predicted to be where it was."""

    name: str
    value: float
    predicted: float | None = None
    unit: str = ""


Emit = Callable[[Event], None]
"""Where events go."""

STEPS_KEPT = 200
"""Steps of one training that logs and trackers keep, at most."""


def lasting(event: Event) -> bool:
    """Whether a log keeps an event: all but ticks of progress, and of the steps of a training some hundreds, evenly."""
    if not isinstance(event, Progress):
        return True
    if event.loss is None:
        return False
    return event.done == event.total or event.done % max(1, math.ceil(event.total / STEPS_KEPT)) == 0


class Speed:
    """How fast a stage goes. It forgets: a slow start, or what was there already, says nothing of what is left."""

    SPACING, SAMPLES = 0.2, 50
    """Seconds between two looks at the clock that are remembered, and how many are."""

    def __init__(self, total: int, each: float = 1.0) -> None:
        self._total, self._each = total, each
        self._seen: deque[tuple[float, int]] = deque(maxlen=self.SAMPLES)

    def __call__(self, done: int) -> tuple[float | None, float | None]:
        """(`each` x done a second, seconds to the total); None where nothing can be said yet."""
        now = time.monotonic()
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        if not self._seen or now - self._seen[-1][0] >= self.SPACING:
            self._seen.append((now, done))
        since, before = self._seen[0]
        if done == before or now <= since:
            return None, None
        rate = (done - before) / (now - since)
        return rate * self._each, max(0, self._total - done) / rate

    def progress(self, stage: str, done: int) -> Progress:
        """The event of a stage that has come so far."""
        per_second, left = self(done)
        return Progress(stage, done, per_second=per_second, seconds_left=left)


def silent(event: Event) -> None:
    """Listen to nothing."""
