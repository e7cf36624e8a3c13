"""Training from random weights, tried for a moment beside a plan: what a step takes, and what it reaches while the head is long there."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np

from regraft.jobs.calibrate import Sample
from regraft.jobs.deeper import whole_learner
from regraft.jobs.network import Given, whole_network
from regraft.jobs.reading import material_of
from regraft.jobs.work import Deeper
from regraft.modality import Modality
from regraft.strategy.rungs import rung_of
from regraft.strategy.settings import Settings
from regraft.targets import Target

RATE, BATCH = 1e-3, 16
"""AdamW's usual rate for networks that begin at random, the same for all layers, and examples a step."""

EPOCHS = 200
"""At most, whatever the time."""


def scratch_run(given: Given, target: Target, modality: Modality, sample: Sample, settings: Settings, seconds: float) -> dict[str, Any]:
    """Train the network of a plan from random weights for about so many seconds on a part of the sample, and judge it on the rest of it.

    Returns the seconds, steps and seconds of a step, how many were learnt from and judged, and the figure of the plan's metric, with that
    of the head on the same held-out examples. Batch norms follow the batches, all layers have one rate. RegraftError when the network
    cannot be trained so.
    """
    from regraft.anatomy import build_network
    from regraft.training.deeper import Task, one_training
    from regraft.training.loop import judge
    from regraft.training.losses import LOSSES

    facts = given.facts
    random = {k: v for k, v in build_network(facts.architecture, sample.seed).state_dict().items()}
    rung = rung_of("full")
    whole = whole_network(given.base, given.edited, random, len(target.outputs), rung.trains)
    deeper = Deeper(whole, rung, replace(facts, architecture=whole.architecture), random, {})
    few = replace(settings, lr=RATE, layer_decay=1.0, adapt=True, wise=False, find=False, batch=BATCH, precision="fp32")
    with sample.work() as work:
        learner, cut, trunk = whole_learner(deeper, few, work)
        material, _ = material_of(deeper, work, cut, trunk, work.folder)
        loss = LOSSES[target.loss]
        task = Task(material, loss, work.values, work.train, work.weights, work.folds)
        own = work.folds != 0
        begun = time.perf_counter()
        one_training(learner, task, replace(few, epochs=1), own, sample.seed, length=2)
        each = (time.perf_counter() - begun) / 2
        steps = max(1, math.ceil(int(own.sum()) / BATCH))
        epochs = max(1, min(EPOCHS, int(seconds / max(1e-6, each * steps))))
        begun = time.perf_counter()
        took = one_training(learner, task, replace(few, epochs=epochs), own, sample.seed)
        spent = time.perf_counter() - begun
        scores = np.full((len(work.train), len(target.outputs)), np.nan)
        held = np.flatnonzero(~own & (work.folds >= 0))
        scores[held] = judge(learner, material, held)
    validation = sample.validation
    outputs = np.full(sample.probe.out_of_fold.shape, np.nan, np.float32)
    outputs[: len(scores)] = validation.linked(scores)
    figures = [validation.value(o, held) for o in (outputs, sample.probe.out_of_fold)]
    return {
        "spent": round(spent, 2),
        "steps": took,
        "step": spent / max(1, took),
        "batch": BATCH,
        "learnt": int(own.sum()),
        "judged": len(held),
        "figure": round(float(figures[0]), 6),
        "head": round(float(figures[1]), 6),
    }
