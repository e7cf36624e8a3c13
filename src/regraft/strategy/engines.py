"""Which engine runs the frozen part, and whether what it gives is close enough. Pure: timings and counts in, a choice out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TIMED_FROM = 400
"""Examples from which another engine than torch float32 is looked for. Timing all of them takes 4 to 5 s, the first time on a machine;
400 photographs take torch float32 9 s with EfficientNet-Lite0 on two cores, and OpenVINO 2."""

SHORT = 15.0
"""Seconds of torch float32 up to which nothing else is timed: making and timing the others takes 5, and the best saves two thirds."""

CLEARLY = 0.85
"""An engine is taken in place of the reference when it needs at most this part of its time: timings on a busy machine vary by 10 %."""

SAMPLE = 256
"""Examples at most whose features are computed twice, to compare predictions: one that differs is 0.4 %."""

REFUSED = 0.5
"""How often features that were rounded are refused: a guess, after 3 of the 5 sets that were tried (docs/log.md)."""

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


def is_short(reference: Timing, examples: int) -> bool:
    """Whether the reference is done with so many examples before looking for another engine could pay."""
    return examples <= SHORT * reference.rate


def sample_size(examples: int) -> int:
    """How many training examples are compared: a tenth, 64 to 256, never more than there are."""
    return min(examples, SAMPLE, max(64, examples // 10))


def sample_places(examples: int) -> list[int]:
    """Which of so many training examples are compared: evenly from all over the data."""
    count = sample_size(examples)
    return sorted({round(i * (examples - 1) / max(1, count - 1)) for i in range(count)})


def seconds(timing: Timing, exact: Timing, examples: int) -> float:
    """What a pass over so many examples is expected to take. With an engine that rounds, a sample goes through an exact one too, and
    when predictions differ there everything does.
    """
    if timing.exact:
        return timing.setup + examples / timing.rate
    sample = sample_size(examples) * (1 / exact.rate + REFUSED / timing.rate)
    return timing.setup + sample + (1 - REFUSED) * examples / timing.rate + REFUSED * examples / exact.rate


def pick(reference: Timing, others: Sequence[Timing], examples: int) -> tuple[Timing, Timing]:
    """(the engine to take, the best exact one). The reference stands unless another is clearly faster, and an exact engine unless one
    that rounds clearly is.
    """
    fastest = _least([t for t in others if t.exact], reference, examples, reference)
    exact = fastest if seconds(fastest, reference, examples) <= CLEARLY * seconds(reference, reference, examples) else reference
    rounded = _least([t for t in others if not t.exact], exact, examples, exact)
    return (rounded if seconds(rounded, exact, examples) <= CLEARLY * seconds(exact, exact, examples) else exact), exact


def _least(timings: Sequence[Timing], exact: Timing, examples: int, default: Timing) -> Timing:
    """The one that is expected to be done first; of equal ones the first by name."""

    def cost(timing: Timing) -> tuple[float, str]:
        return seconds(timing, exact, examples), timing.label

    return min((t for t in timings if t.rate > 0), key=cost, default=default)


def objection(equal: int, examples: int, figure: float, reference: float, slack: float) -> str:
    """Why features are not close enough to exact ones; empty when they are.

    `equal` of `examples` held-out predictions are the same. `figure` is the score (higher is better) on these features, `reference` on
    exact ones; it may fall by `slack`, which is what so few examples cannot tell from nothing.
    """
    if equal < EQUAL * examples:
        return f"{examples - equal:,} of {examples:,} predictions differ, more than {100 * (1 - EQUAL):.1f} %"
    if reference - figure > slack:
        return f"its held-out figure is lower: {abs(figure):.4g} in place of {abs(reference):.4g}"
    return ""
