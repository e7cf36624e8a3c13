"""plan: what could be trained, what each would cost and give, and which to take, before the time is spent."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import TEST, TRAIN, Example
from regraft.errors import ModelError, RegraftError, UsageError
from regraft.events import Done, Emit, Event, Progress, Said, Started, Warned, silent
from regraft.jobs.calibrate import (
    JUDGED,
    Known,
    Sample,
    batch_to_time,
    read_known,
)
from regraft.jobs.common import Messages, check_losses, choose_device, computing_threads, core_count, peak_memory_mb, resident_mb
from regraft.jobs.engines import choose_engine, circumstances, reference_engine
from regraft.jobs.frozen import frozen_pretrained
from regraft.jobs.growing import Seen
from regraft.jobs.labelled import Labelled, asked_spec, open_labelled
from regraft.jobs.network import Given, given_network
from regraft.jobs.parts import divide
from regraft.jobs.planned import OF_PLAN, earlier_outcomes, keep_expectations, known_of
from regraft.jobs.prospects import Ground, calibrated, rungs_of
from regraft.jobs.remembered import Look, earlier_look, keep_look, look_key
from regraft.jobs.scratch import scratch_run
from regraft.jobs.validation import Validation
from regraft.modality import MODALITIES, Modality
from regraft.pretrained import Access, source_of
from regraft.pretrained.catalogue.search import number_of
from regraft.spec import AUTO, FitSpec, refuse, seconds_in
from regraft.strategy.cost import (
    Amount,
    Held,
    Pace,
    probe_seconds,
    scratch_seconds,
)
from regraft.strategy.gains import grown, nearness
from regraft.strategy.learning import LearningCurve
from regraft.strategy.plan import MOST_SEEN, Limits, Option, Plan, allowance, choose, subset_size
from regraft.strategy.race import race_seconds
from regraft.strategy.rules import strengths_for
from regraft.strategy.similarity import UNKNOWN, Similarity
from regraft.workspace.files import write_json
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.store import Store

if TYPE_CHECKING:
    from regraft.features import Extracted
    from regraft.training.probe import Probe

FINDINGS = "pace"
"""The file of findings: how fast this machine was with a network and data."""

FIRST = 16
"""Examples that go through the network to see how fast it is; the first tile takes longer than the others."""

LIKE = 1.5
"""An earlier look serves again unless this one may take so many times as long."""

PASS_SHARE = 0.4
"""Part of the time left that goes into features."""


def plan(
    data: Any,
    *,
    task: str | None = None,
    input: str | None = None,
    label: str | None = None,
    target: str | None = None,
    separator: str | None = None,
    group: str | None = None,
    split: str | None = None,
    weight: str | None = None,
    test: Any = None,
    metric: str | None = None,
    model: str | Sequence[str] | None = None,
    budget: str | float | None = None,
    max_memory: str | float | None = None,
    max_latency: str | float | None = None,
    max_params: str | float | None = None,
    licence: str | None = None,
    price_per_hour: float | None = None,
    compare_scratch: bool = False,
    offline: bool = False,
    allow_code: bool = False,
    allow: str | Sequence[str] = (),
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    allow_outside: bool = False,
    balance: bool = False,
    store: bool = True,
    out: str | os.PathLike[str] | None = None,
    on_event: Emit = silent,
) -> Plan:
    """What could be trained on this data, what each is expected to give and to cost, and which to take.

    A part of the training examples goes through each network of `model` (one or several; the usual one when not given; auto: the one that
    wins a race); a head is fitted to
    it and judged, a few steps of deeper training are timed. What is made is kept in the feature store, so that the fit does not make it
    again. The test part is not looked at. `budget` is a time such as 10m or seconds, `max_memory` such as 4GB, `max_latency` milliseconds
    an example, `max_params` such as 30M, `licence` a licence or a kind of one; all are kept. With `price_per_hour` options say what they
    cost. With `compare_scratch` the same network is also trained from random weights for a moment, which takes half as long again. `out`
    names a JSON file to write, which `fit(plan=...)` follows. The other arguments are those of `fit`.

    Raises UsageError where nothing keeps the limits (with what to relax), and whatever `fit` raises of data and networks.
    """
    start = time.perf_counter()
    limits = limits_of(budget, max_memory, max_latency, max_params, licence)
    if price_per_hour is not None and not 0 <= price_per_hour < math.inf:
        raise UsageError(f"--price-per-hour {price_per_hour}: expected a price from 0 on")
    names = [model] if model is None or isinstance(model, str) else list(dict.fromkeys(model))
    source, spec = asked_spec(locals(), model=names[0] if len(names) == 1 else None)
    messages = Messages(on_event)
    labelled = open_labelled(spec, source, test)
    making = _Making(spec, labelled, limits, start, messages, compare_scratch)
    if names == [AUTO]:
        names = [making.race()]
    found = making(names or [None])
    asked = {name: getattr(spec, name) for name in OF_PLAN}
    found = replace(
        found,
        asked={k: v for k, v in asked.items() if v is not None},
        price_per_hour=price_per_hour,
        said=tuple(messages.said),
        warned=tuple(messages.warned),
        seconds=time.perf_counter() - start,
    )
    if limits.budget is not None and found.seconds > allowance(limits.budget):
        took = f"making the plan took {found.seconds:.0f} s, more than 15 % of the budget"
        said = f"{took}; made again it takes less, as what was measured is kept"
        messages(Warned(said))
        found = replace(found, warned=(*found.warned, said))
    keep_expectations(found, making.device, making.threads)
    if out is not None:
        write_json(Path(out), found.to_json())
    return found


def limits_of(
    budget: str | float | None, memory: str | float | None, latency: str | float | None, parameters: str | float | None, licence: str | None
) -> Limits:
    """The limits as they are asked for. UsageError names everything that cannot be meant."""
    faults: list[str] = []
    seconds = None if budget is None else seconds_in(str(budget))
    if isinstance(seconds, str):
        faults.append(f"--budget {budget}: {seconds}")
        seconds = None

    def number(option: str, value: str | float | None, ending: str, example: str, unit: float = 1.0) -> float | None:
        text = "".join(str(value).split()).casefold().removesuffix(ending) if isinstance(value, str) else value
        if isinstance(text, str) and ending == "b" and text[-1:].isdigit():
            faults.append(f"{option} {value}: expected a size with its unit, such as {example}")
            return None
        try:
            found = number_of(option, text, example)
        except UsageError:
            faults.append(f"{option} {value}: expected more than 0, such as {example}")
            return None
        return None if found is None else found / unit

    found = Limits(
        seconds,
        # a plain number is in MB, as results give it
        number("--max-memory", memory if not isinstance(memory, (int, float)) else memory * 1e6, "b", "800MB or 4GB", 1e6),
        number("--max-latency", latency, "ms", "20ms"),
        number("--max-params", parameters, "", "30M or 1.5G"),
        licence,
    )
    refuse(faults)
    return found


@dataclass
class _Making:
    """A plan while it is made."""

    spec: FitSpec
    labelled: Labelled
    limits: Limits
    start: float
    emit: Emit
    compare_scratch: bool = False

    def __post_init__(self) -> None:
        self.threads = self.spec.threads or core_count()
        self.modality: Modality = MODALITIES[self.labelled.dataset.task]
        self.metric = self.labelled.target.metrics[0]
        self.outcomes, bad = earlier_outcomes()
        if bad:
            lines = "1 line" if bad == 1 else f"{bad:,} lines"
            self.emit(Warned(f"{lines} of the local record of predictions (outcomes.jsonl) passed over: damaged, or of another version"))
        self.end = self.start + allowance(self.limits.budget)

    @cached_property
    def device(self) -> str:
        """Where things are computed; to find out takes PyTorch, where an earlier look does not say."""
        return choose_device(self.spec.device)

    @property
    def left(self) -> float:
        """Seconds that making the plan may still take."""
        return self.end - time.perf_counter()

    def race(self) -> str:
        """The network that wins a race: in half of the time of a plan within a budget, else in a minute of its own."""
        from regraft.jobs.race import raced_for_plan

        begun, whole = time.perf_counter(), self.limits.budget is None
        winner = raced_for_plan(self.spec, self.labelled, self.limits, race_seconds(None) if whole else self.left / 2, self.emit)
        self.end += time.perf_counter() - begun if whole else 0.0
        return winner

    def __call__(self, models: Sequence[str | None]) -> Plan:
        train, test = self.labelled.part(TRAIN)[0], self.labelled.part(TEST)[0]
        noun = self.modality.nouns if len(train) != 1 else self.modality.noun
        counted = f"{len(train):,} {noun} {self.labelled.target.described(self.labelled.train_cells)} to train on"
        self.emit(Said(counted + (f", {len(test):,} to test on" if test else "")))
        if self.labelled.how:
            self.emit(Said(self.labelled.how))
        options: list[Option] = []
        looked: list[_Looked] = []
        for number, name in enumerate(models):
            try:
                found = _Looked.at(self, name, share=1 / (len(models) - number))
                options += found.ground.options(self.limits.budget)
                looked.append(found)
            except ModelError as error:
                if len(models) == 1:
                    raise
                self.emit(Warned(f"{name} is left out: {error.found}"))
        if not looked:
            raise ModelError("none of the networks can be used", move="regraft models")
        chosen = choose(options, self.limits, self.metric)
        first = next(found for found in looked if found.name == chosen.chosen.model)
        known = known_of(self.labelled)
        return replace(chosen, data=self.spec.data, known=known, scratch=first.scratch(), evidence=first.evidence)


@dataclass
class _Looked:
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
    def at(cls, making: _Making, name: str | None, share: float) -> _Looked:
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
            look = cls._look(making, given, order, share)
        if spec.store:
            keep_look(key, look)
        return cls.of(making, given, look)

    @classmethod
    def of(cls, making: _Making, given: Given, look: Look) -> _Looked:
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

    @classmethod
    def _look(cls, making: _Making, given: Given, order: Sequence[int], share: float) -> Look:
        """Look at a part of the training examples, which come in this order."""
        spec, labelled, facts = making.spec, making.labelled, given.facts
        weights = given.edited.weights if given.edited else source_of(facts).weights(facts)
        frozen = frozen_pretrained(facts, lambda: dict(weights))
        train, values = labelled.part(TRAIN)
        test = labelled.part(TEST)[0]
        until = time.perf_counter() + share * making.left
        left = lambda: until - time.perf_counter()
        # timing other engines takes up to ten seconds: with less, the plain one runs, which the fit then may not
        free = making.limits.budget is None or left() > 12 or len(train) + len(test) < 400
        chosen = choose_engine(frozen, [*train, *test], None if free else reference_engine(), "auto", making.device, making.threads)
        key = findings_key(
            {"circumstances": circumstances(frozen, [chosen.engine], making.device, making.threads), "data": known_of(labelled)}
        )
        found = read_finding(FINDINGS, key)
        known: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        begin = time.perf_counter() - making.start

        run = lambda count: frozen.run(
            [train[k] for k in order[:count]],
            making.device,
            making.threads,
            chosen.engine,
            keep=spec.store,
            summaries=True,
            emit=_quieter(making.emit),
            stage="features of a part",
        )
        outputs = len(labelled.target.outputs)
        first = run(min(len(order), max(FIRST, frozen.tile)))
        # the first tile took what opening the network takes: the next ones say how fast it is
        second = run(min(len(order), 3 * max(FIRST, frozen.tile))) if first.computed and left() > 0 else first
        timed_on = (second.seconds, second.computed) if second is not first else (0.0, 0)
        if first.computed and timed_on[1] < frozen.tile:
            # nothing is left that would fill a tile: some go through once more, each in a tile of its own
            timed_on = frozen.seconds_again([train[k] for k in order], making.device, making.threads, chosen.engine)
        if timed_on[1]:
            each = timed_on[0] / timed_on[1]
        else:
            some = [train[k] for k in order[:MOST_SEEN]]
            each = _earlier_pace(known) * _missing(frozen.maker(making.device, chosen.engine), making.modality, some) / len(some)
        count = subset_size(PASS_SHARE * left(), each, len(order), outputs)
        extracted = run(count) if count > len(second.kept) + len(second.left_out) else second
        examples = [train[k] for k in order[: len(extracted.kept) + len(extracted.left_out)]]
        if extracted is not second and extracted.computed >= frozen.tile:
            timed_on = extracted.seconds, extracted.computed
        pace = _pace(known, begin, first, *timed_on)
        making.emit(Said(f"looked at {len(extracted.kept):,} of {len(train):,} training examples with {chosen.engine.label}"))
        frozen.let_go()
        check_losses(extracted.left_out, len(extracted.kept), making.modality, strict=False, emit=making.emit)
        chosen_values = [values[order[k]] for k in range(len(examples))]
        parts = divide(labelled, examples, chosen_values, extracted, silent)
        metric = spec.metric or labelled.target.metrics[0]
        validation = Validation.of(labelled.target, metric, parts, spec.seed, balance=spec.balance, emit=silent, device=making.device)
        begun = time.perf_counter()
        probe = validation.probe("output layer", extracted.features, strengths_for(labelled.target.loss), silent)
        taken = time.perf_counter() - begun
        expected = probe_seconds(len(parts.y), extracted.features.shape[1], outputs, nested=validation.nested)
        pace = replace(pace, probe=taken / expected, measured=(*pace.measured, "probe"))
        held = validation.judge(probe.out_of_fold)
        judged = validation.figures(held)[making.metric].value
        constant = validation.view.constant(held.truth)["metrics"][making.metric]["value"]
        without, similarity, curve, rows, complete_look = None, None, None, 1, len(examples) == len(order)
        if left() > 2 * taken:
            bare, rows = _without_network(making, validation, extracted)
            without = validation.figures(validation.judge(bare.out_of_fold))[making.metric].value
            own = Seen(validation, extracted.features, probe)
            similarity = own.similarity(bare.out_of_fold)
            if not complete_look and left() > 3 * taken:
                # of as many fits as a curve has, on parts, each without a nested choice: about what one head takes
                curve, complete_look = own.curve(), True
        now = Held(resident_mb() or 0.0, peak_memory_mb() or 0.0)
        few = max(JUDGED, batch_to_time(pace.example, max(0.0, left()), 32))
        sample = Sample(
            [examples[k] for k in extracted.kept][:few],
            extracted.features[:few],
            validation,
            probe,
            making.device,
            max(2, making.threads),
            spec.seed,
            spec.store,
            chosen.plain,
        )
        rungs = read_known(known.get("rungs"))
        complete = known.get("complete") is True and bool(rungs)
        if not complete:
            bound, deeper = making.limits.budget is not None, rungs_of(given, labelled)
            rungs, complete = calibrated(deeper, sample, rungs, pace, left, len(train), making.emit, bound=bound)
        windows = next((k.timed.windows for k in rungs.values() if k.measured), 1.0)
        if "full" in rungs:
            whole = rungs["full"]
            own = (*pace.measured, "judged") if whole.measured else pace.measured
            pace = replace(pace, judged=whole.timed.judged, reading=whole.timed.reading, measured=tuple(dict.fromkeys(own)))
        # where everything was stored the network was not opened: what it takes was seen before
        memory = Held(*(max(a, b) for a, b in zip(vars(now).values(), _held(known), strict=True)))
        kept = {"pace": pace.to_json(), "held": [memory.resident, memory.peak], "complete": complete}
        keep_finding(FINDINGS, key, {**kept, "rungs": {name: k.to_json() for name, k in rungs.items()}})
        seen = len(extracted.kept)
        usable = [examples[k] for k in extracted.kept][:SCRATCH]
        maker = frozen.maker(making.device, chosen.engine)
        amount = Amount(
            train=len(train),
            test=len(test),
            outputs=outputs,
            folds=validation.count,
            nested=validation.nested,
            windows=windows,
            missing=sum(_missing(maker, making.modality, part) for part in ([train[k] for k in order[len(examples) :]], test)),
            width=extracted.features.shape[1],
            rows=rows,
        )
        if not amount.missing:
            memory = replace(memory, peak=now.peak)
        tried = None
        if making.compare_scratch and "full" in rungs:
            tried = _tried_from_scratch(
                making, given, replace(sample, examples=usable, features=extracted.features[: len(usable)]), rungs["full"]
            )
        return Look(
            device=making.device,
            engine=chosen.engine.label,
            maker=maker,
            amount=amount,
            pace=pace,
            held=memory,
            rungs=rungs,
            seen=seen,
            broken=len(extracted.left_out),
            judged=judged,
            without=without,
            constant=constant,
            similarity=similarity,
            curve=curve,
            allowed=share * allowance(making.limits.budget),
            complete=complete and similarity is not None and complete_look,
            scratch=tried,
        )

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


SCRATCH, SCRATCH_SHARE = 320, 0.5
"""Examples that a training from random weights is tried on, at most; its seconds, as a part of those that making a plan may take."""


def _tried_from_scratch(making: _Making, given: Given, sample: Sample, full: Known) -> dict[str, Any] | None:
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


def nested(labelled: Labelled, seed: int) -> list[int]:
    """An order of the training examples of which every beginning is a small image of the whole: of each label about the same part."""
    examples = labelled.part(TRAIN)[0]
    rng = np.random.default_rng(seed)
    chance = rng.permutation(len(examples))
    if labelled.target.name == "number":
        return chance.tolist()
    members: dict[str, list[int]] = {}
    for k in chance.tolist():
        members.setdefault(examples[k].label or "", []).append(k)
    placed = [((place + 0.5) / len(own), label, k) for label, own in members.items() for place, k in enumerate(own)]
    return [k for _, _, k in sorted(placed)]


def _pace(known: Mapping[str, Any], begin: float, first: Extracted, seconds: float, later: int) -> Pace:
    """How fast the pass was after its first tile, by the `seconds` of `later` examples; where there were none, how fast it was before."""
    pace = Pace(begin=begin, measured=("begin",))
    if later:
        example = seconds / later
        setup = max(0.0, first.seconds - first.computed * example)
        return replace(pace, example=example, timed=later, setup=setup, measured=("begin", "example"))
    if isinstance(held := known.get("pace"), Mapping):
        timed_on = held.get("timed")
        pace = replace(pace, timed=timed_on if isinstance(timed_on, int) else 0)
        return pace.as_before(held, ("example", "setup", "reading", "judged"))
    return pace


def _without_network(making: _Making, validation: Validation, extracted: Extracted) -> tuple[Probe, int]:
    """(the same head without a network, how many numbers it reads of an example)."""
    modality = making.modality
    rows = modality.vectorise(modality.learn_vectoriser(extracted.summaries), extracted.summaries)
    strengths = strengths_for(validation.target.loss)[1::2]
    probe: Probe = validation.probe("without the network", rows, strengths, silent, nested=False, careful=False)
    return probe, rows.shape[1]


def _quieter(emit: Emit) -> Emit:
    """What is said and how far it is; not that each part ended."""

    def heard(event: Event) -> None:
        if isinstance(event, (Started, Progress, Said, Warned)) or isinstance(event, Done) and event.seconds > 5:
            emit(event)

    return heard
