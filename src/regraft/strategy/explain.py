"""A climb in plain words: what the data is, what the field does with such data, what was tried, what was chosen, what would change that.

Pure: a `Story` in, lines out. Numbers stand in the sentences, so that who knows the field can check them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regraft.strategy.cost import Range
from regraft.strategy.gains import SHARES, scaled
from regraft.strategy.ladder import Prospect, Room, Standing, Tried, in_time, value_on
from regraft.strategy.plan import seconds_in_words, worth
from regraft.strategy.similarity import ADVICE, LARGE

LITTLE = 25
"""Examples of a class up to which data is called little."""

AMOUNTS = ("little data", "a decent amount", "a lot of data")

APPROACH = {
    "little data": "freeze the network, train a new output layer alone (head)",
    "a decent amount": "also train the last layers (top), or few parameters at every depth (norm)",
    "a lot of data": "train everything, starting from the pretrained weights (full)",
}
"""The field's three approaches by the amount of data (Ng, Transfer Learning, Deep Learning Specialization C4W2; CS231n, Transfer
Learning)."""

CLOSENESS = {"near": "near to", "middling": "neither near to nor far from", "far": "far from"}


@dataclass(frozen=True)
class Step:
    """A rung of a climb. `than` is what its gains are over: the best so far. What was measured is None where it was not trained or did not
    come to its end; `why` says why it is kept, or not, or was not tried. Gains are figures of the target's first metric.
    """

    train: str
    than: str
    why: str
    kept: bool = False
    expected: Range | None = None
    seconds: Range | None = None
    memory: Range | None = None
    gain: Range | None = None
    over_head: Range | None = None
    took: float | None = None
    held: float | None = None
    """MB that the process held at most, where this rung raised that."""
    judged_on: int | None = None
    """How many held-out examples gains are measured on."""

    @property
    def tried(self) -> bool:
        """Whether it was trained and judged."""
        return self.gain is not None

    def judged(self, tried: Tried, gain: Range, took: float | None = None, held: float | None = None) -> Step:
        """With what was measured: `gain` over the best so far, and what came of it."""
        why = _verdict(tried, gain, self.than)
        return replace(self, kept=tried.better, why=why, gain=gain, over_head=tried.measured, judged_on=tried.count, took=took, held=held)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for the result of a run."""
        ranges = {name: value.to_json() for name in ("seconds", "memory") if (value := getattr(self, name)) is not None}
        predicted = {**({"gain": self.expected.to_json()} if self.expected else {}), **ranges}
        measured = {
            **({"gain": self.gain.to_json()} if self.gain else {}),
            **({"over_head": self.over_head.to_json()} if self.over_head else {}),
            **({"seconds": round(self.took, 2)} if self.took is not None else {}),
            **({"memory": round(self.held, 1)} if self.held is not None else {}),
            **({"judged": self.judged_on} if self.judged_on is not None else {}),
        }
        found: dict[str, Any] = {"train": self.train, "tried": self.tried, "kept": self.kept, "why": self.why, "than": self.than}
        return {**found, **({"predicted": predicted} if predicted else {}), **({"measured": measured} if measured else {})}


def _verdict(tried: Tried, gain: Range, than: str) -> str:
    """Why a rung that was trained is kept, or is not: by what was measured, and by what was expected where that says little."""
    if tried.better and gain.value > 0:
        return "better, so it is kept" if gain.low > 0 else "better on average, so it is kept, though that may be chance"
    if tried.better:
        return f"{tried.count:,} held-out examples say little; with what was expected it is believed to be better, so it is kept"
    if gain.value > 0:
        return f"better by too little to count, so {than} stays"
    return f"{'worse' if gain.value < 0 else 'no better'}, so {than} stays"


