"""Lets timm and transformers be imported, without telemetry, beside a torchvision whose compiled operators do not load.

A torchvision wheel built for CUDA fails at import beside a CPU torch: "operator torchvision::nms does not exist". Declaring
the two operators that it looks for is enough; nothing here calls them. Where torchvision is absent or whole, nothing is done.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

_OPERATORS = ("nms", "qnms")


def declare_missing_operators() -> list[str]:
    """Declare what torchvision will look for and not find; returns the names that were declared."""
    import torch

    # no reports to anybody from the libraries that are imported next; read by them at import
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or "torchvision" in sys.modules:
        return []
    for library in sorted(Path(spec.origin).parent.glob("_C*")):
        if library.suffix in (".so", ".pyd", ".dylib"):
            try:
                torch.ops.load_library(str(library))
            except OSError:
                continue
    declared = []
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            declared.append(name)
    return declared
