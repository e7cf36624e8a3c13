"""Pilots: short trainings of networks of a race. Heads and the examples that were seen come in; what training gained over them goes out.

A pilot learns from some folds and is judged on others, from a head that was fitted to what it learns from. Its weights are not kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regraft.errors import RegraftError
from regraft.events import Said
from regraft.jobs.calibrate import Sample, usual_settings
from regraft.jobs.common import memory_room_mb
from regraft.jobs.deeper import read_material, start_of, whole_learner
from regraft.jobs.growing import Seen
from regraft.jobs.racing.entering import of_error
from regraft.jobs.racing.promising import LAYERED
from regraft.jobs.racing.running import Field, Runner
from regraft.jobs.validation import Validation
from regraft.jobs.work import plan_deeper
from regraft.strategy.cost import Range
from regraft.strategy.ladder import Standing
from regraft.strategy.pilot import BATCH, JUDGED, LEAST, SHARE, STEPS, Pilot, after, folds_that_judge, judges, pilot_seconds, worth_one
from regraft.strategy.race import Look
from regraft.strategy.rungs import AUTO

BYTES = 16
"""Of a parameter that trains: itself, its gradient, and what AdamW keeps."""


@dataclass(frozen=True)
class Pilots:
    """The pilots of a race: of which networks, one after the other, and what comes of them."""

    racing: Field

    def __call__(self, look: Look, seen: Callable[[str], Seen]) -> Look:
        """Pilots of the networks of the last round that may turn it, as long as there is time: the round with what is promised then.
        `seen` gives what a network was judged by.
        """
        racing, failed = self.racing, set[str]()
        while True:
            judged = judges(look.errors.shape[1])
            doubts = {name: doubt for name, doubt in self._doubts(look.names, judged).items() if name not in failed}
            names = worth_one(look, doubts, judged)
            if not names:
                return look
            runner = racing.runners[names[0]]
            until = time.perf_counter() + self._left()
            racing.emit(Said(f"race: {STEPS} steps of training on {runner.name}, which may turn it"))
            try:
                found = self._pilot(runner, seen(runner.name), lambda until=until: time.perf_counter() > until)
            except (RegraftError, RuntimeError, MemoryError) as error:
                racing.emit(Said(f"{runner.name} could not be trained: {of_error(error)}"))
                found = None
            if found is None:
                failed.add(runner.name)
                continue
            racing.promises.heard[runner.name] = promise = after(racing.promised(runner.name), doubts[runner.name], found)
            runner.found |= {"pilot": found.to_json(), "promised": round(promise, 3)}
            nouns = racing.modality.nouns
            racing.emit(Said(f"{runner.name}: {found.figure:.3f} after them, {found.head:.3f} before, on {found.judged} held-out {nouns}"))
            look = replace(look, promises=tuple(racing.promised(name) for name in look.names))

    def worth_one(self, look: Look) -> list[str]:
        """The networks of a round whose pilot on more examples may turn the race; the one whose is worth most first."""
        judged = judges(len(self.racing.train))
        return worth_one(look, self._doubts(look.names, judged), judged)

    def _doubts(self, names: Sequence[str], judged: int) -> dict[str, float]:
        """How uncertain it is what training gives networks, where a pilot and a training afterwards fit into time and memory: else 0."""
        # convolutions lose at first what the whole training gains (docs/log.md)
        racing, made = self.racing, self.racing.promises
        if not racing.spare or made.train not in (AUTO, "full") or racing.limits.memory is not None:
            return dict.fromkeys(names, 0.0)
        room = memory_room_mb() if racing.device == "cpu" else math.inf
        doubts: dict[str, float] = {}
        for name in names:
            runner = racing.runners[name]
            takes = pilot_seconds(runner.pace or math.inf, judged)
            able = runner.facts.architecture.get("builder") in LAYERED and name not in made.heard
            fits = takes <= self._left() and BYTES * runner.facts.parameters / 1e6 < room
            doubts[name] = made.doubt(runner.facts, runner.pace, max(0.0, takes - racing.left())) if able and fits else 0.0
        return doubts

    def _left(self) -> float:
        """Seconds that pilots may still take: what the race leaves of its time, and a part of the budget beside it."""
        return self.racing.left() + SHARE * (self.racing.limits.budget or 0.0)

    def _pilot(self, runner: Runner, seen: Seen, over: Callable[[], bool]) -> Pilot | None:
        """Train for a few steps and judge; None where the time was over before that says anything. RegraftError or RuntimeError when the
        network cannot be trained so.
        """
        from regraft.training.deeper import Task, one_training
        from regraft.training.loop import judge
        from regraft.training.losses import LOSSES

        begun, racing, validation = time.perf_counter(), self.racing, seen.validation
        deeper = plan_deeper(runner.facts, None, "full", {}, racing.target, racing.modality)
        assert deeper is not None
        learnt, held = self._parts(validation)
        layer = _head(seen, learnt)
        sample = self._sample(seen, np.concatenate([learnt, held]))
        own = np.arange(len(learnt) + len(held)) < len(learnt)
        few = {"epochs": math.ceil(STEPS * BATCH / len(learnt)), "batch": BATCH, "precision": "fp32", "wise": False, "find": False}
        settings = replace(usual_settings(deeper, len(racing.train)), patience=0, **few)
        with sample.work() as work:
            learner, cut, trunk = whole_learner(deeper, settings, work)
            material, _ = read_material(deeper, work, cut, trunk, work.folder)
            task = Task(material, LOSSES[racing.target.loss], work.values, work.train, work.weights, work.folds)
            begin = start_of(deeper, layer)
            steps = one_training(learner, task, settings, own, racing.spec.seed, length=STEPS, begin=begin, over=over)
            if steps < LEAST:
                return None
            scores = judge(learner, material, np.flatnonzero(~own))
        weight, bias = layer
        before = (seen.rows[held] @ weight.T).astype(np.float64) + bias
        return self._told(validation, held, scores, before, steps, time.perf_counter() - begun)

    def _parts(self, validation: Validation) -> tuple[np.ndarray, np.ndarray]:
        """The places of examples that are learnt from, and of those that judge: of whole folds, which share nothing."""
        random, folds = np.random.default_rng(self.racing.spec.seed), validation.folds
        judge = (folds >= 0) & (folds < folds_that_judge(len(folds), validation.count))
        learnt, held = (random.permutation(np.flatnonzero(own)) for own in (~judge, judge))
        return learnt[: STEPS * BATCH], held[: JUDGED[1]]

    def _sample(self, seen: Seen, places: np.ndarray) -> Sample:
        validation, racing = seen.validation, self.racing
        examples = [validation.parts.examples[k] for k in places]
        rows, workers = seen.rows[places], max(2, racing.threads)
        return Sample(examples, rows, validation, seen.probe, racing.device, workers, racing.spec.seed, keep=False, places=places)

    def _told(self, validation: Validation, held: np.ndarray, scores: np.ndarray, before: np.ndarray, steps: int, seconds: float) -> Pilot:
        """What scores (held, outputs) of the held-out examples say after and before training."""
        metric = self.racing.target.metrics[0]
        outputs = _outputs(validation, held, scores), _outputs(validation, held, before)
        over_head, count = validation.compared(*outputs)
        figures = [validation.figures(validation.judge(own))[metric].value for own in outputs]
        return Pilot(Standing(metric, figures[1]).gained(Range.of(over_head), count), count, figures[1], figures[0], steps, seconds)


def _outputs(validation: Validation, held: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Outputs (n, outputs) by scores (held, outputs) of some examples; NaN where there are none."""
    every = np.full((len(validation.folds), scores.shape[1]), np.nan)
    every[held] = scores
    return validation.linked(every)


def _head(seen: Seen, learnt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weight, bias) of an output layer on some examples alone, at the strength that was chosen for all."""
    from regraft.training.contrastive import fit_layers
    from regraft.training.losses import LOSSES

    validation, target = seen.validation, seen.validation.target
    y, weights = validation.parts.y[learnt], validation.weights[learnt]
    (layer,) = fit_layers(seen.rows[learnt], y, weights, len(target.outputs), [seen.probe.strength], LOSSES[target.loss])
    return layer
