"""A folder with one sub-folder per class, or with train/, val/, test/ that hold such folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from regraft.data.base import SPLITS, TEST, TRAIN, Asked, Dataset, Example, Reader, ignored, natural, need_task, shown, task_of_files
from regraft.data.formats import endings
from regraft.errors import DataError
from regraft.facts import LeftOut

TABLES = endings()
"""Endings of tables beside the class folders: named, not used."""


def fits(source: Any) -> bool:
    """A folder."""
    return isinstance(source, Path) and source.is_dir()


def files_below(folder: Path) -> list[Path]:
    """All files below a folder in a fixed order, hidden ones aside; links to folders are followed, circles are not."""
    found: list[Path] = []
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}", move="give yourself the right to read it, or move it away")

    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        # a link may lead to a folder above it: each real folder is read once
        real = os.path.realpath(root)
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted((d for d in folders if not ignored(d)), key=natural)
        found += [Path(root, n) for n in sorted(names, key=natural) if not ignored(n)]
    return found


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
            examples.append(
                Example(shown(path, folder), path, inside[0] if inside[0].isprintable() else shown(Path(inside[0]), base), part)
            )
    if not examples:
        raise DataError(
            f"{folder} holds no {task} file" + (" inside a class folder" if asked.labelled else ""),
            expected=f"one sub-folder per class with files ending {', '.join(sorted(asked.extensions[task]))}",
            faults=[f"{len(left_out):,} files are something else, such as {left_out[0].name}: {left_out[0].reason}"] if left_out else [],
            move="--task for another kind of data" if asked.task else "regraft fit FOLDER, where FOLDER holds the class folders",
        )
    return Dataset(task, examples, said, left_out, decisions)


READER = Reader("folder", "one sub-folder per class; or train/, val/, test/ with such folders", fits, read)
