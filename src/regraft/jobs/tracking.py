"""Trackers of a fit: opened with its run, told everything that happens, closed with its result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regraft.errors import RegraftError
from regraft.events import Said
from regraft.jobs.recording import Recorder
from regraft.spec import FitSpec
from regraft.trackers import Opening, Sending, Tracker, load_tracker
from regraft.workspace.files import read_json, write_json
from regraft.workspace.runs import BUNDLE, TRACKERS, read_run

PATIENCE = {"finished": 30.0, "interrupted": 5.0, "failed": 5.0}
"""Seconds that a fit which is over waits for trackers, all together."""

SAID_AFTER = 2.0
"""Seconds of them after which it says so."""

Loaded = Sequence[tuple[Tracker, "str | None"]]


def loaded(spec: FitSpec) -> Loaded:
    """The trackers that were asked for, their libraries imported. MissingExtra where one is not installed."""
    return [load_tracker(asked) for asked in spec.track]


@contextmanager
def tracked(trackers: Loaded, spec: FitSpec, recorder: Recorder) -> Iterator[None]:
    """What happens to `recorder` until the end of the block goes to trackers too, and then the run's result."""
    if not trackers:
        yield
        return
    sendings = [_opened(tracker, destination, recorder) for tracker, destination in trackers]
    for sending in sendings:
        sending.params(_asked(spec))
        sending.notes({"run": str(recorder.path.absolute())})
    recorder.listeners += sendings
    status = "failed"
    try:
        yield
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        try:
            _end(sendings, status, recorder)
        except KeyboardInterrupt:
            # the run is whole: leaving its trackers is no interrupted fit
            if status != "finished":
                raise


def _opened(tracker: Tracker, destination: str | None, recorder: Recorder) -> Sending:
    folder = recorder.path / TRACKERS
    folder.mkdir(exist_ok=True)
    known = folder / f"{tracker.name}.json"
    opening = Opening(recorder.path.absolute().name, folder, destination, _known(known))
    return Sending(tracker, opening, lambda id: write_json(known, {"id": id}), recorder.emit)


def _known(path: Path) -> str | None:
    """What a tracker called the run before it was interrupted."""
    try:
        held = read_json(path)
    except (OSError, ValueError):
        return None
    found = held.get("id") if isinstance(held, dict) else None
    return found if isinstance(found, str) else None


def _asked(spec: FitSpec) -> dict[str, Any]:
    """What was asked for, without what was not."""
    usual = {"threads": None, "track": ()}
    return {name: value for name, value in spec.to_json().items() if value not in (None, (), "") and name not in usual}


def _end(sendings: Sequence[Sending], status: str, recorder: Recorder) -> None:
    result = _result(recorder.path) if status == "finished" else {}
    for sending in sendings:
        if result:
            sending.notes(
                {"bundle": str((recorder.path / BUNDLE).absolute()), **{k: result[k] for k in ("model", "licence") if k in result}}
            )
            sending.result(final_figures(result))
        sending.end(status)
    patience, deadline = PATIENCE[status], recorder.deadline
    if deadline.bound:
        patience = min(patience, max(1.0, deadline.left))
    until = time.monotonic() + patience
    waiting = [s for s in sendings if not s.wait(SAID_AFTER)]
    if waiting:
        names = ", ".join(s.tracker.name for s in waiting)
        recorder.messages(Said(f"waiting up to {patience:.0f} s for {names}; everything of the run is kept, Ctrl-C does not wait"))
    for sending in waiting:
        if not sending.wait(until - time.monotonic()):
            sending.leave(f"it did not take everything within {patience:.0f} s")


def _result(path: Path) -> Mapping[str, Any]:
    try:
        return read_run(path)
    except RegraftError:
        return {}


def final_figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a result by names: each with its interval, as NAME, NAME_low and NAME_high."""
    test = result.get("test") or {}
    parts = {
        "estimate": result["estimate"],
        "test": test.get("metrics"),
        "without_network": result["baseline"].get("without_network", {}).get("metrics"),
        "better_than_no_network": result.get("better_than_no_network"),
        "better_than_head": result.get("better_than_head"),
    }
    found: dict[str, float] = {}
    for part, figures in parts.items():
        for name, figure in (figures or {}).items():
            found |= {f"{part}/{name}": figure["value"], f"{part}/{name}_low": figure["low"], f"{part}/{name}_high": figure["high"]}
    counted = {"cost/seconds": result["seconds"], "cost/peak_memory_mb": result.get("peak_memory_mb"), "estimate/examples": result["n"]}
    return found | {name: value for name, value in counted.items() if value is not None}
