"""Finds the reader for what was given, and divides examples into training and test parts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.data import folder, huggingface, memory, table
from regraft.data.base import TEST, TRAIN, Asked, Dataset, Example, Reader, natural, shown
from regraft.errors import DataError, UsageError
from regraft.facts import LeftOut

if TYPE_CHECKING:
    import numpy as np

READERS: dict[str, Reader] = {r.name: r for r in (memory.READER, huggingface.READER, table.READER, folder.READER)}
"""Layouts of data, in the order in which they are asked whether they fit."""


def open_data(source: Any, asked: Asked, *, test: Any = None) -> Dataset:
    """The data set that `source` means. `test`: another source whose examples are all for testing."""
    dataset = _read(source, asked)
    if test is not None:
        if dataset.part(TEST):
            dataset.said.append("the data's own test part joins the training part: --test names another one")
            dataset.examples = [replace(e, part=TRAIN) for e in dataset.examples]
        columns = {k: getattr(asked, k) or dataset.decisions.get(k) for k in ("input", "label")}
        # the other source needs no weights and no split of its own
        same = replace(asked, task=dataset.task, **columns, weight=None, split=None)
        extra = _read(test, same)
        dataset.examples += [replace(e, part=TEST) for e in extra.examples]
        dataset.left_out += extra.left_out
        if extra.part(TEST) and extra.part(TRAIN):
            dataset.said.append(f"all {len(extra.examples):,} examples of --test are for testing, those of its own training part too")
    return dataset


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; DataError where that cannot be told."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    return True


def _read(source: Any, asked: Asked) -> Dataset:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not is_there(path):
            raise DataError(f"{path} does not exist", expected="a folder, or a table such as a CSV file")
        source = path
    for reader in READERS.values():
        if reader.fits(source):
            return reader.read(source, asked)
    what = f"a {type(source).__name__} is not a data set"
    if isinstance(source, Path):
        what = f"{source} is a file that regraft does not read as a data set"
    layouts = "a folder with one sub-folder per class, a table (CSV, TSV, JSON Lines, Parquet, Excel)"
    raise DataError(what, expected=f"{layouts}, a DataFrame, a datasets.Dataset, or a list of (input, label)")


def open_inputs(sources: Sequence[Any], asked: Asked) -> Dataset:
    """Inputs without labels, for `predict` and `features`: files, folders, tables, or objects in memory."""
    task = asked.task or "image"
    examples: list[Example] = []
    left_out: list[LeftOut] = []
    faults = []
    for source in sources:
        if isinstance(source, Path) or (isinstance(source, (str, os.PathLike)) and task != "text"):
            path = Path(source)
            try:
                there = is_there(path)
            except DataError:
                there = False
            if not there:
                # named in its place with the reason, like one that cannot be decoded
                examples.append(Example(str(path), path, None, TRAIN))
            elif huggingface.fits(path):
                part = huggingface.read(path, asked)
                examples += part.examples
                left_out += part.left_out
            elif path.is_dir():
                below = [p for p in folder.files_below(path) if p.suffix.lower() in asked.extensions[task]]
                tables = table.table_files(path) if not below else {}
                if tables:
                    for file in tables.values():
                        part = table.read(file, asked)
                        examples += part.examples
                        left_out += part.left_out
                elif not below:
                    faults.append(f"{path} holds no {task} files")
                # named as they can be opened from here, so that two folders never give equal names
                examples += [Example(shown(p, Path()), p, None, TRAIN) for p in below]
            elif table.fits(path):
                part = table.read(path, asked)
                examples += part.examples
                left_out += part.left_out
            else:
                examples.append(Example(str(path), path, None, TRAIN))
        elif huggingface.fits(source):
            part = huggingface.read(source, asked)
            examples += part.examples
            left_out += part.left_out
        else:
            examples.append(Example(f"example {len(examples)}", source, None, TRAIN))
    if faults:
        raise DataError(faults[0]) if len(faults) == 1 else DataError(f"{len(faults)} inputs cannot be used", faults=faults[:20])
    return Dataset(task, examples, [], left_out, {})


def set_aside(dataset: Dataset, fraction: float, seed: int, strata: Sequence[Any] | None = None) -> None:
    """Move a stratified part of the training examples to the test part, decided by seed and names' order alone.

    `strata` name what is spread evenly, one for each example of the data set; its labels when not given. Equal contents are
    looked for later, where contents are known. With groups, whole groups are moved until the part is as near to the fraction as
    they allow; DataError when there is only one.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    if any(e.group is not None for e in dataset.examples):
        _set_groups_aside(dataset, fraction, rng)
        return
    by_stratum: dict[Any, list[int]] = {}
    for i, example in enumerate(dataset.examples):
        if example.part == TRAIN:
            by_stratum.setdefault(example.label if strata is None else strata[i], []).append(i)
    for stratum in sorted(by_stratum, key=lambda v: natural(str(v or ""))):
        members = by_stratum[stratum]
        take = round(len(members) * fraction)
        for k in rng.permutation(len(members))[: min(take, len(members) - 1)]:
            e = dataset.examples[members[k]]
            dataset.examples[members[k]] = replace(e, part=TEST)


def _set_groups_aside(dataset: Dataset, fraction: float, rng: np.random.Generator) -> None:
    sizes = Counter(e.group for e in dataset.part(TRAIN))
    if len(sizes) < 2:
        raise DataError("there is one group only, so no test part can be set aside", expected="at least two", move="leave --test away")
    ordered = sorted(sizes, key=lambda g: natural(g or ""))
    rng.shuffle(ordered)
    wanted, moved = fraction * sum(sizes.values()), 0
    chosen: set[str | None] = set()
    for group in ordered[:-1]:
        if not chosen or abs(moved + sizes[group] - wanted) < abs(moved - wanted):
            chosen.add(group)
            moved += sizes[group]
    dataset.examples = [replace(e, part=TEST) if e.part == TRAIN and e.group in chosen else e for e in dataset.examples]
    dataset.said.append(f"{len(chosen)} of {len(sizes)} groups ({moved:,} examples) are set aside for testing")


def refuse_unless_table(name: str | None, option: str, dataset: Dataset) -> None:
    """--input and --label mean nothing for a folder of class folders."""
    if name is not None and dataset.decisions.get("layout") == "folder":
        raise UsageError(f"{option} {name} names a column, and the data is a folder of class folders")


__all__ = ["READERS", "open_data", "open_inputs", "refuse_unless_table", "set_aside"]
