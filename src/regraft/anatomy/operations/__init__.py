"""operations: ways to change a network. One file, one record each (append stands beside insert: it is one).

In: an Edit and the arguments of a step.     Out: ways to change its copy, the first of which that runs is kept.
Never: changes the network that it was given, or decides what trains.
"""

from __future__ import annotations

from regraft.anatomy.operations import insert, lora, reinit, remove, replace, resize, truncate
from regraft.anatomy.operations.base import Edit, Operation

OPERATIONS: dict[str, Operation] = {
    o.name: o
    for o in (
        remove.OPERATION,
        replace.OPERATION,
        insert.OPERATION,
        insert.APPEND,
        reinit.OPERATION,
        resize.OPERATION,
        lora.OPERATION,
        truncate.OPERATION,
    )
}

__all__ = ["OPERATIONS", "Edit", "Operation"]
