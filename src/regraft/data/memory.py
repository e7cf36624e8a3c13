"""Objects in memory: a pandas DataFrame, or a list of (input, label) with paths, PIL images, arrays, sounds or strings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regraft.data.base import TRAIN, Asked, Dataset, Example, Reader, task_of_files
from regraft.errors import DataError, UsageError, nearest


def fits(source: Any) -> bool:
    """A DataFrame, or a list or tuple."""
    return _is_frame(source) or isinstance(source, (list, tuple))


def _is_frame(source: Any) -> bool:
    return hasattr(source, "columns") and hasattr(source, "itertuples") and hasattr(source, "dtypes")


def read(source: Any, asked: Asked) -> Dataset:
    """A DataFrame's columns are found out as a table's are, or given by `input` and `label`."""
    if _is_frame(source):
        pairs, said = _frame_pairs(source, asked)
    else:
        pairs, said = _list_pairs(source, asked), []
    if not pairs:
        raise DataError("the data holds no examples")
    task = asked.task or _task_of(pairs, asked)
    examples = []
    for i, (value, label) in enumerate(pairs):
        is_path = isinstance(value, Path) or (task != "text" and isinstance(value, str))
        name = str(value) if is_path else f"example {i}"
        examples.append(Example(name, Path(value) if is_path else value, None if label is None else str(label), TRAIN))
    return Dataset(task, examples, said, [], {"layout": "memory"})


def _list_pairs(source: Sequence[Any], asked: Asked) -> list[tuple[Any, Any]]:
    if not asked.labelled:
        return [(value, None) for value in source]
    faults = [f"item {i} is {type(v).__name__}" for i, v in enumerate(source) if not (isinstance(v, (tuple, list)) and len(v) == 2)]
    if faults:
        raise UsageError("some items are not pairs", faults=faults[:5], move='[("photos/1.jpg", "ant"), (image, "bee")]')
    return [(v[0], v[1]) for v in source]


def _frame_pairs(frame: Any, asked: Asked) -> tuple[list[tuple[Any, Any]], list[str]]:
    names = [str(c) for c in frame.columns]
    for option, name in (("input", asked.input), ("label", asked.label)):
        if name is not None and name not in names:
            raise UsageError(f"{option}={name!r}: the table has the columns {', '.join(names)}. {nearest(name, names)}".rstrip())
    label = asked.label or next((n for n in names if n.lower() in ("label", "class", "target", "category", "y")), None)
    source = asked.input or next(
        (n for n in names if n != label and n.lower() in ("text", "path", "file", "image", "audio", "sentence")), None
    )
    if source is None:
        left = [n for n in names if n != label]
        source = left[0] if len(left) == 1 else None
    if source is None or (label is None and asked.labelled):
        raise UsageError(f"cannot tell which of the columns {', '.join(names)} is which", move='input="text", label="class"')
    values = list(frame[source])
    labels = list(frame[label]) if label is not None and asked.labelled else [None] * len(values)
    return list(zip(values, labels, strict=True)), [f"input column: {source}", *([f"label column: {label}"] if label is not None else [])]


def _task_of(pairs: Sequence[tuple[Any, Any]], asked: Asked) -> str:
    first = pairs[0][0]
    if isinstance(first, tuple):
        return "audio"
    if isinstance(first, (str, os.PathLike)):
        return task_of_files([os.fspath(v) for v, _ in pairs if isinstance(v, (str, os.PathLike)) and len(str(v)) < 4096], asked) or "text"
    return "image"


READER = Reader("memory", "a pandas DataFrame, or a list of (input, label)", fits, read)
