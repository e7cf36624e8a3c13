"""Where a fit's events, decisions and costs go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regraft.events import Emit, Event, Measured
from regraft.jobs.common import Messages
from regraft.workspace.runs import RunFolder


class Recorder:
    """The run's folder and whoever listens, as one."""

    def __init__(self, folder: RunFolder, listener: Emit) -> None:
        self.folder = folder
        self.messages = Messages(listener)
        self.costs: dict[str, Any] = {}

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

    def decide(self, **decisions: Any) -> None:
        """Record decisions before they are acted on."""
        self.folder.decide(**decisions)
