"""Objects in memory: a pandas DataFrame, or a list of (input, label) with paths, PIL images, arrays, sounds or strings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from regraft.data.base import TRAIN, Asked, Dataset, Example, Reader, task_of_files
from regraft.data.columns import choose_columns, is_measured
from regraft.errors import DataError, UsageError
from regraft.facts import LeftOut


def fits(source: Any) -> bool:
    """A DataFrame, or a list."""
    return _is_frame(source) or isinstance(source, list)


def _is_frame(source: Any) -> bool:
    return hasattr(source, "columns") and hasattr(source, "itertuples") and hasattr(source, "dtypes")


def read(source: Any, asked: Asked) -> Dataset:
    """A DataFrame's columns are found out as a table's are, or given by `input` and `label`."""
    if _is_frame(source):
        rows, said = _frame_rows(source, asked)
    else:
        rows, said = _list_rows(source, asked), []
    if not rows:
        raise DataError("the data holds no examples")
    task = asked.task or _task_of(rows, asked)
    examples: list[Example] = []
    left_out: list[LeftOut] = []
    for i, (value, label, group) in enumerate(rows):
        is_path = isinstance(value, Path) or (task != "text" and isinstance(value, str))
        name = str(value) if is_path else f"example {i}"
        if asked.labelled and _is_missing(label):
            left_out.append(LeftOut(name, "the label is missing"))
        elif _is_missing(value) and not isinstance(value, str):
            left_out.append(LeftOut(name, "the input is missing"))
        elif asked.group is not None and _is_missing(group):
            left_out.append(LeftOut(name, "the group is missing"))
        else:
            own = None if label is None else str(label).strip()
            examples.append(Example(name, Path(value) if is_path else value, own, TRAIN, None if group is None else str(group)))
    labels = [e.label for e in examples if e.label is not None]
    if labels and is_measured(labels):
        raise DataError(
            f"the labels are {len(set(labels)):,} different numbers", expected="classes; numbers as targets are not supported yet"
        )
    return Dataset(task, examples, said, left_out, {"layout": "memory"})


def _is_missing(value: Any) -> bool:
    """None, NaN, pandas' NA, or nothing but white space."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return (isinstance(value, float) and value != value) or (isinstance(value, str) and not value.strip())


def _list_rows(source: Sequence[Any], asked: Asked) -> list[tuple[Any, Any, Any]]:
    if asked.group is not None:
        raise UsageError(f"group={asked.group!r} names a column, and the data is a list", move="a pandas DataFrame, or a CSV")
    if not asked.labelled:
        return [(value, None, None) for value in source]
    faults = [f"item {i} is {type(v).__name__}" for i, v in enumerate(source) if not (isinstance(v, (tuple, list)) and len(v) == 2)]
    if faults:
        raise UsageError("some items are not pairs", faults=faults[:5], move='[("photos/1.jpg", "ant"), (image, "bee")]')
    return [(v[0], v[1], None) for v in source]


def _frame_rows(frame: Any, asked: Asked) -> tuple[list[tuple[Any, Any, Any]], list[str]]:
    """(input, label, group) of each row of a DataFrame; which column is what is found out as for a table on disk."""
    names = [str(c) for c in frame.columns]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"the column {twice[0]!r} occurs more than once", move="give every column its own name")
    columns = [list(frame.iloc[:, i]) for i in range(len(names))]
    sample = [["" if _is_missing(c[k]) else str(c[k]) for c in columns] for k in range(min(2000, len(frame)))]
    if not sample:
        return [], []
    objects = [n for n, c in zip(names, columns, strict=True) if any(not isinstance(v, (str, int, float, bool, Path)) for v in c[:50])]
    given = asked if asked.input or not objects else replace(asked, input=objects[0])
    try:
        source, label, _, _, said = choose_columns(names, sample, given, "the table")
    except DataError as error:
        raise UsageError(error.found, expected=error.expected, move='input="COLUMN", label="COLUMN"') from None
    values = columns[names.index(source)]
    labels = columns[names.index(label)] if label is not None and asked.labelled else [None] * len(values)
    groups = columns[names.index(asked.group)] if asked.group is not None else [None] * len(values)
    return list(zip(values, labels, groups, strict=True)), said


def _task_of(rows: Sequence[tuple[Any, Any, Any]], asked: Asked) -> str:
    first = rows[0][0]
    if isinstance(first, tuple):
        return "audio"
    if isinstance(first, (str, os.PathLike)):
        names = [os.fspath(v) for v, _, _ in rows if isinstance(v, (str, os.PathLike))]
        return task_of_files([n for n in names if len(n) < 4096], asked) or "text"
    return "image"


READER = Reader("memory", "a pandas DataFrame, or a list of (input, label)", fits, read)
