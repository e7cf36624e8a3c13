"""Reads the tensors of a CTranslate2 `model.bin` (binary version 6): names, shapes, bytes; nothing executes.

The layout as in CTranslate2's own reader, src/models/model.cc (MIT): version u32, spec name, revision u32, count u32, then for
each variable its name, rank u8, sizes u32, type u8, number of bytes u32, bytes; then aliases. A string is its length u16 with
the closing zero.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from regraft.errors import ModelError

_TYPES = {0: np.dtype("<f4"), 1: np.dtype("i1"), 2: np.dtype("<i2"), 3: np.dtype("<i4"), 4: np.dtype("<f2")}


class _Reader:
    def __init__(self, content: memoryview) -> None:
        self.content, self.at = content, 0

    def take(self, count: int) -> memoryview:
        if count < 0 or self.at + count > len(self.content):
            raise ModelError("the file of weights ends too early", move="install its package again")
        self.at += count
        return self.content[self.at - count : self.at]

    def number(self, kind: str) -> int:
        return struct.unpack("<" + kind, self.take(struct.calcsize(kind)))[0]

    def text(self) -> str:
        return bytes(self.take(self.number("H"))).rstrip(b"\0").decode("utf-8", "replace")


def read_tensors(path: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """The variables whose names start with `prefix`, floats as float32."""
    reader = _Reader(memoryview(path.read_bytes()))
    version = reader.number("I")
    if version != 6:
        raise ModelError(f"{path.name} has version {version} of CTranslate2's format; version 6 is read")
    reader.text()
    reader.number("I")
    tensors: dict[str, np.ndarray] = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        kind = reader.number("B")
        content = reader.take(reader.number("I"))
        if not name.startswith(prefix):
            continue
        dtype = _TYPES.get(kind)
        if dtype is None or int(np.prod(shape, dtype=object)) * dtype.itemsize != len(content):
            raise ModelError(f"{path.name}: the tensor {name} does not have the size that it states")
        array = np.frombuffer(content, dtype).reshape(shape)
        tensors[name] = array.astype(np.float32) if dtype.kind == "f" else array
    return tensors
