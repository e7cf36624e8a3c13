"""The frozen network over all examples of a fit, in the engine that was asked for or chosen, or another where that does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.base import TRAIN, Example
from regraft.errors import DataError, ModelError
from regraft.events import Said, Warned, silent
from regraft.facts import ModelFacts
from regraft.jobs.engines import Agreement, Chosen, choose_engine, compare_predictions, held_engine, reference_engine
from regraft.jobs.frozen import Frozen, frozen_pretrained
from regraft.jobs.labelled import Labelled
from regraft.jobs.parts import divide, rows_at
from regraft.jobs.recording import Recorder
from regraft.jobs.rounds import Rounds
from regraft.jobs.validation import Validation
from regraft.modality import View, Views
from regraft.strategy.engines import sample_places
from regraft.strategy.rules import strengths_for

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.features import Extracted
    from regraft.features.engines import Engine
    from regraft.training.probe import Probe


@dataclass
class FrozenPass:
    """A frozen network with the engine that runs it. `keep`: whether features stay in the store."""

    frozen: Frozen
    device: str
    threads: int
    keep: bool
    chosen: Chosen
    recorder: Recorder

    @classmethod
    def over(
        cls,
        examples: Sequence[Example],
        facts: ModelFacts,
        backbone: Mapping[str, Tensor],
        named: Engine | None,
        precision: str,
        device: str,
        threads: int,
        keep: bool,
        recorder: Recorder,
        more: int = 0,
    ) -> FrozenPass:
        """The network of these facts and weights, in the `named` engine or the best one for these examples and so many `more` views."""
        frozen = frozen_pretrained(facts, lambda: dict(backbone))
        held = recorder.held_decision("engine")
        deadline = recorder.deadline if recorder.deadline.bound else None
        choose = lambda: choose_engine(frozen, examples, named, precision, device, threads, more, keep=keep, deadline=deadline)
        chosen = held_engine(held, device) if held else choose()
        if said := chosen.sentence(frozen.modality.nouns):
            recorder.emit(Said(said))
        return cls(frozen, device, threads, keep, chosen, recorder)

    def __call__(self, examples: Sequence[Example], rounds: Rounds | None = None) -> Extracted:
        """Features of the examples, and what the model without a network needs of them; with `rounds`, of those that they take."""
        try:
            return self._whole(examples, rounds)
        except ModelError as error:
            if not self.chosen.free or self.chosen.engine is reference_engine():
                raise
            self._take_instead(reference_engine(), error.found)
            return self._whole(examples, rounds)

    def _whole(self, examples: Sequence[Example], rounds: Rounds | None) -> Extracted:
        if rounds is None:
            return self._run(examples, "features", summaries=True)
        self._decide_engine()
        return rounds(
            lambda some, emit, enough: self.frozen.run(
                some, self.device, self.threads, self.chosen.engine, keep=self.keep, summaries=True, emit=emit, enough=enough
            )
        )

    def _decide_engine(self) -> None:
        self.recorder.decide(engine=self.chosen.to_json(), features=self.frozen.maker(self.device, self.chosen.engine))

    def _run(self, examples: Sequence[Example], stage: str, *, summaries: bool) -> Extracted:
        """In the chosen engine, which is written down first."""
        self._decide_engine()
        return self._features(examples, self.chosen.engine, stage, summaries=summaries)

    def _features(self, examples: Sequence[Example], engine: Engine, stage: str, *, summaries: bool = False) -> Extracted:
        emit = self.recorder.emit
        return self.frozen.run(examples, self.device, self.threads, engine, keep=self.keep, summaries=summaries, emit=emit, stage=stage)

    def of_views(self, examples: Sequence[Example], views: Views, numbers: Sequence[int], stage: str) -> np.ndarray:
        """Features (numbers, examples, d) of some views of examples whose own features are there, in the engine that gave those."""
        wanted = [replace(e, source=View(e.source, number)) for number in numbers for e in examples]
        found = self.frozen.looking_at(views).run(
            wanted, self.device, self.threads, self.chosen.engine, keep=self.keep, summaries=False, emit=self.recorder.emit, stage=stage
        )
        if len(found.kept) != len(wanted):
            lost = found.left_out[0]
            raise ModelError(f"{len(wanted) - len(found.kept):,} views have no features: {lost.name}: {lost.reason}", move="--views 1")
        return found.features.reshape(len(numbers), len(examples), -1)

    def _take_instead(self, engine: Engine, reason: str) -> None:
        """Another engine than the chosen one, and why."""
        self.recorder.emit(Warned(f"engine: {self.chosen.engine.label} is not used: {reason}. {engine.label} runs in its place"))
        refused = {**self.chosen.left_out, self.chosen.engine.label: reason}
        self.chosen = replace(self.chosen, engine=engine, left_out=refused)

    def try_before(self, labelled: Labelled, metric: str, seed: int, *, balance: bool) -> None:
        """Before a pass is spent in an engine that rounds: a head fitted on a sample of the training examples predicts, held out, from both
        engines' features of it. Where its predictions differ, an exact engine runs instead.

        That a head on a sample differs says that one on everything will (docs/log.md); that it agrees is looked at again afterwards.
        """
        if self.chosen.engine.exact or not self.chosen.free:
            return
        examples, values = labelled.part(TRAIN)
        places = sample_places(len(examples))
        sample = [examples[k] for k in places]
        try:
            rounded, plain = (self._features(sample, engine, "comparison") for engine in (self.chosen.engine, self._exact))
        except ModelError as error:
            return self._take_instead(self._exact, error.found)
        if rounded.kept != plain.kept:
            return self._take_instead(self._exact, "the network's features of some examples are numbers in one engine only")
        try:
            parts = divide(labelled, sample, [values[k] for k in places], plain, silent)
            validation = Validation.of(labelled.target, metric, parts, seed, balance=balance, emit=silent)
            probe = validation.probe("comparison", plain.features, strengths_for(labelled.target.loss), silent, nested=False)
        except DataError:
            return  # a sample that is too small to learn from says nothing
        judged = np.flatnonzero(validation.folds >= 0)
        found = self._compare(probe, validation, judged, rounded.features[judged], plain.features[judged])
        self.recorder.decide(agreement_of_sample=found.to_json())
        if found.objection:
            self._take_instead(self._exact, found.objection)

    @property
    def _exact(self) -> Engine:
        """What runs where the chosen engine does not do."""
        return self.chosen.exact or reference_engine()

    def again_if_it_disagrees(self, probe: Probe, validation: Validation, examples: Sequence[Example], extracted: Extracted) -> bool:
        """Compare predictions on the features of an engine that rounds with those on exact ones; where they differ, make exact features of
        all `examples` (the usable ones) in the place of those, and say so with True.
        """
        objection = self._objection(probe, validation, extracted.features)
        if not objection:
            return False
        self._take_instead(self._exact, objection)
        again = self._run(examples, "features again", summaries=False)
        if len(again.kept) != len(examples):
            raise ModelError("the network's features of some examples are numbers in one engine only", move="--engine torch")
        extracted.features = again.features
        return True

    def _objection(self, probe: Probe, validation: Validation, features: np.ndarray) -> str:
        """What speaks against the features of an engine that rounds: some training examples go through an exact one too, and models
        that did not see them predict from both. Empty when they agree, or when the engine was asked for.
        """
        if self.chosen.engine.exact:
            return ""
        parts = validation.parts
        judged = np.flatnonzero(validation.folds >= 0)
        places = judged[sample_places(len(judged))]
        plain = self._features([parts.examples[k] for k in places], self._exact, "comparison")
        places = places[plain.kept]
        found = self._compare(probe, validation, places, rows_at(features, parts.train[places]), plain.features)
        self.recorder.decide(agreement=found.to_json())
        self.recorder.emit(found.said())
        return found.objection if self.chosen.free else ""

    def _compare(self, probe: Probe, validation: Validation, places: np.ndarray, rows: np.ndarray, plain: np.ndarray) -> Agreement:
        """What models that did not see the training examples at some places predict from two engines' features of them."""
        from regraft.artifacts import linear, outputs_of

        target, parts, folds = validation.target, validation.parts, validation.folds
        say = lambda rows: np.concatenate(
            [outputs_of(row[None], linear(*probe.fold_layers[folds[k]]), target) for row, k in zip(rows, places, strict=True)]
        )
        spread = float(parts.y.astype(np.float64).std())
        return compare_predictions(self._exact, target, validation.metric, parts.y[places], say(rows), say(plain), spread)
