"""anatomy: the body of a network: its layers seen, selected by path, frozen, removed, replaced, inserted.

In: a torch module and one example batch.     Out: facts about its layers, or a changed copy with a record of what changed.
Never: trains, reads weights from a file, or changes the module that it was given.
"""

from __future__ import annotations

from regraft.anatomy.build import build_network, described
from regraft.anatomy.layers import freeze, layer_at, replace_layer
from regraft.anatomy.net import Net, look_at

__all__ = ["Net", "build_network", "described", "freeze", "layer_at", "look_at", "replace_layer"]
