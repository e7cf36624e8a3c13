"""Cross-validation that every model of a fit goes through: the same examples in the same folds, so that models can be compared in pairs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import DataError
from regraft.evaluation.classes import mean_interval
from regraft.events import Done, Emit, Progress, Started, Warned
from regraft.facts import Figure
from regraft.jobs.parts import Parts
from regraft.strategy.rules import fold_count, is_nested
from regraft.targets import Target

if TYPE_CHECKING:
    from regraft.training.afterwards import Choice
    from regraft.training.probe import Probe

INNER_PARTS = 8
"""Of which one is held out where a training looks at held-out examples of its own: Prechelt 1998 takes a quarter, with more data."""


@dataclass(frozen=True)
class Judged:
    """What cross-validation says of a model. `outputs` (n, outputs) are those of every training example by a model that had not seen it,
    NaN where there is none; the other arrays have an entry for each place in `places`, where there is one.
    """

    outputs: np.ndarray
    places: np.ndarray
    truth: np.ndarray
    held: np.ndarray
    decided: np.ndarray


CALIBRATION = ("log_loss", "calibration_error")
"""Figures that say how good probabilities are."""


@dataclass(frozen=True)
class Tempered:
    """What dividing scores by a `temperature` does to held-out outputs (n, outputs): figures `before` and `after`, and whether it is kept,
    because log-loss is clearly lower.
    """

    temperature: float
    outputs: np.ndarray
    before: dict[str, float]
    after: dict[str, float]
    kept: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data, for decisions.json."""
        both = {name: [round(self.before[name], 6), round(self.after[name], 6)] for name in self.before}
        return {"value": round(self.temperature, 6), **both, "kept": self.kept}

    def said(self) -> str:
        """One line."""
        told = [f"{name.replace('_', ' ')} {self.before[name]:.3f} to {self.after[name]:.3f}" for name in self.before]
        return f"scores are divided by {self.temperature:.2f} (temperature scaling): held out, {', '.join(told)}"


