"""Finding the cut: the graph of the network in training, the cheapest tensors between its frozen and its live part, two halves."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from regraft.anatomy.freezing import Frozen
from regraft.anatomy.parts import inside
from regraft.errors import CutError
from regraft.features.cut.graph import Graph, Node, costs, export, expression, is_view, trained_tensors
from regraft.features.cut.halves import Layout, Nothing, Rest, Trunk, Whole, effects, layout_of, part_of
from regraft.features.cut.mincut import cheapest_cut

AGAIN = 0.01
"""The share of the frozen part's multiply-adds that may be done again in the rest, to keep fewer bytes."""


ALIKE = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.Identity, nn.Flatten),
    *(nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.Sequential, nn.ModuleList),
)
"""Layers that do the same in training and in use."""


@dataclass(frozen=True)
class CutTensor:
    """One tensor at the cut. `shape` is that of one example; `varying` are its dimensions that depend on the example's length."""

    after: str
    """The path of the last frozen layer before it, or the name of an input that goes through as it is."""
    shape: tuple[int, ...]
    dtype: torch.dtype
    layout: Layout
    """The dimensions, batch included, in the order in which they lie in memory. Stored so, nothing is copied when it is used."""
    varying: tuple[int, ...] = ()
    is_input: bool = False

    @property
    def bytes(self) -> int:
        """For one example, at the length of the example batch."""
        return math.prod(self.shape) * self.dtype.itemsize

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "after": self.after,
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "bytes": self.bytes,
            "layout": list(self.layout),
            "varying": list(self.varying),
            "is_input": self.is_input,
        }


