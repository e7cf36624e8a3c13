"""Weights for an architecture that a library names: what is known of it, and the state dict taken apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from regraft.errors import ModelError
from regraft.facts import ModelFacts
from regraft.pretrained.architectures import build
from regraft.pretrained.architectures import timm as of_timm
from regraft.pretrained.architectures import torchvision as of_torchvision
from regraft.pretrained.tensors import Fit, fitting

if TYPE_CHECKING:
    from torch import Tensor

TILE = 16


def _timm(name: str) -> tuple[dict[str, Any], dict[str, Any], int, int]:
    library = of_timm.library_of_networks()
    if not library.is_model(name.split(".", 1)[0]):
        of_timm.build({"name": name.split(".", 1)[0]}, 0)
    found = of_timm.describe(name)
    return dict(found.description), preprocessing_of(found, name), found.features, found.parameters


LIBRARIES: dict[str, Callable[[str], tuple[dict[str, Any], dict[str, Any], int, int]]] = {
    "timm": _timm,
    "torchvision": of_torchvision.describe,
}
"""Library -> from a name to architecture, preprocessing, features, parameters."""


def facts_of(
    library: str, name: str, called: str, sha256: str, labels: tuple[str, ...], place: str, state: Mapping[str, Tensor]
) -> ModelFacts:
    """The facts of a state dict on this machine, for the architecture that `library` calls `name`."""
    architecture, preprocessing, features, parameters = LIBRARIES[library](name)
    head = state.get(f"{architecture['head']}.weight") if architecture["head"] else None
    outputs = int(head.shape[0]) if head is not None and head.ndim == 2 else 0
    stated = "not stated in its file"
    return ModelFacts(
        name=called,
        task="image",
        about=f"{name} of {library}, {preprocessing['size']} px",
        trained_on=stated,
        published="none",
        licence=stated,
        origin="a file on this machine",
        parameters=parameters,
        features=features,
        tile=TILE,
        architecture=architecture,
        preprocessing=preprocessing,
        sha256=sha256,
        outputs=outputs,
        labels=labels if len(labels) == outputs else (),
        place=place,
    )


def preprocessing_of(found: of_timm.Found, name: str) -> dict[str, Any]:
    """timm's settings of the input as the image modality takes them; ModelError for those that it cannot follow bit for bit."""
    wanted = found.input
    height, width = wanted["input_size"][1:]
    if wanted["crop_mode"] not in ("center", "squash") or (height != width and wanted["crop_mode"] != "squash"):
        raise ModelError(
            f"{name} takes pictures of {width} x {height} by {wanted['crop_mode']!r}",
            expected="square pictures by center, or any by squash",
        )
    if wanted["interpolation"] not in ("bicubic", "bilinear") or wanted["crop_pct"] > 1:
        raise ModelError(
            f"{name} resizes by {wanted['interpolation']!r} with crop_pct {wanted['crop_pct']}", expected="bicubic or bilinear, at most 1"
        )
    out: dict[str, Any] = {"size": height if height == width else [height, width], "crop_pct": float(wanted["crop_pct"])}
    if wanted["crop_mode"] == "squash":
        out["crop_mode"] = "squash"
    return {**out, "interpolation": wanted["interpolation"], "mean": list(wanted["mean"]), "std": list(wanted["std"])}


def split(facts: ModelFacts, state: Mapping[str, Tensor], fit: Fit | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(the backbone's tensors, those of the old output layer where it is one linear layer).

    ModelError names what is missing, extra or of another shape; old output layers may be there or not.
    """
    path = str(facts.architecture["head"])
    name = str(facts.architecture["name"])
    old = of_timm.describe(name).old if facts.architecture["builder"] == "timm" else (path,)
    wrap = "" if path else "backbone."

    def is_old(tensor: str) -> bool:
        return any(tensor.removeprefix(wrap).startswith(f"{part}.") for part in old)

    state = {wrap + tensor: value for tensor, value in state.items()}
    body = fitting(state, lambda: build(facts.architecture, 0), name, optional=is_old, fit=fit)
    head = {tensor: value.float() for tensor, value in state.items() if path and tensor.startswith(f"{path}.")}
    return body, head
