"""A folder with one sub-folder per class, or with train/, val/, test/ that hold such folders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regraft.data.base import (
    SPLITS,
    TEST,
    TRAIN,
    Asked,
    Dataset,
    Example,
    Reader,
    ignored,
    listed,
    natural,
    need_task,
    shown,
    task_of_files,
)
from regraft.data.formats import endings
from regraft.errors import DataError, printable
from regraft.facts import LeftOut

TABLES = endings()
"""Endings of tables beside the class folders: named, not used."""


def fits(source: Any) -> bool:
    """A folder."""
    return isinstance(source, Path) and source.is_dir()


def files_below(folder: Path) -> list[Path]:
    """All files below a folder in a fixed order, hidden ones aside; links to folders are followed, circles are not."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    # a list in place of calls inside calls: folders can lie deeper than Python calls may
    waiting = [os.fspath(folder)]
    while waiting:
        root = waiting.pop()
        try:
            # a link may lead to a folder above it: each real folder is read once
            facts = os.stat(root)
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
            with os.scandir(root) as entries:
                kinds = {e.name: _is_folder(e) for e in entries if not ignored(e.name)}
        except OSError as error:
            raise DataError(
                f"{error.filename or root} cannot be read: {error.strerror}", move="give yourself the right to read it, or move it away"
            ) from None
        ordered = sorted(kinds, key=natural)
        found += [Path(root, n) for n in ordered if not kinds[n]]
        waiting += [os.path.join(root, n) for n in reversed(ordered) if kinds[n]]
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def sub_folders(folder: Path) -> list[Path]:
    """The folders directly inside, hidden ones aside."""
    try:
        inside = [p for p in folder.iterdir() if p.is_dir() and not ignored(p.name)]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None
    return sorted(inside, key=lambda p: natural(p.name))


def split_folders(folder: Path) -> dict[str, Path]:
    """train, val and test, any of them, when every sub-folder has such a name and holds folders; else nothing."""
    inside = sub_folders(folder)
    if not inside or not all(p.name.lower() in SPLITS and sub_folders(p) for p in inside):
        return {}
    splits: dict[str, Path] = {}
    for path in inside:
        split = SPLITS[path.name.lower()]
        if split in splits:
            raise DataError(
                f"{splits[split].name}/ and {path.name}/ in {folder} are two names for one part", move="rename or merge one of them"
            )
        splits[split] = path
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}


def read(folder: Path, asked: Asked) -> Dataset:
    """Every file of the task's endings inside a class folder, however deep, is an example of that class."""
    splits = split_folders(folder)
    said: list[str] = []
    decisions: dict[str, Any] = {"layout": "folder"}
    parts: list[tuple[str, Path]]
    if splits:
        held = "test" if "test" in splits else "val" if "val" in splits else ""
        if splits.keys() == {held}:
            held = ""  # nothing but a test part: its examples are what there is
        parts = [(TEST if split == held else TRAIN, path) for split, path in splits.items()]
        decisions["splits"] = {path.name: part for part, path in parts}
        if held == "val":
            said.append(f"{splits['val'].name}/ is treated as the test part: there is no test/")
        elif "val" in splits and held:
            said.append(
                f"{splits['val'].name}/ joins the training part: choices are cross-validated; {splits['test'].name}/ is for testing only"
            )
    else:
        parts = [(TRAIN, folder)]
    files = [(part, base, path) for part, base in parts for path in files_below(base)]
    if not files:
        raise DataError(f"{folder} holds no files", expected="one sub-folder per class with files in it")
    task = asked.task or need_task(task_of_files([p.name for _, _, p in files], asked), folder)
    tables = [p.name for p in sorted(folder.glob("*")) if p.suffix.lower() in TABLES and not ignored(p.name)]
    if tables and asked.labelled and not splits and len(sub_folders(folder)) == 1:
        found = f"{folder} holds one sub-folder ({sub_folders(folder)[0].name}) and a table ({tables[0]})"
        raise DataError(
            found, expected="one sub-folder per class, or a table with paths", move=f"{folder / tables[0]} in place of the folder"
        )
    if tables and asked.labelled:
        said.append(f"{', '.join(tables)} is not used: the sub-folders are the classes. Name the table instead of the folder to use it")
        files = [f for f in files if f[2].parent != folder or f[2].suffix.lower() not in TABLES]
    examples: list[Example] = []
    left_out: list[LeftOut] = []
    classes = {base: {p.name for p in sub_folders(base)} for _, base in parts}
    for part, base, path in files:
        inside = path.relative_to(base).parts
        if path.suffix.lower() not in asked.extensions[task]:
            left_out.append(
                LeftOut(
                    shown(path, folder), f"not {'an image' if task == 'image' else 'a text' if task == 'text' else 'a sound'} by its ending"
                )
            )
        elif len(inside) < 2 or inside[0] not in classes[base]:
            if asked.labelled:
                left_out.append(LeftOut(shown(path, folder), "not inside a class folder"))
            else:
                examples.append(Example(shown(path, folder), path, None, part))
        else:
            examples.append(Example(shown(path, folder), path, _class_name(inside[0]), part))
    if not examples:
        raise DataError(
            f"{folder} holds no {task} file" + (" inside a class folder" if asked.labelled else ""),
            expected=f"one sub-folder per class with files ending {', '.join(sorted(asked.extensions[task]))}",
            faults=[f"{len(left_out):,} files are something else, such as {left_out[0].name}: {left_out[0].reason}"] if left_out else [],
            move="--task for another kind of data" if asked.task else "regraft fit FOLDER, where FOLDER holds the class folders",
        )
    if asked.labelled:
        said += _without_examples(classes, examples)
    return Dataset(task, examples, said, left_out, decisions)


def _class_name(folder: str) -> str:
    """What a class folder calls its class."""
    return printable(folder)


def _without_examples(classes: Mapping[Path, set[str]], examples: Sequence[Example]) -> list[str]:
    """A sentence for class folders that hold nothing that is used, in any part."""
    used = {e.label for e in examples}
    empty = sorted({name for names in classes.values() for name in names if _class_name(name) not in used}, key=natural)
    if not empty:
        return []
    return [f"{len(empty):,} folder{'s hold' if len(empty) > 1 else ' holds'} no example: {listed([_class_name(n) for n in empty], 5)}"]


READER = Reader("folder", "one sub-folder per class; or train/, val/, test/ with such folders", fits, read)
