"""Adapters of a low rank: where they go, what trains, what the patch says, what is refused."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch import nn

from regraft.anatomy import Net, look_at
from regraft.anatomy.adapters import adapter_parameters, adapters, plain_names
from regraft.anatomy.net import step_once
from regraft.anatomy.operations import lora
from regraft.errors import MissingExtra, UsageError
from regraft.jobs.network import read_recipe, written_steps
from regraft.pretrained.operators import declare_missing_operators

declare_missing_operators()
pytest.importorskip("peft")


class Block(nn.Module):
    def __init__(self, groups: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=dilation, groups=groups, dilation=dilation)
        self.norm, self.point = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1, bias=False)

    def forward(self, x):
        return x + self.point(self.norm(self.conv(x)).relu())


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.blocks = nn.Sequential(Block(), Block(groups=4), Block(dilation=2))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Words(nn.Module):
    """An embedding, one that is tied to what comes out, attention that reads its weights, a layer that stands twice."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.words = nn.Embedding(6, 8), nn.Embedding(9, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.twice = nn.ModuleList([nn.Linear(8, 8)] * 2)
        self.after, self.back, self.head = nn.Linear(8, 8), nn.Linear(8, 9, bias=False), nn.Linear(9, 3)
        self.back.weight = self.words.weight

    def forward(self, ids):
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        x = self.layer(self.attention(x, x, x, need_weights=False)[0])
        for layer in self.twice:
            x = layer(x)
        return self.head(self.back(self.after(x).relu()).mean(1))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return look_at(Small(), {"x": torch.randn(2, 3, 16, 16)}, ["head"])


@pytest.fixture
def words() -> Net:
    torch.manual_seed(0)
    return look_at(Words(), {"ids": torch.tensor([[1, 2, 3], [4, 5, 6]])}, ["head"])


def out(module, net: Net):
    with torch.no_grad():
        return module.eval()(**net.inputs)


def trained(net: Net) -> Net:
    """The same after steps that move its adapters far."""
    torch.manual_seed(1)
    for _ in range(3):
        step_once(net, lambda module: module(**net.inputs).square().mean(), rate=0.05)
    return net


def test_adapters_stand_at_layers_that_can_have_one(net, words):
    assert list(adapters(net.lora("all").module)) == ["stem", "blocks.0.conv", "blocks.0.point", "blocks.1.point", "blocks.2.point"]
    assert list(adapters(net.lora("blocks.*.conv, stem").module)) == ["stem", "blocks.0.conv"]
    # not: what is tied, what stands twice, what attention reads by itself, the head
    assert list(adapters(words.lora("all").module)) == ["positions", "after"]


def test_what_was_frozen_or_trained_stays_so_and_what_is_adapted_is_frozen(net):
    changed = net.freeze("stem").lora("blocks.0")
    live = set(changed.trained.parameters(changed.module))
    assert {n for n in live if inside(n, "blocks.0")} == {
        *("blocks.0.norm.weight", "blocks.0.norm.bias"),
        *(f"blocks.0.{layer}.lora_{m}.default.weight" for layer in ("conv", "point") for m in "AB"),
    }
    assert "stem.weight" not in live and "blocks.1.conv.weight" in live and "head.weight" in live
    later = changed.insert("Dropout(0.1)", after="blocks.1")
    assert set(later.trained.parameters(later.module)) == live


def inside(name: str, path: str) -> bool:
    return name.startswith(path + ".")


@pytest.mark.parametrize("which", ["net", "words"])
def test_merged_weights_give_what_adapters_gave(which, request):
    start: Net = request.getfixturevalue(which)
    changed = start.lora("all", rank=3, alpha=7)
    assert torch.equal(out(changed.module, start), out(start.module, start))
    assert not [n for n, _ in changed.module.named_modules() if n.endswith("lora_A.default") and _.training]
    trained(changed)
    plain = changed.merged()
    assert torch.allclose(out(plain, start), out(changed.module, start), atol=1e-5)
    assert not torch.allclose(out(plain, start), out(start.module, start), atol=1e-3)
    assert list(plain.state_dict()) == list(start.module.state_dict()) and not adapters(plain)
    assert set(plain_names(changed.module).values()) == set(start.module.state_dict())


def test_rank_and_alpha(net):
    small, wide = net.lora("blocks.0.point", rank=2), net.lora("blocks.0.point", rank=4, alpha=1)
    counts = [sum(dict(n.module.named_parameters())[name].numel() for name in adapter_parameters(n.module)) for n in (small, wide)]
    assert counts == [2 * 16, 4 * 16]
    scales = [adapters(n.module)["blocks.0.point"].scaling["default"] for n in (small, wide)]
    assert scales == [2.0, 0.25]


