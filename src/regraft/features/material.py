"""What training reads: the windows of every example, prepared once and ready for batches in any order.

Windows of equal shapes are rows of the same arrays, which lie in files: memory does not grow with the data.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from regraft.errors import DataError, Unreadable
from regraft.events import Done, Emit, Progress, Started, silent
from regraft.features.threads import chunks, computing_crew, in_order
from regraft.modality import Modality, Prepared

AHEAD = 8
"""Chunks of examples read ahead per worker."""

Arrays = Mapping[str, np.ndarray]


@dataclass
class Material:
    """Windows of examples, those of one example one after the other. Window w belongs to example `example[w]`, counts `share[w]` there
    (the shares of an example sum to one), and is row `row[w]` of `arrays[kind[w]]`.
    """

    arrays: list[dict[str, np.ndarray]]
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
        """The arrays (windows, ...) of some windows of equal shapes."""
        (kind,) = np.unique(self.kind[windows])
        return {name: array[self.row[windows]] for name, array in self.arrays[int(kind)].items()}


def of_rows(rows: np.ndarray, name: str = "input") -> Material:
    """Rows of features (n, d) as material: one window an example."""
    n = len(rows)
    return Material([{name: rows}], np.arange(n), np.ones(n, np.float32), np.zeros(n, np.int64), np.arange(n))


class _Files:
    """Arrays that grow in files, one set for each combination of shapes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kinds: dict[Any, int] = {}
        self.shapes: list[dict[str, tuple[tuple[int, ...], np.dtype]]] = []
        self.open: list[dict[str, BinaryIO]] = []
        self.counts: list[int] = []

    def add(self, window: Arrays) -> tuple[int, int]:
        """(kind, row) of a window that is written."""
        key = tuple((name, value.shape, value.dtype.str) for name, value in window.items())
        kind = self.kinds.setdefault(key, len(self.kinds))
        if kind == len(self.open):
            self.shapes.append({name: (value.shape, value.dtype) for name, value in window.items()})
            self.open.append({name: open(self._path(kind, name), "wb") for name in window})  # noqa: SIM115 - closed by `close`
            self.counts.append(0)
        for name, value in window.items():
            self.open[kind][name].write(np.ascontiguousarray(value).data)
        self.counts[kind] += 1
        return kind, self.counts[kind] - 1

    def close(self) -> list[dict[str, np.ndarray]]:
        for files in self.open:
            for file in files.values():
                file.close()
        return [
            {
                name: np.memmap(self._path(kind, name), dtype, "r", shape=(count, *shape))
                if count * math.prod(shape)
                else np.zeros((count, *shape), dtype)
                for name, (shape, dtype) in shapes.items()
            }
            for kind, (shapes, count) in enumerate(zip(self.shapes, self.counts, strict=True))
        ]

    def _path(self, kind: int, name: str) -> Path:
        return self.folder / f"{kind}.{name}.bin"


Trunk = Callable[[Sequence[Arrays]], Sequence[Arrays]]
"""The frozen part over the windows of one tile, all of equal shapes: what is kept of each."""


def gather(
    names: Sequence[str],
    sources: Sequence[Any],
    modality: Modality,
    prepare: Callable[[Any], Prepared],
    folder: Path,
    *,
    trunk: Trunk | None = None,
    tile: int = 1,
    workers: int = 2,
    emit: Emit = silent,
    stage: str = "preparing",
) -> Material:
    """The windows of all sources in files in `folder`, which is there and empty: as they were prepared, or what `trunk` gives for them.

    The trunk runs in tiles of just `tile` windows, each on one core; a short one is filled up with copies of its first. So what it gives
    does not depend on neighbours, order or the number of workers. DataError for a source that cannot be read: they were readable a
    moment ago, when their features were made.
    """
    files = _Files(folder)
    found: list[tuple[int, float]] = []
    places: dict[int, tuple[int, int]] = {}
    buckets: dict[Any, list[tuple[int, Arrays]]] = {}
    running: deque[tuple[Future[Sequence[Arrays]], list[int]]] = deque()

    def look(chunk: list[Any]) -> list[Prepared | str]:
        return [_prepared(source, modality, prepare) for source in chunk]

    def take_up(most: int) -> None:
        while len(running) > most:
            rows, numbers = running.popleft()
            for number, row in zip(numbers, rows.result(), strict=False):
                places[number] = files.add(row)

    def run(bucket: list[tuple[int, Arrays]]) -> None:
        assert trunk is not None
        windows = [window for _, window in bucket]
        filled = [*windows, *[windows[0]] * (tile - len(windows))]
        running.append((pool.submit(trunk, filled), [number for number, _ in bucket]))
        take_up(2 * workers)

    def add(example: int, window: Arrays, share: float) -> None:
        number = len(found)
        found.append((example, share))
        if trunk is None:
            places[number] = files.add(window)
            return
        shapes = tuple((name, value.shape) for name, value in window.items())
        bucket = buckets.setdefault(shapes, [])
        bucket.append((number, window))
        if len(bucket) == tile:
            run(buckets.pop(shapes))

    begun = time.perf_counter()
    emit(Started(stage, len(sources), modality.nouns))
    done = 0
    try:
        with computing_crew(workers) as pool:
            for prepared in (p for part in in_order(look, chunks(sources, modality.chunk), pool, AHEAD * workers) for p in part):
                if isinstance(prepared, str):
                    raise DataError(f"{names[done]} has changed during the fit: {prepared}", move="run the same command again")
                total = sum(prepared.weights)
                for window, weight in zip(prepared.windows, prepared.weights, strict=True):
                    add(done, window, weight / total)
                done += 1
                emit(Progress(stage, done))
            for bucket in list(buckets.values()):
                run(bucket)
            take_up(0)
    except OSError as error:
        raise DataError(f"{folder} cannot take what training reads: {error.strerror or error}", move="another --out") from None
    finally:
        arrays = files.close()
    emit(Done(stage, time.perf_counter() - begun, f"{len(found):,} windows"))
    example, share = (np.array(column) for column in zip(*found, strict=True))
    kind, row = (np.array(column) for column in zip(*(places[i] for i in range(len(found))), strict=True))
    return Material(arrays, example, share.astype(np.float32), kind, row)


def _prepared(source: Any, modality: Modality, prepare: Callable[[Any], Prepared]) -> Prepared | str:
    try:
        return prepare(modality.load(source).decode())
    except Unreadable as reason:
        return str(reason)
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # whatever a decoder does with a file that was changed
        return f"{type(error).__name__}: {error}"
