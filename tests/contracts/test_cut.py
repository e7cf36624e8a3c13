"""What the cut promises: on what the trunk gave, the rest trains as the whole network does, to the bit.

The networks are those of test_anatomy.py, small and with random weights, and the architectures of two packaged ones.
"""

from __future__ import annotations

import copy
import functools
import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from regraft.pretrained.operators import declare_missing_operators

torch = pytest.importorskip("torch")
declare_missing_operators()
pytest.importorskip("timm")
pytest.importorskip("transformers")

from test_anatomy import CLASSES, NETWORKS, Kind, images, words  # noqa: E402

from regraft.anatomy import Net, look_at  # noqa: E402
from regraft.anatomy.freezing import Frozen  # noqa: E402
from regraft.anatomy.select import Selected  # noqa: E402
from regraft.errors import CutError  # noqa: E402
from regraft.features.cut import Cut, find_cut, no_cut  # noqa: E402
from regraft.pretrained import find_model  # noqa: E402
from regraft.pretrained.architectures import architecture_of, build  # noqa: E402

nn, functional = torch.nn, torch.nn.functional


def packaged(name: str, takes: Callable[[], dict[str, Any]]) -> Kind:
    facts = find_model(name)
    return Kind(lambda: build(facts.architecture, CLASSES), takes, architecture_of(facts.architecture).head(facts.architecture), "")


