"""replace: another layer in a layer's place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from regraft.anatomy.operations.base import Edit, Operation


def apply(edit: Edit, *, path: str, layer: str | nn.Module) -> Sequence[Callable[[Edit], None]]:
    """Put a new layer where another one was; its input size is what comes there."""
    at = edit.one(path)
    new = edit.new_layer(layer, edit.came(at))
    return [lambda e: e.put(at, new)]


OPERATION = Operation("replace", "put another layer in a layer's place", ("path", "layer"), {}, apply)
