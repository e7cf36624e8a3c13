"""plan: what could be trained, what each would cost and give, and which to take, before the time is spent."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from regraft.data.base import TEST, TRAIN
from regraft.errors import ModelError, UsageError
from regraft.events import Emit, Said, Warned, silent
from regraft.jobs.common import Messages
from regraft.jobs.labelled import asked_spec, open_labelled
from regraft.jobs.planned import OF_PLAN, keep_expectations, known_of
from regraft.jobs.planning.looking import Looked
from regraft.jobs.planning.making import Making
from regraft.pretrained.catalogue.search import number_of
from regraft.spec import AUTO, refuse, seconds_in
from regraft.strategy.plan import Limits, Option, Plan, allowance, choose
from regraft.strategy.race import race_seconds
from regraft.workspace.files import write_json


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
    making = Making(spec, labelled, limits, start, messages, compare_scratch)
    if names == [AUTO]:
        names = [_raced(making)]
    found = _made(making, names or [None])
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


def _raced(making: Making) -> str:
    """The network that wins a race: in half of the time of a plan within a budget, else in a minute of its own."""
    from regraft.jobs.race import raced_for_plan

    begun, whole = time.perf_counter(), making.limits.budget is None
    winner = raced_for_plan(making.spec, making.labelled, making.limits, race_seconds(None) if whole else making.left / 2, making.emit)
    making.end += time.perf_counter() - begun if whole else 0.0
    return winner


def _made(making: Making, models: Sequence[str | None]) -> Plan:
    """The plan for some networks, of which those that fail are left out where there are others."""
    labelled, emit = making.labelled, making.emit
    train, test = labelled.part(TRAIN)[0], labelled.part(TEST)[0]
    noun = making.modality.nouns if len(train) != 1 else making.modality.noun
    counted = f"{len(train):,} {noun} {labelled.target.described(labelled.train_cells)} to train on"
    emit(Said(counted + (f", {len(test):,} to test on" if test else "")))
    if labelled.how:
        emit(Said(labelled.how))
    options: list[Option] = []
    looked: list[Looked] = []
    for number, name in enumerate(models):
        try:
            found = Looked.at(making, name, share=1 / (len(models) - number))
            options += found.ground.options(making.limits.budget)
            looked.append(found)
        except ModelError as error:
            if len(models) == 1:
                raise
            emit(Warned(f"{name} is left out: {error.found}"))
    if not looked:
        raise ModelError("none of the networks can be used", move="regraft models")
    chosen = choose(options, making.limits, making.metric)
    first = next(found for found in looked if found.name == chosen.chosen.model)
    return replace(chosen, data=making.spec.data, known=known_of(labelled), scratch=first.scratch(), evidence=first.evidence)
