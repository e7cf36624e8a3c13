"""Networks from descriptions, surgery included: a description may hold a recipe, and the shapes on which it was checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regraft.anatomy.net import Step, look_at
from regraft.errors import ModelError, UsageError
from regraft.pretrained.architectures import architecture_of, build

RECIPE, INPUTS = "recipe", "inputs"
"""Keys of a description."""

KINDS = {"float32": torch.float32, "int64": torch.int64}

INPUTS_AT_MOST = 8
"""Inputs of one network."""

LARGEST = 1 << 26
"""Numbers in one input of a description at most."""


def described(architecture: Mapping[str, Any], inputs: Mapping[str, Tensor], steps: Sequence[Step]) -> dict[str, Any]:
    """An architecture's description with a recipe; the plain one where there are no steps. `inputs` have the batch first."""
    if not steps:
        return dict(architecture)
    shapes = {k: {"shape": list(v.shape[1:]), "dtype": str(v.dtype).removeprefix("torch.")} for k, v in inputs.items()}
    return {**architecture, RECIPE: [dict(s) for s in steps], INPUTS: shapes}


def build_network(description: Mapping[str, Any], classes: int) -> nn.Module:
    """The network of a description with an output layer for `classes` (none when 0), after its recipe. Weights are random.

    ModelError when the description cannot be one.
    """
    if not description.get(RECIPE):
        return build(description, classes)
    plain = {k: v for k, v in description.items() if k not in (RECIPE, INPUTS)}
    network = build(plain, classes)
    steps = description[RECIPE]
    if not isinstance(steps, list):
        raise ModelError(f"the recipe of the network is {type(steps).__name__}", expected="a list of steps")
    try:
        return look_at(network, _inputs(description.get(INPUTS)), [architecture_of(plain).head(plain)]).follow(steps).module
    except UsageError as error:
        raise ModelError(f"the recipe of the network does not fit it: {error.found}", expected=error.expected) from None


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(d) is int and d > 0 for d in value) and math.prod(value) <= LARGEST


def _inputs(described: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    if isinstance(described, Mapping) and len(described) > INPUTS_AT_MOST:
        raise ModelError(f"the network is described with {len(described)} inputs", expected=f"at most {INPUTS_AT_MOST}")
    for name, value in described.items() if isinstance(described, Mapping) else ():
        shape = value.get("shape") if isinstance(value, Mapping) else None
        if not _is_shape(shape) or str(value.get("dtype")) not in KINDS:
            raise ModelError(f"the input {name!r} of the network is described as {value!r}", expected="its shape and dtype")
        found[str(name)] = torch.ones([2, *(shape or ())], dtype=KINDS[str(value["dtype"])])
    if not found:
        raise ModelError("the network has a recipe and no inputs to check it on")
    return found
