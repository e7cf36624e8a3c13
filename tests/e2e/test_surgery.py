"""Surgery from outside: a fit of a changed network, recipes in files, what is refused, and every network shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import regraft
from regraft.errors import ModelError
from regraft.jobs.network import read_recipe, show_model
from regraft.modality import MODALITIES
from regraft.pretrained import find_model, source_of
from regraft.pretrained.architectures import build
from regraft.pretrained.packaged import NETWORKS

pytestmark = pytest.mark.weights

LITE = "efficientnet-lite0"

SHORT = """
- remove: last 2 blocks
- insert: {layer: "Conv2d(40, 1)", after: blocks.2}
- resize_input: {size: 96}
"""
"""The same as the options of `short_fit`."""


@pytest.fixture
def photos(tmp_path: Path, make_images: Callable[..., Path]) -> Path:
    """Four pictures each of two classes."""
    return make_images(tmp_path / "photos", classes=("blue", "red"), count=4)


# ---------------------------------------------------------------- the same by hand


def plain() -> Any:
    """The pretrained network without an output layer."""
    facts = find_model(LITE)
    network = build(facts.architecture, 0)
    network.load_state_dict(source_of(facts).weights(facts))
    return network.eval()


def drawn(seed: int, *size: int) -> nn.Module:
    """A new convolution with the weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Conv2d(*size)


def pixels(folder: Path, size: int) -> Tensor:
    """All pictures in a folder, sorted by name, as the network takes them."""
    modality, settings = MODALITIES["image"], {**find_model(LITE).preprocessing, "size": size}
    prepare = modality.preparer(settings, {})
    windows = [prepare(modality.load(path).decode()).windows[0] for path in sorted(folder.rglob("*.png"))]
    return modality.collate(windows, settings)["x"]


def probabilities(run: regraft.Run, folder: Path) -> np.ndarray:
    """What a run says of all pictures in a folder, sorted by name."""
    found = sorted(run.predict([folder]), key=lambda p: p.name)
    return np.array([list(p.probabilities.values()) for p in found])


def check_by_hand(run: regraft.Run, body: nn.Module, x: Tensor, folder: Path) -> np.ndarray:
    """The bundle is `body` with the fitted output layer, and predicts as that does; what it says."""
    network: Any = run.network()
    with torch.no_grad():
        features = body(x)
        scores = features @ network.classifier.weight.T + network.classifier.bias
        assert features.shape[1] == run.model.manifest["head"]["in"] == network.classifier.in_features
        assert torch.allclose(network(x), scores, atol=1e-4)
    said = probabilities(run, folder)
    assert np.allclose(said, scores.softmax(1).numpy(), atol=1e-3)
    return said


def bits(network: nn.Module) -> dict[str, bytes]:
    """Every tensor of a network, as bytes."""
    return {name: value.numpy().tobytes() for name, value in network.state_dict().items()}


# ---------------------------------------------------------------- fits


@pytest.mark.long
def test_a_fit_of_a_changed_network_is_what_it_would_be_by_hand(photos, tmp_path):
    said: list[str] = []
    run = regraft.fit(
        photos,
        remove="last 2 blocks",
        insert="blocks.2=Conv2d(40, 1)",
        resize_input=96,
        out=tmp_path / "a",
        on_event=lambda e: said.append(str(e)),
    )
    assert any("1,640 new weights stay random" in line for line in said)
    assert run.model.manifest["preprocessing"]["size"] == 96

    body = plain()
    body.blocks[2] = nn.Sequential(body.blocks[2], drawn(1, 40, 40, 1))
    body.blocks[5] = body.blocks[5][:3]
    body.blocks = body.blocks[:6]
    body.conv_head, body.bn2 = nn.Identity(), nn.Identity()
    said_of = check_by_hand(run, body, pixels(photos, 96), photos)

    # evaluate and predict agree, from stored features and from new ones
    right = np.mean(said_of.argmax(1) == np.repeat([0, 1], 4))
    stored, anew = run.evaluate(photos), run.evaluate(photos, store=False)
    assert stored["metrics"] == anew["metrics"]
    assert stored["metrics"]["accuracy"]["value"] == pytest.approx(right)

    # a bundle by itself is the same network
    alone = regraft.open_run(shutil.copytree(tmp_path / "a/bundle", tmp_path / "elsewhere"))
    assert bits(alone.network()) == bits(run.network())
    assert (probabilities(alone, photos) == said_of).all()

    # the same recipe from a file: the same decisions, and nothing is computed again
    (tmp_path / "short.yaml").write_text(SHORT)
    said.clear()
    again = regraft.fit(photos, recipe=tmp_path / "short.yaml", out=tmp_path / "b", on_event=lambda e: said.append(str(e)))
    assert bits(again.network()) == bits(run.network())
    note = [line for line in said if line.startswith("Done(stage='features'")]
    assert len(note) == 1 and "0 computed, 8 already there" in note[0], note


