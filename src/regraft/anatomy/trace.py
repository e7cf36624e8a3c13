"""One batch through a network, watched: which layer runs when, what goes in, what comes out, what it costs."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from regraft.anatomy.counting import Counting
from regraft.errors import ModelError

Shape = tuple[int, ...]

EMPTY = (dict, OrderedDict, set, list)
"""Kinds of which an empty one is all that a copy of an empty one is."""


@dataclass(frozen=True)
class Call:
    """One run of a layer. `order` counts all runs; `inputs` and `outputs` are shapes of tensors, however nested they came."""

    order: int
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    macs: int
    """Multiply-adds of everything inside, for the whole batch."""
    whole_numbers: bool = False
    """Whether the first tensor that came was one of whole numbers, such as tokens."""


@dataclass
class Trace:
    """What happened to one batch. `calls` holds for each path its runs in order; paths that never ran are absent."""

    batch: int
    outputs: tuple[Shape, ...]
    calls: dict[str, list[Call]] = field(default_factory=dict)

    def first(self, path: str) -> int:
        """When a layer first ran; after everything else where it never did."""
        return self.calls[path][0].order if path in self.calls else 1 << 60

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole network for one example."""
        return self.calls[""][0].macs // max(1, self.batch) if "" in self.calls else 0


class Broken(ModelError):
    """The network did not run. `path` is the innermost layer that was running, `came` the shapes that it was given."""

    def __init__(self, path: str, came: tuple[Shape, ...], kind: str, error: BaseException) -> None:
        text = " ".join(str(error).split())
        self.path, self.came = path, came
        got = " and ".join("x".join(map(str, s)) for s in came) or "nothing"
        super().__init__(f"{path or 'the network'} ({kind}) cannot take {got}: {text[:200]}")


def shapes(value: Any) -> tuple[Shape, ...]:
    """The shapes of all tensors in a value."""
    if isinstance(value, Tensor):
        return (tuple(value.shape),)
    if isinstance(value, Mapping):
        return tuple(s for v in value.values() for s in shapes(v))
    if isinstance(value, (list, tuple)):
        return tuple(s for v in value for s in shapes(v))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple(s for f in dataclasses.fields(value) for s in shapes(getattr(value, f.name)))
    return ()


def first_tensor(value: Any) -> Tensor | None:
    """The first tensor in nested lists, tuples and mappings."""
    if isinstance(value, Tensor):
        return value
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return next((found for v in inside if (found := first_tensor(v)) is not None), None)


def trace(network: nn.Module, inputs: Mapping[str, Tensor]) -> Trace:
    """Run `inputs` (tensors whose first dimension is the batch) through a network in evaluation mode, on the meta device where it
    allows that, else in earnest without gradients. It is a copy that runs: nothing that the network keeps while it runs (a
    counter, a cache) changes.

    Raises Broken with the layer that could not run.
    """
    with contextlib.suppress(Broken):
        return _watched(_copied(network, meta=True), inputs, meta=True)
    # what looks at values (a mask's maximum, say) cannot run on shapes alone; where nothing fits, this says it best
    return _watched(_copied(network, meta=False), inputs, meta=False)


def _copied(network: nn.Module, *, meta: bool) -> nn.Module:
    """A copy to run, in evaluation mode. Its parameters take no memory: they are on the meta device, or the network's own."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), requires_grad=False) if meta else p for p in network.parameters()}
    if meta:
        memo |= {id(b): b.detach().to("meta") for b in network.buffers()}
    return own_copy(network, memo).eval()


def own_copy(network: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy; ModelError when the network cannot be copied."""
    memo = {} if memo is None else memo
    for module in network.modules():
        # a dozen empty tables of hooks in every layer: going through the machinery of copy one by one, they take longer than all the rest
        memo |= {id(v): type(v)() for v in vars(module).values() if type(v) in EMPTY and not v}
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:  # a lock, a file, a tensor that was computed: whatever a module holds
        text = " ".join(str(error).split())
        raise ModelError(
            f"the network ({type(network).__name__}) cannot be copied: {text[:200]}", expected="a module that copy.deepcopy can copy"
        ) from None


def _watched(network: nn.Module, inputs: Mapping[str, Tensor], *, meta: bool) -> Trace:
    batch = next((v.shape[0] for v in inputs.values() if v.ndim), 1)
    calls: dict[str, list[Call]] = {}
    stack: list[tuple[str, nn.Module, tuple[Shape, ...], bool, int, int]] = []
    names: dict[nn.Module, list[str]] = {}
    for path, module in network.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(path)
    counter = Counting()
    clock = 0

    def called(module: nn.Module) -> str:
        """The path of a layer that runs now. One that stands at several paths: below what runs already, and in turn."""
        paths = names[module]
        if len(paths) > 1:
            running = [path for path, *_ in stack]
            below = next((found for r in reversed(running) if (found := [p for p in paths if p.startswith(f"{r}.")])), paths)
            return min(below, key=lambda p: len(calls.get(p, ())) + running.count(p))
        return paths[0]

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal clock
        first = first_tensor([args, kwargs])
        whole = first is not None and not first.is_floating_point() and not first.is_complex()
        stack.append((called(module), module, shapes([args, kwargs]), whole, clock, counter.macs))
        clock += 1

    def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        # layers whose error the network itself caught never left
        while stack[-1][1] is not module:
            stack.pop()
        path, _, given, whole, order, before = stack.pop()
        calls.setdefault(path, []).append(Call(order, given, shapes(output), counter.macs - before, whole))

    for module in names:
        # first of all, so that what other hooks do is seen as a part of the layer
        module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
        module.register_forward_hook(leave, with_kwargs=True)
    try:
        with torch.no_grad(), counter, _eager_attention():
            output = network(**{k: v.to("meta") for k, v in inputs.items()} if meta else inputs)
    except Exception as error:
        path, module, given, *_ = stack[-1] if stack else ("", network, ())
        raise Broken(path, given, type(module).__name__, error) from None
    for paths in names.values():
        # of a layer with more names than runs each name tells the same
        seen = next((calls[p] for p in paths if p in calls), None)
        calls |= {p: list(seen) for p in paths if seen and p not in calls}
    return Trace(batch, shapes(output), calls)


@contextlib.contextmanager
def _eager_attention() -> Iterator[None]:
    """Attention as plain matrix products, which the counter sees on every device."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([SDPBackend.MATH]):
        yield
