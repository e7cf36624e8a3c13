"""regraft export: what another program computes from the file and its JSON alone is what regraft predicts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import regraft
from regraft.artifacts.exports import onnx as kind
from regraft.errors import MissingExtra, ModelError, UsageError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

OWN = """
import torch
from torch import nn
HOW = {"size": 24, "crop_pct": 0.9, "interpolation": "bilinear", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
    def forward(self, x):
        return torch.cat([self.stem(x).relu().mean((2, 3)), x.mean((2, 3))], 1)
class Choosing(Small):
    def forward(self, x):
        rows = super().forward(x)
        return rows if x.sum() > 0 else -rows
def small():
    return Small(), HOW
def choosing():
    return Choosing(), HOW
"""


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "small_of_mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("small_of_mine", None)


@pytest.fixture
def small_run(own_code, image_folder):
    return regraft.fit(image_folder, model="small_of_mine:small", allow_code=True, out="run", threads=1, store=False)


def scores_of(described: dict, folder: Path, inputs: dict) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(folder / described["file"]), providers=["CPUExecutionProvider"])
    return session.run(["scores"], inputs)[0]


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def pixels_by_hand(path: Path, how: dict) -> np.ndarray:
    """What the JSON's `preparation` says, with Pillow and NumPy alone."""
    image = Image.open(path).convert("RGB")
    to = int(how["size"] / how["crop_pct"])
    width, height = image.size
    longer = int(to * max(image.size) / min(image.size))
    image = image.resize((to, longer) if width <= height else (longer, to), getattr(Image.Resampling, how["interpolation"].upper()))
    left, top = round((image.width - how["size"]) / 2), round((image.height - how["size"]) / 2)
    pixels = np.asarray(image.crop((left, top, left + how["size"], top + how["size"])), np.float32) / 255
    return ((pixels - np.float32(how["mean"])) / np.float32(how["std"])).transpose(2, 0, 1)


def test_the_file_and_its_json_are_enough_to_predict(small_run, image_folder, command):
    done = command("export", "run", "--allow-code", "--threads", 1)
    assert done.code == 0, done.err
    folder = Path("run/onnx")
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "model.onnx"]
    described = json.loads((folder / "model.json").read_text())
    assert described["inputs"] == [{"name": "x", "shape": ["batch", 3, 24, 24], "dtype": "float32"}]
    assert described["checked"]["on"] == "examples of the data of its fit"
    assert described["checked"]["examples"] == described["checked"]["equal_decisions"] == 18
    paths = sorted(image_folder.rglob("*.png"))
    x = np.stack([pixels_by_hand(p, described["preprocessing"]) for p in paths])
    chances = softmax(scores_of(described, folder, {"x": x}))
    for own, path, prediction in zip(chances, paths, small_run.predict(paths, threads=1), strict=True):
        assert described["labels"][int(own.argmax())] == prediction.label, path
        assert own == pytest.approx(list(prediction.probabilities.values()), abs=2e-5)


def test_the_file_holds_what_has_to_be_known_and_nothing_of_the_machine(small_run, tmp_path):
    found = regraft.export(small_run, out="here/mine.onnx", threads=1)
    assert found["path"] == "here/mine.onnx" and found["file"] == "mine.onnx"
    model = onnx.load("here/mine.onnx")
    onnx.checker.check_model(model)
    notes = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert notes["labels"] == ["blue", "green", "red"] and notes["preprocessing"]["size"] == 24
    written = Path("here/mine.json").read_bytes() + Path("here/mine.onnx").read_bytes()
    for place in (tmp_path, Path(__file__).parents[2], Path(onnx.__file__).parent):
        assert str(place).encode() not in written
    again = regraft.export("run", out="there/mine.onnx", threads=1)
    assert again["sha256"] == found["sha256"]
    assert Path("here/mine.json").read_bytes() == Path("there/mine.json").read_bytes()


