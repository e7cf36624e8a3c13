"""A network as a graph of operations: what each reads, changes and costs, and which of them are live.

The graph is the one that torch.export gives before any decomposition: its operations are those that the network itself calls, so
they run the same kernels, with the same bits.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._pytree import TreeSpec

from regraft.anatomy.freezing import Frozen, live_tensors
from regraft.errors import CutError

Node = fx.Node

MAY_GIVE_BACK = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "meshgrid", "broadcast_tensors")
"""Operations that can give what they were given although their schema does not say so."""


BATCH = 64
"""The largest batch that a graph for a GPU is made for. Its operations take larger ones: no check of the size is in them."""


class _Flat(nn.Module):
    """A network that takes its keyword arguments in order."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, tuple(names)

    def forward(self, *given: Tensor) -> Any:
        return self.network(**dict(zip(self.names, given, strict=True)))


@dataclass
class Graph:
    """An exported network. `inputs` are its data, `held` its parameters, buffers and constants by their names."""

    nodes: list[Node]
    inputs: dict[Node, str]
    held: dict[Node, tuple[str, Tensor]]
    parts: dict[Node, fx.GraphModule]
    """Blocks of operations that run together (in another autocast or gradient mode)."""
    spec: TreeSpec
    """How the outputs are nested."""
    order: dict[Node, int] = field(default_factory=dict)

    @cached_property
    def batch(self) -> Any:
        """The number of examples, as a symbol."""
        return expression(next(iter(self.inputs)).meta["val"].shape[0])

    @cached_property
    def outputs(self) -> list[Any]:
        """What the network gives, flat: nodes and plain values."""
        return list(self.nodes[-1].args[0])  # type: ignore[arg-type]

    @cached_property
    def memory(self) -> dict[Node, Node]:
        """For each node a node that stands for all that may lie in the same memory."""
        return shared_memory(self.nodes)

    @cached_property
    def changed(self) -> dict[Node, list[Node]]:
        """For each memory the nodes that write into it, in order."""
        found: dict[Node, list[Node]] = {}
        for node in self.nodes:
            for given in writes(node):
                found.setdefault(self.memory[given], []).append(node)
            if isinstance(node.target, HigherOrderOperator):
                part = next((self.parts[a] for a in node.all_input_nodes if a in self.parts), None)
                if part is None:
                    raise CutError(f"it holds an operation that cannot be cut ({node.target.name()})")
                inner = list(part.graph.nodes)
                same = shared_memory(inner)
                data = {same[n] for n in inner if n.op == "placeholder"}
                if any(same[given] in data for n in inner for given in writes(n)):
                    raise CutError(f"it changes values inside {node.target.name()}")
        return found

    @cached_property
    def needs(self) -> dict[Node, list[Node]]:
        """What must have run before a node: what it reads, and what wrote into that."""
        found: dict[Node, list[Node]] = {}
        for node in self.nodes:
            reads = node.all_input_nodes
            wrote = [w for r in reads for w in self.changed.get(self.memory[r], ()) if self.order[r] < self.order[w] < self.order[node]]
            found[node] = list(dict.fromkeys([*reads, *wrote]))
        return found

    def live(self, trained: set[int]) -> set[Node]:
        """Nodes that depend on what trains, on what changes while the network runs, or on chance."""
        moving = {memory for memory, writers in self.changed.items() if writers}
        found: set[Node] = set()
        for node in self.nodes:
            if node in self.held:
                if id(self.held[node][1]) in trained or self.memory[node] in moving:
                    found.add(node)
            elif not is_size(node) and (is_random(node, self.parts) or any(n in found for n in self.needs[node])):
                found.add(node)
        return found

    def data(self) -> set[Node]:
        """Nodes that depend on the values of the data; sizes do not."""
        found = set(self.inputs)
        for node in self.nodes:
            if not is_size(node) and any(n in found for n in self.needs[node]):
                found.add(node)
        return found

    def behind(self, roots: Sequence[Node]) -> set[Node]:
        """The nodes that must run for the roots."""
        found: set[Node] = set()
        todo = list(roots)
        while todo:
            node = todo.pop()
            if node not in found:
                found.add(node)
                todo += self.needs[node]
        return found

    def values(self, table: dict[Any, int]) -> dict[Node, int]:
        """A number for the value of each node: the same for the same operation on the same values, in every graph numbered with
        the same `table`.
        """
        found: dict[Node, int] = {}
        for node in self.nodes:
            if node in self.inputs:
                key: Any = ("input", self.inputs[node])
            elif node in self.held:
                key = ("held", id(self.held[node][1]))
            elif is_size(node):
                key = ("size", str(expression(node.meta["val"])))
            elif node in self.parts:
                key = (
                    "block",
                    tuple((n.op, str(n.target), _plain(n.args, _places(self.parts[node]))) for n in self.parts[node].graph.nodes),
                )
            else:
                wrote = tuple(found[n] for n in self.needs[node] if n not in node.all_input_nodes)
                key = (node.op, str(node.target), _plain((node.args, node.kwargs), found), wrote)
            found[node] = table.setdefault(key, len(table))
        return found

    def path(self, node: Node) -> list[str]:
        """The layers that a node lies in, the outermost first."""
        stack = [str(value[0]) for value in (node.meta.get("nn_module_stack") or {}).values()]
        return [re.sub(r"@\d+$", "", p.removeprefix("network.")) for p in stack if p.startswith("network.")]


