"""What to train, decided before time is spent: options with predicted figures and costs, and the one to take. Pure.

The ladder goes from the fewest changes upwards, and more is trained only where it is expected to give more: a dearer option is never taken
for an equal one, constraints always hold, and more budget never gives a worse plan (tests/property/test_plan_properties.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from regraft.errors import UsageError
from regraft.strategy.cost import BELIEF, Outcome, Range, Z

# ---------------------------------------------------------------- figures on a scale on which they can be added to

SHARES = ("accuracy", "f1_micro")
"""Figures from 0 to 1, of which more is better; the other one is a mean error, of which less is."""

EDGE = 1e-4


def scaled(metric: str, value: float) -> float:
    """A figure on a scale without ends, on which more is better: the log odds of being right (as Kornblith et al. 2019 compare transfer), or
    minus the log of an error.
    """
    if metric in SHARES:
        share = min(1 - EDGE, max(EDGE, value))
        return math.log(share / (1 - share))
    return -math.log(max(EDGE, value))


def unscaled(metric: str, value: float) -> float:
    """Back from `scaled`."""
    return 1 / (1 + math.exp(-value)) if metric in SHARES else math.exp(-value)


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


# ---------------------------------------------------------------- how much to train: rules, each with its source

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
VTAB = "Zhai et al. 2019 and its results for ViT-B/16: tuning scales and biases, +13 points over a linear head on natural images at 1,000 examples"
RESISC = "the same, Resisc45 at 5 images a class: 54.7 for a linear head, 73.0 for everything"
SETFIT = "Tunstall et al. 2022 (SetFit), 8 and 64 texts a class against a linear head on the same encoder: +0 to +11 and +1 to +25 points"
YOSINSKI = "Yosinski et al. 2014: the last layers are the specific ones"
NAMES = "the network's own classes, where they mean the same"

GAINS: dict[tuple[str, str, str], tuple[float, float, str]] = {
    ("norm", FEW, NEAR): (0.10, 0.30, VTAB),
    ("norm", SOME, NEAR): (0.15, 0.30, VTAB),
    ("norm", DECENT, NEAR): (0.20, 0.30, VTAB),
    ("norm", LOT, NEAR): (0.35, 0.35, VTAB),
    ("norm", FEW, FAR): (0.15, 0.40, VTAB),
    ("norm", SOME, FAR): (0.35, 0.40, VTAB),
    ("norm", DECENT, FAR): (0.50, 0.40, VTAB),
    ("norm", LOT, FAR): (0.70, 0.50, VTAB),
    ("top=1", FEW, NEAR): (0.00, 0.25, CS231N),
    ("top=1", SOME, NEAR): (0.05, 0.25, CS231N),
    ("top=1", DECENT, NEAR): (0.15, 0.25, YOSINSKI),
    ("top=1", LOT, NEAR): (0.35, 0.30, YOSINSKI),
    ("top=1", FEW, FAR): (0.10, 0.30, CS231N),
    ("top=1", SOME, FAR): (0.25, 0.35, CS231N),
    ("top=1", DECENT, FAR): (0.45, 0.40, YOSINSKI),
    ("top=1", LOT, FAR): (0.70, 0.50, YOSINSKI),
    ("full", FEW, NEAR): (-0.05, 0.35, CS231N),
    ("full", SOME, NEAR): (0.05, 0.35, KORNBLITH),
    ("full", DECENT, NEAR): (0.25, 0.40, KORNBLITH),
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
"""What a rung gains over the linear head: mean and standard deviation of the log odds of being right, and where that is from. The figures of
the papers were put on this scale (docs/how-it-decides.md has the sum); where training goes astray, the head's weights are kept (WiSE-FT) or
the head ships, so that losses are smaller than in the papers, which keep what they trained."""

AS_IT_IS_GAIN = (-0.4, 0.8, NAMES)


@dataclass(frozen=True)
class Gain:
    """What a rung is expected to gain over the head, and why: the rule, with its source."""

    expected: Expected
    why: str


def gain_of(train: str, per_class: float, near: str, outcomes: Sequence[Outcome] = ()) -> Gain:
    """The rule for a rung, moved by what came of earlier fits of the same rung."""
    if train == "none":
        mean, deviation, source = AS_IT_IS_GAIN
        return _moved(Gain(Expected(mean, deviation), f"nothing is learnt: {source}"), train, outcomes)
    amount = amount_of(per_class)
    mean, deviation, source = _rule(train, amount, near)
    how = "near to what the network knows" if near == NEAR else "far from it" if near == FAR else "how near is not clear"
    why = f"{amount} examples a class ({per_class:,.0f}), {how}: {mean:+.2f} in log odds over the head, give or take {deviation:.2f} ({source})"
    return _moved(Gain(Expected(mean, deviation), why), train, outcomes)


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
    return Gain(expected, f"{gain.why}; {len(found)} earlier fits here move that by {shift:+.2f}")


def _kind(train: str) -> str:
    return "top" if train.startswith("top") else train


# ---------------------------------------------------------------- options, and the choice


@dataclass(frozen=True)
class Option:
    """One thing that could be done. `order` is its place on the ladder, from the fewest changes; `memory` and `disk` are in MB, `latency` in
    milliseconds an example; `reasons` say where the numbers are from. `settings` are those that the rules give.
    """

    model: str
    train: str
    order: int
    figure: Range
    seconds: Range
    memory: Range
    disk: float
    parameters: int
    trained: int
    licence: str = ""
    licence_kind: str = ""
    latency: float | None = None
    stages: Mapping[str, Range] = field(default_factory=dict[str, Range])
    reasons: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    raw_stages: Mapping[str, float] = field(default_factory=dict[str, float])
    raw_memory: float = 0.0

    @property
    def name(self) -> str:
        """What it is called in a table."""
        return f"{self.model} {self.train}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `option_from` reads."""
        plain = {f: getattr(self, f) for f in ("model", "train", "order", "parameters", "trained", "licence", "licence_kind")}
        ranges = {f: getattr(self, f).to_json() for f in ("figure", "seconds", "memory")}
        more = {"disk": round(self.disk, 1), "latency": None if self.latency is None else round(self.latency, 2)}
        stages = {name: r.to_json() for name, r in self.stages.items()}
        raw = {"raw_stages": {k: float(f"{v:.4g}") for k, v in self.raw_stages.items()}, "raw_memory": round(self.raw_memory, 1)}
        return {**plain, **ranges, **more, "stages": stages, "reasons": list(self.reasons), "settings": list(self.settings), **raw}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Option:
        """What `to_json` gave; ValueError, TypeError or KeyError for anything else."""
        ranges = {f: Range.from_json(values[f]) for f in ("figure", "seconds", "memory")}
        stages = {str(k): Range.from_json(v) for k, v in dict(values.get("stages") or {}).items()}
        lists = {f: tuple(str(v) for v in values.get(f) or ()) for f in ("reasons", "settings")}
        words = {f: str(values.get(f) or "") for f in ("licence", "licence_kind")}
        numbers = {f: int(values.get(f) or 0) for f in ("order", "parameters", "trained")}
        latency = None if values.get("latency") is None else float(values["latency"])
        raw = {str(k): float(v) for k, v in dict(values.get("raw_stages") or {}).items()}
        return cls(
            str(values["model"]),
            str(values["train"]),
            disk=float(values.get("disk") or 0.0),
            latency=latency,
            stages=stages,
            raw_stages=raw,
            raw_memory=float(values.get("raw_memory") or 0.0),
            **ranges,
            **lists,
            **words,
            **numbers,
        )


