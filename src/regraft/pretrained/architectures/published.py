"""A network with the output layer that it came with, and behind it what makes a user's outputs of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "published"


def described(network: Mapping[str, Any], outputs: int, groups: Sequence[Sequence[int]] = ()) -> dict[str, Any]:
    """The description of a network (that of itself, with so many old classes). `groups` are the old classes of each new output."""
    return {"builder": NAME, "network": dict(network), "outputs": outputs, **({"groups": [list(g) for g in groups]} if groups else {})}


def around(network: nn.Module, description: Mapping[str, Any], classes: int) -> nn.Module:
    """`network`, which gives scores of its old classes (n, old), and a `head` behind it: nothing where `classes` is 0, a linear map
    (n, classes), or where the description has `groups` the old classes joined. ModelError for groups that cannot be.
    """
    from torch import nn

    outputs, groups = int(description["outputs"]), description.get("groups")
    if groups is not None and classes:
        _check(groups, outputs, classes)

    class Published(nn.Module):
        """As it came, and a head."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.head = nn.Identity() if not classes else joined(groups) if groups is not None else nn.Linear(outputs, classes)

        def forward(self, *values: Tensor, **inputs: Tensor) -> Tensor:
            return self.head(self.network(*values, **inputs))

    return Published()


def joined(groups: Sequence[Sequence[int]]) -> nn.Module:
    """A module of scores (n, old) that gives (n, groups): the log of the classes' summed exponentials, so that the probabilities of the
    classes in a group add up. It has no tensors of its own to save.
    """
    import torch
    from torch import nn

    most = max(map(len, groups))
    places = torch.tensor([[*own, *[own[0]] * (most - len(own))] for own in groups])
    absent = torch.tensor([[0.0] * len(own) + [float("-inf")] * (most - len(own)) for own in groups])

    class Joined(nn.Module):
        """Old classes joined to new outputs."""

        places: torch.Tensor
        absent: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("places", places, persistent=False)
            self.register_buffer("absent", absent, persistent=False)

        def forward(self, scores: Tensor) -> Tensor:
            return torch.logsumexp(scores[:, self.places] + self.absent, 2)

    return Joined()


def _check(groups: Any, outputs: int, classes: int) -> None:
    """ModelError unless they are a group of old classes for each output."""
    lists = isinstance(groups, list) and len(groups) == classes and all(isinstance(own, list) and own for own in groups)
    if not lists or not all(type(k) is int and 0 <= k < outputs for own in groups for k in own):
        raise ModelError(
            "the old classes that the network's description joins cannot be",
            expected=f"{classes} lists of numbers from 0 to {outputs - 1}, none of them empty",
        )
