"""regraft.fit(data, model=OBJECT): a network that `load` gave, and modules of one's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import regraft
from regraft.errors import UsageError

OWN = """
import torch
from torch import nn
class Small(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2)
        self.turned = False
    def forward(self, pixels):
        rows = torch.cat([self.stem(pixels).relu().mean((2, 3)), pixels.mean((2, 3))], 1)
        return -rows if self.turned else rows
class Listening(nn.Module):
    preprocessing = {"window_seconds": 2, "spectrogram": "samples", "normalize": False}
    def forward(self, samples, lengths):
        return torch.stack([samples.abs().mean(1), samples.diff(dim=1).abs().mean(1)], 1)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "networks_of_mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    import networks_of_mine

    yield networks_of_mine
    sys.modules.pop("networks_of_mine", None)


def bundle_of(run) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((run.path / "bundle").iterdir())}


@pytest.mark.long
@pytest.mark.weights
def test_a_network_in_the_hand_is_the_recipe_that_made_it(image_folder):
    net = regraft.load("efficientnet-lite0").remove("last 2 blocks").resize_input(size=96)
    by_hand = regraft.fit(image_folder, model=net, out="by-hand", threads=1)
    Path("steps.json").write_text(json.dumps(net.recipe()))
    by_recipe = regraft.fit(image_folder, model="efficientnet-lite0", recipe="steps.json", out="by-recipe", threads=1)
    assert bundle_of(by_hand) == bundle_of(by_recipe)
    assert json.loads(Path("by-hand/decisions.json").read_text())["recipe"] == net.recipe()
    plain = regraft.fit(image_folder, model=regraft.load("efficientnet-lite0"), out="plain", threads=1)
    assert bundle_of(plain) == bundle_of(regraft.fit(image_folder, out="default", threads=1))


@pytest.mark.long
@pytest.mark.weights
def test_weights_that_were_changed_by_hand_are_kept(image_folder, command):
    net = regraft.load("efficientnet-lite0").remove("last 2 blocks")
    with torch.no_grad():
        net.module.get_submodule("conv_stem").weight.mul_(1.5)
    run = regraft.fit(image_folder, model=net, out="run", threads=1)
    assert torch.equal(run.network().get_submodule("conv_stem").weight, net.module.get_submodule("conv_stem").weight)
    untouched = regraft.fit(image_folder, model="efficientnet-lite0", remove="last 2 blocks", out="other", threads=1)
    models = [json.loads(bundle_of(r)["bundle.json"])["model"] for r in (run, untouched)]
    assert models[0]["sha256"] != models[1]["sha256"] and models[0]["trained_on"].endswith("then by your own code")
    # and the store does not take one's features for the other's
    assert run.predict([next(image_folder.rglob("*.png"))], threads=1) != untouched.predict([next(image_folder.rglob("*.png"))], threads=1)


@pytest.mark.weights
def test_a_net_for_another_task_is_refused(text_table):
    with pytest.raises(UsageError, match="is for image, the data is text"):
        regraft.fit(text_table, model=regraft.load("efficientnet-lite0"), threads=1)


@pytest.mark.weights
def test_a_step_with_a_module_cannot_be_written(image_folder):
    net = regraft.load("efficientnet-lite0").insert(nn.Dropout(0.1), after="blocks.2")
    with pytest.raises(UsageError, match="cannot be written down"):
        regraft.fit(image_folder, model=net, threads=1)


def test_a_module_of_ones_own(own, image_folder, command, monkeypatch):
    from regraft.pretrained.architectures import python

    torch.manual_seed(5)
    module = own.Small()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    module.train()
    run = regraft.fit(image_folder, model=module, out="run", threads=1)
    assert module.training and all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    held = json.loads(bundle_of(run)["bundle.json"])
    assert held["architecture"]["function"] == "networks_of_mine:Small" and held["preprocessing"]["size"] == 224
    assert torch.equal(run.network().get_submodule("backbone.stem").weight, module.stem.weight)
    # other weights are other features
    other = regraft.fit(image_folder, model=own.Small(), out="other", threads=1)
    source = next(image_folder.rglob("*.png"))
    assert other.predict([source], threads=1) != run.predict([source], threads=1)
    # elsewhere its code has to be allowed
    monkeypatch.setattr(python, "_allowed", set())
    assert command("predict", "run", source, "--threads", 1).code == 1
    done = command("predict", "run", source, "--allow-code", "--json", "--threads", 1)
    assert done.code == 0 and done.json[0]["label"] == run.predict([source], threads=1)[0].label


def test_its_preprocessing(own, image_folder, tone_folder):
    how = {"size": 32, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    run = regraft.fit(image_folder, model=own.Small(), preprocessing=how, out="small", threads=1)
    assert run.model.manifest["preprocessing"] == how
    heard = regraft.fit(tone_folder, model=own.Listening(), out="heard", threads=1)
    assert heard.result["estimate"]["accuracy"]["value"] == 1.0
    with pytest.raises(UsageError, match="nothing says how inputs of this Small are prepared: window_seconds"):
        regraft.fit(tone_folder, model=own.Small(), threads=1)


def test_a_module_of_ones_own_in_the_hand(own, image_folder):
    net = regraft.load(own.Small())
    assert net.select("stem").paths == ("stem",) and list(net.inputs) == ["pixels"]
    assert regraft.fit(image_folder, model=net, out="run", threads=1).result["model"] == "python:networks_of_mine:Small"
    with pytest.raises(UsageError, match="cannot be made again from a bundle") as caught:
        regraft.fit(image_folder, model=net.insert("Dropout(0.1)", after="stem"), threads=1)
    assert "package.module:function" in caught.value.expected


def test_what_a_bundle_could_not_make_again_is_refused_before_anything_is_computed(own, image_folder, text_table):
    class Local(own.Small):
        pass

    with pytest.raises(UsageError, match=r"the class .*Local of the module cannot be imported"):
        regraft.fit(image_folder, model=Local(), out="run", threads=1)
    with pytest.raises(UsageError, match="does not make the network that was given"):
        regraft.fit(image_folder, model=own.Small(width=5), out="run", threads=1)
    turned = own.Small()
    turned.turned = True
    with pytest.raises(UsageError, match="gives other features"):
        regraft.fit(image_folder, model=turned, out="run", threads=1)
    with pytest.raises(UsageError, match="image or audio, and the task is text"):
        regraft.fit(text_table, model=own.Small(), out="run", threads=1)
    assert not Path("run").exists()


def test_a_function_is_the_way_out_that_is_named(own, tmp_path, image_folder):
    (tmp_path / "made_by_me.py").write_text(
        "from networks_of_mine import Small\nfrom regraft.pretrained.python import USUAL\ndef five():\n    return Small(width=5), USUAL\n"
    )
    run = regraft.fit(image_folder, model="made_by_me:five", allow_code=True, out="run", threads=1)
    assert run.model.manifest["head"]["in"] == 8
    sys.modules.pop("made_by_me", None)


def test_preprocessing_belongs_to_a_module(image_folder):
    with pytest.raises(UsageError, match="preprocessing= is for a torch module of your own"):
        regraft.fit(image_folder, preprocessing={"size": 32}, threads=1)
