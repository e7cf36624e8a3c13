"""One pass: threads read, decode and prepare examples and run tiles of the frozen part, whichever is there to do; rows are kept."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from regraft.errors import RegraftError, Unreadable
from regraft.events import Done, Emit, Measured, Speed, Started, silent
from regraft.facts import LeftOut
from regraft.features.threads import chunks, computing_crew, in_order
from regraft.modality import Modality, Prepared
from regraft.workspace.reading import Reading
from regraft.workspace.store import Space, Spaces

FLUSH_ROWS = 2048
"""Rows computed between two writes to the store; what an interruption loses at most, with the seconds below."""

FLUSH_SECONDS = 10.0

AHEAD = 24
"""Chunks of examples read ahead per worker."""


TILES_AHEAD = 2
"""Tiles per worker that run or wait to."""


class Trunk(Protocol):
    """The frozen part: windows of equal shape in, at most `tile` at a time; of each window what is kept: its row, or its tensors."""

    tile: int
    side_by_side: bool
    """Whether several threads may call it at once, each on a core of its own (a CPU); a GPU takes one tile at a time."""

    def __call__(self, windows: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Row:
    """One example after the pass: its features, or the reason why there are none."""

    index: int
    identity: bytes
    features: Any = None
    """A row (d,) float32, or what `whole` made of the windows. None when they were in the store already, or with `reason`."""
    summary: Any = None
    reason: str = ""
    note: str = ""
    known: bool = False


@dataclass
class Extracted:
    """What one pass gave. `kept` are positions in the sources; features, summaries and identities follow it."""

    kept: list[int]
    identities: list[bytes]
    features: np.ndarray
    summaries: list[Any]
    left_out: list[LeftOut] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    computed: int = 0
    seconds: float = 0.0
    looked: int = 0
    """How many of the sources, from the first on, were looked at: all, but where the pass was ended before."""


@dataclass
class _Read:
    """What a worker made of one example."""

    index: int
    identity: bytes
    prepared: Prepared | None
    summary: Any
    reason: str


@dataclass
class _Waiting:
    """An example some of whose windows are still to go through the network."""

    read: _Read
    missing: int
    parts: list[Any]
    """What each window gave, by its place: they are added in this order, whichever tile ran first."""

    def finished(self, whole: Whole) -> Row:
        read = self.read
        assert read.prepared is not None
        features = whole(read.prepared, self.parts)
        if isinstance(features, str):
            return Row(read.index, read.identity, reason=features)
        return Row(read.index, read.identity, features, read.summary, note=read.prepared.note)


Whole = Callable[[Prepared, list[Any]], Any]
"""What the windows of an example gave, in their order -> its features; or why there are none, as text."""


def averaged(prepared: Prepared, parts: list[np.ndarray]) -> np.ndarray | str:
    """The mean of the windows' rows, weighted as the windows are."""
    if len(parts) == 1:
        features = parts[0]
    else:
        weights = np.asarray(prepared.weights, np.float32)
        features = sum((part * weight for part, weight in zip(parts, weights, strict=True)), np.float32(0)) / weights.sum()
    return features if np.isfinite(features).all() else "the network's features for it are not finite numbers"


def _read(
    chunk: Sequence[tuple[int, Any]],
    modality: Modality,
    prepare: Callable[[Any], Prepared],
    known: Callable[[bytes], bool],
    summaries: Space | None,
    reading: Reading,
) -> list[_Read]:
    out = []
    for index, source in chunk:
        identity = b""
        if isinstance(source, Path):
            reading.enter(str(source))
        try:
            loaded = modality.load(source)
            identity = loaded.identity
            in_store = known(identity)
            wants_summary = summaries is not None and identity not in summaries
            if in_store and not wants_summary:
                out.append(_Read(index, identity, None, None, ""))
                continue
            decoded = loaded.decode()
            summary = modality.summary(decoded) if wants_summary else None
            out.append(_Read(index, identity, None if in_store else prepare(decoded), summary, ""))
        except Unreadable as reason:
            out.append(_Read(index, identity, None, None, str(reason)))
        except RegraftError:
            raise
        except OSError as error:
            out.append(_Read(index, identity, None, None, f"cannot be read: {error.strerror or error}"))
        except Exception as error:
            # decoders meet files that their authors never saw; one of them must not end the pass
            out.append(_Read(index, identity, None, None, f"cannot be read ({type(error).__name__}: {error})"))
    reading.leave()
    return out


