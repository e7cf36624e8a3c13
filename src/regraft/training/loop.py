"""One plain loop: batches of windows through a module, a step of AdamW each, from a start to the end of a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from regraft.errors import RunError
from regraft.features.material import Material
from regraft.strategy.settings import Settings
from regraft.training.losses import Loss

RETRIES = 3
"""How often a training whose loss is no finite number begins again, at a third of the rates."""

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


@dataclass(frozen=True)
class Trained:
    """How a training went: mean loss of each epoch, and how often it had to begin again."""

    losses: list[float]
    restarts: int = 0


class _Diverged(ArithmeticError):
    pass


def train(
    learner: Learner,
    material: Material,
    truth: Tensor,
    weights: np.ndarray,
    examples: np.ndarray,
    loss: Loss,
    settings: Settings,
    seed: int,
    watch: Callable[[int, float], None] = lambda step, loss: None,
) -> Trained:
    """Train on some examples; `truth` is the loss's, `weights` (n,) count examples. Leaves the module trained, in evaluation mode.

    The same seed, threads and versions give the same bits. RunError when the loss is not finite at any rate that was tried.
    """
    start = learner.state()
    for restart in range(RETRIES + 1):
        try:
            losses = _train(learner, material, truth, weights, examples, loss, settings, 3.0**-restart, seed, watch)
            return Trained(losses, restart)
        except _Diverged:
            learner.restore(start)
        finally:
            learner.eval_mode()
    raise RunError(
        f"training does not hold: the loss is no finite number even at {3.0**-RETRIES:.3f} of the learning rates",
        move="--train head, or fewer layers",
    )


def _train(
    learner: Learner,
    material: Material,
    truth: Tensor,
    weights: np.ndarray,
    examples: np.ndarray,
    loss: Loss,
    settings: Settings,
    slower: float,
    seed: int,
    watch: Callable[[int, float], None],
) -> list[float]:
    device = next(learner.module.parameters()).device
    optimiser = torch.optim.AdamW(_groups(learner, settings, slower), fused=True)
    steps = settings.steps(len(examples))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _height(step, steps, settings.warm_up))
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    means: list[float] = []
    step = 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for epoch in range(settings.epochs):
            learner.train_mode()
            order = np.random.default_rng([seed, epoch]).permutation(examples)
            total = 0.0
            # parts of nearly equal size: a last batch of one example would have no variance to normalise by
            for batch in np.array_split(order, max(1, math.ceil(len(order) / settings.batch))):
                optimiser.zero_grad(set_to_none=True)
                worth = 0.0
                for windows in material.alike(material.windows_each(batch), settings.batch):
                    owners = material.example[windows]
                    scores = learner.scores(material.read(windows))
                    each = loss.each(loss.outputs(scores.float()), truth[owners].to(device))
                    counted = torch.from_numpy((weights[owners] * material.share[windows]).astype(np.float32)).to(device)
                    # windows of other shapes go through by themselves: their gradients add up to those of the whole batch
                    part = (each * counted).sum() / len(batch)
                    part.backward()
                    worth += float(part.detach())
                length = torch.nn.utils.clip_grad_norm_(trained, settings.clip)
                if not math.isfinite(worth) or not bool(torch.isfinite(length)):
                    raise _Diverged
                optimiser.step()
                schedule.step()
                total += worth * len(batch)
                step += 1
                watch(step, worth)
            means.append(total / len(order))
    return means


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
