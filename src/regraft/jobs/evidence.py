"""evidence: what one pass of a frozen network says about the data. What `inspect` adds when a network is named."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.deadline import Deadline
from regraft.errors import DataError, ModelError, UsageError
from regraft.events import Done, Emit, Progress, Said, Started, Warned, silent
from regraft.facts import Figure
from regraft.jobs.common import check_losses, choose_device, computing_threads, core_count, say_notes
from regraft.jobs.depths import DeepNetwork
from regraft.jobs.engines import reference_engine, wanted_engine
from regraft.jobs.frozen_pass import FrozenPass
from regraft.jobs.growing import Learner, errors_of, likely, strata_of
from regraft.jobs.labelled import Labelled
from regraft.jobs.linear import BASELINE_STRENGTHS
from regraft.jobs.near import find_near
from regraft.jobs.network import given_network
from regraft.jobs.parts import both_parts, divide, rows_at
from regraft.jobs.recording import Recorder
from regraft.jobs.validation import Validation
from regraft.modality import MODALITIES, Modality
from regraft.pretrained import Access, source_of
from regraft.strategy.depths import widened
from regraft.strategy.rules import strengths_for
from regraft.workspace.files import written_aside

if TYPE_CHECKING:
    from torch import nn

    from regraft.anatomy import Net
    from regraft.evaluation.trust import Listing
    from regraft.events import Event
    from regraft.features import Extracted
    from regraft.jobs.network import Given

DEPTH_SAMPLE = 500
"""Examples that the depths are compared on: torch runs the network once more for them."""

ERROR_NAMES = {"class": "error rate", "multilabel": "1 - F1 of an example", "number": "mean absolute error"}


class Unrecorded(Recorder):
    """A recorder without a run: events go on to whoever listens, decisions are not kept."""

    def __init__(self, listener: Emit) -> None:
        self._listener = listener
        self.deadline = Deadline()

    @property
    def path(self) -> Path:
        """There is none."""
        raise NotImplementedError

    def emit(self, event: Event) -> None:
        """Pass an event on."""
        self._listener(event)

    def held_decision(self, name: str) -> None:
        """Nothing was decided before."""

    def decide(self, **decisions: Any) -> None:
        """Keep nothing."""


@dataclass(frozen=True)
class Asked:
    """What `inspect` was asked for beside the data: as in `fit`."""

    model: str | nn.Module | Net | None
    preprocessing: Mapping[str, Any] | None = None
    may: Access = Access()
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    seed: int = 0
    strict: bool = False
    store: bool = True
    depths: bool = True


def look_at_data(labelled: Labelled, asked: Asked, emit: Emit) -> tuple[dict[str, Any], dict[str, Listing]]:
    """Every check's finding by its name, with what they rest on; and of some checks all of it as a table. The features are those of a
    later `fit`, so it computes none again; nothing here looks at the labels of the test part but to say that copies differ in them.
    """
    from regraft.evaluation.trust import CHECKS, Evidence

    begun = time.perf_counter()
    modality, target = MODALITIES[labelled.dataset.task], labelled.target
    place, threads = choose_device(asked.device), asked.threads or core_count()
    named = wanted_engine(asked.engine, asked.precision, place)
    given = given_network(asked.model, labelled.dataset.task, asked.preprocessing, [], asked.may)
    facts = given.facts
    emit(Said(f"network: {facts.name}, licence {facts.licence}, trained on {facts.trained_on}"))
    if said := facts.differences():
        emit(Warned(said))
    examples, values = both_parts(labelled)
    recorder = Unrecorded(emit)
    metric = target.metrics[0]
    with computing_threads(threads):
        weights = given.edited.weights if given.edited else source_of(facts).weights(facts)
        network = FrozenPass.over(examples, facts, weights, named, asked.precision, place, threads, asked.store, recorder)
        network.try_before(labelled, metric, asked.seed, balance=False)
        extracted = network(examples)
        left_out = [*labelled.dataset.left_out, *extracted.left_out]
        check_losses(left_out, len(extracted.kept), modality, strict=asked.strict, emit=emit)
        say_notes(extracted.notes, len(extracted.kept), emit)
        usable = [examples[i] for i in extracted.kept]
        near = find_near(usable, extracted, modality, emit)
        parts = near.bind(divide(labelled, examples, values, extracted, silent), usable, extracted.identities, silent)
        validation = Validation.of(target, metric, parts, asked.seed, balance=False, emit=emit)
        strengths = strengths_for(target.loss)
        probe = validation.probe("output layer", rows_at(extracted.features, parts.train), strengths, emit)
        if network.again_if_it_disagrees(probe, validation, usable, extracted):
            probe = validation.probe("output layer", rows_at(extracted.features, parts.train), strengths, emit)
        network.frozen.let_go()
        bare = _without_network(validation, extracted, modality, emit)
        earlier = _earlier(given, labelled, validation, place, threads, asked, emit) if asked.depths else None
        rows = rows_at(extracted.features, parts.train)
        readable = np.full(probe.out_of_fold.shape, np.nan)
        held = np.isfinite(probe.out_of_fold).all(1)
        readable[held] = target.readable(probe.out_of_fold[held])
        assert near.found is not None
        evidence = Evidence(
            names=[str(e.name) for e in usable],
            cells=[e.label or "" for e in usable],
            sides=[e.part for e in usable],
            near=near.found,
            rows=rows,
            train=parts.train,
            y=parts.y,
            folds=validation.folds,
            kind=target.name,
            outputs=target.outputs,
            readable=readable,
            errors=lambda outputs: errors_of(validation, outputs),
            error_name=ERROR_NAMES[target.name],
            held=probe.out_of_fold,
            bare=bare,
            likely=lambda chances: likely(target.name, chances),
            learn=Learner(validation, rows, probe),
            strata=strata_of(validation),
            earlier=earlier,
            nouns=modality.nouns,
        )
        findings: dict[str, Any] = {}
        listings: dict[str, Listing] = {}
        for check in CHECKS.values():
            start = time.perf_counter()
            findings[check.name], listing = check.look(evidence)
            if listing is not None:
                listings[check.name] = listing
            emit(Done(check.name.replace("_", " "), time.perf_counter() - start, ""))
    found = {
        "model": facts.name,
        "licence": facts.licence,
        "engine": network.chosen.engine.label,
        "metrics": {k: v.to_json() for k, v in validation.figures(validation.judge(probe.out_of_fold)).items()},
        "seconds": round(time.perf_counter() - begun, 2),
        **findings,
    }
    return found, listings


def _without_network(validation: Validation, extracted: Extracted, modality: Modality, emit: Emit) -> np.ndarray:
    """Held-out outputs (m, k) of the same layer on what can be read off the examples without any network."""
    summaries = [extracted.summaries[k] for k in validation.parts.train]
    rows = modality.vectorise(modality.learn_vectoriser(summaries), summaries)
    strengths = strengths_for(validation.target.loss)[BASELINE_STRENGTHS]
    return validation.probe("without the network", rows, strengths, emit, nested=False, careful=False).out_of_fold


def _earlier(
    given: Given, labelled: Labelled, whole: Validation, place: str, threads: int, asked: Asked, emit: Emit
) -> tuple[str, Figure] | None:
    """What the best earlier depth gains over the last, on a sample of the training examples, with an interval that counts how many were
    compared; None where a network has one depth only, or the sample is too small to say.
    """
    from regraft.evaluation.classes import mean_interval
    from regraft.training.probe import evenly

    try:
        deep = DeepNetwork.of(given)
    except (UsageError, ModelError) as error:
        emit(Said(f"depths are not compared: {error.found}"))
        return None
    if len(deep.places) < 2:
        return None
    count = min(DEPTH_SAMPLE, len(whole.folds))
    train, values = labelled.part("train")
    usable = {id(e) for e in whole.parts.examples}
    pairs = [(e, v) for e, v in zip(train, values, strict=True) if id(e) in usable]
    chosen = evenly(whole.parts.y, whole.folds, count)
    sample, sample_values = [pairs[k][0] for k in chosen], [pairs[k][1] for k in chosen]
    engine = reference_engine()
    spaces = deep.spaces(place, engine, keep=asked.store)
    frozen = deep.frozen()
    extracted = frozen.run(sample, place, threads, engine, keep=asked.store, summaries=False, emit=emit, stage="depths", into=spaces)
    frozen.let_go()
    try:
        parts = divide(labelled, sample, sample_values, extracted, silent)
        validation = Validation.of(whole.target, whole.metric, parts, asked.seed, balance=False, emit=silent)
    except DataError:
        return None
    begun = time.perf_counter()
    emit(Started("depths", len(deep.places), "depths"))
    gains = []
    for done, space in enumerate(spaces.spaces, 1):
        rows = rows_at(space.gather(extracted.identities), parts.train)
        strengths = strengths_for(whole.target.loss)[BASELINE_STRENGTHS]
        probe = validation.probe("depths", rows, strengths, silent, nested=False, careful=False)
        gains.append(validation.gains(validation.judge(probe.out_of_fold)))
        emit(Progress("depths", done))
    emit(Done("depths", time.perf_counter() - begun, f"{len(deep.places)} compared on {len(sample):,} examples"))
    best = int(np.argmax([g.mean() for g in gains[:-1]]))
    return deep.places[best].at, widened(mean_interval(gains[best] - gains[-1]), len(gains) - 1)


def write_listings(listings: Mapping[str, Listing], out: Path) -> list[str]:
    """Each listing as a CSV in a folder; the names of the files."""
    import csv

    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, listing in listings.items():
        path = out / f"{name}.csv"
        with written_aside(path) as aside, open(aside, "w", encoding="utf-8", newline="", errors="backslashreplace") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(listing.columns)
            writer.writerows(listing.rows)
        written.append(str(path))
    return written
