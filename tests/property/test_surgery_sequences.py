"""Any sequence of operations fails at once with a message that names the operation, or gives a network that runs, whose frozen part
keeps every bit; the network that was given never changes.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regraft.anatomy import Net, look_at
from regraft.anatomy.net import step_once
from regraft.anatomy.parts import inside
from regraft.errors import UsageError

torch = pytest.importorskip("torch")
nn = torch.nn
F = nn.functional


class Residual(nn.Module):
    def __init__(self, came: int, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.drop = nn.Conv2d(came, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.3)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.short = nn.Conv2d(came, width, 1) if came != width else None

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.drop(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(y + (x if self.short is None else self.short(x)))


class ResNet(nn.Module):
    takes = staticmethod(lambda: {"x": torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))})

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.layer1, self.layer2 = nn.Sequential(Residual(4, 4), Residual(4, 4)), nn.Sequential(Residual(4, 6), Residual(6, 6))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.pool(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))).flatten(1))


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj, self.drop = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Dropout(0.3)

    def forward(self, x: Any, mask: Any = None) -> Any:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.drop(self.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 10), nn.GELU(), nn.Linear(10, width))

    def forward(self, x: Any, mask: Any = None) -> Any:
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    takes = staticmethod(lambda: {"x": torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))})

    def __init__(self) -> None:
        super().__init__()
        self.cls_token, self.pos = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        self.patch, self.blocks = nn.Conv2d(3, 8, 4, 4), nn.Sequential(Layer(8), Layer(8), Layer(8))
        self.norm, self.drop, self.head = nn.LayerNorm(8), nn.Dropout(0.3), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos
        return self.head(self.drop(self.norm(self.blocks(x))[:, 0]))


class Bert(nn.Module):
    """Layers in a list, called with a mask that values decide; a count that changes in use; the pooler never runs."""

    takes = staticmethod(lambda: {"ids": torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0], [6, 1, 2, 2], [3, 3, 0, 0]])})

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(7, 8), nn.LayerNorm(8)
        self.layer = nn.ModuleList(Layer(8) for _ in range(3))
        self.pooler, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
        self.register_buffer("runs", torch.zeros((), dtype=torch.long))

    def forward(self, ids: Any) -> Any:
        mask = (ids != 0)[:, None, :]
        if not bool(mask.any()):
            raise ValueError("no words")
        x = self.norm(self.words(ids))
        for layer in self.layer:
            x = layer(x, mask)
        return self.head(x.mean(1))


ADAPTERS = importlib.util.find_spec("peft") is not None

MODULES = {"resnet": ResNet, "vit": ViT, "bert": Bert}


@functools.cache
def opened(name: str) -> tuple[Any, Net, dict[str, Any]]:
    torch.manual_seed(0)
    module = MODULES[name]().train()
    next(module.children()).eval().requires_grad_(False)
    return module, look_at(module, MODULES[name].takes(), ["head"]), state(module)


def bits(module: Any) -> dict[str, bytes]:
    return {n: t.detach().contiguous().numpy().tobytes() for n, t in module.state_dict().items()}


def state(module: Any) -> dict[str, Any]:
    """All that a caller could see change."""
    return {
        "bits": bits(module),
        "modes": [(p, type(m).__name__, m.training) for p, m in module.named_modules()],
        "grads": [(n, p.requires_grad, p.grad is None) for n, p in module.named_parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules()],
    }


LAYERS = st.one_of(
    st.sampled_from(
        [
            *("Identity", "ReLU", "Dropout(0.5)", "GELU()", "LayerNorm", "BatchNorm2d", "BatchNorm1d", "GroupNorm(2)", "Tanh"),
            *("Linear(8)", "Linear(6, bias=False)", "Linear(3)", "Conv2d(4)", "Conv2d(6, 1)", "Conv2d(8, 3, stride=2)", "Conv1d(5)"),
            *("Sequential(Linear(8), ReLU, Dropout(0.2), Linear(8))", "Sequential(Linear(5), BatchNorm1d)", "Flatten", "Flatten(0)"),
            *("AdaptiveAvgPool2d(1)", "AvgPool2d(2)", "MaxPool2d(9)", "Linear(99999999)", "Linear(512, 3)", "Linear(0)", "Linear(-1)"),
            *("__import__('os')", "nn.Linear(3)", "Conv2d(", "", "Embedding(3)", "Dropout(2)"),
        ]
    ),
    st.builds(lambda n: nn.Linear(n, n), st.integers(1, 9)),
    st.text(max_size=12),
)

PATHS = {
    name: st.one_of(
        st.sampled_from([p for p, _ in make().named_modules() if p] + [n for n, _ in make().named_parameters()]),
        st.sampled_from(["head", "stem", "blocks", "neck", "norms", "all", "last 1 block", "last 2 blocks", "last 40%", "first 1 block"]),
        st.sampled_from(["blocks, -head", "-head", "layer.*", "blocks.0-1", "kind:Linear", "kind:Conv2d", "**.drop", "last 9 blocks", "0"]),
        st.text(max_size=12),
    )
    for name, make in MODULES.items()
}


EASY = st.sampled_from(
    ["Identity", "ReLU", "Dropout(0.5)", "Linear(8)", "Conv2d(4)", "Conv2d(6, 1)", "Sequential(Linear(8), Dropout(0.2))"]
)
"""Layers that often fit."""


def steps(name: str) -> Any:
    path, layers = PATHS[name], st.sampled_from([p for p, _ in MODULES[name]().named_modules() if p])
    return st.one_of(
        st.fixed_dictionaries({"op": st.just("replace"), "path": layers, "layer": EASY}),
        st.fixed_dictionaries({"op": st.just("insert"), "after": layers, "layer": EASY}),
        st.fixed_dictionaries({"op": st.just("insert"), "before": layers, "layer": EASY}),
        st.fixed_dictionaries({"op": st.just("remove"), "path": layers}),
        st.fixed_dictionaries({"op": st.just("remove"), "path": path}),
        st.fixed_dictionaries({"op": st.just("remove"), "after": path}),
        st.fixed_dictionaries({"op": st.just("replace"), "path": path, "layer": LAYERS}),
        st.fixed_dictionaries({"op": st.just("insert"), "after": path, "layer": LAYERS}),
        st.fixed_dictionaries({"op": st.just("insert"), "before": path, "layer": LAYERS}),
        st.fixed_dictionaries({"op": st.just("append"), "layer": LAYERS}),
        st.fixed_dictionaries({"op": st.just("reinit"), "path": path}),
        *([st.fixed_dictionaries({"op": st.just("lora"), "path": path, "rank": st.sampled_from([1, 3, 0, "x"])})] if ADAPTERS else []),
        st.fixed_dictionaries({"op": st.just("resize_input"), "size": st.sampled_from([1, 4, 8, 16, 0, -3, "big"])}),
        st.fixed_dictionaries({"op": st.just("resize_input"), "channels": st.sampled_from([1, 2, 3, 5, 0, 10**9, None])}),
        st.fixed_dictionaries({"op": st.sampled_from(["freeze", "unfreeze", "train"]), "path": path}),
        st.fixed_dictionaries({"op": st.sampled_from(["remove", "prune", ""]), "path": st.one_of(st.none(), st.integers(), path)}),
    )


def trained(net: Net) -> None:
    """Three steps: the frozen part keeps every bit, also what its layers count; its mode is that of use."""
    own = replace(net, module=copy.deepcopy(net.module))
    assert bits(own.module) == bits(net.module)
    before = bits(own.module)
    live = {n for n, _ in own.module.named_parameters() if n in net.trained}
    loss_of = lambda module: module(**net.inputs).square().mean()
    with torch.no_grad():
        out = own.module.eval()(**net.inputs)
    assert tuple(out.shape) == net.seen.outputs[0]
    try:
        for _ in range(3):
            step_once(own, loss_of)
    except UsageError as error:
        assert ("nothing trains" in str(error) and not live) or "no part in what the network gives" in str(error)
        return
    after = bits(own.module)
    assert {n for n in before if before[n] != after[n]} <= live
    with net.frozen().training(own.module) as module:
        for path, layer in module.named_modules():
            if layer.training and path:
                names = [n for n, _ in module.named_parameters() if inside(n, path)]
                assert all(n in live for n in names), path


@pytest.mark.parametrize("name", list(MODULES))
def test_operations_fail_by_name_or_give_a_network_that_runs(name: str):
    @given(st.lists(steps(name), min_size=1, max_size=5))
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def check(asked: list[dict[str, Any]]) -> None:
        module, start, at_first = opened(name)
        net = start
        for step in asked:
            held = state(net.module)
            try:
                changed = net.apply(step)
            except UsageError as error:
                assert step["op"] in str(error), str(error)
                continue
            finally:
                assert state(net.module)["bits"] == held["bits"] and state(net.module)["modes"] == held["modes"]
            trained(changed)
            assert changed.diff().lines() and changed.rows() and str(changed)
            assert sum(r.parameters for r in changed.rows(1)) == changed.totals()[0]
            net = changed
        if not any(isinstance(s.get("layer"), nn.Module) for s in net.steps):
            again = start.follow(net.recipe())
            assert bits(again.module) == bits(net.module) and again.trained == net.trained
        assert state(module) == at_first, "the network that was given is as it was"

    check()
