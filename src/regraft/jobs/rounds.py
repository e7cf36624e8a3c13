"""What a fit with a budget learns from: as many examples as go through the frozen network in time; and how its output layer is fitted."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import TRAIN, Example
from regraft.deadline import Deadline, too_little
from regraft.errors import RunError
from regraft.events import Done, Emit, Event, Measured, Progress, Started, Warned
from regraft.facts import ModelFacts
from regraft.jobs.labelled import Labelled
from regraft.jobs.parts import rows_at
from regraft.jobs.recording import Recorder
from regraft.jobs.validation import Validation
from regraft.strategy.budget import (
    ROUND,
    Fitting,
    design_seconds,
    ending_seconds,
    examples_in_round,
    fitting_within,
    fittings,
    nested_order,
)
from regraft.strategy.rules import strengths_for

if TYPE_CHECKING:
    from regraft.features import Extracted

    Run = Callable[[Sequence[Example], Emit, Callable[[], bool]], Extracted]
    """A pass over some examples: where its events go, and whether it is to end before its end."""

FIRST = 3
"""Examples of every class that are looked at before others: with fewer its folds hold nothing out."""

TILES = 2
"""Tiles for each thread in the first round."""

PRODUCTS = 3.1
"""Products of all rows with the weights, and back, that fitting a model takes, for each square root of the classes. Measured on real
features: 10 with 10 classes, 26 with 77, 36 with 136.
"""

LEAST_MODELS = 12
"""Models that are reckoned with for the output layer and the one without the network, when the number of examples is decided."""

BELOW = 3.0
"""How many times the pass is set aside for what a rung below the head does with each example: preparing, a few looks, judging."""


@dataclass
class Rounds:
    """A pass that keeps a deadline. `width` and `classes` are the size of the output layer; `deeper`: something below it is trained
    afterwards.
    """

    labelled: Labelled
    examples: Sequence[Example]
    values: Sequence[Any]
    seed: int
    tile: int
    threads: int
    width: int
    deeper: bool
    recorder: Recorder

    def __call__(self, run: Run) -> Extracted:
        """Features of the examples that fit; of all where that is so. RunError where fewer than the least fit."""
        order, least = self._order()
        held = self.recorder.held_decision("examples_used")
        if held is not None:
            found = self._one_pass(run, order[: held["used"]])
        else:
            found = self._rounds(run, order, least)
        self.recorder.decide(examples_used={"used": found.looked, "of": len(order)})
        if found.looked < len(order):
            nouns = self.labelled.dataset.task
            self._say(found.looked, len(order), nouns)
        return found

    def _say(self, used: int, of: int, task: str) -> None:
        from regraft.modality import MODALITIES

        nouns, deadline = MODALITIES[task].nouns, self.recorder.deadline
        self.recorder.emit(Warned(f"{used:,} of {of:,} {nouns} are used: the budget of {deadline.text} takes no more"))
        deadline.more["examples"] = f"all {of:,} {nouns} ({used:,} were used)"

    def _order(self) -> tuple[list[int], int]:
        """(the order of all examples, how many are needed at least)."""
        target, rng = self.labelled.target, np.random.default_rng(self.seed)
        several = target.strata(target.array(list(self.values)))
        counts = Counter((e.part, s) for e, own in zip(self.examples, several, strict=True) for s in own)
        # of several labels the rarest
        rarest = [min(own, key=lambda s: (counts[e.part, s], s)) for e, own in zip(self.examples, several, strict=True)]
        strata = [(e.part, s) for e, s in zip(self.examples, rarest, strict=True)]
        units = [(e.part, i if e.group is None else e.group) for i, e in enumerate(self.examples)]
        first = {stratum: FIRST for stratum in strata if stratum[0] == TRAIN}
        return nested_order(strata, units, rng.random(len(strata)).tolist(), first)

    def _rounds(self, run: Run, order: Sequence[int], least: int) -> Extracted:
        deadline, models, outputs = self.recorder.deadline, self._seconds_of_models(), len(self.labelled.target.outputs)
        first = max(least, TILES * self.tile * self.threads)
        done, each, parts = 0, None, list[Any]()
        times = 1 + BELOW * self.deeper
        # on fewer rows than numbers a model has as many numbers as there are rows
        after = lambda rows: _beside_models(deadline, rows, self.width, outputs) + models * rows * min(rows, self.width) / self.width
        left = lambda: deadline.left - after(done)
        tell = _OneStage(self.recorder.emit, len(order))
        begun, spent = time.perf_counter(), deadline.spent
        while done < len(order):
            more = (after(done + first) - after(done)) / first
            # as long as everything was there already nobody knows how long others take: no more than there were
            pace, one = (None, max(first, done)) if each is None else (each + more / times, first)
            size = examples_in_round(left() / times, pace, len(order) - done, one)
            if not size:
                break
            started = deadline.spent
            # a later round of which no pace is known is broken off in time for another one: what was computed is in the store then
            rest = ROUND * left() if done and each is None else 0.0
            found = run([self.examples[i] for i in order[done : done + size]], tell.after(done), partial(lambda rest: left() <= rest, rest))
            parts.append((done, found))
            done += found.looked
            if found.computed:
                each = (deadline.spent - started) / found.computed
            if found.looked < size and not rest:
                break
        if done < min(least, len(order)):
            raise self._refusal(done, least, spent, each, after(least))
        # whole units: who was left in the middle of a group is not looked at
        done = self._whole_units(order, done, least)
        merged = _merged(parts, order, done)
        tell.done(merged, time.perf_counter() - begun)
        return merged

    def _whole_units(self, order: Sequence[int], done: int, least: int) -> int:
        groups = [self.examples[i].group for i in order]
        while least < done < len(order) and groups[done] is not None and groups[done] == groups[done - 1]:
            done -= 1
        return done

    def _one_pass(self, run: Run, chosen: Sequence[int]) -> Extracted:
        """What was decided before, at once."""
        found = run([self.examples[i] for i in chosen], self.recorder.emit, lambda: False)
        return _merged([(0, found)], chosen, len(chosen))

    def _seconds_of_models(self) -> float:
        """Seconds an example that fitting an output layer takes, and the model without the network."""
        return LEAST_MODELS * seconds_of_model(1, self.width, len(self.labelled.target.outputs))

    def _refusal(self, done: int, least: int, spent: float, each: float | None, after: float) -> RunError:
        from regraft.modality import MODALITIES

        nouns, deadline = MODALITIES[self.labelled.dataset.task].nouns, self.recorder.deadline
        found = (
            f"{done:,} of the {least:,} {nouns} that are needed at least went through the network; {spent:.1f} s went before the first one"
        )
        return too_little(deadline, found, spent + after + least * each if each else 0.0)


@dataclass
class _OneStage:
    """Several rounds as one stage."""

    emit: Emit
    total: int
    begun: bool = False

    def after(self, done: int) -> Emit:
        """Where the events of a round go that comes after so many examples."""

        def tell(event: Event) -> None:
            if isinstance(event, Started):
                if not self.begun:
                    self.begun = True
                    self.emit(Started(event.stage, self.total, event.unit))
            elif isinstance(event, Progress):
                self.emit(Progress(event.stage, done + event.done))
            elif not isinstance(event, (Done, Measured)):
                self.emit(event)

        return tell

    def done(self, found: Extracted, seconds: float) -> None:
        """The end of the last one."""
        there = max(0, len(found.kept) - found.computed)
        self.emit(Done("features", seconds, f"{found.computed:,} computed" + (f", {there:,} already there" if there else "")))
        if found.computed:
            self.emit(Measured("seconds of features", seconds, None, "s"))


def _merged(parts: Sequence[tuple[int, Extracted]], order: Sequence[int], looked: int) -> Extracted:
    """Rounds over the beginning of an order as one pass over all examples, of which the first `looked` of the order count."""
    from regraft.features import Extracted

    places = [order[before + k] for before, found in parts for k in found.kept if before + k < looked]
    sizes = [sum(before + k < looked for k in found.kept) for before, found in parts]
    back = np.argsort(places, kind="stable")
    identities = [i for (_, found), size in zip(parts, sizes, strict=True) for i in found.identities[:size]]
    summaries = [s for (_, found), size in zip(parts, sizes, strict=True) for s in found.summaries[:size]]
    # a round that ended before its first example has no features, and not their number either
    filled = [found.features[:size] for (_, found), size in zip(parts, sizes, strict=True) if size]
    features = np.concatenate(filled) if filled else parts[0][1].features[:0]
    notes: Counter[str] = Counter()
    for _, found in parts:
        notes.update(found.notes)
    return Extracted(
        kept=[places[k] for k in back],
        identities=[identities[k] for k in back],
        features=features[back],
        summaries=[summaries[k] for k in back] if summaries else [],
        left_out=[item for _, found in parts for item in found.left_out],
        notes=dict(notes),
        computed=sum(found.computed for _, found in parts),
        seconds=sum(found.seconds for _, found in parts),
        looked=looked,
    )


def rounds_for(
    recorder: Recorder,
    labelled: Labelled,
    examples: Sequence[Example],
    values: Sequence[Any],
    seed: int,
    facts: ModelFacts,
    threads: int,
    *,
    deeper: bool,
) -> Rounds | None:
    """How a pass keeps the fit's deadline; None where there is none. `deeper`: something below the head is trained afterwards."""
    if not recorder.deadline.bound:
        return None
    return Rounds(labelled, examples, values, seed, facts.tile, threads, facts.features, deeper, recorder)


