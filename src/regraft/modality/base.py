"""The record that every modality fills in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import Unreadable

if TYPE_CHECKING:
    from torch import Tensor

FILE_LIMIT = 512 << 20
"""Bytes; a larger image or text file is left out unread."""


@dataclass(frozen=True)
class Prepared:
    """One example as the network takes it: one or more windows, each a dict of arrays.

    Windows whose arrays have equal shapes go through the network together. The example's features are the mean of its
    windows' features, weighted by `weights`. `note` counts something worth saying ("cut to 256 tokens").
    """

    windows: Sequence[Mapping[str, np.ndarray]]
    weights: Sequence[float] = (1.0,)
    note: str = ""


@dataclass(frozen=True)
class Loaded:
    """An example's identity (16 bytes, from its content) and the way to decode it, which may raise Unreadable."""

    identity: bytes
    decode: Callable[[], Any]


@dataclass(frozen=True)
class Sketch:
    """What an example looks like, in little. `kind` says what `content` is: "jpeg" (bytes of a small picture), "text", or "levels"
    (loudness over time, an array (n,) from 0 to 1).
    """

    kind: str
    content: Any


@dataclass(frozen=True)
class Modality:
    """What one kind of input needs. Every function is pure but for reading the file it is given.

    load(source)                        a Path, str, Stored or object -> Loaded
    preparer(preprocessing, files)      -> a function from what `decode` gives to Prepared
    collate(windows, preprocessing)     equal-shaped windows -> the network's keyword arguments, as tensors
    blank(preprocessing)                -> a window of nothing, of a usual shape
    made_up()                           -> sources of several sizes for `load` that mean nothing: for checks where there is no data
    in_words(preprocessing, files)      -> what the preparer does, step by step, for people who do it elsewhere; `files` by their names
    measure(decoded)                    -> sizes worth knowing, name (with its unit) -> number
    summary(decoded)                    -> a row (d,) float32 for the model without a network, or the text itself
    learn_vectoriser(summaries)         the training summaries -> what `vectorise` needs, as plain data
    vectorise(learnt, summaries)        -> a matrix (n, d) float32
    likeness(decoded, other)            how far two examples show the same, from 0 to 1: from 0.95 on the same but for how it was stored,
                                        from 0.9 on the same with small changes
    sketch(decoded)                     -> what it looks like, for a report
    """

    name: str
    noun: str
    nouns: str
    extensions: frozenset[str]
    without_network: str
    chunk: int
    """How many examples one worker takes at a time."""
    settings: tuple[str, ...]
    """The keys that `preprocessing` must have."""
    load: Callable[[Any], Loaded]
    preparer: Callable[[Mapping[str, Any], Mapping[str, Path]], Callable[[Any], Prepared]]
    collate: Callable[[Sequence[Mapping[str, np.ndarray]], Mapping[str, Any]], dict[str, Tensor]]
    blank: Callable[[Mapping[str, Any]], Mapping[str, np.ndarray]]
    made_up: Callable[[], Sequence[Any]]
    in_words: Callable[[Mapping[str, Any], Mapping[str, str]], list[str]]
    measure: Callable[[Any], dict[str, float]]
    summary: Callable[[Any], Any]
    summary_version: str
    """Changes when `summary` gives other rows; empty when summaries are not kept in the store."""
    learn_vectoriser: Callable[[Sequence[Any]], dict[str, Any]]
    vectorise: Callable[[Mapping[str, Any], Sequence[Any]], np.ndarray]
    likeness: Callable[[Any, Any], float]
    sketch: Callable[[Any], Sketch]
    pad: Callable[[Sequence[Mapping[str, np.ndarray]], Mapping[str, Any]], list[Mapping[str, np.ndarray]]] | None = None
    """Windows of several lengths brought to the longest, by what a network does not look at; None where that cannot be."""


@dataclass(frozen=True)
class Stored:
    """A file's content that lies inside another one, such as a row of a data set; treated as the same bytes in a file are.

    `read` gives the bytes or raises Unreadable; it is called when they are needed, possibly from several threads at once.
    `where` tells one from another, in messages and in comparisons.
    """

    where: str
    read: Callable[[], bytes] = field(compare=False, repr=False)


def read_file(path: Path) -> bytes:
    """The bytes of a file of bearable size; Unreadable says what is wrong."""
    try:
        if not path.is_file():
            raise Unreadable("there is no such file" if not path.exists() else "not a plain file")
        check_length(path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror or error}") from None


def read_stored(source: Stored) -> bytes:
    """The bytes of stored content of bearable size; Unreadable says what is wrong."""
    content = source.read()
    check_length(len(content))
    return content


def check_length(size: int) -> None:
    """Unreadable for a file that is empty or has more than FILE_LIMIT bytes."""
    if size == 0:
        raise Unreadable("the file is empty (0 bytes)")
    if size > FILE_LIMIT:
        raise Unreadable(f"the file has {size >> 20} MB, more than the {FILE_LIMIT >> 20} MB that one may have")


def nothing_to_learn(summaries: Sequence[Any]) -> dict[str, Any]:
    """`learn_vectoriser` for modalities whose summaries are rows already."""
    return {}


def stack_rows(learnt: Mapping[str, Any], summaries: Sequence[Any]) -> np.ndarray:
    """`vectorise` for modalities whose summaries are rows already."""
    return np.stack(list(summaries)).astype(np.float32, copy=False)


def source_kind(source: Any) -> str:
    """What an object is called in messages."""
    return f"{type(source).__module__}.{type(source).__qualname__}"
