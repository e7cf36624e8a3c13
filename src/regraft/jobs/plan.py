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
    guessed,
    read_known,
    saved_of,
    seconds_to_time,
    timed,
    untimed,
    usual_settings,
)
from regraft.jobs.common import Messages, check_losses, choose_device, computing_threads, core_count, patterns, peak_memory_mb, resident_mb
from regraft.jobs.engines import choose_engine, circumstances, reference_engine
from regraft.jobs.frozen import frozen_pretrained
from regraft.jobs.growing import Seen
from regraft.jobs.labelled import Labelled, named_data, open_labelled
from regraft.jobs.network import Given, given_network
from regraft.jobs.parts import divide
from regraft.jobs.planned import OF_PLAN, OTHER, earlier_outcomes, keep_expectations, known_of
from regraft.jobs.remembered import Look, earlier_look, keep_look, look_key, old_outputs
from regraft.jobs.scratch import scratch_run
from regraft.jobs.validation import Validation
from regraft.jobs.work import Deeper, plan_deeper
from regraft.modality import MODALITIES, Modality
from regraft.pretrained import Access, source_of
from regraft.pretrained.catalogue import entry_of
from regraft.pretrained.catalogue.search import number_of
from regraft.spec import AUTO, FitSpec, refuse, seconds_in
from regraft.strategy.contrastive import contrast_for
from regraft.strategy.cost import (
    Amount,
    Held,
    Pace,
    Range,
    contrastive_stages,
    deeper_disk,
    deeper_memory,
    deeper_stages,
    head_disk,
    head_memory,
    head_stages,
    probe_seconds,
    scratch_seconds,
    total,
)
from regraft.strategy.gains import Expected, Gain, Grown, gain_of, grown, nearness
from regraft.strategy.learning import LearningCurve
from regraft.strategy.outcomes import corrected, memory_ratios, ratios, stage_of
from regraft.strategy.plan import MOST_SEEN, Limits, Option, Plan, allowance, choose, subset_size
from regraft.strategy.race import race_seconds
from regraft.strategy.rules import strengths_for
from regraft.strategy.rungs import rung_of
from regraft.strategy.settings import precision_for
from regraft.strategy.similarity import UNKNOWN, Similarity
from regraft.workspace.files import write_json
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.store import Store

if TYPE_CHECKING:
    from regraft.features import Extracted
    from regraft.training.probe import Probe

FINDINGS = "pace"
"""The file of findings: how fast this machine was with a network and data."""

LADDER = ("none", "head", "norm", "top=1", "top=2", "contrastive", "full")
"""What is planned, from the fewest changes."""

TIMED = ("full", "top=1", "norm", "top=2")
"""The rungs whose steps are timed, as long as there is time, in this order: from the first two the others can be told."""

FIRST = 16
"""Examples that go through the network to see how fast it is; the first tile takes longer than the others."""

LIKE = 1.5
"""An earlier look serves again unless this one may take so many times as long."""

PASS_SHARE, CUTTING = 0.4, 3.0
"""Part of the time left that goes into features; seconds that finding a cut takes."""

