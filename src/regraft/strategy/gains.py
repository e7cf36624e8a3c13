"""What a rung is expected to gain over the linear head, by rules that name their source. Pure: counts and figures in, expectations out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, stdev

import numpy as np

from regraft.strategy.cost import Range, Z
from regraft.strategy.learning import SCATTER, UNSHARED, LearningCurve
from regraft.strategy.outcomes import Outcome
from regraft.strategy.similarity import FAR, MIDDLING, NEAR, UNKNOWN, WHERE

SHARES = ("accuracy", "f1_micro")
"""Figures from 0 to 1, of which more is better; the other one is a mean error, of which less is."""

EDGE = 1e-4


def scaled(metric: str, value: float) -> float:
    """A figure on a scale without ends, on which more is better: the log odds of being right (as Kornblith et al. 2019 compare
    transfer), or minus the log of an error.
    """
    if metric in SHARES:
        share = min(1 - EDGE, max(EDGE, value))
        return math.log(share / (1 - share))
    return -math.log(max(EDGE, value))


def unscaled(metric: str, value: float) -> float:
    """Back from `scaled`; what lies at an edge is the edge itself."""
    if metric not in SHARES:
        return math.exp(-value)
    share = 1 / (1 + math.exp(-value))
    return 1.0 if share >= 1 - 1.01 * EDGE else 0.0 if share <= 1.01 * EDGE else share


@dataclass(frozen=True)
class Expected:
    """A figure on the scale of `scaled`: the mean of what is expected, and the standard deviation."""

    mean: float
    deviation: float

    def plus(self, other: Expected) -> Expected:
        """With a gain, which errs by itself."""
        return Expected(self.mean + other.mean, math.hypot(self.deviation, other.deviation))

    def figure(self, metric: str) -> Range:
        """The figure itself."""
        ends = [unscaled(metric, self.mean + sign * Z * self.deviation) for sign in (-1, 1)]
        return Range(unscaled(metric, self.mean), min(ends), max(ends))


def drawn(prior: Expected, measured: Expected) -> Expected:
    """Two independent opinions of one thing, each with the weight that its certainty gives it."""
    if not measured.deviation or not prior.deviation:
        return measured if not measured.deviation else prior
    own, other = 1 / prior.deviation**2, 1 / measured.deviation**2
    return Expected((own * prior.mean + other * measured.mean) / (own + other), (own + other) ** -0.5)


RATE = {True: Expected(0.4, 0.2), False: Expected(0.25, 0.2)}
"""How fast a linear head gets better, for shares and for errors: by n to the power of this, of the odds of being right, or of one over the
error. The first is regraft's own, on six sets (benchmarks/judgement/growth.py); Hestness et al. 2017 find 0.07 to 0.35 for the errors of
deep networks on many tasks.
"""

SLOWS = Expected(0.7, 0.2)
"""Of the rate at which a head's own learning curve has risen so far, the part that is left beyond its end, and the deviation of a rate that
is told so: curves flatten (Viering & Loog 2022). Set on the same sets; each was then judged with what the others say.
"""

FLOOR = 0.03
"""The deviation that stays however many examples were seen: folds and strengths fall otherwise."""

HALF = 0.5
"""Errors and successes that are counted beside those that were seen, so that none at all does not mean never (Jeffreys)."""


def counted(share: float, seen: int) -> float:
    """A share of so many, with half an error and half a success more."""
    return (share * seen + HALF) / (seen + 2 * HALF)


def at_size(metric: str, value: float, seen: int, n: int, rate: Expected | None = None) -> Expected:
    """A linear head's cross-validated figure on all `n` examples, from that on `seen` of them, when it gets better at this rate.

    What was seen is a part of what will be judged: of its sampling error the part 1/seen - 1/n is left.
    """
    if n <= seen:
        return Expected(scaled(metric, value), FLOOR)
    rate = rate or RATE[metric in SHARES]
    growth = Expected(rate.mean * math.log(n / seen), rate.deviation * math.log(n / seen))
    left = math.sqrt(1 / seen - 1 / n)
    if metric in SHARES:
        share = counted(value, seen)
        return Expected(scaled(metric, share), math.hypot(left / math.sqrt(share * (1 - share)), FLOOR)).plus(growth)
    return Expected(scaled(metric, value), math.hypot(left, FLOOR)).plus(growth)


def own_rate(metric: str, curve: LearningCurve, seen: int, rule: Expected, slows: Expected = SLOWS) -> Expected:
    """The rate at which a head gets better beyond its learning curve: that of the curve, slowed, and that of the rule, each with the weight
    that its certainty gives it. The curve is a line through its points on the scale of gains; a point is as sure as its draws agree and as
    examples were judged.
    """
    errors = np.array([counted(p.mean, seen) if metric in SHARES else p.mean for p in curve.points])
    spread = np.array([_spread(p.errors) for p in curve.points])
    # of the sampling error of those that were judged, all points share the larger part
    judged = UNSHARED * (1 - errors) / (errors * seen) if metric in SHARES else np.full(len(errors), UNSHARED / seen)
    slope = 1 / (1 - errors) if metric in SHARES else 1.0
    weights = 1 / ((spread**2 + judged) * slope**2)
    across = np.log([p.examples for p in curve.points])
    up = np.array([scaled(metric, 1 - e if metric in SHARES else e) for e in errors])
    middle = float(weights @ across / weights.sum())
    certainty = float(weights @ (across - middle) ** 2)
    found = slows.mean * float(weights @ ((across - middle) * up)) / certainty
    own, prior = 1 / math.hypot(slows.mean / math.sqrt(certainty), slows.deviation) ** 2, 1 / rule.deviation**2
    return Expected((own * found + prior * rule.mean) / (own + prior), (own + prior) ** -0.5)


def _spread(errors: Sequence[float]) -> float:
    """The relative standard error of a point's mean from one draw to the next; of a single draw it is believed to be SCATTER."""
    mean = max(1e-9, sum(errors) / len(errors))
    if len(errors) < 2:
        return 2 * SCATTER
    return max(SCATTER / math.sqrt(len(errors)), stdev(errors) / mean / math.sqrt(len(errors)))


