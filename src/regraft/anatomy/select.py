"""Choosing layers in words: paths, globs, ranges, kinds, and the names of parts.

    blocks.3.attn          a layer, with everything in it
    blocks.*.attn          a glob: * stands for one name, ** for any number of names
    blocks.8-11            a range of numbers
    kind:BatchNorm2d       every layer of that class, or of one derived from it
    stem, blocks, neck, head, norms, all
    last 2 blocks, first 3 blocks, last 30%
    -blocks.3              takes away again; later items change earlier ones

A word that names no part of this network is the name of a layer. Items are parted by commas. "last N blocks" holds the neck too:
what stands between the last block and the head follows the last block (but it stays when blocks are removed). "last 30%" is so many
of the blocks, rounded up.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from regraft.anatomy.parts import Parts
from regraft.errors import UsageError, nearest

WORDS = ("all", "stem", "blocks", "neck", "head", "norms")

_COUNTED = re.compile(r"(first|last)\s+(\d{1,9})\s*(blocks?|%)$")
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})$")

LONGEST = 10_000
"""Characters of one selection at most."""

SHOWN = 10
"""Selections that mean nothing which a message names at most."""


@dataclass(frozen=True)
class Selected:
    """Topmost paths of what was chosen, in the network's order; each stands for everything in it."""

    paths: tuple[str, ...]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.paths)

    def __contains__(self, path: str) -> bool:
        # what lies above a layer is looked up, for a network has a thousand of them, and so may a selection
        while path and path not in self._known:
            path = path.rpartition(".")[0]
        return path in self._known or "" in self._known

    def parameters(self, network: nn.Module) -> list[str]:
        """The names of all parameters inside."""
        return [name for name, _ in network.named_parameters(remove_duplicate=False) if name in self]


def is_norm(module: nn.Module) -> bool:
    """Whether a layer normalises: PyTorch's own kinds, and what libraries call ...Norm... and gives each channel a scale."""
    kinds = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    named = "norm" in type(module).__name__.lower() and not list(module.children())
    return isinstance(module, kinds) or (named and any(p.ndim == 1 for p in module.parameters(recurse=False)))


def select(network: nn.Module, parts: Parts, text: str | Sequence[str]) -> Selected:
    """The layers that `text` means. UsageError names every item that means nothing here, with the nearest names."""
    items = [i.strip() for part in ([text] if isinstance(text, str) else text) for i in part.split(",") if i.strip()]
    if sum(map(len, items)) > LONGEST:
        raise UsageError(f"a selection of {sum(map(len, items)):,} characters", expected=f"at most {LONGEST:,}")
    names = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    every = _every(network)
    chosen: set[str] = set()
    faults: list[str] = []
    for item in items:
        away, item = item.startswith("-"), item.removeprefix("-").strip()
        found = _meant(network, parts, item, every)
        if not found:
            faults.append(f"{item!r} chooses no layer. {_hint(network, item, names)}".rstrip())
        chosen = _without(chosen, found, every) if away else chosen | set(found)
    if faults:
        shown = faults if len(faults) <= SHOWN else [*faults[:SHOWN], f"and {len(faults) - SHOWN} more"]
        raise UsageError(faults[0]) if len(faults) == 1 else UsageError(f"{len(faults)} selections mean nothing here", faults=shown)
    if not chosen:
        told = f"{', '.join(items)!r} leaves no layer" if items else "no layer is chosen"
        raise UsageError(told, expected="such as head, last 2 blocks, blocks.*.attn")
    return Selected(_topmost(chosen, every))


def joined(network: nn.Module, *choices: Selected) -> Selected:
    """Everything that is in one of them."""
    return Selected(_topmost({p for choice in choices for p in choice.paths}, _every(network)))


def without(network: nn.Module, chosen: Selected, gone: Selected) -> Selected:
    """What is left of a choice; tied parameters go under all their names."""
    named = list(network.named_parameters(remove_duplicate=False))
    tied = {id(p) for name, p in named if name in gone}
    every = _every(network)
    return Selected(_topmost(_without(set(chosen.paths), [*gone.paths, *(n for n, p in named if id(p) in tied)], every), every))


