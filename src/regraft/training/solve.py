"""Two ways to the minimum: L-BFGS over many problems side by side, and normal equations for least squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from regraft.training.design import BLOCK_BYTES, Design
from regraft.training.losses import Loss

HISTORY = 6
"""Pairs that L-BFGS remembers."""


class Problems:
    """Losses and gradients of many regressions that differ in left-out folds and strength."""

    def __init__(
        self,
        loss: Loss,
        design: Design,
        truth: Tensor,
        weights: Tensor,
        outputs: int,
        left_out: Sequence[frozenset[int]],
        strengths: Tensor,
    ) -> None:
        self.loss, self.design, self.truth, self.weights, self.outputs = loss, design, truth, weights, outputs
        self.left_out, self.strengths = left_out, strengths
        folds = len(design.starts) - 1
        mass = [float(weights[design.starts[f] : design.starts[f + 1]].sum()) for f in range(folds)]
        # where nothing of weight is left, the penalty alone decides: a model that says nothing
        self.mass = torch.tensor([sum(m for f, m in enumerate(mass) if f not in out) for out in left_out]).clamp_min(1e-30)

    def __call__(self, w: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """(loss (a,), gradient (width, a, outputs)) at w (width, a, outputs) for the problems numbered `active`."""
        design, c = self.design, self.outputs
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
            # as (columns, width): with few columns the other way round is up to seven times slower
            gf = torch.zeros(wf.shape[1], width)
            lf = torch.zeros(len(inside))
            for i in range(start, stop, rows):
                part = slice(i, min(i + rows, stop))
                z = design.rows(part)
                scores = (z @ wf).view(len(z), len(inside), c)
                lf += self.loss.residual_(scores, self.truth[part], self.weights[part])
                gf.addmm_(scores.view(len(z), -1).T, z)
            gf = gf.T.reshape(width, len(inside), c)
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


def minimise(problems: Problems, w: Tensor, tolerance: Tensor, limit: int, watch: Callable[[], None]) -> tuple[Tensor, int]:
    """Minimise every problem from w (width, problems, outputs) by L-BFGS; returns (weights, function evaluations).

    Nocedal & Wright, Numerical Optimization, algorithm 7.4, with the curvature at zero weights as initial metric and a
    backtracking (Armijo) step, enough for a strictly convex function. Problems that have converged leave the batch.
    """
    width, count, c = w.shape
    w = w.clone()
    curvature = (
        problems.design.curvature[:, None] * problems.loss.curvature(c) + problems.design.penalty[:, None] * problems.strengths[None, :]
    )
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


class NormalEquations:
    """Ridge regression in closed form: for each set of left-out folds the sums of the others, one factorisation a strength.

    Minimises the (weighted) mean of half the squared errors plus strength/2 times the squared weights; the bias is free.
    """

    def __init__(self, design: Design, truth: Tensor, weights: Tensor) -> None:
        self.design = design
        width, folds = 0, len(design.starts) - 1
        self.grams: list[Tensor] = []
        self.sides: list[Tensor] = []
        self.mass: list[float] = []
        for f in range(folds):
            gram = side = torch.zeros(())
            start, stop = design.starts[f], design.starts[f + 1]
            step = max(64, BLOCK_BYTES // (4 * max(1, design.width)))
            for i in range(start, stop, step):
                part = slice(i, min(i + step, stop))
                rows = design.rows(part).double()
                weighted = rows * weights[part].double()[:, None]
                gram = gram + weighted.T @ rows
                side = side + weighted.T @ truth[part].double()
                width = rows.shape[1]
            self.grams.append(gram)
            self.sides.append(side)
            self.mass.append(float(weights[start:stop].sum()))
        self.width = width

    def __call__(self, left_out: frozenset[int], strengths: Sequence[float]) -> list[Tensor]:
        """Weights (width, 1) in the design's basis for each strength."""
        kept = [f for f in range(len(self.grams)) if f not in left_out]
        gram, side = torch.zeros(self.width, self.width, dtype=torch.float64), torch.zeros(self.width, dtype=torch.float64)
        # (where nothing of weight is left, the penalty alone decides)
        mass = sum(self.mass[f] for f in kept) or 1.0
        for f in kept:
            gram += self.grams[f]
            side += self.sides[f]
        out = []
        diagonal = gram.diagonal()
        free = diagonal.clone()
        for strength in strengths:
            diagonal.copy_(free + strength * mass)
            diagonal[-1] = free[-1] if free[-1] > 0 else 1.0
            factor = torch.linalg.cholesky(gram)
            solution = torch.cholesky_solve(side[:, None], factor)
            out.append(self.design.leave(solution.float()))
        return out
