"""One plain loop: batches of windows through a module, a step of AdamW each, from a start to the end of a schedule."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regraft.errors import RunError
from regraft.features.material import Look, Looks, Material, as_they_are
from regraft.strategy.settings import Settings
from regraft.training.lengths import WORTH_OF_A_STEP, Window, at_one_length, in_two, length_of, windows_apart
from regraft.training.losses import Loss
from regraft.training.mixing import Mix, drawn_mix

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
    mixed        the same as `scores`, of images that are mixed first; None: what comes in are not images
    new          names of parameters that are not pretrained: the head's
    pad          windows of several lengths -> the same at one, where they are what comes into the network; None: each shape goes by itself
    """

    module: nn.Module
    scores: Callable[[Mapping[str, np.ndarray]], Tensor]
    train_mode: Callable[[], object]
    eval_mode: Callable[[], object]
    groups: Sequence[tuple[Sequence[str], float]]
    output: nn.Linear
    mixed: Callable[[Mapping[str, np.ndarray], Mix], Tensor] | None = None
    new: Collection[str] = ()
    pad: Callable[[Sequence[Window]], Sequence[Window]] | None = None

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
    are those that are learnt from. `inner` ones among the others tell when to stop (`patience`); `until` is the epoch after which training
    stops whatever they say, its schedule being that of all epochs.
    """

    learner: Learner
    material: Material
    truth: Tensor
    weights: np.ndarray
    examples: np.ndarray
    loss: Loss
    settings: Settings
    seed: int
    inner: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    until: int | None = None
    height: float | None = None
    """What the settings' rate is multiplied by, in place of what a range test would find."""
    parts_at: Mapping[int, int] = field(default_factory=dict)
    """Steps at which memory ran out before, and in how many parts a batch is computed from there on."""
    divided: Callable[[int, int], None] = lambda step, parts: None
    """Hears of such a step before it is taken again."""
    looks: Looks | None = None
    """What each epoch reads, where that is not the examples as they are; those that tell when to stop are always seen as they are."""
    length: int | None = None
    """Steps, where a budget takes fewer than the settings say: the schedule is that of so many."""
    bends: list[Bend] = field(default_factory=list["Bend"])
    """Where the schedule was shortened on the way."""
    shorter: Callable[[int, int, int], int | None] | None = None
    """(restart, step, end) -> a nearer end, recorded before it is acted on, or None; asked after every step."""

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return next(self.learner.module.parameters()).device

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        whole = self.settings.steps(len(self.examples))
        return whole if self.length is None else min(self.length, whole)


@dataclass(frozen=True)
class Trained:
    """How a training went: mean loss of each epoch, how often it had to begin again, in how many parts a batch was computed in the end,
    the epoch whose weights were kept, the learning rate, and how many steps were taken.
    """

    losses: list[float]
    restarts: int
    parts: int
    epoch: int
    lr: float
    steps: int


