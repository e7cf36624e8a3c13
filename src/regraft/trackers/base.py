"""The record that every tracker fills in, and the thread in which one works."""

from __future__ import annotations

import json
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from regraft.errors import printable
from regraft.events import Decided, Done, Emit, Event, HeldOut, Measured, Progress, Warned, lasting

SEND_EVERY = 1.0
"""Seconds in which figures gather before they are sent together."""

LONGEST = 4000
"""Characters of a text that is sent: MLflow takes 5,000 of a tag."""


@dataclass(frozen=True)
class Opening:
    """What a tracker is opened with.

    name         what the run is called there
    folder       an existing folder in the run's own, for what the tracker keeps here
    destination  where to, as it was asked for; None: the tracker's own settings say, or it is `folder`
    id           what the tracker called this run before it was interrupted; None: it is new
    """

    name: str
    folder: Path
    destination: str | None
    id: str | None


@dataclass(frozen=True)
class Point:
    """A figure at a `step` of a curve; None: it is one of the whole run. `time` is in seconds since 1970."""

    name: str
    value: float
    step: int | None
    time: float


class Session(Protocol):
    """A run in a tracker, open. Its calls may take as long as they want, and fail: they run in a thread of their own."""

    id: str
    """What the tracker calls the run: a later session that is opened with it goes on with the same one."""

    def params(self, values: Mapping[str, str]) -> None:
        """What was asked for; once a run."""

    def notes(self, values: Mapping[str, str]) -> None:
        """What was decided, and where things are; a later value of a name takes the place of the one before."""

    def points(self, points: Sequence[Point]) -> None:
        """Figures, in their order."""

    def close(self, status: str) -> None:
        """The end: finished, interrupted or failed."""


@dataclass(frozen=True)
class Tracker:
    """A program that keeps figures of runs.

    needs  the packages that `load` imports, in words
    extra  what installs them: regraft[extra]
    load   imports them: in the main thread, before anything else runs. ImportError where they are not there
    open   a run there
    """

    name: str
    needs: str
    extra: str
    load: Callable[[], object]
    open: Callable[[Opening], Session]


_Item = Callable[[Session], None]


class Sending:
    """A tracker at work in a thread of its own. Called with events it returns at once.

    `keep` hears what the tracker calls the run, in that thread; `warn` hears once, in the caller's, that the tracker failed.
    """

    def __init__(self, tracker: Tracker, opening: Opening, keep: Callable[[str], None], warn: Emit) -> None:
        self.tracker = tracker
        self._opening, self._keep, self._warn = opening, keep, warn
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._status: str | None = None
        self._fault, self._left = "", False
        self._thread = threading.Thread(target=self._work, name=f"regraft-{tracker.name}", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        if self._gone():
            return
        if isinstance(event, Decided):
            self.notes({f"decision.{name}": value for name, value in event.decisions.items()})
        for point in points_of(event):
            self._queue.put(point)

    def params(self, values: Mapping[str, Any]) -> None:
        """What was asked for, once: a run that goes on has it."""
        if self._opening.id is None:
            texts = _texts(values)
            self._queue.put(lambda session: session.params(texts))

    def notes(self, values: Mapping[str, Any]) -> None:
        """What was decided, and where things are."""
        texts = _texts(values)
        self._queue.put(lambda session: session.notes(texts))

    def result(self, figures: Mapping[str, float]) -> None:
        """Figures of the whole run."""
        for name, value in figures.items():
            curve, _, last = slug(name).rpartition("/")
            for point in _points(curve or "run", {last: value}, None):
                self._queue.put(point)

    def end(self, status: str) -> None:
        """There is nothing more to come."""
        self._status = status
        self._queue.put(None)

    def wait(self, seconds: float) -> bool:
        """Whether everything was taken, or given up, within so many seconds."""
        self._thread.join(max(0.0, seconds))
        return self._gone() or not self._thread.is_alive()

    def leave(self, why: str) -> None:
        """Hear no more of it."""
        self._fault = self._fault or why
        self._gone()

    def _gone(self) -> bool:
        """Whether the tracker failed; said the first time."""
        if self._fault and not self._left:
            self._left = True
            self._warn(Warned(f"--track {self.tracker.name}: {self._fault}; the fit does not need it, and goes its way without"))
        return self._left

    def _work(self) -> None:
        try:
            session = self.tracker.open(self._opening)
            self._keep(session.id)
            while self._send(session):
                pass
            session.close(self._status or "failed")
        except (Exception, SystemExit) as error:
            # whatever a program of others throws: the fit does not depend on it
            line = next(iter(str(error).strip().splitlines()), "")
            told = f"{type(error).__name__}: {printable(line)}"
            self._fault = told if len(told) <= 200 else f"{told[:196]} ..."

    def _send(self, session: Session) -> bool:
        """Send what gathers in a while; whether there is more to come."""
        item, points, until = self._queue.get(), list[Point](), time.monotonic() + SEND_EVERY
        while item is not None:
            if isinstance(item, Point):
                points.append(item)
            else:
                item(session)
            try:
                item = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
        if points:
            session.points(points)
        return item is not None


def points_of(event: Event) -> Iterator[Point]:
    """The figures that an event holds; of the steps of a training those that last."""
    if isinstance(event, Progress) and lasting(event):
        found = {"loss": event.loss, "lr": event.lr, "examples_per_second": event.per_second}
        yield from _points(slug(event.stage), found, event.done)
    elif isinstance(event, HeldOut):
        found = {event.metric: event.value, f"{event.metric}_of_head": event.head, f"{event.metric}_so_far": event.so_far}
        trainings = slug(event.stage.split(",", 1)[0])
        yield from _points(f"{trainings}/held_out", found, event.fold)
    elif isinstance(event, Done):
        yield from _points(slug(event.stage), {"seconds": event.seconds}, None)
    elif isinstance(event, Measured):
        yield from _points("cost", {slug(event.name): event.value}, None)


def _points(curve: str, figures: Mapping[str, float | None], step: int | None) -> Iterator[Point]:
    """Those figures that are numbers."""
    now = time.time()
    for name, value in figures.items():
        if value is not None and math.isfinite(value):
            yield Point(f"{curve}/{name}", float(value), step, now)


def slug(name: str) -> str:
    """The name of a figure as all trackers take it: training, fold 1 of 5 -> training/fold_1"""
    return re.sub(r"[^\w./-]+", "_", re.sub(r"(fold \d+) of \d+", r"\1", name).replace(", ", "/"))


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Plain values as texts; nothing of those that are None."""
    return {slug(name): _text(value) for name, value in values.items() if value is not None}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 4] + " ..."
