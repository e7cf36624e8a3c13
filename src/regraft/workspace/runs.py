"""A run: a folder with everything about one fit. `run.json` is written last; with it the run is whole.

spec.json            what was asked for
decisions.json       what was found out or decided on the way
events.jsonl         what happened, a line each
run.json             the result: model, estimate, baseline, test, cost, what was left out
out_of_fold.csv      each example, its label, what a model that had not seen it said
out_of_fold.npy      the same as probabilities (n, classes), float32
bundle/              the model to keep
replayed.json        decisions of another run that are used, where that was asked for
time.json            the seconds that went into it so far, where it has a budget; while it runs
checkpoints/         how far training is; while it runs
trackers/            what TensorBoard, MLflow and Weights & Biases keep, where they keep it here, and what they call the run
lock                 who writes it; while it runs
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.errors import RunError
from regraft.events import Event, lasting
from regraft.workspace.files import cannot_write, read_json, write_json
from regraft.workspace.lock import LOCK, Lock, read_lock

RESULT = "run.json"
BUNDLE = "bundle"
OUT_OF_FOLD = "out_of_fold.csv"
PAGE = "report.html"
MATERIAL = "material"
"""What training reads, while it runs."""

CHECKPOINTS = "checkpoints"
"""How far training is, while it runs."""

TRACKERS = "trackers"
"""What trackers keep."""

SPEC, DECISIONS, EVENTS, REPLAYED = "spec.json", "decisions.json", "events.jsonl", "replayed.json"
TIME = "time.json"

_OWN = {
    SPEC,
    DECISIONS,
    EVENTS,
    REPLAYED,
    TIME,
    OUT_OF_FOLD,
    "out_of_fold.npy",
    "without_network.npz",
    "without_network.json",
    PAGE,
    BUNDLE,
    MATERIAL,
    CHECKPOINTS,
    TRACKERS,
    LOCK,
}
_NEEDED = ("task", "model", "estimate", "baseline", "n", "seconds")


class RunFolder:
    """A run's folder while it is being written. `decisions` are those that were taken already: the run goes on."""

    def __init__(self, path: Path, lock: Lock, decisions: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._lock = lock
        self._decisions: dict[str, Any] = dict(decisions or {})
        try:
            self._events = open(  # noqa: SIM115 - open as long as the run
                path / EVENTS, "w" if decisions is None else "a", encoding="utf-8", newline="\n", errors="backslashreplace"
            )
        except OSError as error:
            lock.release()
            raise cannot_write(path / EVENTS, error) from None

    @property
    def decisions(self) -> Mapping[str, Any]:
        """What was decided so far."""
        return self._decisions

    def decide(self, **decisions: Any) -> None:
        """Record decisions before they are acted on."""
        self._decisions.update(decisions)
        write_json(self.path / DECISIONS, self._decisions, durable=True)

    def log(self, event: Event) -> None:
        """Append an event with the time, in seconds since 1970; of ticks of progress only those that last are kept. After the end
        nothing is.
        """
        if lasting(event) and not self._events.closed:
            try:
                self._events.write(json.dumps({"time": round(time.time(), 3), **event.to_json()}, ensure_ascii=False) + "\n")
                self._events.flush()
            except OSError as error:
                raise cannot_write(self.path / EVENTS, error) from None

    def note_time(self, seconds: float) -> None:
        """Write down how much time went into the run so far; a disk that does not take it is no fault."""
        with suppress(RunError, OSError):
            write_json(self.path / TIME, {"seconds": round(seconds, 2)})

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result: the run is whole from here on."""
        write_json(self.path / RESULT, result, durable=True)
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
        (self.path / TIME).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close the log; safe to call twice. What a full disk did not take of it was said before."""
        with suppress(OSError):
            self._events.close()
        with suppress(OSError):
            self._lock.release(remove=(self.path / RESULT).is_file())


def new_run(
    out: str | None, data_name: str, spec: Mapping[str, Any], objects: Sequence[str] = (), replay: Mapping[str, Any] | None = None
) -> RunFolder:
    """Make the folder of a new run; RunError when the one asked for is taken. `objects` are what was given in memory, which `spec` cannot
    hold, `replay` decisions of another run.
    """
    if out is not None:
        path = Path(out)
        if path.exists() and not _may_be_written(path):
            raise RunError(f"{path} exists already", expected="a new or empty folder", move=f"--out {path}-2, or leave --out away")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path} cannot be made: {error.strerror}", move="another --out") from None
    else:
        path = _numbered(Path("runs"), data_name)
    lock = Lock(path)
    try:
        # of a run that was interrupted: nothing of it counts any more
        _clear(path)
        lock.write({"folder": os.getcwd(), "objects": list(objects)})
        if replay is not None:
            write_json(path / REPLAYED, replay, durable=True)
        write_json(path / SPEC, spec, durable=True)
    except BaseException:
        lock.release()
        raise
    return RunFolder(path, lock)


