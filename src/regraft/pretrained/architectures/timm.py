"""Image networks of timm, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, ModelError, nearest
from regraft.pretrained.base import Architecture
from regraft.pretrained.operators import declare_missing_operators

if TYPE_CHECKING:
    from torch import nn


def build(description: Mapping[str, Any], classes: int) -> nn.Module:
    """timm's network `description["name"]` with random weights; takes x (n, 3, h, w), gives (n, classes) or features.

    `description["head"]` is the path of its output layer, `classifier` when it is not said. With `"head": ""` the network has none
    that one linear layer can stand for (two of them, a convolution): it is built without, as `backbone`, and one follows, `head`.
    """
    library = library_of_networks()
    name = str(description.get("name"))
    if not library.is_model(name):
        raise ModelError(
            f"timm {library.__version__} has no network {name!r}. {nearest(name, library.list_models())}".rstrip(),
            move="pip install --upgrade timm",
        )
    if description.get("head") != "":
        return library.create_model(name, pretrained=False, num_classes=classes)
    from torch import Tensor, nn

    class WithHead(nn.Module):
        """A network without its output layers, and a linear one behind it."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = library.create_model(name, pretrained=False, num_classes=0)
            self.head = nn.Linear(int(description["features"]), classes) if classes else nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.backbone(x))

    return WithHead()


def head(description: Mapping[str, Any]) -> str:
    """The path of the output layer."""
    return str(description.get("head", "classifier")) or "head"


def library_of_networks() -> Any:
    """timm; MissingExtra with the install line when it cannot be imported."""
    declare_missing_operators()
    try:
        import timm
    except ImportError as error:
        raise MissingExtra(f"image networks need timm ({error})", move="pip install 'regraft[image]'") from None
    return timm


_SUBSETS = {1_000: "imagenet-1k", 11_221: "imagenet-21k-miil", 11_821: "imagenet-12k", 21_841: "imagenet-22k", 21_843: "imagenet-21k-goog"}
"""How many classes a set of ImageNet has -> what timm calls it."""


def imagenet_names(outputs: int) -> tuple[str, ...]:
    """What so many classes of ImageNet are called, in their order, from timm's own lists; nothing for another number of them.

    Of classes that are called the same, such as the two cranes, each has its number of WordNet behind.
    """
    library = library_of_networks()
    try:
        info = library.data.ImageNetInfo(_SUBSETS[outputs])
    except (KeyError, AttributeError, AssertionError):
        return ()
    names = [str(info.index_to_description(i)) for i in range(outputs)]
    twice = {name for name, count in Counter(names).items() if count > 1}
    return tuple(f"{name} ({info.index_to_label_name(i)})" if name in twice else name for i, name in enumerate(names))


def describe(name: str) -> Found:
    """What can be known of timm's network `name` (with a tag or without) from its code and settings; nothing is loaded.

    ModelError when timm has no such network, or one that takes something else than a picture of three channels.
    """
    import torch
    from torch import nn

    library = library_of_networks()
    settings = library.get_pretrained_cfg(name)
    plain = name.split(".", 1)[0]
    with torch.device("meta"):
        bare = library.create_model(plain, pretrained=False, num_classes=0)
        probe = library.create_model(plain, pretrained=False, num_classes=_PROBE)
    wanted = library.data.resolve_data_config(pretrained_cfg=settings.to_dict() if settings else {}, model=probe)
    channels, height, width = wanted["input_size"]
    if channels != 3:
        raise ModelError(f"timm's network {name} takes pictures of {channels} channels", expected="3 channels")
    with torch.inference_mode():
        # on the meta device: shapes alone
        rows = bare.eval()(torch.zeros(2, 3, height, width, device="meta"))
    if rows.ndim != 2:
        raise ModelError(f"timm's network {name} gives {tuple(rows.shape[1:])} for a picture", expected="one row of features")
    features = int(rows.shape[1])
    path = settings.classifier if settings else getattr(probe, "default_cfg", {}).get("classifier")
    whole, body = set(probe.state_dict()), set(bare.state_dict())
    plainly = isinstance(path, str) and whole - body == {f"{path}.weight", f"{path}.bias"} and body <= whole
    if plainly:
        layer = probe.get_submodule(path)
        plainly = isinstance(layer, nn.Linear) and layer.in_features == features
    description: dict[str, Any] = {"builder": "timm", "name": plain, "head": path if plainly else ""}
    if not plainly:
        description["features"] = features
    old = path if isinstance(path, str) else tuple(path or ())
    return Found(
        description,
        {k: tuple(v) if isinstance(v, list) else v for k, v in wanted.items()},
        features,
        sum(p.numel() for p in bare.parameters()),
        (old,) if isinstance(old, str) else old,
        settings.to_dict() if settings else {},
    )


_PROBE = 7
"""Classes of the network that is built to see where its output layer is."""


@dataclass(frozen=True)
class Found:
    """A description with what belongs to it. `input` is what timm's `resolve_data_config` gives; `old` are the paths of the old
    output layers; `settings` is timm's record of the weights, empty when it knows none.
    """

    description: Mapping[str, Any]
    input: Mapping[str, Any]
    features: int
    parameters: int
    old: tuple[str, ...]
    settings: Mapping[str, Any]


ARCHITECTURE = Architecture("timm", build, head)
