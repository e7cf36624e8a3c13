"""The head rung: multinomial logistic regression on stored features, every fold and every strength together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

HISTORY = 6
"""Pairs that L-BFGS remembers."""

BLOCK_BYTES = 48 << 20
"""Bound on one block of scores (rows x problems x classes, float32)."""

PROBLEM_BYTES = 256 << 20
"""Bound on the optimiser's memory for the problems that are solved side by side."""

TIGHT = 1e-5
"""Largest entry of the gradient at which the model that is kept counts as solved."""


def rough(strength: float) -> float:
    """The same for a model that is only compared with: a fifth of the work for the same figures in three digits."""
    return 1e-3


def loose(strength: float) -> float:
    """The same while choosing: a weak penalty lets a small gradient hide a large way to go, so it asks for a smaller one."""
    return min(5e-4, max(0.01 * strength, 2e-5))


FLOOR = 0.1
"""Least deviation that a feature is divided by, as a part of the root mean square of all deviations."""

STEP = 3
"""Strengths that are fitted side by side before the next weaker ones are."""

LIMIT = 300
"""Steps of one problem at most."""

DESIGN_BYTES = 384 << 20
"""Bound on the rotated copy of the features; beyond it the features are read in blocks from where they lie."""


@dataclass(frozen=True)
class Probe:
    """A fitted output layer and everything cross-validation said on the way.

    `strengths` are those that were tried, from weak to strong; `losses` and `scores` (strengths,) go with them.

    `weight` (classes, d) and `bias` (classes,) act on the raw features. `out_of_fold` (n, classes) are log-probabilities
    from models that saw neither the example nor, when the strength was chosen, its fold; rows of examples that are
    never held out are NaN. Both are of plain cross-validation.
    """

    weight: np.ndarray
    bias: np.ndarray
    strength: float
    strengths: tuple[float, ...]
    losses: tuple[float, ...]
    scores: tuple[float, ...]
    out_of_fold: np.ndarray
    fold_strengths: tuple[float, ...]
    iterations: int


