"""The frozen network over all examples of a fit, in the engine that was asked for or chosen, or another where that does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from regraft.data.base import Example
from regraft.errors import ModelError
from regraft.events import Said, Warned
from regraft.facts import ModelFacts
from regraft.jobs.engines import Chosen, choose_engine, compare_predictions, reference_engine
from regraft.jobs.frozen import Frozen, frozen_pretrained
from regraft.jobs.parts import rows_at
from regraft.jobs.recording import Recorder
from regraft.jobs.validation import Validation
from regraft.strategy.engines import sample_size

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
    ) -> FrozenPass:
        """The network of these facts and weights, in the `named` engine or the best one for these examples."""
        frozen = frozen_pretrained(facts, lambda: dict(backbone))
        chosen = choose_engine(frozen, examples, named, precision, device, threads)
        if said := chosen.sentence(frozen.modality.nouns):
            recorder.emit(Said(said))
        return cls(frozen, device, threads, keep, chosen, recorder)

    def __call__(self, examples: Sequence[Example]) -> Extracted:
        """Features of the examples, and what the model without a network needs of them."""
        try:
            return self._run(examples, "features", summaries=True)
        except ModelError as error:
            if not self.chosen.free or self.chosen.engine is reference_engine():
                raise
            self._take_instead(reference_engine(), error.found)
            return self._run(examples, "features", summaries=True)

    def _run(self, examples: Sequence[Example], stage: str, *, summaries: bool) -> Extracted:
        """In the chosen engine, which is written down first."""
        engine = self.chosen.engine
        self.recorder.decide(engine=self.chosen.to_json(), features=self.frozen.maker(self.device, engine))
        return self.frozen.run(
            examples, self.device, self.threads, engine, keep=self.keep, summaries=summaries, emit=self.recorder.emit, stage=stage
        )

    def _take_instead(self, engine: Engine, reason: str) -> None:
        """Another engine than the chosen one, and why."""
        self.recorder.emit(Warned(f"engine: {self.chosen.engine.label} is not used: {reason}. {engine.label} runs in its place"))
        refused = {**self.chosen.left_out, self.chosen.engine.label: reason}
        self.chosen = replace(self.chosen, engine=engine, left_out=refused)

    def again_if_it_disagrees(self, probe: Probe, validation: Validation, examples: Sequence[Example], extracted: Extracted) -> bool:
        """Compare predictions on the features of an engine that rounds with those on exact ones; where they differ, make exact features of
        all `examples` (the usable ones) in the place of those, and say so with True.
        """
        objection = self._objection(probe, validation, extracted.features)
        if not objection:
            return False
        self._take_instead(self.chosen.exact or reference_engine(), objection)
        again = self._run(examples, "features again", summaries=False)
        if len(again.kept) != len(examples):
            raise ModelError("the network's features of some examples are numbers in one engine only", move="--engine torch")
        extracted.features = again.features
        return True

    def _objection(self, ours: Probe, validation: Validation, features: np.ndarray) -> str:
        """What speaks against the features of an engine that rounds: some training examples go through an exact one too, and models
        that did not see them predict from both. Empty when they agree, or when the engine was asked for.
        """
        from regraft.artifacts import linear, outputs_of

        engine, target, parts, folds = self.chosen.engine, validation.target, validation.parts, validation.folds
        if engine.exact:
            return ""
        judged = np.flatnonzero(folds >= 0)
        exact = self.chosen.exact or reference_engine()
        places = judged[np.unique(np.linspace(0, len(judged) - 1, sample_size(len(judged))).astype(int))]
        sample = [parts.examples[k] for k in places]
        plain = self.frozen.run(
            sample, self.device, self.threads, exact, keep=self.keep, summaries=False, emit=self.recorder.emit, stage="comparison"
        )
        places = places[plain.kept]
        say = lambda rows: np.concatenate(
            [outputs_of(row[None], linear(*ours.fold_layers[folds[k]]), target) for row, k in zip(rows, places, strict=True)]
        )
        rows = rows_at(features, parts.train[places])
        spread = float(parts.y.astype(np.float64).std())
        found = compare_predictions(exact, target, validation.metric, parts.y[places], say(rows), say(plain.features), spread)
        self.recorder.decide(agreement=found.to_json())
        self.recorder.emit(found.said())
        return found.objection if self.chosen.free else ""
