"""The feature store: what was made of examples, by the identity of what made it and the bytes it was made from.

A *space* is one folder for one maker of features (weights, preprocessing, engine, tile, versions), named by the hash of
that description, which lies beside the segments as `space.json`. Of each example it keeps a row of features, or the tensors of its
windows at a cut; both lie in segments (segments.py), which are written aside, renamed and never changed. So several processes can read and
add at the same time, and what a killed one had written stays. A segment whose bytes are not those that were written is found when
an example of it is first asked for, removed and counted in `damaged`; its examples are not there any more.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft.errors import UsageError
from regraft.workspace.files import cannot_write, folder_bytes, read_json, write_json
from regraft.workspace.segments import ID_BYTES, SUFFIX, Damaged, Kept, Segment

ROW = "row"
"""The tensor that holds a row of features."""

LET_GO = 64 << 20
"""Bytes read from mapped files before their pages are given back: what a training holds of them at most, however much it reads."""

AROUND = 2 << 20
"""Bytes that the system may map around a place that is read: Linux 6 maps the whole block in which it keeps a file's pages."""

LEFT_SECONDS = 3600.0
"""Age from which a file that was being written aside is taken to be left behind by a process that was killed."""

DEFAULT_LIMIT = 10 * 10**9
"""Bytes that the store may take before the least recently used spaces go."""


def content_id(content: bytes) -> bytes:
    """The identity of an example's bytes, 16 bytes."""
    return hashlib.blake2b(content, digest_size=ID_BYTES).digest()


def home() -> Path:
    """Where regraft keeps what can be computed again: REGRAFT_HOME, or the platform's cache folder."""
    if given := os.environ.get("REGRAFT_HOME"):
        return Path(given)
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(base) / "regraft"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "regraft"


def size_limit() -> int:
    """The store's bound in bytes: REGRAFT_CACHE_SIZE such as 500M or 20G, or the default."""
    given = os.environ.get("REGRAFT_CACHE_SIZE", "").strip()
    if not given:
        return DEFAULT_LIMIT
    units = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    size = given.upper().removesuffix("B").removesuffix("I")
    number, unit = (size[:-1], units[size[-1]]) if size[-1:] in units else (size, 1)
    try:
        value = int(float(number) * unit)
    except (ValueError, OverflowError):
        value = -1
    if value < 0:
        raise UsageError(f"REGRAFT_CACHE_SIZE is {given!r}", expected="a size such as 500M or 20G")
    return value


@dataclass(frozen=True)
class SpaceFacts:
    """One space as `regraft cache` shows it."""

    key: str
    maker: Mapping[str, Any]
    rows: int
    bytes: int
    used: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"key": self.key, "rows": self.rows, "bytes": self.bytes, "used": self.used, "maker": dict(self.maker)}