def tokens(batch: int = 2, length: int = 12, seed: int = 1) -> dict[str, Any]:
    ids = torch.randint(4, 60, (batch, length), generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(length) < torch.tensor([length, *([length - 4] * (batch - 1))])[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask}


KINDS = {
    "efficientnet-lite0": packaged("efficientnet-lite0", images(64)),
    "all-minilm-l6-v2": packaged("all-minilm-l6-v2", tokens),
    **{
        name: NETWORKS[name]
        for name in (
            *("resnet", "densenet", "mobilenetv3", "convnext", "convnextv2", "vit", "dinov2-reg", "clip-vision"),
            *("bert", "distilbert", "roberta", "whisper", "wav2vec2", "ast"),
        )
    },
}
ALL_THE_WAY = ("efficientnet-lite0", "all-minilm-l6-v2")
"""Networks that take ten steps on two threads too."""

CHOICES = ("head", "last block", "from the middle")

AT_THREE_PLACES = ("efficientnet-lite0", "all-minilm-l6-v2", "resnet", "vit", "bert", "whisper")
"""Networks cut at three places: a packaged one, and one of each make. Those of the others are cut at two: the last block is exported in
training mode as what trains from the middle is, which takes as long, and shows nothing else of a like network."""


def choices(name: str) -> tuple[str, ...]:
    return CHOICES if name in AT_THREE_PLACES else ("head", "from the middle")


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    opened.cache_clear()


ALIKE = ("mobilenetv3", "convnextv2", "clip-vision", "distilbert", "roberta", "wav2vec2")
"""Networks much like others here, of which exporting takes long."""


CASES = [
    pytest.param((name, choice), id=f"{name}-{choice}", marks=[pytest.mark.long] if name in ALIKE else [])
    for name in KINDS
    for choice in choices(name)
]


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A network and what of it trains, in one: the tests of one network stand together, and it is cut once."""
    return request.param


@pytest.fixture(scope="module")
def name(case: tuple[str, str]) -> str:
    return case[0]


@pytest.fixture(scope="module")
def choice(case: tuple[str, str]) -> str:
    return case[1]


@functools.lru_cache(maxsize=1)
def opened(name: str) -> dict[str, tuple[Net, Cut]]:
    """For each choice of what trains the network and its cut. All are of one module."""
    torch.manual_seed(0)
    kind = KINDS[name]
    net = look_at(kind.make().eval(), kind.takes(), [kind.head])
    middle = len(net.parts.blocks) // 2 if len(net.parts.blocks) > 3 else 2
    found: dict[str, tuple[Net, Cut]] = {}
    use = None
    trains = dict(zip(CHOICES, ("head", "last 1 block, head", f"last {middle} blocks, head"), strict=True))
    for choice in choices(name):
        mine = net.train_only(trains[choice])
        cut = find_cut(net.module, net.inputs, mine.frozen(adapt=True), in_use=use)
        use = cut.in_use or use
        found[choice] = (mine, cut)
    return found


def bits(module: Any) -> dict[str, bytes]:
    named = [*module.named_parameters(), *module.named_buffers()]
    return {n: t.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() for n, t in named}


def first_of(output: Any) -> Any:
    return output if isinstance(output, torch.Tensor) else next(iter(output.values() if isinstance(output, dict) else output))


def steps(module: Any, forward: Callable[[], Any], kind: str, batch: int, count: int = 10) -> list[float]:
    """The losses of some steps; the weights of the module move."""
    live = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(live, 0.05, momentum=0.9) if kind == "sgd" else torch.optim.AdamW(live, 1e-3)
    torch.manual_seed(7)
    losses = []
    for _ in range(count):
        out = first_of(forward())
        loss = functional.cross_entropy(out.reshape(batch, -1), torch.arange(batch) % 2)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def assert_trains_the_same(
    cut: Cut, module: Any, inputs: dict[str, Any], frozen: Frozen, kinds: tuple[str, ...] = ("sgd", "adamw"), count: int = 10
) -> None:
    batch = len(next(iter(inputs.values())))
    start = copy.deepcopy(module)
    before = bits(module)
    for kind in kinds:
        whole = copy.deepcopy(start)
        with frozen.training(whole):
            expected = steps(whole, lambda net=whole: net(**inputs), kind, batch, count)
        features = cut.features(inputs)
        kept = [t.clone() for t in features]
        cut.rest.train()
        found = steps(module, lambda given=features: cut.rest(*given), kind, batch, count)
        cut.rest.eval()
        after = bits(module)
        assert found == expected
        assert after == bits(whole)
        assert any(after[n] != before[n] for n in after), "something trained"
        assert all(torch.equal(a, b) for a, b in zip(features, kept, strict=True)), "the rest does not change what it is given"
        with torch.no_grad():
            ours, theirs = first_of(cut.rest(*features)), first_of(whole.eval()(**inputs))
        assert torch.equal(ours, theirs), "in use too, after training"
        with torch.no_grad():
            for mine, theirs in zip([*module.parameters(), *module.buffers()], [*start.parameters(), *start.buffers()], strict=True):
                mine.copy_(theirs)


def test_ten_steps_of_the_rest_give_the_bits_of_ten_steps_of_the_whole(name: str, choice: str):
    net, cut = opened(name)[choice]
    frozen = net.frozen(adapt=True)
    frozen.apply(net.module)
    assert_trains_the_same(cut, net.module, net.inputs, frozen)


def test_on_two_threads_too(name: str, choice: str):
    """What two threads add in another order shows in the first step, and the later ones carry it on: two networks go all the way."""
    net, cut = opened(name)[choice]
    frozen = net.frozen(adapt=True)
    frozen.apply(net.module)
    torch.set_num_threads(2)
    try:
        # how the weights are moved is the same code on every number of threads: one optimiser tells
        assert_trains_the_same(cut, net.module, net.inputs, frozen, ("adamw",), count=10 if name in ALL_THE_WAY else 2)
    finally:
        torch.set_num_threads(1)


def test_the_facts_are_those_of_the_network(name: str, choice: str):
    net, cut = opened(name)[choice]
    assert not cut.empty and cut.same_bits
    assert cut.macs == net.seen.macs
    assert 0 < cut.trunk_macs <= cut.macs and cut.again_macs <= 0.01 * cut.trunk_macs
    frozen_paths = {p for p, _ in net.module.named_modules() if p and p not in net.trained} | set(net.inputs)
    assert {t.after for t in cut.tensors} <= frozen_paths
    features = cut.features(net.inputs)
    assert [tuple(f.shape[1:]) for f in features] == [t.shape for t in cut.tensors]
    assert [f.dtype for f in features] == [t.dtype for t in cut.tensors]
    assert cut.bytes == sum(f[0].numel() * f.element_size() for f in features)
    assert json.loads(json.dumps(cut.to_json()))["after"] == cut.after
    own = {id(t) for t in [*net.module.parameters(), *net.module.buffers()]}
    for half in (cut.trunk, cut.rest):
        assert {id(p) for p in half.parameters()} <= own, "no parameter is copied"
    net.frozen(adapt=True).apply(net.module)
    live = {id(p) for n, p in net.module.named_parameters() if n in net.trained}
    assert not live & {id(p) for p in cut.trunk.parameters()}
    assert live >= {id(p) for p in cut.rest.parameters() if p.requires_grad}


def test_another_batch_size_changes_features_by_rounding_only(name: str, choice: str):
    net, cut = opened(name)[choice]
    more = {k: torch.cat([v, v.flip(0), v[:1]]) for k, v in net.inputs.items()}
    few, many = cut.features(net.inputs), cut.features(more)
    for a, b in zip(few, many, strict=True):
        assert b.shape == (5, *a.shape[1:])
        assert float((a.double() - b[:2].double()).abs().max()) <= 1e-5 * float(a.double().abs().max() + 1e-30)
    with torch.no_grad():
        assert torch.equal(first_of(cut.rest.eval()(*many)), first_of(net.module.eval()(**more)))


def longer(name: str) -> list[dict[str, Any]]:
    """Batches of other sizes and lengths, padded."""
    if KINDS[name].takes in (words, tokens):
        return [tokens(3, 16), tokens(4, 29)]
    return [{"input_values": torch.randn(3, 2000)}] if name == "wav2vec2" else []


def test_texts_and_sounds_of_other_lengths_go_through_the_same_cut(name: str, choice: str):
    net, cut = opened(name)[choice]
    others = longer(name)
    assert any(t.varying for t in cut.tensors) or not others or choice == "head"
    for more in others:
        with torch.no_grad():
            assert torch.equal(first_of(cut.rest.eval()(*cut.features(more))), first_of(net.module.eval()(**more)))


# ------------------------------------------------------------ modules made to break it


def cut_of(module: Any, inputs: dict[str, Any], *trained: str, adapt: bool = True) -> tuple[Cut, Frozen]:
    frozen = Frozen(Selected(trained), adapt)
    return find_cut(module, inputs, frozen), frozen


def rows(*shape: int, seed: int = 0) -> dict[str, Any]:
    return {"x": torch.randn(*shape, generator=torch.Generator().manual_seed(seed))}


def small(module: Any) -> Any:
    torch.manual_seed(0)
    return module().eval()


class Simple(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        return self.second(torch.relu(self.first(x)))


def test_a_network_that_branches_on_data_is_refused_with_one_sentence_and_trains_whole():
    class Branches(Simple):
        def forward(self, x: Any) -> Any:
            x = self.first(x)
            return self.second(x if x.sum() > 0 else -x)

    module, inputs = small(Branches), rows(3, 6)
    module.second.train()
    modes = [m.training for m in module.modules()]
    with pytest.raises(CutError, match=r"Branches cannot be cut, so it trains whole, which is slower: ") as caught:
        cut_of(module, inputs, "second")
    assert "\n" not in str(caught.value)
    assert [m.training for m in module.modules()] == modes
    frozen = Frozen(Selected(("second",)), True)
    cut = no_cut(module, inputs, frozen, caught.value.found)
    assert cut.empty and cut.saved == 0
    assert_trains_the_same(cut, module, inputs, frozen)


def test_where_nothing_frozen_comes_first_the_module_itself_is_trained():
    module, inputs = small(Simple), rows(3, 6)
    cut, frozen = cut_of(module, inputs, "first", "second")
    assert cut.empty and "nothing frozen" in cut.reason and cut.after == ""
    assert cut.rest.network is module and cut.macs == 6 * 8 + 8 * 4
    assert cut.features(inputs)[0] is inputs["x"]
    assert_trains_the_same(cut, module, inputs, frozen)


def test_a_network_that_remembers_in_python_is_refused():
    class Counts(Simple):
        seen = 0

        def forward(self, x: Any) -> Any:
            self.seen += 1
            return super().forward(x) * self.seen

    with pytest.raises(CutError, match="something else|cannot be cut"):
        cut_of(small(Counts), rows(3, 6), "second")


def test_parameters_with_two_names_train_under_both():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.first, self.twice = nn.Embedding(20, 6), nn.Linear(6, 6), nn.Linear(6, 6)
            self.head = nn.Linear(6, 20, bias=False)

        def forward(self, x: Any) -> Any:
            x = self.twice(torch.tanh(self.twice(self.first(self.table(x)))))
            return self.head(x.mean(1))

    module, inputs = small(Tied), {"x": torch.randint(0, 20, (4, 5), generator=torch.Generator().manual_seed(0))}
    cut, frozen = cut_of(module, inputs, "twice", "head")
    assert cut.after == "first" and cut.tensors[0].shape == (5, 6)
    assert_trains_the_same(cut, module, inputs, frozen)
    module.head.weight = module.table.weight
    cut, _ = cut_of(module, inputs, "head")
    assert cut.empty, "the table is the head's weight: what reads it trains"


def test_what_is_read_at_two_places_gives_two_tensors():
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.head = nn.Linear(6, 7), nn.Linear(7, 9), nn.Linear(9, 7), nn.Linear(7, 3)

        def forward(self, x: Any) -> Any:
            early = torch.relu(self.a(x))
            late = torch.sigmoid(self.b(early))
            return {"out": self.head(self.c(late) + early), "early": (early, None)}

    module, inputs = small(Skips), rows(4, 6)
    cut, frozen = cut_of(module, inputs, "c", "head")
    assert sorted((t.after, t.shape) for t in cut.tensors) == [("a", (7,)), ("b", (9,))]
    assert cut.after == "b" and cut.bytes == 4 * (7 + 9) and cut.trunk_macs == 6 * 7 + 7 * 9
    assert_trains_the_same(cut, module, inputs, frozen)
    out = cut.rest.eval()(*cut.features(inputs))
    assert set(out) == {"out", "early"} and out["early"][1] is None


class Moody(nn.Module):
    """Batch norms that count, functional dropout, dropout without parameters, attention with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.low_norm = nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.3))
        self.top = Attends()

    def forward(self, x: Any) -> Any:
        x = functional.dropout(self.low_norm(self.low(x)), 0.5, self.training)
        return self.top(self.block(x))


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(2, 6), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        q, k, v = self.qkv(x.view(-1, 4, 2)).chunk(3, -1)
        x = functional.scaled_dot_product_attention(q, k, v, dropout_p=0.2 if self.training else 0.0)
        return self.head(functional.dropout(x.flatten(1), 0.25, self.training))


