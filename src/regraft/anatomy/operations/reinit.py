"""reinit: random weights anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from regraft.anatomy.layers import layer_at
from regraft.anatomy.operations.base import Edit, Operation
from regraft.errors import UsageError


def apply(edit: Edit, *, path: str) -> Sequence[Callable[[Edit], None]]:
    """Give layers the random weights that PyTorch gives new ones of their kind (Zhang et al. 2021, for the last blocks of BERT)."""
    paths = edit.paths(path)

    def change(e: Edit) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(e.seed)
            for p in paths:
                _anew(layer_at(e.network, p), p)

    return [change]


def _anew(layer: nn.Module, path: str) -> None:
    cannot = []
    for name, module in layer.named_modules():
        own = list(module.parameters(recurse=False))
        if not own:
            continue
        reset = getattr(module, "reset_parameters", None)
        if reset is None:
            cannot.append(f"{path}.{name}" if name else path)
            continue
        reset()
        for parameter in own:
            # a parameter that is drawn anew is another one: what was kept is known by the parameter
            fresh = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
            key = next(k for k, v in module._parameters.items() if v is parameter)
            module._parameters[key] = fresh
    if cannot:
        raise UsageError(f"it is not known how to draw {', '.join(cannot[:3])} anew", expected="layers of PyTorch", move="replace it")


OPERATION = Operation("reinit", "give layers random weights anew", ("path",), {}, apply)
