"""Training below the head, judged as the head is: in folds that the trained weights have not seen, then once on everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regraft.features.material import Looks, Material
from regraft.strategy.settings import Settings
from regraft.training.afterwards import between
from regraft.training.design import FLOOR
from regraft.training.loop import Course, Learner, Problem, Saved, judge, seconds_of_step, seconds_of_whole_step, train
from regraft.training.losses import Loss
from regraft.training.pacing import Pacing

State = Mapping[str, Tensor]
"""Tensors by their names in the learner's module."""


@dataclass(frozen=True)
class Tick:
    """A step of a training. `lr` is the rate of the head and the last block, `examples` are those of a step, on the mean."""

    training: str
    step: int
    steps: int
    loss: float
    lr: float
    examples: float


Watch = Callable[[Tick], None]
"""Hears of every step."""

Judged = Callable[[int, int, np.ndarray], None]
"""(fold, folds, scores or outputs (n, outputs) of the training examples, NaN where no fold was judged yet) -> nothing."""


@dataclass(frozen=True)
class Task:
    """What is learnt from which examples. Arrays have an entry for each example of the material.

    values      targets of the training examples, as the loss's `truth` takes them
    train       positions of the training examples; `values`, `weights` and `folds` follow them
    folds       which fold holds an example out; -1: never held out
    inner       which of several parts an example belongs to, so that equal content and groups share one; where a training looks at held-out
                examples of its own, those of part 0 are held out; -1: never
    looks       what each epoch of training reads, where that is not the material, on which examples are judged
    """

    material: Material
    loss: Loss
    values: np.ndarray
    train: np.ndarray
    weights: np.ndarray
    folds: np.ndarray
    inner: np.ndarray | None = None
    looks: Looks | None = None

    @property
    def size(self) -> int:
        """How many examples the material has."""
        return int(self.material.example.max()) + 1

    def units(self, own: np.ndarray) -> tuple[float, float]:
        """(centre, spread) of the values of some training examples."""
        return float(self.values[own].mean()), float(self.values[own].std()) or 1.0


@dataclass(frozen=True)
class Tuned:
    """What training gave. `held_out` (mixes, n, outputs) float64 are scores of each training example by a network that had not seen it, for
    every mix of its start and its end that was asked for; rows of examples that no trained fold held out are NaN. `states` are what each
    fold's training and the final one left, where they were asked for. The learner holds the final weights.
    """

    held_out: np.ndarray
    states: list[State]
    folds: int
    losses: list[float]
    restarts: int
    epochs: list[int]
    """Of each training: after how many epochs the weights that were kept."""
    rates: list[float]
    """Of each training: its largest learning rate."""
    begin: State
    """What moved, where the final training began."""


@dataclass
class Keeping:
    """Where and when `tune` is saved.

    read      what was saved of the same training: tensors and plain data; None when nothing was
    save      keeps tensors and plain data in its place
    due       whether it is time to save
    stopping  whether to stop after the present step: what was done is saved, and KeyboardInterrupt raised
    """

    read: Callable[[], tuple[Mapping[str, np.ndarray], Mapping[str, Any]] | None] = lambda: None
    save: Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], None] = lambda tensors, facts: None
    due: Callable[[], bool] = lambda: False
    stopping: Callable[[], bool] = lambda: False


