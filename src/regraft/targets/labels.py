"""Several labels at once: lists, or text with a separator."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regraft.data.base import natural
from regraft.data.formats.base import cell_text
from regraft.errors import DataError
from regraft.evaluation.labels import each_label, example_f1, figures, label_scores, losses
from regraft.facts import Figure, LabelsPrediction
from regraft.targets.base import Found, Strata, Target, Unusable, Wanted, is_count, lookalike_remarks, named, number_in

SEPARATORS = ("|", ";", ",")
"""Tried in this order where none is given."""

FEW = 10
"""A label with fewer examples gets the threshold of all: its own would be learnt from too little."""

ITEMS = 10_000
"""Labels in one cell at most."""

_QUOTED = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*(,|$)""")


def items_of(cell: str, separator: str | None) -> tuple[str, ...]:
    """The labels in a cell: a list as JSON or as Python prints it, or text with a separator; doubles count once.

    Unusable when it starts like a list and is none.
    """
    cell = cell.strip()
    if cell.startswith("[") and cell.endswith("]"):
        found = _listed(cell)
    else:
        found = cell.split(separator) if separator else [cell]
    items = tuple(dict.fromkeys(" ".join(item.split()) for item in found if item.strip()))
    if len(items) > ITEMS:
        raise Unusable(f"it has {len(items):,} labels, more than the {ITEMS:,} that one may have")
    return items


def _listed(cell: str) -> list[str]:
    try:
        values = json.loads(cell)
    except (ValueError, RecursionError):
        values = _python_list(cell)
    if values is None or any(isinstance(v, (list, dict)) for v in values):
        raise Unusable(f"its labels cannot be read as a list: {cell[:60]}")
    return [cell_text(v) for v in values]


def _python_list(cell: str) -> list[str] | None:
    """The strings in a list as Python prints it, such as "['a', 'b']"; None when it is something else."""
    inside, at, found = cell[1:-1].strip(), 0, []
    while at < len(inside):
        match = _QUOTED.match(inside, at)
        if match is None or match.end() == at:
            return None
        found.append(re.sub(r"\\(['\"\\])", r"\1", match[1] if match[1] is not None else match[2]))
        at = match.end()
    return found


def _items_or_none(cell: str, separator: str | None) -> tuple[str, ...]:
    try:
        return items_of(cell, separator)
    except Unusable:
        return ()


def _separator_in(cells: Sequence[str]) -> str | None:
    """The separator that makes the cells a few labels in many combinations, or None.

    Asks that there be fewer labels than combinations, and that most labels occur in several: "New York, NY" stays one label.
    """
    distinct = set(cells)
    if all(number_in(c.replace(",", ".")) is not None for c in distinct):
        return None  # decimal commas
    for separator in SEPARATORS:
        several = [c for c in distinct if separator in c]
        if len(several) < 2:
            continue
        counts = Counter(item for c in distinct for item in _items_or_none(c, separator))
        recurring = sum(n > 1 for n in counts.values())
        if len(counts) < len(distinct) and recurring >= 0.8 * len(counts):
            return separator
    return None


