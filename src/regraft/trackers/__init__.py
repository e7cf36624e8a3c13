"""Trackers: other programs that keep and draw what happens in a fit.

In: events, what was asked for and the run's result, as plain data.     Out: figures and texts, to the tracker that was asked for.
Never: changes a fit, holds it up, or fails it. What a tracker cannot take is said once and left; nothing goes where it was not sent.
Invariant: what a session was told can be read back with the tool's own reader, and a run that goes on is one run
(tests/contracts/test_trackers.py).
"""

from __future__ import annotations

from regraft.errors import MissingExtra
from regraft.spec import tracker_of
from regraft.trackers import mlflow, tensorboard, wandb
from regraft.trackers.base import Opening, Sending, Session, Tracker

TRACKERS: dict[str, Tracker] = {t.name: t for t in (tensorboard.TRACKER, mlflow.TRACKER, wandb.TRACKER)}

__all__ = ["TRACKERS", "Opening", "Sending", "Session", "Tracker", "load_tracker"]


def load_tracker(asked: str) -> tuple[Tracker, str | None]:
    """The tracker that `--track` names, its library imported, and the destination, None where it is the usual one.

    UsageError for another name, MissingExtra where the library is not installed.
    """
    name, destination = tracker_of(asked)
    tracker = TRACKERS[name]
    try:
        tracker.load()
    except ImportError as error:
        raise MissingExtra(f"--track {name} needs {tracker.needs}: {error}", move=f"pip install 'regraft[{tracker.extra}]'") from None
    return tracker, destination
