"""Settings of contrastive fine-tuning, from facts about the data. Each rule names where it comes from."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
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
    rate: float = 5e-5
    temperature: float = 0.1
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


BATCH = (8, 64)
"""Examples a step, from long ones to short ones. 64 are 2,016 pairs: with the batches of 16 pairs of SetFit (Tunstall et al. 2022) as many
are seen after 126 steps, each of which encodes 32 texts."""

ROOM = 4096
"""Tokens (windows times their length) a step at most: what a step keeps for its gradient grows with them."""

STEPS = (30, 200)
"""The least, which all small sets get, and the most."""

VIEWS = 20
"""How often each example is seen, within STEPS: SetFit shows each in 20 pairs of its class and 20 others."""


def contrast_for(examples: int, length: int) -> Contrast:
    """The settings for so many training examples, nine of ten of which have at most `length` tokens (1 for what has none)."""
    least, most = BATCH
    batch = min(examples, max(least, min(most, ROOM // max(1, length))))
    fewest, limit = STEPS
    return Contrast(max(fewest, min(limit, math.ceil(VIEWS * examples / batch))), batch)