def test_two_steps_and_the_patch(net):
    changed = net.lora("blocks.0", rank=2).lora("stem", rank=1)
    first, second = changed.diff().lines()[:2]
    assert first == "+ lora of rank 1 at 1 layer, 35 parameters: stem"
    assert second.startswith("+ lora of rank 2 at 2 layers, 192 parameters: blocks.0.conv, blocks.0.point")
    assert changed.diff().lines()[2:] == [f"  {net.totals()[0]:,} of {net.totals()[0]:,} weights are kept, 227 are new"]
    assert changed.kept["blocks.0.conv.base_layer.weight"] == "blocks.0.conv.weight"
    told = changed.diff().to_json()
    assert told["adapters"][0] == {"path": "stem", "rank": 1, "parameters": 35} and not told["moved"] and not told["came"]


def test_the_same_recipe_gives_the_same_bits_and_another_seed_others(net, tmp_path):
    changed = net.lora("blocks", rank=2, alpha=3.5).remove("blocks.1")
    file = tmp_path / "r.json"
    file.write_text(json.dumps(changed.recipe()))
    again = net.follow(read_recipe(file))
    assert all(torch.equal(a, b) for a, b in zip(changed.module.state_dict().values(), again.module.state_dict().values(), strict=True))
    file = tmp_path / "r.yaml"
    file.write_text("- lora: {path: blocks, rank: 2, alpha: 3.5}\n- remove: blocks.1\n")
    assert read_recipe(file) == changed.recipe()
    other = look_at(net.module, net.inputs, ["head"], seed=5).lora("blocks", rank=2)
    name = "blocks.0.point.lora_A.default.weight"
    assert not torch.equal(other.module.state_dict()[name], changed.module.state_dict()[name])


def test_other_operations_afterwards(net):
    changed = net.lora("blocks")
    assert "blocks.0.point" not in adapters(changed.replace("blocks.0.point", "Conv2d(8, 1)").module)
    assert not adapters(changed.remove("blocks.0, blocks.1.point, blocks.2.point").module)
    assert list(adapters(changed.insert("ReLU", after="blocks.0.point").module))[1] == "blocks.0.point.0"
    with pytest.raises(UsageError, match=r"reinit\(path=blocks.0\): blocks.0.conv has an adapter"):
        changed.reinit("blocks.0")
    with pytest.raises(UsageError, match="afterwards .* cannot take"):
        net.lora("stem").resize_input(channels=1)
    with pytest.raises(UsageError, match="lora_A"):
        changed.replace("blocks.0.point.lora_A", "Identity")
    assert net.reinit("blocks.0").lora("blocks.0").seen.outputs == net.seen.outputs


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("blocks.0.norm", ["'blocks.0.norm' holds no layer", "Linear, Conv1d, Conv2d, Embedding", "try: blocks.0.conv (Conv2d)"]),
        ("blocks.1.conv", ["neither grouped nor dilated", "try: blocks.1.point (Conv2d)"]),
        ("head", ["'head' is the head, which trains whole"]),
        ("block.0", ["'block.0' chooses no layer. did you mean 'blocks.0'?"]),
    ],
)
def test_a_selection_without_such_layers_is_refused(net, path, words):
    with pytest.raises(UsageError) as caught:
        net.lora(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_second_adapter_at_the_same_layer_is_refused(net):
    with pytest.raises(UsageError, match="has adapters already"):
        net.lora("blocks.0").lora("blocks.0")


@pytest.mark.parametrize("rank", [0, -1, 1.5, True, "8", 10**9, None])
def test_ranks_that_cannot_be_meant(net, rank):
    with pytest.raises(UsageError, match="rank is"):
        net.lora("blocks", rank=rank)


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), True, "8"])
def test_alphas_that_cannot_be_meant(net, alpha):
    with pytest.raises(UsageError, match="alpha is"):
        net.lora("blocks", alpha=alpha)


def test_without_peft_the_install_line_is_told(net, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra) as caught:
        net.lora("blocks")
    assert caught.value.move == "pip install 'regraft[lora]'"


def test_options_make_a_step():
    assert written_steps(None, ["a"], [], [], lora="blocks", rank=4)[1:] == [{"op": "lora", "path": "blocks", "rank": 4}]
    assert written_steps(None, [], [], [], lora="blocks") == [{"op": "lora", "path": "blocks"}]
    with pytest.raises(UsageError, match="--rank 4"):
        written_steps(None, [], [], [], rank=4)


def test_kinds_are_what_the_message_says():
    assert [k.__name__ for k in lora.KINDS] == ["Linear", "Conv1d", "Conv2d", "Embedding"]
