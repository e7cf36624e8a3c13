"""Networks as they were published: the backbone and its old output layer together again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from regraft.errors import ModelError
from regraft.facts import ModelFacts
from regraft.pretrained.architectures import architecture_of, build
from regraft.pretrained.architectures.timm import imagenet_names
from regraft.pretrained.base import Old

if TYPE_CHECKING:
    from torch import Tensor, nn


def as_published(
    facts: ModelFacts, weights: Callable[[ModelFacts], dict[str, Tensor]], old_head: Callable[[ModelFacts], dict[str, Tensor]]
) -> Old | None:
    """A network whose old output layer is one linear layer on its features; None when it has none.

    Where nothing says what its classes are called and it was trained on ImageNet last, they are ImageNet's.
    """
    if facts.outputs < 2:
        return None
    labels = facts.labels
    if not labels and facts.trained_on.rsplit(", then ", 1)[-1].startswith("ImageNet"):
        labels = imagenet_names(facts.outputs)

    def make() -> nn.Module:
        import torch

        network = build(facts.architecture, facts.outputs)
        path = architecture_of(facts.architecture).head(facts.architecture)
        state = {**weights(facts), **old_head(facts)}
        # some have none
        state.setdefault(f"{path}.bias", torch.zeros(facts.outputs))
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise ModelError(f"the old output layer of {facts.name} does not fit it: {str(error).splitlines()[-1].strip()}") from None
        return network.eval()

    return Old(facts.outputs, labels, facts.architecture, make)
