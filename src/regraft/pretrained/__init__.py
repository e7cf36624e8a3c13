"""pretrained: networks that others trained, opened safely.

In: a name such as `packaged:efficientnet-lite0`.     Out: facts, weights as plain tensors, a torch module.
Never: runs code from a package or file of weights, opens a connection, or trains.
Invariant: weights are read with safetensors or `torch.load(weights_only=True)`, after their SHA-256 was checked.
"""

from __future__ import annotations

from regraft.errors import UsageError, nearest
from regraft.facts import ModelFacts
from regraft.pretrained import packaged
from regraft.pretrained.base import Source

SOURCES: dict[str, Source] = {s.name: s for s in (packaged.SOURCE,)}

__all__ = ["SOURCES", "Source", "all_models", "default_model", "find_model", "source_of"]


def all_models() -> list[ModelFacts]:
    """Every network that the sources list, in their order: the first of a task is its default."""
    return [facts for source in SOURCES.values() for facts in source.models()]


def find_model(name: str) -> ModelFacts:
    """The facts of the network called `name`; `packaged:` may be left away."""
    known = {facts.name: facts for facts in all_models()}
    for candidate in (name, f"packaged:{name}"):
        if candidate in known:
            return known[candidate]
    # compared without what all names begin with, or any short word would be near some short name
    close = nearest(name.split(":", 1)[-1], [full.split(":", 1)[1] for full in known])
    raise UsageError(f"there is no network {name!r}. {close}".rstrip(), move="regraft models")


def default_model(task: str) -> ModelFacts:
    """The first network of a task."""
    return next(facts for facts in all_models() if facts.task == task)


def source_of(facts: ModelFacts) -> Source:
    """Where a network comes from."""
    return SOURCES[facts.name.split(":", 1)[0]]
