"""Which column is what: found out from names and values, or given."""

from __future__ import annotations

import os
from collections.abc import Sequence

from regraft.data.base import SPLITS, Asked, task_of_files
from regraft.errors import DataError, UsageError, nearest

LABEL_NAMES = ("label", "labels", "class", "category", "target", "y", "intent", "sentiment", "tag", "type", "genre", "species", "topic")
TEXT_NAMES = ("text", "sentence", "review", "content", "message", "question", "document", "utterance", "title", "body")
PATH_NAMES = ("path", "file", "filename", "file_name", "filepath", "image", "audio", "wav", "img", "image_path", "audio_path")
SPLIT_NAMES = ("split", "part", "subset", "fold_name")


def choose_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], asked: Asked, where: str
) -> tuple[str, str | None, str, str | None, list[str]]:
    """(input column, label column, task, split column, said). Looks at up to 2,000 rows."""
    faults = []
    for option, name in (("--input", asked.input), ("--label", asked.label), ("--group", asked.group)):
        if name is not None and name not in header:
            faults.append(f"{option} {name}: {where} has the columns {', '.join(header)}. {nearest(name, header)}".rstrip())
    if faults:
        raise UsageError(faults[0]) if len(faults) == 1 else UsageError("columns that do not exist", faults=faults)
    sample = rows[:2000]
    values = {name: [row[i].strip() for row in sample if i < len(row) and row[i].strip()] for i, name in enumerate(header)}
    lower = {name: name.lower() for name in header}
    split = next((n for n in header if lower[n] in SPLIT_NAMES and values[n] and all(v.lower() in SPLITS for v in set(values[n]))), None)
    free = [n for n in header if values[n] and n not in (asked.label, asked.group, split)]
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
            expected=f"one of its columns ({', '.join(header)}) to hold them, paths relative to the table",
            move="--input COLUMN",
        )
    task = asked.task or paths.get(source) or "text"
    label = _label(header, values, lower, asked, source, split)
    if label is None and asked.labelled:
        raise DataError(
            f"{where} has no column that looks like labels",
            expected=f"one of {', '.join(n for n in header if n != source)}",
            move="--label COLUMN",
        )
    said = [f"input column: {source} ({'texts' if task == 'text' else f'paths of {task} files'})"]
    if label is not None and asked.labelled:
        others = [n for n in header if n not in (source, label, split, asked.group) and values[n]]
        said.append(f"label column: {label}" + (f" (not used: {', '.join(others)})" if others else ""))
    if asked.group is not None:
        said.append(f"group column: {asked.group}; examples of one group are always on one side")
    return source, label, task, split, said


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
    free = [n for n in header if n not in (source, split, asked.group) and values[n]]
    if named := _first_named(free, lower, LABEL_NAMES, set(free)):
        return named
    few = {n: len(set(values[n])) for n in free}
    able = [n for n in free if 2 <= few[n] <= max(2, len(values[n]) // 2)]
    return able[0] if able else (free[0] if len(free) == 1 and source is not None else None)


def is_measured(labels: Sequence[str]) -> bool:
    """Whether labels are numbers of a measurement rather than classes: fractions, or very many distinct whole numbers."""
    distinct = set(labels)
    try:
        numbers = [float(v) for v in distinct]
    except ValueError:
        return False
    whole = all(n == n and abs(n) != float("inf") and n == int(n) for n in numbers)
    return len(distinct) > 20 and (not whole or len(distinct) > max(100, len(labels) // 10))
