"""A network as a table of layers: path, kind, shape, parameters, multiply-adds, whether it trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from regraft.anatomy.freezing import live_tensors
from regraft.anatomy.parts import Parts, inside
from regraft.anatomy.select import Selected
from regraft.anatomy.trace import Trace


@dataclass(frozen=True)
class Row:
    """One layer, or a parameter that a layer made of others holds itself (kind Parameter). Where parameters are shared they are counted
    with the layer that stands first; `macs` are multiply-adds for one example.
    """

    path: str
    kind: str
    part: str
    depth: int
    order: int
    output: tuple[int, ...] | None
    calls: int
    parameters: int
    trained: int
    macs: int
    new: bool
    children: int

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        shape = list(self.output) if self.output else None
        plain = {
            k: getattr(self, k) for k in ("path", "kind", "part", "depth", "calls", "children", "parameters", "trained", "macs", "new")
        }
        return {**plain, "output": shape}


def rows(network: nn.Module, seen: Trace, parts: Parts, trained: Selected, new: Selected, depth: int | None = None) -> list[Row]:
    """The layers down to `depth` names below the root (all when None), in the order in which data passes.

    Shapes are of one example: without the batch.
    """
    out: list[Row] = []
    live, held = live_tensors(network, trained), _held(network, seen)

    def visit(path: str, module: nn.Module, level: int) -> None:
        calls = seen.calls.get(path, [])
        own = {id(p): p.numel() for p in module.parameters() if inside(held[id(p)], path)}
        if path:
            shape = calls[0].outputs[0][1:] if calls and calls[0].outputs else None
            out.append(
                Row(
                    path=path,
                    kind=type(module).__name__,
                    part=parts.part_of(path) or ("blocks" if any(inside(b, path) for paths in parts.blocks for b in paths) else ""),
                    depth=level,
                    order=_first(path, seen),
                    output=shape,
                    calls=len(calls),
                    parameters=sum(own.values()),
                    trained=sum(n for key, n in own.items() if key in live),
                    macs=sum(c.macs for c in calls) // max(1, seen.batch)
                    if calls
                    else sum(c.macs for p in _inside_roots(seen, path) for c in seen.calls[p]) // max(1, seen.batch),
                    new=path in new,
                    children=len(list(module.children())),
                )
            )
        if depth is not None and level >= depth:
            return
        if list(module.children()) or not path:
            out.extend(_loose(path, module, level + 1))
        for name, child in _in_order(path, module, seen):
            visit(name, child, level + 1)

    def _loose(path: str, module: nn.Module, level: int) -> Iterator[Row]:
        for name, parameter in module.named_parameters(path, recurse=False):
            count = parameter.numel() if held[id(parameter)] == name else 0
            order = seen.first(path)
            part, trains = parts.part_of(name), count if id(parameter) in live else 0
            yield Row(name, "Parameter", part, level, order, tuple(parameter.shape), 0, count, trains, 0, name in new, 0)

    visit("", network, 0)
    return out


def _held(network: nn.Module, seen: Trace) -> dict[int, str]:
    """For each parameter its name in the layer that stands first in the table."""
    out: dict[int, str] = {}

    def visit(path: str, module: nn.Module) -> None:
        for name, parameter in module.named_parameters(path, recurse=False):
            out.setdefault(id(parameter), name)
        for name, child in _in_order(path, module, seen):
            visit(name, child)

    visit("", network)
    return out


def _in_order(path: str, module: nn.Module, seen: Trace) -> list[tuple[str, nn.Module]]:
    """The layers right below one, in the order in which they first run; those at several names at each."""
    children = [(f"{path}.{name}" if path else name, child) for name, child in module._modules.items() if child is not None]
    return sorted(children, key=lambda item: _first(item[0], seen))


def _first(path: str, seen: Trace) -> int:
    """When a layer, or the first of those in it, ran."""
    if path in seen.calls:
        return seen.first(path)
    return min((seen.first(q) for q in seen.calls if q and inside(q, path)), default=1 << 60)


def _inside_roots(seen: Trace, path: str) -> list[str]:
    """The topmost layers inside a container that itself is never called."""
    below = [p for p in seen.calls if p and inside(p, path)]
    return [p for p in below if not any(q != p and inside(p, q) for q in below)]


def totals(network: nn.Module, trained: Selected) -> tuple[int, int]:
    """(parameters, those that train), shared ones once."""
    every = {id(p): p.numel() for p in network.parameters()}
    live = live_tensors(network, trained)
    return sum(every.values()), sum(n for key, n in every.items() if key in live)
