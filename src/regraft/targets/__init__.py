"""targets: what is predicted: one class, several labels, or a number. One file, one kind each.

In: label cells as text, and what a network's outputs say.     Out: values to learn, decisions, figures, predictions.
Never: reads data, trains, or imports PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.targets.base import Found, Target, Wanted
from regraft.targets.classes import Classes
from regraft.targets.labels import Labels
from regraft.targets.number import Number

TARGETS: dict[str, type[Target]] = {t.name: t for t in (Labels, Number, Classes)}
"""Kinds of targets, in the order in which they are asked whether the labels look like theirs."""

__all__ = ["TARGETS", "Found", "Target", "Wanted", "find_target", "target_from_json"]


def find_target(cells: Sequence[str], wanted: Wanted) -> Found:
    """The kind that was asked for, or the first that the labels look like, and how that was found."""
    if wanted.name is not None:
        return Found(TARGETS[wanted.name], TARGETS[wanted.name].settle_wanted(cells, wanted), "")
    for kind in TARGETS.values():
        if found := kind.looks_like(cells, wanted):
            return found
    raise AssertionError("the last kind takes any labels")


def target_from_json(values: Mapping[str, Any], outputs: Sequence[str]) -> Target:
    """A target as a bundle keeps it; ValueError says what is wrong with it."""
    kind = TARGETS.get(str(values.get("kind")))
    if kind is None:
        raise ValueError(f"its target is {values.get('kind')!r}; this regraft knows {', '.join(TARGETS)}")
    return kind.from_json(values, list(outputs))
