"""CSV and TSV: cells between commas, semicolons or tabs, quoted where they hold one."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from regraft.data.formats.base import LINE_LIMIT, Budget, Table, TableFormat, check_header, opened
from regraft.errors import DataError


def read(path: Path) -> Table:
    """The first line that is not blank is the header."""
    file = opened(path)
    delimiter = _delimiter(file.readline(), path)
    file.seek(0)
    before = csv.field_size_limit(LINE_LIMIT)
    rows: list[tuple[str, list[str]]] = []
    budget, lines = Budget(path), _Lines(file, path)
    try:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            for row in reader:
                lines.held = 0
                if any(cell.strip() for cell in row):
                    budget.take(row)
                    rows.append((f"line {reader.line_num}", row))
        except csv.Error as error:
            hint = "look for a quote that never closes near that line"
            raise DataError(f"{path}, line {reader.line_num}: {error}", move=hint) from None
    finally:
        csv.field_size_limit(before)
    if not rows:
        raise DataError(f"{path} is empty", expected="a header line and one line per example")
    header = [name.strip() for name in rows[0][1]]
    check_header(path, header)
    return Table(header, rows[1:])


class _Lines:
    """The lines of a file; DataError where one row, over however many of them, is too long. `held`: characters of this row."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path, self._number, self.held = file, path, 0, 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LINE_LIMIT + 1):
            self._number += 1
            self.held += len(line)
            if self.held > LINE_LIMIT:
                found = f"{self._path}, line {self._number}: a row has more than {LINE_LIMIT:,} characters"
                raise DataError(found, move="look for a quote that never closes before that line")
            yield line


def _delimiter(first: str, path: Path) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    counts = {d: first.count(d) for d in (",", ";", "\t")}
    best = max(counts, key=lambda d: counts[d])
    return best if counts[best] else ","


FORMAT = TableFormat("csv", "CSV or TSV with a header, in UTF-8", (".csv", ".tsv"), read)