_Bucket = list[tuple[_Waiting, int, Any]]
"""Windows of equal shape: the example, the window's place in it, its arrays."""


class _Tiles:
    """Windows waiting for a full tile, by their shapes, and tiles on their way; gives rows as examples get complete.

    Tiles are taken up in the order in which they got full, whichever is done first.
    """

    def __init__(self, trunk: Callable[[], Trunk], whole: Whole, pool: Executor, workers: int) -> None:
        self._make, self._whole, self._engine = trunk, whole, None
        self._pool, self._ahead = pool, TILES_AHEAD * workers
        self._buckets: dict[Any, _Bucket] = defaultdict(list)
        self._running: deque[tuple[Future[Any], _Bucket]] = deque()

    def add(self, read: _Read) -> Iterator[Row]:
        # opened only now: opening a network takes seconds, in which the workers read ahead
        engine: Trunk = self._engine or self._make()
        self._engine = engine
        assert read.prepared is not None
        count = len(read.prepared.windows)
        waiting = _Waiting(read, count, [None] * count)
        for place, window in enumerate(read.prepared.windows):
            shape = tuple((k, v.shape) for k, v in window.items())
            bucket = self._buckets[shape]
            bucket.append((waiting, place, window))
            if len(bucket) == engine.tile:
                yield from self._run(engine, self._buckets.pop(shape))

    def rest(self) -> Iterator[Row]:
        """What is left in tiles that never filled up, and on its way."""
        for shape in sorted(self._buckets, key=repr):
            assert self._engine is not None
            yield from self._run(self._engine, self._buckets[shape])
        while self._running:
            yield from self._take_up(*self._running.popleft())

    def _run(self, engine: Trunk, bucket: _Bucket) -> Iterator[Row]:
        windows = [window for _, _, window in bucket]
        if not engine.side_by_side:
            done: Future[Any] = Future()
            done.set_result(engine(windows))
            yield from self._take_up(done, bucket)
            return
        self._running.append((self._pool.submit(engine, windows), bucket))
        while len(self._running) > self._ahead:
            yield from self._take_up(*self._running.popleft())

    def _take_up(self, tile: Future[Any], bucket: _Bucket) -> Iterator[Row]:
        for (waiting, place, _), row in zip(bucket, tile.result(), strict=True):
            waiting.parts[place] = row
            waiting.missing -= 1
            if not waiting.missing:
                yield waiting.finished(self._whole)


def stream(
    sources: Iterable[Any],
    modality: Modality,
    trunk: Callable[[], Trunk],
    prepare: Callable[[Any], Prepared],
    *,
    known: Callable[[bytes], bool] = lambda identity: False,
    whole: Whole = averaged,
    summaries: Space | None = None,
    workers: int = 2,
) -> Generator[Row, None, None]:
    """Rows as they get ready, not in order; every source gives exactly one. `trunk` is called once, when first needed; `whole` puts what
    it gave for the windows of an example together.

    `known` tells which identities have features already. Memory is bounded whatever the number of sources. Reading and the tiles
    share the same `workers` threads, so that none waits while another kind of work is there.
    """
    started: set[bytes] = set()
    twins: list[_Read] = []
    reading = Reading()

    def read_chunk(chunk: list[tuple[int, Any]]) -> list[_Read]:
        return _read(chunk, modality, prepare, known, summaries, reading)

    try:
        with computing_crew(workers) as pool:
            tiles = _Tiles(trunk, whole, pool, workers)
            for reads in in_order(read_chunk, chunks(enumerate(sources), modality.chunk), pool, AHEAD * workers):
                for read in reads:
                    if read.reason:
                        yield Row(read.index, read.identity, reason=read.reason)
                    elif read.prepared is None:
                        yield Row(read.index, read.identity, summary=read.summary, known=True)
                    elif read.identity in started:
                        # the same content again: its first copy is on its way or done
                        twins.append(_Read(read.index, read.identity, None, read.summary, ""))
                    else:
                        started.add(read.identity)
                        yield from tiles.add(read)
            yield from tiles.rest()
        for read in twins:
            yield Row(read.index, read.identity, summary=read.summary, known=True)
    finally:
        reading.close()


class _Forecast:
    """Predicts a pass's seconds after its first tiles: those pay for warming up, the rest go on like the next ones."""

    def __init__(self, total: int) -> None:
        self.total, self.start = total, time.perf_counter()
        self.seconds: float | None = None
        self._first: tuple[float, int] | None = None

    def see(self, computed: int, done: int) -> None:
        now = time.perf_counter()
        if self._first is None and computed >= 32:
            self._first = (now, done)
        elif self._first is not None and self.seconds is None and computed >= 96:
            rate = (now - self._first[0]) / max(1, done - self._first[1])
            self.seconds = now - self.start + rate * (self.total - done)


