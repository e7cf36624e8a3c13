"""Frozen: parameters, statistics and counters keep every bit, dropout is off; what trains is in training mode."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from regraft.anatomy import Net, look_at
from regraft.anatomy.freezing import layer_groups
from regraft.anatomy.net import step_once
from regraft.errors import UsageError

torch = pytest.importorskip("torch")
nn = torch.nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        return self.drop(torch.relu(self.norm(self.conv(x)))) + x


class Images(nn.Module):
    """Convolutional; the dropout before the head is the network's own."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(4, 1, 1))
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(4, 5)

    def forward(self, x: Any) -> Any:
        x = self.blocks(self.stem(x) + self.token).mean((2, 3))
        return self.fc(nn.functional.dropout(self.drop(x), 0.5, self.training))


class Tied(nn.Module):
    """A table of words that is also the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 4)
        self.layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)) for _ in range(2))
        self.out = nn.Linear(4, 11, bias=False)
        self.out.weight = self.words.weight

    def forward(self, ids: Any) -> Any:
        x = self.words(ids)
        for layer in self.layers:
            x = x + layer(x)
        return self.out(x.mean(1))


def images() -> Net:
    torch.manual_seed(0)
    return look_at(Images(), {"x": torch.randn(4, 3, 6, 6)}, ["fc"])


def tied() -> Net:
    torch.manual_seed(0)
    return look_at(Tied(), {"ids": torch.randint(0, 11, (2, 5))}, ["out"])


def bits(module: Any) -> dict[str, bytes]:
    return {n: t.detach().clone().numpy().tobytes() for n, t in module.state_dict().items()}


def changed(net: Net, steps: int = 2, adapt: bool = False) -> set[str]:
    """What moved in a few steps."""
    net = replace(net, module=copy.deepcopy(net.module))
    before = bits(net.module)
    for _ in range(steps):
        step_once(net, lambda m: m(**net.inputs).square().mean(), adapt=adapt)
    after = bits(net.module)
    return {n for n in before if before[n] != after[n]}


def live(net: Net, adapt: bool = False) -> set[str]:
    with net.frozen(adapt).training(net.module) as module:
        return {p for p, m in module.named_modules() if m.training}


def test_batch_norms_keep_their_statistics_or_follow_the_batches_by_the_switch():
    net = images().train_only("last 1 block, head")
    weights = {f"blocks.2.{n}" for n in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")} | {"fc.weight", "fc.bias"}
    counters = {f"blocks.2.norm.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}
    assert weights - {"blocks.2.conv.bias"} <= changed(net) <= weights
    assert changed(net, adapt=True) - {"blocks.2.conv.bias"} == (weights | counters) - {"blocks.2.conv.bias"}
    assert "blocks.2.norm" not in live(net) and "blocks.2.norm" in live(net, adapt=True)


def test_only_norms_that_train_adapt():
    assert {n for n in changed(images().train_only("blocks.1.norm"), adapt=True) if "running" in n or "tracked" in n} == {
        f"blocks.1.norm.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_dropout_inside_what_is_frozen_is_off_and_inside_what_trains_on():
    assert live(images().train_only("last 1 block, head")) == {"blocks.2", "blocks.2.conv", "blocks.2.drop", "fc"}
    assert live(images().train_only("head")) == {"fc"}
    assert live(images().train_only("blocks.1.drop, head")) == {"blocks.1.drop", "fc"}


def test_when_everything_trains_everything_is_in_training_mode():
    net = images()
    assert live(net, adapt=True) == {p for p, _ in net.module.named_modules()}, "also the network itself, and a dropout that no part holds"
    assert live(net.freeze("token"), adapt=True) == {p for p, _ in net.module.named_modules() if p and p != "drop"}
    every = ", ".join(["token", "stem", *(f"blocks.{i}" for i in range(3)), "fc"])
    assert live(net.train_only(every), adapt=True) == live(net, adapt=True), "selected one by one is selected"


def test_a_parameter_of_the_root():
    net = images()
    assert "token" in net.parts.stem
    assert changed(net.train_only("token")) == {"token"}
    assert "token" not in changed(net.freeze("token"))
    assert {r.path: r.kind for r in net.rows(1)}["token"] == "Parameter"
    assert net.train_only("token").totals()[1] == 4


def test_a_frozen_network_gives_the_same_in_training_and_in_use():
    net = images().train_only("head")
    expected = net.module.eval()(**net.inputs)
    with net.frozen(adapt=True).training(net.module) as module:
        assert torch.equal(module(**net.inputs), expected)
    assert not any(m.training for m in net.module.modules())


def test_nothing_that_trains_is_an_error_that_speaks_and_its_advice_works():
    net = images().freeze("all")
    with pytest.raises(UsageError, match="nothing trains") as caught:
        changed(net)
    assert changed(net.unfreeze(caught.value.move.removeprefix("--train ")))


def test_a_tied_weight_trains_under_any_name_and_freezes_under_all():
    net = tied()
    assert net.totals()[0] == 44 + 2 * (8 + 20)
    assert changed(net.train_only("head")) == {"words.weight", "out.weight"}
    rows = {r.path: r for r in net.train_only("head").rows()}
    assert rows["words"].trained == 44 and rows["out"].parameters == 0, "counted where it stands first"
    for name in ("words", "head"):
        held = net.freeze(name)
        assert not {"words.weight", "out.weight"} & changed(held)
        assert held.totals()[1] == 56
    assert changed(net.freeze("words").unfreeze("out")) >= {"words.weight"}


def test_groups_hold_a_tied_weight_once_at_the_least_depth():
    net = tied()
    groups = dict(layer_groups(net.module, net.parts, net.trained))
    assert groups[0] == ["words.weight"] and sorted(groups) == [0, 1, 2]
    assert layer_groups(net.module, net.parts, net.train_only("words").trained) == [(0, ["words.weight"])]
    assert layer_groups(net.module, net.parts, net.freeze("all").trained) == []


def test_groups_keep_their_depth_when_what_lies_between_is_frozen():
    net = images()
    assert [d for d, _ in layer_groups(net.module, net.parts, net.trained)] == [0, 1, 2, 3, 4]
    part = layer_groups(net.module, net.parts, net.train_only("stem, blocks.1, head").trained)
    assert [d for d, _ in part] == [0, 2, 4] and part[2][1] == ["token", "stem.weight", "stem.bias"]


class Shared(nn.Module):
    """One layer at two places, and one dropout for all."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)
        self.one = nn.ModuleDict({"inner": self.first, "drop": self.drop, "own": nn.Linear(4, 4)})
        self.two = nn.ModuleDict({"inner": self.first, "drop": self.drop, "own": nn.Linear(4, 4)})

    def forward(self, x: Any) -> Any:
        for part in (self.one, self.two):
            x = part["own"](part["drop"](part["inner"](x)))
        return x