@dataclass(frozen=True)
class Saved:
    """A training on its way, as tensors and plain data: what `Course` was when it was saved."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class _Diverged(ArithmeticError):
    pass


@dataclass(frozen=True)
class Bend:
    """A schedule that was shortened after so many steps of a restart: it ends at step `end`."""

    restart: int
    step: int
    end: int


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
    height    what the settings' rate is multiplied by
    parts     in how many parts a batch is computed
    best      the least loss of inner examples, after `best_epoch` epochs
    mean      the running mean of what moves, by names
    kept      what moves, as it was after the best epoch
    """

    def __init__(self, problem: Problem, restart: int = 0, height: float = 1.0, parts: int = 1) -> None:
        self.problem, self.restart, self.height, self.parts = problem, restart, height, max(parts, problem.settings.accumulate)
        self.step = self.epoch = self.batch = 0
        self.total, self.first = 0.0, math.nan
        self.means: list[float] = []
        self.device = problem.device
        self.optimiser = torch.optim.AdamW(_groups(problem.learner, problem.settings, height * 3.0**-restart), fused=True)
        self.peaks = [group["lr"] for group in self.optimiser.param_groups]
        self.trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.best, self.best_epoch = math.inf, 0
        self._looks, self._look_of = problem.looks or as_they_are(problem.material), -1
        self.kept: dict[str, Tensor] = {}
        floating = {n: t for n, t in problem.learner.moving().items() if t.is_floating_point()}
        self.mean = {name: tensor.clone() for name, tensor in floating.items()} if problem.settings.ema else {}
        self.anchors = [[p.detach().clone() for p in group["params"]] for group in self.optimiser.param_groups if problem.settings.l2_sp]

    def run(self, after: Callable[[Course, float], None]) -> list[float]:
        """From here to the end; `after` hears of each step's loss. The losses of all epochs."""
        problem = self.problem
        while not self.ended:
            problem.learner.train_mode()
            batches = _batches(problem, self.epoch)
            for batch in batches[self.batch :]:
                worth = self._take_step(batch)
                self.total += worth * len(batch)
                self.batch, self.step = self.batch + 1, self.step + 1
                after(self, worth)
                if self._at_the_end():
                    break
            self.means.append(self.total / sum(map(len, batches[: self.batch])))
            self.epoch, self.batch, self.total = self.epoch + 1, 0, 0.0
            if self.means[-1] > EXPLODED * max(1.0, self.first):
                raise _Diverged
            if len(problem.inner):
                self._look_at_inner()
        result = self._result()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in result.values() if tensor.is_floating_point()):
            raise _Diverged
        problem.learner.move(result)
        return self.means

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        settings = self.problem.settings
        waited = len(self.problem.inner) and settings.patience and self.epoch - self.best_epoch >= settings.patience
        over = self.problem.length is not None and self.step >= self.end
        return self.epoch >= min(settings.epochs, self.problem.until or settings.epochs) or bool(waited) or over

    @property
    def bends(self) -> list[Bend]:
        """Where the schedule was shortened, up to the present step."""
        return [bend for bend in self.problem.bends if bend.restart == self.restart and bend.step <= self.step]

    @property
    def end(self) -> int:
        """The step at which the schedule ends."""
        return min([self.problem.steps, *(bend.end for bend in self.bends)])

    def _at_the_end(self) -> bool:
        """Whether the budget ends the training here, in the middle of an epoch."""
        problem = self.problem
        if problem.length is None:
            return False
        if problem.shorter and (end := problem.shorter(self.restart, self.step, self.end)) is not None:
            problem.bends.append(Bend(self.restart, self.step, end))
        return self.step >= self.end

    def _result(self) -> dict[str, Tensor]:
        """What the training gives: the weights after the best epoch, the mean of the weights, or the last ones."""
        return {**self.problem.learner.moving(), **self.mean, **self.kept}

    def _look_at_inner(self) -> None:
        """The loss of the inner examples, and what moves where it is the least so far."""
        problem, learner = self.problem, self.problem.learner
        last = {name: tensor.clone() for name, tensor in learner.moving().items()}
        learner.move({**last, **self.mean})
        outputs = problem.loss.outputs(torch.from_numpy(judge(learner, problem.material, problem.inner)))
        each = problem.loss.each(outputs, problem.truth[problem.inner]).double().numpy()
        now = float(np.average(each, weights=problem.weights[problem.inner] + 1e-12))
        if now < self.best:
            self.best, self.best_epoch = now, self.epoch
            self.kept = {name: tensor.clone() for name, tensor in learner.moving().items()}
        learner.move(last)

    def _take_step(self, batch: np.ndarray) -> float:
        """The loss of a batch, and a step down its gradient."""
        problem, settings = self.problem, self.problem.settings
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * bent(_height, self.step, problem.steps, settings.warm_up, self.bends)
        self.parts = max(self.parts, problem.parts_at.get(self.step, 1))
        worth = self._gradient(batch)
        length = torch.nn.utils.clip_grad_norm_(self.trained, settings.clip)
        if not math.isfinite(worth) or not bool(torch.isfinite(length)):
            raise _Diverged
        if not self.step:
            self.first = worth
        self.optimiser.step()
        self._pull()
        if self.mean:
            # the first steps count little (as in TensorFlow's ExponentialMovingAverage)
            keeps = min(settings.ema, (2 + self.step) / (11 + self.step))
            now = problem.learner.moving()
            for name, tensor in self.mean.items():
                tensor.lerp_(now[name], 1 - keeps)
        return worth

    def _gradient(self, batch: np.ndarray) -> float:
        """The loss of a batch; its gradient is left with the parameters. Where memory runs out, it is computed in twice as many parts."""
        learner = self.problem.learner
        while True:
            random = _random_state(self.device)
            buffers = [(buffer, buffer.clone()) for buffer in learner.module.buffers()] if self.problem.settings.adapt else []
            self.optimiser.zero_grad(set_to_none=True)
            try:
                return sum(self._part(windows, batch) for windows in self._parts(batch))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or self.parts >= self.problem.settings.batch:
                    raise
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise RunError(
                    "a batch norm cannot follow one example at a time: there is no variance to divide by",
                    expected="at least two examples in each part of a batch",
                    move="a larger batch (--set batch=16), fewer parts of it (--set accumulate=1), or kept statistics (--set adapt=false)",
                ) from None
            # outside of the handler, which holds what was computed
            self.optimiser.zero_grad(set_to_none=True)
            _set_random_state(random, self.device)
            for buffer, held in buffers:
                buffer.copy_(held)
            self.parts = min(2 * self.parts, self.problem.settings.batch)
            self.problem.divided(self.step, self.parts)

    @property
    def look(self) -> Look:
        """What the present epoch reads."""
        if self._look_of != self.epoch:
            self._look, self._look_of = self._looks(self.epoch, self.problem.examples), self.epoch
        return self._look

    def _parts(self, batch: np.ndarray) -> Iterator[np.ndarray]:
        material, most = self.look.material, math.ceil(self.problem.settings.batch / self.parts)
        windows = material.windows_each(self.look.at[batch])
        if self.problem.learner.pad is None:
            yield from material.alike(windows, most)
            return
        for own in in_two(np.array([length_of(w) for w in windows_apart(material, windows)]), WORTH_OF_A_STEP):
            yield from (windows[own[i : i + most]] for i in range(0, len(own), most))

    def _read(self, windows: np.ndarray) -> Mapping[str, np.ndarray]:
        pad = self.problem.learner.pad
        return self.look.material.read(windows) if pad is None else at_one_length(pad(windows_apart(self.look.material, windows)))

    def _part(self, windows: np.ndarray, batch: np.ndarray) -> float:
        """The part that some windows have in the loss of a batch; what it adds to the gradient is added."""
        problem, settings = self.problem, self.problem.settings
        mix = None
        if settings.mixup or settings.cutmix:
            mix = drawn_mix(len(windows), settings.mixup, settings.cutmix, [problem.seed, self.step, int(windows[0])])
        arrays = self._read(windows)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            if mix is None:
                scores = problem.learner.scores(arrays)
            else:
                assert problem.learner.mixed is not None
                scores = problem.learner.mixed(arrays, mix)
        outputs = problem.loss.outputs(scores.float())
        counted = self._counted(outputs, windows)
        if mix is not None:
            own = mix.exact(*next(iter(arrays.values())).shape[1:3])
            counted = own * counted + (1 - own) * self._counted(outputs, windows[mix.partner.numpy()])
        # windows of other shapes go through by themselves: their gradients add up to those of the whole batch
        part = counted.sum() / len(batch)
        part.backward()
        return float(part.detach())

    def _counted(self, outputs: Tensor, windows: np.ndarray) -> Tensor:
        """The losses (windows,) of outputs against what is true of windows, each times what it counts."""
        problem, material = self.problem, self.look.material
        owners = self.look.owner[material.example[windows]]
        each = problem.loss.each(outputs, problem.truth[owners].to(self.device))
        if smoothing := problem.settings.smoothing:
            assert problem.loss.even is not None
            each = (1 - smoothing) * each + smoothing * problem.loss.even(outputs)
        share = problem.weights[owners] * material.share[windows]
        return each * torch.from_numpy(share.astype(np.float32)).to(self.device)

    @torch.no_grad()
    def _pull(self) -> None:
        """L2-SP (Li et al. 2018) as AdamW takes weight decay: beside the gradient, by rate x strength (RecAdam, Chen et al. 2020)."""
        settings, new = self.problem.settings, set(self.problem.learner.new)
        if not settings.l2_sp:
            return
        for group, anchors in zip(self.optimiser.param_groups, self.anchors, strict=True):
            for name, parameter, anchor in zip(group["names"], group["params"], anchors, strict=True):
                if name in new:
                    parameter.mul_(1 - min(1.0, group["lr"] * settings.l2_sp_head))
                else:
                    parameter.lerp_(anchor, min(1.0, group["lr"] * settings.l2_sp))

    @property
    def lr(self) -> float:
        """The learning rate of the last step, of the head and the last block."""
        settings = self.problem.settings
        now = self.optimiser.param_groups[0]["lr"] / self.peaks[0]
        return settings.lr * self.height * 3.0**-self.restart * now

    def saved(self) -> Saved:
        """Everything, in tensors that later steps change: to be written at once."""
        tensors = {f"{MODULE}{name}": tensor for name, tensor in self.problem.learner.moving().items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"{OPTIMISER}{number}.{name}": value for name, value in state.items()}
        tensors |= {f"{MEAN}{name}": tensor for name, tensor in self.mean.items()}
        tensors |= {f"{KEPT}{name}": tensor for name, tensor in self.kept.items()}
        tensors["random"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return Saved(tensors, {name: getattr(self, name) for name in COUNTED} | {"means": list(self.means)})

    def take_up(self, saved: Saved) -> None:
        """Go on from there. The module is at the training's start, the random streams are this training's own."""
        for name in COUNTED:
            setattr(self, name, saved.facts[name])
        self.problem.learner.move(_below(saved.tensors, MODULE))
        self.mean, self.kept = (
            {name: tensor.to(self.device) for name, tensor in _below(saved.tensors, prefix).items()} for prefix in (MEAN, KEPT)
        )
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in saved.tensors.items():
            if name.startswith(OPTIMISER):
                number, _, field = name.removeprefix(OPTIMISER).partition(".")
                states.setdefault(int(number), {})[field] = _laid_out(tensor, self.trained[int(number)])
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": states})
        torch.set_rng_state(saved.tensors["random"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(saved.tensors["random.cuda"].cpu(), self.device)


def _laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor in memory as another of its shape: the fused optimiser goes through both in the order of memory, whatever their strides."""
    return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.shape == like.shape else tensor


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


MODULE, OPTIMISER, MEAN, KEPT = "module.", "optimiser.", "mean.", "kept."
"""Beginnings of names of saved tensors."""

COUNTED = ("step", "epoch", "batch", "total", "means", "first", "restart", "height", "parts", "best", "best_epoch")
"""What is saved of a course besides tensors."""


def train(
    problem: Problem,
    watch: Callable[[int, float, float], None] = lambda step, loss, lr: None,
    *,
    saved: Saved | None = None,
    after: Callable[[Course], None] = lambda course: None,
) -> Trained:
    """Train, from the learner's present weights. Leaves the module trained, in evaluation mode.

    `watch` hears of each step, its loss and its learning rate; `after` may save the course, and a training that takes up such a `saved`
    one, from the same present weights, ends in the same bits. So do the same seed, threads and versions. RunError when the loss is no
    finite number, or explodes, at any rate that was tried: each time the training goes back to its start, and its whole schedule is a third
    as high.
    """
    learner = problem.learner
    start = learner.state()
    device = problem.device

    def each(course: Course, loss: float) -> None:
        watch(course.step, loss, course.lr)
        after(course)

    height, parts = (saved.facts["height"], saved.facts["parts"]) if saved else (1.0, 1)
    if problem.settings.find and not saved:
        height = found_height(problem) if problem.height is None else problem.height
    for restart in range(saved.facts["restart"] if saved else 0, RETRIES + 1):
        course = Course(problem, restart, height, parts)
        try:
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(problem.seed)
                if saved:
                    course.take_up(saved)
                losses = course.run(each)
                epoch = course.best_epoch or course.epoch
                return Trained(losses, restart, course.parts, epoch, problem.settings.lr * height * 3.0**-restart, course.step)
        except _Diverged:
            learner.restore(start)
            saved, parts = None, course.parts
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
            own = [n for n in names if (named[n].ndim > 1) == decays]
            if own:
                decay = settings.weight_decay if decays else 0.0
                groups.append({"params": [named[n] for n in own], "names": own, "lr": rate * slower, "weight_decay": decay})
    return groups


def _order(problem: Problem, epoch: int) -> np.ndarray:
    """The examples of an epoch: each once, in an order by chance; or as many, drawn so that every class comes equally often."""
    rng = np.random.default_rng([problem.seed, epoch])
    if not problem.settings.balanced:
        return rng.permutation(problem.examples)
    classes = problem.truth[problem.examples].numpy()
    share = 1 / np.bincount(classes)[classes]
    return rng.choice(problem.examples, len(problem.examples), p=share / share.sum())


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in str(error)


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


RANGE = 10.0
"""The range test goes from so many times less than the settings' rate to as many times more."""

RANGE_STEPS = 40

SAFETY = 3.0
"""How many times less than the rate of the least loss is taken: fastai takes 10 of a network with a random head."""


def found_height(problem: Problem) -> float:
    """What to multiply the settings' rate by: a range test (Smith 2017). Steps at rates that rise from one to the next; a third of the rate
    where the smoothed loss was least. The module is left at its start, in evaluation mode.
    """
    learner = problem.learner
    start, losses = learner.state(), list[float]()
    smooth = 0.0
    with torch.random.fork_rng(devices=[problem.device] if problem.device.type == "cuda" else []):
        torch.manual_seed(problem.seed)
        course = Course(problem)
        peaks = [*course.peaks]
        heights = np.geomspace(1 / RANGE, SAFETY * RANGE, RANGE_STEPS)
        learner.train_mode()
        batches = [b for e in range(RANGE_STEPS) for b in _batches(problem, e)] if len(problem.examples) else []
        try:
            for step, height in enumerate(heights):
                # the schedule has no part in it
                course.step = max(1, round(problem.settings.warm_up * problem.steps))
                course.peaks = [peak * height for peak in peaks]
                smooth = 0.8 * smooth + 0.2 * course._take_step(batches[step])
                losses.append(smooth / (1 - 0.8 ** (step + 1)))
                if losses[-1] > 4 * min(losses):
                    break
        except _Diverged:
            pass
    learner.restore(start)
    learner.eval_mode()
    least = int(np.argmin(losses)) if losses else 0
    return float(np.clip(heights[least] / SAFETY, 1 / RANGE, RANGE))


def seconds_of_step(problem: Problem) -> float:
    """What a step takes here, without moving anything: the faster of two, after one that warms up."""
    learner = problem.learner
    before = {name: tensor.clone() for name, tensor in learner.moving().items()}
    spent: list[float] = []
    learner.train_mode()
    try:
        with torch.random.fork_rng(devices=[problem.device] if problem.device.type == "cuda" else []):
            course = Course(problem)
            batch = _batches(problem, 0)[0]
            for _ in range(3):
                begun = time.perf_counter()
                course._gradient(batch)
                if problem.device.type == "cuda":
                    torch.cuda.synchronize(problem.device)
                spent.append(time.perf_counter() - begun)
            course.optimiser.zero_grad(set_to_none=True)
    finally:
        learner.move(before)
        learner.eval_mode()
    return min(spent[1:])


def _batches(problem: Problem, epoch: int) -> list[np.ndarray]:
    """Parts of nearly equal size: a last batch of one example would have no variance to normalise by."""
    order = _order(problem, epoch)
    return np.array_split(order, max(1, math.ceil(len(order) / problem.settings.batch)))


def _height(step: int, steps: int, warm_up: float) -> float:
    """The learning rate of a step as a part of the largest one: a line up, a cosine down to 0."""
    rising = max(1, round(warm_up * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def bent(height: Callable[[int, int, float], float], step: int, steps: int, warm_up: float, bends: Sequence[Bend]) -> float:
    """The height of a schedule that was shortened: from where it then was it falls along a cosine to 0 at the new end."""
    if not bends:
        return height(step, steps, warm_up)
    last = bends[-1]
    return bent(height, last.step, steps, warm_up, bends[:-1]) * falling(step - last.step, last.end - last.step)


def falling(step: int, steps: int) -> float:
    """A cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))


def seconds_of_whole_step(problem: Problem, enough: float, now: Callable[[], float]) -> float:
    """What a step takes here with everything that belongs to it; nothing moves but random streams that are put back. The first one, which
    also warms up, counts alone where it takes `enough` seconds.
    """
    learner = problem.learner
    before = {name: tensor.clone() for name, tensor in learner.moving().items()}
    spent: list[float] = []
    learner.train_mode()
    try:
        with torch.random.fork_rng(devices=[problem.device] if problem.device.type == "cuda" else []):
            course = Course(problem)
            course.peaks = [0.0] * len(course.peaks)
            for batch in _batches(problem, 0)[:4] * 4:
                begun = now()
                course._take_step(batch)
                if problem.device.type == "cuda":
                    torch.cuda.synchronize(problem.device)
                spent.append(now() - begun)
                if spent[0] >= enough or len(spent) == 4:
                    break
    except _Diverged:
        pass
    finally:
        learner.move(before)
        learner.eval_mode()
    return sum(spent[1:]) / len(spent[1:]) if len(spent) > 1 else sum(spent)


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
            yield own, settings.lr * settings.layer_decay ** max(0, depth - 1)
    if low := [name for _, names in groups for name in names if name in adapters]:
        yield low, settings.lr * settings.adapters