@pytest.mark.parametrize(("trained", "after"), [(("block", "top"), "low_norm"), (("top",), "block"), (("low_norm", "top"), "low")])
def test_counters_statistics_and_chance_go_with_what_trains(trained: tuple[str, ...], after: str):
    module, inputs = small(Moody), rows(6, 8)
    cut, frozen = cut_of(module, inputs, *trained)
    assert cut.after == after
    assert_trains_the_same(cut, module, inputs, frozen)
    steps(module, lambda: cut.rest.train()(*cut.features(inputs)), "sgd", 6, 3)
    assert int(module.low_norm.num_batches_tracked) == (3 if "low_norm" in trained else 0)
    assert int(module.block[1].num_batches_tracked) == (3 if "block" in trained else 0)


def test_batch_norms_that_keep_their_statistics_do():
    module, inputs = small(Moody), rows(6, 8)
    cut, frozen = cut_of(module, inputs, "block", "top", adapt=False)
    before = bits(module.block[1])
    assert_trains_the_same(cut, module, inputs, frozen)
    steps(module, lambda: cut.rest.train()(*cut.features(inputs)), "sgd", 6, 3)
    after = bits(module.block[1])
    assert {n for n in after if before[n] != after[n]} == {"weight", "bias"}


def test_what_is_changed_in_place_is_not_cut_before_it_was():
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
            self.register_buffer("runs", torch.zeros(()))

        def forward(self, x: Any) -> Any:
            x.mul_(2)
            y = self.a(x)
            view = y.view(-1, 2, 3)
            view[:, 0].relu_()
            z = y.exp_()
            self.runs += 1
            y.add_(self.head.bias.sum())  # live, on frozen memory
            return self.head(z)

    module, inputs = small(InPlace), rows(4, 6)
    original = inputs["x"].clone()
    cut, frozen = cut_of(module, dict(inputs), "head")
    assert not cut.empty and cut.after == "a"
    assert torch.equal(inputs["x"], original) and float(module.runs) == 0, "looking changed nothing"
    features = cut.features(inputs)
    assert torch.equal(inputs["x"], original)
    kept = [f.clone() for f in features]
    losses = steps(module, lambda: cut.rest.train()(*features), "sgd", 4)
    assert all(torch.equal(a, b) for a, b in zip(features, kept, strict=True))
    assert float(module.runs) == 10, "a counter of a frozen layer counts as it would"
    whole = small(InPlace)
    with frozen.training(whole):
        assert steps(whole, lambda: whole(x=original.clone()), "sgd", 4) == losses
    assert bits(whole) == bits(module)


