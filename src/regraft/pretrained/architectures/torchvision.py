"""Image networks of torchvision, by name, where it can be imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, ModelError, nearest
from regraft.pretrained.base import Architecture
from regraft.pretrained.operators import declare_missing_operators

if TYPE_CHECKING:
    from torch import nn


def library_of_networks() -> Any:
    """torchvision's models; MissingExtra when it cannot be imported."""
    declare_missing_operators()
    try:
        import torchvision.models
    except (ImportError, RuntimeError) as error:
        raise MissingExtra(
            f"torchvision: networks need torchvision ({error})", move="pip install torchvision, of the version of your torch"
        ) from None
    return torchvision.models


def build(description: Mapping[str, Any], classes: int) -> nn.Module:
    """torchvision's network `description["name"]` with random weights; takes x (n, 3, h, w), gives (n, classes) or features."""
    from torch import nn

    path = head(description)
    network = _make(str(description.get("name")), classes or 1)
    if not classes:
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Identity())
    return network


def _make(name: str, classes: int) -> nn.Module:
    library = library_of_networks()
    if name not in names():
        raise ModelError(
            f"torchvision has no image network {name!r}. {nearest(name, names())}".rstrip(), move="pip install --upgrade torchvision"
        )
    return library.get_model(name, weights=None, num_classes=classes)


def names() -> list[str]:
    """Those that tell classes of whole pictures."""
    library = library_of_networks()
    return library.list_models(module=library)


def head(description: Mapping[str, Any]) -> str:
    """The path of the output layer."""
    return str(description.get("head", "fc"))


def describe(name: str) -> tuple[dict[str, Any], dict[str, Any], int, int]:
    """(architecture, preprocessing, features, parameters) of a network; nothing is loaded. ModelError for what is not supported."""
    import torch
    from torch import nn

    with torch.device("meta"):
        one, other = _make(name, 7), _make(name, 9)
        sizes = {k: v.shape for k, v in other.state_dict().items()}
        paths = {k.rpartition(".")[0] for k, v in one.state_dict().items() if v.shape != sizes[k]}
        layer = one.get_submodule(next(iter(paths))) if len(paths) == 1 else None
        if not isinstance(layer, nn.Linear):
            raise ModelError(
                f"torchvision's {name} has no single linear output layer", expected="such as resnet18, mobilenet_v3_small, vit_b_16"
            )
        description = {"builder": "torchvision", "name": name, "head": next(iter(paths))}
        parameters = sum(p.numel() for p in build(description, 0).parameters())
    preset = library_of_networks().get_model_weights(name).DEFAULT.transforms()
    modes = {"bilinear": "bilinear", "bicubic": "bicubic"}
    if preset.interpolation.value not in modes:
        raise ModelError(f"torchvision's {name} resizes by {preset.interpolation.value}", expected=" or ".join(modes))
    preprocessing = {
        "size": preset.crop_size[0],
        "resize_to": preset.resize_size[0],
        "crop_pct": 1.0,
        "interpolation": modes[preset.interpolation.value],
        "mean": list(preset.mean),
        "std": list(preset.std),
    }
    return description, preprocessing, layer.in_features, parameters


ARCHITECTURE = Architecture("torchvision", build, head)