def _every(network: nn.Module) -> list[str]:
    names = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    return [*names, *(n for n, _ in network.named_parameters(remove_duplicate=False))]


def _hint(network: nn.Module, item: str, names: Sequence[str]) -> str:
    if item.startswith("kind:"):
        kinds = list(dict.fromkeys(type(m).__name__ for m in network.modules()))
        close = nearest(f"kind:{item[5:].strip()}", [f"kind:{k}" for k in kinds])
        return close or f"kinds are {', '.join(kinds[:12])}"
    if item.lower() in WORDS:
        return f"this network has no {item.lower()} of its own"
    close = nearest(item, [*WORDS, *names])
    return close or f"layers begin with {', '.join(dict.fromkeys(n.split('.')[0] for n in names))}"


def _meant(network: nn.Module, parts: Parts, item: str, every: Sequence[str]) -> list[str]:
    lower = " ".join(item.lower().split())
    if lower in ("all", "*", "**"):
        return [n for n in every if "." not in n]
    words = {"stem": parts.stem, "blocks": [p for block in parts.blocks for p in block], "neck": parts.neck, "head": parts.head}
    if words.get(lower):
        return list(words[lower])
    if lower == "norms":
        return [n for n, m in network.named_modules() if n and is_norm(m)]
    if counted := _COUNTED.match(lower):
        return _counted(parts, counted[1], int(counted[2]), counted[3])
    if item.startswith("kind:"):
        return [n for n, m in network.named_modules() if n and item[5:].strip() in [t.__name__ for t in type(m).__mro__]]
    pattern = [_matcher(word) for word in item.split(".")]
    return [n for n in every if _matches(n.split("."), pattern)]


def _counted(parts: Parts, end: str, count: int, unit: str) -> list[str]:
    total = len(parts.blocks)
    if unit == "%":
        if not 1 <= count <= 100:
            raise UsageError(f"{end} {count}%", expected="1 to 100 %")
        count = math.ceil(total * count / 100)
    if count > total or count < 1:
        raise UsageError(f"{end} {count} blocks: the network has {total}", expected=f"1 to {total}")
    if end == "first":
        return [p for block in parts.blocks[:count] for p in block]
    return [*(p for block in parts.blocks[total - count :] for p in block), *parts.neck]


def _matcher(word: str) -> str | tuple[int, int]:
    found = _RANGE.match(word)
    return (int(found[1]), int(found[2])) if found else word


def _matches(names: Sequence[str], pattern: Sequence[str | tuple[int, int]]) -> bool:
    """Whether names match a pattern word by word; ** stands for any number of names. Linear in names times words."""
    reach = {0}
    for word in pattern:
        if word == "**":
            reach = set(range(min(reach), len(names) + 1)) if reach else reach
            continue
        reach = {i + 1 for i in reach if i < len(names) and _fits(names[i], word)}
        if not reach:
            return False
    return len(names) in reach


def _fits(name: str, word: str | tuple[int, int]) -> bool:
    if isinstance(word, tuple):
        return name.isascii() and name.isdigit() and word[0] <= int(name) <= word[1]
    return fnmatch.fnmatchcase(name, word)


def _without(chosen: set[str], gone: Sequence[str], every: Sequence[str]) -> set[str]:
    """What is left of a choice: layers above something that goes are taken apart."""
    left: set[str] = set()
    todo, away = list(chosen), Selected(tuple(gone))
    above = {g[:i] for g in gone for i, letter in enumerate(g) if letter == "."}
    while todo:
        path = todo.pop()
        if path in away:
            continue
        if path in above:
            todo += [n for n in every if n.startswith(path + ".") and "." not in n[len(path) + 1 :]]
        else:
            left.add(path)
    return left


def _topmost(chosen: set[str], every: Sequence[str]) -> tuple[str, ...]:
    order = {name: i for i, name in enumerate(every)}
    kept = [p for p in chosen if not any(p[:i] in chosen for i, letter in enumerate(p) if letter == ".")]
    return tuple(sorted(kept, key=lambda p: order.get(p, 0)))
