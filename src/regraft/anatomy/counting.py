"""Multiply-adds of what runs, and shapes of the commonest layers without asking their kernels for them.

In come operations while a network runs; out go their results, and a count. PyTorch works out the shapes of some operations in Python when
there are no values (on its meta device); for those whose result is shaped like what came that takes longer than everything else together.
Never changes a result, nor lets pass what PyTorch refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten

IN_PLACE = frozenset({aten.hardtanh_, aten.relu_, aten.silu_, aten.sigmoid_, aten.tanh_, aten.hardswish_, aten.hardsigmoid_})
ALIKE = frozenset({aten.hardtanh, aten.relu, aten.silu, aten.gelu, aten.sigmoid, aten.tanh, aten.hardswish, aten.hardsigmoid})
NORMED = frozenset({aten.native_batch_norm, aten._native_batch_norm_legit_no_training})


class Counting(TorchDispatchMode):
    """While it is entered: `macs` grows with what runs."""

    def __init__(self) -> None:
        super().__init__()
        self._flops = 0

    @property
    def macs(self) -> int:
        """Multiply-adds so far, each of which PyTorch counts as two operations."""
        return self._flops // 2

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation."""
        kind, named = func.overloadpacket, kwargs or {}
        if (known := _as_it_came(kind, args)) is not None:
            return known
        result = func(*args, **named)
        if (count := flop_registry.get(kind)) is not None:
            self._flops += count(*args, **named, out_val=result)
        return result


def _as_it_came(kind: Any, args: tuple[Any, ...]) -> Any:
    """The result of an operation on a tensor without values, where it is shaped like that; None for all others."""
    first = args[0] if args else None
    if not isinstance(first, Tensor) or first.device.type != "meta" or not first.is_floating_point():
        return None
    if kind in IN_PLACE:
        return first
    if kind in ALIKE:
        return torch.empty_like(first)
    if kind in NORMED and first.ndim > 1 and all(v is None or v.shape == first.shape[1:2] for v in args[1:5]):
        none = first.new_empty(0)
        return torch.empty_like(first), none, none
    return None