@dataclass(frozen=True)
class Limits:
    """What a plan has to keep. `budget` is in seconds, `memory` in MB, `latency` in milliseconds an example, `parameters` those of the whole
    network; `licence` a licence or a kind of one.
    """

    budget: float | None = None
    memory: float | None = None
    latency: float | None = None
    parameters: float | None = None
    licence: str | None = None

    def broken(self, option: Option) -> tuple[str, ...]:
        """Which of them an option would break, by name. What is predicted counts at the end of its interval that is against it."""
        found = []
        if self.budget is not None and option.seconds.high > self.budget:
            found.append("budget")
        if self.memory is not None and option.memory.high > self.memory:
            found.append("memory")
        if self.latency is not None and (option.latency is None or option.latency > self.latency):
            found.append("latency")
        if self.parameters is not None and option.parameters > self.parameters:
            found.append("parameters")
        if self.licence is not None and self.licence.casefold() not in (option.licence.casefold(), option.licence_kind.casefold()):
            found.append("licence")
        return tuple(found)

    def without(self, name: str) -> Limits:
        """The others."""
        return replace(self, **{name: None})

    @property
    def given(self) -> tuple[str, ...]:
        """The names of those that there are."""
        return tuple(name for name, value in vars(self).items() if value is not None)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


WORTH = {"share": 0.005, "error": 0.02}
"""What an option has to give more than a quicker one to be taken for it: half a point, or a fiftieth of an error. Less is nothing that a user
would see, or that a few hundred examples could tell."""


