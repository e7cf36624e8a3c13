"""A network as an ONNX graph, for the engines that read one."""

from __future__ import annotations

import io
import warnings
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_kept: WeakKeyDictionary[nn.Module, bytes] = WeakKeyDictionary()
"""Graphs of networks of which several engines are made, one after the other; `forget` them then."""


class _InOrder(nn.Module):
    """A network that takes its inputs by position."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.network(**dict(zip(self.names, inputs, strict=True)))


def onnx_graph(network: nn.Module, inputs: dict[str, Tensor], varies: bool) -> bytes:
    """The network as it runs on one tile, in ONNX, kept until `forget`; with `varies` the last dimension of each input may differ.

    By watching one run, which takes 1 s where torch.export takes 4 (docs/log.md); what it gives is compared with the network's own
    rows before it is used. Raises whatever the exporter raises.
    """
    if network in _kept:
        return _kept[network]
    named = {k: {v.ndim - 1: f"{k}_length"} for k, v in inputs.items() if v.ndim > 1} if varies else None
    buffer = io.BytesIO()
    # the exporter puts the module back into the mode it found, all of it: a new module is in training mode
    watched = _InOrder(network, list(inputs)).eval()
    # outside inference mode: the exporter's passes want tensors that can be changed
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = tuple(v.clone() for v in inputs.values())
        torch.onnx.export(
            watched,
            example,
            buffer,  # pyright: ignore[reportArgumentType] - a path or a file, its annotation knows paths
            dynamo=False,
            input_names=list(inputs),
            output_names=["rows"],
            dynamic_axes=named,
            opset_version=17,
        )
    _kept[network] = buffer.getvalue()
    return _kept[network]


def forget() -> None:
    """Let go of the graphs: each takes as much memory as its network."""
    _kept.clear()
