"""Parquet, through pyarrow: columns of strings, numbers and truth values, and of lists of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from regraft.data.formats.base import ROW_LIMIT, SIZE_LIMIT, Budget, Table, TableFormat, cell_text, check_header, check_size
from regraft.errors import DataError, MissingExtra

CELL_LIMIT = 10_000_000
"""Cells of all columns that are read; the file holds equal ones as a count."""

VALUE_LIMIT = 20_000_000
"""Values in all lists of one column: the file holds equal ones as a count, memory one by one."""


def read(path: Path) -> Table:
    """Every column of plain values, and of lists of them as JSON text; others (objects, binary) are not read.

    What it unfolds to is looked at before it is read. Raises DataError, MissingExtra without pyarrow.
    """
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
        plain = [field.name for field in schema if _is_plain(pyarrow, field.type) or _is_list(pyarrow, field.type)]
        check_header(path, plain)
        if facts.num_rows * len(plain) > CELL_LIMIT:
            found = f"{path} has {facts.num_rows * len(plain):,} cells in {len(plain):,} columns"
            raise DataError(found, expected=f"at most {CELL_LIMIT:,}", move="take away columns that nobody needs, or split it")
        _check_lists(path, facts, [field.name for field in schema if _is_list(pyarrow, field.type)])
        # a page may hold one long string and a million references to it: kept as references, it stays one string
        leaves = [facts.schema.column(i) for i in range(facts.num_columns)]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and _column_of(leaf.path, plain)]
        read = pyarrow.parquet.ParquetFile(path, read_dictionary=texts).read(columns=plain) if plain else None
        budget = Budget(path)
        values = [_cells(path, pyarrow, read.column(name), budget) for name in plain] if read is not None else []
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{path} is not a Parquet file that can be read ({text})") from None
    if not values:
        raise DataError(f"{path} has no column of plain values", expected="strings or numbers", move="--input and --label name columns")
    rows = [(f"row {i + 1}", list(cells)) for i, cells in enumerate(zip(*values, strict=True))]
    return Table([name.strip() for name in plain], rows)


def _cells(path: Path, pyarrow: Any, column: Any, budget: Budget) -> list[str]:
    """The values of a column as text; equal values of a dictionary are one object."""
    cells: list[str] = []
    written = 0
    for chunk in column.chunks:
        if _is_list(pyarrow, chunk.type):
            texts: dict[tuple[Any, ...] | None, str] = {}
            inner, items = _items(pyarrow, chunk)
            for row in items:
                if row not in texts:
                    values = [None if i is None else inner[i] for i in row or ()] if inner else list(row or ())
                    texts[row] = "" if row is None else cell_text(values)
                    written += len(texts[row])
                    if written > SIZE_LIMIT:
                        raise DataError(f"{path} unfolds to more than {SIZE_LIMIT >> 20} MB of lists", move="split it")
                cells.append(texts[row])
        elif hasattr(chunk, "dictionary"):
            known = [cell_text(v) for v in chunk.dictionary.to_pylist()]
            budget.take(known, rows=0)
            cells += ["" if i is None else known[i] for i in chunk.indices.to_pylist()]
        else:
            cells += [cell_text(v) for v in chunk.to_pylist()]
    return cells


def _items(pyarrow: Any, chunk: Any) -> tuple[list[Any], Iterator[tuple[Any, ...] | None]]:
    """The dictionary of a chunk of lists (empty without one), and the items of each list: values, or places in the dictionary."""
    inner: list[Any] = []
    if pyarrow.types.is_dictionary(chunk.type.value_type):
        inner = chunk.values.dictionary.to_pylist()
        whole = pyarrow.list_(chunk.values.indices.type)
        if pyarrow.types.is_fixed_size_list(chunk.type):
            chunk = chunk.cast(pyarrow.list_(chunk.type.value_type))
        elif pyarrow.types.is_large_list(chunk.type):
            whole = pyarrow.large_list(chunk.values.indices.type)
        # the same lists, of places in place of values
        chunk = type(chunk).from_arrays(chunk.offsets, chunk.values.indices, type=whole, mask=chunk.is_null() if chunk.null_count else None)
    return inner, (None if row is None else tuple(row) for row in _by_blocks(chunk))


def _by_blocks(chunk: Any) -> Iterator[list[Any] | None]:
    for start in range(0, len(chunk), 10_000):
        yield from chunk.slice(start, 10_000).to_pylist()


def _check_lists(path: Path, facts: Any, lists: Sequence[str]) -> None:
    """Refuse lists of more values than memory should hold; a row's list may be of any length."""
    for k in range(facts.num_columns):
        if _column_of(facts.schema.column(k).path, lists):
            count = sum(facts.row_group(i).column(k).num_values for i in range(facts.num_row_groups))
            if count > VALUE_LIMIT:
                found = f"{path} unfolds to {count:,} values in lists"
                raise DataError(found, expected=f"at most {VALUE_LIMIT:,} in a column", move="split it")


def _column_of(leaf: str, names: Sequence[str]) -> bool:
    """Whether a stored column belongs to one of `names`: it is one, or lies inside one (`tags.list.element`)."""
    return any(leaf == name or leaf.startswith(f"{name}.") for name in names)


def _is_list(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return listed and _is_plain(pyarrow, kind.value_type)


def _is_plain(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(check(kind) for check in (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean))


FORMAT = TableFormat("parquet", "Parquet, through pyarrow (the extra regraft[parquet])", (".parquet",), read)
