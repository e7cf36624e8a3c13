"""plan: what could be trained, what each would cost and give, and which to take, before the time is spent."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import TEST, TRAIN, Example
from regraft.errors import ModelError, UsageError
from regraft.events import Done, Emit, Event, Progress, Said, Started, Warned, silent
from regraft.jobs.calibrate import (
    JUDGED,
    Sample,
    batch_to_time,
    read_known,
)
from regraft.jobs.common import Messages, check_losses, choose_device, computing_threads, core_count, patterns, peak_memory_mb, resident_mb
from regraft.jobs.engines import choose_engine, circumstances, reference_engine
from regraft.jobs.frozen import Frozen, frozen_pretrained
from regraft.jobs.labelled import Labelled, named_data, open_labelled
from regraft.jobs.network import given_network
from regraft.jobs.parts import divide
from regraft.jobs.planned import OF_PLAN, earlier_outcomes, keep_expectations, known_of
from regraft.jobs.prospects import Ground, calibrated, rungs_of
from regraft.jobs.validation import Validation
from regraft.modality import MODALITIES, Modality
from regraft.pretrained import Access, source_of
from regraft.pretrained.catalogue.search import number_of
from regraft.spec import FitSpec, refuse, seconds_in
from regraft.strategy.cost import (
    Amount,
    Held,
    Pace,
    probe_seconds,
    scratch_seconds,
)
from regraft.strategy.gains import at_size, nearness
from regraft.strategy.plan import Limits, Option, Plan, allowance, choose, subset_size
from regraft.strategy.rules import strengths_for
from regraft.workspace.files import write_json
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.store import Store

if TYPE_CHECKING:
    from regraft.features import Extracted
    from regraft.features.engines import Engine
    from regraft.training.probe import Probe

FINDINGS = "pace"
"""The file of findings: how fast this machine was with a network and data."""

FIRST = 16
"""Examples that go through the network to see how fast it is; the first tile takes longer than the others."""

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

    A part of the training examples goes through each network of `model` (one or several; the usual one when not given); a head is fitted to
    it and judged, a few steps of deeper training are timed. What is made is kept in the feature store, so that the fit does not make it
    again. The test part is not looked at. `budget` is a time such as 10m or seconds, `max_memory` such as 4GB, `max_latency` milliseconds
    an example, `max_params` such as 30M, `licence` a licence or a kind of one; all are kept. With `price_per_hour` options say what they
    cost. `out` names a JSON file to write, which `fit(plan=...)` follows. The other arguments are those of `fit`.

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
    making = _Making(spec, labelled, limits, start, messages)
    with computing_threads(making.threads):
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

    def __post_init__(self) -> None:
        self.device = choose_device(self.spec.device)
        self.threads = self.spec.threads or core_count()
        self.modality: Modality = MODALITIES[self.labelled.dataset.task]
        self.metric = self.labelled.target.metrics[0]
        self.outcomes, bad = earlier_outcomes()
        if bad:
            lines = "1 line" if bad == 1 else f"{bad:,} lines"
            self.emit(Warned(f"{lines} of the local record of predictions (outcomes.jsonl) passed over: damaged, or of another version"))
        self.end = self.start + allowance(self.limits.budget)

    @property
    def left(self) -> float:
        """Seconds that making the plan may still take."""
        return self.end - time.perf_counter()

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
                options += found.ground.options()
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

        order = nested(labelled, spec.seed)
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
        each = first.seconds / max(1, first.computed) if first.computed else 1e-3
        count = subset_size(PASS_SHARE * left(), each, len(order), outputs)
        extracted = run(count) if count > len(first.kept) + len(first.left_out) else first
        examples = (
            [train[k] for k in order[:count]]
            if extracted is not first
            else [train[k] for k in order[: len(first.kept) + len(first.left_out)]]
        )
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
        without, rows = _without_network(making, validation, extracted) if left() > 2 * taken else (None, 1)
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
        amount = Amount(
            train=len(train),
            test=len(test),
            outputs=outputs,
            folds=validation.count,
            nested=validation.nested,
            windows=windows,
            missing=_missing(frozen, [train[k] for k in order[len(examples) :]], chosen.engine, making.device)
            + _missing(frozen, test, chosen.engine, making.device),
            width=extracted.features.shape[1],
            rows=rows,
        )
        near = nearness(judged, constant) if making.metric == "accuracy" else "unknown"
        head = at_size(making.metric, judged, seen, len(train))
        if not amount.missing:
            memory = replace(memory, peak=now.peak)
        outcomes = making.outcomes
        ground = Ground(given, labelled, making.device, outcomes, amount, pace, memory, rungs, head, seen, judged, near)
        return cls(ground, without, constant)

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
            "pace": ground.pace.to_json(),
            "earlier_outcomes": len(ground.outcomes),
        }

    def scratch(self) -> dict[str, Any]:
        """What training the same network from random weights would take."""
        ground = self.ground
        if "full" not in ground.rungs:
            return {}
        seconds = scratch_seconds(ground.amount, ground.rungs["full"].settings, ground.pace.judged)
        return {
            "seconds": seconds.to_json(),
            "how": "from multiply-adds alone: 17 times the steps of fine-tuning (Kornblith et al. 2019), three times a pass each",
            "behind": [10, 78],
            "behind_how": "points behind fine-tuning at 1,000 examples, from EuroSAT to Pets (VTAB-1k, Zhai et al. 2019)",
        }


SAMPLED = 8
"""Examples of those that were not looked at that are looked for in the feature store."""


def _missing(frozen: Frozen, examples: Sequence[Example], engine: Engine, device: str) -> int:
    """How many of some examples have no features in the store, told by a few from all over them; their labels are not read."""
    held = Store().held(frozen.maker(device, engine)) if examples else None
    if held is None:
        return len(examples)
    few = [examples[k] for k in np.linspace(0, len(examples) - 1, min(len(examples), SAMPLED)).astype(int)]
    try:
        there = sum(frozen.modality.load(e.source).identity in held for e in few)
    except Exception:  # the pass says what is wrong with an example
        return len(examples)
    return round(len(examples) * (1 - there / len(few)))


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


def _without_network(making: _Making, validation: Validation, extracted: Extracted) -> tuple[float, int]:
    """(the figure of the same head without a network, how many numbers it reads of an example)."""
    modality = making.modality
    rows = modality.vectorise(modality.learn_vectoriser(extracted.summaries), extracted.summaries)
    strengths = strengths_for(validation.target.loss)[1::2]
    probe: Probe = validation.probe("without the network", rows, strengths, silent, nested=False, careful=False)
    return validation.figures(validation.judge(probe.out_of_fold))[making.metric].value, rows.shape[1]


def _quieter(emit: Emit) -> Emit:
    """What is said and how far it is; not that each part ended."""

    def heard(event: Event) -> None:
        if isinstance(event, (Started, Progress, Said, Warned)) or isinstance(event, Done) and event.seconds > 5:
            emit(event)

    return heard
