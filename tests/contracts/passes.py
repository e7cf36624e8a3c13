"""A pass over texts with a tiny trunk, in this process or in one that may be killed: windows of several lengths, two tensors of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft.features import material
from regraft.features.material import Arrays, Material, gather
from regraft.modality import MODALITIES, Prepared
from regraft.workspace.store import Space

TILE = 4
MAKER = {"kind": "cut", "for": "tests"}


def prepare(text: str) -> Prepared:
    """One to three windows of 8, 16 or 24 characters, as numbers."""
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.float32) / 128 - 0.5
    pieces = np.array_split(codes, 1 + len(codes) % 3)
    sizes = [8 * (1 + min(2, len(piece) // 8)) for piece in pieces]
    return Prepared([{"x": np.resize(piece, (1, size))} for piece, size in zip(pieces, sizes, strict=True)], [len(p) for p in pieces])


class Trunk:
    """A convolution; counts the tiles that went through it."""

    def __init__(self, seconds: float = 0.0) -> None:
        torch.manual_seed(0)
        self.layer, self.seconds, self.tiles, self._lock = torch.nn.Conv1d(1, 12, 5, padding=2), seconds, 0, threading.Lock()

    def __call__(self, windows: Sequence[Arrays]) -> list[dict[str, np.ndarray]]:
        assert len(windows) == TILE
        with self._lock:
            self.tiles += 1
        time.sleep(self.seconds)
        with torch.no_grad():
            found = torch.tanh(self.layer(torch.from_numpy(np.stack([w["x"] for w in windows])))).numpy()
        return [{"0": found[i], "1": found[i, :1] > 0} for i in range(TILE)]


def over(paths: Sequence[Path], space: Space, trunk: Trunk | None = None, **options: Any) -> Material:
    """The pass."""
    return gather([p.name for p in paths], paths, MODALITIES["text"], prepare, space, trunk=trunk or Trunk(), tile=TILE, **options)


def in_a_process(paths: Sequence[Path], folder: Path, seconds: float) -> None:
    """The same, for a process that may be killed: every example is written at once."""
    material.FLUSH_BYTES = 0
    over(paths, Space(folder, MAKER, needed=True), Trunk(seconds))


def bytes_of(found: Material) -> list[bytes]:
    """Everything that training would read, window by window."""
    facts = [found.example.tobytes(), found.share.tobytes(), found.kind.tobytes()]
    arrays = [found.read(np.array([w])) for w in range(len(found.example))]
    return facts + [name.encode() + repr((a.shape, a.dtype)).encode() + a.tobytes() for window in arrays for name, a in window.items()]
