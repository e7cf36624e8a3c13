"""How a linear layer does with less of the data, on the folds of all of it: what similarity and learning curves are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regraft.jobs.validation import Validation
from regraft.strategy.rules import strengths_for

if TYPE_CHECKING:
    from regraft.training.probe import Probe

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
