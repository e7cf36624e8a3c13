"""The two ends of the ladder from outside: a network as it is, and an encoder that learns from pairs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_deeper_training import MODEL, as_it_came, moved, own_code

import regraft
from regraft.pretrained import find_model, source_of
from regraft.pretrained.operators import declare_missing_operators
from regraft.strategy import contrastive as rules
from regraft.strategy import settings

declare_missing_operators()
transformers = pytest.importorskip("transformers")
__all__ = ["as_it_came", "own_code"]

NAMES = {0: "nothing at all", 1: "Red, crimson", 2: "greens", 3: "blue", 4: "Blues"}


def decided(run: str) -> dict:
    return json.loads((Path(run) / "decisions.json").read_text())


@pytest.fixture
def seeing(image_folder) -> str:
    """A small network with classes of its own, whose output layer knows the colours."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    sizes |= {"image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    network = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, id2label=NAMES))
    network.save_pretrained("made")
    plain = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 16, "width": 16}, "resample": 2}
    Path("made/preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor", **plain}))
    run = regraft.fit(image_folder, model="path:made", out="taught", threads=1)
    taught = load_file("taught/bundle/model.safetensors")
    state = load_file("made/model.safetensors")
    # blue twice, as two classes of half its probability each
    rows, half = [2, 1, 0, 0], torch.tensor([0, 0, np.log(0.5), np.log(0.5)], dtype=torch.float32)
    state["classifier.weight"][1:] = taught["head.weight"][rows]
    state["classifier.bias"][1:] = taught["head.bias"][rows] + half
    state["classifier.bias"][0] = -5
    save_file(state, "made/model.safetensors", {"format": "pt"})
    shutil.rmtree(run.path)
    return "path:made"


def test_old_classes_say_the_labels_by_name(seeing, image_folder, command):
    answer = command("fit", image_folder, "--model", seeing, "--train", "none", "--test", 0.3, "--out", "run", "--threads", 1)
    assert answer.code == 0, answer.err
    assert "blue = blue + Blues; green = greens; red = Red, crimson" in answer.err
    result = json.loads(Path("run/run.json").read_text())
    assert result["train"] == "none" and "better_than_head" not in result
    assert result["output_map"] == decided("run")["output_map"]
    assert result["output_map"]["how"] == "names" and result["output_map"]["unmatched"] == []
    assert result["estimate_how"].startswith("every training example") and result["test"]["n"] > 0
    # nothing was learnt: the tensors are those of the network
    facts = find_model(seeing)
    before, after = source_of(facts).old(facts).build().state_dict(), load_file("run/bundle/model.safetensors")
    assert set(after) == {f"network.{k}" for k in before}
    assert all(torch.equal(after[f"network.{k}"], v) for k, v in before.items())
    # and it says what the network says, of the labels alone
    paths = sorted(image_folder.rglob("*.png"))
    run = regraft.open_run("run")
    for ours, theirs in zip(run.predict(paths, threads=1), regraft.predict(seeing, paths, threads=1), strict=True):
        p = theirs.probabilities
        wanted = {"blue": p["blue"] + p["Blues"], "green": p["greens"], "red": p["Red, crimson"]}
        assert ours.probabilities == pytest.approx({k: v / sum(wanted.values()) for k, v in wanted.items()}, abs=1e-5)
    assert command("evaluate", "run", image_folder, "--threads", 1).code == 0
    assert "its own output layer, classes by name" in command("show", "run").out
    network = run.model.network()
    assert network(x=torch.zeros(2, 3, 16, 16)).shape == (2, 3)