FEW_TEXTS = (2, 50, 2000)
"""Examples a class, least and most, and of all, for which few-shot training is planned (docs/rungs.md)."""


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
    source, data_text, test_text = named_data(data, test)
    spec = FitSpec(
        data=data_text,
        task=task,
        input=input,
        label=label,
        target=target,
        separator=separator,
        group=group,
        split=split,
        weight=weight,
        test=test_text,
        metric=metric,
        model=names[0] if len(names) == 1 else None,
        offline=offline,
        allow_code=allow_code,
        allow=patterns(allow),
        device=device,
        threads=threads,
        seed=seed,
        allow_outside=allow_outside,
        balance=balance,
        store=store,
    )
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
                options += found.options()
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

    making: _Making
    given: Given
    amount: Amount
    pace: Pace
    held: Held
    rungs: dict[str, Known]
    seen: int
    judged: float
    without: float | None
    constant: float
    similarity: Similarity | None
    curve: LearningCurve | None
    tried: Mapping[str, Any] | None
    """What a short training from random weights gave."""

    @property
    def name(self) -> str:
        """The network's."""
        return self.given.facts.name

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
        rungs = dict(look.rungs)
        found = (look.seen, look.judged, look.without, look.constant, look.similarity, look.curve, look.scratch)
        return cls(making, given, look.amount, look.pace, look.held, rungs, *found)

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
        timed_on = second if second.computed else first
        if timed_on.computed:
            each = timed_on.seconds / timed_on.computed
        else:
            some = [train[k] for k in order[:MOST_SEEN]]
            each = _earlier_pace(known) * _missing(frozen.maker(making.device, chosen.engine), making.modality, some) / len(some)
        count = subset_size(PASS_SHARE * left(), each, len(order), outputs)
        extracted = run(count) if count > len(second.kept) + len(second.left_out) else second
        examples = [train[k] for k in order[: len(extracted.kept) + len(extracted.left_out)]]
        pace = _pace(known, begin, first, extracted)
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
            rungs, complete = _calibrated(making, given, sample, rungs, pace, until, len(train))
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
    def near(self) -> str:
        """How near the data is to what the network knows: as its similarity says, else by the head alone."""
        if self.similarity is not None:
            return self.similarity.kind
        return nearness(self.judged, self.constant) if self.making.metric == "accuracy" else UNKNOWN

    @cached_property
    def grown(self) -> Grown:
        """What the head is expected to reach with all examples."""
        return grown(self.making.metric, self.judged, self.seen, self.amount.train, self.curve)

    @property
    def head(self) -> Expected:
        """The same, on the scale of gains."""
        return self.grown.expected

    @property
    def per_class(self) -> float:
        """Training examples a class; of what has none all."""
        return self.amount.train / max(1, self.amount.outputs)

    @property
    def evidence(self) -> dict[str, Any]:
        """What was found, as plain data."""
        return {
            "model": self.name,
            "examples": self.amount.train,
            "per_class": round(self.per_class, 2),
            "seen": self.seen,
            "missing": self.amount.missing,
            "head": round(self.judged, 6),
            "constant": round(self.constant, 6),
            **({"without_network": round(self.without, 6)} if self.without is not None else {}),
            "near": self.near,
            **({"similarity": self.similarity.to_json()} if self.similarity else {}),
            **({"learning_curve": self.curve.to_json()} if self.curve else {}),
            "pace": self.pace.to_json(),
            "earlier_outcomes": len(self.making.outcomes),
        }

    def options(self) -> list[Option]:
        """What can be done with this network."""
        found = [self._option(train) for train in LADDER]
        return [option for option in found if option is not None]

    def _option(self, train: str) -> Option | None:
        facts, amount, pace = self.given.facts, self.amount, self.pace
        parameters = facts.parameters + (amount.width + 1) * amount.outputs
        if train == "head":
            reasons = [f"a head on {self.seen:,} examples, cross-validated: {self.making.metric} {self.judged:.3f}"]
            reasons += [self.grown.why] if self.grown.why else []
            memory, disk = head_memory(amount, self.held, self.seen), head_disk(amount, parameters)
            counts = (parameters, (amount.width + 1) * amount.outputs)
            return self._put(train, None, head_stages(amount, pace), memory, disk, counts, reasons)
        if train == "none":
            return self._as_it_is(parameters)
        if train not in self.rungs:
            return None
        one, settings = self.rungs[train].timed, self.rungs[train].settings
        gain = gain_of(train, self.per_class, self.near, self.making.outcomes, self.making.metric)
        reasons = [gain.why, self._cost_reason(train)]
        if train == "contrastive":
            stages = contrastive_stages(amount, pace, one.body, contrast_for(amount.train, one.length))
        else:
            precision = precision_for(one.body.step, one.body.rounded) if one.body.step and one.body.rounded else "fp32"
            stages = deeper_stages(amount, pace, one.body, settings, precision)
        memory = deeper_memory(amount, self.held, self.seen, one.body, settings.batch)
        counts = (one.body.parameters, one.body.trained)
        return self._put(train, gain, stages, memory, deeper_disk(amount, one.body), counts, reasons)

    def _as_it_is(self, parameters: int) -> Option | None:
        """The network's own output layer, where it has one."""
        facts, target = self.given.facts, self.making.labelled.target
        old = None if self.given.edited is not None else old_outputs(facts, target)
        if old is None:
            return None
        outputs, named = old
        gain = gain_of("none, by name" if named else "none", self.per_class, self.near, self.making.outcomes, self.making.metric)
        amount = replace(self.amount, width=outputs, missing=self.amount.examples)
        memory = head_memory(amount, self.held, self.seen)
        counts = (parameters + facts.features * outputs, 0 if named else (outputs + 1) * amount.outputs)
        disk = head_disk(amount, counts[0])
        return self._put("none", gain, head_stages(amount, self.pace), memory, disk, counts, [gain.why])

    def _cost_reason(self, train: str) -> str:
        known = self.rungs[train]
        body = known.timed.body
        what = "no step was timed: seconds are from multiply-adds" if body.step is None else f"a step takes {body.step:.2g} s"
        how = "timed here" if known.measured else "the part that trains, against the whole network's multiply-adds"
        saved = f"; {body.saved:.0%} of the work runs once" if body.saved else "; nothing runs once"
        return f"{what} ({how}){saved}"

    def _put(
        self,
        train: str,
        gain: Gain | None,
        stages: Mapping[str, Range],
        memory: Range,
        disk: float,
        counts: tuple[int, int],
        reasons: Sequence[str],
    ) -> Option:
        """An option, after what came of earlier ones."""
        making, facts = self.making, self.given.facts
        device, outcomes = making.device.partition(":")[0], making.outcomes
        expected = self.head.plus(gain.expected) if gain else self.head
        told = {name: r for name, r in stages.items() if stage_of(name) or name == "training"}
        told[OTHER] = total(r for name, r in stages.items() if name not in told)
        after = {name: corrected(r, ratios(outcomes, name, device)) for name, r in told.items()}
        seconds = total(after.values())
        entry = entry_of(facts)
        latency = next((k.timed.latency for k in self.rungs.values() if k.timed.latency), None)
        raw = {
            "stages": {name: float(f"{r.value:.4g}") for name, r in told.items()},
            "memory": round(memory.value, 1),
            "figure": round(self.head.mean + (gain.rule if gain else 0.0), 4),
        }
        return Option(
            model=self.name,
            train=train,
            order=LADDER.index(train),
            figure=expected.figure(making.metric),
            seconds=seconds,
            memory=corrected(memory, memory_ratios(outcomes, deeper=train not in ("none", "head"), device=device)),
            disk=disk,
            parameters=counts[0],
            trained=counts[1],
            licence=facts.licence,
            licence_kind=entry.licence_kind,
            latency=latency,
            stages=after,
            reasons=tuple(reasons),
            raw=raw,
        )

    def scratch(self) -> dict[str, Any]:
        """What training the same network from random weights would take."""
        if "full" not in self.rungs:
            return {}
        step, batch = (self.tried["step"], self.tried["batch"]) if self.tried else (None, 1)
        seconds = scratch_seconds(self.amount, self.rungs["full"].settings, self.pace.judged, step, batch)
        how = f"a step of {batch} took {step:.2g} s here" if step else "from multiply-adds alone, three times a pass each"
        return {
            "seconds": seconds.to_json(),
            "how": f"extrapolated: 17 times the steps of fine-tuning (Kornblith et al. 2019); {how}",
            **({"measured": dict(self.tried)} if self.tried else {}),
            "behind": [10, 78],
            "behind_how": "points behind fine-tuning at 1,000 examples, from EuroSAT to Pets (VTAB-1k, Zhai et al. 2019)",
        }


