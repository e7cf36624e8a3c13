"""Objects in memory: a pandas DataFrame, or a list of (input, label) with paths, PIL images, arrays, sounds or strings."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regraft.data.base import SPLITS, TEST, TRAIN, Asked, Dataset, Example, Reader, task_of_files
from regraft.data.columns import choose_columns, label_cells, label_columns, marking_columns, weight_of
from regraft.data.formats.base import cell_text
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
    for i, row in enumerate(rows):
        value, label, group = row.value, row.label, row.group
        is_path = isinstance(value, Path) or (task != "text" and isinstance(value, str))
        name = str(value) if is_path else f"example {i}"
        if asked.labelled and _is_missing(label) and asked.target != "multilabel":
            left_out.append(LeftOut(name, "the label is missing"))
        elif _is_missing(value) and not isinstance(value, str):
            left_out.append(LeftOut(name, "the input is missing"))
        elif asked.group is not None and _is_missing(group):
            left_out.append(LeftOut(name, "the group is missing"))
        elif asked.weight is not None and weight_of(str(row.weight)) is None:
            left_out.append(LeftOut(name, f"its weight {row.weight!r} is not a finite number from 0 on"))
        elif row.part is None:
            left_out.append(LeftOut(name, "the split column says neither train, val nor test"))
        else:
            own = label_text(label) if asked.labelled else None
            source = Path(value) if is_path else value
            weight = weight_of(str(row.weight)) if asked.weight is not None else None
            examples.append(Example(name, source, own, row.part, None if group is None else str(group), 1.0 if weight is None else weight))
    return Dataset(task, examples, said, left_out, {"layout": "memory"})


@dataclass(frozen=True)
class _Row:
    """One row; `part` is None where a split column says something unknown."""

    value: Any
    label: Any = None
    group: Any = None
    weight: Any = None
    part: str | None = TRAIN


def label_text(label: Any) -> str | None:
    """A label as the text of a cell: lists, tuples, sets and arrays as JSON lists, whole numbers without a point."""
    if hasattr(label, "tolist"):
        label = label.tolist()
    if isinstance(label, (set, frozenset)):
        label = sorted(label, key=str)
    if isinstance(label, (list, tuple)):
        return json.dumps([cell_text(v.item() if hasattr(v, "item") else v) for v in label], ensure_ascii=False)
    if label is None or _is_missing(label):
        return ""
    return cell_text(label).strip() if isinstance(label, (str, bool, int, float)) else str(label).strip()


def _is_missing(value: Any) -> bool:
    """None, NaN, pandas' NA, or nothing but white space."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return (isinstance(value, float) and value != value) or (isinstance(value, str) and not value.strip())


def _list_rows(source: Sequence[Any], asked: Asked) -> list[_Row]:
    for option, name in (("group", asked.group), ("split", asked.split), ("weight", asked.weight)):
        if name is not None:
            raise UsageError(f"{option}={name!r} names a column, and the data is a list", move="a pandas DataFrame, or a CSV")
    if not asked.labelled:
        return [_Row(value) for value in source]
    faults = [f"item {i} is {type(v).__name__}" for i, v in enumerate(source) if not (isinstance(v, (tuple, list)) and len(v) == 2)]
    if faults:
        raise UsageError("some items are not pairs", faults=faults[:5], move='[("photos/1.jpg", "ant"), (image, "bee")]')
    return [_Row(v[0], v[1]) for v in source]


def _frame_rows(frame: Any, asked: Asked) -> tuple[list[_Row], list[str]]:
    """The rows of a DataFrame; which column is what is found out as for a table on disk."""
    names = [str(c) for c in frame.columns]
    twice = sorted(n for n, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(f"the column {twice[0]!r} occurs more than once", move="give every column its own name")
    columns = [list(frame.iloc[:, i]) for i in range(len(names))]
    sample = [["" if _is_missing(c[k]) else str(c[k]) for c in columns] for k in range(min(2000, len(frame)))]
    if not sample:
        return [], []
    taken = (*label_columns(asked.label, names), asked.group, asked.weight, asked.split)
    plain = (str, int, float, bool, Path, list, set, frozenset)
    objects = [n for n, c in zip(names, columns, strict=True) if n not in taken and any(_is_input(v, plain) for v in c[:50])]
    given = asked if asked.input or not objects else replace(asked, input=objects[0])
    try:
        source, label, _, split, said = choose_columns(names, sample, given, "the table")
    except DataError as error:
        raise UsageError(error.found, expected=error.expected, move='input="COLUMN", label="COLUMN"') from None
    values = columns[names.index(source)]
    by_name = dict(zip(names, columns, strict=True))
    none: list[Any] = [None] * len(values)
    labels = none
    if label is not None and asked.labelled:
        several = label_columns(label, names)
        if len(several) > 1:
            cells = {n: [label_text(v) or "" for v in by_name[n]] for n in several}
            labels = label_cells(cells, marking_columns(cells) if asked.marking is None else asked.marking)
        else:
            labels = by_name[label]
    groups = by_name[asked.group] if asked.group is not None else none
    weights = by_name[asked.weight] if asked.weight is not None else none
    own = [str(v).strip().lower() for v in by_name[split]] if split else None
    parts, more = _parts(own, asked.split, len(values), usual=asked.split is None and split == asked.usual_split)
    rows = [_Row(*cells) for cells in zip(values, labels, groups, weights, parts, strict=True)]
    return rows, said + more


def _is_input(value: Any, plain: tuple[type, ...]) -> bool:
    return not isinstance(value, plain) and not _is_missing(value) and not (hasattr(value, "ndim") and value.ndim == 0)


def _parts(values: list[str] | None, asked: str | None, count: int, *, usual: bool) -> tuple[list[str | None], list[str]]:
    """The part of each row by a split column; None where it says something unknown and was asked for."""
    found = {SPLITS[v] for v in values or () if v in SPLITS}
    held = "test" if "test" in found else "val" if "val" in found else ""
    if values is None or (asked is None and not usual and (held == "" or found == {held})):
        return [TRAIN] * count, []
    if "train" not in found and not usual:
        raise DataError(
            f"no row is for training by the column {asked!r}: it says {', '.join(sorted(set(values))[:5])}",
            expected="train, val (or valid, dev) and test",
            move='split="COLUMN" for another column',
        )
    parts = [None if v not in SPLITS else TEST if SPLITS[v] == held else TRAIN for v in values]
    return parts, [f"the split column's {held} rows are the test part"] if held else []


def _task_of(rows: Sequence[_Row], asked: Asked) -> str:
    first = rows[0].value
    if isinstance(first, tuple):
        return "audio"
    if isinstance(first, (str, os.PathLike)):
        names = [os.fspath(r.value) for r in rows if isinstance(r.value, (str, os.PathLike))]
        task = task_of_files([n for n in names if len(n) < 4096], asked)
        ending = sum(os.path.splitext(n)[1].lower() in asked.extensions[task] for n in names) if task else 0
        return task if task and ending > len(names) / 2 else "text"
    return "image"


READER = Reader("memory", "a pandas DataFrame, or a list of (input, label)", fits, read)