@dataclass
class _Ledger:
    """What became of each source."""

    identities: list[bytes]
    reasons: dict[int, str] = field(default_factory=dict)
    summaries: dict[int, Any] = field(default_factory=dict)
    before: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    fresh: set[bytes] = field(default_factory=set)

    def enter(self, row: Row, space: Space | Spaces, summaries: Space | None) -> None:
        self.identities[row.index] = row.identity
        self.seen.add(row.index)
        if row.reason:
            self.reasons[row.index] = row.reason
        elif row.features is not None:
            self.fresh.add(row.identity)
            space.add(row.identity, row.features, row.note)
        elif row.identity not in self.fresh:
            self.before.add(row.index)
        if row.summary is not None and summaries is not None:
            if isinstance(row.summary, np.ndarray):
                summaries.add(row.identity, row.summary)
            else:
                self.summaries[row.index] = row.summary

    def close(self, space: Space | Spaces) -> tuple[int, list[int]]:
        """(how many were looked at without a gap, from the first on; the positions of those that have features)."""
        looked = next((i for i in range(len(self.identities)) if i not in self.seen), len(self.identities))
        self.reasons = {i: reason for i, reason in self.reasons.items() if i < looked}
        for i, identity in enumerate(self.identities[:looked]):
            if i not in self.reasons and identity not in space:
                self.reasons[i] = "it holds the same as another one that was left out"
        return looked, [i for i in range(looked) if i not in self.reasons]


def extract(
    names: Sequence[str],
    sources: Sequence[Any],
    modality: Modality,
    trunk: Callable[[], Trunk],
    prepare: Callable[[Any], Prepared],
    space: Space | Spaces,
    *,
    summaries: Space | None = None,
    workers: int = 2,
    emit: Emit = silent,
    stage: str = "features",
    enough: Callable[[], bool] | None = None,
) -> Extracted:
    """Features of all sources that can be read, from the store where it has them, in the order of the sources.

    `summaries` is the space of the rows for the model without a network, or None when they are not wanted. What was
    computed is kept even when the pass is interrupted. `enough` is asked after every example: the pass ends where it says so.
    """
    forecast, speed = _Forecast(len(sources)), Speed(len(sources))
    ledger = _Ledger([b""] * len(sources))
    emit(Started(stage, len(sources), modality.nouns))
    last = forecast.start
    rows = stream(sources, modality, trunk, prepare, known=space.__contains__, summaries=summaries, workers=workers)
    try:
        for done, row in enumerate(rows, 1):
            ledger.enter(row, space, summaries)
            if row.features is not None:
                computed = len(ledger.fresh)
                forecast.see(computed, done)
                if computed % FLUSH_ROWS == 0 or time.perf_counter() - last > FLUSH_SECONDS:
                    space.flush()
                    last = time.perf_counter()
            emit(speed.progress(stage, done))
            if enough is not None and enough():
                break
    finally:
        rows.close()
        space.flush()
        if summaries is not None:
            summaries.flush()
    looked, kept = ledger.close(space)
    ids = [ledger.identities[i] for i in kept]
    if summaries is None:
        kept_summaries: list[Any] = []
    elif modality.summary_version:
        kept_summaries = list(summaries.gather(ids))
    else:
        kept_summaries = [ledger.summaries[i] for i in kept]
    computed, reused = len(ledger.fresh), sum(i in ledger.before for i in kept)
    equal = len(kept) - computed - reused
    seconds = time.perf_counter() - forecast.start
    note = f"{computed:,} computed" + (f", {reused:,} already there" if reused else "")
    emit(Done(stage, seconds, note + (f", {equal:,} of equal content" if equal else "")))
    if computed:
        emit(Measured(f"seconds of {stage}", seconds, forecast.seconds, "s"))
    return Extracted(
        kept=kept,
        identities=ids,
        features=space.gather(ids),
        summaries=kept_summaries,
        left_out=[LeftOut(names[i], ledger.reasons[i]) for i in sorted(ledger.reasons)],
        notes=dict(Counter(note for identity in ids if (note := space.notes.get(identity)))),
        computed=computed,
        seconds=seconds,
        looked=looked,
    )
