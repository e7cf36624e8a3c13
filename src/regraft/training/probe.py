"""The head rung's study: every fold and every strength of one convex output layer, the choice nested in the estimate."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regraft.features.memory import give_back
from regraft.training.design import Design
from regraft.training.losses import SOFTMAX, Loss
from regraft.training.solve import HISTORY, NormalEquations, Problems, minimise

PROBLEM_BYTES = 256 << 20
"""Bound on the optimiser's memory for the problems that are solved side by side."""

LANES = 4
"""Threads that solve at most. Problems side by side read the rows once for all: on 16 cores 4 threads took 1.7 s where 16 took 3.6
(docs/log.md).
"""

GPU_BYTES = 2 << 30
"""The same in the memory of a GPU."""

TIGHT = 1e-5
"""Largest entry of the gradient at which the model that is kept counts as solved."""


def rough(strength: float) -> float:
    """The same for a model that is only compared with: a fifth of the work for the same figures in three digits."""
    return 1e-3


def loose(strength: float) -> float:
    """The same while choosing: a weak penalty lets a small gradient hide a large way to go, so it asks for a smaller one."""
    return min(5e-4, max(0.01 * strength, 2e-5))


TRIED_ON = 10_000
"""Examples that every strength is tried on where there are more than twice as many: the others serve from the one chosen there."""

STEP = 3
"""Strengths that are fitted side by side before the next weaker ones are."""

LIMIT = 300
"""Steps of one problem at most."""


@dataclass(frozen=True)
class Probe:
    """A fitted output layer and everything cross-validation said on the way.

    `strengths` are those that were tried, from weak to strong; `losses` and `scores` (strengths,) go with them.

    `weight` (outputs, d) and `bias` (outputs,) act on the raw features. `out_of_fold` (n, outputs) is what the loss makes of
    scores (log-probabilities, log-odds, values), from models that saw neither the example nor, when the strength was chosen,
    its fold; rows of examples that are never held out are NaN. Both are of plain cross-validation.
    """

    weight: np.ndarray
    bias: np.ndarray
    strength: float
    strengths: tuple[float, ...]
    losses: tuple[float, ...]
    scores: tuple[float, ...]
    out_of_fold: np.ndarray
    fold_strengths: tuple[float, ...]
    fold_layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    """(weight, bias) of the model without each fold: those that said `out_of_fold`."""
    iterations: int
    tried_on: int
    """Examples on which all strengths were tried; those in `strengths` alone were then fitted to every example."""


Job = tuple[frozenset[int], float]
"""The folds that a model leaves out, and its strength."""

Score = Callable[[np.ndarray, np.ndarray], float]
"""How good decisions are: (truth, decided) -> higher is better."""