def _clear(path: Path) -> None:
    for inside in path.iterdir():
        if inside.name != LOCK:
            shutil.rmtree(inside, ignore_errors=True) if inside.is_dir() else inside.unlink(missing_ok=True)


@dataclass(frozen=True)
class Unfinished:
    """A run that did not finish: what was asked for and decided, where, and what had been given in memory."""

    folder: RunFolder
    spec: dict[str, Any]
    decisions: dict[str, Any]
    replay: dict[str, Any]
    where: str | None
    objects: tuple[str, ...]
    seconds: float
    """That went into it, where it has a budget."""


def unfinished_run(path: Path) -> Unfinished:
    """Take up a run that was interrupted. RunError when there is none, or while another process writes it."""
    if not (path / SPEC).is_file():
        raise _no_run(path)
    lock = Lock(path)
    try:
        for left in path.glob(".*.part"):
            # aside, from the moment it was killed
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        said = read_lock(path)
        spec = _read(path / SPEC)
        decisions, replay = (_read(path / name) if (path / name).is_file() else {} for name in (DECISIONS, REPLAYED))
        where, objects = said.get("folder"), tuple(str(name) for name in said.get("objects") or ())
        lock.write({"folder": where, "objects": list(objects)})
        return Unfinished(RunFolder(path, lock, decisions), spec, decisions, replay, where, objects, _seconds(path))
    except BaseException:
        lock.release()
        raise


def _seconds(path: Path) -> float:
    try:
        return max(0.0, float(read_json(path / TIME)["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def decided(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what was asked for, what was decided) of a run, finished or not; RunError when it cannot be read."""
    if not (path / SPEC).is_file():
        raise _no_run(path)
    if not (path / DECISIONS).is_file():
        raise RunError(f"{path} was interrupted before anything was decided", move="another run; regraft runs")
    return _read(path / SPEC), _read(path / DECISIONS)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (ValueError, OSError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise RunError(f"{path} holds no JSON object")
    return found


def _no_run(path: Path) -> RunError:
    if not path.is_dir():
        return RunError(f"{path} is not a run: there is no such folder", move="regraft runs")
    return RunError(f"{path} is not a run: it has no {SPEC}", expected="a folder that `regraft fit` made", move="regraft runs")


def _may_be_written(path: Path) -> bool:
    """An empty folder, or a run that was interrupted: the same command goes on in its place."""
    if not path.is_dir():
        return False
    inside = {p.name for p in path.iterdir() if not (p.name.startswith(".") and p.name.endswith(".part"))}
    return not inside - {LOCK} or ("spec.json" in inside and RESULT not in inside and inside <= _OWN)


def _numbered(parent: Path, data_name: str) -> Path:
    name = re.sub(r"[^\w.-]+", "-", data_name)[:80].strip("-.") or "data"
    for number in range(1, 100_000):
        path = parent / f"{name}-{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(f"{path} cannot be made: {error.strerror}", move="--out FOLDER, somewhere that can be written to") from None
        return path
    raise RunError(f"{parent} holds 99,999 runs named {name}", move="--out FOLDER")


def read_run(path: Path) -> dict[str, Any]:
    """The result of a finished run; RunError says when there is none."""
    if not path.is_dir():
        raise RunError(f"{path} is not a run: there is no such folder", move="regraft runs")
    if not (path / RESULT).is_file():
        if (path / "spec.json").is_file():
            raise RunError(f"{path} did not finish", move=f"regraft resume {path}")
        raise RunError(f"{path} is not a run: it has no {RESULT}", expected="a folder that `regraft fit` made", move="regraft runs")
    try:
        result = read_json(path / RESULT)
    except (ValueError, OSError) as error:
        raise RunError(f"{path / RESULT} cannot be read: {error}") from None
    lacking = [key for key in _NEEDED if key not in result] if isinstance(result, dict) else list(_NEEDED)
    if lacking:
        raise RunError(f"{path / RESULT} is not a run's result: it lacks {', '.join(lacking)}")
    return result


def read_decisions(path: Path) -> dict[str, Any]:
    """The decisions of a run; none where there are none that can be read."""
    try:
        held = read_json(path / DECISIONS)
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def bundle_folder(path: Path) -> Path:
    """The bundle that `path` means: a bundle itself, or the one inside a run."""
    return path / BUNDLE if (path / BUNDLE).is_dir() else path


def list_runs(parent: Path) -> list[tuple[Path, dict[str, Any] | None]]:
    """Runs below a folder, newest last, with their results; None where one did not finish."""
    found: list[tuple[Path, dict[str, Any] | None]] = []
    for spec in sorted(parent.glob("*/spec.json"), key=lambda p: (p.stat().st_mtime, p.parent.name)):
        try:
            found.append((spec.parent, read_run(spec.parent)))
        except RunError:
            found.append((spec.parent, None))
    return found
