"""Labelled data as fit, evaluate and inspect need it: the target found, labels that cannot be used named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data import Dataset, open_data
from regraft.data.base import TEST, TRAIN, Asked, Example
from regraft.data.open import refuse_unless_table, set_aside
from regraft.errors import DataError, UsageError
from regraft.facts import LeftOut
from regraft.jobs.common import as_source, asked, patterns
from regraft.spec import FitSpec, WrittenLimits
from regraft.targets import Target, Wanted, find_target
from regraft.targets.base import Unusable

if TYPE_CHECKING:
    from typing_extensions import Unpack

IN_MEMORY = "in memory"

REFUSED = ("input", "label", "group", "split", "weight", "separator")
"""Options that mean nothing for a folder of class folders."""


@dataclass
class Labelled:
    """A data set with what is to be predicted. `values` holds the target's value of each of its examples, in their order."""

    dataset: Dataset
    target: Target
    values: list[Any]
    how: str
    strangers: dict[str, int]

    def part(self, name: str) -> tuple[list[Example], list[Any]]:
        """The examples of one part, and their values."""
        chosen = [(e, v) for e, v in zip(self.dataset.examples, self.values, strict=True) if e.part == name]
        return [e for e, _ in chosen], [v for _, v in chosen]

    def stranger_remark(self) -> str:
        """A sentence for labels of the test part that do not occur in training, or nothing."""
        if not self.strangers:
            return ""
        shown = ", ".join(f"{label} ({n})" for label, n in list(self.strangers.items())[:5])
        return f"the test part has labels that do not occur in training; they are not judged: {shown}"

    @property
    def train_cells(self) -> list[str]:
        """The labels of the training part, as they stand in the data."""
        return [e.label or "" for e in self.dataset.examples if e.part == TRAIN]


def named_data(data: Any, test: Any) -> tuple[Any, str, str | None]:
    """(the source, and how a spec names it and its test data): paths as text, other objects as being in memory."""
    source = as_source(data)
    named = test is None or isinstance(test, (str, Path, int, float))
    return source, str(source) if isinstance(source, Path) else IN_MEMORY, (None if test is None else str(test)) if named else IN_MEMORY


SHARED = (
    *("task", "input", "label", "target", "separator", "group", "split", "weight", "metric", "offline", "allow_code"),
    *("device", "engine", "precision", "threads", "seed", "strict", "allow_outside", "balance", "store"),
)
"""Arguments of verbs that a spec has by the same name and in the same form."""


class Own(WrittenLimits, total=False):
    """Parts of a spec that a verb has in another form, or always the same."""

    model: str | None
    recipe: str | None
    remove: tuple[str, ...]
    replace: tuple[str, ...]
    insert: tuple[str, ...]
    resize_input: int | None
    at: str | None
    lora: str | None
    rank: int | None
    train: str
    augment: str
    views: str | None
    settings: tuple[str, ...]
    engine: str
    out: str | None
    budget: str | None
    track: tuple[str, ...]


def asked_spec(arguments: Mapping[str, Any], **own: Unpack[Own]) -> tuple[Any, FitSpec]:
    """(the source, the spec) that a verb is called with. `arguments` are the verb's, by name."""
    source, data, test = named_data(arguments["data"], arguments["test"])
    shared = {name: arguments[name] for name in SHARED if name in arguments}
    return source, FitSpec(data=data, test=test, allow=patterns(arguments["allow"]), **{**shared, **own})


def asked_of(spec: FitSpec) -> Asked:
    """What a spec says about the data."""
    plain = asked(spec.task, spec.input, spec.label, group=spec.group)
    more = {"target": spec.target, "split": spec.split, "weight": spec.weight, "allow_outside": spec.allow_outside}
    return replace(plain, **more)


def open_labelled(spec: FitSpec, source: Any, test: Any) -> Labelled:
    """Open the data of a spec, set a part aside where it asks for one, and find out what is predicted.

    `test` is another source, a fraction, or None. UsageError and DataError as `open_data` and the targets raise them.
    """
    fraction = spec.test_fraction
    other = None if test is None or fraction is not None else as_source(test)
    dataset = open_data(source, asked_of(spec), test=other)
    if spec.target is None and any(b.reason == "the label is missing" for b in dataset.left_out):
        kind = find_target([e.label or "" for e in dataset.examples], Wanted(None, spec.separator)).kind
        if kind.name == "multilabel":
            # of several labels none is an answer too
            dataset = open_data(source, replace(asked_of(spec), target=kind.name), test=other)
    for option in REFUSED:
        refuse_unless_table(getattr(spec, option), f"--{option}", dataset)
    if fraction is not None and dataset.part(TEST):
        raise UsageError(f"--test {spec.test}: the data has a test part of its own", move="leave --test away, or name a folder or table")
    cells = [e.label or "" for e in dataset.examples if e.part == TRAIN]
    column = dataset.decisions.get("label") or "value"
    found = find_target(cells, Wanted(spec.target, spec.separator, column))
    try:
        first = found.kind.learn(cells, found.wanted)
    except DataError as error:
        reasons = [f"{b.name}: {b.reason}" for b in dataset.left_out[:5]]
        raise DataError(error.found, expected=error.expected, move=error.move, faults=[*error.faults, *reasons]) from None
    _drop_unusable(dataset, first, train_only=True)
    if fraction is not None:
        target = found.kind.learn([e.label or "" for e in dataset.examples], found.wanted)
        set_aside(dataset, fraction, spec.seed, _strata(target, dataset.examples))
    cells = [e.label or "" for e in dataset.examples if e.part == TRAIN]
    target = found.kind.learn(cells, found.wanted)
    strangers = target.strangers([e.label or "" for e in dataset.examples if e.part == TEST])
    values = _drop_unusable(dataset, target, train_only=False)
    several = "," in column and column not in dataset.decisions.get("header", ())
    said = f"target: several labels at once, in {column.count(',') + 1} columns" if several and found.said else found.said
    return Labelled(dataset, target, values, said, strangers)


def _drop_unusable(dataset: Dataset, target: Target, *, train_only: bool) -> list[Any]:
    """Name the examples whose label has no value of this kind; the values of the others, in order."""
    judged = [e for e in dataset.examples if e.part == TRAIN or not train_only]
    kept, values, left_out = encode_all(judged, target)
    dataset.left_out += left_out
    gone = {id(e) for e in judged} - {id(e) for e in kept}
    dataset.examples = [e for e in dataset.examples if id(e) not in gone]
    return values


def _strata(target: Target, examples: Sequence[Example]) -> list[int]:
    """One number for each example: of several labels the rarest."""
    several = target.strata(target.array([target.encode(e.label or "") for e in examples]))
    counts = Counter(s for own in several for s in own)
    return [min(own, key=lambda s: (counts[s], s)) for own in several]


def encode_all(examples: Sequence[Example], target: Target) -> tuple[list[Example], list[Any], list[LeftOut]]:
    """The examples that this target can take with their values, and the others with the reason."""
    kept: list[Example] = []
    values: list[Any] = []
    left_out: list[LeftOut] = []
    for e in examples:
        try:
            values.append(target.encode(e.label or ""))
            kept.append(e)
        except Unusable as reason:
            left_out.append(LeftOut(e.name, str(reason)))
    return kept, values, left_out


def same_value(y: np.ndarray, members: Sequence[int]) -> bool:
    """Whether the targets of these examples are equal."""
    return len({np.asarray(y[k]).tobytes() for k in members}) < 2