def test_a_fit_with_another_layer_is_what_it_would_be_by_hand(photos, tmp_path, command):
    done = command("fit", photos, "--replace", "blocks.6=Conv2d(320, 1)", "--out", tmp_path / "a", "--json")
    assert done.code == 0, done.err
    run, body = regraft.open_run(tmp_path / "a"), plain()
    body.blocks[6] = drawn(0, 192, 320, 1)
    check_by_hand(run, body, pixels(photos, 224), photos)
    shown = command("show", tmp_path / "a")
    assert "changed     replace blocks.6, Conv2d(320, 1)" in shown.out
    evaluated = command("evaluate", tmp_path / "a", photos, "--json")
    assert evaluated.code == 0 and evaluated.json["n"] == 8


def test_a_text_network_cut_short(text_table, tmp_path, command):
    done = command("fit", text_table, "--remove", "last 2 blocks", "--out", tmp_path / "a", "--json")
    assert done.code == 0, done.err
    network = regraft.open_run(tmp_path / "a").network()
    assert not [name for name, _ in network.named_parameters() if ".layer.4." in name or ".layer.5." in name]
    predicted = command("predict", tmp_path / "a", text_table, "--json")
    assert predicted.code == 0, predicted.err


def test_a_bundle_whose_recipe_does_not_fit_is_refused():
    from regraft.anatomy import build_network

    facts = find_model(LITE)
    shapes = {"x": {"shape": [3, 224, 224], "dtype": "float32"}}
    for recipe in ([{"op": "remove", "path": "blocks.3"}], [{"op": "nothing"}], ["remove"], 5, "remove", {"op": "remove"}):
        with pytest.raises(ModelError):
            build_network({**facts.architecture, "recipe": recipe, "inputs": shapes}, 2)
    good = [{"op": "remove", "path": "last 2 blocks"}]
    for wrong in (None, [], {"x": 3}, {"x": {"shape": [3, -1, 2], "dtype": "float32"}}, {"x": {"shape": [1 << 30], "dtype": "float32"}}):
        with pytest.raises(ModelError):
            build_network({**facts.architecture, "recipe": good, "inputs": wrong}, 2)
    with pytest.raises(ModelError):
        build_network({**facts.architecture, "recipe": good, "inputs": {"x": {"shape": [3, 224, 224], "dtype": ["float32"]}}}, 2)


# ---------------------------------------------------------------- refusals


def refused(answer: Any, *words: str) -> None:
    """A plain message, and no traceback."""
    assert answer.code in (1, 2), answer.out + answer.err
    assert "Traceback" not in answer.err + answer.out and answer.err.startswith("error: "), answer.err
    assert all(word in answer.err for word in words), answer.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--replace", "head=Linear("], ["Linear("]),
        (["--train", "blocks.9"], ["blocks.9", "chooses no layer"]),
        (["--remove", "blocks.3"], ["cannot take", "blocks.4.0.conv_pw"]),
        (["--remove", "blocks.77"], ["chooses no layer"]),
        (["--replace", "blocks.6"], ["PATH=LAYER"]),
        (["--insert", "Dropout(0.5)"], ["PATH=LAYER"]),
        (["--resize-input", "0"], ["pixels"]),
        (["--recipe", "none.yaml"], ["none.yaml"]),
        (["--train", "last 99 blocks"], ["99 blocks"]),
    ],
)
def test_what_a_fit_refuses(options, words, photos, command):
    refused(command("fit", photos, *options, "--out", "a"), *words)
    assert not Path("a").exists()


