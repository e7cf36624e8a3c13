"""The records of tables."""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from regraft.errors import DataError
from regraft.facts import LeftOut

SIZE_LIMIT = 512 << 20
"""Bytes of a table's file, and of what a compressed one unfolds to: all its cells are held in memory."""

HELD_LIMIT = 800 << 20
"""Bytes that the cells of a table may take in memory: short ones and those with an emoji take many times what the file does."""

ROW_LIMIT = 2_000_000
"""Rows of a table; each becomes an example with a name."""

LINE_LIMIT = 16 << 20
"""Characters of one line, or of one cell; a quote that never closes runs into it."""

_ROW_BYTES = 200
_BLOCK = 1 << 20


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


class Budget:
    """Counts what the rows of one table take in memory; DataError when it is more than a table may."""

    def __init__(self, path: Path) -> None:
        self._path, self._rows, self._bytes = path, 0, 0

    def take(self, cells: Sequence[str], rows: int = 1) -> None:
        """Count so many more rows, and these cells."""
        self._rows += rows
        self._bytes += sum(map(sys.getsizeof, cells)) + _ROW_BYTES * rows
        if self._rows > ROW_LIMIT:
            raise DataError(f"{self._path} has more than {ROW_LIMIT:,} rows", move="split it, or take a sample")
        if self._bytes > HELD_LIMIT:
            found = f"{self._path} needs more than {HELD_LIMIT >> 20} MB of memory"
            raise DataError(found, move="split it, or take away columns that nobody needs")


def opened(path: Path, newline: str | None = "") -> io.TextIOWrapper:
    """The text of a file of bearable size in UTF-8, with or without a byte-order mark, or in UTF-16 with one; all of it can be decoded.

    `newline` as in Python's `open`.
    """
    check_size(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    decoder = codecs.getincrementaldecoder(encoding)()
    for start in range(0, len(content), _BLOCK):
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(content[start : start + _BLOCK], start + _BLOCK >= len(content))
        except UnicodeDecodeError as error:
            line = content[: start - waiting + error.start].count(b"\n") + 1
            raise DataError(f"{path} is not UTF-8 (line {line})", expected="text in UTF-8", move="save it as UTF-8") from None
        if "\0" in text:
            raise DataError(f"{path} holds zero bytes: it is not text", expected="text in UTF-8")
    return io.TextIOWrapper(io.BytesIO(content), encoding, newline=newline)


def check_header(path: Path, header: Sequence[str]) -> None:
    """Refuse a header that names a column twice."""
    twice = sorted(n for n, count in Counter(n.strip() for n in header).items() if count > 1 and n)
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
