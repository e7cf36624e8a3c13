"""torch.compile: the network's own operations, fused and compiled. Minutes to make on a small machine, so only on request."""

from __future__ import annotations

import os
import shutil
import threading
from typing import Any

import torch
from torch import Tensor, nn

from regraft.features.engines.base import Engine, Run


def _missing(device: str) -> str:
    if device.startswith("cuda"):
        return ""
    named = os.environ.get("CXX")
    if any(shutil.which(name) for name in ([named] if named else ["c++", "g++", "clang++", "cl"])):
        return ""
    return "there is no C++ compiler here"


def _make(dtype: torch.dtype | None, network: nn.Module, inputs: dict[str, Tensor], varies: bool, threads: int) -> Run:
    compiled = torch.compile(network, dynamic=True if varies else None)
    kind = next(iter(inputs.values())).device.type
    compiling, known = threading.Lock(), set[Any]()

    def call(tile: dict[str, Tensor]) -> Tensor:
        if dtype is None:
            return compiled(**tile)
        with torch.autocast(kind, dtype=dtype):
            return compiled(**tile)

    def run(tile: dict[str, Tensor]) -> Tensor:
        shape = tuple(v.shape for v in tile.values())
        if shape in known:
            return call(tile)
        # code is made when a new shape is first met; one thread at a time
        with compiling:
            rows = call(tile)
            known.add(shape)
        return rows

    return run


_MOVE = "install a C++ compiler (g++), or --engine torch"
FLOAT32 = Engine("compile", "fp32", lambda *a: _make(None, *a), _missing, move=_MOVE, traced=True, tried=False)
BFLOAT16 = Engine("compile", "bf16", lambda *a: _make(torch.bfloat16, *a), _missing, move=_MOVE, traced=True, tried=False)
