"""What was found or decided: plain, JSON-able, without torch. A fact is here when two rooms or a screen read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Plain data, rounded to what means something."""
        return {"value": round(self.value, 6), "low": round(self.low, 6), "high": round(self.high, 6)}


@dataclass(frozen=True)
class LeftOut:
    """An example that could not be used, and why."""

    name: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """Plain data."""
        return {"name": self.name, "reason": self.reason}


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a pretrained network before it is opened.

    `architecture` names how to build it, `preprocessing` what its input must look like; both go into a bundle.
    `parameters` counts the backbone. `tile` is the number of examples in one fixed batch of the frozen part.
    """

    name: str
    task: str
    about: str
    trained_on: str
    published: str
    licence: str
    origin: str
    parameters: int
    features: int
    tile: int
    architecture: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    package: str = ""
    version: str = ""
    file: str = ""
    sha256: str = ""
    extra_files: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Files that travel with the network (a tokenizer): name in the bundle -> ending of the path in the package, SHA-256."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Prediction:
    """What a model says of one input. `probabilities` follows the model's order of labels."""

    name: str
    label: str
    probability: float
    probabilities: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "label": self.label,
            "probability": round(self.probability, 6),
            "probabilities": {k: round(v, 6) for k, v in self.probabilities.items()},
        }
