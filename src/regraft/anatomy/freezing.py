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
    statistics they came with. Those of `fresh` layers came with none and always follow.
    """

    trained: Selected
    adapt: bool = False
    fresh: Selected = Selected(())

    def apply(self, network: nn.Module) -> None:
        """Say for every parameter whether it trains. A tied parameter trains when any of its names is selected."""
        live = live_tensors(network, self.trained)
        for parameter in network.parameters():
            parameter.requires_grad_(id(parameter) in live and parameter.dtype.is_floating_point)

    def train(self, network: nn.Module) -> None:
        """Put what trains in training mode and everything else in evaluation mode.

        A layer trains when it is selected, or when everything in it is. One without parameters that is not selected
        follows the layer that holds it; one that stands at several paths trains when it may at all of them.
        """
        live = live_tensors(network, self.trained)
        modes: dict[nn.Module, bool] = {}

        def visit(path: str, module: nn.Module, above: bool) -> None:
            own = [id(t) for t in module.parameters()] or [id(t) for t in module.buffers()]
            on = (path != "" and path in self.trained) or (all(key in live for key in own) if own else above)
            modes[module] = modes.get(module, True) and on
            for name, child in module.named_children():
                visit(f"{path}.{name}" if path else name, child, on)

        visit("", network, False)
        new = {m for name, m in network.named_modules(remove_duplicate=False) if name and name in self.fresh}
        for module, on in modes.items():
            module.training = on and (self.adapt or module in new or not isinstance(module, nn.modules.batchnorm._NormBase))

    @contextmanager
    def training(self, network: nn.Module) -> Iterator[nn.Module]:
        """The network ready for optimisation steps; in evaluation mode afterwards."""
        self.apply(network)
        self.train(network)
        try:
            yield network
        finally:
            network.eval()


def live_tensors(network: nn.Module, trained: Selected) -> set[int]:
    """The ids of the parameters and buffers with a name that is selected."""
    named = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    return {id(tensor) for name, tensor in named if name in trained}


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
