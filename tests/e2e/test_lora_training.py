"""Adapters in a fit: what trains, what ships, what is stored, what is told."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_deeper_training import MODEL, as_it_came, moved, own_code

import regraft
from regraft.jobs import deeper
from regraft.pretrained.operators import declare_missing_operators

declare_missing_operators()
pytest.importorskip("peft")
__all__ = ["as_it_came", "own_code"]

POINTS = {f"backbone.blocks.{i}.conv.weight" for i in range(3)}
"""The weights that adapters in the blocks change."""


@pytest.fixture
def recipe() -> str:
    Path("r.yaml").write_text("- lora: {path: blocks, rank: 2}\n")
    return "r.yaml"


def decided(run: str) -> dict:
    return json.loads((Path(run) / "decisions.json").read_text())


def test_adapters_and_the_head_train_and_end_in_the_weights(image_folder, command, as_it_came, recipe):
    answer = command("fit", image_folder, *MODEL, "--recipe", recipe, "--out", "run")
    assert answer.code == 0, answer.err
    assert "trains adapters at 3 layers, head: 507 of 2,531 parameters" in answer.err
    assert "+ lora of rank 2 at 3 layers" in answer.err
    assert moved("run", as_it_came) == POINTS
    assert set(load_file("run/bundle/model.safetensors")) == {*as_it_came, "head.weight", "head.bias"}
    manifest = json.loads(Path("run/bundle/bundle.json").read_text())
    assert "recipe" not in manifest["architecture"] and manifest["train"] == "lora"
    steps = [{"op": "lora", "path": "blocks", "rank": 2}]
    assert decided("run")["recipe"] == steps and decided("run")["train"] == "lora"
    result = json.loads(Path("run/run.json").read_text())
    assert result["recipe"] == steps and result["train"] == "lora" and "accuracy" in result["better_than_head"]
    told = command("show", "run").out
    assert "lora blocks, 2" in told and "lora: adapters, now part of the pretrained weights, with a new output layer" in told


def test_what_ships_is_what_was_trained_and_needs_no_peft(image_folder, monkeypatch):
    unmerged = []
    plain = deeper.Trained.tensors
    monkeypatch.setattr(
        deeper.Trained, "tensors", lambda self: (unmerged.append(copy.deepcopy(self.deeper.whole.net.module)), plain(self))[1]
    )
    net = regraft.load("small_blocks:small", allow_code=True).lora("blocks", rank=2)
    run = regraft.fit(image_folder, model=net, allow_code=True, threads=1, test=0.3, out="run")
    (trained,) = unmerged
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    monkeypatch.setitem(sys.modules, "peft", None)
    shipped = regraft.open_run("run").model
    shipped.allow_code()
    with torch.no_grad():
        expected = trained.eval()(x=x)
        found = shipped.network()(x=x)
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
    judged = run.evaluate(image_folder, allow_code=True, threads=1)
    assert judged["n"] == len(list(image_folder.rglob("*.png")))


def test_the_features_are_those_of_the_plain_network(image_folder, command, recipe):
    assert command("fit", image_folder, *MODEL, "--out", "plain").code == 0
    answer = command("fit", image_folder, *MODEL, "--recipe", recipe, "--out", "run")
    assert answer.code == 0 and "18 already there" in answer.err, answer.err
    assert decided("run")["features"] == decided("plain")["features"]


def test_the_same_command_gives_the_same_bytes_and_options_the_recipes(image_folder, command, recipe):
    assert command("fit", image_folder, *MODEL, "--recipe", recipe, "--out", "a").code == 0
    assert command("fit", image_folder, *MODEL, "--lora", "blocks", "--rank", 2, "--out", "b").code == 0
    for name in ("bundle.json", "model.safetensors"):
        assert (Path("a/bundle") / name).read_bytes() == (Path("b/bundle") / name).read_bytes()


@pytest.mark.long
def test_with_other_changes_and_more_that_trains(image_folder, command, as_it_came):
    options = ["--remove", "blocks.1", "--replace", "head=Sequential(Linear(6), ReLU())", "--lora", "blocks.0", "--rank", 2]
    answer = command("fit", image_folder, *MODEL, *[o.replace("blocks", "backbone.blocks") if isinstance(o, str) else o for o in options])
    assert answer.code == 0, answer.err
    (run,) = Path("runs").iterdir()
    after = load_file(run / "bundle" / "model.safetensors")
    assert {n for n in as_it_came if n in after and not torch.equal(after[n], as_it_came[n])} == {"backbone.blocks.0.conv.weight"}
    assert [s["op"] for s in json.loads((run / "bundle/bundle.json").read_text())["architecture"]["recipe"]] == [
        "remove",
        "replace",
        "append",
    ]
    assert command("predict", run, next(image_folder.rglob("*.png")), "--allow-code", "--threads", 1).code == 0
    answer = command("fit", image_folder, *MODEL, "--lora", "backbone.blocks.0", "--train", "norm", "--out", "norms")
    assert answer.code == 0, answer.err
    norms = {f"backbone.blocks.{i}.norm.{n}" for i in range(3) for n in ("weight", "bias")}
    assert moved("norms", as_it_came) == {*norms, "backbone.blocks.0.conv.weight"}
    Path("frozen.yaml").write_text("- lora: {path: backbone.blocks.0, rank: 2}\n- train: backbone.blocks.2\n")
    answer = command("fit", image_folder, *MODEL, "--recipe", "frozen.yaml", "--out", "recipe")
    assert answer.code == 0, answer.err
    own = {f"backbone.blocks.2.{n}" for n in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")}
    assert moved("recipe", as_it_came) == {*own, "backbone.blocks.0.conv.weight"}


def test_adapters_that_were_trained_by_hand_are_where_a_fit_starts(image_folder):
    net = regraft.load("small_blocks:small", allow_code=True).lora("blocks", rank=2)
    with torch.no_grad():
        for name, parameter in net.module.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    merged = net.merged().state_dict()
    run = regraft.fit(image_folder, model=net, train="backbone.stem", allow_code=True, threads=1, out="run")
    assert "then by your own code" in run.model.manifest["model"]["trained_on"]
    assert torch.equal(load_file("run/bundle/model.safetensors")["backbone.blocks.0.conv.bias"], merged["backbone.blocks.0.conv.bias"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--lora", "backbone.blocks.0.norm"], ["holds no layer that can have an adapter", "Linear, Conv1d, Conv2d, Embedding"]),
        (["--lora", "backbone.blocks.7"], ["'backbone.blocks.7' chooses no layer"]),
        (["--lora", "blocks", "--rank", 0], ["rank is 0"]),
        (["--rank", 4], ["--rank 4"]),
    ],
)
def test_what_cannot_be_meant_is_refused_before_work_starts(options, words, image_folder, command):
    answer = command("fit", image_folder, *MODEL, *options, "--out", "run")
    assert answer.code == 2 and all(word in answer.err for word in words), answer.err
    assert not Path("run").exists()


def test_show_of_a_network_says_what_would_train(command):
    shown = command("show", "efficientnet-lite0", "--depth", 1, "--lora", "last 1 block", "--rank", 4)
    assert shown.code == 0, shown.err
    assert "+ lora of rank 4 at 3 layers" in shown.out


def test_a_recipe_that_says_what_trains_names_it_in_the_bundle(image_folder, command):
    """A bundle whose layers were trained must not be taken for one with the features of the network as it came."""
    Path("r.yaml").write_text("- train: last 1 block\n")
    assert command("fit", image_folder, *MODEL, "--recipe", "r.yaml", "--out", "run").code == 0
    assert json.loads(Path("run/bundle/bundle.json").read_text())["train"] == "backbone.blocks.2"
