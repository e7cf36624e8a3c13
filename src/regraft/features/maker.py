"""The identity of features: everything that can change a bit of them, as plain data that can be read aloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from regraft.modality import Modality, Views

if TYPE_CHECKING:
    from regraft.features.engines import Engine

VERSION = 4
"""Raised when this room would give other features from the same description, or keeps them in other files."""


def maker_of(
    *,
    weights_sha256: str,
    architecture: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    modality: Modality,
    tile: int,
    device: str,
    engine: Engine,
    files: Mapping[str, str] | None = None,
    views: Views | None = None,
) -> dict[str, Any]:
    """What makes the features of one network on this machine.

    `files` are the SHA-256 of what prepares its input (a tokenizer), `views` how views of examples are made, where it is not the examples
    themselves that are looked at. Training batch size, workers, file names and order are not
    in it: they change nothing. Nor are threads, because a tile runs on one core. Torch and the instruction set are: kernels add
    in another order.
    """
    return {
        "kind": "features",
        "version": VERSION,
        "weights": weights_sha256,
        "architecture": dict(architecture),
        "at": "input of the output layer",
        "preprocessing": dict(preprocessing),
        "files": dict(files or {}),
        "modality": modality.name,
        **engine.identity(),
        **_machine(device, tile),
        **_seen(views),
    }


def cut_maker(
    *,
    cut: Mapping[str, Any],
    network: str,
    preprocessing: Mapping[str, Any],
    modality: Modality,
    tile: int,
    device: str,
    precision: str,
    files: Mapping[str, str] | None = None,
    views: Views | None = None,
    engine: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What makes the tensors at a cut. `cut` is its identity (cut/identity.py), `precision` what they are kept in, `engine` what of an
    engine other than torch can change a bit.

    What trains after the cut does not enter: another rung that is cut at the same place uses what is there.
    """
    return {
        "kind": "cut",
        "version": VERSION,
        "network": network,
        "cut": dict(cut),
        "kept": precision,
        "preprocessing": dict(preprocessing),
        "files": dict(files or {}),
        "modality": modality.name,
        **(engine or {"engine": "torch fp32"}),
        **_machine(device, tile),
        **_seen(views),
    }


def _seen(views: Views | None) -> dict[str, Any]:
    """Nothing where examples are looked at as they are: their features are the same whether there are views beside them or not."""
    return {} if views is None else {"views": views.to_json()}


def _machine(device: str, tile: int) -> dict[str, Any]:
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        # another kind of GPU adds in another order
        device = f"cuda, {torch.cuda.get_device_name(device)}"
    return {"device": device, "tile": tile, "torch": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability()}


def summary_maker(modality: Modality) -> dict[str, Any]:
    """What makes the rows of the model without a network."""
    return {"kind": "without network", "version": VERSION, "modality": modality.name, "summary": modality.summary_version}