Gains = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""The same of each example, for standard errors of a difference."""

Judged = tuple[int, np.ndarray, np.ndarray]
"""A fold, and of each of its examples the plain decision and the loss."""


class _Study:
    """The rows sorted by fold, and every fit that cross-validation asks for. `features` has the rows of all examples, and after them as
    many of each further view; `spans` are where the examples of each fold lie as they are, which are all that is judged.
    """

    def __init__(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        folds: np.ndarray,
        classes: int,
        strengths: tuple[float, ...],
        score: Score,
        gains: Gains,
        weights: np.ndarray | None,
        watch: Callable[[int, int], None],
        tolerance: Callable[[float], float],
        loss: Loss,
        device: torch.device,
    ) -> None:
        self.tolerance, self.loss, self.device = tolerance, loss, device
        self.classes, self.strengths, self.score, self.gains, self.watch = classes, strengths, score, gains, watch
        self.count = int(folds.max()) + 1
        views = len(features) // len(labels)
        numbered = np.where(folds < 0, self.count, folds)
        sizes = np.bincount(numbered, minlength=self.count + 1)
        # of a fold first the examples as they are: the sort is stable, and their rows come first
        self.order = np.argsort(np.tile(numbered, views), kind="stable")
        starts = np.concatenate([[0], np.cumsum(views * sizes)]).tolist()
        self.spans = [slice(starts[f], starts[f] + int(sizes[f])) for f in range(self.count)]
        self.design = Design(torch.from_numpy(features).to(device), torch.from_numpy(self.order).to(device), starts)
        owners = self.order % len(labels)
        self.values = labels[owners]
        self.truth = loss.truth(self.values).to(device)
        given = np.ones(len(labels)) if weights is None else weights
        self.weights = torch.from_numpy((given[owners] / views).astype(np.float32)).to(device)
        self.pairs = [frozenset(pair) for pair in itertools.combinations(range(self.count), 2)]
        self.direct = NormalEquations(self.design, self.truth, self.weights) if loss.direct else None
        self.evaluations = self.solved = 0
        self._stopped = False
        self.total = len(strengths) * (self.count + len(self.pairs)) + 1

    def solve(self, jobs: Sequence[Job], starts: Sequence[Tensor] | None, tolerance: Callable[[float], float]) -> list[Tensor]:
        """Weights (width, classes) of each job, as many side by side as memory allows.

        A start must not have seen what its job leaves out: stopped early, the job's model would have seen it too.
        """
        if self.direct is not None:
            return self._solve_directly(self.direct, jobs)
        # a GPU takes all problems at once
        threads, room = (min(torch.get_num_threads(), LANES), PROBLEM_BYTES) if self.device.type == "cpu" else (1, GPU_BYTES)
        bound = room // threads // (4 * self.design.width * self.classes * (2 * HISTORY + 6))
        # every second job for one thread, the others for the other: neighbours in the list are alike and cost alike
        lanes = [list(range(len(jobs)))[k::threads] for k in range(min(threads, len(jobs)))]
        parts = [lane[i : i + max(1, bound)] for lane in lanes for i in range(0, len(lane), max(1, bound))]
        models: dict[int, Tensor] = {}

        def run(part: list[int]) -> None:
            strengths = torch.tensor([jobs[k][1] for k in part], dtype=torch.float32)
            bounds = torch.tensor([tolerance(jobs[k][1]) for k in part])
            zero = torch.zeros(self.design.width, len(part), self.classes)
            guess = zero if starts is None else torch.stack([starts[k] for k in part], 1)
            left_out = [jobs[k][0] for k in part]
            problems = Problems(self.loss, self.design, self.truth, self.weights, self.classes, left_out, strengths)
            found, spent = minimise(problems, guess, bounds, LIMIT, self._check)
            models.update({k: found[:, place].clone() for place, k in enumerate(part)})
            self.evaluations += spent
            self.solved += len(part)

        if len(parts) == 1:
            run(parts[0])
        else:
            self._side_by_side(run, parts, threads)
        self._tick()
        return [models[k] for k in range(len(jobs))]

    def _solve_directly(self, solve: NormalEquations, jobs: Sequence[Job]) -> list[Tensor]:
        found: dict[Job, Tensor] = {}
        for left_out in dict.fromkeys(left for left, _ in jobs):
            strengths = [s for left, s in jobs if left == left_out]
            found.update(zip([(left_out, s) for s in strengths], solve(left_out, strengths), strict=True))
            self.solved += len(strengths)
            self._tick()
        return [found[job] for job in jobs]

    def _side_by_side(self, run: Callable[[list[int]], None], parts: Sequence[list[int]], threads: int) -> None:
        """Run the parts in so many threads of one core each: these products are too small to be shared among cores well."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(threads, thread_name_prefix="regraft-probe") as pool:
                running = {pool.submit(run, part) for part in parts}
                try:
                    while running:
                        done, running = wait(running, timeout=0.25, return_when=FIRST_EXCEPTION)
                        for future in done:
                            future.result()
                        self._tick()
                except BaseException:
                    self._stopped = True
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        finally:
            torch.set_num_threads(before)

    def _check(self) -> None:
        if self._stopped:
            raise InterruptedError

    def descend(self, left_out: Sequence[frozenset[int]], strengths: Sequence[float]) -> Iterator[dict[Job, Tensor]]:
        """The models of every job, a few strengths at a time from strong to weak, each few starting where the last few ended."""
        last: list[Tensor] | None = None
        ordered = sorted(strengths, reverse=True)
        for i in range(0, len(ordered), STEP):
            part = ordered[i : i + STEP]
            jobs = [(left, s) for s in part for left in left_out]
            models = self.solve(jobs, None if last is None else last * len(part), self.tolerance)
            last = models[-len(left_out) :]
            yield dict(zip(jobs, models, strict=True))

    def judge_on(self, chosen: float, starts: Sequence[Tensor]) -> tuple[dict[Job, Tensor], dict[float, list[Judged]]]:
        """The same from a strength that a part of the examples chose, towards weaker ones as long as that is better.

        The mean of more losses asks for a weaker penalty, never for a stronger one but by chance. `starts` are models that leave
        out one fold each.
        """
        singles: dict[Job, Tensor] = {}
        results: dict[float, list[Judged]] = {}
        for s in sorted((s for s in self.strengths if s <= chosen), reverse=True):
            jobs = [(frozenset([f]), s) for f in range(self.count)]
            starts = self.solve(jobs, starts, self.tolerance)
            singles.update(zip(jobs, starts, strict=True))
            results[s] = [(f, *self.judged(model, f)) for f, model in enumerate(starts)]
            if self.choose(results)[0] != s:
                break
        self._skip(len(self.strengths) - len(results), self.count)
        return singles, dict(sorted(results.items()))

    def _skip(self, strengths: int, fits: int) -> None:
        """Count fits that are not needed as done."""
        self.solved += strengths * fits
        self._tick()

    def _tick(self) -> None:
        self.watch(self.solved, self.total)

    def judged(self, model: Tensor, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """(plain decision, loss) of each example of a fold."""
        outputs = self.outputs(fold, model)
        return self.loss.decide(outputs), self.loss.each(outputs, self.truth[self.spans[fold]].cpu()).numpy()

    def outputs(self, fold: int, model: Tensor) -> Tensor:
        """What a model says of the examples of a fold."""
        return self.loss.outputs(self.design.scores(self.spans[fold], model)).cpu()

    def judge_singles(self) -> tuple[dict[Job, Tensor], dict[float, list[Judged]]]:
        """The models that leave out one fold, and what they say of it, for each strength that was worth trying.

        The log-loss falls and rises once along the strengths, so the descent ends when it has clearly risen.
        """
        singles: dict[Job, Tensor] = {}
        results: dict[float, list[Judged]] = {}
        for models in self.descend([frozenset([f]) for f in range(self.count)], self.strengths):
            singles.update(models)
            for (left, s), model in models.items():
                (f,) = left
                results.setdefault(s, []).append((f, *self.judged(model, f)))
            if min(results) not in self.contenders(results):
                break
        self._skip(len(self.strengths) - len(results), self.count)
        return singles, dict(sorted(results.items()))

    def judge_pairs(self, strengths: Sequence[float]) -> list[dict[float, list[Judged]]]:
        """For every outer fold and strength, what models without it and one more fold say of that one."""
        inner: list[dict[float, list[Judged]]] = [{s: [] for s in strengths} for _ in range(self.count)]
        self._skip(len(self.strengths) - len(strengths), len(self.pairs))
        for models in self.descend(self.pairs, strengths):
            for (left, s), model in models.items():
                a, b = sorted(left)
                inner[a][s].append((b, *self.judged(model, b)))
                inner[b][s].append((a, *self.judged(model, a)))
        return inner

    def _compare(self, results: dict[float, list[Judged]]) -> tuple[list[float], list[np.ndarray], list[np.ndarray]]:
        """(score, loss of each example, gain of each example), a list entry for each strength."""
        scores: list[float] = []
        losses: list[np.ndarray] = []
        gains: list[np.ndarray] = []
        for judged in results.values():
            truth = np.concatenate([self.values[self.spans[f]] for f, _, _ in judged])
            predicted = np.concatenate([p for _, p, _ in judged])
            scores.append(self.score(truth, predicted))
            losses.append(np.concatenate([loss for _, _, loss in judged]).astype(np.float64))
            gains.append(self.gains(truth, predicted))
        return scores, losses, gains

    def choose(self, results: dict[float, list[Judged]]) -> tuple[float, list[float], list[float]]:
        """(chosen strength, mean loss of each, score of each).

        Strengths stay in whose score is within one standard error of the best one's on the same examples (Breiman et al.
        1984, paired); among them the one with the lowest loss is chosen, so that probabilities are good too.
        """
        scores, losses, gains = self._compare(results)
        best = int(np.argmax(scores))
        able = [k for k in range(len(scores)) if scores[best] - scores[k] <= _error(gains[best] - gains[k])]
        means = [float(loss.mean()) for loss in losses]
        return list(results)[min(able, key=lambda k: means[k])], means, scores

    def contenders(self, results: dict[float, list[Judged]]) -> list[float]:
        """The strengths that could be chosen inside a fold.

        One whose loss is more than five standard errors above the best one's, and whose score is three below, is never
        chosen on four fifths of the same examples, so models for it are not fitted.
        """
        scores, losses, gains = self._compare(results)
        best = int(np.argmax(scores))
        lowest = min(range(len(losses)), key=lambda k: losses[k].mean())
        flat = max(scores) == min(scores)
        out = []
        for k, strength in enumerate(results):
            worse = losses[k] - losses[lowest]
            behind = flat or scores[best] - scores[k] > 3 * _error(gains[best] - gains[k])
            if not (behind and worse.mean() > 5 * _error(worse)):
                out.append(strength)
        return out


def _error(differences: np.ndarray) -> float:
    """The standard error of a mean difference on the same examples."""
    return float(differences.std() / np.sqrt(len(differences)))


def equal(truth: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """Gains where a decision is right or wrong."""
    return (truth == decided).astype(np.float64)


def evenly(labels: np.ndarray, folds: np.ndarray, count: int) -> np.ndarray:
    """Positions of about `count` examples, in order: of every fold, and in it of every kind of label, the same part.

    Which ones depends on the order of the examples alone. A class of a single example in a part so large may be missing.
    """
    columns = labels.reshape(len(labels), -1).T
    order = np.lexsort((*columns, folds))
    return np.sort(order[np.linspace(0, len(order) - 1, count).round().astype(np.int64)])


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    classes: int,
    strengths: Sequence[float],
    *,
    score: Score,
    gains: Gains = equal,
    loss: Loss = SOFTMAX,
    weights: np.ndarray | None = None,
    nested: bool = True,
    careful: bool = True,
    watch: Callable[[int, int], None] = lambda done, total: None,
    device: str = "cpu",
) -> Probe:
    """Fit a convex output layer with an L2 penalty; the strength is chosen by cross-validation, the estimate is nested.

    features (n, d) float32, or (views x n, d): row v n + i is view v of example i, and all views of one count together as much as one;
    examples are judged as they are, by view 0. labels as the loss takes them: (n,) integers below `classes`, (n, classes) bool, or (n,)
    numbers with `classes` 1; folds (n,) fold numbers from 0, or -1 for examples that are always trained on and never held out. The
    objective is the (weighted) mean loss plus strength/2 times the squared weights on standardised features; the bias is free.
    `score(labels, decided)` says what is better (higher), and the loss decides between strengths that it cannot tell apart;
    `gains(labels, decided)` says the same of each example, for standard errors. Numbers are standardised first, and so are
    what `score` and `gains` get; the probe is in their own units.

    Nested without fitting everything again: a model without the folds {i, j} serves as inner model for the outer fold i
    (judged on j) and for the outer fold j (judged on i), so k(k+1)/2 fits a strength do what k(k-1) + k would.
    Standardisation and the rotation are of all rows; they never see a label. Without `nested` the out-of-fold predictions
    use the strength chosen on those same folds: a third of the work, and a little flattering. Without `careful` every fit ends sooner,
    with the same figures in three digits: for a model that is only compared with.

    More than twice TRIED_ON examples, not nested: all strengths are tried on TRIED_ON of them, spread over folds and labels; all
    examples then decide between the strength that was chosen there and weaker ones.

    On the `device` it is computed in float32 as on a processor; sums may be added in another order.
    """
    place = torch.device(device)
    with place if place.type != "cpu" else nullcontext():  # what is made on the way is made there
        return _fitted(features, labels, folds, classes, strengths, score, gains, loss, weights, nested, careful, watch, place)


def _fitted(
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    classes: int,
    strengths: Sequence[float],
    score: Score,
    gains: Gains,
    loss: Loss,
    weights: np.ndarray | None,
    nested: bool,
    careful: bool,
    watch: Callable[[int, int], None],
    device: torch.device,
) -> Probe:
    centre, spread = 0.0, 1.0
    if loss.direct:
        centre, spread = float(labels.mean()), float(labels.std()) or 1.0
        labels = (labels - centre) / spread
    tolerance = loose if careful else rough

    def study_of(some: np.ndarray | slice, watch: Callable[[int, int], None]) -> _Study:
        own = None if weights is None else weights[some]
        rows = some if isinstance(some, slice) else np.concatenate([some + first for first in range(0, len(features), len(labels))])
        return _Study(
            features[rows], labels[some], folds[some], classes, tuple(strengths), score, gains, own, watch, tolerance, loss, device
        )

    tried_on = len(labels)
    if nested or loss.direct or len(labels) <= 2 * TRIED_ON:
        study = study_of(slice(None), watch)
        singles, outer = study.judge_singles()
    else:
        part = evenly(labels, folds, TRIED_ON)
        tried_on = len(part)
        first = study_of(part, lambda done, total: None)
        models, judged = first.judge_singles()
        best = first.choose(judged)[0]
        plain = [first.design.plain(models[frozenset([f]), best]) for f in range(first.count)]
        del first, models, judged
        give_back()
        study = study_of(slice(None), watch)
        singles, outer = study.judge_on(best, [study.design.turned(*p) for p in plain])
    chosen, losses, scores = study.choose(outer)
    if nested:
        inner = study.judge_pairs(study.contenders(outer))
        fold_strengths = [study.choose(inner[f])[0] for f in range(study.count)]
    else:
        fold_strengths = [chosen] * study.count
        study.solved = study.total - 1
    held_out = np.full((len(labels), classes), np.nan, np.float32)
    for f, s in enumerate(fold_strengths):
        span = study.spans[f]
        held_out[study.order[span]] = study.outputs(f, singles[frozenset([f]), s]).numpy()
    by_fold = [_on_processor(study.design.plain(singles[frozenset([f]), s])) for f, s in enumerate(fold_strengths)]
    guess = torch.stack([singles[frozenset([f]), chosen] for f in range(study.count)]).mean(0)
    (final,) = study.solve([(frozenset(), chosen)], [guess], (lambda strength: TIGHT) if careful else rough)
    weight, bias = _on_processor(study.design.plain(final))
    return Probe(
        weight=(weight * spread).float().numpy(),
        bias=(bias * spread + centre).float().numpy(),
        strength=chosen,
        strengths=tuple(outer),
        losses=tuple(losses),
        scores=tuple(scores),
        out_of_fold=(held_out.astype(np.float64) * spread + centre).astype(np.float32) if loss.direct else held_out,
        fold_strengths=tuple(fold_strengths),
        fold_layers=tuple(((w * spread).float().numpy(), (b * spread + centre).float().numpy()) for w, b in by_fold),
        iterations=study.evaluations,
        tried_on=tried_on,
    )


def _on_processor(layer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return layer[0].cpu(), layer[1].cpu()
