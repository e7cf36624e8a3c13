"""The frozen part before a cut in engines other than torch: the same tensors, or a refusal in words."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from regraft.pretrained.operators import declare_missing_operators

torch = pytest.importorskip("torch")
declare_missing_operators()
pytest.importorskip("timm")
pytest.importorskip("transformers")

import numpy as np  # noqa: E402
from test_anatomy import images  # noqa: E402
from test_cut import KINDS, packaged, tokens  # noqa: E402

from regraft.anatomy import look_at  # noqa: E402
from regraft.errors import ModelError  # noqa: E402
from regraft.features import at_cut  # noqa: E402
from regraft.features.at_cut import AtCut, takes  # noqa: E402
from regraft.features.cut import Cut, find_cut  # noqa: E402
from regraft.features.engines import ENGINES, Engine  # noqa: E402

HERE = [e for e in ENGINES if e.exact and e.traced and e.tried and not e.missing("cpu")]
TILE = 4


def cut_of(kind: Any, trains: str = "last 1 block, head") -> Cut:
    torch.manual_seed(0)
    net = look_at(kind.make().eval(), kind.takes(), [kind.head]).train_only(trains)
    return find_cut(net.module, net.inputs, net.frozen(adapt=True))


def given(cut: Cut, kind: Any, count: int) -> dict[str, Any]:
    chance = torch.Generator().manual_seed(3)
    return {name: torch.randn(count, *kind.takes()[name].shape[1:], generator=chance) for name in cut.inputs}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.skipif(not HERE, reason="pip install 'regraft[fast]'")
@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet", "densenet", "convnext", "vit"])
def test_what_an_engine_gives_at_the_cut_is_what_torch_gives(name: str):
    kind = KINDS[name]
    cut = cut_of(kind)
    inputs = given(cut, kind, TILE)
    ours = [t.numpy() for t in cut.features(inputs)]
    for engine in HERE:
        assert takes(engine, cut)
        run = AtCut(cut, engine, TILE, 2)
        theirs = run(inputs)
        assert [t.shape for t in theirs] == [t.shape for t in ours]
        assert all(np.abs(a - b).max() <= 1e-4 * np.abs(a).max() for a, b in zip(ours, theirs, strict=True))
        fewer = run({k: v[:2] for k, v in inputs.items()})
        assert all(np.array_equal(few, whole[:2]) for few, whole in zip(fewer, theirs, strict=True)), "neighbours change no bit"


@pytest.mark.long
def test_texts_and_engines_that_round_stay_with_torch():
    cut = cut_of(packaged("all-minilm-l6-v2", tokens))
    assert not any(takes(engine, cut) for engine in ENGINES)
    cut = cut_of(packaged("efficientnet-lite0", images(64)))
    assert not any(takes(engine, cut) for engine in ENGINES if not engine.exact)


def pretended(make: Any) -> Engine:
    return Engine("pretended", "fp32", make, lambda device: "", traced=True)


def test_an_engine_that_refuses_or_gives_something_else_is_said():
    kind = KINDS["resnet"]
    cut = cut_of(kind)
    inputs = given(cut, kind, TILE)

    def refuses(*_: Any) -> Any:
        raise RuntimeError("operator of tomorrow\nand a long story")

    with pytest.raises(ModelError, match=r"pretended fp32 cannot take the frozen part \(operator of tomorrow\)"):
        AtCut(cut, pretended(refuses), TILE, 1)(inputs)
    off = lambda network, inputs, varies, threads: lambda tile: network(**tile) * 1.001
    with pytest.raises(ModelError, match="something else at the cut"):
        AtCut(cut, pretended(off), TILE, 1)(inputs)
    same = lambda network, inputs, varies, threads: lambda tile: network(**tile)
    assert np.array_equal(AtCut(cut, pretended(same), TILE, 1)(inputs)[0], cut.features(inputs)[0].numpy())
    assert at_cut.ALIKE < 1e-3