def test_a_shared_layer_is_frozen_and_trained_at_all_its_paths():
    torch.manual_seed(0)
    net = look_at(Shared(), {"x": torch.randn(2, 4)}, ["two.own"])
    own = {f"{p}.own.{k}" for p in ("one", "two") for k in ("weight", "bias")}
    for path in ("first", "one.inner", "two.inner"):
        assert changed(net.freeze(path)) == own
        assert {n.split(".")[-1] for n in changed(net.train_only(path))} == {"weight", "bias"}
        assert len(changed(net.train_only(path))) == 6
    assert "drop" not in live(net.train_only("one, first")), "the frozen part runs the same dropout"
    assert "drop" in live(net)


def test_removing_one_name_of_a_shared_layer_leaves_the_other():
    torch.manual_seed(0)
    net = look_at(Shared(), {"x": torch.randn(2, 4)}, ["two.own"])
    less = net.remove("one.inner")
    assert isinstance(less.module.one["inner"], nn.Identity) and less.module.two["inner"] is less.module.first
    assert less.kept["two.inner.weight"] == "two.inner.weight"
    lines = less.diff().lines()
    assert lines[-1] == "  60 of 60 weights are kept, 0 are new" and not [x for x in lines if x.startswith(">")]
    other = net.replace("two.inner", "Linear(4)")
    assert other.module.one["inner"] is other.module.first is not other.module.two["inner"]
    assert torch.equal(other.module.first.weight, net.module.first.weight)


def test_drawing_a_tied_layer_anew_leaves_the_other_name_as_it_was():
    net = tied()
    fresh = net.reinit("head")
    assert torch.equal(fresh.module.words.weight, net.module.words.weight)
    assert not torch.equal(fresh.module.out.weight, net.module.out.weight)
    assert "out.weight" not in fresh.kept and fresh.kept["words.weight"] == "words.weight"


def test_a_norm_that_is_drawn_anew_is_new_with_its_statistics():
    net = images()
    net.module.blocks[1].norm.running_mean.fill_(3.0)
    fresh = net.reinit("blocks.1")
    assert fresh.module.blocks[1].norm.running_mean.abs().sum() == 0 and net.module.blocks[1].norm.running_mean[0] == 3
    assert not [n for n in fresh.kept if n.startswith("blocks.1.")]


def test_what_trained_goes_on_after_surgery_and_what_was_frozen_stays_so():
    net = images().train_only("last 1 block, head").insert("Conv2d(4)", after="blocks.0").append("Linear(3)")
    names = set(net.trained.parameters(net.module))
    assert {n.split(".")[0] + "." + n.split(".")[1] for n in names} == {"blocks.0_after", "blocks.2", "fc.0", "fc.1"}
    assert changed(net) <= names
