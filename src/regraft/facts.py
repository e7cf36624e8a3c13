"""What was found or decided: plain, JSON-able, without torch. A fact is here when two rooms or a screen read it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regraft.errors import printable

REASON_LIMIT = 500
"""Characters of a reason; libraries quote what they could not read."""


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Plain data, rounded to what means something."""
        return {"value": _short(self.value), "low": _short(self.low), "high": _short(self.high)}


def _short(value: float) -> float:
    """Six decimals, or six digits of what is smaller than a hundredth."""
    return round(value, 6) if abs(value) >= 0.01 else float(f"{value:.6g}")


@dataclass(frozen=True)
class LeftOut:
    """An example that could not be used, and why; both can be shown on a screen as they are."""

    name: str
    reason: str

    def __post_init__(self) -> None:
        """Names and reasons may hold what stood in a file."""
        object.__setattr__(self, "name", printable(self.name))
        reason = printable(self.reason)
        object.__setattr__(self, "reason", reason if len(reason) <= REASON_LIMIT else reason[: REASON_LIMIT - 4] + " ...")

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
    outputs: int = 0
    """How many outputs its old output layer has; 0 when it has none that is kept."""
    labels: tuple[str, ...] = ()
    """What the outputs of the old output layer mean, in order; empty when that is not known."""
    repository: str = ""
    """Of a network from a hub: owner/name."""
    revision: str = ""
    """The commit of the repository, forty characters."""
    place: str = ""
    """Where a network that lies on this machine was found; not written into a bundle."""
    allow: tuple[str, ...] = ()
    """Patterns of names of tensors: where its weights may differ from its architecture."""
    new_weights: int = 0
    """Numbers that the weights lack, where that was allowed: they stay as they were drawn."""
    unused: tuple[str, ...] = ()
    """Tensors of the weights that the network lacks, where that was allowed."""

    @property
    def identity(self) -> str:
        """What the network as a whole is known by: the hash of its weights, and what was allowed to differ."""
        return self.sha256 if not self.allow else hashlib.sha256(json.dumps([self.sha256, *self.allow]).encode()).hexdigest()

    def differences(self) -> str:
        """A sentence on what was allowed to differ, or nothing."""
        said = (
            [f"{self.new_weights:,} of its weights are new: the file lacks them, and they stay as they were drawn"]
            if self.new_weights
            else []
        )
        if self.unused:
            shown = ", ".join(self.unused[:5]) + (" ..." if len(self.unused) > 5 else "")
            said.append(f"{len(self.unused)} tensors of the file are left out: {shown}")
        return f"{self.name}: {'; '.join(said)}" if said else ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Prediction:
    """What a model of classes says of one input. `probabilities` follows the model's order of labels."""

    name: str
    label: str
    probability: float
    probabilities: Mapping[str, float]

    def top(self, count: int) -> Prediction:
        """The same with the probabilities of the most probable labels alone, the most probable first."""
        return dataclasses.replace(self, probabilities=_most(self.probabilities, count))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "label": self.label,
            "probability": round(self.probability, 6),
            "probabilities": _rounded(self.probabilities),
        }

    def cells(self) -> list[str]:
        """What follows the name in a table: label, its probability, and that of every label."""
        return [self.label, f"{self.probability:.6f}", *(f"{p:.6f}" for p in self.probabilities.values())]

    def short(self) -> list[str]:
        """What follows the name on a screen."""
        return [printable(self.label), f"{self.probability:.3f}"]


@dataclass(frozen=True)
class LabelsPrediction:
    """What a model of several labels says of one input: those at or above their threshold, and the probability of each."""

    name: str
    labels: tuple[str, ...]
    probabilities: Mapping[str, float]

    def top(self, count: int) -> LabelsPrediction:
        """The same with the probabilities of the most probable labels alone, the most probable first."""
        return dataclasses.replace(self, probabilities=_most(self.probabilities, count))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"name": self.name, "labels": list(self.labels), "probabilities": _rounded(self.probabilities)}

    def cells(self) -> list[str]:
        """What follows the name in a table: the labels as a JSON list, and the probability of every label."""
        return [json.dumps(list(self.labels), ensure_ascii=False), *(f"{p:.6f}" for p in self.probabilities.values())]

    def short(self) -> list[str]:
        """What follows the name on a screen."""
        return [", ".join(f"{printable(label)} {self.probabilities[label]:.3f}" for label in self.labels) or "-"]


@dataclass(frozen=True)
class NumberPrediction:
    """What a model of a number says of one input; nine of ten new examples should lie between `low` and `high`."""

    name: str
    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"name": self.name, "value": self.value, "low": self.low, "high": self.high}

    def cells(self) -> list[str]:
        """What follows the name in a table."""
        return [f"{v:.9g}" for v in (self.value, self.low, self.high)]

    def short(self) -> list[str]:
        """What follows the name on a screen."""
        return [f"{self.value:.4g}", f"{self.low:.4g} to {self.high:.4g}"]


AnyPrediction = Prediction | LabelsPrediction | NumberPrediction


def _most(values: Mapping[str, float], count: int) -> dict[str, float]:
    return dict(sorted(values.items(), key=lambda item: -item[1])[:count])


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {k: round(v, 6) for k, v in values.items()}