class Space:
    """What one maker made. `folder` None keeps nothing on disk.

    What a disk does not take stays in memory and is not said: keeping is a favour. With `needed` it is a WriteError: there is more of it
    than memory should hold.
    """

    def __init__(self, folder: Path | None, maker: Mapping[str, Any], *, needed: bool = False) -> None:
        self.folder, self.maker, self.needed = folder, dict(maker), needed
        self._where: dict[bytes, tuple[int, int]] = {}
        self._segments: list[Segment | None] = []
        self._seen: set[str] = set()
        self._new: dict[bytes, Kept] = {}
        self._lock = threading.RLock()
        self.pending = 0
        self.notes: dict[bytes, str] = {}
        self.damaged = 0
        if folder is not None:
            self._open(folder)

    def _open(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "space.json").exists():
                write_json(folder / "space.json", self.maker)
            os.utime(folder / "space.json")
            for left in folder.glob(".*.part"):
                if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                    left.unlink()
        except OSError as error:
            # a store that cannot be written to (full or read-only disk) may still be read
            if not folder.is_dir():
                if self.needed:
                    raise cannot_write(folder, error) from None
                self.folder = None
                return
        self._look()

    def _look(self) -> None:
        """Take up the segments that were not here before."""
        assert self.folder is not None
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path.name in self._seen:
                continue
            self._seen.add(path.name)
            try:
                self._take(Segment.open(path))
            except Damaged:
                self._remove(path)
            except Exception:  # no rights, a disk that fails: it may be whole, and is not ours to remove
                self.damaged += 1

    def _take(self, segment: Segment) -> None:
        number = len(self._segments)
        self._segments.append(segment)
        for i, identity in enumerate(segment.identities()):
            self._where.setdefault(identity, (number, i))
        self.notes.update({bytes.fromhex(k): note for k, note in segment.notes.items()})

    def _remove(self, path: Path) -> None:
        self.damaged += 1
        with suppress(OSError):
            path.unlink()

    def _drop(self, number: int) -> None:
        """Forget a segment that holds other bytes than were written; another one may hold the same examples."""
        with self._lock:
            segment = self._segments[number]
            if segment is None:
                return
            self._segments[number] = None
            where: dict[bytes, tuple[int, int]] = {}
            for other, held in enumerate(self._segments):
                for i, identity in enumerate(held.identities() if held is not None else []):
                    where.setdefault(identity, (other, i))
            self._where = where
            if segment.path is not None:
                self._remove(segment.path)

    def _place(self, identity: bytes) -> tuple[Segment, int] | None:
        while (place := self._where.get(identity)) is not None:
            segment = self._segments[place[0]]
            if segment is not None and segment.sound():
                return segment, place[1]
            self._drop(place[0])
        return None

    def __contains__(self, identity: bytes) -> bool:
        """Whether an example is here, in a segment whose bytes are those that were written."""
        return identity in self._new or self._place(identity) is not None

    def __len__(self) -> int:
        return len(self._where) + len(self._new)

    def add(self, identity: bytes, row: np.ndarray, note: str = "") -> None:
        """Keep one row (d,) float32 and what should be said of it; it reaches the disk with the next `flush`."""
        self.keep(identity, Kept([{ROW: row.astype(np.float32, copy=False)}], note=note))

    def keep(self, identity: bytes, kept: Kept) -> None:
        """Keep the windows of one example; they reach the disk with the next `flush`."""
        if identity in self:
            return
        if kept.note:
            self.notes[identity] = kept.note
        self._new[identity] = kept
        self.pending += kept.bytes

    @property
    def keys(self) -> tuple[str, ...]:
        """The name of its folder."""
        return (space_key(self.maker),)

    def flush(self) -> None:
        """Write what was added as one segment, without what another process wrote meanwhile. Without a folder it stays in memory."""
        if self._new and self.folder is not None:
            with self._lock:
                self._look()
            self._new = {identity: kept for identity, kept in self._new.items() if self._place(identity) is None}
        if not self._new:
            self.pending = 0
            return
        segment = Segment.of(self._new)
        if self.folder is not None:
            path = self.folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}{SUFFIX}"
            try:
                segment.write(path)
                self._seen.add(path.name)
                if not (self.folder / "space.json").exists():
                    write_json(self.folder / "space.json", self.maker)
                written = Segment.open(path)
                written._sound = True
                segment = written
            except OSError:
                if self.needed:
                    raise
                # keeping is a favour, not a duty: a full disk must not stop the fit
                self.folder = None
        with self._lock:
            self._take(segment)
        self._new, self.pending = {}, 0

    def gather(self, identities: Sequence[bytes]) -> np.ndarray:
        """The rows of these examples in this order, (n, d) float32. KeyError when one is missing."""
        if not identities:
            self.flush()
            return np.zeros((0, 0), np.float32)
        found = self.windows(identities)
        return found.tensors[0][ROW][found.row]

    def windows(self, identities: Sequence[bytes]) -> Windows:
        """The windows of these examples, in this order. KeyError when one is missing."""
        self.flush()
        places = [self._place(identity) for identity in identities]
        used: dict[int, tuple[Segment, list[int], list[int]]] = {}
        for example, place in enumerate(places):
            if place is None:
                raise KeyError(identities[example])
            segment, i = place
            _, examples, at = used.setdefault(id(segment), (segment, [], []))
            examples.append(example)
            at.append(i)
        # kinds are numbered by what they look like: their order changes the bits of a training, and must not depend on who wrote first
        signatures = sorted({s for segment, _, _ in used.values() for s in segment.signatures()})
        numbers = {signature: number for number, signature in enumerate(signatures)}
        tensors = [{name: Joined(shape, np.dtype(dtype)) for name, shape, dtype in signature} for signature in signatures]
        columns: list[np.ndarray] = []
        for segment, examples, at in used.values():
            starts = np.concatenate([[0], segment.ends])
            first, count = starts[at], np.diff(starts)[at]
            window = np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count)
            kinds, offsets = np.array([numbers[s] for s in segment.signatures()]), []
            for number, own in zip(kinds, segment.tensors, strict=True):
                offsets.append(next(iter(tensors[number].values())).rows if own else 0)
                for name, array in own.items():
                    tensors[number][name].append(segment, array)
            kind = segment.kind[window]
            row = segment.row[window] + np.array(offsets, np.int64)[kind]
            columns.append(np.array([np.repeat(examples, count), kinds[kind], row, segment.share[window].view(np.int32)], np.int64))
        whole = np.concatenate(columns, axis=1)
        example, kind, row, share = whole[:, np.argsort(whole[0], kind="stable")]
        return Windows(tensors, example, share.astype(np.int32).view(np.float32), kind, row)


