"""What fits into the time that is left. Pure: seconds in, counts out; whoever asks has the clock.

Each rule keeps two things: more time never gives less, and what is planned never takes longer than what is left.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SAFE = 0.85
"""Part of the time that plans may fill: what was measured on a few steps or tiles is off by 10 to 15 % on a machine in use."""

LEAST_STEPS = 20
"""Steps of a training below which its warm-up and fall are no schedule any more; trainings that are shorter by rule stay as they are."""

LATE = 0.95
"""A schedule is shortened when less than this part of its remaining steps still fits: smaller delays are what SAFE is for."""


ENDING, ENDING_CELL, ENDING_ROW = 1.5, 2e-6, 3e-5
"""Seconds, on an idle machine, for settling, figures and the files of a run: in any case (measured: 0.4 to 0.8), for each output of each
training example (77 classes of 10,003 texts: 1 s), and for each of these.
"""


def ending_seconds(examples: int, outputs: int) -> float:
    """What a run takes at its end, with so many training examples."""
    return ENDING + examples * (ENDING_ROW + ENDING_CELL * outputs)


def design_seconds(rows: int, width: int) -> float:
    """What it takes, on an idle machine, to bring rows of so many numbers to their principal axes, which every output layer begins with:
    measured from 0.03 s (200 rows of 1,280) to 1.7 s (10,000).
    """
    least = min(rows, width)
    return 1e-10 * rows * width * least + 3.5e-10 * least**3


@dataclass(frozen=True)
class Costs:
    """Measured seconds: of a `step`, of `judging` one fold, and of `finishing` once everything is trained."""

    step: float
    judging: float
    finishing: float


@dataclass(frozen=True)
class Training:
    """In so many `folds`, then on everything for so many `steps`; a fold's are fewer as it has fewer examples."""

    folds: int
    steps: int


def fold_steps(steps: int, folds: int) -> int:
    """Steps of a training without one of so many folds, where the one on everything takes `steps`."""
    return max(1, math.ceil(steps * (folds - 1) / folds))


def seconds_of(training: Training, costs: Costs, folds: int) -> float:
    """What a training takes, of data in so many `folds`, without finishing."""
    return training.folds * (fold_steps(training.steps, folds) * costs.step + costs.judging) + training.steps * costs.step


def training_within(left: float, costs: Costs, folds: int, steps: int, most: int | None = None) -> Training | None:
    """The training that fits into the seconds that are `left`: the whole schedule of `steps` in as many folds as possible; in one fold with
    as many steps as fit; None where those are too few. A longer schedule goes before more folds: what ships matters more than how narrow
    its interval is.
    """
    usable = SAFE * (left - costs.finishing)
    for count in range(min(folds, most or folds), 0, -1):
        if seconds_of(whole := Training(count, steps), costs, folds) <= usable:
            return whole
    if not math.isfinite(usable) or usable <= 0:
        return None
    share = (folds - 1) / folds
    fitting = min(steps, int((usable - costs.judging) / max(1e-9, costs.step * (1 + share))))
    while fitting > 0 and seconds_of(Training(1, fitting), costs, folds) > usable:
        fitting -= 1
    return Training(1, fitting) if fitting >= min(LEAST_STEPS, steps) else None


def folds_within(left: float, costs: Costs, folds: int, most: int, done: int, steps: int) -> int:
    """How many of the data's `folds` are trained, at most `most`, when `done` are and so many seconds are left: those after which the final
    training of `steps` still fits.
    """
    usable = SAFE * (left - costs.finishing) - steps * costs.step
    each = fold_steps(steps, folds) * costs.step + costs.judging
    return max(done, min(most, done + int(max(0.0, usable) / max(1e-9, each))))