@dataclass(frozen=True)
class Validation:
    """The folds (n,) of the training examples, -1 for those that are never held out, and what is judged of the target: `view` is its part
    that can be, `columns` where that stands.
    """

    target: Target
    metric: str
    parts: Parts
    folds: np.ndarray
    view: Target
    columns: Any
    weights: np.ndarray
    """What each training example counts."""
    inner: np.ndarray
    """A finer division (n,) by the same rules, for choices inside of a fold; -1 for what is in no part."""
    hurried: bool = False
    """Whether a budget leaves no time for a nested choice."""
    device: str = "cpu"
    """Where linear heads are fitted."""

    @classmethod
    def of(cls, target: Target, metric: str, parts: Parts, seed: int, *, balance: bool, emit: Emit, device: str = "cpu") -> Validation:
        """DataError when nothing can be held out; what cannot be judged is said."""
        from regraft.training.head import assign_folds, bound_together, class_weights

        groups = [e.group for e in parts.examples]
        names = bound_together(parts.kin, groups if any(g is not None for g in groups) else None)
        strata = target.strata(parts.y)
        held: dict[int, set[bytes]] = defaultdict(set)
        for own, name in zip(strata, names, strict=True):
            for s in own:
                held[s].add(name)
        # of each stratum how many of its examples can stand apart
        apart = {s: len(own) for s, own in held.items()}
        folds = assign_folds(strata, names, fold_count(list(apart.values())), seed)
        if folds.max() < 1:
            what = "group" if any(groups) else "content"
            raise DataError(f"there is one {what} only, so nothing can be held out", expected=f"at least two different {what}s of a class")
        if folds.max() < 2:
            emit(Warned("two folds only: the strength is chosen on the folds that judge it, which flatters the estimate a little"))
        view, columns = target.judgeable(apart)
        if said := target.unjudged(columns):
            emit(Warned(said))
        weights = parts.weights * class_weights(parts.y, len(target.outputs)) if balance else parts.weights
        inner = assign_folds(strata, names, INNER_PARTS, seed + 1)
        return cls(target, metric, parts, folds, view, columns, weights, inner, device=device)

    @property
    def count(self) -> int:
        """How many folds there are."""
        return int(self.folds.max()) + 1

    @cached_property
    def nested(self) -> bool:
        """Whether the choice of a strength is nested in its estimate."""
        return not self.hurried and is_nested(int((self.folds >= 0).sum()), self.count)

    def how(self, tried_on: int) -> str:
        """How the estimate of a linear head was made; its strengths were tried on so many examples."""
        if self.nested:
            return f"{self.count}-fold cross-validation, nested for the choice of the strength"
        why = "too few groups" if self.count < 3 else "with so many examples it changes nothing"
        why = "the budget leaves no time for it" if self.hurried else why
        how = f"{self.count}-fold cross-validation, not nested: {why}"
        if tried_on == len(self.folds):
            return how
        return f"{how}; all strengths were tried on {tried_on:,} examples, the best and weaker ones on all"

    def probe(
        self, stage: str, rows: np.ndarray, strengths: Sequence[float], emit: Emit, *, nested: bool | None = None, careful: bool = True
    ) -> Probe:
        """A linear head on rows (n, d) of the training examples, or (views x n, d) of views of them; see `fit_probe`."""
        from regraft.training.losses import LOSSES
        from regraft.training.probe import fit_probe

        begun = time.perf_counter()
        emit(Started(stage, 0, "fits"))
        target = self.target
        found = fit_probe(
            rows,
            self.parts.y,
            self.folds,
            len(target.outputs),
            strengths,
            score=lambda truth, plain: target.score(self.metric, truth, plain),
            gains=lambda truth, plain: target.gains(self.metric, truth, plain),
            loss=LOSSES[target.loss],
            weights=None if (self.weights == 1).all() else self.weights,
            nested=self.nested if nested is None else nested,
            careful=careful,
            watch=lambda done, total: emit(Progress(stage, done, total)),
            device=self.device,
        )
        emit(Done(stage, time.perf_counter() - begun, f"strength {found.strength:.2g}, {self.count} folds"))
        return found

    def linked(self, scores: np.ndarray) -> np.ndarray:
        """Outputs (n, outputs) float32 of held-out scores; NaN where there are none."""
        outputs = np.full(scores.shape, np.nan, np.float32)
        there = np.isfinite(scores).all(1)
        outputs[there] = self.target.link(scores[there])
        return outputs

    def choose(self, scores: np.ndarray) -> tuple[Choice, np.ndarray] | None:
        """Which of several models is best by their scores (models, n, outputs) of held-out examples, and outputs (n, outputs) float32 by
        the one that is best without each example's own fold: the choice does not flatter them. None where it cannot be made.
        """
        import torch

        from regraft.training.afterwards import chosen, cross_parts
        from regraft.training.losses import LOSSES

        target, loss = self.target, LOSSES[self.target.loss]
        places = np.flatnonzero(np.isfinite(scores).all((0, 2)))
        parts = cross_parts(self.folds[places], self.inner[places])
        if parts is None:
            return None
        y = self.parts.y[places]
        outputs = np.stack([target.link(own[places]) for own in scores])
        plain = [loss.decide(torch.from_numpy(own)) for own in outputs]
        truth = loss.truth(y)
        losses = np.stack([loss.each(torch.from_numpy(own), truth).numpy() for own in outputs])
        gains = np.stack([target.gains(self.metric, y, decided) for decided in plain])
        choice = chosen(lambda k, at: target.score(self.metric, y[at], plain[k][at]), gains, losses, parts)
        held = np.full(scores.shape[1:], np.nan, np.float32)
        held[places] = choice.of(outputs, parts)
        return choice, held

    def temper(self, outputs: np.ndarray) -> Tempered | None:
        """Held-out outputs (n, outputs) of classes at the temperature that is best without each example's own fold; None where it cannot be
        told.
        """
        from regraft.training.afterwards import LEAST_DECIDED, cross_parts, temperature, tempered

        places = np.flatnonzero(np.isfinite(outputs).all(1))
        if self.target.loss != "softmax" or not len(places):
            return None
        parts = cross_parts(self.folds[places], self.inner[places])
        if parts is None:
            return None
        y, before = self.parts.y[places], outputs[places]
        right = int((before.argmax(1) == y).sum())
        if min(right, len(y) - right) < LEAST_DECIDED:
            return None
        after = tempered(before, y, parts, self.target.link)
        rows = np.arange(len(y))
        gain = mean_interval((after[rows, y] - before[rows, y]).astype(np.float64))
        told = [{name: self.target.figures(y, o, self.target.decide(o))[name].value for name in CALIBRATION} for o in (before, after)]
        held = outputs.copy()
        held[places] = after
        # a number that cannot be told from 1 would change every probability for nothing
        return Tempered(temperature(before, y), held, told[0], told[1], gain.low > 0)

    def value(self, outputs: np.ndarray, places: np.ndarray) -> float:
        """The metric of held-out outputs (n, outputs) at some places, by plain decisions: what is told on the way."""
        import torch

        from regraft.training.losses import LOSSES

        y, held = self.parts.y[places], outputs[places]
        return self.target.value(self.metric, y, held, LOSSES[self.target.loss].decide(torch.from_numpy(held)))

    def judge(self, outputs: np.ndarray, places: np.ndarray | None = None) -> Judged:
        """Decisions for held-out outputs (n, outputs), at the places where there are any or at the ones that are given."""
        if places is None:
            places = np.flatnonzero(np.isfinite(outputs).all(1))
        truth, held = self.parts.y[places], outputs[places]
        if self.view is not self.target:
            truth, held = truth[:, self.columns], held[:, self.columns]
        return Judged(outputs, places, truth, held, self.view.decide_out_of_fold(truth, held, self.folds[places]))

    def figures(self, judged: Judged) -> dict[str, Figure]:
        """The usual figures, each with its 95 % interval."""
        return self.view.figures(judged.truth, judged.held, judged.decided)

    def gain(self, judged: Judged, other: np.ndarray) -> Figure:
        """What a model gains over another one with held-out outputs (n, outputs), paired on the same examples."""
        return mean_interval(self.gains(judged) - self.gains(self.judge(other, judged.places)))

    def compared(self, outputs: np.ndarray, other: np.ndarray) -> tuple[Figure, int]:
        """(what a model gains over another one, by held-out outputs (n, outputs) of both, where both have them; how many those are)."""
        places = np.flatnonzero(np.isfinite(outputs).all(1) & np.isfinite(other).all(1))
        return self.gain(self.judge(outputs, places), other), len(places)

    def gains(self, judged: Judged) -> np.ndarray:
        """How good each decision is (places,)."""
        return self.view.gains(self.target.compared, judged.truth, judged.decided)
