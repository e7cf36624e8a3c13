"""Freezing that is frozen: which parameters train, which layers are in training mode, and when batch norms follow the data.

A frozen layer's parameters, statistics and counters do not change, its dropout and stochastic depth are off, and its output is the
same in training and in use. What lies inside a selected layer follows it: its dropout is on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from regraft.anatomy.parts import Parts
from regraft.anatomy.select import Selected


@dataclass(frozen=True)
class Frozen:
    """What stays as it is while a network trains.

    `trained` are the paths that train; `adapt` whether batch norms inside them follow the batches (their statistics move) or keep the
    statistics they came with.
    """

    trained: Selected
    adapt: bool = False

    def apply(self, network: nn.Module) -> None:
        """Say for every parameter whether it trains. A tied parameter trains when any of its names is selected."""
        names: dict[int, list[str]] = {}
        for name, parameter in network.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(name)
        for parameter in network.parameters():
            parameter.requires_grad_(any(name in self.trained for name in names[id(parameter)]))

    def train(self, network: nn.Module) -> None:
        """Put what trains in training mode and everything else in evaluation mode."""
        for path, module in network.named_modules():
            live = path in self.trained and path != ""
            if live and not self.adapt and isinstance(module, nn.modules.batchnorm._BatchNorm):
                live = False
            module.training = live

    @contextmanager
    def training(self, network: nn.Module) -> Iterator[nn.Module]:
        """The network ready for optimisation steps; in evaluation mode afterwards."""
        self.apply(network)
        self.train(network)
        try:
            yield network
        finally:
            network.eval()


def layer_groups(network: nn.Module, parts: Parts, trained: Selected) -> list[tuple[int, list[str]]]:
    """(depth, names) of the parameters that train, part by part from the head on: depth 0 is the head, 1 the neck and the last block,
    and so on. The depth counts parts of the network, not of what trains: a rate that falls with depth is the same whether or
    not a layer in between is frozen. A tied parameter stands once, at the least depth.
    """
    order = [paths for _, paths in parts.items()]
    count = len(parts.blocks)
    depths = [count + 1, *(count - i for i in range(count)), 1, 0]
    found: dict[int, list[str]] = {}
    seen: dict[int, int] = {}
    names: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        depth = next((d for d, paths in zip(depths, order, strict=True) if name in Selected(paths)), count + 1)
        key = id(parameter)
        if key not in seen or depth < seen[key]:
            seen[key] = depth
            names.setdefault(key, name)
        if name in trained:
            found.setdefault(key, [])
    out: dict[int, list[str]] = {}
    for key in found:
        out.setdefault(seen[key], []).append(names[key])
    return sorted(out.items())
