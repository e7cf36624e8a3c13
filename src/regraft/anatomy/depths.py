"""A network at every depth: what it would be, cut off after each of its blocks, and the features of all of these from one run.

A network that is cut off after block k differs from the whole one in what follows block k alone. So the whole runs once, and in the
moment in which block k is done, the layers that would follow it in the cut network (a last norm, the pooling, whatever its own code
does between layers) are run on what the block gave: all layers before give what they gave a moment ago. These are the operations of the
cut network on the same numbers, so that its features have the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from regraft.anatomy.layers import layer_at
from regraft.anatomy.net import Net
from regraft.anatomy.operations.truncate import block_at, block_name
from regraft.anatomy.trace import Trace, own_copy
from regraft.errors import RegraftError, UsageError

TRUNCATE = "truncate"
"""The step that cuts a network off."""


@dataclass(frozen=True)
class Depth:
    """A network that ends after a block. `features` are how many numbers it gives for an example, `macs` its multiply-adds for one."""

    name: str
    features: int
    macs: int
    parameters: int
    block: tuple[str, ...]
    """The layers of the block after which it ends, as they stand in the whole network."""
    net: Net


def depth_at(net: Net, text: str) -> str:
    """The name of the block that some layers, as a selection, reach to the end of; UsageError when there is none."""
    return block_name(net.parts.blocks[block_at(net.parts, net.select(text).paths, text)])


def depths_of(net: Net) -> tuple[list[Depth], dict[str, str]]:
    """(a network that gives rows of features, cut off after each of its blocks, and last the whole one; why it cannot end after others).

    The networks hold the parameters of `net`. UsageError when it does not give rows.
    """
    if len(net.seen.outputs[0]) != 2:
        raise UsageError(f"the network gives {net.seen.outputs[0]} for two examples", expected="one row of features each")
    found: list[Depth] = []
    refused: dict[str, str] = {}
    blocks = net.parts.blocks
    for block in blocks[:-1]:
        name = block_name(block)
        try:
            ended = net.apply({"op": TRUNCATE, "after": name})
        except RegraftError as error:
            refused[name] = error.found
            continue
        if len(ended.seen.outputs[0]) != 2:
            refused[name] = f"it would give {ended.seen.outputs[0]} for two examples, not a row each"
            continue
        _share(ended, net)
        found.append(_depth(block, ended))
    return [*found, _depth(blocks[-1] if blocks else ("the network",), net)], refused


def _depth(block: tuple[str, ...], net: Net) -> Depth:
    return Depth(block_name(block), net.seen.outputs[0][1], net.seen.macs, net.totals()[0], block, net)


def _share(ended: Net, net: Net) -> None:
    """Let a changed copy hold the parameters of the network that it was made of: many copies take the memory of one."""
    back = {original: name for name, original in net.kept.items()} if net.before is not None else {}
    own = dict(net.module.named_parameters(remove_duplicate=False))
    for name, parameter in list(ended.module.named_parameters(remove_duplicate=False)):
        original = ended.kept.get(name)
        mine = own.get(back.get(original, original) if original is not None else "")
        if mine is not None and mine.shape == parameter.shape:
            above, _, last = name.rpartition(".")
            (layer_at(ended.module, above) if above else ended.module)._parameters[last] = mine


class Depths(nn.Module):
    """The features of a network at several depths side by side (n, the sum of their widths), the whole network's last, from one run.

    Threads may call it at the same time. The whole network's features are its own to the bit; so are the others those of the cut
    networks at the same batch. `check` tells where that is not so.
    """

    def __init__(self, depths: Sequence[Depth]) -> None:
        super().__init__()
        *ended, whole = depths
        # the hooks below belong to this copy, whose parameters are the network's own
        self.whole = _with_its_parameters(whole.net.module)
        self.widths = [d.features for d in depths]
        self._alone = [d.net.module for d in depths]
        self._state = threading.local()
        seen = whole.net.seen
        last = {d.name: _ends(seen, d) for d in ended}
        self._tails = [_tail(d, last[d.name][1], seen, self._state) for d in ended]
        self.tails = nn.ModuleList(tail.network for tail in self._tails)
        kept: set[str] = set()
        for tail in self._tails:
            kept.update(tail.known)
        at_end: dict[str, list[tuple[int, int]]] = {}
        for i, d in enumerate(ended):
            path, order = last[d.name]
            runs = [call.order for call in seen.calls[path]]
            at_end.setdefault(path, []).append((runs.index(order), i))
        for path in sorted(kept | set(at_end)):
            layer_at(self.whole, path).register_forward_hook(partial(self._done, path, tuple(at_end.get(path, ()))))

    def _done(self, path: str, ends: Sequence[tuple[int, int]], layer: nn.Module, args: Any, output: Any) -> None:
        """A layer of the whole network is done: keep what it gave, and run what would follow it if the network ended here."""
        state = self._state
        if not getattr(state, "running", False):
            return
        outputs = state.known.setdefault(path, [])
        outputs.append(output)
        for run, i in ends:
            if run == len(outputs) - 1:
                # what follows may change in place what it is given
                state.known[path] = [*outputs[:-1], _copied(output)]
                state.rows[i] = self._tails[i](state.inputs)
                state.known[path] = outputs

    def forward(self, **inputs: Tensor) -> Tensor:
        state = self._state
        state.running, state.known, state.rows, state.inputs = True, {}, {}, inputs
        try:
            row = self.whole(**inputs)
            # an automatic cast makes rows of several kinds
            return torch.cat([*(state.rows[i].float() for i in range(len(self._tails))), row.float()], 1)
        finally:
            state.running, state.known, state.rows, state.inputs = False, {}, {}, {}

    def split(self, rows: Any) -> list[Any]:
        """Features (n, width) of each depth."""
        starts = [sum(self.widths[:i]) for i in range(len(self.widths) + 1)]
        return [rows[:, a:b] for a, b in zip(starts, starts[1:], strict=False)]

    @torch.no_grad()
    def check(self, inputs: Mapping[str, Tensor]) -> list[int]:
        """The depths whose features are not those of the cut network by itself, to the bit."""
        pairs = zip(self.split(self(**inputs)), self._alone, strict=True)
        return [i for i, (rows, network) in enumerate(pairs) if not torch.equal(rows, network(**inputs).float())]


def _copied(value: Any) -> Any:
    """The same with tensors of its own."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return type(value)((k, _copied(v)) for k, v in value.items())  # pyright: ignore[reportCallIssue]
    if type(value) in (list, tuple):
        return type(value)(_copied(v) for v in value)
    return value


