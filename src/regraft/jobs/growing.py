"""How a linear layer does with less of the data, on the folds of all of it: what similarity and learning curves are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.jobs.validation import Validation
from regraft.strategy.learning import LearningCurve
from regraft.strategy.rules import strengths_for
from regraft.strategy.similarity import Similarity, similarity_of

if TYPE_CHECKING:
    from regraft.training.probe import Probe

COMPARED = 2000
"""Training examples whose nearest neighbours are looked for, at most."""

STRONGER = 3
"""Strengths that are tried for a part of the examples: the one for all of them and stronger ones. Fewer examples ask for more."""


def likely(kind: str, chances: np.ndarray) -> np.ndarray:
    """Outputs of a target (log-probabilities, log-odds, values) for what people read: probabilities, or values."""
    if kind == "number":
        return chances.astype(np.float32)
    p = np.clip(chances.astype(np.float64), 1e-6, 1 - 1e-6)
    return (np.log(p) if kind == "class" else np.log(p / (1 - p))).astype(np.float32)


def errors_of(validation: Validation, outputs: np.ndarray) -> np.ndarray:
    """How wrong each decision is, of the examples that are held out: what a right one would gain less what it gains."""
    judged = validation.judge(outputs)
    return validation.view.gains(validation.target.compared, judged.truth, judged.truth) - validation.gains(judged)


@dataclass(frozen=True)
class Learner:
    """Fits a linear layer to a part of the examples and lets it judge all that are held out, in the same folds."""

    validation: Validation
    rows: np.ndarray
    whole: Probe

    def __call__(self, places: np.ndarray) -> np.ndarray:
        from regraft.training.losses import LOSSES
        from regraft.training.probe import fit_probe

        validation, target = self.validation, self.validation.target
        tried = [s for s in strengths_for(target.loss) if s >= self.whole.strength * 0.999][:STRONGER]
        # folds that this part has no examples of are judged by a model of all of it
        there, folds = np.unique(validation.folds[places], return_inverse=True)
        folds = folds - int(there[0] < 0)
        found = fit_probe(
            self.rows[places],
            validation.parts.y[places],
            folds,
            len(target.outputs),
            tried,
            score=lambda truth, plain: target.score(validation.metric, truth, plain),
            gains=lambda truth, plain: target.gains(validation.metric, truth, plain),
            loss=LOSSES[target.loss],
            weights=None if (validation.weights == 1).all() else validation.weights[places],
            nested=False,
            careful=False,
        )
        outputs = np.full(self.whole.out_of_fold.shape, np.nan, np.float32)
        layers = {int(f): layer for f, layer in zip(there[there >= 0], found.fold_layers, strict=True)}
        for fold in range(validation.count):
            own = validation.folds == fold
            weight, bias = layers.get(fold, (found.weight, found.bias))
            outputs[own] = target.link((self.rows[own] @ weight.T).astype(np.float64) + bias)
        return outputs


@dataclass(frozen=True)
class Seen:
    """What similarity and a learning curve are told from: `rows` (n, d) of the training examples of a validation, and a linear layer."""

    validation: Validation
    rows: np.ndarray
    probe: Probe

    @property
    def kind(self) -> str:
        """class, multilabel or number."""
        return self.validation.target.name

    @property
    def outputs(self) -> Sequence[str]:
        """The names of the outputs."""
        return self.validation.target.outputs

    @property
    def y(self) -> np.ndarray:
        """Targets, as the target has them."""
        return self.validation.parts.y

    @property
    def folds(self) -> np.ndarray:
        """Fold numbers (n,)."""
        return self.validation.folds

    @property
    def held(self) -> np.ndarray:
        """Held-out outputs of the linear layer."""
        return self.probe.out_of_fold

    @property
    def strata(self) -> np.ndarray:
        """Of which each part of the data is to have its share."""
        return strata_of(self.validation)

    @property
    def learn(self) -> Learner:
        """Fits a linear layer to some of them."""
        return Learner(self.validation, self.rows, self.probe)

    def errors(self, outputs: np.ndarray) -> np.ndarray:
        """How wrong each decision is."""
        return errors_of(self.validation, outputs)

    def likely(self, chances: np.ndarray) -> np.ndarray:
        """Probabilities or values as outputs."""
        return likely(self.kind, chances)

    def similarity(self, bare: np.ndarray) -> Similarity:
        """How similar the data is to what the network knows, by its last depth alone; `bare` are held-out outputs (n, k) of the same
        layer without a network.
        """
        from regraft.evaluation.trust.similarity import skills_of

        return similarity_of(*skills_of(self, bare, compared_places(len(self.y))))

    def curve(self) -> LearningCurve:
        """The learning curve so far."""
        from regraft.evaluation.trust.learning import measure

        return measure(self)


def compared_places(count: int) -> np.ndarray:
    """The places, of so many examples, whose nearest neighbours are looked for."""
    return np.unique(np.linspace(0, count - 1, min(count, COMPARED)).astype(int))


def strata_of(validation: Validation) -> np.ndarray:
    """Of each training example the group that parts of the data should have an equal part of."""
    return np.array([own[0] if own else -1 for own in validation.target.strata(validation.parts.y)], np.int64)
