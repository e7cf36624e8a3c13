"""One plain loop: batches of windows through a module, a step of AdamW each, from a start to the end of a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regraft.errors import RunError
from regraft.features.material import Material
from regraft.strategy.settings import Settings
from regraft.training.losses import Loss

RETRIES = 3
"""How often a training whose loss is no finite number, or explodes, begins again, at a third of the rates."""

EXPLODED = 10.0
"""Times the loss that a training began with, or 1 where that was less: an epoch's mean beyond it counts as no number. A loss is in nats, or
in variances of a number, so 1 is what knowing nothing costs, within a factor of a few."""

JUDGED_AT_ONCE = 64
"""Windows that are judged together."""


@dataclass(frozen=True)
class Learner:
    """What is trained.

    module       holds what is trained
    scores       the arrays of a batch of windows -> scores (windows, outputs)
    train_mode   puts what trains in training mode and everything else in evaluation mode
    eval_mode    puts everything in evaluation mode
    groups       (names of parameters of `module`, learning rate): everything that trains
    output       the last linear layer, whose outputs are the scores
    """

    module: nn.Module
    scores: Callable[[Mapping[str, np.ndarray]], Tensor]
    train_mode: Callable[[], object]
    eval_mode: Callable[[], object]
    groups: Sequence[tuple[Sequence[str], float]]
    output: nn.Linear

    def state(self) -> dict[str, Tensor]:
        """A copy of every tensor."""
        return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Back to a state, in the same tensors."""
        self.module.load_state_dict(state)

    def moving(self) -> dict[str, Tensor]:
        """What training can change: the parameters that train, and every buffer. The tensors themselves."""
        still = {name for name, _ in self.module.named_parameters(remove_duplicate=False)} - {n for names, _ in self.groups for n in names}
        return {name: tensor.detach() for name, tensor in self.module.state_dict().items() if name not in still}

    def move(self, tensors: Mapping[str, Tensor]) -> None:
        """Put what `moving` gave back, in the same tensors."""
        with torch.no_grad():
            for name, tensor in self.moving().items():
                tensor.copy_(tensors[name])


@dataclass(frozen=True)
class Problem:
    """What is minimised, and how. `truth` is the loss's and `weights` (n,) count examples, for every example of the material; `examples`
    are those that are learnt from.
    """

    learner: Learner
    material: Material
    truth: Tensor
    weights: np.ndarray
    examples: np.ndarray
    loss: Loss
    settings: Settings
    seed: int

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.settings.steps(len(self.examples))


@dataclass(frozen=True)
class Trained:
    """How a training went: mean loss of each epoch, and how often it had to begin again."""

    losses: list[float]
    restarts: int = 0


