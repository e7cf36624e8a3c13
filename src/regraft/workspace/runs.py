"""A run: a folder with everything about one fit. `run.json` is written last; with it the run is whole.

spec.json            what was asked for
decisions.json       what was found out or decided on the way
events.jsonl         what happened, a line each
run.json             the result: model, estimate, baseline, test, cost, what was left out
out_of_fold.csv      each example, its label, what a model that had not seen it said
out_of_fold.npy      the same as probabilities (n, classes), float32
bundle/              the model to keep
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from regraft.errors import RunError
from regraft.events import Event, Progress
from regraft.workspace.files import cannot_write, read_json, write_json

RESULT = "run.json"
BUNDLE = "bundle"
OUT_OF_FOLD = "out_of_fold.csv"
MATERIAL = "material"
"""What training reads, while it runs."""

_OWN = {
    "spec.json",
    "decisions.json",
    "events.jsonl",
    OUT_OF_FOLD,
    "out_of_fold.npy",
    "without_network.npz",
    "without_network.json",
    BUNDLE,
    MATERIAL,
}
_NEEDED = ("task", "model", "estimate", "baseline", "n", "seconds")


class RunFolder:
    """A run's folder while it is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._decisions: dict[str, Any] = {}
        try:
            self._events = open(  # noqa: SIM115 - open as long as the run
                path / "events.jsonl", "w", encoding="utf-8", newline="\n", errors="backslashreplace"
            )
        except OSError as error:
            raise cannot_write(path / "events.jsonl", error) from None

    def decide(self, **decisions: Any) -> None:
        """Record decisions before they are acted on."""
        self._decisions.update(decisions)
        write_json(self.path / "decisions.json", self._decisions)

    def log(self, event: Event) -> None:
        """Append an event; progress ticks are not kept."""
        if not isinstance(event, Progress):
            try:
                self._events.write(json.dumps(event.to_json(), ensure_ascii=False) + "\n")
                self._events.flush()
            except OSError as error:
                raise cannot_write(self.path / "events.jsonl", error) from None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result: the run is whole from here on."""
        self.close()
        write_json(self.path / RESULT, result)

    def close(self) -> None:
        """Close the log; safe to call twice. What a full disk did not take of it was said before."""
        with suppress(OSError):
            self._events.close()


def new_run(out: str | None, data_name: str, spec: Mapping[str, Any]) -> RunFolder:
    """Make the folder of a new run; RunError when the one asked for is taken."""
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
    write_json(path / "spec.json", spec)
    return RunFolder(path)


def _may_be_written(path: Path) -> bool:
    """An empty folder, or a run that was interrupted: the same command goes on in its place."""
    if not path.is_dir():
        return False
    inside = {p.name for p in path.iterdir()}
    return not inside or ("spec.json" in inside and RESULT not in inside and inside <= _OWN)


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
            raise RunError(f"{path} did not finish", move="run the same `regraft fit` again: features that were computed are kept")
        raise RunError(f"{path} is not a run: it has no {RESULT}", expected="a folder that `regraft fit` made", move="regraft runs")
    try:
        result = read_json(path / RESULT)
    except (ValueError, OSError) as error:
        raise RunError(f"{path / RESULT} cannot be read: {error}") from None
    lacking = [key for key in _NEEDED if key not in result] if isinstance(result, dict) else list(_NEEDED)
    if lacking:
        raise RunError(f"{path / RESULT} is not a run's result: it lacks {', '.join(lacking)}")
    return result


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
