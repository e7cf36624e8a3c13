"""pretrained: networks that others trained, opened safely.

In: a name such as `packaged:efficientnet-lite0`.     Out: facts, weights as plain tensors, a torch module.
Never: runs code from a package or file of weights, or trains. Opens a connection only for a name of a hub (`timm:`, `hf:`).
Invariant: weights are read with safetensors or `torch.load(weights_only=True)`, after their hash was checked where one is known.
"""

from __future__ import annotations

import contextlib
import importlib.util

from regraft.errors import MissingExtra, RegraftError, UsageError, nearest
from regraft.facts import ModelFacts
from regraft.pretrained import hf, hub, packaged, path, python, timm, torchvision
from regraft.pretrained.base import FREELY, Access, Source

SOURCES: dict[str, Source] = {s.name: s for s in (packaged.SOURCE, timm.SOURCE, hf.SOURCE, path.SOURCE, torchvision.SOURCE, python.SOURCE)}

__all__ = ["FREELY", "SOURCES", "Access", "Source", "all_models", "default_model", "fetched_models", "find_model", "source_of"]


def all_models() -> list[ModelFacts]:
    """Every network that the sources list, in their order: the first of a task is its default."""
    return [facts for source in SOURCES.values() for facts in source.models()]


def find_model(name: str, may: Access = FREELY) -> ModelFacts:
    """The facts of the network called `name`; `packaged:` may be left away.

    A name that begins with a source's, such as `timm:`, is looked up there: that may open a connection and fetch small files,
    as far as `may` allows. Raises UsageError with the nearest names, ModelError when the network cannot be used.
    """
    if may.allow and not name.startswith("path:"):
        raise UsageError(
            f"--allow says which differences of weights on this machine are meant, and {name} is not path:", move="leave --allow away"
        )
    known = {facts.name: facts for facts in all_models()}
    for candidate in (name, f"packaged:{name}"):
        if candidate in known:
            return known[candidate]
    prefix, _, rest = name.partition(":")
    if prefix not in SOURCES and rest and (facts := _own_code(name, may)) is not None:
        return facts
    if prefix in SOURCES and rest:
        source = SOURCES[prefix]
        if (facts := source.find(rest, may)) is not None:
            return facts
        hint = nearest(rest, [full.split(":", 1)[1] for full in known if full.startswith(f"{prefix}:")] or source.nearest(rest))
    else:
        # compared without what all names begin with, or any short word would be near some short name
        hint = nearest(rest or name, [full.split(":", 1)[1] for full in known])
    raise UsageError(f"there is no network {name!r}. {hint}".rstrip(), move=_elsewhere(name) or "regraft models")


def _own_code(name: str, may: Access) -> ModelFacts | None:
    """package.module:function without `python:` before it, when there is such a package; looking for that runs none of its code."""
    package = name.split(":", 1)[0].split(".", 1)[0]
    if not package.isidentifier() or importlib.util.find_spec(package) is None:
        return None
    return python.SOURCE.find(name, may)


def _elsewhere(name: str) -> str:
    """The name with the source that has it, when only that was left away."""
    for prefix, source in SOURCES.items():
        # a source whose library is not installed has nothing to offer
        with contextlib.suppress(MissingExtra):
            if name in source.nearest(name):
                return f"{prefix}:{name}"
    return ""


def fetched_models(task: str) -> list[ModelFacts]:
    """The networks of a task that the catalogue knows and that were fetched from a hub before, each at the commit that is here; nothing
    goes over the network, now or when they are opened by these names.
    """
    from regraft.pretrained.catalogue import entries

    found: list[ModelFacts] = []
    for repository, commit in hub.fetched():
        owner, _, rest = repository.partition("/")
        name = f"timm:{rest}" if owner == "timm" else f"hf:{repository}"
        known = entries().get(name)
        if known is not None and known.task == task:
            # what is not here whole, or takes a library that is not, cannot race
            with contextlib.suppress(RegraftError):
                found.append(find_model(f"{name}@{commit}", Access(offline=True)))
    return found


def default_model(task: str) -> ModelFacts:
    """The first network of a task."""
    return next(facts for facts in all_models() if facts.task == task)


def source_of(facts: ModelFacts) -> Source:
    """Where a network comes from."""
    return SOURCES[facts.name.split(":", 1)[0]]