def test_blocks_in_another_mode_stay_blocks():
    class Modes(Simple):
        def forward(self, x: Any) -> Any:
            with torch.no_grad():
                x = torch.relu(self.first(x)) * 2
            with torch.autocast("cpu", dtype=torch.bfloat16):
                x = self.second(x)
            return x.float()

    module, inputs = small(Modes), rows(4, 6)
    cut, frozen = cut_of(module, inputs, "second")
    assert cut.trunk_macs == 6 * 8 and cut.same_bits
    assert_trains_the_same(cut, module, inputs, frozen)


def test_chance_that_is_never_off_belongs_to_the_rest():
    class Noisy(Simple):
        def forward(self, x: Any) -> Any:
            x = torch.relu(self.first(x))
            return self.second(x + torch.randn_like(x))

    module, inputs = small(Noisy), rows(4, 6)
    state = torch.get_rng_state()
    cut, _ = cut_of(module, inputs, "second")
    assert torch.equal(torch.get_rng_state(), state)
    assert cut.after == "first" and cut.same_bits
    features = cut.features(inputs)
    assert torch.equal(features[0], cut.features(inputs)[0])
    assert not torch.equal(cut.rest(*features), cut.rest(*features))


def test_one_example_is_enough_and_a_batch_is_asked_for():
    cut, frozen = cut_of(small(Simple), rows(1, 6), "second")
    assert cut.after == "first" and cut.features(rows(5, 6))[0].shape == (5, 8)
    with pytest.raises(CutError, match="one batch"):
        find_cut(small(Simple), {}, frozen)


