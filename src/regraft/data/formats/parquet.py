"""Parquet, through pyarrow: columns of strings, numbers and truth values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regraft.data.formats.base import SIZE_LIMIT, Table, TableFormat, cell_text, check_header, check_size
from regraft.errors import DataError, MissingExtra

ROW_LIMIT = 5_000_000
"""Rows of a Parquet file; so many cells of a few columns stay in memory."""


def read(path: Path) -> Table:
    """Every column of plain values; others (nested, binary) are not read. What it unfolds to is looked at before it is read."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("reading Parquet needs pyarrow", move="pip install 'regraft[parquet]'") from None
    check_size(path)
    try:
        facts = pyarrow.parquet.read_metadata(path)
        unfolded = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
        if unfolded > SIZE_LIMIT or facts.num_rows > ROW_LIMIT:
            found = f"{path} unfolds to {unfolded >> 20:,} MB in {facts.num_rows:,} rows"
            raise DataError(found, expected=f"at most {SIZE_LIMIT >> 20} MB and {ROW_LIMIT:,} rows", move="split it")
        schema = facts.schema.to_arrow_schema()
        plain = [field.name for field in schema if _is_plain(pyarrow, field.type)]
        check_header(path, plain)
        texts = [field.name for field in schema if field.name in plain and _is_text(pyarrow, field.type)]
        # a page may hold one long string and a million references to it: kept as references, it stays one string
        read = pyarrow.parquet.ParquetFile(path, read_dictionary=texts).read(columns=plain) if plain else None
        values = [_cells(read.column(name)) for name in plain] if read is not None else []
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{path} is not a Parquet file that can be read ({text})") from None
    if not values:
        raise DataError(f"{path} has no column of plain values", expected="strings or numbers", move="--input and --label name columns")
    rows = [(f"row {i + 1}", list(cells)) for i, cells in enumerate(zip(*values, strict=True))]
    return Table([name.strip() for name in plain], rows)


def _cells(column: Any) -> list[str]:
    """The values of a column as text; equal values of a dictionary are one object."""
    cells: list[str] = []
    for chunk in column.chunks:
        if hasattr(chunk, "dictionary"):
            known = [cell_text(v) for v in chunk.dictionary.to_pylist()]
            cells += ["" if i is None else known[i] for i in chunk.indices.to_pylist()]
        else:
            cells += [cell_text(v) for v in chunk.to_pylist()]
    return cells


def _is_text(pyarrow: Any, kind: Any) -> bool:
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def _is_plain(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(check(kind) for check in (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean))


FORMAT = TableFormat("parquet", "Parquet, through pyarrow (the extra regraft[parquet])", (".parquet",), read)
