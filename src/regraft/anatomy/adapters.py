"""Low-rank adapters that stand in a network: found, and taken out again with what they learnt put into the layers they stand at."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from regraft.anatomy.parts import inside
from regraft.anatomy.trace import own_copy

BASE = "base_layer"
"""Where peft keeps the layer that an adapter stands at."""


def adapters(network: nn.Module) -> dict[str, Any]:
    """The layers with an adapter, by path. Without peft there are none, and nothing is imported to know that."""
    if "peft.tuners.lora" not in sys.modules:
        return {}
    from peft.tuners.lora import LoraLayer

    return {path: layer for path, layer in network.named_modules() if isinstance(layer, LoraLayer) and path}


def outside_adapters(network: nn.Module, paths: Iterable[str]) -> list[str]:
    """Those paths that are not inside a layer with an adapter; the layer itself stays."""
    held = adapters(network)
    return [path for path in paths if not any(inside(path, a) and path != a for a in held)]


def parameters_of(layer: Any) -> int:
    """How many parameters an adapter has, without those of the layer it stands at."""
    base = {id(p) for p in layer.base_layer.parameters()}
    return sum(p.numel() for p in layer.parameters() if id(p) not in base)


def adapter_parameters(network: nn.Module) -> set[str]:
    """The names of all parameters of adapters."""
    plain = plain_names(network)
    return {name for name, _ in network.named_parameters() if name not in plain}


def rank_of(layer: Any) -> int:
    """The rank of an adapter."""
    return next(iter(layer.r.values()))


def plain_names(network: nn.Module) -> dict[str, str]:
    """Name of every tensor that is no adapter's -> its name in the network without adapters."""
    found = adapters(network)
    out: dict[str, str] = {}
    for name in network.state_dict():
        at = next((path for path in found if inside(name, path)), None)
        rest = name[len(at) + 1 :] if at is not None else ""
        if at is None:
            out[name] = name
        elif rest.startswith(f"{BASE}."):
            out[name] = f"{at}.{rest.removeprefix(f'{BASE}.')}"
    return out


def merged(network: nn.Module) -> nn.Module:
    """A network of the same layers without adapters, whose weights hold what those had learnt. It shares the tensors that stay."""
    return _taken_out(network, {path: _sum(layer) for path, layer in adapters(network).items()})


def bare(network: nn.Module) -> nn.Module:
    """The network as if no adapter stood in it, with its own tensors; the network itself where none does."""
    found = adapters(network)
    return _taken_out(network, {path: layer.base_layer.weight for path, layer in found.items()}) if found else network


def _sum(layer: Any) -> Tensor:
    """The weight of an adapted layer and what its adapters add to it."""
    weight = layer.base_layer.weight.detach()
    for name in layer.active_adapters:
        weight = weight + layer.get_delta_weight(name).detach().to(weight.dtype)
    return weight


def _taken_out(network: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    shared: dict[int, Any] = {id(t): t for t in (*network.parameters(), *network.buffers())}
    copy = own_copy(network, shared)
    for path, weight in weights.items():
        above, _, name = path.rpartition(".")
        base = copy.get_submodule(f"{path}.{BASE}")
        base.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
        (copy.get_submodule(above) if above else copy)._modules[name] = base
    return copy
