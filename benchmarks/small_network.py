"""A network for benchmarks of everything around a network: random weights, 64 pixels, as many features as EfficientNet-Lite0."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

PREPROCESSING = {"size": 64, "crop_pct": 1.0, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}


def small() -> tuple[nn.Module, dict[str, Any]]:
    """(module from x (n, 3, 64, 64) to (n, 1280), its preprocessing); always the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 32, 8, stride=8), nn.ReLU(), nn.Conv2d(32, 1280, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        return nn.Sequential(*layers, nn.Flatten()), PREPROCESSING
