"""profile: what a network is worth at each of its depths, for the data at hand."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.evaluation.classes import mean_interval
from regraft.evaluation.depths import drawn
from regraft.events import Emit, Said, Warned, silent
from regraft.jobs.common import (
    Messages,
    check_losses,
    choose_device,
    computing_threads,
    core_count,
    peak_memory_mb,
    say_notes,
)
from regraft.jobs.depths import DeepNetwork
from regraft.jobs.engines import reference_engine, wanted_engine
from regraft.jobs.labelled import asked_spec, open_labelled
from regraft.jobs.linear import BASELINE_STRENGTHS
from regraft.jobs.near import find_near
from regraft.jobs.network import given_network, named_model
from regraft.jobs.parts import both_parts, divide, rows_at
from regraft.jobs.validation import Judged, Validation
from regraft.modality import MODALITIES
from regraft.pretrained import Access
from regraft.spec import one_of, refuse
from regraft.strategy.depths import earliest_good_enough, widened
from regraft.strategy.rules import strengths_for
from regraft.workspace.files import write_text

if TYPE_CHECKING:
    from torch import nn

    from regraft.anatomy import Net
    from regraft.features import Extracted
    from regraft.workspace.store import Space


def profile(
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
    model: str | nn.Module | Net | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    offline: bool = False,
    allow_code: bool = False,
    allow: str | Sequence[str] = (),
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    seed: int = 0,
    strict: bool = False,
    allow_outside: bool = False,
    balance: bool = False,
    store: bool = True,
    plot: str | os.PathLike[str] | None = None,
    on_event: Emit = silent,
) -> dict[str, Any]:
    """What a linear head is worth on the features of a network after each of its blocks, and what cutting it off there would save.

    One pass over the data makes the features of all depths; they are kept in the store as those of the cut networks, so that
    `fit(..., at=...)` finds them. At each depth a head is fitted and cross-validated as `fit` does; the last depth is the whole
    network. Nothing here looks at the labels of the test part. Arguments are those of `fit`; torch runs the network, in `precision`
    fp32 or bf16. `plot` names an SVG file to write.

    Returns depths (each with at, features, saved, metrics, over_last), highest, earliest, baseline and more. Raises as `fit` does.
    """
    start = time.perf_counter()
    on_event = messages = Messages(on_event)
    source, spec = asked_spec(locals(), model=named_model(model), engine="torch")
    labelled = open_labelled(spec, source, test)
    refuse(one_of(f"--metric for the target {labelled.target.name}", spec.metric, labelled.target.metrics))
    modality = MODALITIES[labelled.dataset.task]
    place = choose_device(spec.device)
    engine = wanted_engine(spec.engine, spec.precision, place) or reference_engine()
    given = given_network(model, labelled.dataset.task, preprocessing, [], Access(spec.offline, spec.allow_code, spec.allow))
    for said in [labelled.how, *labelled.dataset.said]:
        if said:
            on_event(Said(said))
    with computing_threads(spec.threads or core_count()):
        deep = DeepNetwork.of(given)
        for at, reason in deep.refused.items():
            on_event(Warned(f"the network cannot end after {at}: {reason}"))
        if len(deep.places) < 2:
            on_event(Warned("the network has one depth only: there is nothing to compare"))
        spaces = deep.spaces(place, engine, keep=spec.store)
        examples, values = both_parts(labelled)
        frozen = deep.frozen()
        workers = spec.threads or core_count()
        extracted = frozen.run(examples, place, workers, engine, keep=spec.store, summaries=True, emit=on_event, into=spaces)
        frozen.let_go()
        left_out = [*labelled.dataset.left_out, *extracted.left_out]
        check_losses(left_out, len(extracted.kept), modality, strict=spec.strict, emit=on_event)
        say_notes(extracted.notes, len(extracted.kept), on_event)
        parts = divide(labelled, examples, values, extracted, on_event)
        usable = [examples[i] for i in extracted.kept]
        whole = replace(extracted, features=spaces.spaces[-1].gather(extracted.identities))
        parts = find_near(usable, whole, modality, on_event).bind(parts, usable, extracted.identities, on_event)
        chosen = spec.metric or labelled.target.metrics[0]
        validation = Validation.of(labelled.target, chosen, parts, spec.seed, balance=spec.balance, emit=on_event)
        judged, strengths = judged_at(validation, deep, spaces.spaces, extracted, on_event)
        bare = without_network(validation, extracted, modality, on_event)
    result = {
        "data": spec.data,
        "task": labelled.dataset.task,
        "target": labelled.target.name,
        "labels": labelled.target.outputs,
        "model": given.facts.name,
        "licence": given.facts.licence,
        "metric": chosen,
        "compared": labelled.target.compared,
        "engine": engine.label,
        "n": len(parts.y),
        **compared(validation, deep, judged, strengths),
        "refused": dict(deep.refused),
        "baseline": {
            "constant": validation.view.constant(judged[-1].truth),
            "without_network": {"metrics": figures_of(validation, validation.judge(bare, judged[-1].places))},
        },
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": peak_memory_mb(),
        "left_out": [item.to_json() for item in left_out],
        **messages.to_json(),
    }
    if plot is not None:
        write_text(Path(plot), drawn(result))
    return result


def judged_at(
    validation: Validation, deep: DeepNetwork, spaces: Sequence[Space], extracted: Extracted, emit: Emit
) -> tuple[list[Judged], list[float]]:
    """What cross-validation says of a linear head at each depth, and the strength of each."""
    judged: list[Judged] = []
    strengths: list[float] = []
    for place, space in zip(deep.places, spaces, strict=True):
        rows = rows_at(space.gather(extracted.identities), validation.parts.train)
        probe = validation.probe(place.at, rows, strengths_for(validation.target.loss), emit)
        judged.append(validation.judge(probe.out_of_fold))
        strengths.append(probe.strength)
    return judged, strengths


def without_network(validation: Validation, extracted: Extracted, modality: Any, emit: Emit) -> np.ndarray:
    """Held-out outputs (n, outputs) of the same head on what can be read off the examples without any network."""
    summaries = [extracted.summaries[k] for k in validation.parts.train]
    rows = modality.vectorise(modality.learn_vectoriser(summaries), summaries)
    strengths = strengths_for(validation.target.loss)[BASELINE_STRENGTHS]
    return validation.probe("without the network", rows, strengths, emit, nested=False, careful=False).out_of_fold


def compared(validation: Validation, deep: DeepNetwork, judged: Sequence[Judged], strengths: Sequence[float]) -> dict[str, Any]:
    """Each depth with its figures, and the two that are named."""
    gains = [validation.gains(j) for j in judged]
    last, whole = gains[-1], deep.places[-1]
    means = [float(g.mean()) for g in gains]
    top = int(np.argmax(means))
    early = earliest_good_enough([mean_interval(gains[top] - g) for g in gains])
    difference = validation.target.difference
    depths = [
        {
            "at": place.at,
            "features": place.features,
            "macs": place.macs,
            "parameters": place.parameters,
            "saved": {"macs": _share(place.macs, whole.macs), "parameters": _share(place.parameters, whole.parameters)},
            "strength": strength,
            "metrics": figures_of(validation, j),
            **({"over_last": {validation.target.compared: mean_interval(g - last).to_json()}} if place is not whole else {}),
        }
        for place, strength, j, g in zip(deep.places, strengths, judged, gains, strict=True)
    ]
    over_last = widened(mean_interval(gains[top] - last), len(gains) - 1)
    behind = mean_interval(gains[early] - gains[top])
    return {
        "depths": depths,
        "highest": {
            "at": deep.places[top].at,
            # of several that were compared the highest one's gain is the most flattered
            "over_last": over_last.to_json(),
            "said": difference(over_last),
            "clear": top < len(gains) - 1 and over_last.low > 0,
        },
        "earliest": {"at": deep.places[early].at, "over_highest": behind.to_json(), "said": difference(behind)},
    }


def _share(kept: int, of: int) -> float:
    """The part that is saved."""
    return round(1 - kept / of, 4) if of else 0.0


def figures_of(validation: Validation, judged: Judged) -> dict[str, dict[str, float]]:
    """Figures with their intervals, as plain data."""
    return {name: figure.to_json() for name, figure in validation.figures(judged).items()}
