"""Training below the head from outside: what moves, what does not, what ships, what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import regraft
from regraft.errors import ModelError, RunError, UsageError
from regraft.features.at_cut import AtCut
from regraft.features.engines import onnx
from regraft.jobs.work import plan_deeper
from regraft.modality import MODALITIES
from regraft.pretrained import Access, find_model, source_of
from regraft.strategy import settings as rules
from regraft.targets.classes import Classes

OWN = """
import torch
from torch import nn
INPUT = {"size": 16, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.2)

    def forward(self, x):
        return x + self.drop(self.norm(self.conv(x)).relu())

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.blocks = nn.Sequential(*[Block(8) for _ in range(3)])

    def forward(self, x):
        return self.blocks(self.stem(x)).mean((2, 3))

def small():
    torch.manual_seed(0)
    return Small(), INPUT
"""

MODEL = ["--model", "small_blocks:small", "--allow-code", "--threads", 1]


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "small_blocks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("small_blocks", None)


@pytest.fixture
def as_it_came():
    facts = find_model("small_blocks:small", Access(allow_code=True))
    return source_of(facts).weights(facts)


def tensors(run: str) -> dict[str, torch.Tensor]:
    return load_file(Path(run) / "bundle" / "model.safetensors")


def moved(run: str, before: dict[str, torch.Tensor]) -> set[str]:
    """The names of tensors below the head that differ."""
    after = tensors(run)
    assert set(before) <= set(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_the_last_block_trains_and_nothing_else_moves(image_folder, command, as_it_came):
    answer = command("fit", image_folder, *MODEL, "--train", "last 1 block, head", "--out", "run")
    assert answer.code == 0, answer.err
    assert "trains backbone.blocks.2, head" in answer.err
    # batch norms keep the statistics they came with in a set this small
    assert moved("run", as_it_came) == {f"backbone.blocks.2.{n}" for n in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")}
    result = json.loads(Path("run/run.json").read_text())
    assert result["train"] == "last 1 block, head" and "accuracy" in result["better_than_head"]
    decisions = json.loads(Path("run/decisions.json").read_text())
    assert decisions["trained"] == ["backbone.blocks.2", "head"] and decisions["settings"]["epochs"] > 1 and decisions["folds_trained"] >= 1
    assert decisions["cut"]["after"] == "backbone.blocks.1" and decisions["cut"]["saved"] > 0.5 and not decisions["cut"]["reason"]
    assert not Path("run/material").exists()


def test_what_ships_is_what_was_judged(image_folder, command):
    assert command("fit", image_folder, *MODEL, "--train", "top=2", "--test", 0.3, "--out", "run").code == 0
    run = regraft.open_run("run")
    judged = run.evaluate(image_folder, allow_code=True, threads=1)
    n = len(list(image_folder.rglob("*.png")))
    predicted = run.predict([image_folder], allow_code=True, threads=1)
    right = np.mean([p.label == Path(p.name).parent.name for p in predicted])
    assert judged["n"] == n and judged["metrics"]["accuracy"]["value"] == pytest.approx(right)
    with open("run/out_of_fold.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == run.result["n"]


def test_three_runs_with_the_same_decisions_give_the_same_bytes(image_folder, command, tmp_path):
    """With dropout, views and weights between start and end; from another place, without the store, whatever chance was drawn before."""
    options = ["--train", "top=2", "--views", 3, "--augment", "crop,flip", "--set", "epochs=3", "--test", 0.2]
    moved_data = Path(shutil.copytree(image_folder, tmp_path / "elsewhere" / "photos"))
    more = {"a": (image_folder, []), "b": (moved_data, ["--no-store"]), "c": (image_folder, ["--replay", "a"])}
    for number, (out, (data, extra)) in enumerate(more.items()):
        torch.manual_seed(number)
        answer = command("fit", data, *MODEL, *options, *extra, "--out", out)
        assert answer.code == 0, answer.err
        assert "not as in the run that is replayed" not in answer.err
    files = [{p.name: p.read_bytes() for p in (Path(out) / "bundle").iterdir()} for out in more]
    decisions = [json.loads((Path(out) / "decisions.json").read_text()) | {"precision_timed": 0} for out in more]
    assert files[0] == files[1] == files[2] and len(files[0]) >= 2
    assert decisions[0] == decisions[1] == decisions[2]
    assert decisions[0]["wise"]["mix"] in decisions[0]["wise"]["mixes"] and decisions[0]["views"]["count"] == 3
    assert len({(Path(out) / "out_of_fold.npy").read_bytes() for out in more}) == 1


def test_what_the_cut_gave_is_there_the_next_time_and_changes_no_bit(image_folder, command):
    fits = [
        command("fit", image_folder, *MODEL, "--train", "top", "--out", out, *more)
        for out, more in (("a", ()), ("b", ()), ("c", ["--no-store"]))
    ]
    assert all(answer.code == 0 for answer in fits), fits[-1].err
    n = json.loads(Path("a/run.json").read_text())["n"]
    assert f"frozen part: {n} windows," in fits[0].err and f"0 examples computed, {n} already there" in fits[1].err
    assert f"frozen part: {n} windows," in fits[2].err, "--no-store computes them anew"
    one = Path("a/bundle/model.safetensors").read_bytes()
    assert all((Path(out) / "bundle/model.safetensors").read_bytes() == one for out in "bc")
    assert json.loads(Path("a/decisions.json").read_text())["kept"] == {"precision": "float32"}
    (space,) = [s for s in command("cache", "--json").json["spaces"] if s["maker"]["kind"] == "cut"]
    assert space["rows"] == n and space["maker"]["cut"]["after"] == "backbone.blocks.1"
    said = command("cache", "--explain", space["key"][:6]).out
    assert "cut after backbone.blocks.1" in said and "8x7x7 float32" in said and space["maker"]["cut"]["weights"][:12] in said


def test_half_precision_and_the_bounds_of_the_store_are_said(image_folder, command, monkeypatch):
    usage = shutil.disk_usage
    # 18 windows of 1,568 bytes: all may take half of what is free
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=40_000))
    monkeypatch.setenv("REGRAFT_CACHE_SIZE", "5k")
    monkeypatch.setattr(rules, "WHOLE_SECONDS", 0.0)
    answer = command("fit", image_folder, *MODEL, "--train", "top", "--out", "half")
    assert answer.code == 0, answer.err
    assert "is kept in float16" in answer.err and "kept for this run only" in answer.err
    kept = json.loads(Path("half/decisions.json").read_text())["kept"]
    assert kept["precision"] == "float16" and 0 < kept["largest"] < 4000 and "free" in kept["reason"]
    assert not [s for s in command("cache", "--json").json["spaces"] if s["maker"]["kind"] == "cut"]
    assert not Path("half/material").exists()


def test_norms_train_alone(image_folder, command, as_it_came):
    assert command("fit", image_folder, *MODEL, "--train", "norm", "--out", "run").code == 0
    assert moved("run", as_it_came) == {f"backbone.blocks.{i}.norm.{n}" for i in range(3) for n in ("weight", "bias")}


@pytest.mark.parametrize("layer", ["Sequential(Linear(12), ReLU(), Dropout(0.2))", "Sequential(Linear(12), ReLU(), Linear(3))"])
def test_a_head_of_several_layers_on_frozen_features(layer, image_folder, command, as_it_came):
    answer = command("fit", image_folder, *MODEL, "--replace", f"head={layer}", "--out", "run")
    assert answer.code == 0, answer.err
    assert not moved("run", as_it_came)
    shapes = [tuple(v.shape) for k, v in sorted(tensors("run").items()) if k.startswith("head") and v.ndim == 2]
    assert sorted(shapes) == [(3, 12), (12, 8)]
    run = regraft.open_run("run")
    found = run.predict([image_folder], allow_code=True, threads=1)
    assert np.mean([p.label == Path(p.name).parent.name for p in found]) > 0.6
    assert command("evaluate", "run", image_folder, "--allow-code", "--threads", 1).code == 0
    assert "head: a new head of several layers, 8 features to 3 outputs" in command("show", "run").out


def test_a_head_and_a_block_together_and_a_new_layer_that_trains(image_folder, command, as_it_came):
    options = [
        "--replace",
        "head=Sequential(Linear(6), ReLU())",
        "--insert",
        "backbone.blocks.1=Conv2d(8, 1)",
        "--train",
        "last 1 block, head",
    ]
    answer = command("fit", image_folder, *MODEL, *options, "--out", "run")
    assert answer.code == 0, answer.err
    assert "stay random" not in answer.err
    decisions = json.loads(Path("run/decisions.json").read_text())
    assert any(path.startswith("backbone.blocks.1_after") for path in decisions["trained"]), decisions["trained"]
    assert command("predict", "run", next(image_folder.rglob("*.png")), "--allow-code", "--threads", 1).code == 0


@pytest.mark.parametrize(
    ("step", "trained"), [("train: last 1 block", {"backbone.blocks.2"}), ("freeze: stem, backbone.blocks.0-1", {"backbone.blocks.2"})]
)
def test_a_recipe_says_what_trains(step, trained, image_folder, command, as_it_came):
    Path("r.yaml").write_text(f"- {step.split(':')[0]}: '{step.split(': ')[1]}'\n")
    assert command("fit", image_folder, *MODEL, "--recipe", "r.yaml", "--out", "run").code == 0
    assert {name.rpartition(".conv")[0] or name.rpartition(".norm")[0] for name in moved("run", as_it_came)} == trained


def test_a_number_and_several_labels(image_folder, command):
    value = {"blue": 10.0, "green": 20.0, "red": 30.0}
    paths = sorted(image_folder.rglob("*.png"))
    Path("n.csv").write_text("path,value\n" + "".join(f"{p},{value[p.parent.name] + i % 3 / 10}\n" for i, p in enumerate(paths)))
    answer = command("fit", "n.csv", *MODEL, "--target", "number", "--train", "top", "--out", "number")
    assert answer.code == 0, answer.err
    result = json.loads(Path("number/run.json").read_text())
    assert result["target"] == "number" and result["estimate"]["mae"]["value"] < 8
    found = regraft.open_run("number").predict(paths, allow_code=True, threads=1)
    assert 5 < np.mean([p.value for p in found]) < 35
    Path("m.csv").write_text("path,label\n" + "".join(f"{p},{p.parent.name};{'warm' if 'red' in str(p) else 'cold'}\n" for p in paths))
    answer = command("fit", "m.csv", *MODEL, "--train", "top", "--target", "multilabel", "--separator", ";", "--out", "labels")
    assert answer.code == 0, answer.err
    assert json.loads(Path("labels/run.json").read_text())["better_than_head"]


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("backbone.blocks.7", ["backbone.blocks.7", "chooses no layer"]),
        ("top=0", ["top=0"]),
        ("top=9", ["9 blocks"]),
        ("", ["--train is empty"]),
        ("heads", ["heads"]),
    ],
)
def test_what_cannot_train_is_refused_before_work_starts(train, words, image_folder, command):
    answer = command("fit", image_folder, *MODEL, "--train", train, "--out", "run")
    assert answer.code == 2 and all(word in answer.err for word in words), answer.err
    assert not Path("run").exists()


def test_a_layer_that_was_removed_cannot_train(image_folder, command):
    answer = command("fit", image_folder, *MODEL, "--remove", "backbone.blocks.2", "--train", "backbone.blocks.2", "--out", "run")
    assert answer.code == 2 and "blocks.2" in answer.err, answer.err


def test_a_loss_that_is_no_number_is_tried_slower_and_then_said(image_folder, monkeypatch):
    monkeypatch.setattr(rules, "rates_for", lambda parameters, **facts: (1e30, 1.0))
    with pytest.raises(RunError, match="no finite number"):
        regraft.fit(image_folder, model="small_blocks:small", allow_code=True, train="full", out="run", threads=1)


def test_one_fold_is_held_out_where_all_would_take_too_long(image_folder, command, monkeypatch):
    monkeypatch.setattr(rules, "WHOLE_SECONDS", 0.0)
    answer = command("fit", image_folder, *MODEL, "--train", "top", "--out", "run")
    assert answer.code == 0, answer.err
    result = json.loads(Path("run/run.json").read_text())
    assert json.loads(Path("run/decisions.json").read_text())["folds_trained"] == 1
    assert result["estimate_how"].startswith("1 of ")
    with open("run/out_of_fold.csv") as file:
        held = [row for row in csv.DictReader(file) if row["fold"] != "-1"]
    assert 0 < len(held) < result["n"] and result["judged"] == len(held)
    assert f"held out, {len(held)} of {result['n']} images" in answer.out


def test_only_a_linear_head_needs_nothing_deeper():
    facts = find_model("small_blocks:small", Access(allow_code=True))
    planned = lambda train: plan_deeper(facts, None, train, {}, Classes(["a", "b", "c"]), MODALITIES["image"])
    assert planned("head") is None
    assert planned("top") is not None
    # naming the head in other words is the same rung
    assert planned("head, head") is None


def test_a_head_that_ends_in_another_size_is_refused_and_its_advice_works(image_folder, command):
    for layer in ("Linear(5)", "Sequential(Linear(12), ReLU(), Linear(5))"):
        answer = command("fit", image_folder, *MODEL, "--replace", f"head={layer}", "--out", "run")
        assert answer.code == 2 and "Linear(5)" in answer.err and "Linear(3)" in answer.err, answer.err
        assert not Path("run").exists()
    assert command("fit", image_folder, *MODEL, "--replace", "head=Linear(3)", "--out", "run").code == 0


def test_a_network_in_the_hand_with_a_new_head_and_what_trains(image_folder, as_it_came):
    net = regraft.load("small_blocks:small", allow_code=True).remove("backbone.blocks.1").replace("head", regraft.head(3, 6, dropout=0.1))
    net = net.freeze("*").unfreeze("backbone.blocks.2", "head")
    run = regraft.fit(image_folder, model=net, allow_code=True, threads=1, out="run")
    after = tensors("run")
    kept = {k: v for k, v in as_it_came.items() if "blocks.1" not in k}
    assert {k for k in kept if not torch.equal(kept[k], after[k])} == {
        f"backbone.blocks.2.{n}" for n in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
    }
    assert run.predict([next(image_folder.rglob("*.png"))], allow_code=True, threads=1)[0].label in {"blue", "green", "red"}


@pytest.mark.parametrize(
    ("sizes", "options", "written"),
    [((7,), {}, "Linear(7)"), ((7, 9), {"dropout": 0.5}, "Sequential(Linear(9), ReLU(), Dropout(0.5), Linear(7))")],
)
def test_heads_in_writing(sizes, options, written):
    assert regraft.head(*sizes, **options) == written
    for wrong in ((0,), (7, -1), (7, 2.5)):
        with pytest.raises(UsageError, match="no head has"):
            regraft.head(*wrong)


@pytest.mark.long
@pytest.mark.weights
def test_texts_of_several_lengths(text_table, command):
    answer = command("fit", text_table, "--train", "last 1 block, head", "--threads", 1, "--out", "run")
    assert answer.code == 0, answer.err
    (found,) = regraft.open_run("run").predict("the soup was cold", threads=1)
    assert found.label == "food"


@pytest.mark.skipif(bool(onnx.FLOAT32.missing("cpu")), reason="pip install 'regraft[fast]'")
def test_the_frozen_part_runs_in_the_engine_of_the_features_or_in_torch(image_folder, command, monkeypatch):
    options = ["fit", image_folder, *MODEL, "--train", "last 1 block, head", "--engine", "onnx"]
    answer = command(*options, "--out", "one")
    assert answer.code == 0, answer.err
    decisions = json.loads(Path("one/decisions.json").read_text())
    assert decisions["cut"]["after"] and decisions["frozen_part"] == {"engine": "onnx fp32"}

    def refuses(self, inputs):
        raise ModelError("the engine onnx fp32 cannot take the frozen part (it does not like it)")

    monkeypatch.setattr(AtCut, "_make", refuses)
    answer = command(*options, "--no-store", "--out", "two")
    assert answer.code == 0, answer.err
    assert "(it does not like it): torch runs the frozen part" in answer.err
    assert json.loads(Path("two/decisions.json").read_text())["frozen_part"]["engine"] == "torch fp32"
    # rounding at the cut, after all steps
    one, two = tensors("one"), tensors("two")
    assert one.keys() == two.keys() and all(torch.allclose(one[n], two[n], atol=1e-3) for n in one)
