"""JSON Lines: one object a line; its keys are the columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regraft.data.formats.base import Table, TableFormat, cell_text, decoded
from regraft.errors import DataError
from regraft.facts import LeftOut


def read(path: Path) -> Table:
    """The columns are the keys of all objects, in the order in which they first occur. A line that is none is left out."""
    found: list[tuple[str, dict[str, Any]]] = []
    broken: list[LeftOut] = []
    columns: dict[str, int] = {}
    for number, line in enumerate(decoded(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_without_twins)
            if not isinstance(value, dict):
                raise ValueError(f"it holds {_kind(value)} where an object is expected")
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not JSON ({error})"
            broken.append(LeftOut(f"{path.name}, line {number}", reason))
            continue
        found.append((f"line {number}", value))
        for key in value:
            columns.setdefault(key, len(columns))
    if not found:
        faults = [f"{b.name}: {b.reason}" for b in broken[:3]]
        raise DataError(f"{path} holds no objects", expected='lines such as {"text": "...", "label": "..."}', faults=faults)
    header = list(columns)
    return Table([name.strip() for name in header], [(where, [cell_text(value.get(k)) for k in header]) for where, value in found], broken)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", type(None): "null", bool: "true or false"}.get(type(value), "a number")


FORMAT = TableFormat("jsonl", "JSON Lines: one object a line, in UTF-8", (".jsonl", ".ndjson"), read)
