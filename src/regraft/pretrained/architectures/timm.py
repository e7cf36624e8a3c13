"""Image networks of timm, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, ModelError
from regraft.pretrained.base import Architecture
from regraft.pretrained.operators import declare_missing_operators

if TYPE_CHECKING:
    from torch import nn


def build(description: Mapping[str, Any], classes: int) -> nn.Module:
    """timm's network `description["name"]` with random weights; takes x (n, 3, h, w), gives (n, classes) or features."""
    declare_missing_operators()
    try:
        import timm
    except ImportError as error:
        raise MissingExtra(f"image networks need timm ({error})", move="pip install 'regraft[image]'") from None
    name = str(description.get("name"))
    if not timm.is_model(name):
        raise ModelError(f"timm {timm.__version__} has no network {name!r}", move="pip install --upgrade timm")
    return timm.create_model(name, pretrained=False, num_classes=classes)


ARCHITECTURE = Architecture("timm", build, head="classifier")
