"""Sentence encoders: a BERT of transformers, the mean over its tokens, length one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra
from regraft.pretrained.base import Architecture
from regraft.pretrained.operators import declare_missing_operators

if TYPE_CHECKING:
    from torch import nn


def build(description: Mapping[str, Any], classes: int) -> nn.Module:
    """A module of input_ids and attention_mask, each (n, length), giving (n, classes) or features (n, hidden_size).

    `description["config"]` is transformers' BertConfig as plain data.
    """
    import torch
    from torch import nn

    declare_missing_operators()
    try:
        from transformers.models.bert.configuration_bert import BertConfig
        from transformers.models.bert.modeling_bert import BertModel
    except ImportError as error:
        raise MissingExtra(f"text networks need transformers ({error})", move="pip install 'regraft[text]'") from None

    class SentenceEncoder(nn.Module):
        """Reimers & Gurevych 2019, "Sentence-BERT" (arXiv 1908.10084): the mean of the token vectors, normalised."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = BertModel(BertConfig(**description["config"]), add_pooling_layer=False)
            width = int(description["config"]["hidden_size"])
            self.head = nn.Linear(width, classes) if classes else nn.Identity()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask[..., None].to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp_min(1e-9)
            return self.head(nn.functional.normalize(mean, dim=1))

    return SentenceEncoder()


ARCHITECTURE = Architecture("sentence", build)
