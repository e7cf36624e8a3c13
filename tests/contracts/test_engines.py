"""Every engine that is here gives torch float32's features within its precision, whatever shares its tile, from any thread."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

from regraft.errors import MissingExtra, ModelError, UsageError  # noqa: E402
from regraft.features.engines import ENGINES, REFERENCE, Engine, Trunk, engine_of  # noqa: E402
from regraft.features.engines.base import cosines, lacking  # noqa: E402
from regraft.modality import MODALITIES  # noqa: E402

TILE = 4
PICTURES = {"mean": [0.5] * 3, "std": [0.5] * 3}
HERE = [e for e in ENGINES if not e.missing("cpu")]
QUICK = [e for e in HERE if e.name != "compile"]

every_engine = pytest.mark.parametrize("engine", QUICK, ids=lambda e: e.label)


class ImageNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.SiLU(), nn.Dropout(), nn.Conv2d(16, 32, 3, groups=4))

    def forward(self, x: Any) -> Any:
        return self.body(x).mean((2, 3))


class TextNet(nn.Module):
    """Attention over a padded length, and the mean of what is not padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(100, 32), nn.Embedding(64, 32)
        self.ask, self.key, self.value, self.deep = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        hidden = self.words(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        mask = (attention_mask == 1)[:, None]
        mixed = nn.functional.scaled_dot_product_attention(self.ask(hidden), self.key(hidden), self.value(hidden), attn_mask=mask)
        hidden = self.deep(nn.functional.gelu(mixed)) + hidden
        weights = attention_mask[..., None].float()
        return (hidden * weights).sum(1) / weights.sum(1)


def network(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    made = kind()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return made


def picture(i: int) -> dict[str, np.ndarray]:
    return {"pixels": np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)}


def text(i: int, length: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(i)
    mask = (np.arange(length) < rng.integers(1, length + 1)).astype(np.int64)
    return {"input_ids": rng.integers(0, 100, length) * mask, "attention_mask": mask}


def image_trunk(engine: Engine, threads: int = 1) -> Trunk:
    return Trunk(network(ImageNet), MODALITIES["image"], PICTURES, TILE, "cpu", engine, threads)


def text_trunk(engine: Engine, threads: int = 1) -> Trunk:
    return Trunk(network(TextNet), MODALITIES["text"], {}, TILE, "cpu", engine, threads)


def agree(engine: Engine, rows: np.ndarray, reference: np.ndarray) -> None:
    assert rows.shape == reference.shape and rows.dtype == np.float32
    if engine.exact:
        assert np.abs(rows - reference).max() <= 1e-4 * np.abs(reference).max()
    else:
        assert cosines(rows, reference).min() > 0.999


@every_engine
def test_pictures_agree_with_torch_float32(engine):
    pictures = [picture(i) for i in range(TILE)]
    agree(engine, image_trunk(engine)(pictures), image_trunk(REFERENCE)(pictures))


@every_engine
def test_texts_of_any_length_agree_with_torch_float32(engine):
    trunk, reference = text_trunk(engine), text_trunk(REFERENCE)
    for length in (8, 12, 4, 32, 8):
        texts = [text(i, length) for i in range(TILE)]
        agree(engine, trunk(texts), reference(texts))


@pytest.mark.parametrize("engine", [e for e in HERE if e.name == "compile"], ids=lambda e: e.label)
def test_a_compiled_network_agrees_with_torch_float32(engine):
    pictures = [picture(i) for i in range(TILE)]
    agree(engine, image_trunk(engine)(pictures), image_trunk(REFERENCE)(pictures))


@every_engine
def test_neighbours_in_a_tile_change_no_bit(engine):
    trunk, pictures = image_trunk(engine), [picture(i) for i in range(6)]
    whole = trunk(pictures[:TILE])
    for i in range(TILE):
        assert trunk([pictures[i]]).tobytes() == whole[i : i + 1].tobytes()
        assert trunk([pictures[4], pictures[5], pictures[i]])[2].tobytes() == whole[i].tobytes()
    words, texts = text_trunk(engine), [text(i, 8) for i in range(6)]
    whole = words(texts[:TILE])
    for i in range(TILE):
        assert words([texts[5], texts[i]])[1].tobytes() == whole[i].tobytes()


@every_engine
@pytest.mark.parametrize("threads", [2, 4])
def test_threads_change_no_bit(engine, threads):
    tiles = [[text(10 * n + i, 8 + 4 * (n % 3)) for i in range(TILE)] for n in range(12)]
    alone = text_trunk(engine)
    expected = [alone(tile).tobytes() for tile in tiles]
    shared = text_trunk(engine, threads)
    with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
        assert [rows.tobytes() for rows in pool.map(shared, tiles)] == expected


@every_engine
def test_frozen_stays_frozen(engine):
    """Exporters and compilers see the network itself: neither its weights nor its mode may change."""
    trunk = image_trunk(engine)
    before = copy.deepcopy(trunk.network.state_dict())
    trunk([picture(0)])
    assert not any(m.training for m in trunk.network.modules())
    for name, tensor in trunk.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_network_that_an_engine_cannot_take_is_an_error_with_the_move():
    def make(*_: Any) -> Any:
        raise RuntimeError("no such kernel\nand more")

    trunk = image_trunk(dataclasses.replace(REFERENCE, name="other", make=make))
    with pytest.raises(ModelError, match=r"other fp32 cannot take this network \(no such kernel\)") as caught:
        trunk([picture(0)])
    assert caught.value.move == "--engine torch"


def test_rows_that_are_not_the_networks_are_refused():
    """As of a graph that was made from one length and bakes it in."""

    def make(net: Any, inputs: Any, varies: bool, threads: int) -> Any:
        length = inputs["input_ids"].shape[1]
        return lambda tile: net(**{k: v[:, :length] for k, v in tile.items()})

    trunk = text_trunk(dataclasses.replace(REFERENCE, name="other", make=make, traced=True))
    trunk([text(0, 8)])
    with pytest.raises(ModelError, match="other features of this network than torch"):
        trunk([{k: np.concatenate([v, v]) for k, v in text(0, 8).items()}])


@pytest.mark.parametrize("engine", [e for e in ENGINES if e.packages], ids=lambda e: e.label)
def test_an_engine_that_is_not_installed_says_how_to_get_it(engine, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in engine.packages else there(name))
    with pytest.raises(MissingExtra, match="is not installed") as caught:
        engine.require("cpu")
    assert caught.value.move == "pip install 'regraft[fast]'"


def test_without_a_compiler_nothing_is_compiled(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match=r"no C\+\+ compiler"):
        engine_of("compile", "bf16").require("cpu")


@pytest.mark.parametrize("engine", [e for e in ENGINES if e.packages], ids=lambda e: e.label)
def test_engines_for_the_cpu_say_so(engine):
    assert "CPU only" in engine.missing("cuda:0")


def test_engines_are_named_once_and_described():
    assert len({e.label for e in ENGINES}) == len(ENGINES)
    assert REFERENCE.label == "torch fp32" and REFERENCE.missing("cpu") == ""
    for engine in ENGINES:
        assert engine.precision in ("fp32", "bf16") and engine.identity()["engine"] == engine.label
    assert lacking("regraft") == "" and "no_such_module" in lacking("regraft", "no_such_module")


@pytest.mark.parametrize(("name", "precision"), [("tensorrt", "fp32"), ("onnx", "bf16"), ("torch", "int8")])
def test_an_engine_that_there_is_not_is_an_error_that_lists_those_there_are(name, precision):
    with pytest.raises(UsageError, match="expected"):
        engine_of(name, precision)


def test_cosines():
    one = np.array([[1, 0], [0, 0], [1, 1]], np.float32)
    two = np.array([[0, 1], [0, 0], [2, 2]], np.float32)
    assert np.allclose(cosines(one, two), [0, 1, 1])
