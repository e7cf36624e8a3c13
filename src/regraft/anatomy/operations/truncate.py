"""truncate: the network ends after one of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from regraft.anatomy.operations.base import Edit, Operation, take_out, whole
from regraft.anatomy.parts import Parts, inside
from regraft.anatomy.trace import Shape
from regraft.errors import UsageError


class Mean(nn.Module):
    """The mean over everything but examples and channels: maps (n, c, h, w) or (n, h, w, c), tokens (n, tokens, c)."""

    def __init__(self, over: Sequence[int]) -> None:
        super().__init__()
        self.over = tuple(over)

    def forward(self, x: Tensor) -> Tensor:
        return torch.mean(x, self.over)


def apply(edit: Edit, *, after: str) -> Sequence[Callable[[Edit], None]]:
    """Take out the blocks behind the one that ends at `after`. What stands between the blocks and the head (a last norm, a last
    convolution, a pooling) stays where the block gives as many channels as the last one gave, and goes where it does not; a pooling
    that goes leaves a mean in its place.

    To keep the last norm is what DINO does with earlier layers of a ViT (Caron et al. 2021, `get_intermediate_layers`).
    """
    blocks, neck = edit.parts.blocks, [p for p in edit.parts.neck if p in edit.seen.calls]
    last = block_at(edit.parts, edit.paths(after), after)
    later = [path for paths in blocks[last + 1 :] for path in paths]
    if not later:
        raise UsageError(f"{after!r} is the last block: nothing would be cut off", move="leave it away")
    fits = _channels(_given(edit, blocks[last])) == _channels(_given(edit, blocks[-1]))
    attempts: list[Callable[[Edit], None]] = []
    for gone in ([], neck) if fits else (neck, []):
        pooled = [p for p in gone if len(edit.came(p)) > 2 and len(edit.went(p)) == 2]
        paths = whole(edit.network, [p for p in (*later, *gone) if p not in pooled])
        attempts += [partial(_end, gone=paths, pooled=pooled, from_containers=kept) for kept in (True, False)]
    return attempts


def block_at(parts: Parts, paths: Sequence[str], text: str) -> int:
    """The number of the last block that some layers reach to the end of; UsageError when they end inside a block, or in none."""
    ends = [i for i, block in enumerate(parts.blocks) if any(inside(b, p) for b in block for p in paths)]
    if ends:
        return ends[-1]
    around = [block_name(block) for block in parts.blocks if any(inside(p, b) for b in block for p in paths)]
    if around:
        raise UsageError(f"{text!r} lies inside a block", expected=f"its end: {around[-1]}")
    names = [block_name(block) for block in parts.blocks]
    raise UsageError(f"{text!r} is no block of the network", expected=f"one of {_shown(names)}" if names else "a network with blocks")


def block_name(block: Sequence[str]) -> str:
    """What a block is called: its last layer."""
    return block[-1]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else ", ".join([*names[:4], "...", *names[-2:]])


def _given(edit: Edit, block: Sequence[str]) -> Shape:
    """The shape that a block gives."""
    called = [p for p in block if p in edit.seen.calls]
    return edit.went(max(called, key=lambda p: edit.seen.calls[p][-1].order) if called else block[-1])


def _channels(shape: Shape) -> int:
    return shape[-1] if _is_last(shape) else shape[1]


def _is_last(shape: Shape) -> bool:
    """Whether channels are the last dimension: of tokens, and of maps (n, h, w, c)."""
    return len(shape) < 4 or shape[1] == shape[2] != shape[3]


def _end(edit: Edit, gone: Sequence[str], pooled: Sequence[str], *, from_containers: bool) -> None:
    take_out(edit, gone, from_containers=from_containers)
    for path in pooled:
        shape = edit.came(path)
        edit.put(path, Mean(range(1, len(shape) - 1) if _is_last(shape) else range(2, len(shape))))


OPERATION = Operation("truncate", "end the network after a block", ("after",), {}, apply)
