"""The two halves of a cut network as modules on the network's own parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import TreeSpec, tree_unflatten

from regraft.anatomy.freezing import Frozen
from regraft.errors import CutError
from regraft.features.cut.graph import Graph, Node, expression, is_size

Layout = tuple[int, ...]
"""The dimensions of a tensor in the order in which they lie in memory, the outermost first."""


def part_of(graph: Graph, given: Sequence[Sequence[Node]], wanted: Sequence[Any], effects: Sequence[Node] = ()) -> fx.GraphModule:
    """A module that takes the values of `given` (tensors, flat; of nodes that hold the same value one) and gives those of `wanted`
    (nodes or plain values, as a tuple).

    `effects` are nodes that run although nobody reads them (counters). Parameters and buffers are the network's own objects under
    their own names. Sizes are read again from what is given. CutError when something else would be needed.
    """
    first = [nodes[0] for nodes in given if nodes]
    sizes = {expression(s): (n, d) for n in reversed(first) for d, s in reversed(list(enumerate(n.meta["val"].shape)))}

    def known(node: Node) -> bool:
        """Whether a node is a size that can be told from what is given."""
        return is_size(node) and ((size := expression(node.meta["val"])) in sizes or _is_number(size))

    taken = {n for nodes in given for n in nodes}
    needed = _needed(graph, [*(w for w in wanted if isinstance(w, Node)), *effects], taken, known)
    missing = [graph.inputs[n] for n in graph.inputs if n in needed and n not in taken]
    if missing:
        raise CutError(f"the part after the cut needs {', '.join(missing)} too")
    new, env, root = fx.Graph(), dict[Node, Any](), dict[str, Any]()
    changed = {graph.memory[n] for n in taken} & {m for m, writers in graph.changed.items() if any(w in needed for w in writers)}
    if any(sum(graph.memory[n] is m for n in taken) > 1 for m in changed):
        raise CutError("tensors at the cut lie in the same memory, and the part after it changes them")
    places = [new.placeholder(graph.inputs.get(nodes[0], f"cut{i}") if nodes else f"cut{i}") for i, nodes in enumerate(given)]
    for place, nodes in zip(places, given):
        # what was given is not changed: it may be kept for other epochs
        own = new.call_function(torch.ops.aten.clone.default, (place,)) if any(graph.memory[n] in changed for n in nodes) else place
        env |= dict.fromkeys(nodes, own)
    read: dict[Any, Any] = {}
    for node in graph.nodes:
        if node not in needed or node in env:
            continue
        if known(node):
            size = expression(node.meta["val"])
            if _is_number(size):
                env[node] = int(size)
            else:
                tensor, dim = sizes[size]
                if size not in read:
                    read[size] = new.call_function(torch.ops.aten.sym_size.int, (env[tensor], dim))
                env[node] = read[size]
        elif node in graph.held or node in graph.parts:
            name, held = graph.held.get(node) or (f"blocks_of_operations.{node.target}", graph.parts[node])
            root[name] = held
            env[node] = new.get_attr(name)
        else:
            args, kwargs = fx.map_arg((node.args, node.kwargs), env.__getitem__)  # pyright: ignore
            env[node] = new.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
    new.output(tuple(env[w] if isinstance(w, Node) else w for w in wanted))
    return fx.GraphModule(root, new)


def _is_number(size: Any) -> bool:
    return isinstance(size, int) or bool(size.is_number)


def _needed(graph: Graph, roots: Sequence[Node], given: set[Node], known: Callable[[Node], bool]) -> set[Node]:
    """What has to run for the roots, back to what is given."""
    found: set[Node] = set()
    todo = list(roots)
    while todo:
        node = todo.pop()
        if node in found:
            continue
        found.add(node)
        if node not in given and not known(node):
            todo += graph.needs[node]
    return found


def effects(graph: Graph) -> list[Node]:
    """The nodes that change what the network holds: statistics, counters."""
    held = {graph.memory[n] for n in graph.held}
    return [w for memory, writers in graph.changed.items() if memory in held for w in writers]


def layout_of(tensor: Tensor) -> Layout:
    """How a tensor lies in memory; one with gaps or repeats as it would without."""
    return tuple(sorted(range(tensor.ndim), key=lambda d: (-tensor.stride(d), d)))


def laid_out(tensor: Tensor, layout: Layout) -> Tensor:
    """The same values without gaps in that layout; the tensor itself where it lies so already.

    Kernels choose their way, and with it the last bits, by how a tensor lies in memory.
    """
    strides, step = [0] * tensor.ndim, 1
    for d in reversed(layout):
        strides[d] = step
        step *= tensor.shape[d]
    if tensor.stride() == tuple(strides):
        return tensor
    if all(a == b or n == 1 for a, b, n in zip(tensor.stride(), strides, tensor.shape)):
        return tensor.as_strided(tensor.shape, strides)
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


class Trunk(nn.Module):
    """The frozen part. Takes tensors in the order of `Cut.inputs`, gives the cut tensors as a tuple, in their layouts."""

    def __init__(self, operations: fx.GraphModule, layouts: Sequence[Layout]) -> None:
        super().__init__()
        self.operations, self.layouts = operations, tuple(layouts)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        return tuple(laid_out(t, layout) for t, layout in zip(self.operations(*given), self.layouts, strict=True))


class Rest(nn.Module):
    """The trained part. Takes the cut tensors, gives what the network gives.

    `train()` and `eval()` choose between the two forms: what is live in training (dropout, stochastic depth, batch norms that
    follow the data) and the one for use.
    """

    def __init__(self, training: fx.GraphModule, use: fx.GraphModule, layouts: Sequence[Layout], specs: tuple[TreeSpec, TreeSpec]) -> None:
        super().__init__()
        self.in_training, self.in_use = training, use
        self.layouts, self.specs = tuple(layouts), specs

    def forward(self, *given: Tensor) -> Any:
        tensors = [laid_out(t, layout) for t, layout in zip(given, self.layouts, strict=True)]
        graph, spec = (self.in_training, self.specs[0]) if self.training else (self.in_use, self.specs[1])
        return tree_unflatten(graph(*tensors), spec)


class Nothing(nn.Module):
    """The trunk of a network in which nothing frozen comes before what trains: the inputs go through."""

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        return given


class Whole(nn.Module):
    """The rest where there is no trunk: the network itself. `train()` puts what trains into training mode and nothing else."""

    def __init__(self, network: nn.Module, names: Sequence[str], frozen: Frozen) -> None:
        super().__init__()
        self.network, self.names, self.frozen = network, tuple(names), frozen

    def train(self, mode: bool = True) -> Whole:
        super().train(False)
        self.training = mode
        if mode:
            self.frozen.train(self.network)
        return self

    def forward(self, *given: Tensor) -> Any:
        return self.network(**dict(zip(self.names, given, strict=True)))
