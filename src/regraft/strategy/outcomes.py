"""What was predicted of fits on this machine, and what came of it: corrects the next predictions. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from regraft.strategy.cost import Range, Z

BELIEF = 2.0
"""A prediction counts as much as so many outcomes."""

MOST = 30
"""Outcomes that are looked at: the latest."""


def corrected(predicted: Range, ratios: Sequence[float]) -> Range:
    """A prediction after what came of earlier ones: `ratios` are measured over predicted, the latest last. Their median moves it, their
    spread (1.48 times the median deviation, which a few odd ones do not change) widens or narrows it; few ratios do little of either.
    """
    logs = [math.log(r) for r in ratios[-MOST:] if r > 0 and math.isfinite(r)]
    if not logs or predicted.value <= 0:
        return predicted
    share = len(logs) / (len(logs) + BELIEF)
    middle = median(logs)
    factor = math.exp(share * middle)
    moved = predicted.times(factor)
    if len(logs) < 4:
        return moved
    wide = Z * 1.48 * median(abs(v - middle) for v in logs)

    def blended(width: float) -> float:
        return math.exp(math.sqrt((1 - share) * width**2 + share * wide**2))

    below = blended(math.log(moved.value / moved.low)) if moved.low > 0 else math.inf
    return Range(moved.value, moved.value / below, moved.value * blended(math.log(moved.high / moved.value)))


@dataclass(frozen=True)
class Outcome:
    """What was predicted of a fit, and what came of it. `stages` are seconds by name, (predicted, measured), as predictions were before
    earlier outcomes corrected them; so is `memory` in MB. `figure` is on the scale of `strategy.gains.scaled`.
    """

    train: str
    model: str
    device: str
    stages: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    memory: tuple[float, float] | None = None
    figure: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        found: dict[str, Any] = {"train": self.train, "model": self.model, "device": self.device}
        found["stages"] = {name: [round(v, 4) for v in pair] for name, pair in self.stages.items()}
        more = {"memory": self.memory, "figure": self.figure}
        return {**found, **{k: [round(x, 4) for x in v] for k, v in more.items() if v is not None}}

    @classmethod
    def from_json(cls, values: Any) -> Outcome:
        """What `to_json` gave; ValueError, TypeError or KeyError for anything else."""
        stages = {str(name): _pair(pair) for name, pair in dict(values["stages"]).items()}
        both = [_pair(values[k]) if values.get(k) is not None else None for k in ("memory", "figure")]
        return cls(str(values["train"]), str(values["model"]), str(values["device"]), stages, *both)


def _pair(values: Any) -> tuple[float, float]:
    predicted, measured = map(float, values)
    if not math.isfinite(predicted) or not math.isfinite(measured):
        raise ValueError("a number that is none")
    return predicted, measured


def ratios(outcomes: Sequence[Outcome], stage: str, device: str) -> list[float]:
    """Measured over predicted seconds of a stage, on such a device."""
    pairs = [o.stages[stage] for o in outcomes if stage in o.stages and o.device == device]
    return [measured / predicted for predicted, measured in pairs if predicted > 0 and measured > 0]


def memory_ratios(outcomes: Sequence[Outcome], *, deeper: bool, device: str) -> list[float]:
    """Measured over predicted memory of fits of the head, or of deeper ones."""
    shallow = ("head", "none")
    pairs = [o.memory for o in outcomes if o.memory and o.device == device and (o.train not in shallow) == deeper]
    return [measured / predicted for predicted, measured in pairs if predicted > 0 and measured > 0]


def in_stages(predicted: Mapping[str, Range], outcomes: Sequence[Outcome], device: str) -> dict[str, Range]:
    """The stages after what came of earlier ones."""
    return {name: corrected(r, ratios(outcomes, name, device)) for name, r in predicted.items()}


def stage_of(name: str) -> str:
    """What a stage of a fit's events counts as here; empty for what no prediction is made of."""
    plain = name.removesuffix(" of views")
    if plain.startswith(("training, ", "contrastive, ", "training of ", "contrastive of ")):
        return "training"
    if plain in ("comparison", "features again"):
        return "features"
    return plain if plain in ("features", "output layer", "without the network", "frozen part", "preparing") else ""
