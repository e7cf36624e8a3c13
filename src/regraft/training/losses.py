"""Convex losses of an output layer. One record each; all are linear in the features up to here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """How wrong scores are.

    curvature(outputs)                  of one output at zero scores, for unit features
    residual_(scores, truth, weights)   scores (rows, jobs, outputs) become the weighted gradient in place; the loss (jobs,)
    outputs(scores)                     what is kept of scores (rows, outputs): log-probabilities, log-odds, the value
    decide(outputs)                     plain decisions: the likeliest class, log-odds above 0, the value
    each(outputs, truth)                the loss of every row
    even(outputs)                       the same against a truth that says as much for every output; None: there is no such truth
    truth(values)                       an array of targets as `residual_` takes it
    """

    name: str
    curvature: Callable[[int], float]
    residual_: Callable[[Tensor, Tensor, Tensor], Tensor]
    outputs: Callable[[Tensor], Tensor]
    decide: Callable[[Tensor], np.ndarray]
    each: Callable[[Tensor, Tensor], Tensor]
    truth: Callable[[np.ndarray], Tensor]
    direct: bool = False
    """Whether the minimum has a closed form (least squares)."""
    even: Callable[[Tensor], Tensor] | None = None


def _softmax(scores: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    index = truth[:, None, None].expand(-1, scores.shape[1], 1)
    scores -= scores.amax(2, keepdim=True)
    picked = scores.gather(2, index)
    scores.exp_()
    total = scores.sum(2, keepdim=True)
    weight = weights[:, None]
    loss = ((total.log() - picked)[..., 0] * weight).sum(0)
    scores /= total
    scores.scatter_add_(2, index, torch.full_like(picked, -1.0))
    scores *= weight[..., None]
    return loss


SOFTMAX = Loss(
    "softmax",
    lambda outputs: 1 / outputs,
    _softmax,
    lambda scores: torch.log_softmax(scores, 1),
    lambda outputs: outputs.argmax(1).numpy(),
    lambda outputs, truth: -outputs.gather(1, truth[:, None])[:, 0],
    lambda values: torch.from_numpy(values.astype(np.int64)),
    even=lambda outputs: -outputs.mean(1),
)
"""One class of several: multinomial logistic regression."""


def _logistic(scores: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    there = truth[:, None, :]
    weight = weights[:, None]
    loss = ((torch.nn.functional.softplus(scores) - scores * there).sum(2) * weight).sum(0)
    scores.sigmoid_().sub_(there).mul_(weight[..., None])
    return loss


SIGMOID = Loss(
    "logistic",
    lambda outputs: 0.25,
    _logistic,
    lambda scores: scores,
    lambda outputs: (outputs > 0).numpy(),
    lambda outputs, truth: (torch.nn.functional.softplus(outputs) - outputs * truth).mean(1),
    lambda values: torch.from_numpy(values.astype(np.float32)),
    even=lambda outputs: (torch.nn.functional.softplus(outputs) - outputs / 2).mean(1),
)
"""Several labels: a logistic regression for each against the rest, with one strength for all."""


def _squared(scores: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    scores -= truth[:, None, None]
    loss = 0.5 * (scores[..., 0] ** 2 * weights[:, None]).sum(0)
    scores *= weights[:, None, None]
    return loss


SQUARED = Loss(
    "squared",
    lambda outputs: 1.0,
    _squared,
    lambda scores: scores,
    lambda outputs: outputs[:, 0].double().numpy(),
    lambda outputs, truth: (outputs[:, 0] - truth) ** 2,
    lambda values: torch.from_numpy(values.astype(np.float32)),
    direct=True,
)
"""A number: least squares with a penalty (ridge)."""

LOSSES: dict[str, Loss] = {loss.name: loss for loss in (SOFTMAX, SIGMOID, SQUARED)}
