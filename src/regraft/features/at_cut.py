"""The frozen part before a cut, in an engine that was made for whole networks: tiles of inputs in, the tensors at the cut out."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from regraft.errors import ModelError, RegraftError
from regraft.features.cut import Cut
from regraft.features.cut.halves import Trunk
from regraft.features.engines import Engine
from regraft.features.engines.base import Run, as_rows, first_line
from regraft.features.engines.graph import forget

ALIKE = 1e-4
"""Largest difference from what torch gives, in parts of the largest value. On EfficientNet-Lite0 it was 3e-6 (docs/log.md)."""


def takes(engine: Engine, cut: Cut) -> bool:
    """Whether an engine can run the part before a cut: one that does not round, and gives one float32 row for every example. What varies
    with the length of an example, and masks, stay with torch.
    """
    return engine.exact and engine.traced and all(t.dtype == torch.float32 and not t.varying and not t.is_input for t in cut.tensors)


class _Rows(nn.Module):
    """The part before a cut as engines take a network: by name in, one row (batch, numbers) out."""

    def __init__(self, cut: Cut) -> None:
        super().__init__()
        assert isinstance(cut.trunk, Trunk)
        self.operations, self.names = cut.trunk.operations, cut.inputs

    def forward(self, **given: Tensor) -> Tensor:
        return torch.cat([t.flatten(1) for t in self.operations(*(given[name] for name in self.names))], 1)


class AtCut:
    """Runs tiles of exactly `tile` examples; fewer are filled up with copies of the first. Several threads may call it at once.

    ModelError, at the first tile, when the engine refuses this part of the network or gives something else than torch.
    """

    def __init__(self, cut: Cut, engine: Engine, tile: int, threads: int) -> None:
        self.cut, self.engine, self.tile, self.threads = cut, engine, tile, threads
        self._run: Run | None = None
        self._lock = threading.Lock()

    def __call__(self, inputs: Mapping[str, Tensor]) -> list[np.ndarray]:
        """The tensors at the cut (examples, ...) float32, in the order of `Cut.tensors`."""
        count = len(next(iter(inputs.values())))
        filled = {k: torch.cat([v, v[:1].expand(self.tile - count, *v.shape[1:])]) if count < self.tile else v for k, v in inputs.items()}
        with torch.inference_mode():
            rows = as_rows(self._made(filled)(filled))[:count]
        ends = np.cumsum([int(np.prod(t.shape)) for t in self.cut.tensors])[:-1]
        return [part.reshape(count, *t.shape) for part, t in zip(np.split(rows, ends, 1), self.cut.tensors, strict=True)]

    def _made(self, inputs: dict[str, Tensor]) -> Run:
        with self._lock:
            if self._run is None:
                self._run = self._make(inputs)
            return self._run

    def _make(self, inputs: dict[str, Tensor]) -> Run:
        network = _Rows(self.cut).eval()
        try:
            run = self.engine.make(network, inputs, False, self.threads)
            ours, theirs = as_rows(network(**inputs)), as_rows(run(inputs))
        except RegraftError:
            raise
        except Exception as error:  # compilers and exporters raise whatever a network makes them raise
            raise ModelError(f"the engine {self.engine.label} cannot take the frozen part ({first_line(error)})") from None
        finally:
            forget()
        if ours.shape != theirs.shape or not np.abs(ours - theirs).max(initial=0) <= ALIKE * np.abs(ours).max(initial=0):
            raise ModelError(f"the engine {self.engine.label} gives something else at the cut than torch")
        return run
