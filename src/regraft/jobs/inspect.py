"""inspect: facts about a data set, before any network runs; and with a network, what that finds in it."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import TEST, TRAIN, Example
from regraft.errors import DataError, ModelError, RegraftError, Unreadable, UsageError
from regraft.events import Done, Emit, Progress, Said, Started, Warned, silent
from regraft.facts import LeftOut
from regraft.features.threads import chunks, crew, in_order
from regraft.jobs.common import Messages, core_count
from regraft.jobs.frozen import choose_network
from regraft.jobs.labelled import Labelled, asked_spec, open_labelled, same_value
from regraft.jobs.network import named_model
from regraft.modality import MODALITIES, Modality
from regraft.pretrained import Access, source_of
from regraft.spec import FitSpec

if TYPE_CHECKING:
    from torch import nn

    from regraft.anatomy import Net

AHEAD = 8
"""Chunks of examples read ahead per worker."""

SHOWN = 20
"""Groups of duplicates that a result names at most."""


@dataclass(frozen=True)
class _Look:
    """What reading one example gave."""

    identity: bytes = b""
    measures: Mapping[str, float] | None = None
    note: str = ""
    reason: str = ""


def inspect(
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
    model: str | nn.Module | Net | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    offline: bool = False,
    allow_code: bool = False,
    allow: str | Sequence[str] = (),
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    strict: bool = False,
    allow_outside: bool = False,
    store: bool = True,
    out: str | os.PathLike[str] | None = None,
    on_event: Emit = silent,
) -> dict[str, Any]:
    """Facts about labelled data: how many, of which classes, how large, what is broken or stands there twice.

    Every example is read and decoded, and prepared for the task's default network where that is installed; no network runs and
    nothing is kept. Arguments are those of `fit`. Returns n, target, labels, spread (what the labels say, in each part), sizes,
    duplicates, notes, left_out. Raises UsageError and DataError as `fit` does, for data that cannot be learnt from.

    With a `model` that network runs once over everything, its features stay in the store for a later `fit`, and `evidence` says what
    they show of the data: near_duplicates, suspicious_labels, similarity, learning_curve (docs/inspect.md). `out` names a folder for the
    whole lists as CSV; `written` names the files.
    """
    if model is None and out is not None:
        raise UsageError("--out is for what a network finds in the data", expected="--model NAME beside it", move="leave --out away")
    on_event = messages = Messages(on_event)
    source, spec = asked_spec(locals(), model=named_model(model))
    labelled = open_labelled(spec, source, test)
    dataset, modality = labelled.dataset, MODALITIES[labelled.dataset.task]
    for said in [labelled.how, *dataset.said]:
        if said:
            on_event(Said(said))
    for said in labelled.target.remarks(labelled.train_cells, balanced=False):
        on_event(Warned(said))
    if said := labelled.stranger_remark():
        on_event(Warned(said))
    prepare = _preparer(spec, modality, on_event) if model is None or isinstance(model, str) else None
    looks = _look(dataset.examples, modality, prepare, threads or core_count(), on_event)
    left_out = [*dataset.left_out, *(LeftOut(e.name, k.reason) for e, k in zip(dataset.examples, looks, strict=True) if k.reason)]
    usable = [i for i, k in enumerate(looks) if not k.reason]
    if not usable:
        raise DataError(f"none of the {len(looks):,} {modality.nouns} can be used", faults=[f"{b.name}: {b.reason}" for b in left_out[:20]])
    duplicates = _duplicates(labelled, looks, usable)
    groups = {part: {e.group for e in dataset.part(part)} - {None} for part in (TRAIN, TEST)}
    evidence = _evidence(labelled, spec, model, preprocessing, out, on_event) if model is not None else {}
    return {
        "data": spec.data,
        "task": dataset.task,
        "target": labelled.target.name,
        "labels": labelled.target.outputs,
        "n": {part: sum(dataset.examples[i].part == part for i in usable) for part in (TRAIN, TEST)},
        "spread": {part: _spread(labelled, usable, part) for part in (TRAIN, TEST)},
        "sizes": _sizes([looks[i] for i in usable]),
        "duplicates": duplicates,
        "groups": {"n": len(groups[TRAIN] | groups[TEST]), "in_both_parts": len(groups[TRAIN] & groups[TEST])},
        "notes": dict(Counter(looks[i].note for i in usable if looks[i].note)),
        "left_out": [item.to_json() for item in left_out],
        **evidence,
        **messages.to_json(),
    }


def _evidence(
    labelled: Labelled,
    spec: FitSpec,
    model: str | nn.Module | Net,
    preprocessing: Mapping[str, Any] | None,
    out: str | os.PathLike[str] | None,
    emit: Emit,
) -> dict[str, Any]:
    """What a network finds in the data; its lists are written where `out` says."""
    from regraft.jobs.evidence import Asked, look_at_data, write_listings

    may = Access(spec.offline, spec.allow_code, spec.allow)
    asked = Asked(model, preprocessing, may, spec.device, spec.engine, spec.precision, spec.threads, spec.seed, spec.strict, spec.store)
    found, listings = look_at_data(labelled, asked, emit)
    return {"evidence": found, **({} if out is None else {"written": write_listings(listings, Path(out))})}


def _preparer(spec: FitSpec, modality: Modality, emit: Emit) -> Callable[[Any], Any] | None:
    """What prepares examples for the network, which may refuse or cut some; None where it is not installed."""
    try:
        facts = choose_network(spec.model, modality.name, Access(spec.offline, spec.allow_code, spec.allow))
        return modality.preparer(facts.preprocessing, source_of(facts).files(facts))
    except ModelError as error:
        if spec.model:
            raise
        emit(Said(f"not looked at: what the network would cut or refuse ({error.found})"))
        return None


def _look(examples: Sequence[Example], modality: Modality, prepare: Any, workers: int, emit: Emit) -> list[_Look]:
    def look(chunk: list[Example]) -> list[_Look]:
        return [_look_at(e, modality, prepare) for e in chunk]

    stage, begun = "reading", time.perf_counter()
    emit(Started(stage, len(examples), modality.nouns))
    looks: list[_Look] = []
    with crew(workers) as pool:
        for found in in_order(look, chunks(examples, modality.chunk), pool, AHEAD * workers):
            looks += found
            emit(Progress(stage, len(looks)))
    emit(Done(stage, time.perf_counter() - begun, f"{len(looks):,} {modality.nouns}"))
    return looks


def _look_at(example: Example, modality: Modality, prepare: Callable[[Any], Any] | None) -> _Look:
    try:
        loaded = modality.load(example.source)
        decoded = loaded.decode()
        note = prepare(decoded).note if prepare is not None else ""
        return _Look(loaded.identity, modality.measure(decoded), note)
    except Unreadable as reason:
        return _Look(reason=str(reason))
    except RegraftError:
        raise
    except Exception as error:  # as in the pass: a decoder that fails on one file must not end the look at the others
        return _Look(reason=f"cannot be read ({type(error).__name__}: {error})")


def _spread(labelled: Labelled, usable: Sequence[int], part: str) -> dict[str, Any]:
    values = [labelled.values[i] for i in usable if labelled.dataset.examples[i].part == part]
    return labelled.target.spread(labelled.target.array(values)) if values else {}


def _sizes(looks: Sequence[_Look]) -> dict[str, dict[str, float]]:
    """Of each measure the least, the middle and the largest value."""
    columns: dict[str, list[float]] = defaultdict(list)
    for look in looks:
        for name, value in (look.measures or {}).items():
            columns[name].append(value)
    quantiles = {name: np.quantile(values, [0, 0.05, 0.5, 0.95, 1]) for name, values in columns.items()}
    names = ("least", "p5", "median", "p95", "largest")
    return {name: dict(zip(names, (round(float(v), 3) for v in found), strict=True)) for name, found in quantiles.items()}


def _duplicates(labelled: Labelled, looks: Sequence[_Look], usable: Sequence[int]) -> dict[str, Any]:
    """Examples of the same content: with equal labels, with different ones, and on both sides of the split."""
    examples = labelled.dataset.examples
    together: dict[bytes, list[int]] = defaultdict(list)
    for i in usable:
        together[looks[i].identity].append(i)
    several = [members for members in together.values() if len(members) > 1]
    y = labelled.target.array(labelled.values)
    disputed = [m for m in several if not same_value(y, m)]
    crossing = [m for m in several if len({examples[i].part for i in m}) > 1]

    def told(groups: Sequence[Sequence[int]]) -> list[list[dict[str, Any]]]:
        return [[{"name": examples[i].name, "label": examples[i].label, "part": examples[i].part} for i in m] for m in groups[:SHOWN]]

    return {
        "extra_copies": sum(len(m) - 1 for m in several),
        "groups": len(several),
        "with_different_labels": {"groups": len(disputed), "examples": told(disputed)},
        "on_both_sides": {"groups": len(crossing), "examples": told(crossing)},
    }
