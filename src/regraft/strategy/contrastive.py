"""Settings of contrastive fine-tuning, from facts about the data. Each rule names where it comes from."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Contrast:
    """How an encoder learns to put examples of one class together.

    steps         updates of the weights
    batch         examples a step: all pairs among them are compared
    rate          AdamW's largest learning rate, of all layers that train
    temperature   what similarities are divided by
    warm_up       the part of the steps in which rates rise; they fall to 0 along a line afterwards
    weight_decay  AdamW's, not on biases and scales
    clip          the longest gradient
    """

    steps: int
    batch: int
    rate: float = 1e-4
    temperature: float = 0.1
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


BATCH = (8, 32)
"""Examples a step, from long ones to short ones. 32 are 496 pairs, from 32 encodings: in batches of 16 pairs (SetFit, Tunstall et al. 2022)
as many pairs take 31 steps of as many encodings. 64 a step gave nothing more (docs/log.md)."""

ROOM = 4096
"""Tokens (windows times their length) a step at most: what a step keeps for its gradient grows with them."""

STEPS = (20, 200)
"""The least, which all small sets get, and the most."""

VIEWS = 5
"""How often each example is seen, within STEPS, each time in 31 pairs; SetFit shows it in 40 pairs. Of five texts in each of 77 classes 5
did as well as 10 (docs/log.md)."""

SMALL, SMALL_RATE, RATE = 50_000_000, 1e-4, 5e-5
"""Weights below which an encoder is small, and rates: 1e-4 with 20 steps gave what 5e-5 gave with 30 (MiniLM, docs/log.md). Larger ones get
half, as they do where everything trains; SetFit takes 2e-5 for 110 million."""


def contrast_for(examples: int, length: int, parameters: int = 0) -> Contrast:
    """The settings for so many training examples, nine of ten of which have at most `length` tokens (1 for what has none), and an encoder
    of so many parameters.
    """
    least, most = BATCH
    batch = min(examples, max(least, min(most, ROOM // max(1, length))))
    fewest, limit = STEPS
    rate = SMALL_RATE if parameters < SMALL else RATE
    return Contrast(max(fewest, min(limit, math.ceil(VIEWS * examples / batch))), batch, rate)


def in_smaller_steps(contrast: Contrast) -> Contrast | None:
    """The same with half of the examples in each step, which takes half of the time: 20 steps of 16 questions gave 1 to 2 points less than
    of 30, where 10 steps gave 4 to 5 less (docs/log.md). None where that would be fewer than the least.
    """
    half = contrast.batch // 2
    return replace(contrast, batch=half) if half >= BATCH[0] else None
