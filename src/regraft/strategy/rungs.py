"""Ways to train, as values. One plain reader per field; a rung is not a class or a script."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """One way to train. `trains` says which layers; `how` what a person should know."""

    name: str
    trains: tuple[str, ...]
    how: str


RUNGS: dict[str, Rung] = {
    "head": Rung(
        "head",
        ("head",),
        "everything is frozen; a new output layer is fitted to the network's features by logistic regression",
    ),
}