def export(network: nn.Module, inputs: Mapping[str, Tensor], varying: Mapping[str, Sequence[int]]) -> Graph:
    """The graph of a network in the mode in which it is; the batch may have any size, and so may the dimensions in `varying`.

    CutError when torch.export refuses.
    """
    first = next(iter(inputs.values()))
    # on a GPU kernels are chosen by whether a batch has more elements than 32 bits count: without a bound that is a refusal
    most = None if first.device.type == "cpu" else max(BATCH, first.shape[0])
    batch = torch.export.Dim("batch", min=2, max=most)
    shapes = tuple({0: batch, **{d: torch.export.Dim.AUTO for d in varying.get(k, ())}} for k in inputs)
    try:
        with _quiet():
            program = torch.export.export(
                _Flat(network, list(inputs)), tuple(inputs.values()), dynamic_shapes={"given": shapes}, strict=False
            )
    except Exception as error:  # torch.export raises whatever the code of a network, or its own, comes upon
        said = " ".join(str(error).split()).partition(". ")[0]
        raise CutError(f"{type(error).__name__}: {said[:200]}") from None
    names = program.graph_signature
    tensors = {**names.inputs_to_parameters, **names.inputs_to_buffers, **names.inputs_to_lifted_tensor_constants}
    nodes = list(program.graph.nodes)
    data = set(names.user_inputs)
    held: dict[Node, tuple[str, Tensor]] = {}
    for node in nodes:
        if node.op == "placeholder" and node.name not in data:
            if node.name not in tensors:
                raise CutError(f"it holds something that is no tensor ({node.name})")
            held[node] = _tensor(network, tensors[node.name], program.constants)
    given = dict(zip([n for n in nodes if n.op == "placeholder" and n.name in data], inputs, strict=True))
    parts = {n: getattr(program.graph_module, str(n.target)) for n in nodes if n.op == "get_attr"}
    spec = program.call_spec.out_spec
    assert spec is not None
    return Graph(nodes, given, held, parts, spec, {n: i for i, n in enumerate(nodes)})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.export says to its own makers."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _tensor(network: nn.Module, name: str, constants: Mapping[str, Any]) -> tuple[str, Tensor]:
    """(name, tensor) of what a network holds: its own object, not what the program keeps."""
    own = name.removeprefix("network.")
    path, _, last = own.rpartition(".")
    with contextlib.suppress(AttributeError):
        found = getattr(network.get_submodule(path), last)
        if isinstance(found, Tensor):
            return own, found
    if not isinstance(constants.get(name), Tensor):
        raise CutError(f"it holds something that is no tensor ({own})")
    return own, constants[name]


def _places(part: fx.GraphModule) -> dict[Node, int]:
    return {n: i for i, n in enumerate(part.graph.nodes)}


def _plain(value: Any, numbers: Mapping[Node, int]) -> Any:
    """The arguments of an operation with numbers for nodes, as something that can be compared."""
    if isinstance(value, Node):
        return ("node", numbers[value])
    if isinstance(value, (list, tuple)):
        return tuple(_plain(v, numbers) for v in value)
    if isinstance(value, dict):
        return tuple((k, _plain(v, numbers)) for k, v in value.items())
    return repr(value)


def trained_tensors(network: nn.Module, frozen: Frozen) -> set[int]:
    """The ids of the parameters that train and of the buffers of what trains. A tensor with several names trains under all of them."""
    return live_tensors(network, frozen.trained)


def expression(size: Any) -> Any:
    """A size as a number or a symbolic expression."""
    return size.node.expr if isinstance(size, torch.SymInt) else size