@pytest.mark.parametrize(
    ("target", "cells"),
    [
        ("multilabel", {"red": "warm;loud", "green": "cold", "blue": "cold;loud"}),
        ("number", {"red": "3.5", "green": "1.25", "blue": "0.5"}),
    ],
)
def test_other_targets(own_code, image_folder, target, cells):
    paths = sorted(image_folder.rglob("*.png"))
    lines = ["path,value"] + [f"{p.relative_to(image_folder)},{cells[p.parent.name]}" for p in paths]
    (image_folder / "all.csv").write_text("\n".join(lines) + "\n")
    run = regraft.fit(
        image_folder / "all.csv", target=target, model="small_of_mine:small", allow_code=True, out="run", threads=1, store=False
    )
    found = regraft.export(run, threads=1)
    assert found["target"]["kind"] == target
    assert found["checked"]["equal_decisions"] == found["checked"]["examples"] == 18
    described = json.loads(Path("run/onnx/model.json").read_text())
    x = np.stack([pixels_by_hand(p, described["preprocessing"]) for p in paths])
    scores = scores_of(described, Path("run/onnx"), {"x": x})
    for own, prediction in zip(scores, run.predict(paths, threads=1), strict=True):
        if target == "number":
            width = described["target"]["half_width"]
            assert (own[0], own[0] - width) == pytest.approx((prediction.value, prediction.low), abs=1e-4)
            assert described["labels"] == ["value"]
        else:
            chances, thresholds = 1 / (1 + np.exp(-own)), described["target"]["thresholds"]
            said = [name for name, p, t in zip(described["labels"], chances, thresholds, strict=True) if p >= t]
            assert said == list(prediction.labels)


def test_without_the_data_made_up_examples_are_used(small_run, image_folder, command):
    image_folder.rename("elsewhere")
    done = command("export", "run", "--json", "--allow-code", "--threads", 1)
    assert done.code == 0
    assert done.json["checked"]["on"] == "made-up examples" and done.json["checked"]["examples"] == 8


def test_a_bundle_alone_is_written_beside_it(small_run, command):
    Path("run/bundle").rename("kept")
    done = command("export", "kept", "--allow-code", "--threads", 1)
    assert done.code == 0 and Path("kept-onnx/model.onnx").is_file()
    # and the bundle is as it was
    assert command("predict", "kept", next(Path("pictures").rglob("*.png")), "--allow-code", "--threads", 1).code == 0


def test_a_file_that_says_something_else_is_not_left(small_run, monkeypatch, command):
    regraft.export(small_run, threads=1)
    before = Path("run/onnx/model.json").read_bytes()
    honest = kind.runner

    def lying(path):
        run = honest(path)
        return lambda inputs: run(inputs) + 0.01

    monkeypatch.setattr("regraft.artifacts.exports.EXPORTS", {"onnx": kind.Export("onnx", "", ".onnx", kind.PACKAGES, kind.write, lying)})
    with pytest.raises(ModelError, match="other scores than torch"):
        regraft.export(small_run, threads=1)
    # what an earlier export left is whole
    assert Path("run/onnx/model.json").read_bytes() == before and Path("run/onnx/model.onnx").is_file()
    done = command("export", "run", "--allow-code", "--out", "new/m.onnx", "--threads", 1)
    assert done.code == 1 and "differ by 0.01" in done.err
    assert not list(Path("new").iterdir())


def test_a_network_that_decides_by_its_values_is_refused(own_code, image_folder, command):
    regraft.fit(image_folder, model="small_of_mine:choosing", allow_code=True, out="run", threads=1, store=False)
    done = command("export", "run", "--allow-code", "--threads", 1)
    assert done.code == 1
    assert "ONNX exporter cannot follow this network" in done.err and "Traceback" not in done.err
    assert not Path("run/onnx/model.onnx").exists()


