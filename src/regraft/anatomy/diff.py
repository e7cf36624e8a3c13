"""What is different between two states of a network, printed like a patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from regraft.anatomy.adapters import BASE, adapters, parameters_of, rank_of
from regraft.anatomy.parts import inside

if TYPE_CHECKING:
    from regraft.anatomy.net import Net


SHOWN = 12
"""Layers whose outputs changed shape that a diff names at most; those inside a named one are left away."""


@dataclass(frozen=True)
class Diff:
    """Layers that went and came, weights that moved, were adapted or are new, and outputs of another shape."""

    went: list[tuple[str, str, int]]
    """(path, kind, parameters) of topmost layers that are gone."""
    came: list[tuple[str, str, int]]
    """The same of layers that are new."""
    moved: dict[str, str]
    """Path now -> path before, of layers whose weights are the same ones."""
    adapted: list[str]
    """Parameters that were made from old ones."""
    shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    """(path, shape before, shape now) of one example's output, for layers that are in both."""
    kept: int
    """Weights that are the old ones."""
    new: int
    total_before: int
    adapters: list[tuple[str, int, int]]
    """(path, rank, parameters) of the adapters."""

    def lines(self) -> list[str]:
        """The patch, a line each, beginning with -, +, > (moved), ~ (adapted) or two spaces."""
        out = [f"- {path}  {kind}, {n:,} parameters" for path, kind, n in self.went]
        out += [f"+ {path}  {kind}, {n:,} parameters" for path, kind, n in self.came]
        for rank in dict.fromkeys(r for _, r, _ in self.adapters):
            same = [(path, n) for path, r, n in self.adapters if r == rank]
            paths = ", ".join(path for path, _ in same[:SHOWN]) + (" ..." if same[SHOWN:] else "")
            out.append(
                f"+ lora of rank {rank} at {len(same)} layer{'s' * (len(same) > 1)}, {sum(n for _, n in same):,} parameters: {paths}"
            )
        out += [f"> {was} is now {now}" for now, was in self.moved.items()]
        out += [f"~ {name}  made from the old weights" for name in self.adapted]
        out += [f"  {path}  gives {_shape(a)} where it gave {_shape(b)}" for path, b, a in self.shapes]
        return [*out, f"  {self.kept:,} of {self.total_before:,} weights are kept, {self.new:,} are new"]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        layers = lambda found: [{"path": p, "kind": k, "parameters": n} for p, k, n in found]
        return {
            "went": layers(self.went),
            "came": layers(self.came),
            "moved": self.moved,
            "adapted": self.adapted,
            "shapes": [{"path": p, "before": list(b), "now": list(a)} for p, b, a in self.shapes],
            "adapters": [{"path": p, "rank": r, "parameters": n} for p, r, n in self.adapters],
            "kept": self.kept,
            "new": self.new,
            "before": self.total_before,
        }


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one value"


def difference(before: Net, now: Net) -> Diff:
    """What is different. Layers are matched by their weights, and by path where they have none."""
    old, new = dict(before.module.named_modules()), dict(now.module.named_modules())
    kept = {n: n for n, _ in before.module.named_parameters()} if now is before else dict(now.kept)
    held = set(kept.values())
    found = adapters(now.module)
    moved = {n: w for n, w in _moved(now.module, kept).items() if n != f"{w}.{BASE}" or w not in found}
    sources = set(moved.values())
    went = _top([p for p, m in old.items() if p and _gone(p, m, held, new, sources)])
    came = _top([p for p, m in new.items() if p and not any(inside(p, a) and p != a for a in found) and _arrived(p, m, kept, old, moved)])
    sizes = {n: p.numel() for n, p in now.module.named_parameters()}
    shapes = [
        (path, before.seen.calls[path][0].outputs[0][1:], now.seen.calls[path][0].outputs[0][1:])
        for path in new
        if path
        and path in old
        and path in before.seen.calls
        and path in now.seen.calls
        and before.seen.calls[path][0].outputs[:1]
        and now.seen.calls[path][0].outputs[:1]
        and before.seen.calls[path][0].outputs[0][1:] != now.seen.calls[path][0].outputs[0][1:]
    ]
    same = sum(n for name, n in sizes.items() if name in kept and name not in now.adapted)
    return Diff(
        went=[(p, type(old[p]).__name__, sum(q.numel() for q in old[p].parameters())) for p in went],
        came=[(p, type(new[p]).__name__, sum(q.numel() for q in new[p].parameters())) for p in came],
        moved=moved,
        adapted=sorted(now.adapted),
        shapes=[s for s in shapes if not any(s[0] != t[0] and inside(s[0], t[0]) for t in shapes)][:SHOWN],
        kept=same,
        new=sum(n for name, n in sizes.items() if name not in kept),
        adapters=[(path, rank_of(layer), parameters_of(layer)) for path, layer in found.items()],
        total_before=sum(p.numel() for p in before.module.parameters()),
    )


def _moved(module: nn.Module, kept: dict[str, str]) -> dict[str, str]:
    """Topmost layers all of whose weights stand under another path."""
    out: dict[str, str] = {}
    for name, original in kept.items():
        if name == original:
            continue
        now, was = name.split("."), original.split(".")
        while now and was and now[-1] == was[-1]:
            now, was = now[:-1], was[:-1]
        out[".".join(now)] = ".".join(was)
    return {now: was for now, was in out.items() if not any(n != now and inside(now, n) and inside(was, w) for n, w in out.items())}


def _gone(path: str, module: nn.Module, held: set[str], new: dict[str, nn.Module], sources: set[str]) -> bool:
    own = [f"{path}.{n}" for n, _ in module.named_parameters(remove_duplicate=False)]
    if own:
        return not any(n in held for n in own)
    return (path not in new or type(new[path]) is not type(module)) and not any(inside(path, s) for s in sources if s)


def _arrived(path: str, module: nn.Module, kept: dict[str, str], old: dict[str, nn.Module], moved: dict[str, str]) -> bool:
    own = [f"{path}.{n}" for n, _ in module.named_parameters(remove_duplicate=False)]
    if own:
        return not any(n in kept for n in own)
    return (path not in old or type(old[path]) is not type(module)) and not any(inside(path, m) for m in moved)


def _top(paths: list[str]) -> list[str]:
    every = set(paths)
    return [p for p in paths if not any(".".join(p.split(".")[:i]) in every for i in range(1, p.count(".") + 1))]
