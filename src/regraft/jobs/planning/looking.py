"""A look at one network for a plan: a plan on its way and a name come in; what predictions stand on goes out.

A part of the training examples goes through the network, a head on it is judged, steps of training are timed. What was found before serves
again. It never looks at the test part, and chooses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import TEST, TRAIN, Example
from regraft.errors import RegraftError
from regraft.events import Done, Emit, Event, Progress, Said, Started, Warned, silent
from regraft.jobs.calibrate import JUDGED, Known, Sample, batch_to_time, read_known
from regraft.jobs.common import check_losses, computing_threads, peak_memory_mb, resident_mb
from regraft.jobs.engines import Chosen, choose_engine, circumstances, engine_at_once
from regraft.jobs.frozen import Frozen, frozen_pretrained
from regraft.jobs.growing import Seen
from regraft.jobs.linear import BASELINE_STRENGTHS
from regraft.jobs.network import Given, given_network
from regraft.jobs.parts import divide, nested
from regraft.jobs.planned import known_of
from regraft.jobs.planning.making import Making
from regraft.jobs.prospects import Ground, calibrated, rungs_of
from regraft.jobs.remembered import Look, earlier_look, keep_look, look_key
from regraft.jobs.scratch import scratch_run
from regraft.jobs.validation import Validation
from regraft.modality import Modality
from regraft.pretrained import Access, source_of
from regraft.strategy.cost import Amount, Held, Pace, probe_seconds, scratch_seconds
from regraft.strategy.gains import grown, nearness
from regraft.strategy.learning import LearningCurve
from regraft.strategy.plan import MOST_SEEN, allowance, subset_size
from regraft.strategy.rules import strengths_for
from regraft.strategy.similarity import UNKNOWN, Similarity
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.store import Store

if TYPE_CHECKING:
    from regraft.features import Extracted
    from regraft.training.probe import Probe

FINDINGS = "pace"
"""The file of findings: how fast this machine was with a network and data."""

FIRST = 16
"""Examples that go through the network to see how fast it is; the first tile takes longer than the others."""

TIMING = 30.0
"""Seconds that a look must have for other engines to be timed."""

HEAD_SHARE = 0.3
"""Part of the time left that a head may take whose strength is chosen anew in every fold."""

LIKE = 1.5
"""An earlier look serves again unless this one may take so many times as long."""

PASS_SHARE = 0.4
"""Part of the time left that goes into features."""


@dataclass
class Looked:
    """What a look at one network gave."""

    ground: Ground
    without: float | None
    constant: float
    similarity: Similarity | None
    curve: LearningCurve | None
    tried: Mapping[str, Any] | None
    """What a short training from random weights gave."""

    @property
    def name(self) -> str:
        """The network's."""
        return self.ground.given.facts.name

    @classmethod
    def at(cls, making: Making, name: str | None, share: float) -> Looked:
        """Open a network, look at a part of the training examples with it, and time what is not known of this machine."""
        spec, labelled = making.spec, making.labelled
        may = Access(spec.offline, spec.allow_code, spec.allow)
        given = given_network(name, labelled.dataset.task, None, [], may)
        facts = given.facts
        making.emit(Said(f"network: {facts.name}, licence {facts.licence}, trained on {facts.trained_on}"))
        asked = {
            "seed": spec.seed,
            "metric": spec.metric,
            "balance": spec.balance,
            "device": spec.device,
            "scratch": making.compare_scratch,
        }
        key = look_key(facts, known_of(labelled), asked, making.threads)
        order = nested(labelled, spec.seed)
        train = [labelled.part(TRAIN)[0][k] for k in order]
        if (
            spec.store
            and (look := earlier_look(key, train, making.modality))
            and share * allowance(making.limits.budget) <= LIKE * look.allowed
        ):
            making.device = look.device
            missing = [_missing(look.maker, making.modality, part) for part in (train[look.seen + look.broken :], labelled.part(TEST)[0])]
            # what lies in the store costs nothing to look at
            if missing[0] or look.seen + look.broken == len(train) or look.seen >= MOST_SEEN:
                making.emit(Said(f"{look.seen:,} of {len(train):,} training examples were looked at before, with {look.engine}"))
                return cls.of(making, given, replace(look, amount=replace(look.amount, missing=sum(missing))))
        with computing_threads(making.threads):
            look = _Looking(making, given, order, time.perf_counter() + share * making.left, share)()
        if spec.store:
            keep_look(key, look)
        return cls.of(making, given, look)

    @classmethod
    def of(cls, making: Making, given: Given, look: Look) -> Looked:
        """What a look says, as options are made from it."""
        metric, similarity = making.metric, look.similarity
        if similarity is not None:
            near = similarity.kind
        else:
            near = nearness(look.judged, look.constant) if metric == "accuracy" else UNKNOWN
        ground = Ground(
            given,
            making.labelled,
            making.device,
            making.outcomes,
            look.amount,
            look.pace,
            look.held,
            look.rungs,
            grown(metric, look.judged, look.seen, look.amount.train, look.curve),
            look.seen,
            look.judged,
            near,
        )
        return cls(ground, look.without, look.constant, similarity, look.curve, look.scratch)

    @property
    def evidence(self) -> dict[str, Any]:
        """What was found, as plain data."""
        ground = self.ground
        return {
            "model": self.name,
            "examples": ground.amount.train,
            "per_class": round(ground.per_class, 2),
            "seen": ground.seen,
            "missing": ground.amount.missing,
            "head": round(ground.judged, 6),
            "constant": round(self.constant, 6),
            **({"without_network": round(self.without, 6)} if self.without is not None else {}),
            "near": ground.near,
            **({"similarity": self.similarity.to_json()} if self.similarity else {}),
            **({"learning_curve": self.curve.to_json()} if self.curve else {}),
            "pace": ground.pace.to_json(),
            "earlier_outcomes": len(ground.outcomes),
        }

    def scratch(self) -> dict[str, Any]:
        """What training the same network from random weights would take."""
        ground = self.ground
        if "full" not in ground.rungs:
            return {}
        step, batch = (self.tried["step"], self.tried["batch"]) if self.tried else (None, 1)
        seconds = scratch_seconds(ground.amount, ground.rungs["full"].settings, ground.pace.judged, step, batch)
        how = f"a step of {batch} took {step:.2g} s here" if step else "from multiply-adds alone, three times a pass each"
        return {
            "seconds": seconds.to_json(),
            "how": f"extrapolated: 17 times the steps of fine-tuning (Kornblith et al. 2019); {how}",
            **({"measured": dict(self.tried)} if self.tried else {}),
            "behind": [10, 78],
            "behind_how": "points behind fine-tuning at 1,000 examples, from EuroSAT to Pets (VTAB-1k, Zhai et al. 2019)",
        }


