"""Images mixed in pairs, and their losses with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """How the images of a batch are mixed: each with its `partner` (n,), of which it keeps the part `share`; in a `box` (top, bottom, left,
    right, as parts of height and width), or everywhere.
    """

    partner: Tensor
    share: float
    box: tuple[float, float, float, float] | None = None

    def of(self, images: Tensor) -> Tensor:
        """Images (n, channels, height, width), mixed."""
        others = images[self.partner.to(images.device)]
        if self.box is None:
            return torch.lerp(others, images, self.share)
        top, bottom, left, right = self._pixels(*images.shape[-2:])
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return mixed

    def exact(self, height: int, width: int) -> float:
        """The part that an image keeps of itself, in whole pixels."""
        if self.box is None:
            return self.share
        top, bottom, left, right = self._pixels(height, width)
        return 1 - (bottom - top) * (right - left) / (height * width)

    def _pixels(self, height: int, width: int) -> tuple[int, int, int, int]:
        assert self.box is not None
        top, bottom, left, right = self.box
        return round(top * height), round(bottom * height), round(left * width), round(right * width)


def drawn_mix(count: int, mixup: float, cutmix: float, key: list[int]) -> Mix:
    """A mix of so many images, the same for the same key. mixup: Zhang et al. 2018; cutmix: Yun et al. 2019; both with one share and one
    box a batch, as their authors' code has it.
    """
    rng = np.random.default_rng(key)
    partner = torch.from_numpy(rng.permutation(count))
    alpha = cutmix or mixup
    share = float(rng.beta(alpha, alpha))
    if not cutmix:
        return Mix(partner, share)
    side = (1 - share) ** 0.5
    middle = rng.uniform(size=2)
    low, high = (np.clip(middle + sign * side / 2, 0, 1) for sign in (-1, 1))
    return Mix(partner, share, (float(low[0]), float(high[0]), float(low[1]), float(high[1])))
