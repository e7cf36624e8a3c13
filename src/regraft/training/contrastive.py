"""Contrastive fine-tuning: an encoder learns to put examples of one class together; a convex output layer on what it then gives.

Tunstall et al. 2022 (SetFit, arXiv 2209.11055) tune a sentence encoder on sampled pairs of texts and fit a logistic regression to its
embeddings. Here a step encodes each example of a batch once and compares all pairs among them, with the supervised contrastive loss
(Khosla et al. 2020, arXiv 2004.11362, L_out): n encodings for n (n - 1) / 2 pairs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from regraft.errors import RunError
from regraft.features.material import Material
from regraft.strategy.contrastive import Contrast
from regraft.training.deeper import Judged, State, Tick, Watch
from regraft.training.design import Design
from regraft.training.lengths import in_two, length_of, windows_apart
from regraft.training.loop import RETRIES, Bend, bent
from regraft.training.losses import Loss
from regraft.training.pacing import Pacing
from regraft.training.probe import LIMIT, loose
from regraft.training.solve import Problems, minimise

TOGETHER = 64
"""Examples that are encoded together when nothing is trained."""

Layer = tuple[np.ndarray, np.ndarray]
"""(weight (classes, d), bias (classes,))"""


@dataclass(frozen=True)
class Encoder:
    """What is tuned.

    module      gives rows of features; what trains in it has `requires_grad`
    rows        examples' numbers -> their features (examples, d), in the same order
    train_mode  puts what trains in training mode and everything else in evaluation mode
    bfloat16    whether products are of 16 bits while training
    """

    module: nn.Module
    rows: Callable[[np.ndarray], Tensor]
    train_mode: Callable[[], object]
    bfloat16: bool = False

    def state(self) -> dict[str, Tensor]:
        """A copy of every tensor."""
        return {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def features(self, examples: np.ndarray) -> np.ndarray:
        """Features (examples, d) float32 in use."""
        self.module.eval()
        with torch.inference_mode():
            parts = [self.rows(examples[i : i + TOGETHER]).float().cpu() for i in range(0, len(examples), TOGETHER)]
        return torch.cat(parts).numpy()


Windows = Sequence[Mapping[str, np.ndarray]]


def reader(
    material: Material,
    run: Callable[[Windows], Tensor],
    pad: Callable[[Windows], Windows] | None,
) -> Callable[[np.ndarray], Tensor]:
    """Examples' numbers -> their features (examples, d): the mean of each one's windows by their shares. `run` gives features of windows of
    one shape; with `pad` windows of several lengths become those, else each shape goes through by itself.
    """

    def rows(examples: np.ndarray) -> Tensor:
        windows = material.windows_each(examples)
        shapes = [np.flatnonzero(material.kind[windows] == kind) for kind in np.unique(material.kind[windows])]
        each = windows_apart(material, windows)
        groups = shapes if pad is None else in_two(np.array([length_of(w) for w in each]))
        parts = [run(own if pad is None else pad(own)) for own in ([each[i] for i in group] for group in groups)]
        found = torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(groups)))]
        if len(windows) == len(examples):
            return found
        share = torch.from_numpy(material.share[windows]).to(found)[:, None]
        places = np.repeat(np.arange(len(examples)), [int((material.example == e).sum()) for e in examples])
        return torch.zeros(len(examples), found.shape[1]).to(found).index_add(0, torch.from_numpy(places).to(found.device), found * share)

    return rows


def usual_length(material: Material) -> int:
    """The length of windows that nine of ten do not exceed."""
    kinds, counts = np.unique(material.kind, return_counts=True)
    first = [int(np.flatnonzero(material.kind == kind)[0]) for kind in kinds]
    lengths = np.array([length_of(w) for w in windows_apart(material, np.array(first))])
    order = np.argsort(lengths)
    return int(lengths[order][np.searchsorted(np.cumsum(counts[order]), 0.9 * counts.sum())])


class _Diverged(ArithmeticError):
    pass


def contrastive_loss(rows: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss of rows (n, d) with labels (n,): of each row the mean, over the others of its class, of minus the log
    of its share in the exponentials of all similarities (cosines by `temperature`). Rows alone in their class only push; without any pair
    it is 0.
    """
    unit = nn.functional.normalize(rows.float(), dim=1)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    similar = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))
    share = (similar - similar.logsumexp(1, keepdim=True)).masked_fill(itself, 0.0)
    same = (labels[:, None] == labels[None]) & ~itself
    partners = same.sum(1)
    each = -(share * same).sum(1)[partners > 0] / partners[partners > 0]
    return each.mean() if len(each) else rows.sum() * 0.0


