"""Training below the head, judged as the head is: in folds that the trained weights have not seen, then once on everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from regraft.features.material import Material
from regraft.strategy.settings import Settings
from regraft.training.design import FLOOR
from regraft.training.loop import Learner, Trained, judge, train
from regraft.training.losses import Loss

State = Mapping[str, Tensor]
"""Tensors by their names in the learner's module."""

Watch = Callable[[str, int, int, float], None]
"""(what is trained, step, steps, loss) -> nothing."""


@dataclass(frozen=True)
class Task:
    """What is learnt from which examples. Arrays have an entry for each example of the material.

    values      targets of the training examples, as the loss's `truth` takes them
    train       positions of the training examples; `values`, `weights` and `folds` follow them
    folds       which fold holds an example out; -1: never held out
    """

    material: Material
    loss: Loss
    values: np.ndarray
    train: np.ndarray
    weights: np.ndarray
    folds: np.ndarray

    @property
    def size(self) -> int:
        """How many examples the material has."""
        return int(self.material.example.max()) + 1


@dataclass(frozen=True)
class Tuned:
    """What training gave. `held_out` (n, outputs) float64 are scores of each training example by a network that had not seen it; rows of
    examples that no trained fold held out are NaN. `states` are what each fold's training and the final one left, where they were
    asked for. The learner holds the final weights.
    """

    held_out: np.ndarray
    states: list[State]
    folds: int
    losses: list[float]
    restarts: int


def tune(
    learner: Learner,
    task: Task,
    settings: Settings,
    *,
    seed: int,
    starts: Sequence[State] | None = None,
    folds_for: Callable[[int, float], int] = lambda folds, seconds: folds,
    keep_states: bool = False,
    decided: Callable[[int], None] = lambda folds: None,
    watch: Watch = lambda stage, step, steps, loss: None,
) -> Tuned:
    """Train without each fold in turn, judge it, then train on everything.

    Every training starts from the learner's present weights, with those of `starts` in their place: what was fitted before without each
    fold, and last on everything. After the first fold `folds_for(folds, seconds)` says how many are trained;
    `decided` hears it before it is acted on.
    """
    start = learner.state()
    count = int(task.folds.max()) + 1
    held_out = np.full((len(task.train), learner.output.out_features), np.nan)
    trained, restarts, fold = count, 0, 0
    states: list[State] = []
    while fold < trained:
        begun = time.perf_counter()
        own = task.folds != fold
        restarts += _fit(
            learner, task, settings, own, start, starts[fold] if starts else None, seed, f"fold {fold + 1} of {trained}", watch
        ).restarts
        held_out[~own] = judge(learner, task.material, task.train[~own])
        states += [learner.state()] * keep_states
        if fold == 0:
            trained = folds_for(count, time.perf_counter() - begun)
            decided(trained)
        fold += 1
    everything = np.ones(len(task.train), bool)
    final = _fit(learner, task, settings, everything, start, starts[-1] if starts else None, seed, "all examples", watch)
    states += [learner.state()] * keep_states
    return Tuned(held_out, states, trained, final.losses, restarts + final.restarts)


def _fit(
    learner: Learner,
    task: Task,
    settings: Settings,
    own: np.ndarray,
    start: Mapping[str, Tensor],
    begin: State | None,
    seed: int,
    stage: str,
    watch: Watch,
) -> Trained:
    learner.restore({**start, **(begin or {})})
    values = task.values
    centre, spread = 0.0, 1.0
    if task.loss.direct:
        # a number is learnt in units of its own spread: rates and gradients are then those of any target
        centre, spread = float(values[own].mean()), float(values[own].std()) or 1.0
        values = (values - centre) / spread
        if begin is not None:
            _rescale(learner, 1 / spread, -centre / spread)
    part = task.loss.truth(values)
    truth = torch.zeros(task.size, *part.shape[1:], dtype=part.dtype)
    truth[task.train] = part
    weights = np.zeros(task.size)
    weights[task.train] = task.weights
    examples = task.train[own]
    steps = settings.steps(len(examples))
    found = train(
        learner, task.material, truth, weights, examples, task.loss, settings, seed, lambda step, loss: watch(stage, step, steps, loss)
    )
    if task.loss.direct:
        _rescale(learner, spread, centre)
    return found


def _rescale(learner: Learner, factor: float, shift: float) -> None:
    """Scores times a factor and moved, by the weights of the output layer."""
    with torch.no_grad():
        learner.output.weight.mul_(factor)
        learner.output.bias.mul_(factor).add_(shift)


@dataclass(frozen=True)
class Standard:
    """Features in units of their own spread, for a module that begins with a linear layer: what was learnt on them is brought back to
    plain features by its weights. `layer` is that layer's path; None: another kind comes first, and features stay as they are.
    """

    mean: np.ndarray
    scale: np.ndarray
    layer: str | None

    @classmethod
    def of(cls, module: nn.Module, features: np.ndarray) -> Standard:
        """From the features (n, d) that are learnt from."""
        path = _first_linear(module)
        if path is None:
            return cls(np.zeros(1, np.float32), np.ones(1, np.float32), None)
        mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
        # the floor is that of the linear probe (training/design.py), for the same reason
        floor = FLOOR * float(np.sqrt((deviation**2).mean())) or 1.0
        return cls(mean.astype(np.float32), (1 / np.maximum(deviation, floor)).astype(np.float32), path)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Rows (n, d) float32."""
        return ((features - self.mean) * self.scale).astype(np.float32, copy=False)

    def folded(self, state: State) -> State:
        """The tensors of a module that learnt on standardised features, for plain ones."""
        if self.layer is None:
            return state
        prefix = f"{self.layer}." if self.layer else ""
        weight, bias = state[f"{prefix}weight"].double(), state[f"{prefix}bias"].double()
        plain = weight * torch.from_numpy(self.scale).double()
        moved = bias - plain @ torch.from_numpy(self.mean).double()
        return {**state, f"{prefix}weight": plain.float(), f"{prefix}bias": moved.float()}


def _first_linear(module: nn.Module) -> str | None:
    """The path of the layer that features come to first, when it is linear with a bias; dropouts before it do not matter."""
    for path, layer in module.named_modules():
        if isinstance(layer, (nn.Sequential, nn.Dropout, nn.Identity)):
            continue
        return path if isinstance(layer, nn.Linear) and layer.bias is not None else None
    return None
