"""formats: files that hold a table. One file, one record each.

In: a path.     Out: a header and rows of cells as text, each row with the place where it stands.
Never: knows which column is what, or drops a row without saying so.
"""

from __future__ import annotations

from pathlib import Path

from regraft.data.formats import csv, excel, jsonl, parquet
from regraft.data.formats.base import Table, TableFormat
from regraft.errors import DataError

FORMATS: dict[str, TableFormat] = {f.name: f for f in (csv.FORMAT, jsonl.FORMAT, parquet.FORMAT, excel.FORMAT)}

__all__ = ["FORMATS", "Table", "TableFormat", "endings", "format_of", "read_table"]


def endings() -> frozenset[str]:
    """The endings of all files that hold a table."""
    return frozenset(ending for f in FORMATS.values() for ending in f.endings)


def format_of(path: Path) -> TableFormat | None:
    """The format of a file by its ending."""
    return next((f for f in FORMATS.values() if path.suffix.lower() in f.endings), None)


def read_table(path: Path) -> Table:
    """The table in a file; DataError says what is wrong with it."""
    found = format_of(path)
    assert found is not None, path
    try:
        return found.read(path)
    except MemoryError:
        raise DataError(f"{path} is too large for the memory there is", move="split it") from None
