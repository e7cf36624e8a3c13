"""The engine that is always there: PyTorch, float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from regraft.anatomy import freeze
from regraft.errors import ModelError
from regraft.modality import Modality


class TorchTrunk:
    """Runs tiles of exactly `tile` windows; a shorter one is filled up with copies of its first, which changes nothing."""

    def __init__(self, network: nn.Module, modality: Modality, preprocessing: Mapping[str, Any], tile: int, device: str) -> None:
        self.modality, self.preprocessing, self.tile = modality, preprocessing, tile
        self.device = torch.device(device)
        self.side_by_side = self.device.type == "cpu"
        self.network = freeze(network).to(self.device)
        if modality.name == "image":
            self.network = self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def __call__(self, windows: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Features (windows, d) float32 of at most `tile` windows of equal shape."""
        filled = [*windows, *[windows[0]] * (self.tile - len(windows))]
        with torch.inference_mode():
            inputs = {k: v.to(self.device) for k, v in self.modality.collate(filled, self.preprocessing).items()}
            rows = self.network(**inputs)
        if rows.ndim != 2 or len(rows) != self.tile:
            raise ModelError(f"the network gave {tuple(rows.shape)} for {self.tile} examples", expected="one row of features an example")
        return rows[: len(windows)].float().cpu().numpy()
