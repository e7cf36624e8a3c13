"""The record that every kind of target fills in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, TypeGuard

import numpy as np

from regraft.facts import AnyPrediction, Figure

Strata = Sequence[tuple[int, ...]]
"""Of each example the numbers of the groups that folds should spread evenly."""


class Unusable(ValueError):
    """A label that this target cannot take; the message says why."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for: the kind's name or None, what parts several labels in one cell, and the label column's name."""

    name: str | None = None
    separator: str | None = None
    column: str = "value"


@dataclass(frozen=True)
class Found:
    """A kind that labels look like, with what it needs to read them, and a sentence that says how it was found."""

    kind: type[Target]
    wanted: Wanted
    said: str


@dataclass(frozen=True)
class Target(ABC):
    """What is predicted, once the training labels are known.

    `outputs` are the names of the network's outputs, in order. Arrays of targets `y` are (n,) int64 for one class, (n, k) bool
    for several labels, (n,) float64 for a number. What a network's output layer gives are *scores* (n, outputs); `link` makes
    *outputs* of them (log-probabilities, log-odds, the value), and `decide` makes *decisions* of those.
    """

    outputs: list[str]

    name: ClassVar[str]
    about: ClassVar[str]
    loss: ClassVar[str]
    """The name of the convex loss that fits an output layer for it."""
    metrics: ClassVar[tuple[str, ...]]
    """What choices can be made by; the first is the usual one."""
    compared: ClassVar[str]
    """The name of what `gains` measures, as the result's key."""

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The place of each output."""
        return {name: i for i, name in enumerate(self.outputs)}

    # ------------------------------------------------------------ reading labels

    @classmethod
    @abstractmethod
    def looks_like(cls, cells: Sequence[str], wanted: Wanted) -> Found | None:
        """Whether labels as text look like this kind."""

    @classmethod
    def settle_wanted(cls, cells: Sequence[str], wanted: Wanted) -> Wanted:
        """What reading them needs, when this kind was asked for."""
        return wanted

    @classmethod
    @abstractmethod
    def learn(cls, cells: Sequence[str], wanted: Wanted) -> Target:
        """The target of these training labels; DataError when nothing can be learnt from them."""

    @abstractmethod
    def encode(self, cell: str) -> Any:
        """A label's value; Unusable when it has none."""

    @abstractmethod
    def array(self, values: Sequence[Any]) -> np.ndarray:
        """Values as an array y."""

    @abstractmethod
    def spread(self, y: np.ndarray) -> dict[str, float]:
        """What these targets are, counted or measured, as plain data."""

    def strangers(self, cells: Sequence[str]) -> dict[str, int]:
        """Names in these labels that the training labels did not have, counted."""
        return {}

    @abstractmethod
    def described(self, cells: Sequence[str]) -> str:
        """What is learnt, as it follows "200 images" in a sentence."""

    def remarks(self, cells: Sequence[str], *, balanced: bool) -> list[str]:
        """What a person should hear about the training labels."""
        return []

    @abstractmethod
    def check(self, y: np.ndarray) -> None:
        """DataError when the examples that are left cannot be learnt from."""

    @abstractmethod
    def strata(self, y: np.ndarray) -> Strata:
        """The groups that folds spread evenly."""

    # ------------------------------------------------------------ outputs and decisions

    @abstractmethod
    def link(self, scores: np.ndarray) -> np.ndarray:
        """Outputs (n, outputs) float32 of scores (n, outputs) float64."""

    @abstractmethod
    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Decisions of the target as it is."""

    def decide_out_of_fold(self, y: np.ndarray, outputs: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Decisions (n, ...) for cross-validated outputs: what `settle` would learn from them, learnt in the other folds."""
        return self.decide(outputs)

    def judgeable(self, apart: Mapping[int, int]) -> tuple[Target, Any]:
        """The part of the target that cross-validation can judge, and an index of its columns in y and outputs.

        `apart` counts for each stratum how many of its examples can stand on different sides.
        """
        return self, slice(None)

    def settle(self, y: np.ndarray, outputs: np.ndarray, columns: Any = slice(None)) -> Target:
        """The target with what it learns from all training examples and their out-of-fold outputs (thresholds, width of
        intervals). Rows that were never held out are NaN; `columns` are those of `judgeable`.
        """
        return self

    def unjudged(self, columns: Any) -> str:
        """A sentence for what `judgeable` took away, or nothing."""
        return ""

    @abstractmethod
    def readable(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs as people read them: probabilities, or the value."""

    # ------------------------------------------------------------ judging

    @abstractmethod
    def score(self, metric: str, y: np.ndarray, plain: np.ndarray) -> float:
        """What a choice is made by (higher is better), from plain decisions: argmax, log-odds above 0, the value."""

    def value(self, metric: str, y: np.ndarray, outputs: np.ndarray, plain: np.ndarray) -> float:
        """The metric itself, without an interval, of outputs and their plain decisions: for people, where `score` is for choices."""
        return self.score(metric, y, plain)

    @abstractmethod
    def gains(self, metric: str, y: np.ndarray, decided: np.ndarray) -> np.ndarray:
        """How good each decision is (n,) float64, for paired comparisons."""

    @abstractmethod
    def figures(self, y: np.ndarray, outputs: np.ndarray, decided: np.ndarray) -> dict[str, Figure]:
        """The usual figures, each with its 95 % interval."""

    @abstractmethod
    def constant(self, y: np.ndarray) -> dict[str, Any]:
        """The best that always says the same: `says`, and its `metrics`."""

    def details(self, y: np.ndarray, outputs: np.ndarray, decided: np.ndarray) -> dict[str, Any]:
        """What goes into a result beside the figures, as plain data."""
        return {}

    @abstractmethod
    def difference(self, gain: Figure) -> str:
        """A mean difference of `gains`, in words."""

    # ------------------------------------------------------------ shipping

    @abstractmethod
    def prediction(self, name: str, outputs: np.ndarray) -> AnyPrediction:
        """What a person gets for one input, from its outputs (outputs,)."""

    @abstractmethod
    def columns(self) -> list[str]:
        """The header of predictions in a CSV."""

    @abstractmethod
    def cells(self, outputs: np.ndarray, decided: Any, truth: Any) -> list[str]:
        """One out-of-fold example in a CSV: under `cell_names`."""

    cell_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def read_cells(self, cells: Sequence[str]) -> tuple[Any, Any | None]:
        """(truth, decision) of what `cells` wrote, as values for `array`; no decision where there is none. ValueError for other cells."""

    @abstractmethod
    def off(self, cells: Sequence[str]) -> float | None:
        """How wrong what `cells` wrote is, 0 for right; None where nothing was said of the example. ValueError for other cells."""

    @abstractmethod
    def in_words(self) -> str:
        """How a network's scores become a prediction, for people who do it elsewhere."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain data for the bundle, with the key `kind`; the outputs stand beside it."""

    @classmethod
    @abstractmethod
    def from_json(cls, values: Mapping[str, Any], outputs: list[str]) -> Target:
        """The target that `to_json` described; ValueError when it cannot be one."""


def lookalikes(names: Sequence[str]) -> list[list[str]]:
    """Names that differ in case or white space only, together."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[" ".join(name.split()).casefold()].append(name)
    return [same for same in alike.values() if len(same) > 1]


def lookalike_remarks(counts: Counter[str], noun: str) -> list[str]:
    """A sentence for names that are probably meant to be one."""
    same = lookalikes(list(counts))
    if not same:
        return []
    shown = "; ".join(" and ".join(f"{n!r} ({counts[n]})" for n in names) for names in same[:5])
    return [f"{noun} that differ in case or white space only are kept apart: {shown}"]


def named(wanted: Wanted, name: str) -> Wanted:
    """The same, with the kind's name."""
    return replace(wanted, name=name)


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a plain value is a number of examples."""
    return type(value) is int and 0 <= value < 2**53


def number_in(text: str) -> float | None:
    """The number in a text, or None; `nan` and `inf` are numbers here."""
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None