class Joined:
    """A tensor that lies in several segments, read by rows: rows[numbers] is a copy (len(numbers), ...)."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype, self.rows = shape, dtype, 0
        self._parts: list[tuple[Segment, np.ndarray]] = []
        self._starts: list[int] = []
        self._mapped: dict[int, int] = {}

    def append(self, segment: Segment, array: np.ndarray) -> None:
        """More rows."""
        self._starts.append(self.rows)
        self._parts.append((segment, array))
        self.rows += len(array)

    def followed_by(self, other: Joined) -> Joined:
        """Its rows and those of another one of the same shape and dtype after them."""
        both = Joined(self.shape, self.dtype)
        for segment, array in [*self._parts, *other._parts]:
            both.append(segment, array)
        return both

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *self.shape), self.dtype)
        part = np.searchsorted(self._starts, rows, "right") - 1
        for number in np.unique(part):
            own = np.flatnonzero(part == number)
            segment, array = self._parts[number]
            out[own] = array[rows[own] - self._starts[number]]
            self._mapped[number] = min(array.nbytes, self._mapped.get(number, 0) + len(own) * (out.nbytes // len(out) + AROUND))
            if sum(self._mapped.values()) > LET_GO:
                for held in self._mapped:
                    self._parts[held][0].let_go()
                self._mapped.clear()
        return out


@dataclass(frozen=True)
class Windows:
    """Windows of examples, those of one example one after the other. Window w belongs to example `example[w]`, counts `share[w]` there, and
    is row `row[w]` of the tensors `tensors[kind[w]]`.
    """

    tensors: list[dict[str, Joined]]
    example: np.ndarray
    share: np.ndarray
    kind: np.ndarray
    row: np.ndarray


class Spaces:
    """Several spaces whose rows are made together: a row that is added is divided among them by their `widths`.

    An example is there when all have it. What is gathered, and what was noted, is the last one's.
    """

    def __init__(self, spaces: Sequence[Space], widths: Sequence[int]) -> None:
        self.spaces = list(spaces)
        self._bounds = np.cumsum([0, *widths]).tolist()

    def empty(self) -> Spaces:
        """As many of the same widths that hold nothing, and keep nothing."""
        return Spaces([Space(None, {}) for _ in self.spaces], np.diff(self._bounds).tolist())

    @property
    def notes(self) -> dict[bytes, str]:
        """What was said of examples."""
        return self.spaces[-1].notes

    @property
    def damaged(self) -> int:
        """Damaged files that were passed over."""
        return sum(space.damaged for space in self.spaces)

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of their folders."""
        return tuple(key for space in self.spaces for key in space.keys)

    def __contains__(self, identity: bytes) -> bool:
        return all(identity in space for space in self.spaces)

    def add(self, identity: bytes, row: np.ndarray, note: str = "") -> None:
        """Keep one row (the sum of the widths,) float32."""
        for space, start, end in zip(self.spaces, self._bounds, self._bounds[1:], strict=False):
            space.add(identity, row[start:end], note)

    def flush(self) -> None:
        """Write what was added."""
        for space in self.spaces:
            space.flush()

    def gather(self, identities: Sequence[bytes]) -> np.ndarray:
        """The last space's rows of these examples (n, its width)."""
        return self.spaces[-1].gather(identities)


def space_key(maker: Mapping[str, Any]) -> str:
    """The name of a maker's folder: a hash of its description, which can be read in `space.json`."""
    return hashlib.sha256(json.dumps(maker, sort_keys=True).encode()).hexdigest()[:24]


class Store:
    """All spaces under one folder, bounded in size."""

    def __init__(self, root: Path | None = None, *, keep: bool = True, limit: int | None = None) -> None:
        self.root = (root or home()) / "features"
        self.keep = keep
        self.limit = size_limit() if limit is None else limit

    def space(self, maker: Mapping[str, Any], *, needed: bool = False) -> Space:
        """The space of this maker; in memory only when nothing is kept."""
        return Space(self.root / space_key(maker) if self.keep else None, maker, needed=needed)

    def held(self, maker: Mapping[str, Any]) -> Space | None:
        """The space of this maker, when there is one already."""
        return self.space(maker) if self.keep and (self.root / space_key(maker)).is_dir() else None

    def spaces(self) -> list[SpaceFacts]:
        """What is kept, most recently used first."""
        found = []
        for folder in sorted(self.root.glob("*")) if self.root.is_dir() else []:
            try:
                maker = read_json(folder / "space.json")
                used = (folder / "space.json").stat().st_mtime
                rows = sum(map(_examples, folder.glob(f"*{SUFFIX}")))
            except Exception:  # whatever lies there: nothing here may keep the others from being listed
                maker, used, rows = {}, 0.0, 0
            found.append(SpaceFacts(folder.name, maker if isinstance(maker, dict) else {}, rows, folder_bytes(folder), used))
        return sorted(found, key=lambda s: -s.used)

    def trim(self, protect: tuple[str, ...] = ()) -> list[SpaceFacts]:
        """Remove the least recently used spaces until the bound holds; those named in `protect` stay."""
        spaces = self.spaces()
        removed, total = [], sum(space.bytes for space in spaces)
        for space in reversed(spaces):
            if total > self.limit and space.key not in protect:
                self.remove(space.key)
                total -= space.bytes
                removed.append(space)
        return removed

    def remove(self, key: str) -> None:
        """Remove one space."""
        shutil.rmtree(self.root / key, ignore_errors=True)


def _examples(path: Path) -> int:
    """How many examples a segment holds; a damaged one none."""
    try:
        return len(Segment.open(path))
    except (OSError, Damaged):
        return 0
