"""remove: a block, a stage, the old head, or everything after a point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from regraft.anatomy.operations.base import Edit, Operation, take_out, whole
from regraft.anatomy.parts import inside
from regraft.errors import UsageError


def apply(edit: Edit, *, path: str | None = None, after: str | None = None) -> Sequence[Callable[[Edit], None]]:
    """Take layers out: from their container where they stand in one, else an identity in their place."""
    if (path is None) == (after is None):
        raise UsageError("remove takes a path, or after=PATH", expected="remove: layer4, or after: layer3")
    # a last norm can follow another block; a last convolution that cannot goes with the blocks before it
    ways = [_meant(edit, path), edit.paths(path)] if path is not None else [_later(edit, str(after))]
    attempts: list[Callable[[Edit], None]] = []
    for gone in (whole(edit.network, way) for way in (ways if ways[0] != ways[-1] else ways[:1])):
        left = [name for name, _ in edit.network.named_parameters() if not any(inside(name, p) for p in gone)]
        if "" in gone or not left:
            raise UsageError("the whole network cannot be removed", expected="layers of which others are left")
        attempts += [partial(take_out, gone=gone, from_containers=kept) for kept in (True, False)]
    return attempts


def _meant(edit: Edit, text: str) -> list[str]:
    """What a selection means; in "last 2 blocks" the neck, which trains with the last block, stays where it can."""
    found = edit.paths(text)
    if "last " not in text.lower():
        return found
    others = [i.strip() for i in text.split(",") if i.strip() and not i.strip().lower().startswith("last ")]
    named = [p for i in others for p in edit.selected(i.removeprefix("-").strip())]
    return [p for p in found if p not in edit.parts.neck or p in named]


def _later(edit: Edit, text: str) -> list[str]:
    """Everything between a layer's part and the head."""
    point = edit.one(text)
    order = [(name, paths) for name, paths in edit.parts.items() if name != "head"]
    holds = [i for i, (_, paths) in enumerate(order) if any(inside(p, point) or inside(point, p) for p in paths)]
    later = [p for _, paths in order[max(holds, default=len(order)) + 1 :] for p in paths]
    if not later:
        raise UsageError(f"nothing lies between {point!r} and the head")
    return later


OPERATION = Operation("remove", "take layers out", (), {"path": None, "after": None}, apply)
