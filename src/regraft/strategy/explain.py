"""A climb in plain words: what the data is, what the field does with such data, what was tried, what was chosen, what would change that.

Pure: a `Story` in, lines out. Numbers stand in the sentences, so that who knows the field can check them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regraft.strategy.cost import Range
from regraft.strategy.gains import SHARES
from regraft.strategy.ladder import in_time
from regraft.strategy.plan import seconds_in_words
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

    @property
    def tried(self) -> bool:
        """Whether it was trained and judged."""
        return self.gain is not None

    def to_json(self) -> dict[str, Any]:
        """Plain data, for the result of a run."""
        ranges = {name: value.to_json() for name in ("seconds", "memory") if (value := getattr(self, name)) is not None}
        predicted = {**({"gain": self.expected.to_json()} if self.expected else {}), **ranges}
        measured = {
            **({"gain": self.gain.to_json()} if self.gain else {}),
            **({"over_head": self.over_head.to_json()} if self.over_head else {}),
            **({"seconds": round(self.took, 2)} if self.took is not None else {}),
        }
        found: dict[str, Any] = {"train": self.train, "tried": self.tried, "kept": self.kept, "why": self.why, "than": self.than}
        return {**found, **({"predicted": predicted} if predicted else {}), **({"measured": measured} if measured else {})}


@dataclass(frozen=True)
class Story:
    """What an explanation is made of.

    each     how many examples a class has; of numbers and several labels: all
    kind     how near the data is to what the network knows, with `reasons` (strategy/similarity.py)
    head     the figure of the output layer alone; `without`: of the same without any network; `figure`: of the best
    end      why the climb ended
    twice    what the head is expected to reach with twice the examples
    longer   the budget that would take one more rung, `train`, with the `gain` that is expected of it
    """

    metric: str
    metric_name: str
    n: int
    each: float
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


def amount_in_words(each: float) -> str:
    """Little data, a decent amount, or a lot, by the examples of a class."""
    return AMOUNTS[0] if each <= LITTLE else AMOUNTS[1] if each <= LARGE else AMOUNTS[2]


def explained(story: Story) -> list[str]:
    """The explanation, a line each; those that begin with two spaces belong to the line before."""
    return [*_found(story), *_field(story), *_tried(story), *_passed_over(story), *_chosen(story), *_changes(story)]


def _found(story: Story) -> list[str]:
    each = f", {story.each:,.0f} for each" if round(story.each) != story.n else ""
    near = f"They are {CLOSENESS[story.kind]} what {story.model} knows" if story.kind in CLOSENESS else ""
    why = f": {'; '.join(story.reasons)}" if near and story.reasons else ""
    lines = [f"What there is: {story.n:,} {story.nouns} {story.described}{each}: {amount_in_words(story.each)}."]
    return lines + ([f"{near}{why}."] if near else [])


def _field(story: Story) -> list[str]:
    own = amount_in_words(story.each)
    table = [f"  {name + ':':17s} {APPROACH[name]}{'   <- here' if name == own else ''}" for name in AMOUNTS]
    lines = [
        "What the field does, by the amount of data; far from what the network knows more of it has to learn, near to it less:",
        *table,
    ]
    if story.kind in CLOSENESS:
        advice = ADVICE[story.each >= LARGE, story.kind]
        lines.append(f"For {story.kind} data of this size its advice is {advice}.")
    return lines


def _tried(story: Story) -> list[str]:
    without = f"; without the network it is {_figure(story, story.without)}"
    lines = [
        "What was tried, each judged on the same examples, which it had not seen:",
        f"  head: {story.metric_name} {_figure(story, story.head)}{without}.",
    ]
    for step in (s for s in story.steps if s.tried):
        assert step.gain is not None
        expected = f", where {_points(story, step.expected)} were expected" if step.expected else ""
        time = f" It took {seconds_in_words(step.took)}" if step.took is not None else ""
        time += f", {in_time(step.seconds)} were expected." if time and step.seconds else "." if time else ""
        lines.append(f"  {step.train}: {_points(story, step.gain)} over {step.than}{expected}: {step.why}.{time}")
    return lines


def _passed_over(story: Story) -> list[str]:
    left = [s for s in story.steps if not s.tried]
    if not left:
        return []
    return ["What was not tried, and why:", *(f"  {s.train}: {s.why}." for s in left)]


def _chosen(story: Story) -> list[str]:
    if story.best == "head":
        what = "head: a new output layer, and the network as it came; the fewest changes that do"
    else:
        what = f"{story.best}: {_points(story, _kept(story).over_head)} over head"
    reached = f"{story.metric_name[0].upper()}{story.metric_name[1:]} {_figure(story, story.figure)} on the examples that judged it"
    return [f"What was chosen: {what}. {reached}. The climb ended: {story.end}."]


def _kept(story: Story) -> Step:
    return next(s for s in story.steps if s.train == story.best)


def _changes(story: Story) -> list[str]:
    lines = ["What would change this:"]
    if story.longer:
        gain = _points(story, story.longer["gain"])
        lines.append(
            f"  more time: --budget {story.longer['budget']} would allow {story.longer['train']}, with {gain} expected over {story.best}."
        )
    elif not any("are left" in s.why for s in story.steps):
        lines.append("  more time: nothing more is expected of it.")
    if story.twice is not None:
        now, then = _figure(story, story.head), _figure(story, story.twice)
        lines.append(f"  more data: with twice as many {story.nouns} the head is expected to come from {now} to about {then}.")
    if story.clear:
        other = "a larger or a nearer one may do more"
    else:
        other = "this one is not clearly better than none, so that another one may do much more"
    lines.append(f"  another network: {other}; regraft models lists them, regraft plan DATA --model A --model B compares.")
    return lines


def _figure(story: Story, value: float) -> str:
    return f"{value:.3f}" if story.metric in SHARES else f"{value:.3g}"


def _points(story: Story, gain: Range | None) -> str:
    """A gain with its interval."""
    assert gain is not None
    scale, unit = (100.0, " points") if story.metric in SHARES else (1.0, " less error")
    digits = ".1f" if story.metric in SHARES else ".3g"
    low, value, high = (f"{v * scale:+{digits}}" for v in (gain.low, gain.value, gain.high))
    return f"{value}{unit} ({low} to {high})"