def test_a_label_without_a_class_gets_a_linear_map(seeing, image_folder, command):
    (image_folder / "red").rename(image_folder / "ruby")
    for out in ("a", "b"):
        answer = command("fit", image_folder, "--model", seeing, "--train", "none", "--out", out, "--threads", 1)
        assert answer.code == 0, answer.err
    assert "no class of its own for ruby. A linear map on its 5 outputs is fitted" in answer.err
    found = json.loads(Path("a/run.json").read_text())
    assert found["output_map"]["how"] == "linear" and found["output_map"]["unmatched"] == ["ruby"]
    assert found["estimate"]["accuracy"]["value"] > 0.8
    state = load_file("a/bundle/model.safetensors")
    assert state["head.weight"].shape == (3, 5)
    for name in ("bundle.json", "model.safetensors"):
        assert (Path("a/bundle") / name).read_bytes() == (Path("b/bundle") / name).read_bytes()
    assert "a linear map behind it" in command("show", "a").out
    picture = next(image_folder.rglob("*.png"))
    assert command("predict", "a", picture, "--threads", 1).code == 0


def test_as_it_is_goes_to_onnx(seeing, image_folder, command):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert command("fit", image_folder, "--model", seeing, "--train", "none", "--out", "run", "--threads", 1).code == 0
    answer = command("export", "run", "--to", "onnx", "--out", "m.onnx")
    assert answer.code == 0 and "are decided equally" in answer.err + answer.out, answer.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([*MODEL, "--train", "none"], ["without an output layer", "--train head"]),
        ([*MODEL, "--train", "none", "--remove", "backbone.blocks.2"], ["as it is", "recipe"]),
        ([*MODEL, "--train", "contrastive", "--replace", "head=Sequential(Linear(4), ReLU())"], ["one linear layer", "--train full"]),
    ],
)
def test_what_cannot_be_is_refused_before_work_starts(options, words, image_folder, command):
    answer = command("fit", image_folder, *options, "--out", "run")
    assert answer.code == 2 and all(word in answer.err for word in words), answer.err
    assert not Path("run").exists()


def test_pairs_need_classes(image_folder, command):
    paths = sorted(image_folder.rglob("*.png"))
    Path("n.csv").write_text("path,value\n" + "".join(f"{p},{i / 7}\n" for i, p in enumerate(paths)))
    answer = command("fit", "n.csv", *MODEL, "--target", "number", "--train", "contrastive", "--out", "run")
    assert answer.code == 2 and "the target here is number" in answer.err and not Path("run").exists()


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(rules, "STEPS", (6, 6))


def test_an_encoder_learns_from_pairs_and_ships_with_its_head(image_folder, command, as_it_came, short):
    for out in ("a", "b"):
        answer = command("fit", image_folder, *MODEL, "--train", "contrastive", "--out", out)
        assert answer.code == 0, answer.err
    for name in ("bundle.json", "model.safetensors"):
        assert (Path("a/bundle") / name).read_bytes() == (Path("b/bundle") / name).read_bytes()
    weights = {k for k in as_it_came if "norm.running" not in k and "num_batches" not in k}
    # batch norms keep the statistics they came with
    assert moved("a", as_it_came) == weights
    result, found = json.loads(Path("a/run.json").read_text()), decided("a")
    assert result["train"] == "contrastive" and "accuracy" in result["better_than_head"]
    assert "the head's strength chosen in the other folds" in result["estimate_how"]
    assert found["settings"]["steps"] == 6 and found["folds_trained"] == 5 and len(found["tuned_losses"]) >= 2
    assert not Path("a/material").exists()
    with open("a/out_of_fold.csv") as file:
        assert len(list(csv.DictReader(file))) == result["n"]
    # the bundle says of a training example what the fit's own network said
    run = regraft.open_run("a")
    predicted = run.predict([image_folder], allow_code=True, threads=1)
    assert np.mean([p.label == Path(p.name).parent.name for p in predicted]) > 0.9
    assert command("evaluate", "a", image_folder, "--allow-code", "--threads", 1).code == 0


@pytest.mark.weights
def test_texts_come_together(text_table, command, short, monkeypatch):
    monkeypatch.setattr(settings, "WHOLE_SECONDS", 0.0)
    answer = command("fit", text_table, "--train", "contrastive", "--threads", 1, "--out", "run")
    assert answer.code == 0, answer.err
    assert json.loads(Path("run/run.json").read_text())["estimate_how"].startswith("1 of ")
    (found,) = regraft.open_run("run").predict("the soup was cold", threads=1)
    assert found.label == "food"
