"""The records of tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from regraft.errors import DataError
from regraft.facts import LeftOut

SIZE_LIMIT = 512 << 20
"""Bytes of a table's file, and of what a compressed one unfolds to: all its cells are held in memory."""


@dataclass(frozen=True)
class Table:
    """A header and rows: each the place where it stands ("line 3") and its cells, as many as the header or too few or many."""

    header: list[str]
    rows: list[tuple[str, list[str]]]
    broken: list[LeftOut] = field(default_factory=list)
    """Rows that cannot be read at all."""
    said: list[str] = field(default_factory=list)
    """What the user should know of how the file was read."""


@dataclass(frozen=True)
class TableFormat:
    """A file format for tables. `read` raises DataError for a file that is none, MissingExtra where a library is missing."""

    name: str
    about: str
    endings: tuple[str, ...]
    read: Callable[[Path], Table]


def check_size(path: Path) -> None:
    """Refuse a file that is too large to hold, or cannot be looked at."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if size > SIZE_LIMIT:
        raise DataError(f"{path} has {size >> 20} MB; a table may have {SIZE_LIMIT >> 20} MB", move="split it")


def decoded(path: Path) -> str:
    """The text of a file of bearable size in UTF-8, with or without a byte-order mark, or in UTF-16 with one."""
    check_size(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8 (line {line})", expected="text in UTF-8", move="save it as UTF-8") from None
    if "\0" in text:
        raise DataError(f"{path} holds zero bytes: it is not text", expected="text in UTF-8")
    return text


def check_header(path: Path, header: Sequence[str]) -> None:
    """Refuse a header that names a column twice."""
    twice = sorted({n for n in header if header.count(n) > 1 and n})
    if twice:
        raise DataError(f"{path}: the column {twice[0]!r} occurs more than once", move="give every column its own name")


def cell_text(value: Any) -> str:
    """A plain value as a table's cell: nothing for null, whole numbers without a point, ISO dates, lists and objects as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        # a day, in programs that know no dates without a time
        return value.date().isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    return value if isinstance(value, str) else str(value) if isinstance(value, (int, float)) else json.dumps(value, ensure_ascii=False)
