"""What a check gets, and the record that every check fills in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from regraft.facts import Figure

if TYPE_CHECKING:
    from regraft.evaluation.trust.near_duplicates import NearDuplicates

SHOWN = 20
"""Entries of a list that a result holds and a screen shows at most; a table on request holds all."""


class HeldOut(Protocol):
    """What a linear layer said of held-out examples: as much of `Evidence` as curves and similarity need, which a plan has too."""

    @property
    def kind(self) -> str: ...
    @property
    def outputs(self) -> Sequence[str]: ...
    @property
    def rows(self) -> np.ndarray: ...
    @property
    def y(self) -> np.ndarray: ...
    @property
    def strata(self) -> np.ndarray: ...
    @property
    def folds(self) -> np.ndarray: ...
    @property
    def held(self) -> np.ndarray: ...
    @property
    def errors(self) -> Callable[[np.ndarray], np.ndarray]: ...
    @property
    def likely(self) -> Callable[[np.ndarray], np.ndarray]: ...
    @property
    def learn(self) -> Callable[[np.ndarray], np.ndarray]: ...


@dataclass(frozen=True)
class Evidence:
    """What there is to judge data by. n examples, m of them to learn from (`train` are their places among the n); k outputs.

    names, cells, sides   of all n: what each is called, its label as it stands in the data, `train` or `test`
    near                  near-duplicates among all n; its places are those of the n
    rows, y, folds        of the m: features (m, d), targets as the target has them, fold numbers (-1: never held out)
    kind, outputs         class, multilabel or number; the names of the outputs
    readable              held-out probabilities or values (m, k) of a linear layer on the features; NaN where nothing is held out
    errors                held-out outputs (m, k) -> how wrong each decision is, of those that are held out; 0 is right
    error_name            what that is, in words
    held, bare            held-out outputs (m, k) of the linear layer, and of the same without a network
    likely                probabilities or values (m, k), NaN where there are none -> outputs (m, k)
    learn                 places among the m -> held-out outputs (m, k) of a linear layer that learnt from these alone
    strata                of the m the class, or another group that parts of the data should have an equal part of
    earlier               what the best earlier depth gains over the last, and where it is; None where depths were not looked at
    nouns                 what is learnt from, such as "images"
    """

    names: Sequence[str]
    cells: Sequence[str]
    sides: Sequence[str]
    near: NearDuplicates
    rows: np.ndarray
    train: np.ndarray
    y: np.ndarray
    folds: np.ndarray
    kind: str
    outputs: Sequence[str]
    readable: np.ndarray
    errors: Callable[[np.ndarray], np.ndarray]
    error_name: str
    held: np.ndarray
    bare: np.ndarray
    likely: Callable[[np.ndarray], np.ndarray]
    learn: Callable[[np.ndarray], np.ndarray]
    strata: np.ndarray
    earlier: tuple[str, Figure] | None
    nouns: str


@dataclass(frozen=True)
class Listing:
    """A table as text: a header and rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Check:
    """One question about the data.

    look(evidence)      what was found, as plain data, and all of it as a table for a file (None: there is none)
    told(finding)       the same as people read it: lines and tables
    """

    name: str
    look: Callable[[Evidence], tuple[dict[str, Any], Listing | None]]
    told: Callable[[Mapping[str, Any]], list[str | Listing]]


def share(part: float, digits: int = 0) -> str:
    """A share in per cent."""
    return f"{part:.{digits}%}".replace("%", " %")
