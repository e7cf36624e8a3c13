"""CSV and TSV: cells between commas, semicolons or tabs, quoted where they hold one."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from regraft.data.formats.base import Table, TableFormat, check_header, decoded
from regraft.errors import DataError

FIELD_LIMIT = 16 << 20
"""Characters of one cell; a quote that never closes runs into it."""


def read(path: Path) -> Table:
    """The first line that is not blank is the header."""
    text = decoded(path)
    before = csv.field_size_limit(FIELD_LIMIT)
    rows: list[tuple[str, list[str]]] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, path), strict=True)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
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


def _delimiter(text: str, path: Path) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = text.split("\n", 1)[0]
    counts = {d: first.count(d) for d in (",", ";", "\t")}
    best = max(counts, key=lambda d: counts[d])
    return best if counts[best] else ","


FORMAT = TableFormat("csv", "CSV or TSV with a header, in UTF-8", (".csv", ".tsv"), read)
