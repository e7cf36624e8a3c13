"""What to train, decided before time is spent: options with predicted figures and costs, and the one to take. Pure.

The ladder goes from the fewest changes upwards, and more is trained only where it is expected to give more: a dearer option is never taken
for an equal one, constraints always hold, and more budget never gives a worse plan (tests/property/test_plan_properties.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regraft.errors import UsageError
from regraft.strategy.cost import Range
from regraft.strategy.gains import SHARES, scaled
from regraft.strategy.similarity import quadrant


@dataclass(frozen=True)
class Option:
    """One thing that could be done. `order` is its place on the ladder, from the fewest changes; `memory` and `disk` are in MB, `latency`
    in milliseconds an example; `reasons` say where the numbers are from; `settings` take the place of those that the rules give, where
    somebody edits a plan. `raw` are predictions as they were before earlier outcomes
    corrected them: seconds by stage, `memory`, and `figure` on the scale of `strategy.gains.scaled`. Where a budget is too short for the
    `whole` of it (seconds), `short` says what fits, in words, and the figure and the seconds are of that.

    `figure` is that of examples that nobody has seen. A fit's own is from held-out ones, of which there may be few.
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
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any])
    short: str = ""
    whole: Range | None = None

    @property
    def name(self) -> str:
        """What it is called in a table."""
        return f"{self.model} {self.train}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `from_json` reads."""
        plain = {f: getattr(self, f) for f in ("model", "train", "order", "parameters", "trained", "licence", "licence_kind")}
        ranges = {f: getattr(self, f).to_json() for f in ("figure", "seconds", "memory")}
        more = {"disk": round(self.disk, 1), "latency": None if self.latency is None else round(self.latency, 2)}
        stages = {name: r.to_json() for name, r in self.stages.items()}
        return {
            **plain,
            **ranges,
            **more,
            "stages": stages,
            "reasons": list(self.reasons),
            "settings": dict(self.settings),
            "raw": dict(self.raw),
            **({"short": self.short} if self.short else {}),
            **({"whole": self.whole.to_json()} if self.whole else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Option:
        """What `to_json` gave; ValueError, TypeError or KeyError for anything else."""
        return cls(
            model=str(values["model"]),
            train=str(values["train"]),
            order=int(values.get("order") or 0),
            figure=Range.from_json(values["figure"]),
            seconds=Range.from_json(values["seconds"]),
            memory=Range.from_json(values["memory"]),
            disk=float(values.get("disk") or 0.0),
            parameters=int(values.get("parameters") or 0),
            trained=int(values.get("trained") or 0),
            licence=str(values.get("licence") or ""),
            licence_kind=str(values.get("licence_kind") or ""),
            latency=None if values.get("latency") is None else float(values["latency"]),
            stages={str(k): Range.from_json(v) for k, v in dict(values.get("stages") or {}).items()},
            reasons=_texts(values, "reasons"),
            settings=dict(values.get("settings") or {}),
            raw=dict(values.get("raw") or {}),
            short=str(values.get("short") or ""),
            whole=Range.from_json(values["whole"]) if values.get("whole") else None,
        )


def _texts(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(str(v) for v in values.get(name) or ())


@dataclass(frozen=True)
class Limits:
    """What a plan has to keep. `budget` is in seconds, `memory` in MB, `latency` in milliseconds an example, `parameters` those of the
    whole network; `licence` a licence or a kind of one.
    """

    budget: float | None = None
    memory: float | None = None
    latency: float | None = None
    parameters: float | None = None
    licence: str | None = None

    def broken(self, option: Option) -> tuple[str, ...]:
        """Which of them an option would break, by name. What is predicted counts at the end of its interval that is against it."""
        found: list[str] = []
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


WORTH = {"share": 0.01, "error": 0.02}
"""What an option has to give more than a quicker one to be taken for it: a point, or a fiftieth of an error. Less is nothing that a
user would see, or that a few hundred examples could tell."""


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
    choice. `known` tells the data that it was made for, `evidence` what was found of it, `scratch`
    what training from random weights would cost, `asked` what else was asked for.
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
    price_per_hour: float | None = None
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
            "options": [{**o.to_json(), **self._price(o), "broken": list(self.limits.broken(o))} for o in self.options],
            "limits": self.limits.to_json(),
            "binds": {name: {"model": o.model, "train": o.train} for name, o in self.binds.items()},
            "changes": list(self.changes),
            "scratch": dict(self.scratch),
            "evidence": dict(self.evidence),
            "asked": dict(self.asked),
            **({"price_per_hour": self.price_per_hour} if self.price_per_hour is not None else {}),
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
        held = dict(given.get("binds") or {}).items()
        return cls(
            metric=metric,
            options=options,
            chosen=by_name[key],
            limits=limits,
            binds={str(k): by_name[v["model"], v["train"]] for k, v in held if (v["model"], v["train"]) in by_name},
            changes=_texts(given, "changes"),
            data=str(given.get("data") or ""),
            known=known,
            scratch=dict(given.get("scratch") or {}),
            evidence=dict(given.get("evidence") or {}),
            asked=asked,
            price_per_hour=None if given.get("price_per_hour") is None else float(given["price_per_hour"]),
            seconds=float(given.get("seconds") or 0.0),
            said=_texts(given, "said"),
            warned=_texts(given, "warned"),
        )

    def _price(self, option: Option) -> dict[str, Any]:
        return {} if self.price_per_hour is None else {"price": option.seconds.times(self.price_per_hour / 3600).to_json()}

    def explain(self) -> str:
        """The plan in words: what to do, what is expected, why nothing else, what would change it."""
        return "\n".join(explained(self))


LEAST: dict[str, Callable[[Option], float]] = {
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
        moves.append(f"{flag(name)} {_amount(name, LEAST[name](nearest))} leaves {nearest.name}")
    asked = ", ".join(f"{flag(name)} {_amount(name, getattr(limits, name))}" for name in limits.given)
    if not moves:
        moves = [f"{o.name} would break {', '.join(flag(n) for n in limits.broken(o))}" for o in options[:5]]
        return UsageError(f"no option keeps {asked}, nor all but one of them", faults=moves, move="relax two of them")
    return UsageError(f"no option keeps {asked}", faults=moves, move="relax one of these, or leave it away")


def flag(name: str) -> str:
    """The option that a limit is asked for with."""
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
            said.append(f"{flag(name)} {_amount(name, LEAST[name](other))} would allow {other.name}: {gain} expected")
    if chosen.whole is not None:
        said.append(f"--budget {_amount('budget', chosen.whole.high)} is enough for all of {chosen.name}, not only {chosen.short}")
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
    one = len({o.model for o in plan.options}) == 1

    def called(option: Option) -> str:
        return option.train if one else option.name

    lines: list[str] = []
    evidence = plan.evidence
    if evidence.get("examples"):
        found = f"a head on {evidence['seen']:,} of them: {metric} {evidence['head']:.3f}"
        how = quadrant(str(evidence.get("near")), float(evidence["per_class"]))
        lines.append(f"{evidence['examples']:,} examples, {evidence['per_class']:,.0f} for each output; {found}. {how}")
    expected = f"{metric.replace('_', ' ')} {shown(metric, chosen.figure)} expected of new examples"
    part = f", {chosen.short}" if chosen.short else ""
    lines.append(f"to take: {called(chosen)}{part}. {expected}, in {_time(chosen.seconds)}, {chosen.memory.value:,.0f} MB of memory")
    for option in plan.options:
        if option is chosen:
            continue
        broken = plan.limits.broken(option)
        if broken:
            over = ", ".join(flag(n) for n in broken)
            lines.append(f"not {called(option)}: over {over} ({_time(option.seconds)}, {option.memory.value:,.0f} MB)")
            continue
        time = f"{_time(option.seconds)}{f', {option.short}' if option.short else ''}"
        if value_of(metric, option) > value_of(metric, chosen):
            lines.append(f"not {called(option)}: {_gain(metric, chosen, option)} more is not worth {time}")
        else:
            lines.append(f"not {called(option)}: {_gain(metric, chosen, option)} expected, in {time}")
    lines += [f"what would change this: {change}" for change in plan.changes]
    return lines


def shown(metric: str, figure: Range) -> str:
    """A figure with its interval."""
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


MOST_SEEN = 1000
"""Examples that a plan looks at, at most: they tell a figure to a point and a half."""


def subset_size(seconds: float, example: float, examples: int, outputs: int) -> int:
    """How many training examples a plan looks at, when it has so many seconds left and an example takes so many: at least three a class, at
    most MOST_SEEN.
    """
    least = min(examples, max(32, 3 * outputs))
    return max(least, min(examples, MOST_SEEN, int(seconds / max(1e-4, example))))
