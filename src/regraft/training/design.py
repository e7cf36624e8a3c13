"""The rows that every fit of an output layer shares: standardised, turned to their principal axes, sorted by fold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK_BYTES = 16 << 20
"""Bound on one block of rows or of scores (rows x problems x outputs), float32; several are alive at once in every thread."""

FLOOR = 0.1
"""Least deviation that a feature is divided by, as a part of the root mean square of all deviations."""

DESIGN_BYTES = 384 << 20
"""Bound on the rotated copy of the features; beyond it the features are read in blocks from where they lie."""


class Design:
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
        block = self.features[self.order[part]]
        out = torch.empty(len(block), block.shape[1] + 1)
        torch.sub(block, self.mean32, out=out[:, :-1]).mul_(self.scale32)
        out[:, -1] = 1
        return out

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

    def turned(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Weights (width, classes) of this basis that say what (weight (classes, d), bias) say of the raw features, as far as it can."""
        scaled = torch.where(self.scale > 0, 1 / self.scale.clamp_min(1e-30), 0.0)[:, None] * weight.T
        return torch.cat([self.rotation.T @ scaled.float(), (bias + self.mean @ weight.T).float()[None]])
