"""Words that choose layers, and what is said when they choose none."""

from __future__ import annotations

from typing import Any

import pytest

from regraft.anatomy import Net, look_at
from regraft.anatomy.select import LONGEST
from regraft.errors import UsageError

torch = pytest.importorskip("torch")
nn = torch.nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attn, self.drop = nn.LayerNorm(4), nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x: Any) -> Any:
        return x + self.drop(self.attn(self.norm(x)))


class Small(nn.Module):
    """A token of the root, a stem, four blocks, a norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(4))
        self.first, self.layers = nn.Linear(3, 4), nn.ModuleList(Block() for _ in range(4))
        self.last, self.fc = nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        x = self.first(x) + self.token
        for layer in self.layers:
            x = layer(x)
        return self.fc(self.last(x))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return look_at(Small(), {"x": torch.randn(2, 3)}, ["fc"])


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("layers.1", ["layers.1"]),
        ("layers.*.attn", [f"layers.{i}.attn" for i in range(4)]),
        ("layers.1-2", ["layers.1", "layers.2"]),
        ("layers.2-9.norm", ["layers.2.norm", "layers.3.norm"]),
        ("**.attn", [f"layers.{i}.attn" for i in range(4)]),
        ("**.1.**", ["layers.1"]),
        ("layers.[02]", ["layers.0", "layers.2"]),
        ("token", ["token"]),
        ("first.weight", ["first.weight"]),
        ("stem", ["first", "token"]),
        ("blocks", [f"layers.{i}" for i in range(4)]),
        ("neck", ["last"]),
        ("head", ["fc"]),
        ("HEAD ", ["fc"]),
        ("norms", [*(f"layers.{i}.norm" for i in range(4)), "last"]),
        ("kind:Linear", ["first", *(f"layers.{i}.attn" for i in range(4)), "fc"]),
        ("kind: Block", [f"layers.{i}" for i in range(4)]),
        ("last 1 block", ["layers.3", "last"]),
        ("last 2 blocks, -neck", ["layers.2", "layers.3"]),
        ("first 3  blocks", ["layers.0", "layers.1", "layers.2"]),
        ("last 30%", ["layers.2", "layers.3", "last"]),
        ("last 100%, head", ["layers.0", "layers.1", "layers.2", "layers.3", "last", "fc"]),
        ("all", ["first", "layers", "last", "fc", "token"]),
        ("blocks, -layers.1", ["layers.0", "layers.2", "layers.3"]),
        ("layers, -layers.1.attn, -layers.2", ["layers.0", "layers.1.norm", "layers.1.drop", "layers.3"]),
        ("all, -all, head", ["fc"]),
        ("layers.0.norm, layers.0", ["layers.0"]),
    ],
)
def test_a_text_means_these_layers(net: Net, text: str, paths: list[str]):
    assert list(net.select(text).paths) == sorted(paths, key=paths.index)


NOTHING = ["nothing", "layers.9", "layers.5-9", "kind:Conv2d", "layers..0", "lay*.x", "-", "..", "x" * 300, "layers.²", "\0"]


@pytest.mark.parametrize("text", NOTHING)
def test_a_text_that_means_nothing_is_an_error(net: Net, text: str):
    with pytest.raises(UsageError, match="chooses no layer"):
        net.select(text)


def test_several_that_mean_nothing_are_named_together(net: Net):
    with pytest.raises(UsageError) as caught:
        net.select("nothing, head, neither")
    assert len(caught.value.faults) == 2 and "'neither'" in caught.value.faults[1]


@pytest.mark.parametrize("text", ["", " , ,", "-head", "head, -head", "norms, -all"])
def test_a_selection_that_leaves_nothing_is_an_error(net: Net, text: str):
    for ask in (net.select, net.train_only, net.freeze, net.unfreeze, net.remove):
        with pytest.raises(UsageError, match="no layer"):
            ask(text)


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ("layers.1.atn", "did you mean 'layers.1.attn'?"),
        ("heda", "did you mean 'head'?"),
        ("fist", "did you mean 'first'?"),
        ("kind:Linaer", "did you mean 'kind:Linear'?"),
        ("qqqq", "layers begin with first, layers, last, fc"),
        ("kind:Qqqq", "kinds are Small, Linear"),
    ],
)
def test_the_advice_of_a_message_is_right(net: Net, wrong: str, advice: str):
    with pytest.raises(UsageError) as caught:
        net.select(wrong)
    text = str(caught.value)
    assert advice in text
    if "did you mean" in advice:
        assert net.select(text.split("did you mean ")[1].split("'")[1]).paths
    elif "begin" in advice:
        assert net.select(text.split("begin with ")[1].split(",")[0]).paths


def test_a_word_for_a_part_that_is_not_there_is_not_advised_again():
    net = look_at(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)), {"input": torch.randn(2, 3)})
    with pytest.raises(UsageError, match="this network has no head of its own") as caught:
        net.select("head")
    assert "did you mean" not in str(caught.value)


def test_a_word_that_names_no_part_is_the_name_of_a_layer():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neck, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return self.out(self.neck(x))

    net = look_at(Named(), {"x": torch.randn(2, 3)}, ["out"])
    assert not net.parts.neck and net.select("neck").paths == ("neck",)


@pytest.mark.parametrize("count", ["0", "5", "99", "9" * 9])
def test_more_blocks_than_there_are(net: Net, count: str):
    with pytest.raises(UsageError, match="the network has 4"):
        net.select(f"last {count} blocks")


def test_absurd_numbers_and_lengths_are_errors_that_speak(net: Net):
    for text in ("last " + "9" * 5000 + " blocks", "layers." + "9" * 4500 + "-" + "9" * 4500, "a*" * 2000 + "b"):
        with pytest.raises(UsageError):
            net.select(text)
    with pytest.raises(UsageError, match="characters"):
        net.select("xx," * LONGEST)


def test_many_names_are_no_text_that_is_too_long():
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a_rather_long_name_of_a_container = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(400)))
            self.head = nn.Linear(2, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.a_rather_long_name_of_a_container(x))

    net = look_at(Many(), {"x": torch.randn(2, 2)}, ["head"])
    held = net.freeze("norms")
    assert len(held.trained.paths) > 300
    assert len(held.freeze("head").trained.paths) == len(held.trained.paths) - 1
    assert net.totals() == held.unfreeze("norms").totals()


def test_freeze_takes_words_that_take_away(net: Net):
    held = net.freeze("blocks, -layers.3")
    assert list(held.trained.paths) == ["first", "layers.3", "last", "fc", "token"]
    assert net.freeze("all").trained.paths == ()
    assert net.freeze("all").unfreeze("head").trained.paths == ("fc",)


def test_a_message_names_ten_things_at_most(net: Net):
    with pytest.raises(UsageError) as caught:
        net.select(",".join(f"no{i}" for i in range(500)))
    assert len(caught.value.faults) == 11 and caught.value.faults[-1] == "and 490 more"