def is_size(node: Node) -> bool:
    """Whether a node is a size or made of sizes alone, not of the values of tensors."""
    value = node.meta.get("val")
    if not isinstance(value, (int, torch.SymInt)) or isinstance(value, bool):
        return False
    return not (isinstance(value, torch.SymInt) and free_unbacked_symbols(value))


def _arguments(node: Node) -> dict[str, Any]:
    """The arguments of an operation by the names of its schema; those left at their default are absent."""
    assert isinstance(node.target, OpOverload)
    return {**dict(zip((a.name for a in node.target._schema.arguments), node.args, strict=False)), **node.kwargs}


def writes(node: Node) -> list[Node]:
    """The nodes whose values an operation changes in place."""
    if not isinstance(node.target, OpOverload):
        return []
    given = _arguments(node)
    found = [given.get(a.name) for a in node.target._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    # normalisation says nothing of the statistics that it moves
    if "running_mean" in given and (given.get("training") or given.get("use_input_stats")):
        found += [given["running_mean"], given["running_var"]]
    flat = [n for value in found for n in (value if isinstance(value, (list, tuple)) else [value])]
    return [n for n in flat if isinstance(n, Node)]


def is_view(node: Node) -> bool:
    """Whether an operation gives another view of what it was given: no work."""
    if not isinstance(node.target, OpOverload):
        return True
    return any(r.alias_info is not None and not r.alias_info.is_write for r in node.target._schema.returns)


def is_random(node: Node, parts: Mapping[Node, fx.GraphModule]) -> bool:
    """Whether what an operation gives depends on chance: dropout that is on, noise."""
    if isinstance(node.target, HigherOrderOperator):
        inner = [parts[a] for a in node.all_input_nodes if a in parts]
        return any(is_random(n, {}) for part in inner for n in part.graph.nodes)
    if not isinstance(node.target, OpOverload) or torch.Tag.nondeterministic_seeded not in node.target.tags:
        return False
    given = _arguments(node)
    if any(given.get(name) is False for name in ("train", "training")):
        return False
    names = {a.name for a in node.target._schema.arguments}
    chance = next((name for name in ("dropout_p", "dropout") if name in names), None)
    return chance is None or bool(given.get(chance, 0))


def shared_memory(nodes: Sequence[Node]) -> dict[Node, Node]:
    """For each node a node that stands for all that may lie in the same memory, by the schemas of the operations."""
    above: dict[Node, Node] = {n: n for n in nodes}

    def top(node: Node) -> Node:
        while above[node] is not node:
            above[node] = above[above[node]]
            node = above[node]
        return node

    for node in nodes:
        if isinstance(node.target, OpOverload):
            schema = node.target._schema
            given = _arguments(node)
            aliased = [given.get(a.name) for a in schema.arguments if a.alias_info is not None]
            if not any(r.alias_info is not None for r in schema.returns):
                aliased = []
            if schema.name.removeprefix("aten::") in MAY_GIVE_BACK:
                aliased = list(given.values())
            flat = [n for value in aliased for n in (value if isinstance(value, (list, tuple)) else [value])]
            same = [n for n in flat if isinstance(n, Node)]
        elif node.op == "call_function" and not is_size(node):
            same = list(node.all_input_nodes)  # an item of a list, or a block of operations
        else:
            same = []
        for other in same:
            above[top(node)] = top(other)
    return {n: top(n) for n in nodes}


def costs(graph: Graph, inputs: Mapping[str, Tensor]) -> dict[Node, int]:
    """Multiply-adds of every node for a batch. Nothing is computed: shapes go through the graph."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from regraft.anatomy.counting import Counting

    fake = FakeTensorMode()
    found: dict[Node, int] = {}
    values: dict[Node, Any] = {n: fake.from_tensor(inputs[name].detach(), static_shapes=True) for n, name in graph.inputs.items()}
    values |= {n: fake.from_tensor(t.detach(), static_shapes=True) for n, (_, t) in graph.held.items()}
    values |= graph.parts
    counter = Counting()
    uses = {n: len(n.users) for n in graph.nodes}
    with torch.no_grad(), fake, sdpa_kernel([SDPBackend.MATH]), counter:
        for node in graph.nodes:
            if node.op != "call_function":
                continue
            before = counter.macs
            args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
            values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
            found[node] = counter.macs - before
            for read in node.all_input_nodes:
                uses[read] -= 1
                if not uses[read]:
                    values.pop(read)
    return found
