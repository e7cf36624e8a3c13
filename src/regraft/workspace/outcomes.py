"""The local record of predictions and what came of them: lines of JSON in `outcomes.jsonl`, in home. It may be deleted at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from regraft.errors import WriteError
from regraft.workspace.files import write_text
from regraft.workspace.store import home

KEPT = 1000
"""Lines; the oldest go once there are half as many more."""

FORMAT = 1

LINE_LIMIT = 20_000
"""Bytes of a line."""


def outcomes_file() -> Path:
    """Where the record is."""
    return home() / "outcomes.jsonl"


def read_outcomes() -> tuple[list[dict[str, Any]], int]:
    """(what was kept, the oldest first; how many lines were passed over because they are damaged or of another format)."""
    found: list[dict[str, Any]] = []
    bad = 0
    for line in _lines():
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict) and values.get("format") == FORMAT:
            found.append(values)
        else:
            bad += 1
    return found[-KEPT:], bad


def keep_outcome(values: Mapping[str, Any]) -> None:
    """Add a line of plain data. A disk that does not take it is no fault: predictions are then as good as they were."""
    line = json.dumps({"format": FORMAT, **values}, allow_nan=False)
    if len(line) > LINE_LIMIT:
        return
    with suppress(WriteError, OSError):
        path = outcomes_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _lines()
        if len(held) >= KEPT + KEPT // 2:
            write_text(path, "".join(f"{old}\n" for old in [*held[-KEPT:], line]))
            return
        # one write of a whole line: two processes that do so at once leave two lines
        with open(path, "ab") as file:
            file.write(("\n" if _torn(path) else "").encode() + f"{line}\n".encode())


def _lines() -> Sequence[str]:
    """The lines that are not empty; of a file that is too large, none can be relied on but its end."""
    try:
        with open(outcomes_file(), "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 4 * KEPT * LINE_LIMIT // 10))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]


def _torn(path: Path) -> bool:
    """Whether the last line has no end: a process was killed while it wrote."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 1))
            return size > 0 and file.read() != b"\n"
    except OSError:
        return False
