"""The patch that a change prints, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from regraft.anatomy import Net, look_at
from regraft.errors import ModelError, UsageError

torch = pytest.importorskip("torch")
nn = torch.nn


class Block(nn.Module):
    def __init__(self, came: int, width: int) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(came, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.act(self.norm(self.conv(x)))


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layer1, self.layer2 = nn.Sequential(Block(4, 4), Block(4, 4)), nn.Sequential(Block(4, 8), Block(8, 8))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        return self.fc(self.pool(self.layer2(self.layer1(self.stem(x)))).flatten(1))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return look_at(Images(), {"x": torch.randn(2, 3, 8, 8)}, ["fc"])


def patch(net: Net) -> str:
    return "\n".join(net.diff().lines())


def test_nothing_is_different(net: Net):
    assert patch(net) == "  1,381 of 1,381 weights are kept, 0 are new"
    assert patch(net.freeze("stem")) == patch(net)


def test_the_head_is_replaced(net: Net):
    assert patch(net.replace("head", "Sequential(Dropout(0.2), Linear(3))")) == (
        "- fc  Linear, 45 parameters\n"
        "+ fc  Sequential, 27 parameters\n"
        "  fc  gives 3 where it gave 5\n"
        "  1,336 of 1,381 weights are kept, 27 are new"
    )


def test_a_block_is_removed(net: Net):
    assert patch(net.remove("layer2.1")) == "- layer2.1  Block, 600 parameters\n  781 of 1,381 weights are kept, 0 are new"
    assert patch(net.remove("last 1 block")) == patch(net.remove("layer2.1"))


def test_a_stage_is_removed(net: Net):
    assert patch(net.remove("layer2")) == (
        "- layer2  Sequential, 912 parameters\n"
        "- fc  Linear, 45 parameters\n"
        "+ layer2  Identity, 0 parameters\n"
        "+ fc  Linear, 25 parameters\n"
        "  layer2  gives 4x8x8 where it gave 8x8x8\n"
        "  pool  gives 4x1x1 where it gave 8x1x1\n"
        "  424 of 1,381 weights are kept, 25 are new"
    )
    assert patch(net.remove("layer2.0, layer2.1")) == patch(net.remove("layer2"))
    assert patch(net.remove(after="layer1.1")) == patch(net.remove("layer2"))


def test_a_layer_comes_into_a_container(net: Net):
    changed = net.insert("Dropout(0.2)", after="layer1.0")
    assert patch(changed) == "+ layer1.0_after  Dropout, 0 parameters\n  1,381 of 1,381 weights are kept, 0 are new"
    assert [n for n, _ in changed.module.layer1.named_children()] == ["0", "0_after", "1"]
    assert patch(changed.insert("Conv2d(4, 1)", before="layer1.0_after")) == (
        "+ layer1.0_after_before  Conv2d, 20 parameters\n"
        "+ layer1.0_after  Dropout, 0 parameters\n"
        "  1,381 of 1,381 weights are kept, 20 are new"
    )


def test_a_layer_comes_in_outside_a_container(net: Net):
    assert patch(net.insert("Conv2d(4, 1)", after="stem")) == (
        "+ stem.1  Conv2d, 20 parameters\n> stem is now stem.0\n  1,381 of 1,381 weights are kept, 20 are new"
    )
    assert patch(net.append("ReLU")) == "+ fc.1  ReLU, 0 parameters\n> fc is now fc.0\n  1,381 of 1,381 weights are kept, 0 are new"


def test_other_channels(net: Net):
    assert patch(net.resize_input(channels=1)) == "~ stem.weight  made from the old weights\n  1,273 of 1,381 weights are kept, 0 are new"
    grey = net.resize_input(channels=1)
    assert torch.allclose(grey.module.stem.weight, net.module.stem.weight.sum(1, keepdim=True)) and grey.inputs["x"].shape == (2, 1, 8, 8)
    six = net.resize_input(channels=6)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(six.module.stem(torch.cat([x, x], 1)), net.module.stem(x), atol=1e-6), "the same image twice gives the same"


def test_another_size(net: Net):
    bigger = net.resize_input(size=16)
    assert patch(bigger) == (
        "  stem  gives 4x16x16 where it gave 4x8x8\n"
        "  layer1  gives 4x16x16 where it gave 4x8x8\n"
        "  layer2  gives 8x16x16 where it gave 8x8x8\n"
        "  1,381 of 1,381 weights are kept, 0 are new"
    )


def test_weights_that_are_drawn_anew(net: Net):
    assert patch(net.reinit("layer2.1")) == (
        "- layer2.1  Block, 600 parameters\n+ layer2.1  Block, 600 parameters\n  781 of 1,381 weights are kept, 600 are new"
    )


def test_new_weights_that_are_adapted_stay_new(net: Net):
    changed = net.replace("stem", "Conv2d(4)").resize_input(channels=1)
    assert "stem.weight" not in changed.kept and changed.adapted == frozenset()
    assert patch(changed) == (
        "- stem  Conv2d, 112 parameters\n+ stem  Conv2d, 40 parameters\n  1,269 of 1,381 weights are kept, 40 are new"
    )


def test_plain_data(net: Net):
    told = net.remove("layer2").diff().to_json()
    assert told["went"][0] == {"path": "layer2", "kind": "Sequential", "parameters": 912} and told["kept"] == 424 and told["new"] == 25


# ---------------------------------------------------------------- messages, and their advice


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"op": "remove", "path": "layer3"}, r"remove\(path=layer3\): 'layer3' chooses no layer. did you mean 'layer[12]'"),
        ({"op": "remove", "path": "all"}, "remove.*the whole network cannot be removed"),
        ({"op": "remove", "path": "stem, blocks, head"}, "remove.*the whole network cannot be removed"),
        ({"op": "remove", "path": "stem.weight"}, "remove.*'stem.weight' is a parameter"),
        ({"op": "reinit", "path": "stem.weight"}, "reinit.*'stem.weight' is a parameter"),
        ({"op": "reinit", "path": "pool"}, "reinit.*'pool' has no weights"),
        ({"op": "remove"}, "remove.*takes a path, or after"),
        ({"op": "remove", "path": "stem", "after": "stem"}, "remove.*takes a path, or after"),
        ({"op": "remove", "after": "layer2.1"}, "remove.*nothing lies between"),
        ({"op": "replace", "path": "blocks", "layer": "ReLU"}, "replace.*'blocks' means 4 layers"),
        ({"op": "replace", "path": "layer1.0", "layer": "Conv2d(7)"}, "replace.*afterwards .*cannot take"),
        ({"op": "replace", "path": "stem", "layer": "Conv2d(9)"}, "replace.*layer1.0.conv .Conv2d. cannot take 2x9x8x8"),
        ({"op": "replace", "path": "stem", "layer": "BatchNorm1d"}, "replace.*BatchNorm1d"),
        ({"op": "replace", "path": "pool", "layer": "Flatten(0)"}, "replace.*mixes the examples"),
        ({"op": "insert", "layer": "Flatten", "after": "pool", "before": "fc"}, "insert.*takes after=PATH or before=PATH"),
        ({"op": "insert", "layer": "Flatten"}, "insert.*takes after=PATH or before=PATH"),
        ({"op": "insert", "layer": "Linear(3, 4)", "after": "fc"}, "insert.*True or False"),
        ({"op": "insert", "layer": "AvgPool2d(9)", "after": "stem"}, "insert.*AvgPool2d"),
        ({"op": "resize_input", "size": 0}, "resize_input.*0 is not a number of pixels"),
        ({"op": "resize_input", "size": "big"}, "resize_input.*'big'"),
        ({"op": "resize_input", "channels": True}, "resize_input.*True"),
        ({"op": "resize_input", "channels": 3, "size": 8}, "resize_input takes"),
        ({"op": "resize"}, "there is no operation 'resize'. did you mean 'resize_input'"),
        ({"op": "remove", "paths": "x"}, "remove does not take paths"),
        ({"op": "replace", "path": "fc"}, "replace needs layer"),
        ({"op": "replace", "path": "fc", "layer": 3}, "replace: layer is 3"),
        ({"op": "remove", "path": 3}, "remove: path is 3"),
        ({"op": "remove", "path": None}, "remove: path is None"),
        ({"op": "freeze", "layer": "x"}, "freeze takes a path"),
        ({"op": ["remove"]}, "is not a step"),
        ("remove layer1", "is not a step"),
        (None, "is not a step"),
    ],
)
def test_a_wrong_step_is_named(net: Net, step: Any, told: str):
    with pytest.raises(UsageError, match=f"(?s){told}"):
        net.apply(step)


def test_what_a_message_says_about_shapes_works(net: Net):
    with pytest.raises(UsageError) as caught:
        net.replace("stem", "Conv2d(9)")
    assert caught.value.expected == "a layer that gives (n, 4, 8, 8) there"
    assert net.replace("stem", "Conv2d(4, 5)").seen.outputs == ((2, 5),)
    with pytest.raises(UsageError) as caught:
        net.insert("Conv2d(9)", before="layer2.0")
    assert caught.value.expected == "a layer that gives (n, 4, 8, 8) there"
    assert net.insert("Conv2d(4)", before="layer2.0").seen.outputs == ((2, 5),)


def test_what_a_message_advises_to_remove_can_be_removed(net: Net):
    with pytest.raises(UsageError) as caught:
        net.remove("layer2.0.conv")
    assert caught.value.move == '--remove "layer2.0.conv, layer2.0.norm"'
    step = caught.value.move.removeprefix("--remove ").strip('"')
    with pytest.raises(UsageError) as caught:
        net.remove(step)
    assert net.remove(caught.value.move.removeprefix("--remove ").strip('"') + ", layer2.1.norm")


def test_a_map_where_a_row_was_is_no_reason_for_another_head(net: Net):
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool, self.fc = nn.Conv2d(3, 4, 3), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(4, 5)

        def forward(self, x: Any) -> Any:
            return self.fc(self.pool(self.conv(x)))

    flat = look_at(Flat(), {"x": torch.randn(2, 3, 8, 8)}, ["fc"])
    with pytest.raises(UsageError, match="fc .Linear. cannot take"):
        flat.remove("pool")


def test_a_new_layer_that_no_data_passes_goes_to_where_it_does():
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.fc = nn.ModuleList(nn.Linear(4, 4) for _ in range(3)), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            for i in range(3):
                x = self.layers[i](x)
            return self.fc(x)

    net = look_at(Counted(), {"x": torch.randn(2, 4)}, ["fc"])
    changed = net.insert("Linear(4)", after="layers.1")
    assert isinstance(changed.module.layers[1], nn.Sequential) and "layers.1.1" in changed.seen.calls
    assert isinstance(net.remove("layers.1").module.layers[1], nn.Identity)


def test_texts_and_heads_that_are_not_there():
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.fc = nn.Embedding(9, 4), nn.Linear(4, 2)

        def forward(self, ids: Any) -> Any:
            return self.fc(self.words(ids).mean(1))

    net = look_at(Words(), {"ids": torch.randint(0, 9, (2, 5))})
    with pytest.raises(UsageError, match="takes no images"):
        net.resize_input(channels=1)
    with pytest.raises(UsageError, match="no head to append to") as caught:
        net.append("ReLU")
    assert "after=PATH" in caught.value.expected and net.insert("ReLU", after="fc")
    with pytest.raises(UsageError):
        net.replace("words", "Linear(4)")
    with pytest.raises(ModelError, match="no layer"):
        look_at(Words(), net.inputs, ["haed"])
    two = look_at(Words(), net.inputs, ["fc", "words"])
    with pytest.raises(UsageError, match="2 heads"):
        two.append("ReLU")


def test_a_module_that_is_given_stays_the_givers(net: Net):
    mine = nn.Linear(8, 3)
    before = mine.weight.clone()
    one, two = net.replace("head", mine), net.replace("head", mine)
    assert one.module.fc is not mine and one.module.fc is not two.module.fc
    with torch.no_grad():
        one.module.fc.weight.zero_()
    assert torch.equal(mine.weight, before) and torch.equal(two.module.fc.weight, before)
    with pytest.raises(UsageError, match="cannot be written down"):
        one.recipe()


def test_a_step_that_is_changed_later_changes_no_recipe(net: Net):
    step = {"op": "remove", "path": "layer1.1"}
    changed = net.apply(step)
    step["path"] = "stem"
    assert changed.recipe() == [{"op": "remove", "path": "layer1.1"}]
    changed.recipe()[0]["path"] = "fc"
    assert changed.recipe() == [{"op": "remove", "path": "layer1.1"}]


def test_a_network_in_another_precision_keeps_it():
    torch.manual_seed(0)
    net = look_at(Images().double(), {"x": torch.randn(2, 3, 8, 8, dtype=torch.float64)}, ["fc"])
    changed = net.replace("head", "Linear(3)").resize_input(size=16).insert("Conv2d(4)", after="stem").resize_input(channels=1)
    assert {p.dtype for p in changed.module.parameters()} == {torch.float64}
    assert changed.module(**changed.inputs).dtype == torch.float64