def _ends(seen: Trace, depth: Depth) -> tuple[str, int]:
    """(path, order) of the run with which the last block of a cut network ends, in the whole one."""
    runs = [(call.order, path) for path in depth.block for call in seen.calls.get(path, ())[-1:]]
    order, path = max(runs)
    return path, order


@dataclass(frozen=True)
class _Tail:
    """A cut network whose layers up to its last block give what they gave in the whole one."""

    network: nn.Module
    known: frozenset[str]
    state: threading.local

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        self.state.running, self.state.taken = False, {}
        try:
            return self.network(**inputs)
        finally:
            self.state.running = True


def _tail(depth: Depth, end: int, seen: Trace, state: threading.local) -> _Tail:
    """`end` is when the last block begins to run in the whole network, whose trace `seen` is.

    A layer that ran before, and is none that holds the block, was done by then.
    """
    network = _with_its_parameters(depth.net.module)
    above = {p[:i] for p in depth.block for i, letter in enumerate(p) if letter == "."} | {""}
    known: set[str] = set()

    def visit(path: str, layer: nn.Module) -> None:
        calls, whole = depth.net.seen.calls.get(path, []), seen.calls.get(path, [])
        if path not in above and calls and len(calls) == len(whole) and whole[-1].order <= end:
            known.add(path)
            layer.forward = partial(_recall, state, path)
            return
        for name, child in layer.named_children():
            visit(f"{path}.{name}" if path else name, child)

    visit("", network)
    return _Tail(network.eval(), frozenset(known), state)


def _with_its_parameters(network: nn.Module) -> nn.Module:
    """A copy that holds the same parameters."""
    return own_copy(network, {id(p): p for p in network.parameters()})


def _recall(state: threading.local, path: str, *args: Any, **kwargs: Any) -> Any:
    """What a layer gave in the whole network, run by run."""
    taken = state.taken[path] = state.taken.get(path, 0) + 1
    return state.known[path][taken - 1]