def balanced_batches(labels: np.ndarray, size: int, seed: int) -> Iterator[np.ndarray]:
    """Places of `labels`, at most `size` different ones at a time, without end: all of them where that is no more, else of each class
    equally many, at least two where it has them; where that is too much, of some classes in turn. Each class goes through its examples
    before one comes again.
    """
    if len(labels) <= size:
        while True:
            yield np.arange(len(labels))
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    queues: list[list[int]] = [[] for _ in members]
    turns: list[int] = []
    while True:
        batch: list[int] = []
        taken = 0
        while len(batch) < size and taken < len(members):
            if not turns:
                turns = random.permutation(len(members)).tolist()
            c = turns.pop()
            taken += 1
            share = max(2, round(size / len(members)))
            for _ in range(min(share, len(members[c]), size - len(batch))):
                queues[c] = queues[c] or random.permutation(members[c]).tolist()
                batch.append(queues[c].pop())
        yield np.unique(batch)


def contrast(
    encoder: Encoder,
    labels: np.ndarray,
    examples: np.ndarray,
    settings: Contrast,
    seed: int,
    watch: Callable[[int, float, float], None],
    bends: list[Bend] | None = None,
    shorter: Callable[[int, int, int], int | None] | None = None,
) -> int:
    """Tune on some examples with their labels (examples,); says how often it had to begin again at a third of the rate.

    The same seed, threads and versions give the same bits. RunError when the loss is not finite at any rate that was tried. `bends` and
    `shorter` are those of a `Problem`.
    """
    bends = [] if bends is None else bends
    start = encoder.state()
    for restart in range(RETRIES + 1):
        try:
            _contrast(encoder, labels, examples, settings, restart, seed, watch, bends, shorter)
            return restart
        except _Diverged:
            encoder.module.load_state_dict(start)
        finally:
            encoder.module.eval()
    raise RunError(
        f"training does not hold: the loss is no finite number even at {3.0**-RETRIES:.3f} of the learning rate", move="--train head"
    )