@dataclass
class _Looking:
    """A look on its way: the training examples come in this `order`, and it ends at `until` on the clock."""

    making: Making
    given: Given
    order: Sequence[int]
    until: float
    share: float

    def __call__(self) -> Look:
        self._open()
        self._see()
        self._judge()
        self._measure_evidence()
        self._time_rungs()
        return self._found()

    @property
    def left(self) -> float:
        """Seconds that the look may still take."""
        return self.until - time.perf_counter()

    @property
    def bound(self) -> bool:
        """Whether there is a budget."""
        return self.making.limits.budget is not None

    def _open(self) -> None:
        """The network, the engine that runs it, and what is known of both."""
        making, spec, facts = self.making, self.making.spec, self.given.facts
        weights = self.given.edited.weights if self.given.edited else source_of(facts).weights(facts)
        self.frozen: Frozen = frozen_pretrained(facts, lambda: dict(weights))
        self.train, self.values = making.labelled.part(TRAIN)
        self.test = making.labelled.part(TEST)[0]
        # timing other engines takes up to ten seconds, which a fit in little time does not spend either
        free, every = not self.bound or self.left > TIMING, [*self.train, *self.test]
        named = None if free else engine_at_once(self.frozen, every, making.device, making.threads, keep=spec.store)
        self.chosen: Chosen = choose_engine(self.frozen, every, named, "auto", making.device, making.threads)
        on = circumstances(self.frozen, [self.chosen.engine], making.device, making.threads)
        self.key = findings_key({"circumstances": on, "data": known_of(making.labelled)})
        found = read_finding(FINDINGS, self.key)
        self.known: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        self.maker = self.frozen.maker(making.device, self.chosen.engine)
        self.begin = time.perf_counter() - making.start

    def _see(self) -> None:
        """Features of as many examples as there is time for, and how fast they are made."""
        making, order = self.making, self.order
        tile, outputs = self.frozen.tile, len(making.labelled.target.outputs)
        first = self._run(min(len(order), max(FIRST, tile)))
        # the first tile took what opening the network takes: the next ones say how fast it is
        second = self._run(min(len(order), 3 * max(FIRST, tile))) if first.computed and self.left > 0 else first
        timed_on = (second.seconds, second.computed) if second is not first else (0.0, 0)
        if first.computed and timed_on[1] < tile:
            # nothing is left that would fill a tile: some go through once more, each in a tile of its own
            timed_on = self.frozen.seconds_again([self.train[k] for k in order], making.device, making.threads, self.chosen.engine)
        if timed_on[1]:
            each = timed_on[0] / timed_on[1]
        else:
            some = [self.train[k] for k in order[:MOST_SEEN]]
            each = _earlier_pace(self.known) * _missing(self.maker, making.modality, some) / len(some)
        count = subset_size(PASS_SHARE * self.left, each, len(order), outputs)
        self.extracted = extracted = self._run(count) if count > len(second.kept) + len(second.left_out) else second
        self.examples = [self.train[k] for k in order[: len(extracted.kept) + len(extracted.left_out)]]
        if extracted is not second and extracted.computed >= tile:
            timed_on = extracted.seconds, extracted.computed
        self.pace = _pace(self.known, self.begin, first, *timed_on)
        making.emit(Said(f"looked at {len(extracted.kept):,} of {len(self.train):,} training examples with {self.chosen.engine.label}"))
        self.frozen.let_go()
        check_losses(extracted.left_out, len(extracted.kept), making.modality, strict=False, emit=making.emit)

    def _run(self, count: int) -> Extracted:
        making = self.making
        return self.frozen.run(
            [self.train[k] for k in self.order[:count]],
            making.device,
            making.threads,
            self.chosen.engine,
            keep=making.spec.store,
            summaries=True,
            emit=_quieter(making.emit),
            stage="features of a part",
        )

    def _judge(self) -> None:
        """A head on the features, cross-validated."""
        making, spec, extracted = self.making, self.making.spec, self.extracted
        labelled = making.labelled
        values = [self.values[self.order[k]] for k in range(len(self.examples))]
        parts = divide(labelled, self.examples, values, extracted, silent)
        metric = spec.metric or labelled.target.metrics[0]
        self.validation = validation = Validation.of(
            labelled.target, metric, parts, spec.seed, balance=spec.balance, emit=silent, device=making.device
        )
        n, width, outputs = len(parts.y), extracted.features.shape[1], len(labelled.target.outputs)
        hurried = self.bound and probe_seconds(n, width, outputs, nested=True) > HEAD_SHARE * self.left
        nested_too = validation.nested and not hurried
        begun = time.perf_counter()
        self.probe = validation.probe("output layer", extracted.features, strengths_for(labelled.target.loss), silent, nested=nested_too)
        self.taken = time.perf_counter() - begun
        expected = probe_seconds(n, width, outputs, nested=nested_too)
        self.pace = replace(self.pace, probe=self.taken / expected, measured=(*self.pace.measured, "probe"))
        held = validation.judge(self.probe.out_of_fold)
        self.judged = validation.figures(held)[making.metric].value
        self.constant = validation.view.constant(held.truth)["metrics"][making.metric]["value"]

    def _measure_evidence(self) -> None:
        """How near the data is, and how its head grows, where there is time."""
        self.without: float | None = None
        self.similarity: Similarity | None = None
        self.curve: LearningCurve | None = None
        self.rows, self.whole = 1, len(self.examples) == len(self.order)
        if self.left <= 2 * self.taken:
            return
        bare, self.rows = _without_network(self.making, self.validation, self.extracted)
        self.without = self.validation.figures(self.validation.judge(bare.out_of_fold))[self.making.metric].value
        own = Seen(self.validation, self.extracted.features, self.probe)
        self.similarity = own.similarity(bare.out_of_fold)
        if not self.whole and self.left > 3 * self.taken:
            # of as many fits as a curve has, on parts, each without a nested choice: about what one head takes
            self.curve, self.whole = own.curve(), True

    def _time_rungs(self) -> None:
        """Steps of training, and what they hold; kept for later plans and climbs."""
        making, extracted = self.making, self.extracted
        self.now = now = Held(resident_mb() or 0.0, peak_memory_mb() or 0.0)
        few = max(JUDGED, batch_to_time(self.pace.example, max(0.0, self.left), 32))
        self.usable = [self.examples[k] for k in extracted.kept]
        self.sample = Sample(
            self.usable[:few],
            extracted.features[:few],
            self.validation,
            self.probe,
            making.device,
            max(2, making.threads),
            making.spec.seed,
            making.spec.store,
            self.chosen.plain,
        )
        rungs = read_known(self.known.get("rungs"))
        complete = self.known.get("complete") is True and bool(rungs)
        if not complete:
            deeper, left = rungs_of(self.given, making.labelled), lambda: self.left
            rungs, complete = calibrated(deeper, self.sample, rungs, self.pace, left, len(self.train), making.emit, bound=self.bound)
        self.rungs, self.complete = rungs, complete
        if "full" in rungs:
            whole = rungs["full"]
            own = (*self.pace.measured, "judged") if whole.measured else self.pace.measured
            judged, reading = whole.timed.judged, whole.timed.reading
            self.pace = replace(self.pace, judged=judged, reading=reading, measured=tuple(dict.fromkeys(own)))
        # where everything was stored the network was not opened: what it takes was seen before
        self.memory = Held(*(max(a, b) for a, b in zip(vars(now).values(), _held(self.known), strict=True)))
        kept = {"pace": self.pace.to_json(), "held": [self.memory.resident, self.memory.peak], "complete": complete}
        keep_finding(FINDINGS, self.key, {**kept, "rungs": {name: k.to_json() for name, k in rungs.items()}})

    def _found(self) -> Look:
        """What was found, as it is kept."""
        making, extracted, rungs = self.making, self.extracted, self.rungs
        ahead = [self.train[k] for k in self.order[len(self.examples) :]]
        amount = Amount(
            train=len(self.train),
            test=len(self.test),
            outputs=len(making.labelled.target.outputs),
            folds=self.validation.count,
            nested=self.validation.nested,
            windows=next((k.timed.windows for k in rungs.values() if k.measured), 1.0),
            missing=sum(_missing(self.maker, making.modality, part) for part in (ahead, self.test)),
            width=extracted.features.shape[1],
            rows=self.rows,
        )
        tried = None
        if making.compare_scratch and "full" in rungs:
            own = replace(self.sample, examples=self.usable[:SCRATCH], features=extracted.features[: len(self.usable[:SCRATCH])])
            tried = _tried_from_scratch(making, self.given, own, rungs["full"])
        return Look(
            device=making.device,
            engine=self.chosen.engine.label,
            maker=self.maker,
            amount=amount,
            pace=self.pace,
            held=self.memory if amount.missing else replace(self.memory, peak=self.now.peak),
            rungs=rungs,
            seen=len(extracted.kept),
            broken=len(extracted.left_out),
            judged=self.judged,
            without=self.without,
            constant=self.constant,
            similarity=self.similarity,
            curve=self.curve,
            allowed=self.share * allowance(making.limits.budget),
            complete=self.complete and self.similarity is not None and self.whole,
            scratch=tried,
        )


