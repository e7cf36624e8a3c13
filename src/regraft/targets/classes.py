"""One class of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regraft.data.base import natural
from regraft.errors import DataError
from regraft.evaluation.classes import SCORES, confusion_json, figures, wilson
from regraft.facts import Figure, Prediction
from regraft.strategy.rules import weak_spots
from regraft.targets.base import Found, Strata, Target, Unusable, Wanted, is_count, lookalike_remarks, named, number_in


@dataclass(frozen=True)
class Classes(Target):
    """Multinomial: outputs are log-probabilities, the decision is the most probable class. `counts` are the training part's."""

    counts: tuple[int, ...] = ()

    name = "class"
    about = "one class of several"
    loss = "softmax"
    metrics = ("accuracy", "balanced_accuracy", "f1_macro", "log_loss")
    compared = "accuracy"
    cell_names = ("label", "predicted", "probability", "probability_of_label")

    @classmethod
    def looks_like(cls, cells: Sequence[str], wanted: Wanted) -> Found:
        said = ""
        distinct = set(cells)
        if len(distinct) > 2 and all(number_in(c) is not None for c in distinct):
            said = f"target: class; the {len(distinct)} different numbers are taken as names (--target number predicts values)"
        return Found(cls, named(wanted, cls.name), said)

    @classmethod
    def learn(cls, cells: Sequence[str], wanted: Wanted) -> Classes:
        counts = Counter(c for c in cells if c)
        labels = sorted(counts, key=lambda name: (natural(name), name))
        if not labels:
            raise DataError(
                "no example has a label", expected="one sub-folder per class, or a label column", move="--label COLUMN for a table"
            )
        if len(labels) == 1:
            raise DataError(f"there is one class only: {labels[0]} ({counts[labels[0]]} examples)", expected="at least two classes")
        if max(counts.values()) == 1:
            raise DataError(
                f"each of the {len(labels)} classes has one example",
                expected="at least two examples of a class, to train on one and judge on the other",
                move="--target number if the labels are values" if all(number_in(c) is not None for c in labels) else "",
            )
        return cls(labels, tuple(counts[label] for label in labels))

    def encode(self, cell: str) -> int:
        if not cell:
            raise Unusable("the label is missing")
        if cell not in self._numbers:
            raise Unusable(f"its label {cell!r} does not occur in training")
        return self._numbers[cell]

    def array(self, values: Sequence[int]) -> np.ndarray:
        return np.array(values, np.int64)

    def spread(self, y: np.ndarray) -> dict[str, float]:
        return dict(zip(self.outputs, np.bincount(y, minlength=len(self.outputs)).tolist(), strict=True))

    def strangers(self, cells: Sequence[str]) -> dict[str, int]:
        return dict(Counter(c for c in cells if c and c not in self._numbers))

    def described(self, cells: Sequence[str]) -> str:
        return f"of {len(self.outputs)} classes"

    def remarks(self, cells: Sequence[str], *, balanced: bool) -> list[str]:
        counts = Counter(cells)
        return [*weak_spots(dict(counts), balanced=balanced), *lookalike_remarks(counts, "classes")]

    def check(self, y: np.ndarray) -> None:
        survivors = np.bincount(y, minlength=len(self.outputs))
        gone = [label for label, n in zip(self.outputs, survivors, strict=True) if not n]
        if gone:
            raise DataError(f"no usable example is left of: {', '.join(gone[:10])}", move="mend the examples above, or remove the class")
        if survivors.max() < 2:
            raise DataError("one usable example a class is left", expected="at least two of some class")

    def strata(self, y: np.ndarray) -> Strata:
        return [(int(c),) for c in y]

    def link(self, scores: np.ndarray) -> np.ndarray:
        scores = scores - scores.max(1, keepdims=True)
        return (scores - np.log(np.exp(scores).sum(1, keepdims=True))).astype(np.float32)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        return outputs.argmax(1)

    def settle(self, y: np.ndarray, outputs: np.ndarray, columns: Any = slice(None)) -> Classes:
        return replace(self, counts=tuple(np.bincount(y, minlength=len(self.outputs)).tolist()))

    def readable(self, outputs: np.ndarray) -> np.ndarray:
        return np.exp(outputs.astype(np.float64))

    def score(self, metric: str, y: np.ndarray, plain: np.ndarray) -> float:
        return SCORES[metric](y, plain, len(self.outputs))

    def value(self, metric: str, y: np.ndarray, outputs: np.ndarray, plain: np.ndarray) -> float:
        if metric == "log_loss":
            return float(-outputs[np.arange(len(y)), y].mean(dtype=np.float64))
        return self.score(metric, y, plain)

    def gains(self, metric: str, y: np.ndarray, decided: np.ndarray) -> np.ndarray:
        return (y == decided).astype(np.float64)

    def figures(self, y: np.ndarray, outputs: np.ndarray, decided: np.ndarray) -> dict[str, Figure]:
        return figures(y, outputs)

    def constant(self, y: np.ndarray) -> dict[str, Any]:
        most = int(np.argmax(self.counts or np.bincount(y, minlength=len(self.outputs))))
        return {"says": self.outputs[most], "metrics": {"accuracy": wilson(float((y == most).sum()), len(y)).to_json()}}

    def details(self, y: np.ndarray, outputs: np.ndarray, decided: np.ndarray) -> dict[str, Any]:
        return {"confusion": confusion_json(y, decided, self.outputs)}

    def difference(self, gain: Figure) -> str:
        return f"{gain.value * 100:+.1f} points of accuracy ({gain.low * 100:+.1f} to {gain.high * 100:+.1f})"

    def prediction(self, name: str, outputs: np.ndarray) -> Prediction:
        chances = self.readable(outputs)
        best = int(chances.argmax())
        return Prediction(name, self.outputs[best], float(chances[best]), dict(zip(self.outputs, chances.tolist(), strict=True)))

    def columns(self) -> list[str]:
        return ["label", "probability", *self.outputs]

    def cells(self, outputs: np.ndarray, decided: Any, truth: Any) -> list[str]:
        label = self.outputs[int(truth)]
        if np.isnan(outputs).any():
            return [label, "", "", ""]
        chances = self.readable(outputs)
        return [label, self.outputs[int(decided)], f"{chances.max():.6f}", f"{chances[int(truth)]:.6f}"]

    def read_cells(self, cells: Sequence[str]) -> tuple[int, int | None]:
        truth, decided = (None if not name else self._numbers.get(name, -1) for name in cells[:2])
        if truth is None or -1 in (truth, decided):
            raise ValueError(f"{' or '.join(cells[:2])} is none of the labels")
        return truth, decided

    def off(self, cells: Sequence[str]) -> float | None:
        """How much more probable the wrong class was said to be than the right one."""
        label, said, probability, own = cells
        return None if not said else 0.0 if said == label else max(1e-6, float(probability) - float(own))

    def in_words(self) -> str:
        return "softmax over the scores gives the probabilities of the labels, in their order; the largest is predicted"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.name, "counts": list(self.counts)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], outputs: list[str]) -> Classes:
        counts = values.get("counts")
        counts = [] if counts is None else counts
        if not isinstance(counts, list) or len(counts) not in (0, len(outputs)) or not all(map(is_count, counts)):
            raise ValueError(f"'counts' of its target must be {len(outputs)} whole numbers")
        return cls(outputs, tuple(counts))