def on_new(metric: str, judged: Expected, n: int, folds: int) -> Expected:
    """What a figure that is cross-validated on `n` examples says of examples that nobody has seen: it has the sampling error of so many (of
    a mean error as if errors scattered by as much as they are), none wrong of a few does not mean never, and each fold is judged by a head
    that learnt from the others alone.
    """
    rate, more = RATE[metric in SHARES], math.log(max(2, folds) / (max(2, folds) - 1))
    mean, chance = judged.mean, 1 / math.sqrt(n)
    if metric in SHARES:
        share = counted(unscaled(metric, mean), n)
        mean, chance = scaled(metric, share), chance / math.sqrt(share * (1 - share))
    grows = Expected(rate.mean * more, rate.deviation * more)
    return Expected(mean, math.hypot(judged.deviation, chance)).plus(grows)


@dataclass(frozen=True)
class Grown:
    """What a head is expected to reach with all examples, and where that is from; empty where all were seen."""

    expected: Expected
    why: str = ""


CURVED = ("accuracy", "mae")
"""Figures that are one less the error of a learning curve, or that error."""


def grown(metric: str, value: float, seen: int, n: int, curve: LearningCurve | None = None) -> Grown:
    """A linear head's cross-validated figure on all `n` examples, from `value` on `seen` of them: at the rate of the rule, and of the
    data's own learning curve where it has three points or more.
    """
    rule = RATE[metric in SHARES]
    what = "the odds of being right" if metric in SHARES else "one over the error"
    from_to = f"from {seen:,} to {n:,} examples {what} are expected to grow as n to the power of"
    if n <= seen:
        return Grown(at_size(metric, value, seen, n))
    if curve is None or metric not in CURVED or len(curve.points) < LEAST_POINTS or curve.points[-1].mean <= 0:
        few = f"; {curve.reason}" if curve is not None and curve.reason else ""
        said = f"{from_to} {rule.mean:g}, give or take {rule.deviation:g} (heads on six sets, docs/how-it-decides.md{few})"
        return Grown(at_size(metric, value, seen, n), said)
    rate = own_rate(metric, curve, seen, rule)
    first, last = curve.points[0], curve.points[-1]
    fell = f"its own learning curve fell from {first.mean:.3g} to {last.mean:.3g} errors between {first.examples:,} and {last.examples:,}"
    rest = f"drawn together with what heads on six sets say: {rule.mean:g}"
    said = f"{from_to} {rate.mean:.2g}, give or take {rate.deviation:.2g} ({fell}; {rest})"
    return Grown(at_size(metric, value, seen, n, rate), said)


LEAST_POINTS = 3
"""Of a learning curve that says how fast it rises."""

FEW, SOME, DECENT, LOT = "few", "some", "decent", "many"
"""Examples a class: up to 5, to 25, to 250, more."""


def amount_of(per_class: float) -> str:
    """The name of so many examples a class."""
    return FEW if per_class <= 5 else SOME if per_class <= 25 else DECENT if per_class <= 250 else LOT


