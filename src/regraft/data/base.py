"""The records of this room, and what every reader needs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regraft.errors import DataError, printable
from regraft.facts import LeftOut

TRAIN, TEST = "train", "test"

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Names of split folders, files and values -> which split they mean."""

IGNORED = frozenset({"thumbs.db", "desktop.ini", "__macosx", "icon\r"})


@dataclass(frozen=True, slots=True)
class Example:
    """One example. `name` is what a person calls it; `source` is what its modality loads; `label` None when unknown."""

    name: str
    source: Any
    label: str | None
    part: str = TRAIN
    group: str | None = None
    """Examples of one group (a patient, a speaker) stay on one side of every split and fold."""
    weight: float = 1.0
    """How much it counts in training."""

    def __post_init__(self) -> None:
        """A name can be shown on a screen as it is; file names and cells may hold anything."""
        if not self.name.isprintable():
            object.__setattr__(self, "name", printable(self.name))


@dataclass
class Dataset:
    """Examples of one task, with what was found out on the way (`said`) and what cannot be used (`left_out`)."""

    task: str
    examples: list[Example]
    said: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    decisions: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> list[Example]:
        """The examples of one part."""
        return [e for e in self.examples if e.part == name]


@dataclass(frozen=True)
class Asked:
    """What the user said about the data; None where it is to be found out."""

    task: str | None = None
    input: str | None = None
    label: str | None = None
    extensions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Task -> endings of its files."""
    labelled: bool = True
    """Whether labels are needed (fit, evaluate) or not (predict, features)."""
    group: str | None = None
    """The column that names groups."""
    target: str | None = None
    """The kind of target, where it was asked for."""
    split: str | None = None
    """The column that says which part a row belongs to."""
    usual_split: str | None = None
    """A column that means the same where it is there."""
    marking: tuple[str, ...] | None = None
    """Of several label columns those that say yes and no, where that is known already."""
    weight: str | None = None
    """The column that says how much a row counts in training."""
    allow_outside: bool = False
    """Whether relative paths may leave the table's folder."""


@dataclass(frozen=True)
class Reader:
    """A layout of data. `fits(source)` is cheap; `read(source, asked)` gives the Dataset or raises DataError."""

    name: str
    about: str
    fits: Callable[[Any], bool]
    read: Callable[[Any, Asked], Dataset]


def ignored(name: str) -> bool:
    """Hidden files and what file managers leave behind."""
    return name.startswith(".") or name.lower() in IGNORED


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key by which 10 comes after 9."""
    return [(0, int(p), "") if p.isdigit() and p.isascii() and len(p) < 100 else (1, 0, p) for p in re.split(r"(\d+)", text) if p]


def task_of_files(names: Sequence[str], asked: Asked) -> str | None:
    """The task whose files are the most among `names`, or None."""
    counts = {task: 0 for task in asked.extensions}
    for name in names:
        ending = os.path.splitext(name)[1].lower()
        for task, endings in asked.extensions.items():
            counts[task] += ending in endings
    best = max(counts, key=lambda t: counts[t], default=None)
    return best if best is not None and counts[best] else None


def shown(path: Path, base: Path) -> str:
    """A path as messages show it: below `base`, with forward slashes, and printable."""
    try:
        text = path.relative_to(base).as_posix()
    except ValueError:
        text = str(path)
    return printable(text)


def listed(names: Sequence[str], limit: int = 20) -> str:
    """Names in a sentence; of many the first ones."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def start_of(text: str) -> str:
    """The first words of a text, on one line."""
    line = " ".join(text[:200].split())
    return line if len(line) <= 60 else line[:57] + "..."


def need_task(found: str | None, where: Path) -> str:
    """The task, or an error that says what endings are known."""
    if found is None:
        raise DataError(
            f"{where} holds no images, texts or sounds",
            expected="files such as .jpg, .png, .txt or .wav, or a CSV with a column of texts or paths",
            move="--task image|text|audio if the files have unusual endings",
        )
    return found
