"""The engines that are always there: PyTorch in float32, and in bfloat16 with what needs it in float32. On a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regraft.features.engines.base import Engine, Run, Trunk, without_bfloat16
from regraft.modality import Modality


def _float32(network: nn.Module, inputs: dict[str, Tensor], varies: bool, threads: int) -> Run:
    return lambda tile: network(**tile)


def _bfloat16(network: nn.Module, inputs: dict[str, Tensor], varies: bool, threads: int) -> Run:
    # autocast rather than casting the network: what a network makes itself (masks, positions) stays as it is
    kind = next(iter(inputs.values())).device.type

    def run(tile: dict[str, Tensor]) -> Tensor:
        with torch.autocast(kind, dtype=torch.bfloat16):
            return network(**tile)

    return run


def _slow_here(device: str) -> str:
    if device.startswith("cuda"):
        return "" if torch.cuda.is_bf16_supported() else "this GPU has no bfloat16"
    return without_bfloat16()


FLOAT32 = Engine("torch", "fp32", _float32, lambda device: "")
BFLOAT16 = Engine("torch", "bf16", _bfloat16, _slow_here, move="--precision fp32")


class TorchTrunk(Trunk):
    """The trunk in PyTorch, float32: what every other engine is compared with."""

    def __init__(self, network: nn.Module, modality: Modality, preprocessing: Mapping[str, Any], tile: int, device: str) -> None:
        super().__init__(network, modality, preprocessing, tile, device, FLOAT32)