def _contrast(
    encoder: Encoder,
    labels: np.ndarray,
    examples: np.ndarray,
    settings: Contrast,
    restart: int,
    seed: int,
    watch: Callable[[int, float, float], None],
    bends: list[Bend],
    shorter: Callable[[int, int, int], int | None] | None,
) -> None:
    trained = [p for p in encoder.module.parameters() if p.requires_grad]
    device = trained[0].device
    groups = [
        {"params": [p for p in trained if (p.ndim > 1) == decays], "weight_decay": settings.weight_decay if decays else 0.0}
        for decays in (True, False)
    ]
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.rate * 3.0**-restart, fused=True)
    until = lambda step: [bend for bend in bends if bend.restart == restart and bend.step <= step]
    shape = lambda step, steps, warm_up: _height(step, settings)
    height = lambda step: bent(shape, step, settings.steps, settings.warm_up, until(step))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, height)
    known = torch.from_numpy(labels).to(device)
    batches = balanced_batches(labels, settings.batch, seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        encoder.train_mode()
        step, end = 0, settings.steps
        while step < end:
            batch = next(batches)
            optimiser.zero_grad(set_to_none=True)
            loss = _loss_of(encoder, batch, examples, known, settings)
            loss.backward()
            length = nn.utils.clip_grad_norm_(trained, settings.clip)
            value = float(loss.detach())
            if not math.isfinite(value) or not bool(torch.isfinite(length)):
                raise _Diverged
            optimiser.step()
            watch(step + 1, value, optimiser.param_groups[0]["lr"])
            schedule.step()
            step += 1
            if shorter and (nearer := shorter(restart, step, end)) is not None:
                bends.append(Bend(restart, step, nearer))
            end = min([settings.steps, *(bend.end for bend in until(step))])


def _loss_of(encoder: Encoder, batch: np.ndarray, examples: np.ndarray, known: Tensor, settings: Contrast) -> Tensor:
    with torch.autocast(known.device.type, torch.bfloat16, enabled=encoder.bfloat16):
        rows = encoder.rows(examples[batch])
    return contrastive_loss(rows, known[torch.from_numpy(batch).to(known.device)], settings.temperature)


def seconds_of_step(encoder: Encoder, task: Task, settings: Contrast, seed: int, now: Callable[[], float]) -> float:
    """What a step takes here, without moving anything: the second of two, as the first warms up."""
    trained = [p for p in encoder.module.parameters() if p.requires_grad]
    known = torch.from_numpy(task.labels).to(trained[0].device)
    batches, spent = balanced_batches(task.labels, settings.batch, seed), 0.0
    encoder.train_mode()
    with torch.random.fork_rng(devices=[known.device] if known.device.type == "cuda" else []):
        for _ in range(2):
            begun = now()
            _loss_of(encoder, next(batches), task.examples, known, settings).backward()
            spent = now() - begun
    encoder.module.zero_grad(set_to_none=True)
    encoder.module.eval()
    return spent


def _height(step: int, settings: Contrast) -> float:
    """The learning rate of a step as a part of the largest one: a line up, a line down to 0."""
    rising = max(1, round(settings.warm_up * settings.steps))
    if step < rising:
        return (step + 1) / rising
    return (settings.steps - step) / max(1, settings.steps - rising)


def fit_layers(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: int, strengths: Sequence[float], loss: Loss
) -> list[Layer]:
    """An output layer on features (n, d) for each strength, fitted to everything."""
    n = len(features)
    design = Design(torch.from_numpy(features), torch.arange(n), [0, n])
    given = torch.tensor(strengths, dtype=torch.float32)
    counted = torch.from_numpy((weights / weights.mean()).astype(np.float32))
    problems = Problems(loss, design, loss.truth(labels), counted, classes, [frozenset()] * len(strengths), given)
    zero = torch.zeros(design.width, len(strengths), classes)
    found, _ = minimise(problems, zero, torch.tensor([loose(s) for s in strengths]), LIMIT, lambda: None)
    return [(w.float().numpy(), b.float().numpy()) for w, b in (design.plain(found[:, k]) for k in range(len(strengths)))]


@dataclass(frozen=True)
class Task:
    """What is learnt. `examples` are the numbers of the training examples; the other arrays follow them: `labels` are classes, `folds` hold
    out (-1: never), `strengths` are tried for the output layer, and `usual` is the one that is taken where too few folds are trained to
    choose.
    """

    examples: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    folds: np.ndarray
    classes: int
    strengths: Sequence[float]
    usual: float
    loss: Loss


@dataclass(frozen=True)
class Contrasted:
    """What training gave. `held_out` (n, classes) float32 are log-probabilities of each training example by an encoder and an output layer
    that had not seen it, NaN where there is none. `losses` are the mean held-out log-losses by strength, empty where none was chosen;
    `layer` is the final output layer. The encoder holds the final weights.
    """

    held_out: np.ndarray
    folds: int
    strength: float
    losses: tuple[float, ...]
    layer: Layer
    restarts: int


def tune_encoder(
    encoder: Encoder,
    task: Task,
    settings: Contrast,
    *,
    seed: int,
    folds_for: Callable[[int, float], int],
    decided: Callable[[int], None],
    chose: Callable[[float, tuple[float, ...]], None],
    watch: Watch,
    judged: Judged,
    pacing: Pacing | None = None,
) -> Contrasted:
    """Tune and fit without each fold in turn, judge, then do both on everything.

    Every tuning starts from the encoder's present weights. The strength of the output layer that judges a fold is chosen in the other
    folds, by encoders that had not seen those; the final one in all of them. After the first fold
    `folds_for(folds, seconds)` says how many are trained; `decided` and `chose` hear decisions before they are acted on, `judged`
    outputs by the strength that is usual. `pacing` keeps it to a budget, and says how many folds are trained in the place of `folds_for`.
    """
    start: State = encoder.state()
    count = int(task.folds.max()) + 1
    trained, restarts, fold = count, 0, 0
    outputs: list[np.ndarray] = []
    usual = int(np.argmin([abs(math.log(s / task.usual)) for s in task.strengths]))

    def told(strengths: Sequence[int]) -> np.ndarray:
        said = np.full((len(task.examples), task.classes), np.nan, np.float32)
        for f, strength in enumerate(strengths):
            said[task.folds == f] = outputs[f][strength]
        return said

    def learn(own: np.ndarray, stage: str, strengths: Sequence[float], last: bool = False) -> list[Layer]:
        nonlocal restarts
        encoder.module.load_state_dict(start)
        paced, more = settings, {}
        if pacing is not None:
            paced = replace(settings, steps=pacing.steps(fold, last, settings.steps))
            more = {"bends": pacing.bends(fold), "shorter": partial(pacing.shorter, fold)}
        taken, rate, batch = 0, 0.0, min(settings.batch, int(own.sum()))

        def tell(step: int, loss: float, lr: float) -> None:
            nonlocal taken, rate
            taken, rate = step, lr
            watch(Tick(stage, step, paced.steps, loss, lr, batch))

        restarts += contrast(encoder, task.labels[own], task.examples[own], paced, seed, tell, **more)
        if taken < paced.steps:
            watch(Tick(stage, taken, taken, math.nan, rate, batch))
        rows = encoder.features(task.examples[own])
        return fit_layers(rows, task.labels[own], task.weights[own], task.classes, strengths, task.loss)

    while fold < trained:
        begun = time.perf_counter()
        held = task.folds == fold
        layers = learn(~held, f"fold {fold + 1} of {trained}", task.strengths)
        rows = encoder.features(task.examples[held])
        outputs.append(np.stack([task.loss.outputs(torch.from_numpy(rows @ w.T + b)).numpy() for w, b in layers]))
        judged(fold, trained, told([usual] * len(outputs)))
        if pacing is not None:
            trained = pacing.folds(fold + 1, count)
        elif fold == 0:
            trained = folds_for(count, time.perf_counter() - begun)
            decided(trained)
        fold += 1
    best, losses, chosen = _choose(outputs, task, usual)
    chose(task.strengths[best], losses)
    held_out = told(chosen)
    (layer,) = learn(np.ones(len(task.examples), bool), "all examples", [task.strengths[best]], last=True)
    return Contrasted(held_out, trained, task.strengths[best], losses, layer, restarts)


def _choose(outputs: Sequence[np.ndarray], task: Task, usual: int) -> tuple[int, tuple[float, ...], list[int]]:
    """(the strength's place, mean log-loss of each strength, the place for each fold by the other folds)."""
    if len(outputs) < 2:
        return usual, (), [usual] * len(outputs)
    sums, sizes = [], []
    for f, said in enumerate(outputs):
        truth = task.labels[task.folds == f]
        sums.append(-said[:, np.arange(len(truth)), truth].sum(1, dtype=np.float64))
        sizes.append(len(truth))
    total = np.sum(sums, axis=0)
    losses = tuple(float(v) for v in total / sum(sizes))
    return int(np.argmin(total)), losses, [int(np.argmin(total - own)) for own in sums]
