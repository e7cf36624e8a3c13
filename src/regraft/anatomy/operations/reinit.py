"""reinit: random weights anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from regraft.anatomy.adapters import adapters
from regraft.anatomy.layers import layer_at
from regraft.anatomy.operations.base import Edit, Operation
from regraft.anatomy.parts import inside
from regraft.errors import UsageError


def apply(edit: Edit, *, path: str) -> Sequence[Callable[[Edit], None]]:
    """Give layers the random weights that PyTorch gives new ones of their kind (Zhang et al. 2021, for the last blocks of BERT)."""
    paths = edit.paths(path)
    if not any(True for p in paths for _ in layer_at(edit.network, p).parameters()):
        raise UsageError(f"{path!r} has no weights to draw anew", expected="a layer with weights")
    if held := [a for a in adapters(edit.network) if any(inside(a, p) or inside(p, a) for p in paths)]:
        raise UsageError(f"{held[0]} has an adapter", expected="lora after reinit")

    def change(e: Edit) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(e.seed)
            for p in paths:
                _anew(layer_at(e.network, p), p)

    return [change]


def _anew(layer: nn.Module, path: str) -> None:
    cannot = []
    for name, module in layer.named_modules():
        own = {k: p for k, p in module._parameters.items() if p is not None}
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if reset is None:
            if own:
                cannot.append(f"{path}.{name}" if name else path)
            continue
        # what is drawn anew is another parameter: one that is tied to it elsewhere stays, and what was kept is known by the object
        fresh = {k: nn.Parameter(p.detach().clone(), requires_grad=p.requires_grad) for k, p in own.items()}
        module._parameters.update(fresh)
        module._buffers.update({k: b.clone() for k, b in module._buffers.items() if b is not None})
        reset()
    if cannot:
        raise UsageError(
            f"it is not known how to draw {', '.join(cannot[:3])} anew",
            expected="layers that PyTorch knows",
            move="replace it, or leave it out",
        )


OPERATION = Operation("reinit", "give layers random weights anew", ("path",), {}, apply)