@dataclass(frozen=True)
class Labels(Target):
    """One-vs-rest: outputs are the log-odds of each label, decisions are those at or above its threshold.

    `counts` are the training part's; `thresholds` are probabilities, chosen on out-of-fold outputs.
    """

    counts: tuple[int, ...] = ()
    examples: int = 0
    thresholds: tuple[float, ...] = ()
    separator: str | None = None

    name = "multilabel"
    about = "several labels at once"
    loss = "logistic"
    metrics = ("f1_micro", "f1_macro", "log_loss")
    compared = "f1_of_examples"
    cell_names = ("labels", "predicted", "probabilities")

    @classmethod
    def looks_like(cls, cells: Sequence[str], wanted: Wanted) -> Found | None:
        if wanted.separator is not None:
            return Found(cls, named(wanted, cls.name), f"target: several labels at once, parted by {wanted.separator!r}")
        lists = sum(c.startswith("[") and c.endswith("]") for c in cells)
        if cells and lists >= 0.5 * len(cells):
            broken = 0
            for c in cells:
                try:
                    items_of(c, None)
                except Unusable:
                    broken += 1
            # a few broken lists are named later; names such as [unknown] are classes
            if broken and (lists < 0.9 * len(cells) or broken > 0.5 * lists):
                return None
            return Found(cls, named(wanted, cls.name), "target: several labels at once, given as lists (--target class takes each whole)")
        separator = _separator_in(cells)
        if separator is None:
            return None
        said = f"target: several labels at once, parted by {separator!r} (--target class takes each cell whole)"
        return Found(cls, replace(named(wanted, cls.name), separator=separator), said)

    @classmethod
    def settle_wanted(cls, cells: Sequence[str], wanted: Wanted) -> Wanted:
        if wanted.separator is not None:
            return wanted
        plain = [c for c in cells if not c.startswith("[")]
        return replace(wanted, separator=next((s for s in SEPARATORS if any(s in c for c in plain)), None))

    @classmethod
    def learn(cls, cells: Sequence[str], wanted: Wanted) -> Labels:
        counts: Counter[str] = Counter()
        for cell in cells:
            counts.update(_items_or_none(cell, wanted.separator))
        labels = sorted(counts, key=lambda name: (natural(name), name))
        if not labels:
            raise DataError("no example has a label", expected="lists of labels, or text with a separator", move="--label COLUMN")
        if max(counts.values()) == 1 and len(cells) > 1:
            raise DataError(
                f"each of the {len(labels)} labels occurs once", expected="at least two examples of a label", move="--separator, --target"
            )
        if len(cells) < 2:
            raise DataError("there is one example only", expected="at least two")
        return cls(labels, tuple(counts[label] for label in labels), len(cells), separator=wanted.separator)

    def encode(self, cell: str) -> np.ndarray:
        row = np.zeros(len(self.outputs), bool)
        numbers = self._numbers
        for item in items_of(cell, self.separator):
            if item in numbers:
                row[numbers[item]] = True
        return row

    def array(self, values: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(list(values)) if len(values) else np.zeros((0, len(self.outputs)), bool)

    def spread(self, y: np.ndarray) -> dict[str, float]:
        return dict(zip(self.outputs, y.sum(0).tolist(), strict=True))

    def strangers(self, cells: Sequence[str]) -> dict[str, int]:
        found: Counter[str] = Counter()
        for cell in cells:
            found.update(item for item in _items_or_none(cell, self.separator) if item not in self._numbers)
        return dict(found)

    def described(self, cells: Sequence[str]) -> str:
        each = sum(self.counts) / max(1, self.examples)
        return f"with any of {len(self.outputs)} labels ({each:.1f} each on average)"

    def remarks(self, cells: Sequence[str], *, balanced: bool) -> list[str]:
        counts = dict(zip(self.outputs, self.counts, strict=True))
        said = []
        few = [f"{label} ({n})" for label, n in counts.items() if n < FEW]
        if few:
            shown = ", ".join(few[:5]) + (" ..." if len(few) > 5 else "")
            said.append(f"{len(few)} labels have fewer than {FEW} examples: {shown}")
        always = [label for label, n in counts.items() if n == self.examples]
        if always:
            said.append(f"every example has the label {', '.join(always[:5])}: there is nothing to learn about it")
        bare = sum(not c.strip("[] ") for c in cells)
        if bare:
            said.append(f"{bare:,} examples have no label: they are taken as examples of none")
        return [*said, *lookalike_remarks(Counter(counts), "labels")]

    def check(self, y: np.ndarray) -> None:
        gone = [label for label, n in zip(self.outputs, y.sum(0), strict=True) if not n]
        if gone:
            raise DataError(f"no usable example is left of: {', '.join(gone[:10])}", move="mend the examples above, or remove the label")
        if len(y) < 2:
            raise DataError("one usable example is left", expected="at least two")

    def strata(self, y: np.ndarray) -> Strata:
        bare = y.shape[1]
        return [tuple(np.flatnonzero(row).tolist()) or (bare,) for row in y]

    def link(self, scores: np.ndarray) -> np.ndarray:
        return scores.astype(np.float32)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        return outputs >= _log_odds(self.thresholds or (0.5,) * len(self.outputs))

    def decide_out_of_fold(self, y: np.ndarray, outputs: np.ndarray, folds: np.ndarray) -> np.ndarray:
        decided = np.zeros(y.shape, bool)
        for f in np.unique(folds):
            own, others = folds == f, folds != f
            thresholds = best_thresholds(y[others], outputs[others]) if others.any() else (0.5,) * y.shape[1]
            decided[own] = outputs[own] >= _log_odds(thresholds)
        return decided

    def judgeable(self, apart: Mapping[int, int]) -> tuple[Labels, Any]:
        """Labels whose examples all stand on one side say nothing out of fold: a model never saw them when it is judged."""
        columns = [k for k in range(len(self.outputs)) if apart.get(k, 0) > 1]
        if not columns:
            raise DataError("the examples of every label are bound together, so nothing can be held out", move="another --group")
        if len(columns) == len(self.outputs):
            return self, slice(None)
        return Labels([self.outputs[k] for k in columns], tuple(self.counts[k] for k in columns), self.examples), columns

    def unjudged(self, columns: Any) -> str:
        left = [name for k, name in enumerate(self.outputs) if not isinstance(columns, slice) and k not in columns]
        if not left:
            return ""
        shown = ", ".join(left[:5]) + (" ..." if len(left) > 5 else "")
        return f"cross-validation cannot judge labels all of whose examples are bound together; its figures are without them: {shown}"

    def settle(self, y: np.ndarray, outputs: np.ndarray, columns: Any = slice(None)) -> Labels:
        held = ~np.isnan(outputs).any(1)
        thresholds = np.full(y.shape[1], 0.5)
        thresholds[columns] = best_thresholds(y[held][:, columns], outputs[held][:, columns])
        return replace(self, counts=tuple(y.sum(0).tolist()), examples=len(y), thresholds=tuple(thresholds.tolist()))

    def readable(self, outputs: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(outputs.astype(np.float64), -700, 700)))

    def score(self, metric: str, y: np.ndarray, plain: np.ndarray) -> float:
        return label_scores(y, plain).get(metric, 0.0)

    def value(self, metric: str, y: np.ndarray, outputs: np.ndarray, plain: np.ndarray) -> float:
        return float(losses(y, outputs).mean()) if metric == "log_loss" else self.score(metric, y, plain)

    def gains(self, metric: str, y: np.ndarray, decided: np.ndarray) -> np.ndarray:
        return example_f1(y, decided)

    def figures(self, y: np.ndarray, outputs: np.ndarray, decided: np.ndarray) -> dict[str, Figure]:
        return figures(y, outputs, decided)

    def constant(self, y: np.ndarray) -> dict[str, Any]:
        rates = np.array(self.counts) / max(1, self.examples)
        order = np.argsort(-rates, kind="stable")
        # the set of the commonest labels whose expected F1 over all decisions is highest
        expected = [2 * rates[order[:j]].sum() / (j + rates.sum()) for j in range(1, len(order) + 1)]
        says = np.zeros(len(order), bool)
        says[order[: int(np.argmax(expected)) + 1]] = True
        decided = np.broadcast_to(says, y.shape)
        with np.errstate(divide="ignore"):
            outputs = np.broadcast_to(_log_odds(tuple(np.clip(rates, 1e-6, 1 - 1e-6))), y.shape)
        metrics = {k: f.to_json() for k, f in figures(y, outputs, decided).items()}
        return {"says": ", ".join(np.array(self.outputs)[says]), "metrics": metrics}

    def details(self, y: np.ndarray, outputs: np.ndarray, decided: np.ndarray) -> dict[str, Any]:
        return {"each_label": each_label(y, outputs, decided, self.outputs)}

    def difference(self, gain: Figure) -> str:
        return f"{gain.value * 100:+.1f} points of F1 an example ({gain.low * 100:+.1f} to {gain.high * 100:+.1f})"

    def prediction(self, name: str, outputs: np.ndarray) -> LabelsPrediction:
        chances = self.readable(outputs)
        decided = self.decide(outputs[None])[0]
        labels = tuple(label for label, there in zip(self.outputs, decided, strict=True) if there)
        return LabelsPrediction(name, labels, dict(zip(self.outputs, chances.tolist(), strict=True)))

    def columns(self) -> list[str]:
        return ["labels", *self.outputs]

    def cells(self, outputs: np.ndarray, decided: Any, truth: Any) -> list[str]:
        names = np.array(self.outputs, dtype=object)
        if np.isnan(outputs).any():
            return [_json(names[truth]), "", ""]
        shown = [round(float(c), 6) for c in self.readable(outputs)]
        return [_json(names[truth]), _json(names[decided]), json.dumps(shown)]

    def read_cells(self, cells: Sequence[str]) -> tuple[tuple[bool, ...], tuple[bool, ...] | None]:
        return self._row(cells[0]), self._row(cells[1]) if cells[1] else None

    def _row(self, cell: str) -> tuple[bool, ...]:
        names = json.loads(cell)
        if not isinstance(names, list) or not all(isinstance(name, str) and name in self._numbers for name in names):
            raise ValueError(f"{cell[:80]} is not a list of its labels")
        return tuple(name in names for name in self.outputs)

    def off(self, cells: Sequence[str]) -> float | None:
        """How far the probabilities of the labels that were decided wrongly lie on the wrong side, added up."""
        truth, decided = self.read_cells(cells)
        if decided is None:
            return None
        chances = json.loads(cells[2])
        if len(chances) != len(truth):
            # some labels could not be judged, so that the chances of the others stand there alone
            return float(sum(t != d for t, d in zip(truth, decided, strict=True)))
        return float(sum(max(1e-6, abs(t - p)) for t, d, p in zip(truth, decided, chances, strict=True) if t != d))

    def in_words(self) -> str:
        return "1 / (1 + exp(-score)) is the probability of each label, in their order; those at or above their thresholds are predicted"

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.name,
            "counts": list(self.counts),
            "examples": self.examples,
            "thresholds": list(self.thresholds),
            "separator": self.separator,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], outputs: list[str]) -> Labels:
        counts, thresholds, examples = values.get("counts"), values.get("thresholds"), values.get("examples")
        separator = values.get("separator")
        if not isinstance(counts, list) or len(counts) != len(outputs) or not all(map(is_count, counts)):
            raise ValueError(f"'counts' of its target must be {len(outputs)} whole numbers")
        if not isinstance(thresholds, list) or len(thresholds) != len(outputs) or not all(_is_chance(t) for t in thresholds):
            raise ValueError(f"'thresholds' of its target must be {len(outputs)} numbers between 0 and 1")
        if not is_count(examples) or examples < max(1, *counts) or not (separator is None or (isinstance(separator, str) and separator)):
            raise ValueError("'examples' of its target must be a whole number above 0 and no count, 'separator' a text or null")
        return cls(outputs, tuple(counts), examples, tuple(map(float, thresholds)), separator)