def _calibrated(
    making: _Making, given: Given, sample: Sample, before: Mapping[str, Known], pace: Pace, until: float, examples: int
) -> tuple[dict[str, Known], bool]:
    """(what is known of every rung, timed as far as there is time `until` then or from `before`; whether those that the others are told
    from were timed).
    """
    deeper = _rungs(making, given, making.labelled)
    settings = {rung: usual_settings(one, examples) for rung, one in deeper.items()}
    times = {rung: k.timed for rung, k in before.items() if k.measured and rung in TIMED and rung in deeper}
    few = len(sample.examples)
    # where something is known already, the rungs that the others are told from are enough
    for number, rung in enumerate(r for r in (TIMED[:2] if times else TIMED) if r in deeper and r not in times):
        left = until - time.perf_counter()
        batch = min(batch_to_time(pace.example, max(0.0, left), 32), settings[rung].batch)
        cost = CUTTING * bool(number) + seconds_to_time(pace.example, batch, few)
        if cost > left and (making.limits.budget is not None or rung not in TIMED[:2]):
            break
        try:
            times[rung] = timed(deeper[rung], sample, settings[rung], examples, batch, rounded=left > 12 * batch * pace.example)
        except Exception as error:  # a network may do anything in training: the other rungs can still be planned
            said = error.found if isinstance(error, RegraftError) else next(iter(str(error).splitlines()), type(error).__name__)
            making.emit(Warned(f"--train {rung} is left out: {said}"))
            del deeper[rung]
    complete = all(rung in times or rung not in deeper for rung in TIMED[:2])
    if "full" not in deeper:
        return {rung: Known(one, True, settings[rung]) for rung, one in times.items()}, complete
    whole = times.get("full") or untimed(deeper["full"], pace.example)
    found: dict[str, Known] = {}
    for rung, one in deeper.items():
        name = "full" if rung == "contrastive" else rung
        told = times.get(name) or (whole if name == "full" else guessed(one, whole, saved_of(one)))
        found[rung] = Known(told, name in times, settings[rung])
    return found, complete


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


