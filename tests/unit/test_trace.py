"""What a traced batch tells: order, shapes, multiply-adds; and that looking changes nothing."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest

from regraft.anatomy import Net, look_at
from regraft.anatomy.trace import Broken, trace
from regraft.errors import ModelError, UsageError

torch = pytest.importorskip("torch")
nn = torch.nn
F = nn.functional


def batch(*shape: int) -> dict[str, Any]:
    return {"x": torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))}


class Made(nn.Module):
    """A network from layers and a function of them."""

    def __init__(self, run: Any, **layers: Any) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        return self.run(self, x)


def open_net(run: Any, *shape: int, head: tuple[str, ...] = (), **layers: Any) -> Net:
    torch.manual_seed(0)
    return look_at(Made(run, **layers), batch(*shape), head)


def test_multiply_adds_of_a_convolution_and_a_linear_layer():
    run = lambda m, x: m.fc(m.conv(x).flatten(1))
    net = open_net(run, 3, 10, 10, conv=nn.Conv2d(3, 8, 3, stride=2, padding=1), fc=nn.Linear(8 * 25, 7))
    macs = {r.path: r.macs for r in net.rows()}
    assert macs == {"conv": 8 * 25 * 3 * 9, "fc": 200 * 7}
    assert net.seen.macs == 8 * 25 * 27 + 1400


def test_multiply_adds_of_groups_and_one_dimension():
    net = open_net(lambda m, x: m.conv(x), 4, 10, conv=nn.Conv1d(4, 8, 3, groups=2))
    assert net.seen.macs == 8 * 8 * (4 // 2) * 3


@pytest.mark.parametrize("fused", [True, False])
def test_multiply_adds_of_attention(fused: bool):
    tokens, width, heads = 6, 8, 2

    def run(m: Any, x: Any) -> Any:
        q, k, v = (t.view(2, tokens, heads, width // heads).transpose(1, 2) for t in m.qkv(x).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v) if fused else (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return m.out(mixed.transpose(1, 2).reshape(2, tokens, width))

    net = open_net(run, tokens, width, qkv=nn.Linear(width, 3 * width), out=nn.Linear(width, width))
    assert net.seen.macs == tokens * width * 3 * width + 2 * tokens * tokens * width + tokens * width * width


def test_a_layer_that_is_called_twice_counts_twice():
    net = open_net(lambda m, x: m.fc(m.fc(x)), 4, fc=nn.Linear(4, 4))
    (row,) = net.rows()
    assert (row.calls, row.macs, row.parameters) == (2, 32, 20) and net.seen.macs == 32


def test_layers_that_never_run_are_told_apart():
    net = open_net(lambda m, x: m.fc(x), 4, fc=nn.Linear(4, 4), idle=nn.Linear(4, 9), head=("fc",))
    row = {r.path: r for r in net.rows()}["idle"]
    assert (row.calls, row.output, row.macs, row.parameters) == (0, None, 0, 45) and net.rows()[-1] is not None
    assert [r.path for r in net.rows()] == ["fc", "idle"]
    for ask in (lambda: net.replace("idle", "Linear(3)"), lambda: net.insert("ReLU", after="idle")):
        with pytest.raises(UsageError, match="no data passes 'idle'"):
            ask()
    assert "idle" in net.parts.blocks[0] or "idle" in net.parts.neck
    assert "idle" not in dict(net.remove("idle").module.named_children()) or not list(net.remove("idle").module.idle.parameters())


def test_a_layer_at_two_paths_is_seen_at_both():
    shared = nn.Linear(4, 4)
    run = lambda m, x: m.two.inner(F.relu(m.one.inner(x)))
    net = open_net(run, 4, one=nn.ModuleDict({"inner": shared}), two=nn.ModuleDict({"inner": shared}))
    rows = {r.path: r for r in net.rows()}
    assert rows["one.inner"].calls == 1 and rows["two.inner"].calls == 1
    assert rows["one.inner"].order < rows["two.inner"].order
    assert rows["one.inner"].parameters == 20 and rows["two.inner"].parameters == 0, "counted once"
    assert rows["one"].parameters + rows["two"].parameters == net.totals()[0] == 20
    assert rows["one"].macs + rows["two"].macs == net.seen.macs


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.fc(x) if x.sum() > 1e9 else m.fc(x * 2),
        lambda m, x: m.fc(x[x.abs().sum(1) >= 0]),
        lambda m, x: m.fc(x) * x.max().item(),
        lambda m, x: m.fc(x + torch.from_numpy(x.detach().numpy())),
        lambda m, x: m.fc(x) if x.tolist() else x,
        lambda m, x: m.fc(x.index_select(0, x.sum(1).isfinite().nonzero()[:, 0])),
        lambda m, x: m.fc(x + torch.ones(2, 4)),
    ],
    ids=["if", "mask", "item", "numpy", "list", "nonzero", "own tensor"],
)
def test_a_network_that_looks_at_values_runs_in_earnest(run: Any):
    net = open_net(run, 4, fc=nn.Linear(4, 3), head=("fc",))
    assert net.seen.outputs == ((2, 3),) and net.seen.macs == 12
    assert net.replace("head", "Linear(5)").seen.outputs == ((2, 5),)


@dataclass
class Answer:
    logits: Any
    more: Any = None


@pytest.mark.parametrize(
    ("wrap", "shapes"),
    [
        (lambda y: {"logits": y}, ((2, 3),)),
        (lambda y: (y, [y, {"a": y}]), ((2, 3),) * 3),
        (lambda y: Answer(y, (y, None, "text")), ((2, 3),) * 2),
        (lambda y: [y], ((2, 3),)),
    ],
)
def test_outputs_may_be_nested(wrap: Any, shapes: Any):
    net = open_net(lambda m, x: wrap(m.fc(x)), 4, fc=nn.Linear(4, 3), head=("fc",))
    assert net.seen.outputs == shapes
    assert net.replace("head", "Linear(5)").seen.outputs == tuple((2, 5) for _ in shapes)


def test_inputs_given_by_name_and_layers_called_by_name():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Made(lambda m, x: m.fc(x), fc=nn.Linear(4, 3))

        def forward(self, *, left: Any, right: Any = None) -> Any:
            return self.inner(x=left + right)

    net = look_at(Named(), {"left": torch.randn(2, 4), "right": torch.randn(2, 4)})
    assert net.seen.calls["inner"][0].inputs == ((2, 4),)


def test_inputs_that_the_network_does_not_take():
    for inputs in ({"y": torch.randn(2, 4)}, {"x": torch.randn(2, 5)}):
        with pytest.raises(ModelError, match="cannot take|unexpected"):
            look_at(Made(lambda m, x: m.fc(x), fc=nn.Linear(4, 3)), inputs)
    with pytest.raises(UsageError, match="one batch"):
        look_at(nn.Linear(4, 3), {})
    with pytest.raises(UsageError, match="one batch"):
        look_at(nn.Linear(4, 3), {"input": torch.tensor(1.0)})
    with pytest.raises(ModelError, match="no layer 'haed'"):
        look_at(nn.Linear(4, 3), {"input": torch.randn(2, 4)}, ["haed"])


def test_what_breaks_is_named_with_what_it_got():
    with pytest.raises(Broken) as caught:
        trace(Made(lambda m, x: m.outer(x), outer=nn.Sequential(nn.ReLU(), nn.Linear(5, 3))), batch(4))
    assert caught.value.path == "outer.1" and caught.value.came == ((2, 4),)
    assert "outer.1 (Linear) cannot take 2x4" in str(caught.value)


def test_an_error_that_the_network_catches_is_none():
    def run(m: Any, x: Any) -> Any:
        try:
            return m.outer(x)
        except RuntimeError:
            return m.fc(x)

    net = open_net(run, 4, outer=nn.Sequential(nn.Linear(5, 3)), fc=nn.Linear(4, 3), head=("fc",))
    assert net.seen.outputs == ((2, 3),) and "outer.0" not in net.seen.calls and net.seen.calls["fc"][0].outputs == ((2, 3),)


class Moody(nn.Module):
    """Changes a buffer, a number, a list and a cache whenever it runs, and has a plain tensor."""

    def __init__(self, values: bool) -> None:
        super().__init__()
        self.fc, self.values = nn.Linear(4, 3), values
        self.register_buffer("seen", torch.zeros(()))
        self.count, self.kept, self.cache, self.scale = 0, [], None, torch.full((4,), 2.0)

    def forward(self, x: Any) -> Any:
        if self.values:
            assert x.sum().item() < 1e9
            x = x * self.scale
        self.seen += 1
        self.count += 1
        self.kept.append(x.shape)
        if self.cache is None:
            self.cache = x.new_ones(3)
        return self.fc(x) + self.cache


@pytest.mark.parametrize("values", [True, False])
def test_a_network_that_changes_itself_in_use_is_left_as_it_was(values: bool):
    module = Moody(values)
    net = look_at(module, batch(4), ["fc"])
    for mine in (module, net.module, net.insert("ReLU", before="fc").module):
        assert (mine.seen.item(), mine.count, mine.kept, mine.cache) == (0, 0, [], None)
        assert mine.scale.device.type == "cpu"
    assert net.module(**net.inputs).shape == (2, 3), "no cache was left on the meta device"


def test_a_network_that_cannot_be_copied_says_so():
    module = nn.Linear(4, 3)
    module.lock = threading.Lock()
    with pytest.raises(ModelError, match="cannot be copied"):
        look_at(module, {"input": torch.randn(2, 4)})
    computed = nn.Linear(4, 3)
    computed.extra = computed.weight * 2
    with pytest.raises(ModelError, match="cannot be copied"):
        look_at(computed, {"input": torch.randn(2, 4)})


def test_the_numbers_that_come_next_are_the_same_and_so_is_the_mode():
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)).train()
    module[1].eval()
    module[0].weight.requires_grad_(False)
    before = torch.get_rng_state()
    net = look_at(module, {"input": torch.randn(2, 4, generator=torch.Generator().manual_seed(0))}, ["0"])
    net.replace("0", "Linear(4)").reinit("2")
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in module.modules()] == [True, True, False, True]
    assert not module[0].weight.requires_grad and module[0].bias.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_a_single_layer_and_an_lstm():
    net = look_at(nn.Linear(4, 3), {"input": torch.randn(2, 4)})
    assert net.totals() == (15, 15) and [r.path for r in net.rows()] == ["weight", "bias"]
    lstm = open_net(lambda m, x: m.fc(m.rnn(x)[0][:, -1]), 5, 4, rnn=nn.LSTM(4, 6, batch_first=True), fc=nn.Linear(6, 2), head=("fc",))
    assert lstm.seen.outputs == ((2, 2),)
    with torch.no_grad():
        assert lstm.module.eval()(**lstm.inputs).shape == (2, 2)
