"""exports: what a model can be written as for other programs. One file, one record each.

In: a plain torch module and a batch that it takes.     Out: one file that gives the same scores without regraft.
Never: decides whether the file is good: `artifacts/exporting.py` compares it with torch.
"""

from __future__ import annotations

from regraft.artifacts.exports import onnx
from regraft.artifacts.exports.base import Export

EXPORTS: dict[str, Export] = {e.name: e for e in (onnx.EXPORT,)}

__all__ = ["EXPORTS", "Export"]
