"""`python:package.module:function`: a network of the user's own code, which gives features. Only with --allow-code."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
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
    from torch import Tensor, nn

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
    return _facts(rest, network.eval(), task, preprocessing)


USUAL = {"size": 224, "crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""How pictures are prepared for most networks that were trained on ImageNet."""


def of_module(network: nn.Module, task: str, preprocessing: Mapping[str, Any] | None) -> tuple[ModelFacts, dict[str, Tensor]]:
    """(the facts of a module in memory that gives features, its tensors as its architecture names them).

    `preprocessing` is what the packaged networks of its task have; when not given, the module's attribute of that name, for pictures else
    `USUAL`. A bundle names the module's class, which has to make the same network when it is called without arguments. UsageError when it
    cannot be imported, or makes another one; ModelError when the module does not take what its preprocessing gives.
    """
    import torch

    kind = type(network)
    name = f"{kind.__module__}:{kind.__qualname__}"
    way = "a class in a file of its own that needs no arguments; or a function there that makes it: model='package.module:function'"
    settings = settings_of(network, task, preprocessing)
    found = sys.modules.get(kind.__module__)
    if kind.__module__ == "__main__" or not FUNCTION.fullmatch(name) or getattr(found, kind.__name__, None) is not kind:
        raise UsageError(f"the class {kind.__qualname__} of the module cannot be imported, so no bundle can name it", expected=way)
    training = network.training
    try:
        facts = _facts(name, network.eval(), task, settings)
        state = {f"backbone.{k}": v for k, v in as_float32(network.state_dict()).items()}
        # the class was imported by whoever made the object
        allow(name)
        try:
            again = build(facts.architecture, 0).eval()
            again.load_state_dict(state)
        except (ModelError, RuntimeError) as error:
            first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error).splitlines()[0])
            raise UsageError(f"{name}() does not make the network that was given: {first}"[:400], expected=way) from None
        inputs = _made_up(task, settings)
        with torch.inference_mode():
            same = torch.equal(again(**inputs), network(*inputs.values()) if len(inputs) == 1 else network(**inputs))
    finally:
        network.train(training)
    if not same:
        raise UsageError(f"{name}() with the same weights gives other features than the network that was given", expected=way)
    return facts, state


def settings_of(network: nn.Module, task: str, preprocessing: Mapping[str, Any] | None) -> dict[str, Any]:
    """How inputs of a module in memory are prepared; UsageError when nothing says it."""
    if task not in OF_OWN:
        raise UsageError(f"a module of your own takes inputs of {' or '.join(OF_OWN)}, and the task is {task}", move="regraft models")
    own = getattr(network, "preprocessing", None)
    settings = dict(preprocessing or (own if isinstance(own, Mapping) else {}) or (USUAL if task == "image" else {}))
    if lacking := [key for key in MODALITIES[task].settings if key not in settings]:
        raise UsageError(
            f"nothing says how inputs of this {type(network).__name__} are prepared: {', '.join(lacking)}",
            expected=f"preprocessing={{...}} with {', '.join(MODALITIES[task].settings)}",
        )
    return settings


OF_OWN = ("image", "audio")
"""Tasks that modules of one's own can have: texts need a tokenizer."""


def _facts(rest: str, network: nn.Module, task: str, preprocessing: dict[str, Any]) -> ModelFacts:
    features = _features(network, task, preprocessing, rest)
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
    fitting = [task for task in OF_OWN if preprocessing and all(key in preprocessing for key in MODALITIES[task].settings)]
    if not fitting:
        raise ModelError(
            f"{name} does not say how its input is prepared",
            expected=f"(module, preprocessing), with {', '.join(MODALITIES['image'].settings)} for pictures",
        )
    return fitting[0]


def _features(network: Any, task: str, preprocessing: dict[str, Any], name: str) -> int:
    """How many numbers it gives for an example; asked of the network itself, with one made-up example."""
    import torch

    inputs = _made_up(task, preprocessing)
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


def _made_up(task: str, preprocessing: Mapping[str, Any]) -> dict[str, Tensor]:
    """Two made-up examples as the network takes them."""
    modality = MODALITIES[task]
    prepare = modality.preparer(preprocessing, {})
    window = prepare(modality.load(modality.made_up()[0]).decode()).windows[0]
    return modality.collate([window] * 2, preprocessing)


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
