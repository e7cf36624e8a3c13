"""What a rung is expected to gain over the linear head, by rules that name their source. Pure: counts and figures in, expectations out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from regraft.strategy.cost import Range, Z
from regraft.strategy.outcomes import Outcome

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


RATE = Expected(0.25, 0.2)
"""How fast a linear head's errors fall: by n to the power of minus this. Hestness et al. 2017 find 0.07 to 0.35 for deep networks on many
tasks; a linear head on fixed features levels off, or goes down to 0."""

FLOOR = 0.03
"""The deviation that stays however many examples were seen: folds and strengths fall otherwise."""


def at_size(metric: str, value: float, seen: int, n: int) -> Expected:
    """A linear head's cross-validated figure on all `n` examples, from that on `seen` of them.

    What was seen is a part of what will be judged: of its sampling error the part 1/seen - 1/n is left. An error or success more than was
    seen is counted to each, so that none at all does not mean never.
    """
    if n <= seen:
        return Expected(scaled(metric, value), FLOOR)
    growth = Expected(RATE.mean * math.log(n / seen), RATE.deviation * math.log(n / seen))
    if metric in SHARES:
        share = (value * seen + 1) / (seen + 2)
        sampling = math.sqrt(max(0.0, 1 / seen - 1 / n) / (share * (1 - share)))
        return Expected(scaled(metric, share), math.hypot(sampling, FLOOR)).plus(growth)
    return Expected(scaled(metric, value), math.hypot(math.sqrt(max(0.0, 1 / seen - 1 / n)), FLOOR)).plus(growth)


FEW, SOME, DECENT, LOT = "few", "some", "decent", "many"
"""Examples a class: up to 5, to 25, to 250, more."""

NEAR, FAR, UNKNOWN = "near", "far", "unknown"
"""How similar the data is to what the network knows."""


def amount_of(per_class: float) -> str:
    """The name of so many examples a class."""
    return FEW if per_class <= 5 else SOME if per_class <= 25 else DECENT if per_class <= 250 else LOT


def nearness(head: float, constant: float) -> str:
    """How near the data is, by how much of what saying always the same gets wrong a linear head gets right: the table of Kornblith et al.
    2019 has gains below a point where it is right nine times of ten, and 14 to 25 where it is right five to seven times.
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


@dataclass(frozen=True)
class Gain:
    """What a rung is expected to gain over the head, and why: the rule, with its source. `rule` is the mean that the rule alone says."""

    expected: Expected
    why: str
    rule: float


def gain_of(train: str, per_class: float, near: str, outcomes: Sequence[Outcome] = (), metric: str = SHARES[0]) -> Gain:
    """The rule for a rung, moved by what came of earlier fits of the same rung. The rules are of classes: of an error, half is taken."""
    of = 1.0 if metric in SHARES else 0.5
    if train in AS_IT_IS:
        mean, deviation, source = _scaled(AS_IT_IS[train], of)
        why = f"its own output layer stays: {_rule_said(mean, deviation, metric)} ({source})"
        return _moved(Gain(Expected(mean, deviation), why, mean), train, outcomes)
    amount = amount_of(per_class)
    mean, deviation, source = _scaled(_rule(train, amount, near), of)
    how = "near to what the network knows" if near == NEAR else "far from it" if near == FAR else "how near is not clear"
    why = f"{amount} examples a class ({per_class:,.0f}), {how}: {_rule_said(mean, deviation, metric)} ({source})"
    return _moved(Gain(Expected(mean, deviation), why, mean), train, outcomes)


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
    if near == UNKNOWN:
        a, b = _rule(train, amount, NEAR), _rule(train, amount, FAR)
        return (a[0] + b[0]) / 2, math.hypot((a[1] + b[1]) / 2, abs(a[0] - b[0]) / 2), b[2]
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
