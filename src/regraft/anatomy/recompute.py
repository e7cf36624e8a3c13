"""Activation checkpointing (Chen et al. 2016): a block keeps what came in, and is computed a second time on the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from regraft.anatomy.layers import layer_at


@contextmanager
def recomputed(network: nn.Module, paths: Sequence[str]) -> Iterator[None]:
    """While it lasts, the layers at these paths keep no activations where gradients are taken. Outputs, gradients, and what batch norms and
    counters become are those of the network without it; random numbers are drawn again as they were.
    """
    layers = [layer_at(network, path) for path in paths]
    for layer in layers:
        layer.forward = _twice(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _twice(layer: nn.Module) -> Any:
    plain = layer.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        contexts = lambda: (nullcontext(), _unmoved(layer))
        return checkpoint(plain, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    return forward


@contextmanager
def _unmoved(layer: nn.Module) -> Iterator[None]:
    """The second time a layer is computed its statistics and counters stay: they have moved already."""
    held = [(buffer, buffer.clone()) for buffer in layer.buffers()]
    try:
        yield
    finally:
        for buffer, before in held:
            # .data: autograd keeps running statistics for the way back, and must not take them for changed
            buffer.data.copy_(before)
