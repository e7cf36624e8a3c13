"""What a climb expects of each rung before it trains any: what a fit with a head knows comes in; prospects go out, with why others are not
there.

A few steps of rungs are timed for it, within a part of the time that is left, where any rung is worth that. It trains and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import Example
from regraft.deadline import OutOfTime
from regraft.jobs import growing
from regraft.jobs.calibrate import CUTTING, JUDGED, LEAST, Sample, batch_to_time, read_known, seconds_to_time
from regraft.jobs.common import peak_memory_mb, resident_mb
from regraft.jobs.engines import circumstances
from regraft.jobs.frozen import Frozen
from regraft.jobs.labelled import Labelled
from regraft.jobs.network import Given
from regraft.jobs.pacing import finishing
from regraft.jobs.parts import rows_at
from regraft.jobs.planned import earlier_outcomes, known_of
from regraft.jobs.prospects import LADDER, Ground, calibrated, few_texts, hopeless, rungs_of, unlooked
from regraft.jobs.recording import Recorder
from regraft.jobs.validation import Validation
from regraft.spec import FitSpec
from regraft.strategy.cost import Amount, Held, Pace, probe_seconds
from regraft.strategy.gains import Expected, Grown, scaled
from regraft.strategy.ladder import Prospect
from regraft.strategy.outcomes import Outcome
from regraft.strategy.pilot import Pilot, heard
from regraft.strategy.plan import allowance
from regraft.strategy.similarity import Similarity
from regraft.workspace.findings import findings_key, keep_finding, read_finding

if TYPE_CHECKING:
    from regraft.features.engines import Engine
    from regraft.jobs.augment import Seen
    from regraft.training.probe import Probe

EXPECTED = "ladder_expected"
"""The decision: what is expected of each rung."""

LOOKING = 0.15
"""Part of the time that is left which goes into timing what rungs take, at most."""

PACE = "pace"
"""The file of findings where plans keep how fast this machine is, too."""

FEW_TILES = 8
"""Tiles of examples, fewer than which do not say how fast a pass is."""

LACKING, VIEWED = "the network has no such layers, or cannot be trained so", "it reads examples as they are, and views were asked for"


@dataclass
class Expecting:
    """What is known when a climb begins. `features` are those of the usable examples, `probe` the linear head on them, `bare` held-out
    outputs of the same without a network; `engine` gave the features, in `spent` seconds for the examples that were `computed`, and
    `plain_engine` is what runs the frozen part before a cut.
    """

    given: Given
    spec: FitSpec
    labelled: Labelled
    usable: Sequence[Example]
    features: np.ndarray
    validation: Validation
    probe: Probe
    bare: np.ndarray
    frozen: Frozen
    engine: Engine
    plain_engine: Engine | None
    computed: int
    spent: float
    seen: Seen | None
    device: str
    threads: int
    recorder: Recorder

    @property
    def metric(self) -> str:
        """The figure that gains are of."""
        return self.labelled.target.metrics[0]

    @cached_property
    def judged(self) -> float:
        """What the head gives, held out."""
        return self.validation.figures(self.validation.judge(self.probe.out_of_fold))[self.metric].value

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """What came of earlier predictions on this machine."""
        return earlier_outcomes()[0]

    def __call__(self) -> tuple[list[Prospect], dict[str, str]]:
        """(what can be trained, with what is expected of it; what cannot, and why), recorded."""
        recorder = self.recorder
        held = recorder.held_decision(EXPECTED)
        if held is None:
            try:
                recorder.deadline.ring_at(finishing(recorder), "")
                prospects, unavailable = self._look()
            except OutOfTime:
                prospects, unavailable = self._unlooked(), {}
            finally:
                recorder.deadline.silence()
            held = {"rungs": [p.to_json() for p in prospects], "unavailable": unavailable}
        recorder.decide(**{EXPECTED: held})
        return [Prospect.from_json(p) for p in held["rungs"]], dict(held["unavailable"])

    def _look(self) -> tuple[list[Prospect], dict[str, str]]:
        recorder, deadline, validation = self.recorder, self.recorder.deadline, self.validation
        parts, target, judged = validation.parts, self.labelled.target, self.judged
        near = self.similarity.kind
        if hopeless(found := self._unlooked(), self.metric, judged):
            return found, {}  # what each takes is not looked at
        known = self._known()
        pace = self._pace(known)
        left = lambda: deadline.left - finishing(recorder)
        until = deadline.spent + (LOOKING * left() if deadline.bound else allowance(None))
        if deadline.bound and CUTTING + seconds_to_time(pace.example, LEAST, JUDGED) > left():
            return self._unlooked(), {}  # too little is left to find out what a rung takes here
        deeper = rungs_of(self.given, self.labelled)
        if self.seen is not None:
            deeper.pop("contrastive", None)  # it reads the examples as they are
        budget = lambda: until - deadline.spent
        count = max(JUDGED, batch_to_time(pace.example, max(0.0, min(60.0, budget())), 32))
        places = np.unique(np.linspace(0, len(parts.train) - 1, min(count, len(parts.train))).astype(int))
        at = parts.train[places]
        sample = Sample(
            [self.usable[k] for k in at],
            self.features[at],
            validation,
            self.probe,
            self.device,
            max(2, self.threads),
            self.spec.seed,
            self.spec.store,
            self.plain_engine,
            places,
        )
        held = Held(resident_mb() or 0.0, peak_memory_mb() or 0.0)
        before = read_known(known.get("rungs"))
        rungs = before if known.get("complete") is True and before else None
        complete = rungs is not None
        if rungs is None:
            rungs, complete = calibrated(deeper, sample, before, pace, budget, len(parts.train), self.recorder.emit, bound=deadline.bound)
        rungs = {train: k for train, k in rungs.items() if train in deeper}
        if "full" in rungs:
            whole = rungs["full"]
            measured = (*pace.measured, "judged") if whole.measured else pace.measured
            pace = replace(pace, judged=whole.timed.judged, reading=whole.timed.reading, measured=measured)
        self._keep_known(known, pace, held, rungs, complete=complete)
        amount = Amount(
            train=len(parts.train),
            test=len(parts.test),
            outputs=len(target.outputs),
            folds=validation.count,
            nested=validation.nested,
            windows=next((k.timed.windows for k in rungs.values() if k.measured), 1.0),
            missing=0,
            width=self.features.shape[1],
            rows=1,
        )
        head = Grown(Expected(scaled(self.metric, judged), 0.0))
        held = Held(resident_mb() or 0.0, peak_memory_mb() or 0.0)
        ground = Ground(
            self.given,
            self.labelled,
            self.device,
            self.outcomes,
            amount,
            pace,
            held,
            rungs,
            head,
            len(parts.train) + len(parts.test),
            judged,
            near,
        )
        there = self._heard(ground.prospects())
        lacking = [train for train in LADDER[2:] if train not in rungs and (train != "contrastive" or few_texts(self.labelled))]
        return there, {train: VIEWED if train == "contrastive" and self.seen else LACKING for train in lacking}

    def _unlooked(self) -> list[Prospect]:
        """What can be said of the rungs where there is no time to look at what they take."""
        examples, near = len(self.validation.parts.train), self.similarity.kind
        return self._heard(unlooked(self.labelled, self.given.facts.name, examples, near, self.outcomes))

    def _heard(self, prospects: list[Prospect]) -> list[Prospect]:
        """After what a short training of this network gave in a race, where it had one."""
        race = self.recorder.decisions.get("race") or {}
        own = next((c for c in race.get("candidates", ()) if c["name"] == self.given.facts.name), {})
        return heard(prospects, Pilot.from_json(own["pilot"])) if own.get("pilot") else prospects

    def _pace(self, known: Mapping[str, Any]) -> Pace:
        """How fast the pass and the head were, here or in an earlier plan of the same data."""
        # the network is open
        pace, parts = Pace(setup=0.0), self.validation.parts
        if self.computed:
            spent, count = self.spent, self.computed
            if count < FEW_TILES * self.frozen.tile:
                # most of that went into opening the network
                spent, count = self.frozen.seconds_again(self.usable, self.device, self.threads, self.engine)
            pace = replace(pace, example=spent / count, timed=count, measured=("example",))
        elif isinstance(held := known.get("pace"), Mapping):
            pace = pace.as_before(held, ("example", "reading", "judged"))
        nested, outputs = self.validation.nested, len(self.labelled.target.outputs)
        expected = probe_seconds(len(parts.y), self.features.shape[1], outputs, nested=nested)
        if taken := self.recorder.stages.get("output layer"):
            pace = replace(pace, probe=taken / expected, measured=(*pace.measured, "probe"))
        return pace

    def _key(self) -> str:
        on = circumstances(self.frozen, [self.engine], self.device, self.threads)
        return findings_key({"circumstances": on, "data": known_of(self.labelled)})

    def _known(self) -> Mapping[str, Any]:
        """What an earlier plan or climb found of the pace here. Of a changed network nothing is kept."""
        found = None if self.given.edited is not None else read_finding(PACE, self._key())
        return found if isinstance(found, Mapping) else {}

    def _keep_known(self, known: Mapping[str, Any], pace: Pace, held: Held, rungs: Mapping[str, Any], *, complete: bool) -> None:
        if self.given.edited is None and not known:
            kept = {"pace": pace.to_json(), "held": [held.resident, held.peak], "complete": complete}
            keep_finding(PACE, self._key(), {**kept, "rungs": {name: k.to_json() for name, k in rungs.items()}})

    @cached_property
    def similarity(self) -> Similarity:
        """How similar the data is to what the network knows, by its features."""
        rows = rows_at(self.features, self.validation.parts.train)
        return growing.Seen(self.validation, rows, self.probe).similarity(self.bare)