def _rungs(making: _Making, given: Given, labelled: Labelled) -> dict[str, Deeper]:
    """The networks of the rungs below the head, ready to train, which share their layers; those that mean nothing here are not there."""
    whole = plan_deeper(given.base, given.edited, "full", {}, labelled.target, making.modality)
    assert whole is not None
    found: dict[str, Deeper] = {}
    for train in LADDER[2:]:
        if train == "contrastive" and not _few_texts(making, labelled):
            continue
        rung = rung_of(train)
        try:
            net = whole.whole.net.train_only(rung.trains, "head")
        except UsageError:
            continue  # a network without normalisation, or of fewer blocks
        found[train] = replace(whole, rung=rung, whole=replace(whole.whole, net=net))
    return found


def _few_texts(making: _Making, labelled: Labelled) -> bool:
    least, most, every = FEW_TEXTS
    train = len(labelled.part(TRAIN)[0])
    each = train / max(1, len(labelled.target.outputs))
    return making.modality.name == "text" and labelled.target.name == "class" and least <= each <= most and train <= every


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


def _pace(known: Mapping[str, Any], begin: float, first: Extracted, whole: Extracted) -> Pace:
    """How fast the pass was; where everything was stored, how fast it was before."""
    pace, measured = Pace(begin=begin), ["begin"]
    later = whole.computed if whole is not first else 0
    if later >= FIRST:
        pace = replace(
            pace, example=whole.seconds / later, timed=later, setup=max(0.0, first.seconds - first.computed * whole.seconds / later)
        )
        measured.append("example")
    elif first.computed:
        pace = replace(pace, example=first.seconds / first.computed, timed=first.computed, setup=0.0)
        measured.append("example")
    elif isinstance(held := known.get("pace"), Mapping):
        numbers = {k: float(v) for k, v in held.items() if k in ("example", "setup", "reading", "judged") and isinstance(v, (int, float))}
        timed_on = held.get("timed")
        pace = replace(pace, **numbers, timed=timed_on if isinstance(timed_on, int) else 0)
        measured += [str(name) for name in held.get("measured", ()) if name in ("example", "judged")]
    return replace(pace, measured=tuple(dict.fromkeys(measured)))


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