SCRATCH, SCRATCH_SHARE = 320, 0.5
"""Examples that a training from random weights is tried on, at most; its seconds, as a part of those that making a plan may take."""


def _tried_from_scratch(making: Making, given: Given, sample: Sample, full: Known) -> dict[str, Any] | None:
    seconds = SCRATCH_SHARE * allowance(making.limits.budget)
    making.emit(Said(f"training from random weights on {len(sample.examples):,} {making.modality.nouns}, for about {seconds:.0f} s"))
    try:
        return scratch_run(given, making.labelled.target, making.modality, sample, full.settings, seconds)
    except RegraftError as error:
        making.emit(Warned(f"training from random weights is left out: {error.found}"))
        return None


SAMPLED = 8
"""Examples of those that were not looked at that are looked for in the feature store."""


def _missing(maker: Mapping[str, Any], modality: Modality, examples: Sequence[Example]) -> int:
    """How many of some examples have no features of this maker in the store, told by a few from all over them."""
    held = Store().held(maker) if examples else None
    if held is None:
        return len(examples)
    few = [examples[k] for k in np.linspace(0, len(examples) - 1, min(len(examples), SAMPLED)).astype(int)]
    try:
        there = sum(modality.load(e.source).identity in held for e in few)
    except Exception:  # the pass says what is wrong with an example
        return len(examples)
    return round(len(examples) * (1 - there / len(few)))