def seconds_of_model(rows: int, width: int, outputs: int) -> float:
    """What fitting one output layer on so many rows takes here: a product is timed."""
    import torch

    some = 1024
    features, weights, slopes = torch.ones(some, width), torch.ones(width, outputs), torch.ones(some, outputs)
    spent: list[float] = []
    for _ in range(3):
        begun = time.perf_counter()
        _ = features @ weights
        _ = features.T @ slopes
        spent.append(time.perf_counter() - begun)
    return PRODUCTS * math.sqrt(max(2, outputs)) * sorted(spent)[1] / some * rows


def _beside_models(deadline: Deadline, rows: int, width: int, outputs: int) -> float:
    """Seconds beside those of the models: what each of the two output layers begins with, the one with the network and the one without,
    and the end of the run.
    """
    return (ending_seconds(rows, outputs) + 2 * design_seconds(rows, width)) * deadline.slowness


def fitting_for(
    recorder: Recorder, name: str, rows: np.ndarray, outputs: int, strengths: Sequence[float], folds: int, *, nested: bool
) -> tuple[tuple[float, ...], bool]:
    """(the strengths that are tried, whether their choice is nested) for an output layer on rows (n, d) within the deadline, with as much
    time again for what comes after it. Recorded as `name`.
    """
    if not recorder.deadline.bound:
        return tuple(strengths), nested
    held = recorder.held_decision(name)
    if held is not None:
        found = Fitting(tuple(held["places"]), held["nested"])
    else:
        seconds = seconds_of_model(len(rows), min(rows.shape), outputs)
        left = recorder.deadline.left - _beside_models(recorder.deadline, len(rows), rows.shape[1], outputs)
        found = fitting_within(left / 2, seconds, len(strengths), folds, nested=nested)
    recorder.decide(**{name: {"places": list(found.places), "nested": found.nested}})
    return tuple(strengths[k] for k in found.places), found.nested