RECIPES = {
    "not YAML": b"- remove: [blocks",
    "a word": b"remove",
    "a map": b"remove: blocks.6",
    "nothing": b"",
    "a list of lists": b"- [remove, blocks.6]",
    "an alias": b"- &a {remove: blocks.6}\n- *a",
    "a tag": b"- !!python/object/apply:os.system [echo]",
    "a tag as a path": b"- remove: !!python/name:os.system",
    "an unknown tag": b"- remove: !mine x",
    "a merge": b"- {<<: {op: remove}, path: 3}",
    "an unknown step": b"- {op: shrink, path: blocks.6}",
    "an unknown name": b"- shrink: blocks.6",
    "two names": b"- {remove: blocks.6, replace: blocks.5}",
    "another step inside": b"- remove: {op: reinit, path: blocks.6}",
    "no path": b"- {op: remove}",
    "an empty path": b"- remove:",
    "a number for a path": b"- {op: remove, path: 3}",
    "a list for a path": b"- remove: [blocks.6]",
    "a date for a path": b"- {op: remove, path: 2020-01-01}",
    "a number for a layer": b"- replace: {path: blocks.6, layer: 3}",
    "a text for a size": b"- resize_input: {size: big}",
    "truth for a size": b"- resize_input: {size: true}",
    "infinity for a size": b"- resize_input: {size: .inf}",
    "a foreign argument": b"- remove: {path: blocks.6, how: fast}",
    "a number as an argument": b"- {op: remove, path: blocks.6, 1: 2}",
    "bytes for a layer": b"- replace: {path: blocks.6, layer: !!binary aGVsbG8=}",
    "code for a layer": b"- replace: {path: blocks.6, layer: \"__import__('os').system('echo')\"}",
    "a NUL": b"- remove: blocks\x00.6",
    "an escaped NUL": b'- remove: "blocks\\0.6"',
    "not UTF-8": b"- remove: caf\xe9",
    "2 MB": b"# " + b"x" * (2 << 20) + b"\n- remove: blocks.6",
    "very deep": b"[" * 100_000,
    "an unhashable key": b"- ? [a]\n  : b",
    "two documents": b"- remove: blocks.6\n---\n- remove: blocks.5",
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_is_none_is_refused(name, command):
    Path("r.yaml").write_bytes(RECIPES[name])
    refused(command("show", LITE, "--recipe", "r.yaml"))


@pytest.mark.parametrize(
    "text", [b"{", b'{"op": "remove"}', b"[[]]", b"[1]", b"null", b'[{"op": 3}]', b"[" * 100_000, b"\xff", b"- remove: x"]
)
def test_a_recipe_in_json_that_is_none_is_refused(text, command):
    Path("r.json").write_bytes(text)
    refused(command("show", LITE, "--recipe", "r.json"))


def test_a_folder_is_no_recipe(command):
    Path("r.yaml").mkdir()
    refused(command("show", LITE, "--recipe", "r.yaml"), "r.yaml")
    with pytest.raises(regraft.RegraftError):
        read_recipe(Path("a\0b"))


def test_the_three_ways_to_write_a_step():
    Path("r.yaml").write_text("- remove: blocks.6\n- remove: {path: blocks.6}\n- {op: remove, path: blocks.6}\n- append: Linear(3)\n")
    steps = read_recipe(Path("r.yaml"))
    assert steps == [{"op": "remove", "path": "blocks.6"}] * 3 + [{"op": "append", "layer": "Linear(3)"}]


# ---------------------------------------------------------------- show


KEYS = {"model", "here", "inputs", "parts", "layers", "parameters", "depth", "trained", "train", "macs"}
LAYER = {"path", "kind", "part", "depth", "calls", "children", "parameters", "trained", "macs", "new", "output"}


@pytest.mark.parametrize("name", [n.facts.name.removeprefix("packaged:") for n in NETWORKS])
def test_every_network_is_shown(name, command):
    shown = command("show", name)
    assert shown.code == 0, shown.err
    assert "\nblocks\n" in shown.out and "\nhead\n" in shown.out and "parameters trained" in shown.out
    found = show_model(find_model(name))
    assert found.keys() == KEYS and all(layer.keys() == LAYER for layer in found["layers"])
    listed = {layer["path"]: layer for layer in found["layers"]}
    for part, paths in found["parts"].items():
        # every block can be seen in the table
        assert not part.startswith("block ") or paths[0] in listed
    top = [layer for layer in found["layers"] if layer["depth"] == 1]
    assert sum(layer["parameters"] for layer in top) == found["parameters"]
    # a network may multiply outside of any layer
    assert 0.95 * found["macs"] < sum(layer["macs"] for layer in top) <= found["macs"]
    assert found["trained"] == listed[found["parts"]["head"][0]]["parameters"]
    assert found["parameters"] == find_model(name).parameters + found["trained"]


def test_show_in_json(command):
    found = command("show", LITE, "--remove", "last 2 blocks", "--train", "head", "--depth", "1", "--json").json
    assert found.keys() == KEYS | {"diff", "patch", "recipe"}
    assert found["recipe"] == [{"op": "remove", "path": "last 2 blocks"}]
    assert found["diff"]["new"] == 386 and found["patch"][0].startswith("- blocks.5.3")
    assert json.dumps(found["recipe"])
    Path("r.json").write_text(json.dumps(found["recipe"]))
    assert command("show", LITE, "--recipe", "r.json", "--depth", "1", "--json").json == found


def test_a_recipe_says_what_trains_unless_train_does(command):
    Path("r.yaml").write_text("- freeze: all\n- unfreeze: last 2 blocks\n")
    found = command("show", LITE, "--recipe", "r.yaml", "--json").json
    assert found["train"] == "blocks.5.3, blocks.6, conv_head, bn2" and found["recipe"][0]["op"] == "freeze"
    assert command("show", LITE, "--recipe", "r.yaml", "--train", "head", "--json").json["train"] == "head"


def test_almost_all_is_not_all(command):
    assert "3.37 M of 3.37 M parameters trained, 99.9 %;" in command("show", LITE, "--depth", "1", "--train", "all, -stem").out
    assert "parameters trained, 100 %;" in command("show", LITE, "--depth", "1", "--train", "all").out


@pytest.mark.parametrize("words", [["--depth", "0"], ["--depth", "21"], ["--train", "nothing"], ["--train", "last 99 blocks"]])
def test_what_show_refuses(words, command):
    refused(command("show", LITE, *words))


def test_a_folder_is_shown_as_a_run(photos, command):
    refused(command("show", photos))
    refused(command("show", photos, "--remove", "blocks.6"), "is a folder")


@pytest.mark.long
def test_the_cut_is_shown_with_what_it_keeps_and_saves():
    import json

    from click.testing import CliRunner

    from regraft.cli.main import cli

    run = lambda *more: CliRunner().invoke(cli, ["show", "efficientnet-lite0", "--depth", "1", "--cut", *more])
    told = run("--train", "last 2 blocks, head").output
    assert "cut after blocks.5.2:" in told and "37.6 kB: 192x7x7 float32" in told and "81 %" in told
    assert "no cut: nothing frozen" in run("--train", "all").output
    cut = json.loads(run("--train", "head", "--json").output)["cut"]
    assert cut["after"] == "global_pool" and cut["bytes"] == 5120 and not cut["empty"]
