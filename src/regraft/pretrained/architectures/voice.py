"""Voice encoders: recurrent layers over mel frames, their last state, length one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.pretrained.base import Architecture

if TYPE_CHECKING:
    from torch import nn


def build(description: Mapping[str, Any], classes: int) -> nn.Module:
    """A module of mel (n, bands, frames), giving (n, classes) or features (n, features), none of them negative.

    `description["config"]`: bands, hidden, layers, features.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    bands, hidden, layers, features = (int(description["config"][k]) for k in ("bands", "hidden", "layers", "features"))

    class VoiceEncoder(nn.Module):
        """Wan et al. 2018, "Generalized End-to-End Loss for Speaker Verification" (arXiv 1710.10467), without its loss."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(bands, hidden, layers, batch_first=True)
            self.linear = nn.Linear(hidden, features)
            self.head = nn.Linear(features, classes) if classes else nn.Identity()

        def forward(self, mel: torch.Tensor) -> torch.Tensor:
            _, (last, _) = self.lstm(mel.transpose(1, 2))
            return self.head(functional.normalize(torch.relu(self.linear(last[-1])), dim=1))

    return VoiceEncoder()


ARCHITECTURE = Architecture("voice", build)
