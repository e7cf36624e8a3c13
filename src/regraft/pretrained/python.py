"""`python:package.module:function`: a network of the user's own code, which gives features. Only with --allow-code."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import ModelError, UsageError
from regraft.facts import ModelFacts
from regraft.modality import MODALITIES
from regraft.pretrained.architectures import build
from regraft.pretrained.architectures.python import FUNCTION, allow, call
from regraft.pretrained.base import Access, Source
from regraft.pretrained.tensors import as_float32

if TYPE_CHECKING:
    from torch import Tensor

TILE = 16


def find(rest: str, may: Access) -> ModelFacts | None:
    """The facts of the module that a function gives; UsageError when code was not allowed, before anything is imported."""
    if not FUNCTION.fullmatch(rest):
        return None
    if not may.allow_code:
        raise UsageError(
            f"{rest} names code, which is imported and run only when that is allowed", move=f"--model python:{rest} --allow-code"
        )
    allow(rest)
    network, preprocessing = call(rest)
    task = _task(preprocessing, rest)
    assert preprocessing is not None
    features = _features(network.eval(), task, preprocessing, rest)
    state = as_float32(network.state_dict())
    digest = hashlib.sha256(rest.encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode() + tensor.cpu().numpy().tobytes())
    own = "your own code"
    return ModelFacts(
        name=f"python:{rest}",
        task=task,
        about=f"what {rest} gives",
        trained_on=f"known to {own}",
        published="none",
        licence=f"that of {own}",
        origin=rest,
        parameters=sum(p.numel() for p in network.parameters()),
        features=features,
        tile=TILE,
        architecture={"builder": "python", "function": rest, "features": features},
        preprocessing=preprocessing,
        sha256=digest.hexdigest(),
    )


def _task(preprocessing: dict[str, Any] | None, name: str) -> str:
    """The task whose settings the preprocessing has."""
    fitting = [task for task in ("image", "audio") if preprocessing and all(key in preprocessing for key in MODALITIES[task].settings)]
    if not fitting:
        raise ModelError(
            f"{name} does not say how its input is prepared",
            expected=f"(module, preprocessing), with {', '.join(MODALITIES['image'].settings)} for pictures",
        )
    return fitting[0]


def _features(network: Any, task: str, preprocessing: dict[str, Any], name: str) -> int:
    """How many numbers it gives for an example; asked of the network itself, with one made-up example."""
    import numpy as np
    import torch

    modality = MODALITIES[task]
    decoded: Any = np.linspace(-0.5, 0.5, 16_000, dtype=np.float32)
    if task == "image":
        decoded = modality.load(np.zeros((64, 64, 3), np.uint8)).decode()
    inputs = modality.collate([modality.preparer(preprocessing, {})(decoded).windows[0]] * 2, preprocessing)
    try:
        with torch.inference_mode():
            rows = network(*inputs.values()) if len(inputs) == 1 else network(**inputs)
    except Exception as error:
        raise ModelError(f"{name} does not take what its preprocessing gives ({type(error).__name__}: {error})"[:300]) from None
    if not isinstance(rows, torch.Tensor) or rows.ndim != 2 or len(rows) != 2:
        raise ModelError(
            f"{name} gives {tuple(getattr(rows, 'shape', ())) or type(rows).__name__} for two examples", expected="(2, features)"
        )
    return int(rows.shape[1])


def weights(facts: ModelFacts) -> dict[str, Tensor]:
    """The module's own tensors."""
    return as_float32(build(facts.architecture, 0).state_dict())


def files(facts: ModelFacts) -> dict[str, Path]:
    """None."""
    return {}


SOURCE = Source(
    "python",
    "python:package.module:function, a torch module of your own that gives features; with --allow-code",
    models=lambda: (),
    missing=lambda facts: "",
    weights=weights,
    files=files,
    find=find,
)