@dataclass(frozen=True)
class Cut:
    """A network divided in two. Multiply-adds are those of one example.

    `trunk` takes tensors in the order of `inputs`, batch first, and gives the cut tensors as a tuple; `rest` takes these and gives what
    the network gives, in training or in use (`rest.train()`, `rest.eval()`). Both hold the network's own parameters and buffers. So
    the network stays on its device after it was cut: moving it would make other buffers.
    """

    trunk: nn.Module
    rest: nn.Module
    inputs: tuple[str, ...]
    tensors: tuple[CutTensor, ...]
    macs: int
    """Of the whole network."""
    trunk_macs: int
    again_macs: int = 0
    """Done in the trunk and once more in the rest."""
    same_bits: bool = True
    """Whether trunk and rest in use gave the very bits of the network on the example batch; else they agree to 1e-5."""
    reason: str = ""
    """Why there is no trunk, where there is none."""
    one_length: bool = False
    """Whether only inputs of the example batch's length go through: others were refused."""
    in_use: Graph | None = field(default=None, repr=False, compare=False)
    """The network's graph in use: the same for every choice of what trains."""

    @property
    def empty(self) -> bool:
        """Whether there is no trunk: then `rest` is the network itself, not a graph of it."""
        return bool(self.reason)

    @property
    def after(self) -> str:
        """Where the cut is: the path of the last frozen layer before its largest tensor; nothing when it is empty."""
        return "" if self.empty else max(self.tensors, key=lambda t: (not t.is_input, t.bytes)).after

    @property
    def bytes(self) -> int:
        """What is kept of one example."""
        return sum(t.bytes for t in self.tensors)

    @property
    def saved(self) -> float:
        """The share of the network's multiply-adds that need not be done again at every step, 0 to 1."""
        return max(0, self.trunk_macs - self.again_macs) / self.macs if self.macs else 0.0

    def features(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The cut tensors of a batch: the trunk without gradients."""
        with torch.no_grad():
            return self.trunk(*(inputs[name] for name in self.inputs))

    def to_json(self) -> dict[str, Any]:
        """The facts as plain data."""
        return {
            "after": self.after,
            "empty": self.empty,
            "reason": self.reason,
            "inputs": list(self.inputs),
            "tensors": [t.to_json() for t in self.tensors],
            "bytes": self.bytes,
            "macs": self.macs,
            "trunk_macs": self.trunk_macs,
            "again_macs": self.again_macs,
            "saved": self.saved,
            "same_bits": self.same_bits,
        }


def no_cut(network: nn.Module, inputs: Mapping[str, Tensor], frozen: Frozen, reason: str, macs: int = 0) -> Cut:
    """A Cut without a trunk, for the same loop: the rest is the network itself, and what is kept are its inputs."""
    frozen.apply(network)
    tensors = tuple(CutTensor(name, tuple(t.shape[1:]), t.dtype, layout_of(t), _lengths(t), is_input=True) for name, t in inputs.items())
    return Cut(Nothing(), Whole(network, tuple(inputs), frozen), tuple(inputs), tensors, macs, 0, reason=reason)


def find_cut(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    frozen: Frozen,
    *,
    varying: Mapping[str, Sequence[int]] | None = None,
    in_use: Graph | None = None,
) -> Cut:
    """Divide a network where its frozen part hands over to what trains.

    `inputs` are the keyword arguments of its forward, tensors with the batch first. `varying` names their dimensions that differ
    between batches; when not given, the last one of those that have two or three (tokens, samples, moments of a spectrogram). `frozen` is
    applied: parameters that
    train get gradients, others none. Modes are left as they were. `in_use` of an earlier cut of the same network, same inputs, saves half
    the time.

    CutError with a plain sentence when torch.export refuses the network, or when its graph would not do the same; it then trains
    whole (`no_cut`).
    """
    if not inputs or any(t.ndim == 0 or t.shape[0] != next(iter(inputs.values())).shape[0] for t in inputs.values()):
        raise CutError("a network is cut with one batch", expected="tensors with the batch first")
    # a batch of one would count as a size that never changes
    inputs = {k: torch.cat([t, t]) if t.shape[0] == 1 else t for k, t in inputs.items()}
    chosen = varying if varying is not None else {k: _lengths(t) for k, t in inputs.items()}
    frozen.apply(network)
    try:
        return _found(network, inputs, frozen, chosen, in_use)
    except CutError as error:
        first = error
    if any(chosen.values()):  # perhaps only one length can be had
        with contextlib.suppress(CutError):
            return replace(_found(network, inputs, frozen, {}, None), one_length=True)
    raise CutError(f"{type(network).__name__} cannot be cut, so it trains whole, which is slower: {first.found}")


def _lengths(tensor: Tensor) -> tuple[int, ...]:
    return {2: (1,), 3: (2,)}.get(tensor.ndim, ())


def _found(
    network: nn.Module, inputs: Mapping[str, Tensor], frozen: Frozen, varying: Mapping[str, Sequence[int]], in_use: Graph | None
) -> Cut:
    with _modes_kept(network):
        network.eval()
        use = in_use or export(network, inputs, varying)
        frozen.train(network)
        # most heads do the same in training and in use: one graph tells both
        graph = use if all(type(m) in ALIKE for m in network.modules() if m.training) else export(network, inputs, varying)
        batch = next(iter(inputs.values())).shape[0]
        macs = costs(graph, inputs)
        total = sum(macs.values()) // batch
        kept, again, trunk = _choose(graph, trained_tensors(network, frozen), macs, batch)
        done = sum(macs.get(n, 0) for n in trunk) // batch
        if not done:
            return no_cut(network, inputs, frozen, "nothing frozen that costs multiply-adds comes before what trains", total)
        network.eval()
        before = part_of(graph, [[n] for n in graph.inputs], kept)
        with torch.no_grad():
            layouts = [layout_of(t) for t in before(*inputs.values())]
        training = part_of(graph, [[n] for n in kept], graph.outputs, effects(graph))
        using = part_of(use, _same_nodes(graph, use, kept), use.outputs, effects(use))
        rest = Rest(training, using, layouts, (graph.spec, use.spec))
        tensors = tuple(_told(graph, n, layout, frozen) for n, layout in zip(kept, layouts, strict=True))
        cut = Cut(
            Trunk(before, layouts).eval(),
            rest.eval(),
            tuple(inputs),
            tensors,
            total,
            done,
            sum(macs.get(n, 0) for n in again) // batch,
            _compared(network, use, rest, before, inputs),
            in_use=use,
        )
    return cut


def _choose(graph: Graph, trained: set[int], macs: Mapping[Node, int], batch: int) -> tuple[list[Node], list[Node], list[Node]]:
    """(nodes at the cut, frozen nodes that run again after it, frozen nodes that run before it)."""
    live, data = graph.live(trained), graph.data()
    roots = [n for n in graph.outputs if isinstance(n, Node)]
    used = graph.behind([*roots, *effects(graph)])
    between = [n for n in graph.nodes if n in data and n not in live and n in used]
    at = {n: i for i, n in enumerate(between)}
    readers = [n for n in graph.nodes if n in used and n in live]
    wanted = {at[r] for n in readers for r in graph.needs[n] if r in at} | {at[n] for n in roots if n in at}
    reads = [[at[r] for r in graph.needs[n] if r in at] for n in between]
    # between cuts of equal bytes the one with fewer tensors
    sizes = [None if (size := _bytes(graph, n, live)) is None else size + 1 for n in between]
    # an element that is written counts as a multiply-add; another view of the same ones does not
    work = [macs.get(n, 0) // batch + (1 if is_view(n) else _elements(n) // batch) for n in between]
    frozen = sum(macs.get(n, 0) for n in between) // batch
    share = AGAIN
    while True:  # where nothing can be cut within the bound, as near to it as can be
        try:
            cut, again = cheapest_cut(reads, sizes, work, wanted, int(share * frozen))
            break
        except ValueError:
            if share > 1e3:
                raise CutError("there is no place where every example has its own row") from None
            share *= 4
    kept = [between[i] for i in cut]
    before = graph.behind(kept)
    return kept, [between[i] for i in again], [n for n in between if n in before]


def _bytes(graph: Graph, node: Node, live: set[Node]) -> int | None:
    """What a node's value takes for one example; None where it cannot be kept."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.ndim == 0 or expression(value.shape[0]) != graph.batch:
        return None
    later = [w for w in graph.changed.get(graph.memory[node], ()) if graph.order[w] > graph.order[node] and w not in live]
    return None if later else math.prod(map(_number, value.shape[1:])) * value.dtype.itemsize


def _elements(node: Node) -> int:
    values = node.meta.get("val")
    flat = values if isinstance(values, (list, tuple)) else [values]
    return sum(math.prod(map(_number, v.shape)) for v in flat if isinstance(v, Tensor))


def _number(size: Any) -> int:
    """A size as it is in the example batch."""
    return int(size.node.hint) if isinstance(size, torch.SymInt) else int(size)


def _same_nodes(graph: Graph, other: Graph, nodes: Sequence[Node]) -> list[list[Node]]:
    """For each of `nodes` those of another graph of the same network that hold the same value: the same operations on the same."""
    table: dict[Any, int] = {}
    mine, others = graph.values(table), other.values(table)
    return [[n for n in other.nodes if others[n] == mine[node]] for node in nodes]


def _told(graph: Graph, node: Node, layout: Layout, frozen: Frozen) -> CutTensor:
    """A node at the cut in the words of the user."""
    value = node.meta["val"]
    shape = tuple(map(_number, value.shape[1:]))
    varying = tuple(d for d, size in enumerate(value.shape[1:], 1) if isinstance(size, torch.SymInt))
    return CutTensor(_after(graph, node, frozen), shape, value.dtype, layout, varying, node in graph.inputs)


def _after(graph: Graph, node: Node, frozen: Frozen) -> str:
    """The outermost frozen layer that ends at a node, or ended last before it."""
    data = graph.data()
    while node not in graph.inputs:
        around = {path for user in node.users for path in graph.path(user)}
        ended = [p for p in graph.path(node) if p not in around and not any(inside(p, t) for t in frozen.trained.paths)]
        if ended:
            return ended[0]
        # back the way on which most was done: not by way of a mask
        node = max((n for n in graph.needs[node] if n in data), key=lambda n: len(graph.behind([n])))
    return graph.inputs[node]


def _compared(network: nn.Module, use: Graph, rest: nn.Module, before: nn.Module, inputs: Mapping[str, Tensor]) -> bool:
    """Whether the halves give the bits of the network on the example batch; CutError when they give something else than rounding."""
    held = [t for n, (_, t) in use.held.items() if use.changed.get(use.memory[n])]
    saved = [t.clone() for t in held]
    with torch.no_grad(), torch.random.fork_rng():
        given = {k: t.clone() for k, t in inputs.items()}  # some networks change what they are given
        chance = torch.get_rng_state()
        found = tree_leaves(rest(*before(*inputs.values())))
        for tensor, value in zip(held, saved):
            tensor.copy_(value)
        network(**given)  # what a network remembers shows when it runs again
        given = {k: t.clone() for k, t in inputs.items()}
        for tensor, value in zip(held, saved):
            tensor.copy_(value)
        torch.set_rng_state(chance)
        expected = tree_leaves(network(**given))
        for tensor, value in zip(held, saved):
            tensor.copy_(value)
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if isinstance(a, Tensor) and isinstance(b, Tensor)]
    for a, b in pairs:
        if a.shape != b.shape or not torch.allclose(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()), equal_nan=True):
            raise CutError("its graph gives something else than the network itself")
    return all(torch.equal(a, b) for a, b in pairs)


@contextlib.contextmanager
def _modes_kept(network: nn.Module) -> Iterator[None]:
    modes = {m: m.training for m in network.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
