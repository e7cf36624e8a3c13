"""Speech encoders: the encoder of a Whisper of transformers on sound of any length up to its 30 seconds, the mean over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra
from regraft.pretrained.base import Architecture
from regraft.pretrained.operators import declare_missing_operators

if TYPE_CHECKING:
    from torch import nn


def build(description: Mapping[str, Any], classes: int) -> nn.Module:
    """A module of mel (n, bands, frames) and positions (n,), giving (n, classes) or features (n, d_model).

    `positions` says how many of the frames / 2 positions hold sound: only they enter the mean.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    declare_missing_operators()
    try:
        from transformers.models.whisper.configuration_whisper import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder
    except ImportError as error:
        raise MissingExtra(f"speech networks need transformers ({error})", move="pip install 'regraft[audio]'") from None

    class SpeechEncoder(nn.Module):
        """Radford et al. 2022 (arXiv 2212.04356). Whisper pads everything to 30 s; here the first positions are used."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = WhisperEncoder(WhisperConfig(**description["config"]))
            self.head = nn.Linear(int(description["config"]["d_model"]), classes) if classes else nn.Identity()

        def forward(self, mel: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
            encoder = self.encoder
            hidden = functional.gelu(encoder.conv1(mel))
            hidden = functional.gelu(encoder.conv2(hidden)).permute(0, 2, 1)
            hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
            for layer in encoder.layers:
                hidden = layer(hidden, None)
            hidden = encoder.layer_norm(hidden)
            inside = torch.arange(hidden.shape[1], device=hidden.device)[None, :] < positions[:, None]
            mask = inside[..., None].to(hidden.dtype)
            return self.head((hidden * mask).sum(1) / mask.sum(1).clamp_min(1))

    return SpeechEncoder()


ARCHITECTURE = Architecture("speech", build)
