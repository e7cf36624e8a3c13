"""Which column is what: found out from names and values, or given."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from regraft.data.base import SPLITS, Asked, listed, task_of_files
from regraft.errors import DataError, UsageError, nearest

LABEL_NAMES = (
    *("label", "labels", "class", "category", "target", "y", "intent", "sentiment", "tag", "tags", "type", "genre", "genres", "species"),
    *("topic", "topics", "score", "rating", "value"),
)
TEXT_NAMES = ("text", "sentence", "review", "content", "message", "question", "document", "utterance", "body", "title")
PATH_NAMES = ("path", "file", "filename", "file_name", "filepath", "image", "audio", "wav", "img", "image_path", "audio_path")
SPLIT_NAMES = ("split", "part", "subset", "fold_name")


def choose_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], asked: Asked, where: str
) -> tuple[str, str | None, str, str | None, list[str]]:
    """(input column, label column, task, split column, said). Looks at up to 2,000 rows."""
    faults = []
    options = [("--input", asked.input), ("--group", asked.group), ("--split", asked.split), ("--weight", asked.weight)]
    options += [("--label", name) for name in label_columns(asked.label, header)]
    for option, name in options:
        if name is not None and name not in header:
            faults.append(f"{option} {name}: {where} has the columns {listed(header)}. {nearest(name, header)}".rstrip())
    if faults:
        raise UsageError(faults[0]) if len(faults) == 1 else UsageError("columns that do not exist", faults=faults)
    sample = rows[:2000]
    values = {name: [row[i].strip() for row in sample if i < len(row) and row[i].strip()] for i, name in enumerate(header)}
    lower = {name: name.lower() for name in header}
    usual = asked.usual_split if asked.usual_split in header else None
    split = asked.split or usual or next((n for n in header if lower[n] in SPLIT_NAMES and _are_splits(values[n])), None)
    odd = next((n for n in header if split is None and lower[n] in SPLIT_NAMES and _some_are_splits(values[n])), None)
    taken = (*label_columns(asked.label, header), asked.group, asked.weight, split)
    free = [n for n in header if values[n] and n not in taken]
    paths = {n: t for n in free if (t := _paths_task(values[n], asked))}
    if asked.task == "text":
        paths = {}
    source = asked.input or _first_named(free, lower, PATH_NAMES, set(paths)) or next(iter(paths), None)
    if source is None and asked.task in (None, "text"):
        source = _first_named(free, lower, TEXT_NAMES, set(free)) or max(
            (n for n in free if n != _label(header, values, lower, asked, None, split) and not _all_numbers(values[n])),
            key=lambda n: _mean_length(values[n]),
            default=None,
        )
    if source is None:
        raise DataError(
            f"{where} has no column of {'paths' if asked.task else 'texts or paths'}",
            expected=f"one of its columns ({listed(header)}) to hold them, paths relative to the table",
            move="--input COLUMN",
        )
    task = asked.task or paths.get(source) or "text"
    label = _label(header, values, lower, asked, source, split)
    if label is None and asked.labelled:
        raise DataError(
            f"{where} has no column that looks like labels",
            expected=f"one of {listed([n for n in header if n != source])}",
            move="--label COLUMN",
        )
    notes = []
    if odd is not None and asked.labelled:
        strange = next(v for v in values[odd] if v.lower() not in SPLITS)
        notes.append(f"the column {odd} is not used as a split: it says {strange[:40]!r}; --split {odd} leaves such rows out")
    said = [f"input column: {source} ({'texts' if task == 'text' else f'paths of {task} files'})"]
    if label is not None and asked.labelled:
        taken = (source, *label_columns(label, header), split, asked.group, asked.weight)
        others = [n for n in header if n not in taken and values[n]]
        said.append(f"label column: {label}" + (f" (not used: {listed(others)})" if others else ""))
    if asked.group is not None:
        said.append(f"group column: {asked.group}; examples of one group are always on one side")
    if asked.weight is not None:
        said.append(f"weight column: {asked.weight}; it counts in training, the figures count every example once")
    return source, label, task, split, said + notes


def _are_splits(values: Sequence[str]) -> bool:
    return bool(values) and all(v.lower() in SPLITS for v in set(values))


def _some_are_splits(values: Sequence[str]) -> bool:
    means = {SPLITS[v.lower()] for v in values if v.lower() in SPLITS}
    return "train" in means and len(means) > 1


def _all_numbers(values: Sequence[str]) -> bool:
    try:
        return all(float(v) is not None for v in values)
    except ValueError:
        return False


def _mean_length(values: Sequence[str]) -> float:
    return sum(map(len, values)) / max(1, len(values))


def _first_named(names: Sequence[str], lower: dict[str, str], known: Sequence[str], allowed: set[str]) -> str | None:
    by_name = {lower[n]: n for n in reversed(names) if n in allowed}
    return next((by_name[k] for k in known if k in by_name), None)


def _paths_task(values: Sequence[str], asked: Asked) -> str | None:
    """The task of a column when most of its values end like files of one task."""
    task = task_of_files(values, asked)
    if task is None:
        return None
    ending = sum(os.path.splitext(v)[1].lower() in asked.extensions[task] for v in values)
    return task if ending > len(values) / 2 else None


def _label(
    header: Sequence[str], values: dict[str, list[str]], lower: dict[str, str], asked: Asked, source: str | None, split: str | None
) -> str | None:
    if asked.label is not None:
        return asked.label
    free = [n for n in header if n not in (source, split, asked.group, asked.weight) and values[n]]
    if asked.target == "number":
        free = [n for n in free if _all_numbers(values[n])] or free
    if named := _first_named(free, lower, LABEL_NAMES, set(free)):
        return named
    few = {n: len(set(values[n])) for n in free}
    able = [n for n in free if 2 <= few[n] <= max(2, len(values[n]) // 2)]
    return able[0] if able else (free[0] if len(free) == 1 and source is not None else None)


def label_columns(label: str | None, header: Sequence[str]) -> list[str]:
    """The columns that --label names: one, or several parted by commas where no column has the whole name."""
    if label is None or label in header or "," not in label:
        return [label] if label is not None else []
    return [name.strip() for name in label.split(",")]


_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no", "")


def marking_columns(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Those of several label columns that say nothing but yes and no (1 and 0, true and false)."""
    return [name for name, values in columns.items() if all(v.lower() in (*_TRUE, *_FALSE) for v in set(values))]


def label_cells(columns: Mapping[str, Sequence[str]], marking: Sequence[str]) -> list[str]:
    """One label cell a row from several label columns: a JSON list.

    A column in `marking` gives its own name where it says yes; another one gives name=value.
    """
    found: list[list[str]] = [[] for _ in next(iter(columns.values()))]
    for name, values in columns.items():
        marks = name in marking
        for row, value in zip(found, values, strict=True):
            if marks and value.lower() in _TRUE:
                row.append(name)
            elif not marks and value:
                row.append(f"{name}={value}")
    return [json.dumps(row, ensure_ascii=False) for row in found]


def weight_of(cell: str) -> float | None:
    """The weight in a cell: a finite number from 0 on, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None