def nearness(head: float, constant: float) -> str:
    """How near the data is where similarity could not be measured, by how much of what saying always the same gets wrong a linear head gets
    right: the table of Kornblith et al. 2019 has gains below a point where it is right nine times of ten, and 14 to 25 where it is right
    five to seven times.
    """
    part = (head - constant) / max(1e-9, 1 - constant)
    return NEAR if part >= 0.85 else FAR if part < 0.65 else UNKNOWN


CS231N = "CS231n, Transfer Learning: small and similar, a linear classifier on the top; large, fine-tune all; different, go deeper"
KORNBLITH = (
    "Kornblith et al. 2019, table of linear and fine-tuned: within a point on Pets, DTD, Caltech, 14 to 25 points on Food, Cars, Aircraft"
)
VTAB = (
    "ViT-B/16 on VTAB-1k (Zhai et al. 2019): scales and biases give 13 points more than a linear head on natural images, 25 on drawn ones"
)
RESISC = "ViT-B/16, Resisc45 at 5 images a class: 54.7 for a linear head, 73.0 for everything"
SETFIT = "Tunstall et al. 2022 (SetFit), 8 and 64 texts a class against a linear head on the same encoder: +0 to +11 and +1 to +25 points"
YOSINSKI = "Yosinski et al. 2014: the last layers are the specific ones"
NAMES = "the network's own classes, where they mean the same"

GAINS: dict[tuple[str, str, str], tuple[float, float, str]] = {
    ("norm", FEW, NEAR): (0.10, 0.30, VTAB),
    ("norm", SOME, NEAR): (0.10, 0.30, VTAB),
    ("norm", DECENT, NEAR): (0.15, 0.30, VTAB),
    ("norm", LOT, NEAR): (0.35, 0.35, VTAB),
    ("norm", FEW, FAR): (0.15, 0.40, VTAB),
    ("norm", SOME, FAR): (0.35, 0.40, VTAB),
    ("norm", DECENT, FAR): (0.50, 0.40, VTAB),
    ("norm", LOT, FAR): (0.70, 0.50, VTAB),
    ("top=1", FEW, NEAR): (0.00, 0.25, CS231N),
    ("top=1", SOME, NEAR): (0.05, 0.25, CS231N),
    ("top=1", DECENT, NEAR): (0.10, 0.25, YOSINSKI),
    ("top=1", LOT, NEAR): (0.35, 0.30, YOSINSKI),
    ("top=1", FEW, FAR): (0.10, 0.30, CS231N),
    ("top=1", SOME, FAR): (0.25, 0.35, CS231N),
    ("top=1", DECENT, FAR): (0.45, 0.40, YOSINSKI),
    ("top=1", LOT, FAR): (0.70, 0.50, YOSINSKI),
    ("full", FEW, NEAR): (-0.05, 0.35, CS231N),
    ("full", SOME, NEAR): (0.05, 0.35, KORNBLITH),
    ("full", DECENT, NEAR): (0.20, 0.45, KORNBLITH),
    ("full", LOT, NEAR): (0.60, 0.50, KORNBLITH),
    ("full", FEW, FAR): (0.20, 0.50, RESISC),
    ("full", SOME, FAR): (0.50, 0.50, RESISC),
    ("full", DECENT, FAR): (0.90, 0.60, KORNBLITH),
    ("full", LOT, FAR): (1.40, 0.70, KORNBLITH),
    ("contrastive", FEW, NEAR): (0.15, 0.35, SETFIT),
    ("contrastive", SOME, NEAR): (0.25, 0.35, SETFIT),
    ("contrastive", FEW, FAR): (0.30, 0.40, SETFIT),
    ("contrastive", SOME, FAR): (0.40, 0.40, SETFIT),
    ("contrastive", DECENT, NEAR): (0.25, 0.35, SETFIT),
    ("contrastive", DECENT, FAR): (0.50, 0.45, SETFIT),
}
"""What a rung gains over the linear head: mean and standard deviation of the log odds of being right, and where that is from.

The figures of the papers were put on this scale (docs/how-it-decides.md); where training goes astray, the head's weights are kept (WiSE-FT)
or the head ships, so that losses are smaller than in the papers, which keep what they trained."""

OUTPUTS = "a linear map on the scores of other classes (Torresani et al. 2010): a point or two below on flowers5 and cifar10, docs/rungs.md"
AS_IT_IS = {"none, by name": (0.1, 0.7, NAMES), "none": (-0.15, 0.4, OUTPUTS)}
"""The same for the network's own output layer, whose classes are called what the labels are called, or not."""


Shifts = Mapping[tuple[str, str], float]
"""By kind of rung and task, or network where that was measured on one: how much more a rung gained than the rules say, in log odds."""

