"""Near-duplicates of a fit: found once, bound into one fold, and said where they stand on both sides of the split."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import TEST, TRAIN, Example
from regraft.deadline import Deadline
from regraft.errors import Unreadable
from regraft.events import Done, Emit, Said, Warned
from regraft.jobs.parts import Parts
from regraft.modality import Modality

if TYPE_CHECKING:
    from regraft.evaluation.trust.near_duplicates import NearDuplicates
    from regraft.features import Extracted

KEPT_DECODED = 4
"""Decoded examples that are held in memory."""

MOST = 0.5
"""Part of the training examples that one group may hold: beyond it nothing could be held out, and the data is alike as a whole."""

SPENT = 0.05
"""Part of the time that a budget leaves which the search may take."""

STAGE = "near-duplicates"


@dataclass(frozen=True)
class Near:
    """Near-duplicates among the usable examples, as groups of identities. `found` are the pairs, where they were looked for here."""

    groups: tuple[tuple[bytes, ...], ...]
    found: NearDuplicates | None = None

    @cached_property
    def kin(self) -> dict[bytes, bytes]:
        """The identity that stands for each one that has near-duplicates."""
        return {identity: min(group) for group in self.groups for identity in group}

    def to_json(self) -> list[list[str]]:
        """Plain data, for decisions.json."""
        return [[identity.hex() for identity in group] for group in self.groups]

    def bind(self, parts: Parts, examples: Sequence[Example], identities: Sequence[bytes], emit: Emit) -> Parts:
        """The parts with near-duplicates bound to each other; where they stand, and where they are labelled differently, is said.
        `examples` are the usable ones, `identities` theirs.
        """
        if not self.groups:
            return parts
        kin = [self.kin.get(i, i) for i in identities]
        counts = Counter(kin[k] for k in parts.train)
        largest = max(counts.values())
        if largest > MOST * len(parts.train) and len(counts) < len(set(parts.identities)):
            emit(Warned(f"{largest:,} of {len(parts.train):,} training examples are near-duplicates of each other: they are not bound"))
            return parts
        self._say(parts, examples, kin, emit)
        train = set(parts.identities)
        theirs = {kin[k] for k in parts.train}
        fresh = np.array([identities[k] not in train and kin[k] not in theirs for k in parts.test], bool)
        return replace(parts, kin=[kin[k] for k in parts.train], fresh=fresh)

    def _say(self, parts: Parts, examples: Sequence[Example], kin: Sequence[bytes], emit: Emit) -> None:
        members: dict[bytes, list[int]] = {}
        for k, name in enumerate(kin):
            if name in self.kin:
                members.setdefault(name, []).append(k)
        inside = [m for own in members.values() if len(m := [k for k in own if examples[k].part == TRAIN]) > 1]
        crossing = [m for m in members.values() if len({examples[k].part for k in m}) > 1]
        if inside:
            emit(Said(f"{len(inside):,} groups of near-duplicates in the training part; each shares a fold ({_shown(examples, inside)})"))
        disputed = [m for m in members.values() if len({examples[k].label for k in m}) > 1]
        if disputed:
            emit(Warned(f"{len(disputed):,} groups of near-duplicates have different labels: {_shown(examples, disputed, labels=True)}"))
        if crossing:
            count = sum(examples[k].part == TEST for m in crossing for k in m)
            of = f"{count:,} of {len(parts.test):,} test examples"
            shown = _shown(examples, crossing)
            emit(Warned(f"{of} are near-duplicates of training examples ({shown}); the test figures are given without them too"))


def _shown(examples: Sequence[Example], groups: Sequence[Sequence[int]], *, labels: bool = False) -> str:
    name = (lambda e: f"{e.name} ({e.label})") if labels else (lambda e: str(e.name))
    return "; ".join(", ".join(name(examples[k]) for k in group[:3]) for group in groups[:2])


def find_near(
    examples: Sequence[Example], extracted: Extracted, modality: Modality, emit: Emit, held: Any = None, deadline: Deadline | None = None
) -> Near:
    """Near-duplicates among the usable `examples`, whose features were `extracted`; or the groups that were `held` as `to_json` wrote
    them: a fit that goes on must not depend on the last bits of a distance, nor on a clock. A part of the time to the `deadline` is spent.
    """
    if held is not None:
        return Near(tuple(tuple(bytes.fromhex(i) for i in group) for group in held))
    from regraft.evaluation.trust.near_duplicates import near_duplicates

    begun = time.perf_counter()

    @lru_cache(KEPT_DECODED)
    def decoded(k: int) -> Any:
        return modality.load(examples[k].source).decode()

    def likeness(one: int, other: int) -> float | None:
        try:
            return modality.likeness(decoded(one), decoded(other))
        except (Unreadable, OSError, ValueError):
            # it could be read a moment ago: whatever became of it, nothing is known of the pair
            return None

    bound = deadline is not None and deadline.bound
    until = time.perf_counter() + SPENT * deadline.left if deadline is not None and bound else float("inf")
    found = near_duplicates(extracted.features, extracted.identities, likeness, lambda: time.perf_counter() > until)
    if found.stopped and deadline is not None:
        emit(Warned("the search for near-duplicates was ended for the budget: some may be on both sides of a fold or split"))
        deadline.more["near-duplicates"] = "all near-duplicates looked for"
    groups = tuple(tuple(extracted.identities[k] for k in group) for group in found.groups)
    if not found.candidates:
        return Near((), found)
    more = f", of {found.candidates:,} close ones" if found.checked < found.candidates else ""
    emit(Done(STAGE, time.perf_counter() - begun, f"{len(groups):,} groups, {found.checked:,} pairs compared{more}"))
    return Near(groups, found)