class _Design:
    """Standardised features in the basis of their principal axes, with a column of ones; rows sorted by fold.

    The L2 penalty does not see a rotation, so solving there is exact; the curvature at zero is diagonal there, which is
    what makes L-BFGS take few steps. With fewer rows than columns only as many axes are kept as there are rows.
    """

    def __init__(self, features: Tensor, order: Tensor, starts: Sequence[int]) -> None:
        n, d = features.shape
        self.features, self.order, self.starts = features, order, starts
        rows = max(1, BLOCK_BYTES // (4 * max(1, d)))
        self.slices = [slice(i, min(i + rows, n)) for i in range(0, n, rows)]
        total = torch.zeros(d, dtype=torch.float64)
        square = torch.zeros(d, dtype=torch.float64)
        for part in self.slices:
            block = self._raw(part)
            total += block.sum(0)
            square += (block * block).sum(0)
        self.mean = total / n
        deviation = (square / n - self.mean**2).clamp_min(0).sqrt()
        # a feature that hardly moves in these rows may move in others: without a floor such a one reached a thousand
        # deviations in new examples and spoilt their probabilities (docs/log.md)
        floor = FLOOR * float((deviation**2).mean().sqrt())
        constant = deviation <= 1e-6 * (1e-30 + self.mean.abs())
        self.scale = torch.where(constant, 0.0, 1 / deviation.clamp_min(max(floor, 1e-30)))
        if n <= d:
            z = self._standard(slice(0, n))
            gram = (z @ z.T).double()
            values, vectors = torch.linalg.eigh(gram)
            keep = values > values.max().clamp_min(1e-30) * 1e-7
            values, vectors = values[keep], vectors[:, keep]
            # columns of the rotation: zᵀ u / √value
            self.rotation = ((z.double().T @ vectors) / values.sqrt()).float()
        else:
            gram = torch.zeros(d, d, dtype=torch.float64)
            for part in self.slices:
                block = self._standard(part)
                gram += (block.T @ block).double()
            values, vectors = torch.linalg.eigh(gram)
            keep = values > values.max().clamp_min(1e-30) * 1e-9
            values, vectors = values[keep], vectors[:, keep]
            self.rotation = vectors.float()
        self.curvature = torch.cat([(values / n).float(), torch.ones(1)])
        self.width = len(self.curvature)
        self.penalty = torch.ones(self.width)
        self.penalty[-1] = 0
        self.mean32, self.scale32 = self.mean.float(), self.scale.float()
        self.rotated: Tensor | None = None
        if n * self.width * 4 <= DESIGN_BYTES or n <= 2 * d:
            self.rotated = torch.empty(n, self.width)
            for part in self.slices:
                self.rotated[part] = self._rotate(part)

    def _raw(self, part: slice) -> Tensor:
        return self.features[self.order[part]].double()

    def _standard(self, part: slice) -> Tensor:
        return ((self._raw(part) - self.mean) * self.scale).float()

    def _rotate(self, part: slice) -> Tensor:
        block = self._standard(part) @ self.rotation
        return torch.cat([block, torch.ones(len(block), 1)], 1)

    def rows(self, part: slice) -> Tensor:
        """The rows `part`: rotated where a copy of all is held, else in their own axes, where `enter` brings weights."""
        if self.rotated is not None:
            return self.rotated[part]
        block = (self.features[self.order[part]] - self.mean32) * self.scale32
        return torch.cat([block, torch.ones(len(block), 1)], 1)

    def enter(self, w: Tensor) -> Tensor:
        """Weights (width, ...) as `rows` takes them: turning the weights is cheap where turning every row again is not."""
        return w if self.rotated is not None else torch.cat([torch.tensordot(self.rotation, w[:-1], 1), w[-1:]])

    def leave(self, gradient: Tensor) -> Tensor:
        """A gradient of what `enter` gave as one of what it got."""
        if self.rotated is not None:
            return gradient
        return torch.cat([torch.tensordot(self.rotation.T, gradient[:-1], 1), gradient[-1:]])

    def scores(self, part: slice, w: Tensor) -> Tensor:
        """Scores (rows, classes) of the rows `part` under weights (width, classes), block by block."""
        w = self.enter(w)
        rows = max(64, BLOCK_BYTES // (4 * max(len(w), w.shape[1])))
        blocks = [self.rows(slice(i, min(i + rows, part.stop))) @ w for i in range(part.start, part.stop, rows)]
        return torch.cat(blocks) if blocks else torch.zeros(0, w.shape[1])

    def plain(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (width, classes) of this basis as (weight (classes, d), bias) on the raw features."""
        weight = self.rotation.double() @ w[:-1].double() * self.scale[:, None]
        return weight.T.contiguous(), w[-1].double() - self.mean @ weight


class _Problems:
    """Losses and gradients of many logistic regressions that differ in left-out folds and strength."""

    def __init__(
        self, design: _Design, labels: Tensor, weights: Tensor, classes: int, left_out: Sequence[frozenset[int]], strengths: Tensor
    ) -> None:
        self.design, self.labels, self.weights, self.classes = design, labels, weights, classes
        self.left_out, self.strengths = left_out, strengths
        folds = len(design.starts) - 1
        mass = [float(weights[design.starts[f] : design.starts[f + 1]].sum()) for f in range(folds)]
        self.mass = torch.tensor([sum(m for f, m in enumerate(mass) if f not in out) for out in left_out])

    def __call__(self, w: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """(loss (a,), gradient (width, a, classes)) at w (width, a, classes) for the problems numbered `active`."""
        design, c = self.design, self.classes
        plain = design.enter(w)
        width = len(plain)
        loss = torch.zeros(len(active))
        grad = torch.zeros_like(plain)
        numbers = active.tolist()
        for f in range(len(design.starts) - 1):
            start, stop = design.starts[f], design.starts[f + 1]
            inside = torch.tensor([k for k, b in enumerate(numbers) if f not in self.left_out[b]], dtype=torch.long)
            if start == stop or not len(inside):
                continue
            everything = len(inside) == len(numbers)
            wf = (plain if everything else plain[:, inside]).reshape(width, -1)
            rows = max(64, BLOCK_BYTES // (4 * max(width, wf.shape[1])))
            gf = torch.zeros(width, wf.shape[1])
            lf = torch.zeros(len(inside))
            for i in range(start, stop, rows):
                part = slice(i, min(i + rows, stop))
                z = design.rows(part)
                scores = (z @ wf).view(len(z), len(inside), c)
                y = self.labels[part]
                index = y[:, None, None].expand(-1, len(inside), 1)
                scores -= scores.amax(2, keepdim=True)
                picked = scores.gather(2, index)
                scores.exp_()
                total = scores.sum(2, keepdim=True)
                weight = self.weights[part][:, None]
                lf += ((total.log() - picked)[..., 0] * weight).sum(0)
                scores /= total
                scores.scatter_add_(2, index, torch.full_like(picked, -1.0))
                scores *= weight[..., None]
                gf.addmm_(z.T, scores.view(len(z), -1))
            gf = gf.view(width, len(inside), c)
            if everything:
                grad += gf
                loss += lf
            else:
                grad[:, inside] += gf
                loss[inside] += lf
        mass, strength = self.mass[active], self.strengths[active]
        penalised = w * design.penalty[:, None, None] * strength[None, :, None]
        loss = loss / mass + 0.5 * (penalised * w).sum((0, 2))
        return loss, design.leave(grad) / mass[None, :, None] + penalised


def _solve(problems: _Problems, w: Tensor, tolerance: Tensor, limit: int, watch: Callable[[], None]) -> tuple[Tensor, int]:
    """Minimise every problem from w (width, problems, classes) by L-BFGS; returns (weights, function evaluations).

    Nocedal & Wright, Numerical Optimization, algorithm 7.4, with the curvature at zero weights as initial metric and a
    backtracking (Armijo) step, enough for a strictly convex function. Problems that have converged leave the batch.
    """
    width, count, c = w.shape
    w = w.clone()
    curvature = problems.design.curvature[:, None] / c + problems.design.penalty[:, None] * problems.strengths[None, :]
    metric = (1 / curvature)[:, :, None]
    active = torch.arange(count)
    x = w
    value, grad = problems(x, active)
    evaluations = 1
    history: list[tuple[Tensor, Tensor, Tensor]] = []
    inner = lambda a, b: (a * b).sum((0, 2))
    for _ in range(limit):
        watch()
        small = grad.abs().amax((0, 2)) <= tolerance[active]
        if small.any():
            w[:, active[small]] = x[:, small]
            keep = ~small
            if not keep.any():
                return w, evaluations
            active, x, grad, value = active[keep], x[:, keep], grad[:, keep], value[keep]
            metric = metric[:, keep]
            history = [(s[:, keep], y[:, keep], r[keep]) for s, y, r in history]
        q = grad.clone()
        alphas = []
        for s, y, rho in reversed(history):
            a = rho * inner(s, q)
            q -= a[None, :, None] * y
            alphas.append(a)
        if history:
            s, y, rho = history[-1]
            q *= metric * (1 / (rho * inner(y, metric * y)))[None, :, None]
        else:
            q *= metric
        for (s, y, rho), a in zip(history, reversed(alphas), strict=True):
            q += (a - rho * inner(y, q))[None, :, None] * s
        slope = -inner(q, grad)
        step = torch.ones(len(active))
        new_x = x - q
        new_value, new_grad = problems(new_x, active)
        evaluations += 1
        # float32 losses are good to about 1e-7 of their size: below that a "rise" is rounding
        slack = 4e-7 * value.abs() + 1e-9
        for _ in range(20):
            bad = ~(new_value <= value + 1e-4 * step * slope + slack)
            if not bad.any():
                break
            step[bad] *= 0.4
            new_x[:, bad] = x[:, bad] - step[bad][None, :, None] * q[:, bad]
            some_value, some_grad = problems(new_x[:, bad].contiguous(), active[bad])
            evaluations += 1
            new_value[bad], new_grad[:, bad] = some_value, some_grad
        s, y = new_x - x, new_grad - grad
        product = inner(s, y)
        good = product > 1e-12
        rho = torch.where(good, 1 / product.clamp_min(1e-30), 0.0)
        stalled = ~good | (inner(s, s) == 0)
        x, value, grad = new_x, new_value, new_grad
        if stalled.any():
            w[:, active[stalled]] = x[:, stalled]
            keep = ~stalled
            if not keep.any():
                return w, evaluations
            active, x, grad, value, metric = active[keep], x[:, keep], grad[:, keep], value[keep], metric[:, keep]
            s, y, rho = s[:, keep], y[:, keep], rho[keep]
            history = [(a[:, keep], b[:, keep], r[keep]) for a, b, r in history]
        history = [*history[-(HISTORY - 1) :], (s, y, rho)]
    w[:, active] = x
    return w, evaluations


Job = tuple[frozenset[int], float]
"""The folds that a model leaves out, and its strength."""

Judged = tuple[int, np.ndarray, np.ndarray]
"""A fold, and of each of its examples the predicted class and the log-loss."""


class _Study:
    """The rows sorted by fold, and every fit that cross-validation asks for."""

    def __init__(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        folds: np.ndarray,
        classes: int,
        strengths: tuple[float, ...],
        score: Callable[[np.ndarray, np.ndarray], float],
        weights: np.ndarray | None,
        watch: Callable[[int, int], None],
        tolerance: Callable[[float], float],
    ) -> None:
        self.tolerance = tolerance
        self.classes, self.strengths, self.score, self.watch = classes, strengths, score, watch
        self.count = int(folds.max()) + 1
        numbered = np.where(folds < 0, self.count, folds)
        self.order = np.argsort(numbered, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(numbered, minlength=self.count + 1))]).tolist()
        self.spans = [slice(starts[f], starts[f + 1]) for f in range(self.count)]
        self.design = _Design(torch.from_numpy(features), torch.from_numpy(self.order), starts)
        self.labels = torch.from_numpy(labels[self.order].astype(np.int64))
        given = np.ones(len(labels)) if weights is None else weights
        self.weights = torch.from_numpy(given[self.order].astype(np.float32))
        self.pairs = [frozenset(pair) for pair in itertools.combinations(range(self.count), 2)]
        self.evaluations = self.solved = 0
        self._stopped = False
        self.total = len(strengths) * (self.count + len(self.pairs)) + 1

    def solve(self, jobs: Sequence[Job], starts: Sequence[Tensor] | None, tolerance: Callable[[float], float]) -> list[Tensor]:
        """Weights (width, classes) of each job, as many side by side as memory allows.

        A start must not have seen what its job leaves out: stopped early, the job's model would have seen it too.
        """
        threads = torch.get_num_threads()
        bound = PROBLEM_BYTES // threads // (4 * self.design.width * self.classes * (2 * HISTORY + 6))
        # every second job for one thread, the others for the other: neighbours in the list are alike and cost alike
        lanes = [list(range(len(jobs)))[k::threads] for k in range(min(threads, len(jobs)))]
        parts = [lane[i : i + max(1, bound)] for lane in lanes for i in range(0, len(lane), max(1, bound))]
        models: dict[int, Tensor] = {}

        def run(part: list[int]) -> None:
            strengths = torch.tensor([jobs[k][1] for k in part], dtype=torch.float32)
            bounds = torch.tensor([tolerance(jobs[k][1]) for k in part])
            zero = torch.zeros(self.design.width, len(part), self.classes)
            guess = zero if starts is None else torch.stack([starts[k] for k in part], 1)
            problems = _Problems(self.design, self.labels, self.weights, self.classes, [jobs[k][0] for k in part], strengths)
            found, spent = _solve(problems, guess, bounds, LIMIT, self._check)
            models.update({k: found[:, place].clone() for place, k in enumerate(part)})
            self.evaluations += spent
            self.solved += len(part)

        if len(parts) == 1:
            run(parts[0])
        else:
            self._side_by_side(run, parts, threads)
        self._tick()
        return [models[k] for k in range(len(jobs))]

    def _side_by_side(self, run: Callable[[list[int]], None], parts: Sequence[list[int]], threads: int) -> None:
        """Run the parts in so many threads of one core each: these products are too small to be shared among cores well."""
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
            torch.set_num_threads(threads)

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

    def _skip(self, strengths: int, fits: int) -> None:
        """Count fits that are not needed as done."""
        self.solved += strengths * fits
        self._tick()

    def _tick(self) -> None:
        self.watch(self.solved, self.total)

    def judged(self, model: Tensor, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """(predicted class, log-loss) of each example of a fold."""
        logs = torch.log_softmax(self.design.scores(self.spans[fold], model), 1)
        own = logs.gather(1, self.labels[self.spans[fold]][:, None])[:, 0]
        return logs.argmax(1).numpy(), -own.numpy()

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
        """(score, log-loss of each example, whether each example is right), a list entry for each strength."""
        truths = self.labels.numpy()
        scores: list[float] = []
        losses: list[np.ndarray] = []
        rights: list[np.ndarray] = []
        for judged in results.values():
            truth = np.concatenate([truths[self.spans[f]] for f, _, _ in judged])
            predicted = np.concatenate([p for _, p, _ in judged])
            scores.append(self.score(truth, predicted))
            losses.append(np.concatenate([loss for _, _, loss in judged]).astype(np.float64))
            rights.append((predicted == truth).astype(np.float64))
        return scores, losses, rights

    def choose(self, results: dict[float, list[Judged]]) -> tuple[float, list[float], list[float]]:
        """(chosen strength, mean log-loss of each, score of each).

        Strengths stay in whose score is within one standard error of the best one's on the same examples (Breiman et al.
        1984, paired); among them the one with the lowest log-loss is chosen, so that probabilities are good too.
        """
        scores, losses, rights = self._compare(results)
        best = int(np.argmax(scores))
        able = [k for k in range(len(scores)) if scores[best] - scores[k] <= _error(rights[best] - rights[k])]
        means = [float(loss.mean()) for loss in losses]
        return list(results)[min(able, key=lambda k: means[k])], means, scores

    def contenders(self, results: dict[float, list[Judged]]) -> list[float]:
        """The strengths that could be chosen inside a fold.

        One whose log-loss is more than five standard errors above the best one's, and whose score is three below, is never
        chosen on four fifths of the same examples, so models for it are not fitted.
        """
        scores, losses, rights = self._compare(results)
        best = int(np.argmax(scores))
        lowest = min(range(len(losses)), key=lambda k: losses[k].mean())
        flat = max(scores) == min(scores)
        out = []
        for k, strength in enumerate(results):
            worse = losses[k] - losses[lowest]
            behind = flat or scores[best] - scores[k] > 3 * _error(rights[best] - rights[k])
            if not (behind and worse.mean() > 5 * _error(worse)):
                out.append(strength)
        return out


def _error(differences: np.ndarray) -> float:
    """The standard error of a mean difference on the same examples."""
    return float(differences.std() / np.sqrt(len(differences)))


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    folds: np.ndarray,
    classes: int,
    strengths: Sequence[float],
    *,
    score: Callable[[np.ndarray, np.ndarray], float],
    weights: np.ndarray | None = None,
    nested: bool = True,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Probe:
    """Fit softmax regression with an L2 penalty; the strength is chosen by cross-validation, the estimate is nested.

    features (n, d) float32, labels (n,) integers below `classes`, folds (n,) fold numbers from 0, or -1 for examples that are
    always trained on and never held out. The loss is the (weighted) mean cross-entropy plus strength/2 times the squared
    weights on standardised features; the bias is free. `score(labels, predicted)` says what is better (higher), and the
    log-loss decides between strengths that it cannot tell apart.

    Nested without fitting everything again: a model without the folds {i, j} serves as inner model for the outer fold i
    (judged on j) and for the outer fold j (judged on i), so k(k+1)/2 fits a strength do what k(k-1) + k would.
    Standardisation and the rotation are of all rows; they never see a label. Without `nested` the out-of-fold predictions
    use the strength chosen on those same folds, and every fit ends sooner: cheaper, and a little flattering.
    """
    study = _Study(features, labels, folds, classes, tuple(strengths), score, weights, watch, loose if nested else rough)
    singles, outer = study.judge_singles()
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
        held_out[study.order[span]] = torch.log_softmax(study.design.scores(span, singles[frozenset([f]), s]), 1).numpy()
    guess = torch.stack([singles[frozenset([f]), chosen] for f in range(study.count)]).mean(0)
    (final,) = study.solve([(frozenset(), chosen)], [guess], (lambda strength: TIGHT) if nested else rough)
    weight, bias = study.design.plain(final)
    return Probe(
        weight=weight.float().numpy(),
        bias=bias.float().numpy(),
        strength=chosen,
        strengths=tuple(outer),
        losses=tuple(losses),
        scores=tuple(scores),
        out_of_fold=held_out,
        fold_strengths=tuple(fold_strengths),
        iterations=study.evaluations,
    )
