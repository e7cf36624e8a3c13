"""Small records of what is happening. Rooms emit them; the command line, a program or a log reads them."""

from __future__ import annotations

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
    """`done` of the stage's total, or of `total` where that became known only now."""

    stage: str
    done: int
    total: int = 0


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
class Measured(Event):
    """A figure, with what it was predicted to be where it was."""

    name: str
    value: float
    predicted: float | None = None
    unit: str = ""


Emit = Callable[[Event], None]
"""Where events go."""


def silent(event: Event) -> None:
    """Listen to nothing."""
