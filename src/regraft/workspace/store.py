"""The feature store: rows of features by the identity of what made them and the bytes they were made from.

A *space* is one folder for one maker of features (weights, preprocessing, engine, tile, versions), named by the hash of
that description, which lies beside the rows as `space.json`. Rows come in segments: `NAME.rows.npy` (n, d) float32 and
`NAME.ids.npy` (n, 16) uint8; a segment counts once its ids are there, and they are written last. Segments are never
changed, so several processes can read and add at the same time.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft.errors import UsageError
from regraft.workspace.files import folder_bytes, read_json, write_json, written_aside

ID_BYTES = 16
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
    """Rows made by one maker. `folder` None keeps nothing on disk."""

    def __init__(self, folder: Path | None, maker: Mapping[str, Any]) -> None:
        self.folder, self.maker = folder, dict(maker)
        self._where: dict[bytes, tuple[int, int]] = {}
        self._segments: list[np.ndarray] = []
        self._ids: list[bytes] = []
        self._rows: list[np.ndarray] = []
        self._new_notes: dict[str, str] = {}
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
        except OSError:
            # a store that cannot be written to (full or read-only disk) may still be read
            if not folder.is_dir():
                self.folder = None
                return
        for ids_file in sorted(folder.glob("*.ids.npy")):
            rows_file = ids_file.with_name(ids_file.name.replace(".ids.npy", ".rows.npy"))
            try:
                ids = np.load(ids_file, allow_pickle=False)
                rows = np.load(rows_file, mmap_mode="r", allow_pickle=False)
                if ids.dtype != np.uint8 or ids.shape != (len(rows), ID_BYTES) or rows.dtype != np.float32 or rows.ndim != 2:
                    raise ValueError("not a segment")
                notes_file = ids_file.with_name(ids_file.name.replace(".ids.npy", ".notes.json"))
                if notes_file.exists():
                    self.notes.update({bytes.fromhex(k): str(v) for k, v in read_json(notes_file).items()})
            except Exception:  # a damaged header makes numpy raise whatever its parser or the memory raises
                self.damaged += 1
                continue
            number = len(self._segments)
            self._segments.append(rows)
            raw = ids.tobytes()
            for i in range(len(ids)):
                self._where.setdefault(raw[i * ID_BYTES : (i + 1) * ID_BYTES], (number, i))

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._where

    def __len__(self) -> int:
        return len(self._where)

    def add(self, identity: bytes, row: np.ndarray, note: str = "") -> None:
        """Keep one row (d,) float32 and what should be said of it; it reaches the disk with the next `flush`."""
        if identity in self._where:
            return
        if note:
            self.notes[identity] = self._new_notes[identity.hex()] = note
        self._where[identity] = (-1, len(self._rows))
        self._ids.append(identity)
        self._rows.append(row)

    @property
    def keys(self) -> tuple[str, ...]:
        """The name of its folder."""
        return (space_key(self.maker),)

    @property
    def pending(self) -> int:
        """Bytes of rows that are not on disk yet."""
        return len(self._rows) * (self._rows[0].nbytes if self._rows else 0)

    def flush(self) -> None:
        """Write what was added as one segment. A store without a folder keeps it in memory."""
        if not self._rows:
            return
        rows = np.stack(self._rows).astype(np.float32, copy=False)
        ids = np.frombuffer(b"".join(self._ids), np.uint8).reshape(-1, ID_BYTES)
        if self.folder is not None:
            name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
            try:
                for part, array in (("rows", rows), ("ids", ids)):
                    with written_aside(self.folder / f"{name}.{part}.npy") as aside, open(aside, "wb") as file:
                        np.save(file, array, allow_pickle=False)
                    if part == "rows" and self._new_notes:
                        write_json(self.folder / f"{name}.notes.json", self._new_notes)
                rows = np.load(self.folder / f"{name}.rows.npy", mmap_mode="r", allow_pickle=False)
            except OSError:
                # keeping is a favour, not a duty: a full disk must not stop the fit
                self.folder = None
        number = len(self._segments)
        self._segments.append(rows)
        for i, identity in enumerate(self._ids):
            self._where[identity] = (number, i)
        self._ids, self._rows, self._new_notes = [], [], {}

    def gather(self, identities: list[bytes]) -> np.ndarray:
        """The rows of these examples in this order, (n, d) float32. KeyError when one is missing."""
        self.flush()
        if not identities:
            return np.zeros((0, 0), np.float32)
        places = [self._where[i] for i in identities]
        out = np.empty((len(places), self._segments[places[0][0]].shape[1]), np.float32)
        segment = np.fromiter((p[0] for p in places), np.int64, len(places))
        row = np.fromiter((p[1] for p in places), np.int64, len(places))
        for number in np.unique(segment):
            chosen = np.flatnonzero(segment == number)
            out[chosen] = self._segments[number][row[chosen]]
            _let_go(self._segments[number])
        return out


class Spaces:
    """Several spaces whose rows are made together: a row that is added is divided among them by their `widths`.

    An example is there when all have it. What is gathered, and what was noted, is the last one's.
    """

    def __init__(self, spaces: Sequence[Space], widths: Sequence[int]) -> None:
        self.spaces = list(spaces)
        self._bounds = np.cumsum([0, *widths]).tolist()

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

    def gather(self, identities: list[bytes]) -> np.ndarray:
        """The last space's rows of these examples (n, its width)."""
        return self.spaces[-1].gather(identities)


def _let_go(rows: np.ndarray) -> None:
    """Give the pages of a mapped file back: they are on disk, and would count twice beside the copy (0.5 GB of 100,000 images)."""
    mapped = getattr(rows, "_mmap", None)
    if mapped is not None and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


def space_key(maker: Mapping[str, Any]) -> str:
    """The name of a maker's folder: a hash of its description, which can be read in `space.json`."""
    return hashlib.sha256(json.dumps(maker, sort_keys=True).encode()).hexdigest()[:24]


class Store:
    """All spaces under one folder, bounded in size."""

    def __init__(self, root: Path | None = None, *, keep: bool = True, limit: int | None = None) -> None:
        self.root = (root or home()) / "features"
        self.keep = keep
        self.limit = size_limit() if limit is None else limit

    def space(self, maker: Mapping[str, Any]) -> Space:
        """The space of this maker; in memory only when nothing is kept."""
        return Space(self.root / space_key(maker) if self.keep else None, maker)

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
                rows = sum(len(np.load(f, mmap_mode="r", allow_pickle=False)) for f in folder.glob("*.ids.npy"))
            except Exception:  # as above: nothing here may keep the others from being listed
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