def steps_within(left: float, costs: Costs, steps: int) -> int | None:
    """How many of the final training's `steps` fit; None where those are too few: half of what a plan may begin with, as folds were trained
    for it already.
    """
    fitting = min(steps, int(SAFE * max(0.0, left - costs.finishing) / max(1e-9, costs.step)))
    return fitting if fitting >= max(1, min(LEAST_STEPS, steps) // 2) else None


def shortened(left: float, pace: float, remaining: int) -> int | None:
    """How many of a schedule's `remaining` steps still fit into the seconds that are left, at so many seconds a step; None: go on as
    planned.
    """
    if remaining * pace * LATE <= left:
        return None
    return max(0, min(remaining - 1, int(left / max(1e-9, pace))))


def time_for(left: float, own: float, after: float) -> float:
    """Seconds that a part may take which was planned to take `own`, with others that take `after` still to come: its share of it."""
    return max(0.0, left) * (own / (own + after) if own + after > 0 else 1.0)


@dataclass(frozen=True)
class Fitting:
    """How an output layer is fitted: by which of its strengths (places in their list), and whether their choice is nested."""

    places: tuple[int, ...]
    nested: bool

    def fits(self, folds: int) -> int:
        """How many models that takes at most."""
        pairs = folds * (folds - 1) // 2 if self.nested else 0
        return len(self.places) * (folds + pairs) + 1


def fittings(strengths: int, nested: bool) -> list[Fitting]:
    """Ways to fit an output layer, from the whole study of so many strengths to a single one, each cheaper than the one before."""
    steps = [step for step in (1, 2, 4) if strengths > 2 * step or step == 1]
    grids = [tuple(range((strengths - 1) % step // 2, strengths, step)) for step in steps]
    single = (min(strengths - 1, strengths // 2 + strengths // 8),)
    ways = [Fitting(grids[0], True)] * nested + [Fitting(grid, False) for grid in grids]
    return [*ways, *([Fitting(single, False)] if len(grids[-1]) > 1 else [])]


def fitting_within(left: float, seconds: float, strengths: int, folds: int, *, nested: bool) -> Fitting:
    """The most thorough way to fit an output layer of data in so many folds that takes at most the seconds that are left, when one model
    takes `seconds`; where none does, the cheapest.
    """
    ways = fittings(strengths, nested)
    return next((way for way in ways if way.fits(folds) * seconds <= SAFE * left), ways[-1])


ROUND = 0.5
"""Part of the time that is left for a pass that one round of it may take, by the pace of the last one: it may be twice as slow."""


def examples_in_round(left: float, each: float | None, remaining: int, first: int) -> int:
    """How many more examples go through the network in the next round, of `remaining` ones, with so many seconds left for all rounds and
    `each` second an example. `first`: how many go in the first round, of which no pace is known.
    """
    if left <= 0:
        return 0
    if each is None:
        return min(first, remaining)
    if remaining * each <= ROUND * left:
        return remaining
    count = int(ROUND * left / max(1e-9, each))
    # the last few, one by one, would not pay for the start of a round
    return min(remaining, count) if count >= max(1, first // 4) else 0


def views_within(left: float, each: float, examples: int, views: int) -> int:
    """How many of the `views` of each training example, the plain one among them, fit; `each` second goes into one view."""
    return 1 + min(views - 1, int(SAFE * max(0.0, left) / max(1e-9, each * examples)))


FIND_SHARE = 0.1
"""Part of the time for training that looking for a rate, or for a faster precision, may take."""


def may_look(left: float, cost: float) -> bool:
    """Whether something that only may help, and costs so many seconds, can be tried."""
    return cost <= FIND_SHARE * left


TIMING = 2.0
"""Seconds that making and timing another engine takes at least."""

SAVED = 2 / 3
"""Part of a pass that the best of them saves, mostly."""


def may_time_engines(left: float, whole: float, own: float, others: int, slowness: float = 1.0) -> bool:
    """Whether looking for a faster engine pays, when so many seconds are left for a pass that takes `whole` seconds in the plain one, whose
    own opening and timing took `own`: it has to save twice what it costs. `slowness`: times as long as on an idle machine.
    """
    return 2 * others * max(TIMING * slowness, own) <= SAVED * min(whole, left)


def may_round(left: float, exact: float) -> bool:
    """Whether an engine that rounds may be taken: where its predictions differ, everything runs again, for `exact` seconds."""
    return exact <= ROUND * left


def nested_order(
    strata: Sequence[Hashable], units: Sequence[Hashable], keys: Sequence[float], first: Mapping[Any, int]
) -> tuple[list[int], int]:
    """(an order of examples (positions) of which every beginning is a small image of the whole: of each stratum about the same part; how
    many of them come `first`).

    Examples of one unit stay together, in the stratum of the first of them. `keys` (one an example, by chance) decide among equals. Of a
    stratum so many units as `first` says come before all others.
    """
    members: dict[object, list[int]] = {}
    for i, unit in enumerate(units):
        members.setdefault(unit, []).append(i)
    of: dict[object, list[list[int]]] = {}
    for own in members.values():
        of.setdefault(strata[own[0]], []).append(own)
    placed: list[tuple[tuple[int, float, float], list[int]]] = []
    for stratum, own in of.items():
        own.sort(key=lambda unit: keys[unit[0]])
        for place, unit in enumerate(own):
            # the first few in turn of all strata; the others by how far their stratum is
            early = place < first.get(stratum, 0)
            placed.append(((0, float(place), keys[unit[0]]) if early else (1, (place + 0.5) / len(own), keys[unit[0]]), unit))
    placed.sort(key=lambda item: item[0])
    return [i for _, unit in placed for i in unit], sum(len(unit) for (late, _, _), unit in placed if not late)