SHIFTS: Shifts = {
    ("norm", "image"): -0.11,
    ("contrastive", "text"): 0.36,
    ("contrastive", "packaged:use-multilingual-v3"): -0.11,
    ("full", "text"): 0.16,
    ("full", "packaged:use-multilingual-v3"): -0.11,
}
"""From fits on eight sets, 5 and 20 examples a class (`fitted_shifts` in benchmarks/judgement/replay.py): the rules of papers are believed
to 0.4 before anything is measured, data sets are 0.4 apart, and what is left below 0.1 is nothing.
"""

JUDGEMENT = "in fits on eight sets, docs/how-it-decides.md"


@dataclass(frozen=True)
class Gain:
    """What a rung is expected to gain over the head, and why: the rule, with its source. `rule` is the mean that the rule alone says."""

    expected: Expected
    why: str
    rule: float


def gain_of(
    train: str,
    per_class: float,
    near: str,
    outcomes: Sequence[Outcome] = (),
    metric: str = SHARES[0],
    task: str = "",
    measured: Shifts = SHIFTS,
    model: str = "",
) -> Gain:
    """The rule for a rung, moved by what was `measured` of rungs of its kind on this `model`, else with inputs of this `task`, and by what
    came of earlier fits of the same rung. The rules are of classes: of an error, half is taken.
    """
    of = 1.0 if metric in SHARES else 0.5
    if train in AS_IT_IS:
        mean, deviation, source = _scaled(AS_IT_IS[train], of)
        why = f"its own output layer stays: {_rule_said(mean, deviation, metric)} ({source})"
        return _moved(Gain(Expected(mean, deviation), why, mean), train, outcomes)
    amount = amount_of(per_class)
    on = model if (_kind(train), model) in measured else task
    mean, deviation, source = _scaled(_shifted(_rule(train, amount, near), measured.get((_kind(train), on), 0.0), on), of)
    how = f"{WHERE[near]} what the network knows" if near in WHERE else "how near is not clear"
    why = f"{amount} examples a class ({per_class:,.0f}), {how}: {_rule_said(mean, deviation, metric)} ({source})"
    return _moved(Gain(Expected(mean, deviation), why, mean), train, outcomes)


def _shifted(rule: tuple[float, float, str], by: float, on: str) -> tuple[float, float, str]:
    """The spread of a rule is that of data sets, and holds what is not known of the shift."""
    mean, deviation, source = rule
    return (mean + by, deviation, f"{source}; {by:+.2f} for {on} {JUDGEMENT}") if by else rule


def _scaled(rule: tuple[float, float, str], of: float) -> tuple[float, float, str]:
    return of * rule[0], of * rule[1], rule[2]


def _rule_said(mean: float, deviation: float, metric: str) -> str:
    unit = "log odds" if metric in SHARES else "the log of the error, half of what it is for classes,"
    return f"{mean:+.2f} in {unit} over the head, give or take {deviation:.2f}"


def _rule(train: str, amount: str, near: str) -> tuple[float, float, str]:
    if train.startswith("top=") and train != "top=1":
        one, whole = _rule("top=1", amount, near), _rule("full", amount, near)
        share = 1 - 0.6 ** (int(train[4:]) - 1)
        return one[0] + share * (whole[0] - one[0]), max(one[1], whole[1]), f"between top=1 and full; {YOSINSKI}"
    if near not in (NEAR, FAR):
        # what is not measured may be either; what is measured and neither lies between
        apart = 4 if near == MIDDLING else 2
        a, b = _rule(train, amount, NEAR), _rule(train, amount, FAR)
        return (a[0] + b[0]) / 2, math.hypot((a[1] + b[1]) / 2, abs(a[0] - b[0]) / apart), b[2]
    return GAINS[train, amount, near]


LATEST = 30
DOUBT = 4.0
"""Outcomes that a rule counts as."""


def _moved(gain: Gain, train: str, outcomes: Sequence[Outcome]) -> Gain:
    """With the median of what earlier fits of this rung gave more than was predicted."""
    kind = _kind(train)
    found = [o.figure[1] - o.figure[0] for o in outcomes if o.figure and _kind(o.train) == kind][-LATEST:]
    if len(found) < 3:
        return gain
    shift = len(found) / (len(found) + DOUBT) * median(found)
    expected = Expected(gain.expected.mean + shift, gain.expected.deviation)
    return Gain(expected, f"{gain.why}; {len(found)} earlier fits here move that by {shift:+.2f}", gain.rule)


def _kind(train: str) -> str:
    return train.partition("=")[0].partition(",")[0]
