"""Which engine runs the frozen part, and whether what it gives is close enough. Pure: timings and counts in, a choice out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TIMED_FROM = 300
"""Examples from which engines are timed. Below, what timing and making another one takes (3 to 5 s) is not won back."""

CLEARLY = 0.85
"""An engine is taken in place of the reference when it needs at most this part of its time: timings on a busy machine vary by 10 %."""

SAMPLE = 256
"""Examples at most whose features are computed twice, to compare predictions: one that differs is 0.4 %."""

EQUAL = 0.995
"""Least share of equal predictions."""


@dataclass(frozen=True)
class Timing:
    """What one engine was measured to do. `setup` seconds before the first tile is done, then `rate` windows a second."""

    label: str
    setup: float
    rate: float
    exact: bool
    """Whether its features are torch float32's but for the order of summation, so that nothing needs to be compared."""

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {"engine": self.label, "setup": round(self.setup, 3), "rate": round(self.rate, 2), "exact": self.exact}


def worth_timing(examples: int) -> bool:
    """Whether so many examples can pay for looking for a faster engine."""
    return examples >= TIMED_FROM


def sample_size(examples: int) -> int:
    """How many training examples are compared: a tenth, 64 to 256, never more than there are."""
    return min(examples, SAMPLE, max(64, examples // 10))


def seconds(timing: Timing, reference: Timing, examples: int) -> float:
    """What a pass over so many examples takes, with what comparing costs: the sample goes through the reference too."""
    compared = 0.0 if timing.exact else sample_size(examples) / reference.rate
    return timing.setup + examples / timing.rate + compared


def pick(reference: Timing, others: Sequence[Timing], examples: int) -> Timing:
    """The engine that is done first; the reference unless another is clearly faster, an exact one unless another clearly is."""
    best = reference
    for timing in sorted(others, key=lambda t: (not t.exact, t.label)):
        if timing.rate > 0 and seconds(timing, reference, examples) <= CLEARLY * seconds(best, reference, examples):
            best = timing
    # of two that are nearly equal the first one stood; the fastest of the same kind is still better
    alike = [t for t in others if best is not reference and t.exact == best.exact and t.rate > 0]
    return min(alike, key=lambda t: seconds(t, reference, examples), default=best)


def objection(equal: int, examples: int, figure: float, reference: float, slack: float) -> str:
    """Why features are not close enough to torch float32's; empty when they are.

    `equal` of `examples` held-out predictions are the same. `figure` is the score (higher is better) on these features, `reference` on
    torch float32's; it may fall by `slack`, which is what so few examples cannot tell from nothing.
    """
    if equal < EQUAL * examples:
        return f"{examples - equal:,} of {examples:,} predictions differ, more than {100 * (1 - EQUAL):.1f} %"
    if reference - figure > slack:
        return f"its held-out figure is lower: {abs(figure):.4g} in place of {abs(reference):.4g}"
    return ""