def _earlier_pace(known: Mapping[str, Any]) -> float:
    """Seconds of an example in the pass, as an earlier plan found them; as little as nothing where none did."""
    pace = known.get("pace")
    example = pace.get("example") if isinstance(pace, Mapping) else None
    return float(example) if isinstance(example, (int, float)) else 1e-3


def _held(known: Mapping[str, Any]) -> tuple[float, float]:
    """(memory before anything below the head was opened, the most until then), in MB, as an earlier plan found it."""
    held = known.get("held")
    if not isinstance(held, list) or len(held) != 2 or not all(isinstance(v, (int, float)) for v in held):
        return 0.0, 0.0
    return float(held[0]), float(held[1])


def _pace(known: Mapping[str, Any], begin: float, first: Extracted, seconds: float, later: int) -> Pace:
    """How fast the pass was after its first tile, by the `seconds` of `later` examples; where there were none, how fast it was before."""
    pace = Pace(begin=begin, measured=("begin",))
    if later:
        example = seconds / later
        setup = max(0.0, first.seconds - first.computed * example)
        return replace(pace, example=example, timed=later, setup=setup, measured=("begin", "example"))
    if isinstance(held := known.get("pace"), Mapping):
        return pace.as_before(held, ("example", "setup", "reading", "judged"))
    return pace


def _without_network(making: Making, validation: Validation, extracted: Extracted) -> tuple[Probe, int]:
    """(the same head without a network, how many numbers it reads of an example)."""
    modality = making.modality
    rows = modality.vectorise(modality.learn_vectoriser(extracted.summaries), extracted.summaries)
    strengths = strengths_for(validation.target.loss)[BASELINE_STRENGTHS]
    probe: Probe = validation.probe("without the network", rows, strengths, silent, nested=False, careful=False)
    return probe, rows.shape[1]


def _quieter(emit: Emit) -> Emit:
    """What is said and how far it is; not that each part ended."""

    def heard(event: Event) -> None:
        if isinstance(event, (Started, Progress, Said, Warned)) or isinstance(event, Done) and event.seconds > 5:
            emit(event)

    return heard
