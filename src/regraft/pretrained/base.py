"""The records that sources and architectures fill in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.facts import ModelFacts

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Source:
    """Where networks come from.

    models()       the facts of every network it knows
    missing(m)     why the weights of m are not here, with the install line; empty when they are
    weights(m)     the state dict of m's backbone for its architecture, without the old output layer, on the CPU
    files(m)       files that travel with it: name -> path
    """

    name: str
    about: str
    models: Callable[[], Sequence[ModelFacts]]
    missing: Callable[[ModelFacts], str]
    weights: Callable[[ModelFacts], dict[str, Tensor]]
    files: Callable[[ModelFacts], dict[str, Path]]


@dataclass(frozen=True)
class Architecture:
    """How a network is built from a description in a bundle.

    build(description, classes)    the module with random weights and a new output layer; classes 0: without one
    head                           the path of its output layer, an nn.Linear when there is one
    """

    name: str
    build: Callable[[Mapping[str, Any], int], nn.Module]
    head: str
