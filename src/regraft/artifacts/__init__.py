"""artifacts: a bundle made into something that predicts, here or elsewhere.

In: a bundle's folder.     Out: log-probabilities for inputs, the plain torch module, or a file for other programs.
Never: trains, or loads anything but safetensors and JSON.
"""

from __future__ import annotations

from regraft.artifacts.model import Model, Predictor, apply_layer, open_model, predict, save_bundle
from regraft.artifacts.published import Published

__all__ = ["Model", "Predictor", "Published", "apply_layer", "open_model", "predict", "save_bundle"]