@dataclass
class _Way:
    """How far `tune` is: `done` trainings of `folds` and the final one, and the course of the next one where it is on its way.
    `seconds` went into the present one before it was taken up.
    """

    held_out: np.ndarray
    folds: int
    done: int = 0
    restarts: int = 0
    losses: list[float] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    seconds: float = 0.0
    epochs: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    parts: int = 1
    course: Saved | None = None
    final: State | None = None

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        tensors: dict[str, Tensor] = {"held_out": torch.from_numpy(self.held_out)}
        for number, state in enumerate(self.states):
            tensors |= {f"states.{number}.{name}": tensor for name, tensor in state.items()}
        tensors |= {f"course.{name}": tensor for name, tensor in (self.course.tensors if self.course else {}).items()}
        tensors |= {f"final.{name}": tensor for name, tensor in (self.final or {}).items()}
        facts = {name: getattr(self, name) for name in _COUNTED} | {"course": self.course.facts if self.course else None}
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}, facts

    def take_up(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        tensors = {name: torch.from_numpy(value.copy()) for name, value in arrays.items()}
        for name in _COUNTED:
            setattr(self, name, facts[name])
        self.held_out = tensors["held_out"].numpy()
        count = 1 + max((int(name.split(".")[1]) for name in tensors if name.startswith("states.")), default=-1)
        self.states = [_below(tensors, f"states.{number}.") for number in range(count)]
        self.course = Saved(_below(tensors, "course."), facts["course"]) if facts["course"] else None
        self.final = _below(tensors, "final.") or None


_COUNTED = ("folds", "done", "restarts", "losses", "seconds", "epochs", "rates", "parts")


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


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
    watch: Watch = lambda tick: None,
    judged: Judged = lambda fold, folds, scores: None,
    keeping: Keeping | None = None,
    mixes: Sequence[float] = (1.0,),
    parts_at: Mapping[tuple[int, int], int] | None = None,
    divided: Callable[[int, int, int], None] = lambda training, step, parts: None,
    pacing: Pacing | None = None,
) -> Tuned:
    """Train without each fold in turn, judge it, then train on everything.

    Every training starts from the learner's present weights, with those of `starts` in their place: what was fitted before without each
    fold, and last on everything. After the first fold `folds_for(folds, seconds)` says how many are trained;
    `decided` hears it before it is acted on. With `keeping` the work is saved on its way, and goes on from what was saved, to the same
    bits.

    Each fold is judged at all `mixes` of the weights at its start and its end, and left at its end: `judged` hears scores by those.
    `divided` hears of (training, step) at which memory ran out, and in how many parts a batch is computed from there on; `parts_at` says
    that it was so before. `pacing` keeps it to a budget, and says how many folds are trained in the place of `folds_for`.
    """
    keeping = keeping or Keeping()
    start = learner.state()
    starts = [_beside(start, s) for s in starts] if starts else None
    count = int(task.folds.max()) + 1
    way = _Way(np.full((len(mixes), len(task.train), learner.output.out_features), np.nan), count)
    if (held := keeping.read()) is not None:
        way.take_up(*held)
    while way.done <= way.folds:
        fold, begun = way.done, time.perf_counter() - way.seconds
        last = fold == way.folds
        own = np.ones(len(task.train), bool) if last else task.folds != fold
        begin = starts[-1 if last else fold] if starts else None
        begins = {**start, **(begin or {})}
        taught, inner, until = _inner(task, settings, own, way.epochs if last else None)
        problem = replace(
            _problem(learner, task, replace(settings, accumulate=max(way.parts, settings.accumulate)), taught, start, begin, seed),
            inner=task.train[inner],
            until=until,
            # the final training takes the rate of those that were judged, on the median
            height=float(np.median(way.rates)) / settings.lr if last and settings.find and way.rates else None,
            parts_at={step: parts for (training, step), parts in (parts_at or {}).items() if training == fold},
            divided=lambda step, parts, fold=fold: divided(fold, step, parts),
        )
        if pacing is not None:
            shorter = lambda restart, step, end, fold=fold, ask=pacing.shorter: ask(fold, restart, step, end)
            steps = pacing.steps(fold, last, problem.steps)
            problem = replace(problem, length=steps, bends=pacing.bends(fold), shorter=shorter)

        def after(course: Course, begun: float = begun) -> None:
            if (stopping := keeping.stopping()) or keeping.due():
                way.course, way.seconds = course.saved(), time.perf_counter() - begun
                keeping.save(*way.saved())
            if stopping:
                raise KeyboardInterrupt

        stage = "all examples" if last else f"fold {fold + 1} of {way.folds}"
        tick = partial(Tick, stage, steps=problem.steps, examples=len(problem.examples) * settings.epochs / problem.steps)
        found = train(problem, lambda step, loss, lr, tick=tick: watch(tick(step, loss=loss, lr=lr)), saved=way.course, after=after)
        if found.steps < problem.steps:
            watch(tick(found.steps, steps=found.steps, loss=found.losses[-1], lr=found.lr))
        _back(learner, task, taught)
        if last:
            way.losses, way.final = found.losses, learner.moving()
        else:
            way.held_out[:, ~own] = _judged(learner, task, ~own, begins, mixes)
            judged(fold, way.folds, way.held_out[-1])
        way.epochs, way.rates, way.parts = [*way.epochs, found.epoch], [*way.rates, found.lr], found.parts
        way.states += [learner.state()] * keep_states
        if pacing is not None and not last:
            way.folds = pacing.folds(fold + 1, count)
        elif fold == 0 and not last:
            way.folds = folds_for(count, time.perf_counter() - begun)
            decided(way.folds)
        way.done, way.restarts = fold + 1, way.restarts + found.restarts
        way.course, way.seconds = None, 0.0
        keeping.save(*way.saved())
    if held is not None and way.final is not None:
        learner.move(way.final)
        learner.eval_mode()
    began = {name: {**start, **(starts[-1] if starts else {})}[name] for name in learner.moving()}
    return Tuned(way.held_out, way.states, way.folds, way.losses, way.restarts, way.epochs, way.rates, began)