def test_code_of_ones_own_must_be_allowed(small_run, monkeypatch, command):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    done = command("export", "run", "--threads", 1)
    assert done.code == 1 and "--allow-code" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "model.pt"], "--out model.onnx"),
        (["--out", "run/bundle/model.onnx"], "holds nothing else"),
        (["--to", "coreml"], "'onnx'"),
    ],
)
def test_what_cannot_be_meant(small_run, command, words, said):
    done = command("export", "run", "--allow-code", *words)
    assert done.code == 2 and said in done.err


def test_python_names_a_kind_that_is_not_there(small_run):
    with pytest.raises(UsageError, match="expected onnx"):
        regraft.export(small_run, to="onx")


def test_what_is_not_installed_is_named(small_run, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "onnxscript" else found(name, *more))
    with pytest.raises(MissingExtra, match="onnxscript") as error:
        regraft.export(small_run, threads=1)
    assert error.value.move == "pip install 'regraft[onnx]'"


# ---------------------------------------------------------------- the packaged networks


@pytest.mark.long
@pytest.mark.weights
def test_texts_of_any_length(text_table, command):
    from tokenizers import Tokenizer

    run = regraft.fit(text_table, out="run", threads=1)
    found = regraft.export(run, threads=1)
    assert found["inputs"][0]["shape"] == ["batch", "length"] and found["files"] == ["model.tokenizer.json"]
    described, folder = json.loads(Path("run/onnx/model.json").read_text()), Path("run/onnx")
    how = described["preprocessing"]
    tokenizer = Tokenizer.from_file(str(folder / how["tokenizer"]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(how["max_tokens"])
    texts = ["soup", "the goalkeeper won the cup with butter and bread", " ".join(["the match was a cake"] * 120)]
    ids = [tokenizer.encode(t).ids for t in texts]
    # as one batch, padded to the longest, which no batch of regraft's own is
    longest = max(map(len, ids))
    tokens = np.array([i + [how["pad_id"]] * (longest - len(i)) for i in ids], np.int64)
    mask = np.array([[1] * len(i) + [0] * (longest - len(i)) for i in ids], np.int64)
    chances = softmax(scores_of(described, folder, {"input_ids": tokens, "attention_mask": mask}))
    for own, prediction in zip(chances, run.predict(texts, threads=1), strict=True):
        assert own == pytest.approx(list(prediction.probabilities.values()), abs=1e-4)


@pytest.mark.long
@pytest.mark.weights
@pytest.mark.parametrize("seconds", [0.7, 23.0])
def test_sounds_of_several_windows(tone_folder, make_tone, seconds):
    from regraft.modality import MODALITIES

    run = regraft.fit(tone_folder, out="run", threads=1)
    found = regraft.export(run, threads=1)
    assert [i["shape"] for i in found["inputs"]] == [["batch", 80, "length"], ["batch"]]
    sound = (make_tone(300.0, seconds), 16_000)
    prepared = MODALITIES["audio"].preparer(found["preprocessing"], {})(MODALITIES["audio"].load(sound).decode())
    windows = [{k: np.asarray(v)[None] for k, v in w.items()} for w in prepared.windows]
    assert len(windows) == (3 if seconds > 20 else 1)
    scores = np.concatenate([scores_of(found, Path("run/onnx"), w) for w in windows])
    whole = np.average(scores, axis=0, weights=prepared.weights)
    (prediction,) = run.predict([sound], threads=1)
    assert softmax(whole[None])[0] == pytest.approx(list(prediction.probabilities.values()), abs=1e-4)


@pytest.mark.long
@pytest.mark.weights
def test_an_edited_image_network(image_folder):
    run = regraft.fit(image_folder, remove="last 2 blocks", resize_input=96, out="run", threads=1)
    found = regraft.export(run, threads=1)
    assert found["inputs"] == [{"name": "x", "shape": ["batch", 3, 96, 96], "dtype": "float32"}]
    assert found["checked"]["equal_decisions"] == 18
