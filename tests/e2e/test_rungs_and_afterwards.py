"""A rung of one's own, settings, and what comes after training: what is said is what was done, and what ships is what was judged."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import regraft
from regraft.jobs.validation import Validation
from regraft.pretrained import Access, find_model, source_of
from regraft.strategy.settings import LIMITS
from regraft.training.afterwards import MIXES, Choice

OWN = """
import torch
from torch import nn
INPUT = {"size": 12, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.blocks = nn.Sequential(*[nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()) for _ in range(2)])

    def forward(self, x):
        return self.blocks(self.stem(x)).mean((2, 3))

def tiny():
    torch.manual_seed(0)
    return Tiny(), INPUT
"""

MODEL = ["--model", "tiny_blocks:tiny", "--allow-code", "--threads", 1]


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    (tmp_path / "tiny_blocks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("tiny_blocks", None)


def tensors(run: str) -> dict[str, torch.Tensor]:
    return load_file(Path(run) / "bundle" / "model.safetensors")


def decisions(run: str) -> dict:
    return json.loads((Path(run) / "decisions.json").read_text())


def test_a_rung_in_a_file_and_settings_beside_it(image_folder, command):
    Path("gentle.yaml").write_text("trains: last 1 block, head\nsettings: {lr: 1e-3, epochs: 9, ema: 0.5}\n")
    answer = command(
        "fit", image_folder, *MODEL, "--train", "gentle.yaml", "--set", "epochs=2", "--set", "checkpointing=true", "--out", "run"
    )
    assert answer.code == 0, answer.err
    found = decisions("run")
    assert found["train"] == "gentle" and found["trained"] == ["backbone.blocks.1", "head"]
    settings, said = found["settings"], found["settings_from"]
    assert (settings["lr"], settings["epochs"], settings["ema"], settings["checkpointing"]) == (1e-3, 2, 0.5, True)
    assert said["epochs"] == said["checkpointing"] == "--set" and said["lr"] == "the rung gentle" and said["weight_decay"] == "follows"
    assert found["cut"]["reason"].startswith("blocks are computed a second time")
    # the file is not needed any more
    Path("gentle.yaml").unlink()
    shown = command("show", "run")
    assert "epochs 2 (--set)" in shown.out and "lr 0.001 (the rung gentle)" in shown.out
    # what is not used is named too
    words = set(re.split(r"[\s,]+", shown.out))
    assert set(LIMITS) <= words and set(settings) == set(LIMITS)
    assert json.loads(Path("run/spec.json").read_text())["settings"] == ["epochs=2", "checkpointing=true"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--train", "head", "--set", "lr=1e-3"], "fits a linear output layer at once"),
        (["--train", "top=1", "--set", "lr=0", "--set", "epoch=3"], "2 things in what was asked for are wrong"),
        (["--train", "none.yaml"], "cannot be read"),
        (["--train", "contrastive", "--set", "lr=1e-3"], "has settings of its own"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(image_folder, command, options, says):
    answer = command("fit", image_folder, *MODEL, *options, "--out", "run")
    assert answer.code in (1, 2) and says in answer.err and "Traceback" not in answer.err and not Path("run").exists()


def test_settings_of_images_are_refused_for_texts(command):
    Path("t.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(8)))
    answer = command("fit", "t.csv", "--train", "top=1", "--set", "mixup=0.2")
    assert answer.code == 2 and "mixup mixes images, and these are texts" in answer.err


def test_weights_half_of_the_way_ship_where_they_are_chosen(image_folder, command, monkeypatch):
    seen = []

    def half(self, scores):
        seen.append(scores)
        return Choice(2, {0: 2}, [0.0] * 5, [0.0] * 5), self.linked(scores[2])

    monkeypatch.setattr(Validation, "choose", half)
    monkeypatch.setattr(Validation, "temper", lambda self, outputs: None)
    # whatever is better on so few pictures: what was trained ships
    monkeypatch.setattr(sys.modules["regraft.jobs.fit"], "head_stays", lambda *given, **more: "")
    options = ["--train", "top=1", "--set", "epochs=2", "--set", "lr=0.05", "--test", 0.3]
    assert command("fit", image_folder, *MODEL, *options, "--set", "wise=false", "--out", "end").code == 0
    assert "wise" not in decisions("end") and not seen
    answer = command("fit", image_folder, *MODEL, *options, "--out", "half")
    assert answer.code == 0, answer.err
    assert "50% of the way" in answer.err and decisions("half")["wise"]["mix"] == 0.5
    assert len(seen) == 1 and len(seen[0]) == len(MIXES)
    facts = find_model("tiny_blocks:tiny", Access(allow_code=True))
    came, end, shipped = source_of(facts).weights(facts), tensors("end"), tensors("half")
    for name, tensor in came.items():
        expected = torch.lerp(tensor, end[name], 0.5) if tensor.is_floating_point() else tensor
        torch.testing.assert_close(shipped[name], expected, rtol=1e-5, atol=1e-7)
        assert name.startswith("backbone.blocks.1") or torch.equal(tensor, shipped[name])
    assert not torch.equal(shipped["backbone.blocks.1.0.weight"], end["backbone.blocks.1.0.weight"])
    estimates = [regraft.open_run(run).result["estimate"]["log_loss"] for run in ("end", "half")]
    assert estimates[0] != estimates[1]


def test_a_temperature_is_in_the_weights_and_in_the_figures(image_folder, command, monkeypatch):
    monkeypatch.setattr("regraft.training.afterwards.LEAST_DECIDED", 0)  # few examples, none of them wrong
    plain = Validation.temper
    monkeypatch.setattr(Validation, "temper", lambda self, outputs: replace(plain(self, outputs), kept=False))
    assert command("fit", image_folder, *MODEL, "--test", 0.3, "--out", "plain").code == 0
    monkeypatch.setattr(Validation, "temper", lambda self, outputs: replace(plain(self, outputs), kept=True, temperature=2.0))
    answer = command("fit", image_folder, *MODEL, "--test", 0.3, "--out", "cool")
    assert answer.code == 0 and "divided by 2.00 (temperature scaling)" in answer.err
    before, after = tensors("plain"), tensors("cool")
    for name in before:
        torch.testing.assert_close(after[name], before[name] / 2 if name.startswith("head") else before[name], rtol=1e-6, atol=0)
    results = [regraft.open_run(run).result for run in ("plain", "cool")]
    assert results[0]["test"]["metrics"]["accuracy"] == results[1]["test"]["metrics"]["accuracy"]
    assert results[0]["test"]["metrics"]["log_loss"] != results[1]["test"]["metrics"]["log_loss"]
    assert decisions("cool")["temperature"]["kept"] is True and "temperature" in command("show", "cool").out