def step_of(prospect: Prospect, prospects: Sequence[Prospect], standing: Standing, room: Room, why: str) -> Step:
    """A rung with what is expected of it over the best so far, in the time that is left."""
    metric, way = standing.metric, prospect.way(room.seconds)
    figure = standing.expected(prospect, prospects, way).figure(metric)
    gains = [v - standing.figure if metric in SHARES else standing.figure - v for v in (figure.low, figure.value, figure.high)]
    shown = way or next(iter(prospect.ways), None)
    seconds, memory = (shown.seconds, prospect.memory) if shown else (None, None)
    expected = Range(gains[1], min(gains), max(gains))
    return Step(prospect.train, standing.best, why, expected=expected, seconds=seconds, memory=memory)


@dataclass(frozen=True)
class Story:
    """What an explanation is made of.

    each     how many examples a class or label has, on average; of numbers: all. `unit` is what has them, empty for numbers
    kind     how near the data is to what the network knows, with `reasons` (strategy/similarity.py)
    head     the figure of the output layer alone; `without`: of the same without any network; `figure`: of the best
    end      why the climb ended
    twice    what the head is expected to reach with twice the examples
    longer   one more rung, `train`, that more time would allow, with the `gain` that is expected of it, and the `budget` if that is known
    """

    metric: str
    metric_name: str
    n: int
    each: float
    unit: str
    described: str
    nouns: str
    model: str
    kind: str
    reasons: Sequence[str]
    head: float
    without: float
    steps: Sequence[Step]
    best: str
    figure: float
    end: str
    twice: float | None = None
    longer: Mapping[str, Any] = field(default_factory=dict[str, Any])
    clear: bool = True
    """Whether the network is clearly better than none."""
    measure: str = ""
    """What gains are measured in, where that is not the figure itself."""
    short: Sequence[str] = ()
    """What the budget cut short in what was trained, and more time would give, in words."""
    raced: bool = False
    """Whether the network won a race of those that are here."""


def amount_in_words(each: float) -> str:
    """Little data, a decent amount, or a lot, by the examples of a class."""
    return AMOUNTS[0] if each <= LITTLE else AMOUNTS[1] if each <= LARGE else AMOUNTS[2]


def explained(story: Story) -> list[str]:
    """The explanation, a line each; those that begin with two spaces belong to the line before."""
    return [*_found(story), *_field(story), *_tried(story), *_passed_over(story), *_chosen(story), *_changes(story)]


def _found(story: Story) -> list[str]:
    each = f", about {story.each:,.0f} a {story.unit}" if story.unit else ""
    lines = [f"What there is: {story.n:,} {story.nouns} {story.described}{each}: {amount_in_words(story.each)}."]
    if story.kind not in CLOSENESS:
        return lines
    why = f": {'; '.join(story.reasons)}" if story.reasons else ""
    return [*lines, f"They are {CLOSENESS[story.kind]} what {story.model} knows{why}."]


def _field(story: Story) -> list[str]:
    own = amount_in_words(story.each)
    table = [f"  {name + ':':17s} {APPROACH[name]}{'   <- here' if name == own else ''}" for name in AMOUNTS]
    lines = ["What the field does, by the amount of data (train more where it is far from what the network knows, less where it is near):"]
    if story.kind in CLOSENESS:
        said = f"For so much data, {CLOSENESS[story.kind]} what the network knows, it advises {ADVICE[story.each >= LARGE, story.kind]}."
        return [*lines, *table, said]
    return [*lines, *table]


def _tried(story: Story) -> list[str]:
    measure = f", in {story.measure}" if story.measure else ""
    first = f"{story.metric_name} {_figure(story, story.head)}; the same without any network: {_figure(story, story.without)}"
    lines = [f"What was tried, on held-out examples; gains are on the same ones{measure}:", f"  head: {first}."]
    for step in (s for s in story.steps if s.tried):
        took = f", in {seconds_in_words(step.took)}" if step.took is not None else ""
        time = f", in {in_time(step.seconds)}" if took and step.seconds else ""
        expected = f" Expected were {_gain(story, step.expected)}{time}." if step.expected else ""
        lines.append(f"  {step.train}: {_gain(story, step.gain)} against {step.than}{_on(story, step)}{took}: {step.why}.{expected}")
    return lines


