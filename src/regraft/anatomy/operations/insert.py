"""insert: a new layer before or after another one; append: one more at the end of the head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from regraft.anatomy.operations.base import Edit, Operation, like
from regraft.anatomy.parts import CONTAINERS
from regraft.errors import UsageError


def apply(edit: Edit, *, layer: str | nn.Module, after: str | None = None, before: str | None = None) -> Sequence[Callable[[Edit], None]]:
    """In a container the new layer gets a name of its own; elsewhere both stand in a Sequential at the old path."""
    if (after is None) == (before is None):
        raise UsageError("insert takes after=PATH or before=PATH", expected="insert: {layer: Dropout(0.2), after: blocks.3}")
    at = edit.one(str(after if after is not None else before))
    new = edit.new_layer(layer, edit.went(at) if after is not None else edit.came(at))
    return [lambda e: _beside(e, at, new, after is not None), lambda e: _together(e, at, new, after is not None)]


def _beside(edit: Edit, at: str, new: nn.Module, after: bool) -> None:
    parent, name = edit.parent(at)
    if not isinstance(parent, CONTAINERS) or at in edit.head:
        _together(edit, at, new, after)
        return
    own = f"{name}_{'after' if after else 'before'}"
    while own in parent._modules:
        own += "_"
    new = like(new, parent._modules[name])
    edit.runs.append(new)
    order: dict[str, Any] = {}
    for key, module in parent._modules.items():
        pair = [(key, module), (own, new)] if after else [(own, new), (key, module)]
        order.update(pair if key == name else [(key, module)])
    parent._modules.clear()
    parent._modules.update(order)


def _together(edit: Edit, at: str, new: nn.Module, after: bool) -> None:
    parent, name = edit.parent(at)
    old = parent._modules[name]
    assert old is not None, at
    new = like(new, old)
    edit.runs.append(new)
    parent._modules[name] = nn.Sequential(*((old, new) if after else (new, old)))


def append(edit: Edit, *, layer: str | nn.Module) -> Sequence[Callable[[Edit], None]]:
    """One more layer after the head."""
    if len(edit.head) != 1:
        told = f"{len(edit.head)} heads ({', '.join(edit.head)})" if edit.head else "no head to append to"
        raise UsageError(f"the network has {told}", expected="insert with after=PATH")
    return apply(edit, layer=layer, after=edit.head[0])


OPERATION = Operation("insert", "add a layer before or after another one", ("layer",), {"after": None, "before": None}, apply)
APPEND = Operation("append", "add a layer at the end of the head", ("layer",), {}, append)