@dataclass(frozen=True)
class Saved:
    """A training on its way, as tensors and plain data: what `Course` was when it was saved."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class _Diverged(ArithmeticError):
    pass


class Course:
    """A training on its way.

    Whatever the next step depends on stands here, in what moves of the module, or in the problem; `saved` holds it, `take_up` goes on from
    it to the same bits. The order of an epoch follows from seed and epoch, the rate from the step, so neither is part of it.

    step      steps that were taken
    epoch     epochs that were completed
    batch     batches of the present epoch that were taken
    total     their losses added up, each as often as it has examples
    means     the mean loss of each completed epoch
    first     the loss of the first batch, before any step
    restart   how often the training began again
    """

    def __init__(self, problem: Problem, restart: int = 0) -> None:
        self.problem, self.restart = problem, restart
        self.step = self.epoch = self.batch = 0
        self.total, self.first = 0.0, math.nan
        self.means: list[float] = []
        self.device = next(problem.learner.module.parameters()).device
        self.optimiser = torch.optim.AdamW(_groups(problem.learner, problem.settings, 3.0**-restart), fused=True)
        self.peaks = [group["lr"] for group in self.optimiser.param_groups]
        self.trained = [p for group in self.optimiser.param_groups for p in group["params"]]

    def run(self, after: Callable[[Course, float], None]) -> list[float]:
        """From here to the end; `after` hears of each step's loss. The losses of all epochs."""
        problem = self.problem
        while self.epoch < problem.settings.epochs:
            problem.learner.train_mode()
            order = np.random.default_rng([problem.seed, self.epoch]).permutation(problem.examples)
            # parts of nearly equal size: a last batch of one example would have no variance to normalise by
            batches = np.array_split(order, max(1, math.ceil(len(order) / problem.settings.batch)))
            for batch in batches[self.batch :]:
                worth = self._take_step(batch)
                self.total += worth * len(batch)
                self.batch, self.step = self.batch + 1, self.step + 1
                after(self, worth)
            self.means.append(self.total / len(order))
            self.epoch, self.batch, self.total = self.epoch + 1, 0, 0.0
            if self.means[-1] > EXPLODED * max(1.0, self.first):
                raise _Diverged
        return self.means

    def _take_step(self, batch: np.ndarray) -> float:
        """The loss of a batch, and a step down its gradient."""
        problem, settings = self.problem, self.problem.settings
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * _height(self.step, problem.steps, settings.warm_up)
        self.optimiser.zero_grad(set_to_none=True)
        worth = 0.0
        for windows in problem.material.alike(problem.material.windows_each(batch), settings.batch):
            owners = problem.material.example[windows]
            scores = problem.learner.scores(problem.material.read(windows))
            each = problem.loss.each(problem.loss.outputs(scores.float()), problem.truth[owners].to(self.device))
            counted = torch.from_numpy((problem.weights[owners] * problem.material.share[windows]).astype(np.float32)).to(self.device)
            # windows of other shapes go through by themselves: their gradients add up to those of the whole batch
            part = (each * counted).sum() / len(batch)
            part.backward()
            worth += float(part.detach())
        length = torch.nn.utils.clip_grad_norm_(self.trained, settings.clip)
        if not math.isfinite(worth) or not bool(torch.isfinite(length)):
            raise _Diverged
        if not self.step:
            self.first = worth
        self.optimiser.step()
        return worth

    def saved(self) -> Saved:
        """Everything, in tensors that later steps change: to be written at once."""
        tensors = {f"{MODULE}{name}": tensor for name, tensor in self.problem.learner.moving().items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"{OPTIMISER}{number}.{name}": value for name, value in state.items()}
        tensors["random"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return Saved(tensors, {name: getattr(self, name) for name in COUNTED} | {"means": list(self.means)})

    def take_up(self, saved: Saved) -> None:
        """Go on from there. The module is at the training's start, the random streams are this training's own."""
        for name in COUNTED:
            setattr(self, name, saved.facts[name])
        self.problem.learner.move({name.removeprefix(MODULE): t for name, t in saved.tensors.items() if name.startswith(MODULE)})
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in saved.tensors.items():
            if name.startswith(OPTIMISER):
                number, _, field = name.removeprefix(OPTIMISER).partition(".")
                states.setdefault(int(number), {})[field] = tensor
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": states})
        torch.set_rng_state(saved.tensors["random"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(saved.tensors["random.cuda"].cpu(), self.device)


MODULE, OPTIMISER = "module.", "optimiser."
"""Beginnings of names of saved tensors."""

COUNTED = ("step", "epoch", "batch", "total", "means", "first", "restart")
"""What is saved of a course besides tensors."""


def train(
    problem: Problem,
    watch: Callable[[int, float], None] = lambda step, loss: None,
    *,
    saved: Saved | None = None,
    after: Callable[[Course], None] = lambda course: None,
) -> Trained:
    """Train, from the learner's present weights. Leaves the module trained, in evaluation mode.

    `watch` hears of each step and its loss; `after` may save the course, and a training that takes up such a `saved` one, from the same
    present weights, ends in the same bits. So do the same seed, threads and versions. RunError when the loss is no finite number, or
    explodes, at any rate that was tried: each time the training goes back to its start, and its whole schedule is a third as high.
    """
    learner = problem.learner
    start = learner.state()
    device = next(learner.module.parameters()).device

    def each(course: Course, loss: float) -> None:
        watch(course.step, loss)
        after(course)

    for restart in range(saved.facts["restart"] if saved else 0, RETRIES + 1):
        try:
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(problem.seed)
                course = Course(problem, restart)
                if saved:
                    course.take_up(saved)
                return Trained(course.run(each), restart)
        except _Diverged:
            learner.restore(start)
            saved = None
        finally:
            learner.eval_mode()
    raise RunError(
        f"training does not hold: the loss is no finite number or explodes even at {3.0**-RETRIES:.3f} of the learning rates",
        move="--train head, or fewer layers",
    )


def _groups(learner: Learner, settings: Settings, slower: float) -> list[dict[str, object]]:
    """Parameters with their rates; weights decay, biases and scales do not."""
    named = dict(learner.module.named_parameters(remove_duplicate=False))
    groups: list[dict[str, object]] = []
    for names, rate in learner.groups:
        for decays in (True, False):
            own = [named[n] for n in names if (named[n].ndim > 1) == decays]
            if own:
                groups.append({"params": own, "lr": rate * slower, "weight_decay": settings.weight_decay if decays else 0.0})
    return groups


def _height(step: int, steps: int, warm_up: float) -> float:
    """The learning rate of a step as a part of the largest one: a line up, a cosine down to 0."""
    rising = max(1, round(warm_up * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def judge(learner: Learner, material: Material, examples: np.ndarray) -> np.ndarray:
    """Scores (examples, outputs) float64: the mean of each example's windows, added up in their order."""
    learner.eval_mode()
    windows = material.windows_of(examples)
    found: dict[int, np.ndarray] = {}
    with torch.inference_mode():
        for part in material.alike(windows, JUDGED_AT_ONCE):
            scores = learner.scores(material.read(part)).double().cpu().numpy()
            found.update(zip(part.tolist(), scores, strict=True))
    places = {int(e): i for i, e in enumerate(examples)}
    out = np.zeros((len(examples), len(next(iter(found.values()))) if found else 0))
    for w in windows.tolist():
        out[places[int(material.example[w])]] += found[w] * material.share[w]
    return out


def rates_by_depth(
    groups: Sequence[tuple[int, Sequence[str]]], settings: Settings, adapters: Collection[str] = ()
) -> Iterator[tuple[Sequence[str], float]]:
    """(names, learning rate) of groups of parameters by their depth: 0 is the head, 1 the last block, and so on. Parameters of `adapters`
    have a rate of their own.
    """
    for depth, names in groups:
        if own := [name for name in names if name not in adapters]:
            yield own, settings.rate * settings.decay ** max(0, depth - 1)
    if low := [name for _, names in groups for name in names if name in adapters]:
        yield low, settings.rate * settings.adapters
