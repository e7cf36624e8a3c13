"""JSON Lines: one object a line; its keys are the columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from regraft.data.formats.base import LINE_LIMIT, Budget, Table, TableFormat, cell_text, check_header, opened
from regraft.errors import DataError
from regraft.facts import LeftOut


def read(path: Path) -> Table:
    """The columns are the keys of all objects, in the order in which they first occur. A line that is none is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    broken: list[LeftOut] = []
    columns: dict[str, int] = {}
    budget = Budget(path)
    # only the ends of lines that JSON knows: others may stand inside a string
    for number, line in enumerate(_lines(opened(path, newline=None)), 1):
        if not line.strip():
            continue
        if len(line) > LINE_LIMIT:
            broken.append(LeftOut(f"{path.name}, line {number}", f"it has more than {LINE_LIMIT:,} characters"))
            continue
        try:
            value = json.loads(line, object_pairs_hook=_without_twins, parse_int=_whole)
            if not isinstance(value, dict):
                raise ValueError(f"it holds {_kind(value)} where an object is expected")
            # as text at once: what was nested takes many times more
            cells = {_plain(key): _plain(cell_text(own)) for key, own in value.items()}
        except (ValueError, RecursionError) as error:
            # the place in this line: a decoder counts lines from where it began
            at = f"{error.msg} at character {min(error.pos + 1, len(line.rstrip()))}" if isinstance(error, json.JSONDecodeError) else error
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not JSON ({at})"
            broken.append(LeftOut(f"{path.name}, line {number}", reason))
            continue
        budget.take([*cells, *cells.values()])
        found.append((f"line {number}", cells))
        for key in cells:
            columns.setdefault(key, len(columns))
    if not found:
        faults = [f"{b.name}: {b.reason}" for b in broken[:3]]
        raise DataError(f"{path} holds no objects", expected='lines such as {"text": "...", "label": "..."}', faults=faults)
    header = list(columns)
    check_header(path, header)
    if len(header) * len(found) > CELL_LIMIT:
        raise DataError(f"{path} has {len(header):,} different keys in {len(found):,} lines", expected="the same keys in every line")
    return Table([name.strip() for name in header], [(where, [cells.get(k, "") for k in header]) for where, cells in found], broken)


def _lines(file: TextIO) -> Iterator[str]:
    """The lines; of one that is too long the beginning."""
    while line := file.readline(LINE_LIMIT + 1):
        rest = line
        while len(rest) > LINE_LIMIT and not rest.endswith("\n"):
            rest = file.readline(LINE_LIMIT + 1)
        yield line


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 400 else float(digits)


def _plain(text: str) -> str:
    """Without halves of characters, which JSON can spell and no file can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", type(None): "null", bool: "true or false"}.get(type(value), "a number")


CELL_LIMIT = 20_000_000
"""Cells held in memory, the empty ones of keys that a line does not have among them."""

FORMAT = TableFormat("jsonl", "JSON Lines: one object a line, in UTF-8", (".jsonl", ".ndjson"), read)
