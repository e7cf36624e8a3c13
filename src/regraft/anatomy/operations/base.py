"""What every operation on a network is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from regraft.anatomy.layers import layer_at
from regraft.anatomy.notation import Written, make, read
from regraft.anatomy.parts import CONTAINERS, Parts
from regraft.anatomy.select import select
from regraft.anatomy.trace import Shape, Trace, own_copy
from regraft.errors import UsageError


@dataclass
class Edit:
    """A copy of a network while one operation changes it. `seen` and `parts` are of the network before."""

    network: nn.Module
    seen: Trace
    parts: Parts
    head: tuple[str, ...]
    inputs: dict[str, torch.Tensor]
    seed: int
    adapted: set[str] = field(default_factory=set)
    """Names of parameters whose weights were made from old ones."""
    frozen: set[str] = field(default_factory=set)
    """Layers that do not train afterwards, whatever did before."""
    runs: list[nn.Module] = field(default_factory=list)
    """New layers, which have to run."""

    def paths(self, text: str) -> list[str]:
        """The topmost layers that a selection means; UsageError when a parameter is among them."""
        found = self.selected(text)
        layers = {name for name, _ in self.network.named_modules(remove_duplicate=False)}
        if alone := [p for p in found if p not in layers]:
            raise UsageError(f"{alone[0]!r} is a parameter, not a layer", expected="a layer")
        return found

    def selected(self, text: str) -> list[str]:
        """The topmost layers and parameters that a selection means."""
        return list(select(self.network, self.parts, text).paths)

    def one(self, text: str) -> str:
        """The single layer that a selection means; UsageError when it means several."""
        found = self.paths(text)
        if len(found) != 1:
            shown = ", ".join(found[:4]) + (" ..." if len(found) > 4 else "")
            raise UsageError(f"{text!r} means {len(found)} layers ({shown})", expected="one layer")
        return found[0]

    def came(self, path: str) -> Shape:
        """The shape that comes to a layer."""
        calls = self.seen.calls.get(path)
        if not calls or not calls[0].inputs:
            raise UsageError(f"no data passes {path!r}: it is a container or never runs", expected="a layer that is called")
        return calls[0].inputs[0]

    def went(self, path: str) -> Shape:
        """The shape that a layer gives."""
        calls = self.seen.calls.get(path)
        if not calls or not calls[0].outputs:
            raise UsageError(f"no data passes {path!r}: it is a container or never runs", expected="a layer that is called")
        return calls[0].outputs[0]

    def new_layer(self, layer: str | Written | nn.Module, came: Shape) -> nn.Module:
        """A layer from its text, with weights that the seed decides; a copy of a module."""
        if isinstance(layer, nn.Module):
            return own_copy(layer)
        written = read(layer) if isinstance(layer, str) else layer
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return make(written, came)

    def parent(self, path: str) -> tuple[nn.Module, str]:
        """The layer that holds another one, and the name under which it does."""
        above, _, name = path.rpartition(".")
        return (layer_at(self.network, above) if above else self.network), name

    def put(self, path: str, layer: nn.Module) -> None:
        """Another layer in a layer's place; it takes its device, precision and mode."""
        parent, name = self.parent(path)
        parent._modules[name] = new = like(layer, parent._modules[name])
        self.runs.append(new)


def like(layer: nn.Module, other: nn.Module | None) -> nn.Module:
    """A layer with the device and precision of another one's parameters, where it has any."""
    first = next(iter(other.parameters()), None) if other is not None else None
    return layer.to(device=first.device, dtype=first.dtype) if first is not None and first.dtype.is_floating_point else layer


def whole(network: nn.Module, gone: Sequence[str]) -> list[str]:
    """The same layers, with a container in place of all its children."""
    left = set(gone)
    for path in sorted({p.rpartition(".")[0] for p in gone if "." in p}, key=lambda p: -p.count(".")):
        module = network.get_submodule(path)
        children = {f"{path}.{name}" for name, _ in module.named_children()}
        if isinstance(module, CONTAINERS) and children <= left:
            left = (left - children) | {path}
    order = {name: i for i, (name, _) in enumerate(network.named_modules())}
    return sorted(left, key=lambda p: order.get(p, 0))


def take_out(edit: Edit, gone: Sequence[str], *, from_containers: bool) -> None:
    """Take layers out: from their container where they stand in one and that is wanted, else an identity in their place."""
    for path in gone:
        parent, name = edit.parent(path)
        if from_containers and isinstance(parent, CONTAINERS) and path not in edit.head and len(parent) > 1:
            # the names of the others stay as they are: a recipe can go on using them
            del parent._modules[name]
        else:
            parent._modules[name] = nn.Identity()


@dataclass(frozen=True)
class Operation:
    """One way to change a network.

    `arguments` are the keys of its step in a recipe, required ones first; `apply(edit, **arguments)` gives attempts: functions that
    change the copy, of which the first after which the network runs is kept.
    """

    name: str
    about: str
    required: tuple[str, ...]
    optional: Mapping[str, Any]
    apply: Callable[..., Sequence[Callable[[Edit], None]]]
