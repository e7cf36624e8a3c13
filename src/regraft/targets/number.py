"""A number."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regraft.errors import DataError
from regraft.evaluation.numbers import figures, half_width
from regraft.facts import Figure, NumberPrediction
from regraft.targets.base import Found, Strata, Target, Unusable, Wanted, named, number_in

LEVEL = 0.9
"""The part of new examples that a prediction's interval is to hold."""

BINS = 10
"""Parts by size that folds spread evenly."""

LARGEST = 1e15
"""Larger values (by size) are not told apart well in float32 and float64; nearly always they are a mistake."""


def is_measured(cells: Sequence[str]) -> bool:
    """Whether labels are numbers of a measurement rather than classes: fractions, or very many distinct whole numbers.

    A few that are no finite numbers (one in twenty) do not hide it: they are left out later, by name.
    """
    numbers = [n for c in cells if (n := number_in(c)) is not None]
    if not cells or len(numbers) < 0.95 * len(cells):
        return False
    distinct = {n for n in numbers if math.isfinite(n)}
    whole = all(n == int(n) for n in distinct)
    return len(distinct) > 20 and (not whole or len(distinct) > max(100, len(numbers) // 10))


@dataclass(frozen=True)
class Number(Target):
    """Least squares: the output is the value, a decision (n, 2) is a value and the half-width of its interval.

    `mean` and `median` are the training part's; `half_width` is learnt from out-of-fold errors.
    """

    mean: float = 0.0
    median: float = 0.0
    half_width: float = math.inf
    low: float = 0.0
    high: float = 0.0

    name = "number"
    about = "a number"
    loss = "squared"
    metrics = ("mae", "rmse", "r2")
    compared = "mae"
    cell_names = ("value", "predicted", "low", "high")

    @classmethod
    def looks_like(cls, cells: Sequence[str], wanted: Wanted) -> Found | None:
        if not is_measured(cells):
            return None
        return Found(
            cls, named(wanted, cls.name), f"target: a number, {len(set(cells)):,} different ones (--target class takes them as names)"
        )

    @classmethod
    def learn(cls, cells: Sequence[str], wanted: Wanted) -> Number:
        values = [v for c in cells if (v := _value(c)) is not None]
        if not values:
            raise DataError("no example has a finite number as label", expected="numbers such as 3 or 0.25", move="--target class")
        if len(values) < 2 or min(values) == max(values):
            raise DataError(f"every label is {values[0]:g}", expected="at least two different numbers")
        array = np.array(values)
        return cls([wanted.column], float(array.mean()), float(np.median(array)), low=min(values), high=max(values))

    def encode(self, cell: str) -> float:
        value = _value(cell)
        if value is None:
            found = number_in(cell)
            if not cell:
                raise Unusable("the label is missing")
            if found is None:
                raise Unusable(f"its label {cell[:40]!r} is not a number")
            raise Unusable(
                f"its label {cell[:40]} is not a finite number" if not math.isfinite(found) else f"its label {cell[:40]} is too large"
            )
        return value

    def array(self, values: Sequence[float]) -> np.ndarray:
        return np.array(values, np.float64)

    def spread(self, y: np.ndarray) -> dict[str, float]:
        names = ("least", "first quarter", "median", "third quarter", "largest")
        return {**dict(zip(names, np.quantile(y, [0, 0.25, 0.5, 0.75, 1]).tolist(), strict=True)), "mean": float(y.mean())}

    def described(self, cells: Sequence[str]) -> str:
        return f"with a number ({self.low:g} to {self.high:g})"

    def check(self, y: np.ndarray) -> None:
        if len(y) < 2 or y.min() == y.max():
            raise DataError("the usable examples have one value only", expected="at least two different numbers")

    def strata(self, y: np.ndarray) -> Strata:
        bins = max(1, min(BINS, len(y) // 10))
        edges = np.quantile(y, np.linspace(0, 1, bins + 1)[1:-1])
        # the second is the same for all: a bin that one group fills can be held out too, unlike a class that nobody else has
        return [(int(b), BINS) for b in np.searchsorted(edges, y, side="right")]

    def link(self, scores: np.ndarray) -> np.ndarray:
        return scores.astype(np.float32)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        values = outputs[:, 0].astype(np.float64)
        return np.stack([values, np.full(len(values), self.half_width)], 1)

    def decide_out_of_fold(self, y: np.ndarray, outputs: np.ndarray, folds: np.ndarray) -> np.ndarray:
        decided = self.decide(outputs)
        errors = y - decided[:, 0]
        for f in np.unique(folds):
            others = folds != f
            if others.any():
                decided[~others, 1] = half_width(errors[others], LEVEL)
        return decided

    def settle(self, y: np.ndarray, outputs: np.ndarray, columns: Any = slice(None)) -> Number:
        held = ~np.isnan(outputs).any(1)
        return replace(self, half_width=half_width(y[held] - outputs[held, 0].astype(np.float64), LEVEL))

    def readable(self, outputs: np.ndarray) -> np.ndarray:
        return outputs.astype(np.float64)

    def score(self, metric: str, y: np.ndarray, plain: np.ndarray) -> float:
        return float(self.gains(metric, y, plain).mean())

    def value(self, metric: str, y: np.ndarray, outputs: np.ndarray, plain: np.ndarray) -> float:
        worse = -self.score(metric, y, plain)
        if metric == "mae":
            return worse
        return math.sqrt(worse) if metric == "rmse" else 1 - worse / max(float(y.var()), 1e-300)

    def gains(self, metric: str, y: np.ndarray, decided: np.ndarray) -> np.ndarray:
        errors = y - (decided if decided.ndim == 1 else decided[:, 0])
        return -np.abs(errors) if metric == "mae" else -(errors**2)

    def figures(self, y: np.ndarray, outputs: np.ndarray, decided: np.ndarray) -> dict[str, Figure]:
        return figures(y, decided[:, 0], decided[:, 1])

    def constant(self, y: np.ndarray) -> dict[str, Any]:
        errors = {"mae": self.median, "rmse": self.mean, "r2": self.mean}
        wide = np.full(len(y), math.inf)
        found = {name: figures(y, np.full(len(y), says), wide).get(name) for name, says in errors.items()}
        return {"says": f"{self.mean:.6g}", "metrics": {k: f.to_json() for k, f in found.items() if f is not None}}

    def details(self, y: np.ndarray, outputs: np.ndarray, decided: np.ndarray) -> dict[str, Any]:
        return {"interval": {"level": LEVEL, "half_width": self.half_width}} if math.isfinite(self.half_width) else {}

    def difference(self, gain: Figure) -> str:
        better = "less" if gain.value >= 0 else "more"
        return f"{abs(gain.value):.3g} {better} mean absolute error ({gain.low:+.3g} to {gain.high:+.3g}, above zero is better)"

    def prediction(self, name: str, outputs: np.ndarray) -> NumberPrediction:
        value = float(outputs[0])
        return NumberPrediction(name, value, value - self.half_width, value + self.half_width)

    def columns(self) -> list[str]:
        return ["value", "low", "high"]

    def cells(self, outputs: np.ndarray, decided: Any, truth: Any) -> list[str]:
        if np.isnan(outputs).any():
            return [f"{truth:.9g}", "", "", ""]
        value, half = float(decided[0]), float(decided[1])
        return [f"{v:.9g}" for v in (truth, value, value - half, value + half)]

    def read_cells(self, cells: Sequence[str]) -> tuple[float, float | None]:
        return float(cells[0]), float(cells[1]) if cells[1] else None

    def off(self, cells: Sequence[str]) -> float | None:
        """The distance between the two, where the value lies outside of the interval."""
        if not cells[1]:
            return None
        value, said, low, high = map(float, cells)
        return 0.0 if low <= value <= high else abs(said - value)

    def in_words(self) -> str:
        return (
            f"the score is the value, in the unit of the labels; the value less and plus half_width should hold {LEVEL:.0%} of new examples"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.name,
            "mean": self.mean,
            "median": self.median,
            "half_width": self.half_width,
            "low": self.low,
            "high": self.high,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], outputs: list[str]) -> Number:
        keys = ("mean", "median", "half_width", "low", "high")
        held = [v for k in keys if (v := _usable(values.get(k))) is not None]
        if len(held) < len(keys) or len(outputs) != 1 or held[2] < 0 or held[3] > held[4]:
            raise ValueError(f"its target must have one output and finite numbers {', '.join(keys)}, none of them out of place")
        return cls(outputs, *held)


def _usable(value: Any) -> float | None:
    # (compared before it is converted: a whole number can be too large for that)
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if known and -sys.float_info.max <= value <= sys.float_info.max else None


def _value(cell: str) -> float | None:
    """The finite number in a label, or None."""
    found = number_in(cell)
    return found if found is not None and math.isfinite(found) and abs(found) <= LARGEST else None
