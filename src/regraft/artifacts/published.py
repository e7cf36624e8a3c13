"""A pretrained network as it was published, which predicts its own classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.artifacts.model import OutputLayer, as_they_are
from regraft.facts import ModelFacts
from regraft.modality import MODALITIES, Modality
from regraft.pretrained.base import Old
from regraft.targets import Target
from regraft.targets.classes import Classes

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Published:
    """`old` is the network with its own output layers. Classes without names are called by their numbers."""

    facts: ModelFacts
    old: Old
    files: Mapping[str, Path]

    @property
    def target(self) -> Target:
        """One class of its own."""
        return Classes(list(self.old.labels or map(str, range(self.old.outputs))))

    @property
    def modality(self) -> Modality:
        """What its input is."""
        return MODALITIES[self.facts.task]

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """How its input is prepared."""
        return self.facts.preprocessing

    @property
    def tile(self) -> int:
        """Windows in one batch."""
        return self.facts.tile

    @property
    def engine(self) -> None:
        """Nothing was fitted to features of another engine."""
        return

    def backbone(self) -> tuple[nn.Module, OutputLayer]:
        """(the whole network, and no layer behind it)."""
        return self.old.build(), as_they_are
