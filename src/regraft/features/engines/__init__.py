"""engines: ways to run the frozen part on one tile. One file each, with a record for each precision.

In: a network without its output layer, windows of equal shape.     Out: rows (windows, d) float32.
Never: decides which engine is used.
Invariant: every engine gives torch float32's features within its precision, and neighbours in a tile change no bit
(tests/contracts/test_engines.py).
"""

from __future__ import annotations

from regraft.errors import UsageError
from regraft.features.engines import compiled, onnx, openvino, torch
from regraft.features.engines.base import Engine, Trunk

ENGINES: tuple[Engine, ...] = (
    torch.FLOAT32,
    torch.BFLOAT16,
    compiled.FLOAT32,
    compiled.BFLOAT16,
    openvino.FLOAT32,
    openvino.BFLOAT16,
    onnx.FLOAT32,
)
"""All there are; the first is what the others are compared with."""

REFERENCE = ENGINES[0]


def engine_of(name: str, precision: str) -> Engine:
    """The engine of a name and a precision; UsageError when there is none."""
    of_name = [e for e in ENGINES if e.name == name]
    for engine in of_name:
        if engine.precision == precision:
            return engine
    found = f"--engine {name}" + (f" --precision {precision}" if of_name else "")
    expected = ", ".join(e.precision for e in of_name) or ", ".join(dict.fromkeys(e.name for e in ENGINES))
    raise UsageError(f"{found}: expected {expected}")


__all__ = ["ENGINES", "REFERENCE", "Engine", "Trunk", "engine_of"]
