"""A network at every depth: one run gives the features of all the cut networks, to the bit.

The networks are those of test_anatomy.py, small and with random weights.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from regraft.pretrained.operators import declare_missing_operators

torch = pytest.importorskip("torch")
declare_missing_operators()
pytest.importorskip("timm")
pytest.importorskip("transformers")

from test_anatomy import NETWORKS  # noqa: E402

from regraft.anatomy import Net, look_at, replace_layer  # noqa: E402
from regraft.anatomy.depths import Depth, Depths, depth_at, depths_of  # noqa: E402
from regraft.errors import UsageError  # noqa: E402

KINDS = ("resnet", "densenet", "mobilenetv3", "convnext", "vit", "swin", "bert", "modernbert", "whisper", "wav2vec2")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(before)
    opened.cache_clear()


def without_head(name: str) -> Net:
    torch.manual_seed(0)
    kind = NETWORKS[name]
    network = replace_layer(kind.make().eval(), kind.head, torch.nn.Identity())
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            # as after training: with those at the start a norm that is left out would not be seen
            layer.running_mean.normal_(0, 0.1), layer.running_var.uniform_(0.5, 2), layer.bias.data.normal_(0, 0.3)
    return look_at(network, kind.takes(), [kind.head])


@functools.lru_cache(maxsize=1)
def opened(name: str) -> tuple[Net, list[Depth], dict[str, str]]:
    net = without_head(name)
    return (net, *depths_of(net))


def noise(net: Net, seed: int) -> dict[str, Any]:
    random = torch.Generator().manual_seed(seed)
    return {k: torch.randn(v.shape, generator=random) if v.is_floating_point() else v for k, v in net.inputs.items()}


@pytest.fixture(params=KINDS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_block_is_a_depth_and_each_keeps_more(name):
    net, depths, refused = opened(name)
    assert not refused and len(depths) == len(net.parts.blocks) > 2
    assert depths[-1].net is net
    for earlier, later in zip(depths, depths[1:], strict=False):
        assert 0 < earlier.macs < later.macs and earlier.parameters < later.parameters


def test_one_run_gives_the_bits_of_every_cut_network(name):
    net, depths, _ = opened(name)
    inputs = [noise(net, seed) for seed in range(2)]
    with torch.inference_mode():
        alone = [[d.net.module(**given) for d in depths] for given in inputs]
    assert len({rows.shape for rows in alone[0]}) > 1 or not torch.equal(alone[0][0], alone[0][1]), "depths differ"
    together = Depths(depths).eval()
    assert together.widths == [rows.shape[1] for rows in alone[0]]

    def run(k: int) -> Any:
        with torch.inference_mode():
            return together.split(together(**inputs[k]))

    with ThreadPoolExecutor(2) as pool:  # as a pass runs it: several tiles at once
        found = list(pool.map(run, [0, 1, 0]))
    for rows, k in zip(found, [0, 1, 0], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(rows, alone[k], strict=True))
    assert together.check(inputs[0]) == []


def test_the_cut_networks_take_no_memory_of_their_own():
    net, depths, _ = opened("resnet")
    own = {id(p) for p in net.module.parameters()}
    assert all(id(p) in own for d in depths for p in d.net.module.parameters())


def test_a_depth_is_the_mean_over_space_of_what_the_block_gave():
    net, depths, _ = opened("resnet")
    given, kept = noise(net, 3), {}

    def keep(at: str, _: Any, __: Any, out: Any) -> None:
        kept[at] = out.mean((2, 3))

    hooks = [net.module.get_submodule(d.name).register_forward_hook(functools.partial(keep, d.name)) for d in depths]
    with torch.inference_mode():
        net.module(**given)
        for hook in hooks:
            hook.remove()
        together = Depths(depths).eval()
        found = together.split(together(**given))
    for d, row in zip(depths, found, strict=True):
        assert torch.allclose(row, kept[d.name], rtol=1e-5, atol=1e-6)


def test_a_depth_that_is_not_its_own_network_is_found_out():
    net = without_head("vit")
    depths, _ = depths_of(net)
    depths[1].net.module.get_submodule("blocks.1").mlp = torch.nn.Identity()  # the cut network is another one now
    assert Depths(depths).eval().check(noise(net, 0)) == [1]


def test_padding_changes_no_depth_of_a_text():
    from regraft.pretrained import find_model
    from regraft.pretrained.architectures import build

    facts = find_model("all-minilm-l6-v2")
    small = {**facts.architecture, "config": {**facts.architecture["config"], "num_hidden_layers": 3, "vocab_size": 60}}
    torch.manual_seed(0)
    ids = torch.randint(4, 60, (2, 9), generator=torch.Generator().manual_seed(1))
    ones = torch.ones_like(ids)
    net = look_at(build(small, 0).eval(), {"input_ids": ids, "attention_mask": ones}, ["head"])
    together = Depths(depths_of(net)[0]).eval()
    pad = torch.zeros(2, 5, dtype=torch.int64)
    with torch.inference_mode():
        plain = together(input_ids=ids, attention_mask=ones)
        padded = together(input_ids=torch.cat([ids, pad + 7], 1), attention_mask=torch.cat([ones, pad], 1))
    assert torch.allclose(plain, padded, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layer2.0.conv1", "lies inside a block"),
        ("conv1", "is no block"),
        ("layer4", "nothing would be cut off"),
        ("layr2", "chooses no layer"),
    ],
)
def test_places_that_are_none(text, said):
    with pytest.raises(UsageError, match=said):
        opened("resnet")[0].truncate(text)


def test_a_place_can_be_named_in_several_ways():
    net = opened("resnet")[0]
    assert [depth_at(net, text) for text in ("layer2", "layer2.1", "first 4 blocks", "layer1, layer2")] == ["layer2.1"] * 4
    ended = net.truncate("layer2")
    assert not any(name.startswith(("layer3", "layer4")) for name, _ in ended.module.named_parameters())