def test_features_that_were_stored_otherwise_in_memory_give_the_same_bits():
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.top = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3)

        def forward(self, x: Any) -> Any:
            return self.top(self.low(x.contiguous(memory_format=torch.channels_last))).mean((2, 3))

    inputs = rows(3, 3, 12, 12)
    cut, _ = cut_of(small(Turned), inputs, "top")
    assert cut.tensors[0].layout == (0, 2, 3, 1)
    features = cut.features(inputs)
    stored = [torch.from_numpy(f.numpy().copy(order="C")) for f in features]
    strided = [torch.stack([f, f], -1)[..., 0] for f in features]
    with torch.no_grad():
        expected = cut.rest.eval()(*features)
        assert torch.equal(cut.rest(*stored), expected) and torch.equal(cut.rest(*strided), expected)


def test_the_trunk_can_be_exported_again_for_other_engines():
    module, inputs = small(Moody), rows(6, 8)
    cut, _ = cut_of(module, inputs, "top")
    batch = torch.export.Dim("batch", min=2)
    again = torch.export.export(cut.trunk, tuple(inputs.values()), dynamic_shapes=(({0: batch},),), strict=False).module()
    for given in (inputs, rows(9, 8)):
        assert all(torch.equal(a, b) for a, b in zip(again(given["x"]), cut.features(given), strict=True))


def test_sounds_of_other_lengths_go_through_the_cut_of_the_packaged_speech_encoder():
    """Its spectrograms have three dimensions, of which the last one is time; what is long in one example is short in another."""
    import regraft

    net = regraft.load("whisper-tiny-en", weights=False).train_only("last 1 block, head")
    cut = find_cut(net.module, net.inputs, net.frozen())
    assert not cut.one_length and [t.varying for t in cut.tensors][0] == (1,)
    for moments in (24, 130):
        more = {k: torch.randn(3, v.shape[1], moments) if v.ndim == 3 else v[:1].expand(3, *v.shape[1:]) for k, v in net.inputs.items()}
        with torch.no_grad():
            assert torch.equal(first_of(cut.rest.eval()(*cut.features(more))), first_of(net.module.eval()(**more)))


class Gated(nn.Module):
    """Adds as many positions as it was made with: no other length goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.position, self.second = nn.Linear(1, 8), nn.Parameter(torch.randn(12, 8)), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        return self.second((self.first(x[..., None]) + self.position).mean(1))


def test_a_network_of_one_length_may_be_cut_for_that_length_and_it_is_said():
    cut, _ = cut_of(small(Gated), rows(4, 12), "second")
    assert not any(t.varying for t in cut.tensors)
