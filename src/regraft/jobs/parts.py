"""The usable examples of a fit, as arrays: what is learnt from, and what is tested on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import TEST, TRAIN, Example
from regraft.errors import DataError
from regraft.events import Emit, Said, Warned
from regraft.jobs.labelled import Labelled, same_value

if TYPE_CHECKING:
    from regraft.features import Extracted


@dataclass
class Parts:
    """The usable examples of both parts; `train` and `test` are positions among the extracted rows."""

    examples: list[Example]
    """Those to learn from; `y`, `identities` and `weights` follow them."""
    train: np.ndarray
    test: np.ndarray
    y: np.ndarray
    y_test: np.ndarray
    identities: list[bytes]
    fresh: np.ndarray
    """Of the test examples: whether the training part has neither the same content nor a near-duplicate."""
    weights: np.ndarray
    """Of the training examples; their mean is one."""
    kin: list[bytes]
    """Of each training example the identity that stands for it and its near-duplicates: they share a fold."""


def both_parts(labelled: Labelled) -> tuple[list[Example], list[Any]]:
    """The examples of both parts, training first, and their values."""
    parts = [labelled.part(TRAIN), labelled.part(TEST)]
    return [e for part, _ in parts for e in part], [v for _, own in parts for v in own]


def divide(labelled: Labelled, examples: Sequence[Example], values: Sequence[Any], extracted: Extracted, emit: Emit) -> Parts:
    """What the pass kept of `both_parts`; duplicates are said. DataError when nothing can be learnt from it."""
    target = labelled.target
    kept = [examples[i] for i in extracted.kept]
    train = np.array([k for k, e in enumerate(kept) if e.part == TRAIN], np.int64)
    test = np.array([k for k, e in enumerate(kept) if e.part == TEST], np.int64)
    y = target.array([values[extracted.kept[k]] for k in train])
    y_test = target.array([values[extracted.kept[k]] for k in test])
    if not len(train):
        raise DataError("no usable training example is left", move="mend the examples above")
    target.check(y)
    ids = [extracted.identities[k] for k in train]
    _say_duplicates(ids, y, [extracted.identities[k] for k in test], [kept[k] for k in train], emit)
    _say_shared_groups(labelled, emit)
    seen = set(ids)
    fresh = np.array([extracted.identities[k] not in seen for k in test], bool)
    weights = np.array([kept[k].weight for k in train])
    if not weights.any():
        raise DataError("every training example has the weight 0", expected="at least one above 0", move="--weight COLUMN")
    return Parts([kept[k] for k in train], train, test, y, y_test, ids, fresh, weights / weights.mean(), list(ids))


def _say_duplicates(ids: Sequence[bytes], y: np.ndarray, test_ids: Sequence[bytes], train: Sequence[Example], emit: Emit) -> None:
    groups: dict[bytes, list[int]] = defaultdict(list)
    for k, identity in enumerate(ids):
        groups[identity].append(k)
    twice = [members for members in groups.values() if len(members) > 1]
    if twice:
        disputed = [m for m in twice if not same_value(y, m)]
        emit(Said(f"{sum(len(m) - 1 for m in twice):,} exact duplicates in the training part; they always share a fold"))
        if disputed:
            shown = "; ".join(", ".join(f"{train[k].name} ({train[k].label})" for k in m[:3]) for m in disputed[:3])
            emit(Warned(f"{len(disputed):,} groups of the same content have different labels: {shown}"))
    shared = sum(identity in groups for identity in test_ids)
    if shared:
        of = f"{shared:,} of {len(test_ids):,} test examples"
        emit(Warned(f"{of} also stand in the training part; the test figures are given without them too"))


def _say_shared_groups(labelled: Labelled, emit: Emit) -> None:
    both = {e.group for e in labelled.dataset.part(TRAIN)} & {e.group for e in labelled.dataset.part(TEST)} - {None}
    if both:
        shown = ", ".join(str(g) for g in sorted(both, key=str)[:5])
        emit(Warned(f"{len(both):,} groups stand in both parts ({shown}): the test figures may flatter"))


def rows_at(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The rows at some places: a view where they follow each other, because a copy of 100,000 rows of features takes half a GB."""
    if len(places) and (np.diff(places) == 1).all():
        return rows[places[0] : places[-1] + 1]
    return rows[places]


def nested(labelled: Labelled, seed: int) -> list[int]:
    """An order of the training examples of which every beginning is a small image of the whole: of each label about the same part."""
    examples = labelled.part(TRAIN)[0]
    rng = np.random.default_rng(seed)
    chance = rng.permutation(len(examples))
    if labelled.target.name == "number":
        return chance.tolist()
    members: dict[str, list[int]] = {}
    for k in chance.tolist():
        members.setdefault(examples[k].label or "", []).append(k)
    placed = [((place + 0.5) / len(own), label, k) for label, own in members.items() for place, k in enumerate(own)]
    return [k for _, _, k in sorted(placed)]
