"""What training below the head is expected to add to each network of a race: facts, paces and how near the data is in, log odds out.

It trains nothing itself and knows no figure of the data but the best head's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from regraft.facts import ModelFacts
from regraft.jobs.expecting import LOOKING
from regraft.jobs.labelled import Labelled
from regraft.jobs.planned import earlier_outcomes
from regraft.jobs.prospects import unlooked
from regraft.strategy.cost import probe_seconds
from regraft.strategy.gains import Expected
from regraft.strategy.outcomes import Outcome
from regraft.strategy.race import least_passes, promised, race_seconds, worth_more
from regraft.strategy.rungs import AUTO
from regraft.strategy.similarity import UNKNOWN

LAYERED = ("sentence", "speech", "transformers")
"""Builders of transformers, whose layers all give features of one width."""

FIXED = ("ngram",)
"""Builders of networks whose words are a fixed table beside what trains: they are promised nothing. What was trained on one gave little
everywhere, and nothing where other networks gain most (benchmarks/results/judgement.json, docs/how-it-decides.md)."""

BEGINNING = 10.0
"""Seconds of a fit that are neither pass nor head."""


@dataclass
class Promises:
    """Promises to the networks of a race. `train` is what the fit afterwards does, within `budget` seconds if that is not None; `examples`
    of which `tested` are not trained on go through the network that wins.
    """

    labelled: Labelled
    train: str
    budget: float | None
    examples: int
    tested: int
    near: str = UNKNOWN
    least: float = 0.0
    """What is worth training for, on the scale of gains: a climb trains for no less."""
    outcomes: Sequence[Outcome] = field(default_factory=lambda: earlier_outcomes()[0])
    heard: dict[str, float] = field(default_factory=dict[str, float])
    """What networks are promised after a short training of each."""

    @property
    def made(self) -> bool:
        """Whether anything is: not where only a head is fitted."""
        return self.train != "head"

    def look(self, head: float, near: str) -> None:
        """Hear what the best head reaches so far, and how near the data is to what its network knows."""
        self.near, self.least = near, worth_more(self.labelled.target.metrics[0], head)

    def of(self, facts: ModelFacts, pace: float | None) -> float:
        """What a network is expected to gain by what is trained below its head, when an example takes `pace` seconds in its pass; what was
        heard of it, where it had a pilot.
        """
        if facts.name in self.heard:
            return self.heard[facts.name]
        trained, gains = self.examples - self.tested, {train: gain.mean for train, gain in self._gains(facts).items()}
        return promised(gains, trained, *self._room(facts, pace), self.least, cut=_cut(facts))

    def doubt(self, facts: ModelFacts, pace: float | None, more: float) -> float:
        """How uncertain it is what everything gives when it is trained, as a standard deviation: 0 where the shortest such training does
        not fit, after `more` seconds than the race has.
        """
        each, left = self._room(facts, pace)
        whole = self._gains(facts).get("full")
        fits = each is None or each * least_passes(self.examples - self.tested) <= left - more
        return whole.deviation if whole is not None and fits else 0.0

    def _gains(self, facts: ModelFacts) -> dict[str, Expected]:
        """What rungs that may be trained afterwards are expected to gain on a network."""
        if facts.architecture.get("builder") in FIXED:
            return {}
        prospects = unlooked(self.labelled, facts.name, self.examples - self.tested, self.near, self.outcomes)
        wanted = {"top": "top=1"}.get(self.train, self.train)
        return {p.train: p.gain for p in prospects if wanted in (AUTO, p.train)}

    def _room(self, facts: ModelFacts, pace: float | None) -> tuple[float | None, float]:
        """(seconds of an example, seconds that are left); without a budget neither matters."""
        return (pace, self._left(facts, pace or 0.0)) if self.budget is not None else (None, 0.0)

    def _left(self, facts: ModelFacts, pace: float) -> float:
        """Seconds of the budget that are left for training, with the time of the race taken off, and what comes before and after."""
        assert self.budget is not None
        head = probe_seconds(self.examples - self.tested, facts.features, len(self.labelled.target.outputs), nested=True)
        return (1 - LOOKING) * max(0.0, self.budget - race_seconds(self.budget) - BEGINNING - pace * self.examples - head)


def _cut(facts: ModelFacts) -> bool:
    """Whether the frozen part of a network can run once: others than transformers take inputs of one length only where they are cut, and
    images have one.
    """
    return facts.task == "image" or facts.architecture.get("builder") in LAYERED