def _is_chance(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1


def _json(names: np.ndarray) -> str:
    return json.dumps(list(names), ensure_ascii=False)


def _log_odds(chances: Sequence[float]) -> np.ndarray:
    values = np.asarray(chances, np.float64)
    return np.log(values / (1 - values))


def best_thresholds(y: np.ndarray, outputs: np.ndarray) -> tuple[float, ...]:
    """For each label the probability from which it is said, so that its F1 on these examples is highest.

    y (n, k) bool, outputs (n, k) log-odds. A label with fewer than 10 examples takes the threshold that is best for all labels
    together. Rounded to four digits: more would not mean anything.
    """
    shared = _best_threshold(y.reshape(-1), outputs.reshape(-1))
    return tuple(_best_threshold(y[:, k], outputs[:, k]) if FEW <= y[:, k].sum() <= len(y) - FEW else shared for k in range(y.shape[1]))


def _best_threshold(y: np.ndarray, outputs: np.ndarray) -> float:
    if not y.any() or y.all():
        return 0.5
    order = np.argsort(-outputs, kind="stable")
    sorted_outputs = outputs[order].astype(np.float64)
    found = np.cumsum(y[order])
    f1 = 2 * found / (np.arange(1, len(y) + 1) + y.sum())
    # a threshold lies between two different values only
    ends = np.append(sorted_outputs[1:] < sorted_outputs[:-1], True)
    at = int(np.argmax(np.where(ends, f1, -1)))
    below = sorted_outputs[at + 1] if at + 1 < len(y) else sorted_outputs[at] - 2
    middle = (sorted_outputs[at] + below) / 2
    return min(max(round(1 / (1 + math.exp(-min(max(middle, -30.0), 30.0))), 4), 1e-4), 1 - 1e-4)
