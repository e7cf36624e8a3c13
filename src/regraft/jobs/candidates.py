"""Models that a fit may keep, each with what it says of examples that it had not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regraft.events import Emit, Said
from regraft.facts import ModelFacts
from regraft.jobs.common import versions
from regraft.jobs.parts import rows_at
from regraft.jobs.validation import Validation
from regraft.pretrained import source_of
from regraft.strategy.settings import folds_said
from regraft.targets import Target
from regraft.workspace.bundle import copy_bundle, same_bundle

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.features.engines import Engine
    from regraft.jobs.deeper import Trained
    from regraft.training.probe import Probe


@dataclass(frozen=True)
class Candidate:
    """A model with its new head.

    rung      what was trained
    held_out  outputs (n, outputs) of every training example by a model that had not seen it; NaN where there is none
    how       how those were made, in a sentence
    scores    positions of usable examples -> scores (n, outputs) float64 of the final model
    facts     of the network with its new head
    tensors   gives all of them, on the CPU
    averaged  what is averaged over the windows of a long input (artifacts)
    engine    what runs it
    features  how many of them its head reads
    cool      divides what its output layer gives by a number, in its weights: scores, tensors and all that is made of them follow
    saved     its bundle, where it is written already; it is then copied
    """

    rung: str
    held_out: np.ndarray
    how: str
    scores: Callable[[np.ndarray], np.ndarray]
    facts: ModelFacts
    tensors: Callable[[], Mapping[str, Tensor]]
    averaged: str
    engine: Engine
    features: int
    cool: Callable[[float], None]
    saved: Path | None = None


def head_candidate(
    rung: str,
    probe: Probe,
    features: np.ndarray,
    validation: Validation,
    facts: ModelFacts,
    backbone: Mapping[str, Tensor],
    engine: Engine,
) -> Candidate:
    """A linear output layer on the features (usable examples, d) of an engine."""
    import torch

    from regraft.artifacts import FEATURES, linear
    from regraft.pretrained.architectures import architecture_of

    def tensors() -> dict[str, Tensor]:
        head = architecture_of(facts.architecture).head(facts.architecture)
        return {**backbone, f"{head}.weight": torch.from_numpy(held["weight"]), f"{head}.bias": torch.from_numpy(held["bias"])}

    def cool(temperature: float) -> None:
        held.update({name: (values / np.float32(temperature)).astype(np.float32) for name, values in held.items()})

    held = {"weight": probe.weight, "bias": probe.bias}
    scores = lambda positions: linear(held["weight"], held["bias"])(rows_at(features, positions))
    how = validation.how(probe.tried_on)
    return Candidate(rung, probe.out_of_fold, how, scores, facts, tensors, FEATURES, engine, features.shape[1], cool)


def trained_candidate(trained: Trained, validation: Validation, engine: Engine, features: int) -> Candidate:
    """What was trained by the loop: a head of several layers on the features of an engine, or more, which runs in torch."""
    from regraft.artifacts import FEATURES, SCORES
    from regraft.jobs.engines import reference_engine

    outputs = trained.held_out
    there = np.isfinite(outputs).all(1)
    folds, of = trained.tuned.folds, validation.count
    if folds == of:
        how = f"{of}-fold cross-validation of the whole training"
        how += f", and of the choice among weights ({trained.mixed})" if trained.mixed else ""
    else:
        how = folds_said(folds, of, int(there.sum()))
        others = "in the other ones" if folds > 1 else "on the other half of them"
        how += f"; the choice among weights ({trained.mixed}) {others}" if trained.mixed else ""
    rung, facts, on_features = trained.deeper.rung.name, trained.deeper.facts, trained.deeper.on_features
    averaged = FEATURES if on_features else SCORES
    # what was trained below the head was trained and judged in torch
    runs_in = engine if on_features else reference_engine()
    return Candidate(rung, outputs, how, trained.scores, facts, trained.tensors, averaged, runs_in, features, trained.cool)


def tempered(candidate: Candidate, validation: Validation, decide: Callable[..., None], emit: Emit) -> Candidate:
    """The candidate with probabilities that mean what they say, where held-out examples show that dividing its scores by a number helps:
    the number is then in the weights of its output layer. What is reported of a fold is divided by what the other folds say.
    """
    found = validation.temper(candidate.held_out)
    if found is None:
        return candidate
    decide(temperature=found.to_json())
    if not found.kept:
        return candidate
    emit(Said(found.said()))
    candidate.cool(found.temperature)
    how = f"{candidate.how}; the temperature of a fold is that of the others"
    return replace(candidate, held_out=found.outputs, how=how)


def save_candidate(folder: Path, candidate: Candidate, target: Target) -> None:
    """Write the bundle of a candidate, whose outputs become predictions by `target`."""
    from regraft.artifacts import save_bundle

    if candidate.saved is not None:
        if not same_bundle(candidate.saved, folder):
            copy_bundle(candidate.saved, folder)
        return
    facts = candidate.facts
    save_bundle(
        folder,
        facts=facts,
        tensors=candidate.tensors(),
        files=source_of(facts).files(facts),
        features=candidate.features,
        averaged=candidate.averaged,
        target=target,
        rung=candidate.rung,
        engine=candidate.engine,
        versions=versions(),
    )