def _beside(start: State, state: State) -> State:
    """Tensors where those of a learner are: a start is fitted on the processor, or read from a file, and the learner may be on a GPU."""
    return {name: tensor.to(start[name].device) for name, tensor in state.items()}


def seconds_of_steps(learner: Learner, task: Task, settings: Settings, seed: int) -> float:
    """What a step on all examples takes, as the learner is; nothing moves."""
    return seconds_of_step(_problem(learner, task, settings, np.ones(len(task.train), bool), learner.state(), None, seed))


def one_training(
    learner: Learner,
    task: Task,
    settings: Settings,
    own: np.ndarray,
    seed: int,
    *,
    length: int | None = None,
    begin: State | None = None,
    over: Callable[[], bool] = lambda: False,
) -> int:
    """Train on `own` (n,) of the training examples from the learner's present weights, with those of `begin` in their place, and leave it
    trained; with a `length` so many steps at most, and none after `over` says so. Returns the steps that were taken.
    """
    start = learner.state()
    problem = _problem(learner, task, settings, own, start, begin and _beside(start, begin), seed)
    shorter = lambda restart, step, end: step if over() else None
    found = train(replace(problem, length=length, shorter=shorter))
    _back(learner, task, own)
    return found.steps


def seconds_of_whole_steps(learner: Learner, task: Task, settings: Settings, seed: int, enough: float, now: Callable[[], float]) -> float:
    """The same with everything that belongs to a step, of a few batches; see `seconds_of_whole_step`."""
    start = learner.state()
    try:
        problem = _problem(learner, task, settings, np.ones(len(task.train), bool), start, None, seed)
        return seconds_of_whole_step(problem, enough, now)
    finally:
        learner.restore(start)


def _inner(task: Task, settings: Settings, own: np.ndarray, lengths: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray, int | None]:
    """(those of the training examples `own` (n,) that are learnt from, those that tell when to stop, the epoch to stop at).

    Neither is ever an example that judges. The final training learns from everything and stops where those in the folds did, on the
    median (`lengths`).
    """
    nobody = np.zeros(len(own), bool)
    if not settings.patience or task.inner is None:
        return own, nobody, None
    if lengths:
        return own, nobody, max(1, round(float(np.median(lengths))))
    inner = own & (task.inner == 0)
    return (own & ~inner, inner, None) if inner.any() and (own & ~inner).any() else (own, nobody, None)


def _judged(learner: Learner, task: Task, held: np.ndarray, begin: State, mixes: Sequence[float]) -> np.ndarray:
    """Scores (mixes, held, outputs) of held-out examples by weights between the start and the end of a training; left at the end."""
    end = {name: tensor.clone() for name, tensor in learner.moving().items()} if len(mixes) > 1 else {}
    found: list[np.ndarray] = []
    for mix in mixes:
        if end:
            learner.move(between(begin, end, mix))
        found.append(judge(learner, task.material, task.train[held]))
    if end:
        learner.move(end)
    return np.stack(found)


def _problem(learner: Learner, task: Task, settings: Settings, own: np.ndarray, start: State, begin: State | None, seed: int) -> Problem:
    """The learner at the start of a training on `own` (n,) of the training examples, and what is to be minimised."""
    learner.restore({**start, **(begin or {})})
    values = task.values
    if task.loss.direct:
        # a number is learnt in units of its own spread: rates and gradients are then those of any target
        centre, spread = task.units(own)
        values = (values - centre) / spread
        if begin is not None:
            rescale(learner, 1 / spread, -centre / spread)
    part = task.loss.truth(values)
    truth = torch.zeros(task.size, *part.shape[1:], dtype=part.dtype)
    truth[task.train] = part
    weights = np.zeros(task.size)
    weights[task.train] = task.weights
    return Problem(learner, task.material, truth, weights, task.train[own], task.loss, settings, seed, looks=task.looks)


def _back(learner: Learner, task: Task, own: np.ndarray) -> None:
    """The scores of a trained network in the units of the values."""
    if task.loss.direct:
        centre, spread = task.units(own)
        rescale(learner, spread, centre)


def rescale(learner: Learner, factor: float, shift: float) -> None:
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
        scale, mean = (torch.from_numpy(values).to(weight) for values in (self.scale, self.mean))
        plain = weight * scale
        moved = bias - plain @ mean
        return {**state, f"{prefix}weight": plain.float(), f"{prefix}bias": moved.float()}


def _first_linear(module: nn.Module) -> str | None:
    """The path of the layer that features come to first, when it is linear with a bias; dropouts before it do not matter."""
    for path, layer in module.named_modules():
        if isinstance(layer, (nn.Sequential, nn.Dropout, nn.Identity)):
            continue
        return path if isinstance(layer, nn.Linear) and layer.bias is not None else None
    return None
