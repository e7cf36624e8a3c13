"""Where a fit's events, decisions and costs go, and where decisions come from that were taken before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regraft.errors import RunError, UsageError
from regraft.events import Done, Emit, Event, Measured, Warned
from regraft.jobs.common import Messages
from regraft.spec import FitSpec
from regraft.workspace.checkpoints import differences
from regraft.workspace.runs import RunFolder, decided

DATA = "examples"
"""The decision that holds what the examples are: with others nothing that was decided before can be used."""


class Recorder:
    """The run's folder and whoever listens, as one.

    `taken` are decisions that this run took before it was interrupted, `replay` those of another one. What a clock or the machine
    decided is read with `held_decision` in place of measuring again. Everything else is decided again, and has to come out the same: where
    it does not, a run that goes on is refused, and one that replays another says so.
    """

    def __init__(
        self, folder: RunFolder, listener: Emit, taken: Mapping[str, Any] | None = None, replay: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = folder
        self.messages = Messages(listener)
        self.costs: dict[str, Any] = {}
        self.stages: dict[str, float] = {}
        self._taken, self._replay = dict(taken or {}), dict(replay or {})

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    def emit(self, event: Event) -> None:
        """Log an event, pass it on, and keep what it says of costs."""
        self.folder.log(event)
        self.messages(event)
        if isinstance(event, Measured):
            self.costs[event.name] = {"predicted": event.predicted, "measured": round(event.value, 3), "unit": event.unit}
        if isinstance(event, Done):
            self.stages[event.stage] = self.stages.get(event.stage, 0.0) + event.seconds

    @property
    def anew(self) -> bool:
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
        self.folder.decide(**decisions)


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [found for name in now if name in before for found in differences(before[name], now[name], name)]


FREE = ("data", "test", "out", "store", "offline", "allow_code", "threads")
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