def study_in_time(recorder: Recorder, validation: Validation, features: np.ndarray) -> tuple[Validation, tuple[float, ...]]:
    """(the validation, the strengths of the output layer that are tried): as much of the study as fits; the whole without a budget."""
    target, rows = validation.target, rows_at(features, validation.parts.train)
    every, wanted = strengths_for(target.loss), validation.nested
    recorder.deadline.ending = ending_seconds(len(rows), len(target.outputs))
    strengths, nested = fitting_for(recorder, "fitting", rows, len(target.outputs), every, validation.count, nested=wanted)
    say_fitting(recorder, len(strengths), len(every), nested=nested, wanted=wanted)
    return (validation if nested == wanted else replace(validation, hurried=True)), strengths


def quickest(validation: Validation, strengths: Sequence[float]) -> tuple[Validation, tuple[float, ...]] | None:
    """(the validation, the strength) of the quickest output layer, of a study of several; None where it is that already."""
    if len(strengths) == 1 and not validation.nested:
        return None
    (place,) = fittings(len(strengths), nested=False)[-1].places if len(strengths) > 1 else (0,)
    return (replace(validation, hurried=True) if validation.nested else validation), (strengths[place],)


def take_quickest(recorder: Recorder, validation: Validation, strength: float) -> None:
    """Record that an output layer of one strength is taken in place of the study, for which there was too little time."""
    every = strengths_for(validation.target.loss)
    recorder.anew("fitting")
    recorder.decide(fitting={"places": [every.index(strength)], "nested": False})
    say_fitting(recorder, 1, len(every), nested=False, wanted=validation.nested)


def say_fitting(recorder: Recorder, strengths: int, of: int, *, nested: bool, wanted: bool) -> None:
    """What the budget did not take of an output layer's study."""
    if strengths == of and nested == wanted:
        return
    how = "" if nested == wanted else ", their choice not nested"
    recorder.deadline.more["strengths"] = f"all {of} strengths of the output layer" + (", chosen anew in every fold" if wanted else "")
    recorder.emit(Warned(f"output layer: {strengths} of {of} strengths are tried{how}: the budget takes no more"))
