"""Climbing the ladder: which rung to train next, or that none is worth it, and why. Pure: expectations and measured gains in, a choice out.

Rungs stand in two orders, that of the fewest changes and that of predicted cost. The goal of a climb is the cheapest of those that are as
good as the best that fits, but for what is not worth anything (`strategy.plan.worth`). What lies before it in the order of changes is
trained first where it is cheaper, is expected to be better than everything cheaper, and leaves room for the goal. Three things follow
(tests/property/test_ladder_properties.py): from equal expectations more time never ends lower, but for what is not worth anything; a dearer
rung is never taken for an equal one; limits hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regraft.strategy.cost import Range
from regraft.strategy.gains import HALF, SHARES, Expected, counted, drawn, scaled, unscaled
from regraft.strategy.plan import seconds_in_words, worth

ALIKE = 0.5
"""How much what one rung gave beyond its expectation says of the others: the correlation of gains on one data set. The figure is regraft's
own guess: in the tables of Kornblith et al. 2019 and VTAB-1k data sets differ more than ways to train do."""

SURPRISE = 2.0
"""Standard deviations beyond which a surprise counts no more."""

KEPT = 0.1
"""Of what is worth training for, the part that a rung which was trained has to be believed to be better by, to be kept."""

LEAST_ERROR = 1e-9
"""An error that is none, to divide by."""


PARTS = {0.0625: 0.05, 0.125: 0.1, 0.25: 0.3, 0.5: 0.7, 1.0: 1.0}
"""Part of the steps that are made -> part of the gain that they give, as measured for top=1 on 300 questions (docs/how-it-decides.md).
Where a pilot shows that few steps give more, that counts (`Prospect.shown`)."""

IN_WORDS = {0.0625: "a sixteenth", 0.125: "an eighth", 0.25: "a quarter", 0.5: "half", 1.0: "all"}


@dataclass(frozen=True)
class Way:
    """One way to train a rung: with a `share` of its training, judged in so many `folds`, in so many seconds."""

    share: float
    folds: int
    seconds: Range

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"share": self.share, "folds": self.folds, "seconds": self.seconds.to_json()}

    def gained(self, whole: Expected) -> Expected:
        """What is expected of it, of what the whole schedule gives."""
        return Expected(whole.mean * PARTS[self.share], whole.deviation)

    @property
    def said(self) -> str:
        """What it takes, in words."""
        less = "" if self.share == 1 else f" with {IN_WORDS[self.share]} of its training"
        return f"{in_time(self.seconds)}{less}"


@dataclass(frozen=True)
class Prospect:
    """A rung that could be trained: what it is expected to gain over the linear head (on the scale of `gains.scaled`), and what it takes.

    `order` is its place on the ladder, from the fewest changes. `ways` are those to train it, from the shortest to the whole schedule in as
    many folds as are trained at all; empty where nobody looked, as what is gained is not worth any time. `memory` is the most that the
    process holds, in MB. `reasons` say where numbers are from; `raw` are predictions as they were before earlier outcomes corrected them,
    as in `Option`.
    """

    train: str
    order: int
    gain: Expected
    ways: tuple[Way, ...]
    memory: Range
    reasons: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any])
    shown: float = 0.0
    """What a few steps of it were seen to give: no part of its training is expected to give less."""

    def way(self, left: float) -> Way | None:
        """The fullest that surely fits into the seconds that are left; None where not even the shortest does."""
        return next((way for way in reversed(self.ways) if way.seconds.high <= left), None)

    def gained(self, way: Way | None) -> Expected:
        """What is expected of it so; of the whole schedule without a way."""
        told = self.gain if way is None else way.gained(self.gain)
        return Expected(max(told.mean, self.shown), told.deviation) if self.shown else told

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `from_json` reads."""
        return {
            "train": self.train,
            "order": self.order,
            "gain": [round(self.gain.mean, 4), round(self.gain.deviation, 4)],
            "ways": [way.to_json() for way in self.ways],
            "memory": self.memory.to_json(),
            "reasons": list(self.reasons),
            "raw": dict(self.raw),
            **({"shown": round(self.shown, 4)} if self.shown else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Prospect:
        """What `to_json` gave."""
        ways = tuple(Way(float(w["share"]), int(w["folds"]), Range.from_json(w["seconds"])) for w in values["ways"])
        memory, gain = Range.from_json(values["memory"]), Expected(*map(float, values["gain"]))
        shown = float(values.get("shown", 0.0))
        return cls(values["train"], values["order"], gain, ways, memory, tuple(values["reasons"]), dict(values["raw"]), shown)


@dataclass(frozen=True)
class Tried:
    """What came of a rung. `measured` is what it gained over the head on `count` held-out examples that both were judged on, with its 95 %
    interval; `believed` is that drawn together with what was expected, on the scale of `gains.scaled`: a few examples say little.
    `better` says whether it is believed to be better than the best before it.
    """

    measured: Range
    count: int
    believed: Expected
    better: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `from_json` reads to the same numbers."""
        return {**vars(self), "measured": vars(self.measured), "believed": vars(self.believed)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Tried:
        """What `to_json` gave."""
        return cls(Range(**values["measured"]), int(values["count"]), Expected(**values["believed"]), bool(values["better"]))


@dataclass(frozen=True)
class Standing:
    """Where a climb is: the `head`'s figure in the target's first metric, and what came of each rung that was tried. `best` is the one that
    is kept so far, `aim` the goal of the last choice, `passed` what could not be trained.
    """

    metric: str
    head: float
    tried: Mapping[str, Tried] = field(default_factory=dict[str, Tried])
    best: str = "head"
    aim: str = ""
    passed: frozenset[str] = frozenset()

    @property
    def over_head(self) -> Expected:
        """What is believed of the best so far."""
        return Expected(0.0, 0.0) if self.best == "head" else self.tried[self.best].believed

    @property
    def figure(self) -> float:
        """What the best so far is believed to give."""
        return self.reached(self.over_head.mean) if self.best != "head" else self.head

    def reached(self, gain: float) -> float:
        """The head's figure with a gain on the scale of `gains.scaled`."""
        return unscaled(self.metric, scaled(self.metric, self.head) + gain)

    def after(self, gain: float) -> float:
        """The head's figure with a gain that was measured, of which more is better."""
        return min(1.0, max(0.0, self.head + gain)) if self.metric in SHARES else max(0.0, self.head - gain)

    def weighed(
        self, prospect: Prospect, prospects: Sequence[Prospect], way: Way | None, over_best: Range, over_head: Range, count: int
    ) -> Tried:
        """What to believe of a rung that was trained in such a way and judged on so many examples. It is better than the best so far where
        that is believed after what was expected of both: of two examples nobody can tell.
        """
        best, expected = self.over_head, self._moved(prospect, prospects).gained(way)
        prior = Expected(expected.mean - best.mean, math.hypot(expected.deviation, best.deviation))
        more = drawn(prior, self.gained(over_best, count))
        figure = value_on(self.metric, scaled(self.metric, self.figure))
        better = value_on(self.metric, scaled(self.metric, self.figure) + more.mean) > figure + KEPT * worth(self.metric)
        return Tried(over_head, count, Expected(best.mean + more.mean, math.hypot(best.deviation, more.deviation)), better)

    def with_tried(self, train: str, tried: Tried) -> Standing:
        """After one more."""
        return replace(self, tried={**self.tried, train: tried}, best=train if tried.better else self.best)

    def expected(self, prospect: Prospect, prospects: Sequence[Prospect], way: Way | None = None) -> Expected:
        """What a rung is expected to give in such a way, on the scale of `gains.scaled`, now that others were tried."""
        return Expected(scaled(self.metric, self.head), 0.0).plus(self._moved(prospect, prospects).gained(way))

    def gained(self, gain: Range, count: int) -> Expected:
        """A measured gain on the scale of `gains.scaled`, and what chance has in it: of shares with half a success and half an error more,
        and half a difference, so that none at all among a few does not mean that there is none.
        """
        noise = abs(gain.high - gain.low) / (2 * 1.96)
        before, after = self.head, self.after(gain.value)
        if self.metric not in SHARES:
            return Expected(scaled(self.metric, after) - scaled(self.metric, before), noise / max(LEAST_ERROR, (before + after) / 2))
        before, after = (counted(share, count) for share in (before, after))
        middle = (before + after) / 2
        noise = math.sqrt((noise**2 * count**2 + HALF) / (count * (count + 1)))
        return Expected(scaled(self.metric, after) - scaled(self.metric, before), noise / (middle * (1 - middle)))

    def _moved(self, prospect: Prospect, prospects: Sequence[Prospect]) -> Prospect:
        """A rung after what others gave: by a part of their surprise, in standard deviations, the less the less is known."""
        surprises: list[float] = []
        for other in prospects:
            if other.train not in self.tried or other.gain.deviation <= 0:
                continue
            tried, own = self.tried[other.train], other.gain.deviation
            measured = self.gained(tried.measured, tried.count)
            surprise = (measured.mean - other.gain.mean) / own * own**2 / (own**2 + measured.deviation**2)
            surprises.append(min(SURPRISE, max(-SURPRISE, surprise)))
        if not surprises:
            return prospect
        shift = ALIKE * prospect.gain.deviation * sum(surprises) / len(surprises)
        return replace(prospect, gain=Expected(prospect.gain.mean + shift, prospect.gain.deviation))


@dataclass(frozen=True)
class Room:
    """What is left: seconds, and MB that the process may hold at most; infinite where nothing limits it."""

    seconds: float = math.inf
    memory: float = math.inf

    def to_json(self) -> dict[str, float | None]:
        """Plain data."""
        return {name: round(v, 2) if math.isfinite(v) else None for name, v in vars(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Room:
        """What `to_json` gave."""
        return cls(**{name: math.inf if values[name] is None else float(values[name]) for name in ("seconds", "memory")})


@dataclass(frozen=True)
class Choice:
    """The rung to train next, empty where the climb ends; why; the goal of the climb; and of each other rung why it is not trained now."""

    train: str
    why: str
    aim: str = ""
    others: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `from_json` reads."""
        return {"train": self.train, "why": self.why, "aim": self.aim, "others": dict(self.others)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Choice:
        """What `to_json` gave."""
        return cls(values["train"], values["why"], values["aim"], dict(values["others"]))


def value_on(metric: str, expected: float) -> float:
    """A figure, given on the scale of `gains.scaled`, on that of `worth`: more is better."""
    return unscaled(metric, expected) if metric in SHARES else expected


def more_of(metric: str, value: float, than: float) -> str:
    """How much more one value on the scale of `value_on` is than another, in words."""
    if metric in SHARES:
        return f"{100 * (value - than):+.1f} points"
    return f"{100 * math.expm1(than - value):+.0f} % error"


@dataclass(frozen=True)
class _Able:
    """A rung that may be trained now: its expected value, and how."""

    prospect: Prospect
    value: float
    way: Way

    @property
    def seconds(self) -> Range:
        return self.way.seconds

    @property
    def dearness(self) -> tuple[float, float, int]:
        return self.seconds.high, self.seconds.value, self.prospect.order


def most_promising(prospects: Sequence[Prospect], standing: Standing) -> Prospect | None:
    """The one that is expected to give the most, of those not trained yet, whatever it takes; None where none is expected to give so much
    more than the best so far that it is worth something.
    """
    metric, gone = standing.metric, standing.passed.union(standing.tried)
    least = value_on(metric, scaled(metric, standing.figure)) + worth(metric)
    values = {p.train: value_on(metric, standing.expected(p, prospects).mean) for p in prospects}
    return max((p for p in prospects if p.train not in gone and values[p.train] > least), key=lambda p: values[p.train], default=None)


def next_rung(prospects: Sequence[Prospect], standing: Standing, room: Room) -> Choice:
    """The rung to train next, where one is worth it and fits."""
    metric, least = standing.metric, worth(standing.metric)
    best = value_on(metric, scaled(metric, standing.figure))
    gone = standing.passed.union(standing.tried)
    ladder = sorted((p for p in prospects if p.train not in gone), key=lambda p: p.order)
    others: dict[str, str] = {}
    able: list[_Able] = []
    for p in ladder:
        way = p.way(room.seconds)
        whole, value = (value_on(metric, standing.expected(p, prospects, w).mean) for w in (None, way))
        more = f"{more_of(metric, whole, best)} expected over {standing.best}"
        if whole <= best + least:
            others[p.train] = f"{more}: {too_little(metric)}"
        elif p.memory.high > room.memory:
            held = f"{p.memory.value:,.0f} MB (up to {p.memory.high:,.0f})"
            others[p.train] = f"{more}, but it needs {held} of memory, and {room.memory:,.0f} MB are free"
        elif way is None:
            others[p.train] = f"{more}, but {_too_long(p, room.seconds)}"
        elif value <= best + least:
            less = f"{IN_WORDS[way.share]} of its training, with {more_of(metric, value, best)}, is all that fits"
            others[p.train] = f"{more}, but {less}: {seconds_in_words(room.seconds)} are left"
        else:
            able.append(_Able(p, value, way))
    if not able:
        return Choice("", _why_end(ladder, others, standing), "", others)
    top = max(a.value for a in able)
    equal = [a for a in able if a.value >= top - least]
    # the goal stays what it was, so that room which was kept for it is not lost
    goal = next((a for a in equal if a.prospect.train == standing.aim), None) or min(equal, key=lambda a: a.dearness)
    first = next((a for a in able if _is_step(a, goal, able, least) and a.seconds.high + goal.seconds.high <= room.seconds), goal)
    others |= _passed(able, first, goal, metric, least)
    why = f"{more_of(metric, first.value, best)} expected over {standing.best}, in {first.way.said}"
    return Choice(first.prospect.train, why, goal.prospect.train, others)


def _too_long(prospect: Prospect, left: float) -> str:
    """Why a rung cannot be trained in what is left: it takes longer, or nobody could look at what it takes."""
    said = f"{seconds_in_words(max(0.0, left))} are left" if math.isfinite(left) else "nobody looked"
    return f"it takes {prospect.ways[0].said} and {said}" if prospect.ways else f"{said}, too little to find out what it takes here"


def _is_step(a: _Able, goal: _Able, able: Sequence[_Able], least: float) -> bool:
    """Whether a rung lies on the way: fewer changes than the goal, cheaper, and not equal to it nor to anything cheaper than itself."""
    before = a.prospect.order < goal.prospect.order and a.dearness < goal.dearness and a.value + least < goal.value
    return before and all(b.value < a.value - least for b in able if b.dearness < a.dearness)


def _passed(able: Sequence[_Able], first: _Able, goal: _Able, metric: str, least: float) -> dict[str, str]:
    """Why what could be trained is not trained now."""
    found: dict[str, str] = {}
    aim = goal.prospect.train
    for a in able:
        if a is first or a is goal:
            continue
        more = more_of(metric, goal.value, a.value)
        cheaper = next((b for b in able if b.dearness < a.dearness and b.value >= a.value - least), None)
        if a.dearness > goal.dearness:
            found[a.prospect.train] = f"{aim} is expected to be as good ({more}) in less time: {goal.way.said}, not {a.way.said}"
        elif a.prospect.order > goal.prospect.order:
            found[a.prospect.train] = f"{aim} changes less and is expected to give more ({more})"
        elif _is_step(a, goal, able, least):
            found[a.prospect.train] = f"its {a.way.said} are kept for {aim}, which is expected to give more ({more})"
        elif cheaper:
            found[a.prospect.train] = (
                f"{aim} is expected to give more ({more}), and on the way to it {cheaper.prospect.train} as much in less time"
            )
        else:
            found[a.prospect.train] = f"{aim} was the goal before, and is expected to be as good ({more})"
    return found


def _why_end(ladder: Sequence[Prospect], others: Mapping[str, str], standing: Standing) -> str:
    if not ladder:
        return "every rung was tried" if standing.tried or standing.passed else "no other rung can be trained here"
    if any("are left" in why for why in others.values()):
        return "what is expected to be better does not fit into the time that is left"
    if any("of memory" in why for why in others.values()):
        return "what is expected to be better needs more memory"
    return f"no other rung is expected to give {_least(standing.metric)} more"


def too_little(metric: str) -> str:
    """What is said of an expected gain that is none, or too small."""
    return f"less than {_least(metric)} is not worth it"


def _least(metric: str) -> str:
    """What a gain is measured against, in words."""
    return f"{100 * worth(metric):.0f} {'point' if metric in SHARES else '% of the error'}"


def in_time(seconds: Range) -> str:
    """Seconds with their interval."""
    return f"{seconds_in_words(seconds.value)} ({seconds_in_words(seconds.low)} to {seconds_in_words(seconds.high)})"
