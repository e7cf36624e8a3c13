"""A network's parts in the order in which data passes: stem, blocks, neck, head.

Blocks come from the source's own grouping where there is one (timm's `group_matcher`), else from the containers of layers that are
alike (the encoder lists of transformers, stages of convolutional networks). No family is known by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from regraft.anatomy.trace import Trace

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Parts:
    """Paths of layers: each block may have several (a convolution and the norm after it). Every parameter lies below just one path;
    a parameter that no layer of its own holds (a class token) stands under its own name.

    `stem` comes before the first block, `neck` between the last block and the head (a last norm, a pooling with parameters).
    """

    stem: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]
    neck: tuple[str, ...]
    head: tuple[str, ...]

    def part_of(self, path: str) -> str:
        """stem, block N, neck or head; empty for a layer that spans several."""
        for name, paths in self.items():
            if any(inside(path, p) for p in paths):
                return name
        return ""

    def items(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(name, paths) of every part, in order."""
        yield "stem", self.stem
        for i, paths in enumerate(self.blocks):
            yield f"block {i}", paths
        yield "neck", self.neck
        yield "head", self.head


def inside(path: str, above: str) -> bool:
    """Whether a layer is another one, or lies in it."""
    return path == above or above == "" or path.startswith(above + ".")


def find_parts(network: nn.Module, seen: Trace, head: Sequence[str]) -> Parts:
    """The parts of a network that `seen` was traced on, with its output layers at the paths `head`."""
    groups = _given_groups(network) or [[path] for path in _alike(network, "")]
    taken = [[p for p in group if not any(inside(p, h) or inside(h, p) for h in head)] for group in groups]
    blocks = [group for group in taken if group and any(p in seen.calls for p in group)]
    blocks.sort(key=lambda group: min(seen.first(p) for p in group))
    return _around(network, seen, blocks, [h for h in head if h])


def _around(network: nn.Module, seen: Trace, blocks: list[list[str]], head: list[str]) -> Parts:
    """What lies before and after the blocks, as the topmost layers with parameters that are in no block."""
    held = [p for group in blocks for p in group]
    start = min((seen.first(p) for p in held), default=0)
    stem: list[str] = []
    neck: list[str] = []
    for path in _topmost(network, "", [*held, *head]):
        # what is never called (a table of positions that the network reads by itself) comes in at the beginning
        called = any(inside(c, path) for c in seen.calls if c)
        (stem if seen.first(path) < start or not called else neck).append(path)
    # parameters of no layer of their own (a class token, positions) come in at the beginning
    stem += _loose(network, [*held, *head, *stem, *neck])
    order = lambda paths: tuple(sorted(paths, key=seen.first))
    if not blocks:
        # nothing repeats: all that is not the head is one block
        return Parts((), (order([*stem, *neck]),) if stem or neck else (), (), tuple(head))
    # what runs between two blocks goes with the block after it
    ends = [(min(seen.first(p) for p in g), i) for i, g in enumerate(blocks)]
    last = max((seen.calls[p][-1].order for g in blocks for p in g if p in seen.calls), default=0)
    own = [list(g) for g in blocks]
    rest: list[str] = []
    for path in neck:
        at = seen.first(path)
        if at > last:
            rest.append(path)
        else:
            after = next((i for first, i in ends if first > at), len(own) - 1)
            own[after].append(path)
    return Parts(order(stem), tuple(order(g) for g in own), order(rest), tuple(head))


def _topmost(network: nn.Module, path: str, held: Sequence[str]) -> list[str]:
    """The topmost layers with parameters or statistics that hold none of the paths `held` and are in none of them."""
    module = network.get_submodule(path)
    if any(inside(path, p) for p in held if p) and path:
        return []
    if path and not any(inside(p, path) for p in held):
        return [path] if any(True for _ in module.parameters()) or any(True for _ in module.buffers()) else []
    found: list[str] = []
    for name, _ in module.named_children():
        found += _topmost(network, f"{path}.{name}" if path else name, held)
    return found


def _loose(network: nn.Module, held: Sequence[str]) -> list[str]:
    names = [name for name, _ in [*network.named_parameters(), *network.named_buffers()]]
    return [name for name in names if not any(inside(name, p) for p in held)]


def _given_groups(network: nn.Module) -> list[list[str]]:
    """timm's own grouping for layer-wise learning rates: its groups without the first and the last, as topmost paths."""
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        return []
    try:
        from timm.models import group_parameters  # pyright: ignore[reportPrivateImportUsage]

        groups: dict[int, list[str]] = group_parameters(network, matcher(coarse=False))
    except Exception:  # a grouping that does not fit its own network is no grouping
        return []
    ordered = [groups[k] for k in sorted(groups)]
    owner = {name: k for k, names in enumerate(ordered) for name in names}
    out: list[list[str]] = [[] for _ in ordered]
    _assign(network, "", owner, out)
    # the first is the stem; a group of plain layers alone is what stands before the head, and so are those of the last one
    composite = {p for paths in out for p in paths if _is_composite(network.get_submodule(p))}
    blocks = [paths for paths in out[1:] if any(p in composite for p in paths)]
    return [*blocks[:-1], *([p for p in paths if p in composite] for paths in blocks[-1:])]


def _assign(network: nn.Module, path: str, owner: dict[str, int], out: list[list[str]]) -> None:
    """Give each topmost layer whose parameters are all of one group to that group."""
    module = network.get_submodule(path)
    names = [f"{path}.{n}" if path else n for n, _ in module.named_parameters()]
    groups = {owner[n] for n in names if n in owner}
    if path and len(groups) == 1 and not (isinstance(module, CONTAINERS) and len(list(module.children())) > 1 and not _leafy(module)):
        out[groups.pop()].append(path)
        return
    for name, _ in module.named_children():
        _assign(network, f"{path}.{name}" if path else name, owner, out)


def _leafy(module: nn.Module) -> bool:
    """Whether a container holds plain layers only."""
    return not any(_is_composite(child) for child in module.children())


def _is_composite(module: nn.Module) -> bool:
    """A layer made of several layers with parameters."""
    return sum(any(True for _ in m.parameters(recurse=False)) for m in module.modules()) > 1


def _alike(network: nn.Module, path: str) -> list[str]:
    """Composite children of the outermost containers that hold mostly those: a plain layer may stand between two blocks."""
    module = network.get_submodule(path)
    children = [(f"{path}.{name}" if path else name, child) for name, child in module.named_children()]
    composite = [(name, child) for name, child in children if _is_composite(child)]
    mostly = len(composite) == len(children) or len(composite) > max(1, len(children) // 2)
    if isinstance(module, CONTAINERS) and composite and mostly:
        if all(isinstance(c, CONTAINERS) for _, c in composite):
            return [p for name, _ in composite for p in _alike(network, name) or [name]]
        return [name for name, _ in composite]
    return [p for name, _ in children for p in _alike(network, name)]
