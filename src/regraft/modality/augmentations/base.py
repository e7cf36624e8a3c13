"""The record that every augmentation fills in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Amounts = Mapping[str, float]
"""How much is changed, by names of what."""


def as_it_is(preprocessing: Mapping[str, Any]) -> Mapping[str, Any]:
    """`prepared_by` of an augmentation after which examples are prepared as usual."""
    return preprocessing


@dataclass(frozen=True)
class Augmentation:
    """One change by chance.

    name         what `--augment` calls it
    task         the modality it belongs to
    about        what it does, in a sentence
    amounts      how much, as numbers
    decoded      (what the modality's `decode` gives, chance, amounts, preprocessing) -> the same kind of thing
    windows      (one window's arrays, chance, amounts, preprocessing) -> arrays of the same shapes and dtypes
    prepared_by  preprocessing -> the preprocessing that a changed example is prepared by
    for_certain  the amounts by which it always changes an example, for an augmentation that can change what an example is: whether it
                 does is found out on held-out examples. None: it never does
    version      raised when it would give something else from the same amounts
    """

    name: str
    task: str
    about: str
    amounts: Amounts
    decoded: Callable[[Any, np.random.Generator, Amounts, Mapping[str, Any]], Any] | None = None
    windows: Callable[[Mapping[str, np.ndarray], np.random.Generator, Amounts, Mapping[str, Any]], Mapping[str, np.ndarray]] | None = None
    prepared_by: Callable[[Mapping[str, Any]], Mapping[str, Any]] = field(default=as_it_is)
    for_certain: Amounts | None = None
    version: int = 1

    def to_json(self) -> dict[str, Any]:
        """Plain data: everything that can change what it does."""
        return {"name": self.name, "version": self.version, **self.amounts}