def worth(metric: str) -> float:
    """The same, for a figure."""
    return WORTH["share" if metric in SHARES else "error"]


def value_of(metric: str, option: Option) -> float:
    """How good an option is expected to be; more is better."""
    return option.figure.value if metric in SHARES else scaled(metric, option.figure.value)


def _dearness(option: Option) -> tuple[float, float, int, str]:
    return option.seconds.high, option.seconds.value, option.order, option.name


def best_of(options: Sequence[Option], metric: str) -> Option | None:
    """The quickest of those that are as good as the best, but for what is not worth anything; of equals the one with the fewest changes.

    Taking the quickest keeps both promises: nothing dearer is taken for an equal one, and an option that more budget allows is dearer than
    all that were allowed before, so that it is only taken where it is better.
    """
    if not options:
        return None
    best = max(value_of(metric, o) for o in options)
    return min((o for o in options if value_of(metric, o) >= best - worth(metric)), key=_dearness)


@dataclass(frozen=True)
class Plan:
    """Options in the order of the ladder, the one to take, and why.

    `binds` are the limits without which another option would be taken, with that option; `changes` says in words what would change the
    choice. `known` tells the data that it was made for, `scratch` what training from random weights would cost, `pace` how fast this
    machine was found to be, `asked` what else was asked for.
    """

    metric: str
    options: tuple[Option, ...]
    chosen: Option
    limits: Limits
    binds: Mapping[str, Option] = field(default_factory=dict[str, Option])
    changes: tuple[str, ...] = ()
    data: str = ""
    known: Mapping[str, Any] = field(default_factory=dict[str, Any])
    scratch: Mapping[str, Any] = field(default_factory=dict[str, Any])
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    asked: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = 0.0
    said: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `Plan.from_json` reads."""
        return {
            "format": 1,
            "data": self.data,
            "known": dict(self.known),
            "metric": self.metric,
            "chosen": {"model": self.chosen.model, "train": self.chosen.train},
            "options": [{**o.to_json(), "broken": list(self.limits.broken(o))} for o in self.options],
            "limits": self.limits.to_json(),
            "binds": {name: {"model": o.model, "train": o.train} for name, o in self.binds.items()},
            "changes": list(self.changes),
            "scratch": dict(self.scratch),
            "evidence": dict(self.evidence),
            "asked": dict(self.asked),
            "seconds": round(self.seconds, 2),
            "said": list(self.said),
            "warned": list(self.warned),
        }

    @classmethod
    def from_json(cls, values: Any) -> Plan:
        """What `to_json` gave, edited or not: `chosen` may name any of the options. UsageError says what cannot be read."""
        if not isinstance(values, Mapping):
            raise UsageError("a plan is a JSON object", move="regraft plan DATA --out plan.json")
        given: Mapping[str, Any] = values  # pyright: ignore[reportUnknownVariableType]
        if given.get("format") != 1:
            raise UsageError(f"a plan of format {given.get('format')!r}", expected="format 1", move="make it again with regraft plan")
        try:
            options = tuple(Option.from_json(o) for o in given["options"])
            limits = Limits(**{k: v for k, v in dict(given.get("limits") or {}).items() if k in Limits.__dataclass_fields__})
            wanted = given["chosen"]
            key = (str(wanted["model"]), str(wanted["train"]))
            metric = str(given["metric"])
            known, asked = (dict(given.get(name) or {}) for name in ("known", "asked"))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"the plan cannot be read: {type(error).__name__}: {error}", move="make it again with regraft plan") from None
        by_name = {(o.model, o.train): o for o in options}
        if key not in by_name:
            shown = ", ".join(o.name for o in options)
            raise UsageError(f"the plan chooses {' '.join(key)}, which is none of its options", expected=shown)
        binds = {
            str(k): by_name[v["model"], v["train"]]
            for k, v in dict(given.get("binds") or {}).items()
            if (v["model"], v["train"]) in by_name
        }
        rest = {name: tuple(str(v) for v in given.get(name) or ()) for name in ("changes", "said", "warned")}
        more = {name: dict(given.get(name) or {}) for name in ("scratch", "evidence")}
        return cls(
            metric,
            options,
            by_name[key],
            limits,
            binds,
            data=str(given.get("data") or ""),
            known=known,
            asked=asked,
            seconds=float(given.get("seconds") or 0.0),
            **rest,
            **more,
        )

    def explain(self) -> str:
        """The plan in words: what to do, what is expected, why nothing else, what would change it."""
        return "\n".join(explained(self))


LEAST = {
    "budget": lambda o: o.seconds.high,
    "memory": lambda o: o.memory.high,
    "latency": lambda o: math.inf if o.latency is None else o.latency,
    "parameters": lambda o: o.parameters,
}


def choose(options: Sequence[Option], limits: Limits, metric: str) -> Plan:
    """The option to take under the limits. UsageError when none is left, with what to relax and how far."""
    ladder = tuple(sorted(options, key=lambda o: (o.order, o.model, o.seconds.value)))
    left = [o for o in ladder if not limits.broken(o)]
    chosen = best_of(left, metric)
    if chosen is None:
        raise nothing_left(ladder, limits)
    binds: dict[str, Option] = {}
    for name in limits.given:
        other = best_of([o for o in ladder if not limits.without(name).broken(o)], metric)
        if other is not None and other is not chosen and value_of(metric, other) > value_of(metric, chosen):
            binds[name] = other
    plan = Plan(metric, ladder, chosen, limits, binds)
    return replace(plan, changes=tuple(_changes(plan)))


def nothing_left(options: Sequence[Option], limits: Limits) -> UsageError:
    """What to say where no option keeps all limits: of each the least that would leave one, the others being kept."""
    moves: list[str] = []
    for name in limits.given:
        able = [o for o in options if not limits.without(name).broken(o)]
        if not able:
            continue
        if name == "licence":
            moves.append(f"--licence: {', '.join(sorted({o.licence for o in able}))}")
            continue
        nearest = min(able, key=LEAST[name])
        moves.append(f"{_flag(name)} {_amount(name, LEAST[name](nearest))} leaves {nearest.name}")
    asked = ", ".join(f"{_flag(name)} {_amount(name, getattr(limits, name))}" for name in limits.given)
    if not moves:
        moves = [f"{o.name} would break {', '.join(_flag(n) for n in limits.broken(o))}" for o in options[:5]]
        return UsageError(f"no option keeps {asked}, nor all but one of them", faults=moves, move="relax two of them")
    return UsageError(f"no option keeps {asked}", faults=moves, move="relax one of these, or leave it away")


def _flag(name: str) -> str:
    return {"budget": "--budget", "licence": "--licence", "parameters": "--max-params"}.get(name, f"--max-{name}")


def _amount(name: str, value: Any) -> str:
    if name == "budget":
        return seconds_in_words(math.ceil(value))
    if name == "memory":
        return f"{math.ceil(value):,}MB".replace(",", "")
    if name == "latency":
        return f"{value:.3g}ms"
    return f"{math.ceil(value / 1e5) / 10:g}M" if name == "parameters" else str(value)


def seconds_in_words(seconds: float) -> str:
    """A duration as it is asked for: 45s, 10m, 1.5h."""
    if seconds < 90:
        return f"{math.ceil(seconds)}s"
    return f"{math.ceil(seconds / 6) / 10:g}m" if seconds < 5400 else f"{math.ceil(seconds / 360) / 10:g}h"


def _changes(plan: Plan) -> list[str]:
    chosen, metric = plan.chosen, plan.metric
    said: list[str] = []
    for name, other in plan.binds.items():
        gain = _gain(metric, chosen, other)
        if name == "licence":
            said.append(f"another licence would allow {other.name}: {gain} expected")
        else:
            said.append(f"{_flag(name)} {_amount(name, LEAST[name](other))} would allow {other.name}: {gain} expected")
    if not said:
        able = [o for o in plan.options if not plan.limits.broken(o) and o is not chosen]
        nearest = max(able, key=lambda o: value_of(metric, o), default=None)
        if nearest is not None:
            more = value_of(metric, nearest) - value_of(metric, chosen)
            if more <= 0:
                said.append(
                    f"nothing that was looked at is expected to be better; {nearest.name} comes next, at {_gain(metric, chosen, nearest)}"
                )
            else:
                said.append(f"{nearest.name} is expected to give {_gain(metric, chosen, nearest)}, which is too little for its time")
    return said


def _gain(metric: str, chosen: Option, other: Option) -> str:
    if metric in SHARES:
        return f"{100 * (other.figure.value - chosen.figure.value):+.1f} points"
    return f"{100 * (other.figure.value / chosen.figure.value - 1):+.0f} % error"


def explained(plan: Plan) -> list[str]:
    """The sentences of `Plan.explain`."""
    chosen, metric = plan.chosen, plan.metric
    lines: list[str] = []
    evidence = plan.evidence
    if evidence.get("examples"):
        near = {"near": "near to what the network knows", "far": "far from what the network knows"}.get(str(evidence.get("near")), "")
        of = f", {near}" if near else ""
        lines.append(f"{evidence['examples']:,} examples, {evidence['per_class']:,.0f} a class{of}: {approach(evidence['per_class'])}")
    lines.append(
        f"{chosen.name}: {metric.replace('_', ' ')} {_shown(metric, chosen.figure)} expected, in {_time(chosen.seconds)}, "
        f"{chosen.memory.value:,.0f} MB of memory"
    )
    for option in plan.options:
        if option is chosen:
            continue
        broken = plan.limits.broken(option)
        if broken:
            lines.append(
                f"not {option.name}: over {', '.join(_flag(n) for n in broken)} ({_time(option.seconds)}, {option.memory.value:,.0f} MB)"
            )
        elif value_of(metric, option) > value_of(metric, chosen):
            lines.append(f"not {option.name}: {_gain(metric, chosen, option)} more is not worth {_time(option.seconds)}")
        else:
            lines.append(f"not {option.name}: {_gain(metric, chosen, option)} expected, in {_time(option.seconds)}")
    lines += [f"what would change this: {change}" for change in plan.changes]
    return lines


def approach(per_class: float) -> str:
    """The field's table of how much to train, for so many examples a class (Ng, Deep Learning Specialization, C4W2)."""
    if per_class <= 25:
        return "little data: freeze everything, train a new output layer"
    return "a decent amount of data: freeze the early layers" if per_class <= 250 else "a lot of data: everything may train"


def _shown(metric: str, figure: Range) -> str:
    return (
        f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
        if metric in SHARES
        else f"{figure.value:.3g} ({figure.low:.3g} to {figure.high:.3g})"
    )


def _time(seconds: Range) -> str:
    return f"{seconds_in_words(seconds.value)} ({seconds_in_words(seconds.low)} to {seconds_in_words(seconds.high)})"


def allowance(budget: float | None) -> float:
    """Seconds that making a plan may take: of a budget 15 %, and without one what a user waits for."""
    return 20.0 if budget is None else 0.15 * budget


def subset_size(seconds: float, example: float, examples: int, outputs: int) -> int:
    """How many training examples a plan looks at, when it has so many seconds left and an example takes so many: at least four a class, at
    most 1,000, which tell a figure to a point and a half.
    """
    least = min(examples, max(32, 4 * outputs))
    return max(least, min(examples, 1000, int(seconds / max(1e-4, example))))


__all__ = ["BELIEF", "Expected", "Limits", "Option", "Plan", "choose", "explained", "gain_of"]
