"""lora: low-rank adapters at some layers, whose own weights stay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from regraft.anatomy.adapters import adapters
from regraft.anatomy.layers import layer_at
from regraft.anatomy.operations.base import Edit, Operation
from regraft.anatomy.parts import inside
from regraft.errors import MissingExtra, UsageError

KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
"""Kinds of layers, exactly: what another kind derived from one does with its weight is its own affair."""

PADS_ITSELF = "Conv2dSame"
"""timm's convolution that differs from PyTorch's in its padding only."""

READERS = (nn.TransformerEncoderLayer, nn.MultiheadAttention)
"""PyTorch's layers that read the weights of theirs in place of calling them."""

HIGHEST = 1024
"""The largest rank."""


def apply(edit: Edit, *, path: str, rank: int = 8, alpha: float | None = None) -> Sequence[Callable[[Edit], None]]:
    """Put an adapter of a low rank (LoRA, Hu et al. 2022, by peft) at each linear layer, convolution and embedding of a selection.

    It begins at zero: the network gives what it gave. The layer's own weights are frozen, the adapter trains; what it adds is
    alpha / rank times its two matrices; alpha is twice the rank when not given. The head is left out: it trains whole.
    """
    if type(rank) is not int or not 1 <= rank <= HIGHEST:
        raise UsageError(f"rank is {rank!r}", expected=f"a whole number from 1 to {HIGHEST}")
    if alpha is None:
        alpha = 2 * rank
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha) or not 0 < alpha <= 1e6:
        raise UsageError(f"alpha is {alpha!r}", expected="a number above 0, or none: twice the rank")
    chosen = edit.selected(path)
    can = _adaptable(edit)
    found = [p for p in can if any(inside(p, c) for c in chosen)]
    if not found:
        raise _nothing(edit, path, chosen, can)
    return [partial(_put, paths=found, rank=rank, alpha=alpha)]


def _adaptable(edit: Edit) -> list[str]:
    """The paths of the layers that can have an adapter."""
    held: dict[int, int] = {}
    for _, parameter in edit.network.named_parameters(remove_duplicate=False):
        held[id(parameter)] = held.get(id(parameter), 0) + 1
    taken = [*adapters(edit.network), *edit.head]
    readers = [p for p, m in edit.network.named_modules() if isinstance(m, READERS)]
    return [
        path
        for path, layer in edit.network.named_modules()
        if path in edit.seen.calls
        and _is_plain(layer)
        # a weight that another layer has too would change there as well
        and held[id(layer.weight)] == 1
        and not any(inside(path, t) for t in taken)
        and path.rpartition(".")[0] not in readers
    ]


def _is_plain(layer: nn.Module) -> bool:
    """Whether what an adapter adds is the same as another weight would give."""
    if type(layer) not in KINDS and not (type(layer).__name__ == PADS_ITSELF and isinstance(layer, nn.Conv2d)):
        return False
    weight = layer._parameters.get("weight")
    if weight is None or not weight.dtype.is_floating_point:
        return False
    if isinstance(layer, nn.modules.conv._ConvNd):
        return layer.groups == 1 and layer.padding_mode == "zeros" and all(d == 1 for d in layer.dilation)
    return not isinstance(layer, nn.Embedding) or layer.max_norm is None


def _nothing(edit: Edit, text: str, chosen: Sequence[str], can: Sequence[str]) -> UsageError:
    kinds = ", ".join(k.__name__ for k in KINDS)
    if any(inside(c, p) or inside(p, c) for c in chosen for p in adapters(edit.network)):
        return UsageError(f"{text!r} has adapters already", expected="one lora step for a layer")
    if all(any(inside(c, h) for h in edit.head) for c in chosen):
        return UsageError(f"{text!r} is the head, which trains whole", expected="layers below it, such as blocks")
    around = chosen[0]
    while around and not any(inside(p, around) for p in can):
        around = around.rpartition(".")[0]
    near = next((p for p in can if not around or inside(p, around)), "")
    return UsageError(
        f"{text!r} holds no layer that can have an adapter",
        expected=f"{kinds} that runs, has its weight alone, and if it is a convolution is neither grouped nor dilated",
        move=f"{near} ({type(layer_at(edit.network, near)).__name__})" if near else "",
    )


def _put(edit: Edit, paths: Sequence[str], rank: int, alpha: float) -> None:
    # a folder of these layers alone: peft also changes what it finds around them
    layers: Any = nn.ModuleDict({str(i): layer_at(edit.network, path) for i, path in enumerate(paths)})
    inject, config = _peft()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(edit.seed)
        inject(config(r=rank, lora_alpha=alpha, target_modules=r"\d+"), layers)
    for i, path in enumerate(paths):
        edit.put(path, layers[str(i)].eval())
        edit.frozen.add(f"{path}.base_layer")


def _peft() -> tuple[Any, Any]:
    from regraft.pretrained.operators import declare_missing_operators

    declare_missing_operators()
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtra(f"adapters need peft ({error})", move="pip install 'regraft[lora]'") from None
    return inject_adapter_in_model, LoraConfig


OPERATION = Operation("lora", "put low-rank adapters at layers, whose own weights stay", ("path",), {"rank": 8, "alpha": None}, apply)
