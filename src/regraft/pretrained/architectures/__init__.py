"""architectures: how networks are built from a description. One file, one record each.

In: a plain description and a number of classes.     Out: a torch module with random weights and a new output layer.
Never: reads weights, or opens a connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import ModelError, nearest
from regraft.pretrained.architectures import ngram, published, python, sentence, speech, timm, torchvision, transformers, voice
from regraft.pretrained.base import Architecture

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (
        timm.ARCHITECTURE,
        sentence.ARCHITECTURE,
        ngram.ARCHITECTURE,
        speech.ARCHITECTURE,
        voice.ARCHITECTURE,
        transformers.ARCHITECTURE,
        torchvision.ARCHITECTURE,
        python.ARCHITECTURE,
    )
}

__all__ = ["ARCHITECTURES", "architecture_of", "build"]


def architecture_of(description: Mapping[str, Any]) -> Architecture:
    """The record that a description names; ModelError when there is none."""
    name = str(description.get("builder"))
    if name not in ARCHITECTURES:
        raise ModelError(
            f"there is no architecture {name!r}. {nearest(name, list(ARCHITECTURES))}".rstrip(), move="pip install --upgrade regraft"
        )
    return ARCHITECTURES[name]


def _published(description: Mapping[str, Any], classes: int) -> nn.Module:
    """One of the others inside: the kinds do not know each other."""
    inner = description.get("network")
    if not isinstance(inner, Mapping) or inner.get("builder") == published.NAME or type(description.get("outputs")) is not int:
        raise ModelError("a published network is described without the network itself, or without the number of its outputs")
    return published.around(build(inner, description["outputs"]), description, classes)


ARCHITECTURES[published.NAME] = Architecture(published.NAME, _published)


def build(description: Mapping[str, Any], classes: int) -> nn.Module:
    """The network of a description with an output layer for `classes`, or none when 0."""
    return architecture_of(description).build(description, classes)
