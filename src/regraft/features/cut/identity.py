"""What a trunk is, as plain data that can be read aloud: two trunks of the same identity give the same bits for the same inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from regraft.features.cut.find import Cut
from regraft.features.cut.halves import Trunk


def identity(cut: Cut) -> dict[str, Any]:
    """Where the cut is, what is kept there, and hashes of the trunk's operations and of the parameters and buffers that they read.

    The names of layers and tensors, what trains after the cut, and what the frozen layers after it hold are not in the hashes.
    """
    assert isinstance(cut.trunk, Trunk)
    read: list[Tensor] = []
    operations = _operations(cut.trunk.operations, read)
    return {
        "after": cut.after,
        "tensors": [tensor.to_json() for tensor in cut.tensors],
        "inputs": list(cut.inputs),
        "operations": _hash(json.dumps(operations).encode()),
        "weights": _hash(*map(_described, read)),
    }


def _operations(part: fx.GraphModule, read: list[Tensor]) -> list[Any]:
    """The operations of a graph in order, each with numbers for what it takes from others; the tensors that they read join `read`."""
    numbers: dict[fx.Node, int] = {}
    found: list[Any] = []
    for node in part.graph.nodes:
        numbers[node] = len(numbers)
        target = str(node.target)
        if node.op == "get_attr":
            held: Any = part
            for name in target.split("."):
                held = getattr(held, name)
            target = "tensor"
            if isinstance(held, fx.GraphModule):
                target = json.dumps(_operations(held, read))
            else:
                read.append(held)
        elif node.op == "placeholder":
            target = ""  # which input it is says its place
        found.append([node.op, target, _plain(node.args, numbers), _plain(node.kwargs, numbers)])
    return found


def _plain(value: Any, numbers: Mapping[fx.Node, int]) -> Any:
    """Arguments of an operation as JSON."""
    if isinstance(value, fx.Node):
        return {"node": numbers[value]}
    if isinstance(value, (list, tuple)):
        return [_plain(v, numbers) for v in value]
    if isinstance(value, slice):
        return {"slice": [_plain(v, numbers) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, dict):
        return {str(k): _plain(v, numbers) for k, v in value.items()}
    return repr(value)


def _described(tensor: Tensor) -> bytes:
    """A tensor's type, shape, layout in memory (kernels choose their way by it) and bits."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    facts = f"{tensor.dtype} {tuple(tensor.shape)} {tensor.stride()} "
    return facts.encode() + hashlib.sha256(flat.view(torch.uint8).numpy().data).digest()


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
