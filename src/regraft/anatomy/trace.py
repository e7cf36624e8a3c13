"""One batch through a network, watched: which layer runs when, what goes in, what comes out, what it costs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from regraft.errors import ModelError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One run of a layer. `order` counts all runs; `inputs` and `outputs` are shapes of tensors, however nested they came."""

    order: int
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    macs: int
    """Multiply-adds of everything inside, for the whole batch."""


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
    return ()


def trace(network: nn.Module, inputs: Mapping[str, Tensor]) -> Trace:
    """Run `inputs` (tensors whose first dimension is the batch) through a network in evaluation mode, on the meta device where it
    allows that, else in earnest without gradients. The network is as it was afterwards.

    Raises Broken with the layer that could not run.
    """
    was = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        try:
            return _watched(network, inputs, meta=True)
        except Broken as broken:
            if broken.came and not _needs_values(broken):
                raise
            # what looks at values (a mask's maximum, say) cannot run on shapes alone
            return _watched(network, inputs, meta=False)
    finally:
        for module, training in was:
            module.training = training


def _needs_values(broken: Broken) -> bool:
    text = broken.found
    return any(
        word in text for word in ("meta", "data-dependent", "item()", "Expected all tensors to be on the same device", "_local_scalar")
    )


def _watched(network: nn.Module, inputs: Mapping[str, Tensor], *, meta: bool) -> Trace:
    batch = next((v.shape[0] for v in inputs.values() if v.ndim), 1)
    calls: dict[str, list[Call]] = {}
    stack: list[tuple[str, nn.Module, tuple[Shape, ...], int, int]] = []
    names = {module: path for path, module in network.named_modules()}
    counter = FlopCounterMode(display=False)
    clock = 0

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal clock
        stack.append((names[module], module, shapes([args, kwargs]), clock, counter.get_total_flops()))
        clock += 1

    def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        path, _, given, order, before = stack.pop()
        # a multiply-add is counted as two operations
        calls.setdefault(path, []).append(Call(order, given, shapes(output), (counter.get_total_flops() - before) // 2))

    hooks = [
        h for m in names for h in (m.register_forward_pre_hook(enter, with_kwargs=True), m.register_forward_hook(leave, with_kwargs=True))
    ]
    try:
        with torch.no_grad(), counter, _eager_attention():
            if meta:
                state = {k: v.to("meta") for k, v in [*network.named_parameters(), *network.named_buffers()]}
                output = torch.func.functional_call(network, state, kwargs={k: v.to("meta") for k, v in inputs.items()}, args=())
            else:
                output = network(**inputs)
    except Exception as error:
        path, module, given, _, _ = stack[-1] if stack else ("", network, (), 0, 0)
        raise Broken(path, given, type(module).__name__, error) from None
    finally:
        for hook in hooks:
            hook.remove()
    return Trace(batch, shapes(output), calls)


@contextlib.contextmanager
def _eager_attention() -> Iterator[None]:
    """Attention as plain matrix products, which the counter sees on every device."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([SDPBackend.MATH]):
        yield