def _on(story: Story, step: Step) -> str:
    """How many examples a gain was measured on, where that is a part of them."""
    few = step.judged_on is not None and step.judged_on < story.n
    return f" on {step.judged_on:,} of the {story.nouns}" if few else ""


def _passed_over(story: Story) -> list[str]:
    left = [s for s in story.steps if not s.tried]
    if not left:
        return []
    return ["What was not tried, and why:", *(f"  {', '.join(names)}: {why}." for why, names in _by_reason(left).items())]


def _by_reason(steps: Sequence[Step]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for step in steps:
        found.setdefault(step.why, []).append(step.train)
    return found


def _chosen(story: Story) -> list[str]:
    reached = f"{story.metric_name[0].upper()}{story.metric_name[1:]} {_figure(story, story.figure)}, held out"
    if story.best == "head":
        what = "head, a new output layer on the network as it came"
    else:
        best = next(s for s in story.steps if s.train == story.best)
        what = f"{story.best}, {_gain(story, best.over_head)} against head"
        if part := _on(story, best):
            assert best.over_head is not None
            down = -1 if story.metric in SHARES else 1
            same = "" if story.measure else f", where head reaches {_figure(story, story.figure + down * best.over_head.value)}"
            reached += f"{part}{same}"
    return [f"What was chosen: {what}. {reached}. The climb ended there: {story.end}."]


def _changes(story: Story) -> list[str]:
    return ["What would change this:", *_more_room(story), *_more_data(story), f"  another network: {_other_network(story)}."]


def _more_room(story: Story) -> list[str]:
    """What more time or more memory would allow."""
    found: list[str] = []
    if story.longer:
        train, gain = story.longer["train"], f"{_gain(story, story.longer['gain'])} expected against {story.best}"
        if budget := story.longer.get("budget"):
            found = [f"  more time: --budget {budget} would allow {train}, with {gain}."]
        else:
            found = [f"  more time: a longer --budget may allow {train}, with {gain}; it then looks at what that takes here."]
    elif not any("are left" in s.why for s in story.steps):
        no_other = "no other rung is expected to be worth it"
        found = [f"  more time: {no_other}; it would give {'; '.join(story.short)}." if story.short else f"  more time: {no_other}."]
    if large := [s.train for s in story.steps if "of memory" in s.why]:
        found.append(f"  more memory: it would allow {' or '.join(large)}.")
    return found


def _more_data(story: Story) -> list[str]:
    if story.twice is None:
        return []
    now, then = (value_on(story.metric, scaled(story.metric, v)) for v in (story.head, story.twice))
    twice = f"  more data: with twice as many {story.nouns} the head is expected to"
    if then <= now + worth(story.metric):
        return [f"{twice} stay about as good as it is, {_figure(story, story.head)}."]
    return [f"{twice} go from {_figure(story, story.head)} to about {_figure(story, story.twice)}."]


def _other_network(story: Story) -> str:
    if story.raced:
        return f"{story.model} won the race of those that are here; regraft models lists others"
    other = (
        "a larger or a nearer one may do more" if story.clear else "this one is not clearly better than none, so another may do much more"
    )
    return f"{other}; regraft race DATA compares those that are here, regraft models lists others"


def _figure(story: Story, value: float) -> str:
    return f"{value:.3f}" if story.metric in SHARES else f"{value:.3g}"


def _gain(story: Story, gain: Range | None) -> str:
    """A gain with its interval: in points, or as the change of an error."""
    assert gain is not None
    if story.metric in SHARES:
        low, value, high = (f"{100 * v + 0.0:+.1f}" for v in (gain.low, gain.value, gain.high))
        return f"{value} points ({low} to {high})"
    low, value, high = (f"{0.0 - v:+.3g}" for v in (gain.high, gain.value, gain.low))
    return f"{value} in {story.metric_name} ({low} to {high})"
