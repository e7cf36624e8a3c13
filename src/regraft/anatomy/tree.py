"""A network as a table of layers: path, kind, shape, parameters, multiply-adds, whether it trains."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from regraft.anatomy.parts import Parts, inside
from regraft.anatomy.select import Selected
from regraft.anatomy.trace import Trace


@dataclass(frozen=True)
class Row:
    """One layer. Parameters are counted once where they are shared; `macs` are multiply-adds for one example."""

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
    shown: set[int] = set()

    def visit(path: str, module: nn.Module, level: int) -> None:
        calls = seen.calls.get(path, [])
        own = {id(p): p.numel() for p in module.parameters()}
        live = {id(p) for n, p in module.named_parameters(remove_duplicate=False) if (f"{path}.{n}" if path else n) in trained}
        if path:
            shape = calls[0].outputs[0][1:] if calls and calls[0].outputs else None
            out.append(
                Row(
                    path=path,
                    kind=type(module).__name__,
                    part=parts.part_of(path) or ("blocks" if any(inside(b, path) for paths in parts.blocks for b in paths) else ""),
                    depth=level,
                    order=seen.first(path) if calls else min((seen.first(p) for p in seen.calls if p and inside(p, path)), default=1 << 60),
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
            shown.add(id(module))
        if depth is not None and level >= depth:
            return
        children = [(f"{path}.{name}" if path else name, child) for name, child in module.named_children()]
        first = lambda p: min((seen.first(q) for q in seen.calls if q and inside(q, p)), default=1 << 60)
        for name, child in sorted(children, key=lambda item: first(item[0])):
            visit(name, child, level + 1)

    visit("", network, 0)
    return out


def _inside_roots(seen: Trace, path: str) -> list[str]:
    """The topmost layers inside a container that itself is never called."""
    below = [p for p in seen.calls if p and inside(p, path)]
    return [p for p in below if not any(q != p and inside(p, q) for q in below)]


def totals(network: nn.Module, trained: Selected) -> tuple[int, int]:
    """(parameters, those that train), shared ones once."""
    every = {id(p): p.numel() for p in network.parameters()}
    live = {id(p) for n, p in network.named_parameters(remove_duplicate=False) if n in trained}
    return sum(every.values()), sum(n for key, n in every.items() if key in live)
