"""Where a fit's events, decisions and costs go, and where decisions come from that were taken before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regraft.deadline import Deadline
from regraft.errors import RunError, UsageError
from regraft.events import Decided, Done, Emit, Event, HeldOut, Measured, Started, Warned
from regraft.jobs.common import Messages
from regraft.spec import FitSpec
from regraft.workspace.checkpoints import differences
from regraft.workspace.runs import CHECKPOINTS, RunFolder, decided

DATA = "examples"
"""The decision that holds what the examples are: with others nothing that was decided before can be used."""

OF_RUNGS = "rungs"
"""The decision that holds those of each rung that a climb trained, by its name."""

NOTED = 1.0
"""Seconds between two notes of the time that is spent."""


class Recorder:
    """The run's folder and whoever listens, as one.

    `taken` are decisions that this run took before it was interrupted, `replay` those of another one. What a clock or the machine
    decided is read with `held_decision` in place of measuring again. Everything else is decided again, and has to come out the same: where
    it does not, a run that goes on is refused, and one that replays another says so. `deadline` is the fit's.
    """

    def __init__(
        self,
        folder: RunFolder,
        listener: Emit,
        taken: Mapping[str, Any] | None = None,
        replay: Mapping[str, Any] | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        self.deadline = deadline or Deadline()
        self._noted = 0.0
        self.stage = ""
        self.folder = folder
        self.messages = Messages(listener)
        self.costs: dict[str, Any] = {}
        self.stages: dict[str, float] = {}
        self.listeners: list[Emit] = []
        """Who else hears of events: trackers."""
        self._taken, self._replay = dict(taken or {}), dict(replay or {})

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    def emit(self, event: Event) -> None:
        """Log an event, pass it on, and keep what it says of costs."""
        self.folder.log(event)
        self.messages(event)
        if isinstance(event, Started):
            self.stage = event.stage
        elif isinstance(event, Done):
            self.stage = ""
        if not isinstance(event, (Decided, HeldOut)):  # another one beside them notes it
            self._note_time()
        if isinstance(event, Measured):
            self.costs[event.name] = {"predicted": event.predicted, "measured": round(event.value, 3), "unit": event.unit}
        if isinstance(event, Done):
            self.stages[event.stage] = self.stages.get(event.stage, 0.0) + event.seconds
        for listen in self.listeners:
            listen(event)

    @property
    def decisions(self) -> Mapping[str, Any]:
        """What was decided so far."""
        return self.folder.decisions

    @property
    def checkpoints(self) -> Path:
        """Where trainings are saved on their way."""
        return self.path / CHECKPOINTS

    reserved = 0.0
    """Seconds that are kept for what is trained afterwards."""

    def of_rung(self, rung: str, reserved: float = 0.0) -> Recorder:
        """The same run for one of several rungs that are trained in it: its decisions, checkpoints and seconds are its own, and so many
        seconds are kept for others.
        """
        found = _OfRung(self, rung)
        found.reserved = reserved
        return found

    def called(self, what: str) -> str:
        """What a stage of trainings is called here."""
        return what

    @property
    def uninterrupted(self) -> bool:
        """Whether nothing was done before: what is measured is that of a whole fit."""
        return not self._taken

    def held_decision(self, name: str) -> Any:
        """What was decided before; None when nothing was."""
        return self._taken.get(name, self._replay.get(name))

    def decide(self, **decisions: Any) -> None:
        """Record decisions before they are acted on. RunError when they are not those of the run that goes on."""
        plain = json.loads(json.dumps(decisions))
        if found := _differing(self._taken, plain):
            move = "put that back as it was, or begin anew with regraft fit"
            raise RunError(f"{self.path} cannot go on: not everything is as it was", faults=found, move=move)
        if found := _differing(self._replay, plain):
            if DATA in plain:
                raise RunError("the run to replay had other data", faults=found, move="leave --replay away")
            self.emit(Warned("\n".join(["not as in the run that is replayed:", *found])))
        self._note_time(0.0)
        self._record(**decisions)
        self._tell(plain)

    def _record(self, **decisions: Any) -> None:
        self.folder.decide(**decisions)

    def _tell(self, plain: dict[str, Any]) -> None:
        self.emit(Decided(plain))

    def listed(self, name: str) -> list[Any]:
        """Decisions of a kind that grows, as far as they were taken, here or in the run that is replayed."""
        if name not in self._own and self.held_decision(name):
            self._record(**{name: self.held_decision(name)})
        return list(self._own.get(name, ()))

    @property
    def _own(self) -> Mapping[str, Any]:
        return self.folder.decisions

    def lengthen(self, name: str, item: Any) -> None:
        """Record one more of them before it is acted on."""
        self._record(**{name: [*self.listed(name), item]})

    def anew(self, *names: str) -> None:
        """Decisions that were taken before, and are taken again in another way."""
        for name in names:
            self._taken.pop(name, None)

    def _note_time(self, every: float = NOTED) -> None:
        """Write down the time that is spent, where it is counted: a run that goes on has what is left."""
        if self.deadline.bound and abs((spent := self.deadline.spent) - self._noted) >= every:
            self._noted = spent
            self.folder.note_time(spent)

    @property
    def replays(self) -> bool:
        """Whether the decisions of another run are used."""
        return bool(self._replay)


class _OfRung(Recorder):
    """One rung's view of a run in which several are trained. What it decides stands under its name."""

    def __init__(self, whole: Recorder, rung: str) -> None:
        self._whole, self._rung = whole, rung
        self.deadline, self.folder, self.messages, self.costs = whole.deadline, whole.folder, whole.messages, whole.costs
        self.stages: dict[str, float] = {}
        self._taken, self._replay = (dict((held.get(OF_RUNGS) or {}).get(rung) or {}) for held in (whole._taken, whole._replay))
        self._always = whole.replays

    @property
    def stage(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What runs now."""
        return self._whole.stage

    @property
    def decisions(self) -> Mapping[str, Any]:
        """What was decided for the whole run, and for this rung."""
        return {**self.folder.decisions, **self._own}

    @property
    def checkpoints(self) -> Path:
        """Its own."""
        return self._whole.checkpoints / plain_name(self._rung)

    def called(self, what: str) -> str:
        """With the rung's name."""
        return f"{what} of {self._rung}"

    def emit(self, event: Event) -> None:
        """To the whole run's listeners; its seconds count here too."""
        if isinstance(event, Done):
            self.stages[event.stage] = self.stages.get(event.stage, 0.0) + event.seconds
        self._whole.emit(event)

    @property
    def replays(self) -> bool:
        """Whether the decisions of another run are used."""
        return self._always

    @property
    def _own(self) -> Mapping[str, Any]:
        return (self.folder.decisions.get(OF_RUNGS) or {}).get(self._rung) or {}

    def _record(self, **decisions: Any) -> None:
        every = self.folder.decisions.get(OF_RUNGS) or {}
        self.folder.decide(**{OF_RUNGS: {**every, self._rung: {**self._own, **decisions}}})

    def _note_time(self, every: float = NOTED) -> None:
        self._whole._note_time(every)

    def _tell(self, plain: dict[str, Any]) -> None:
        self._whole.emit(Decided({f"{plain_name(self._rung)}.{name}": value for name, value in plain.items()}))


def of_shipped(decisions: Mapping[str, Any], train: str) -> dict[str, Any]:
    """The decisions behind the model that ships, whose rung is `train`: the run's, and where a climb trained several rungs, that one's."""
    return {**decisions, **((decisions.get(OF_RUNGS) or {}).get(train) or {})}


def plain_name(rung: str) -> str:
    """A rung's name as folders and trackers take it."""
    return "".join(c for c in rung if c.isalnum() or c in "-_")


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [found for name in now if name in before for found in differences(before[name], now[name], name)]


FREE = ("data", "test", "out", "store", "offline", "allow_code", "threads", "track")
"""What may be asked for otherwise when a run is replayed. Whether the data is the same is seen when it was read."""


def replayed(path: Path, spec: FitSpec) -> dict[str, Any]:
    """The decisions of another run, finished or not. UsageError when it was asked for something else, RunError when it cannot be read."""
    before, decisions = decided(path)
    asked = json.loads(json.dumps(spec.to_json()))
    bound = [{name: value for name, value in values.items() if name not in FREE} for values in (before, asked)]
    if found := differences(bound[0], bound[1]):
        raise UsageError(
            f"--replay {path}: another thing was asked for there", faults=found, move="ask for the same, or leave --replay away"
        )
    return decisions
