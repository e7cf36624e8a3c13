"""artifacts: a bundle made into something that predicts, here or elsewhere.

In: a bundle's folder.     Out: log-probabilities for inputs, the plain torch module, or a file for other programs.
Never: trains, or loads anything but safetensors and JSON.
"""

from __future__ import annotations

from regraft.artifacts.model import (
    FEATURES,
    SCORES,
    Model,
    OutputLayer,
    Predictor,
    as_they_are,
    linear,
    open_model,
    outputs_of,
    predict,
    save_bundle,
)
from regraft.artifacts.published import Published

__all__ = [
    "FEATURES",
    "SCORES",
    "Model",
    "OutputLayer",
    "Predictor",
    "Published",
    "as_they_are",
    "linear",
    "open_model",
    "outputs_of",
    "predict",
    "save_bundle",
]
