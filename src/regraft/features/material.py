"""What training reads: the windows of every example, prepared once and ready for batches in any order.

Windows of equal shapes are rows of the same arrays, which lie in files of a space: memory does not grow with the data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from regraft.errors import DataError, WriteError
from regraft.events import Done, Emit, Speed, Started, Warned, silent
from regraft.features.extract import stream
from regraft.modality import Modality, Prepared
from regraft.workspace.segments import BFLOAT16, Kept
from regraft.workspace.store import Joined, Space

FLUSH_BYTES = 64 << 20
"""Bytes computed between two writes to the space: held in memory, and lost by an interruption at most, with the seconds below."""

FLUSH_SECONDS = 10.0

Arrays = Mapping[str, np.ndarray]


class Rows(Protocol):
    """An array (n, ...), or what is read like one: `rows[numbers]` gives a copy of some."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


@dataclass
class Material:
    """Windows of examples, those of one example one after the other. Window w belongs to example `example[w]`, counts `share[w]` there
    (the shares of an example sum to one), and is row `row[w]` of `arrays[kind[w]]`.
    """

    arrays: Sequence[Mapping[str, Rows]]
    example: np.ndarray
    share: np.ndarray
    kind: np.ndarray
    row: np.ndarray

    def windows_of(self, examples: np.ndarray) -> np.ndarray:
        """The windows of some examples, in the order of the windows."""
        return np.flatnonzero(np.isin(self.example, examples))

    def windows_each(self, examples: np.ndarray) -> np.ndarray:
        """The same, in the order of the examples."""
        first, last = (np.searchsorted(self.example, examples, side) for side in ("left", "right"))
        return np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])

    def alike(self, windows: np.ndarray, most: int) -> Iterator[np.ndarray]:
        """The windows in groups of equal shapes, at most `most` each, in a fixed order."""
        kinds = self.kind[windows]
        for kind in np.unique(kinds):
            own = windows[kinds == kind]
            for i in range(0, len(own), most):
                yield own[i : i + most]

    def read(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays (windows, ...) of some windows of equal shapes; what is kept in half precision in float32."""
        (kind,) = np.unique(self.kind[windows])
        return {name: widened(array[self.row[windows]]) for name, array in self.arrays[int(kind)].items()}

    def followed_by(self, other: Material, at: np.ndarray) -> Material:
        """It and the windows of more examples, both as `gather` gives them; example i of the other is `at[i]`, beyond its own and rising.
        Windows of equal shapes stand together.
        """
        arrays: list[Mapping[str, Joined]] = [*cast("Sequence[Mapping[str, Joined]]", self.arrays)]
        places = {_looks_like(own): number for number, own in enumerate(arrays)}
        kinds, offsets = np.zeros(len(other.arrays), np.int64), np.zeros(len(other.arrays), np.int64)
        for number, own in enumerate(cast("Sequence[Mapping[str, Joined]]", other.arrays)):
            kinds[number] = place = places.setdefault(_looks_like(own), len(arrays))
            if place == len(arrays):
                arrays.append(own)
                continue
            offsets[number] = next(iter(arrays[place].values())).rows
            arrays[place] = {name: rows.followed_by(own[name]) for name, rows in arrays[place].items()}
        return Material(
            arrays,
            np.concatenate([self.example, at[other.example]]),
            np.concatenate([self.share, other.share]),
            np.concatenate([self.kind, kinds[other.kind]]),
            np.concatenate([self.row, other.row + offsets[other.kind]]),
        )


def _looks_like(arrays: Mapping[str, Joined]) -> tuple[object, ...]:
    """What windows of one kind have in common."""
    return tuple((name, rows.shape, rows.dtype.str) for name, rows in sorted(arrays.items()))


def of_rows(rows: np.ndarray, name: str = "input", examples: np.ndarray | None = None) -> Material:
    """Rows of features (n, d) as material: one window an example. `examples` are their numbers, rising, where they are not 0 to n."""
    n = len(rows)
    numbers = np.arange(n) if examples is None else examples
    return Material([{name: rows}], numbers, np.ones(n, np.float32), np.zeros(n, np.int64), np.arange(n))


@dataclass(frozen=True)
class Look:
    """What one epoch reads: example e is example `at[e]` of the material, whose example m is a view of example `owner[m]`."""

    material: Material
    at: np.ndarray
    owner: np.ndarray


Looks = Callable[[int, np.ndarray], Look]
"""(epoch, the examples that are learnt from) -> what the epoch reads; the same whenever it is asked."""


def as_they_are(material: Material) -> Looks:
    """Every epoch reads the same."""
    same = np.arange(int(material.example.max(initial=-1)) + 1)
    return lambda epoch, examples: Look(material, same, same)


def in_turn(material: Material, size: int, views: int, seed: int) -> Looks:
    """Every example shows its views one after the other, an epoch each, beginning with one by chance. View v of example e is example
    v x `size` + e of the material.
    """
    same = np.arange(size)
    first = np.random.default_rng([seed, views]).integers(views, size=size)
    owner = np.tile(same, views)
    return lambda epoch, examples: Look(material, (first + epoch) % views * size + same, owner)


Trunk = Callable[[Sequence[Arrays]], Sequence[Arrays]]
"""The frozen part over the windows of one tile, all of equal shapes: what is kept of each."""


@dataclass
class _Tiled:
    """A trunk of the cut as the pass takes it: tiles of just `tile` windows, a short one filled up with copies of its first."""

    trunk: Trunk
    tile: int
    side_by_side: bool
    precision: str

    def __call__(self, windows: Sequence[Arrays]) -> list[dict[str, np.ndarray]]:
        given = self.trunk([*windows, *[windows[0]] * (self.tile - len(windows))])
        return [{n: narrowed(a, self.precision).copy() for n, a in kept.items()} for kept in given[: len(windows)]]


@dataclass
class _AsPrepared:
    """No trunk: windows are kept as they are."""

    tile: int = 1
    side_by_side: bool = False

    def __call__(self, windows: Sequence[Arrays]) -> Sequence[Arrays]:
        return windows


def gather(
    names: Sequence[str],
    sources: Sequence[Any],
    modality: Modality,
    prepare: Callable[[Any], Prepared],
    space: Space,
    *,
    trunk: Trunk | None = None,
    tile: int = 1,
    side_by_side: bool = True,
    precision: str = "float32",
    workers: int = 2,
    emit: Emit = silent,
    stage: str = "preparing",
) -> Material:
    """The windows of all sources, in `space`: as they were prepared, or what `trunk` gives for them. What is there already is not computed;
    what was computed is kept even when the pass is interrupted, and other processes may use the space meanwhile.

    The trunk runs in tiles of just `tile` windows, on a CPU each on one core (`side_by_side`). So what it gives does not depend on
    neighbours, order or the number of workers. `precision` (float32, bfloat16, float16) is what its float32 tensors are kept in. DataError
    for a source that cannot be read: they were readable a moment ago, when their features were made. WriteError for a full disk: what was
    written before stays whole.
    """
    tiled = _AsPrepared() if trunk is None else _Tiled(trunk, tile, side_by_side, precision)
    identities = [b""] * len(sources)
    computed, speed = 0, Speed(len(sources))
    begun = last = time.perf_counter()
    emit(Started(stage, len(sources), modality.nouns))
    rows = stream(sources, modality, lambda: tiled, prepare, known=space.__contains__, whole=_windows, workers=workers)
    try:
        for done, row in enumerate(rows, 1):
            if row.reason:
                raise DataError(f"{names[row.index]} has changed during the fit: {row.reason}", move="run the same command again")
            identities[row.index] = row.identity
            if row.features is not None:
                space.keep(row.identity, row.features)
                computed += 1
                if space.pending > FLUSH_BYTES or time.perf_counter() - last > FLUSH_SECONDS:
                    space.flush()
                    last = time.perf_counter()
            emit(speed.progress(stage, done))
    except BaseException:
        rows.close()
        with suppress(WriteError):
            space.flush()
        raise
    found = space.windows(identities)
    if space.damaged:
        emit(Warned(damaged_said(space.damaged)))
    emit(Done(stage, time.perf_counter() - begun, _counted(len(found.example), computed, len(set(identities)))))
    return Material(found.tensors, found.example, found.share, found.kind, found.row)


def largest(sources: Sequence[Any], modality: Modality, prepare: Callable[[Any], Prepared], trunk: Trunk) -> float:
    """The largest absolute value that the trunk gives for some sources; 0 where none can be read."""
    found = 0.0
    for row in stream(sources, modality, lambda: _Tiled(trunk, 1, False, "float32"), prepare, whole=_windows, workers=1):
        if row.features is not None:
            arrays = [a for window in row.features.windows for a in window.values() if a.dtype == np.float32]
            found = max([found, *(float(np.abs(a).max(initial=0)) for a in arrays)])
    return found


def damaged_said(count: int) -> str:
    """What to say of files of the store whose bytes are not those that were written."""
    files = "1 damaged file" if count == 1 else f"{count} damaged files"
    return f"{files} in the feature store passed over: the features there are computed again"


def _counted(windows: int, computed: int, examples: int) -> str:
    note = f"{windows:,} windows"
    return note if computed == examples else f"{note}; {computed:,} examples computed, {examples - computed:,} already there"


def _windows(prepared: Prepared, parts: list[Arrays]) -> Kept:
    """All windows of an example, each with its share of it."""
    total = sum(prepared.weights)
    return Kept(parts, [weight / total for weight in prepared.weights])


def narrowed(array: np.ndarray, precision: str) -> np.ndarray:
    """float32 rounded to bfloat16 (its bits) or float16, to the nearest, ties to even; beyond the largest number of float16 that one.
    Other arrays, and float32 for `float32`, as they are.
    """
    if array.dtype != np.float32 or precision == "float32":
        return array
    if precision == "float16":
        largest = np.finfo(np.float16).max
        return np.clip(array, -largest, largest).astype(np.float16)
    if precision != "bfloat16":
        raise ValueError(f"{precision}: expected float32, bfloat16 or float16")
    bits = np.ascontiguousarray(array).view(np.uint32).reshape(array.shape)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype(np.uint16).view(BFLOAT16)


def widened(array: np.ndarray) -> np.ndarray:
    """What `narrowed` gave, as float32 again; other arrays as they are."""
    if array.dtype == BFLOAT16:
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array
