"""Every source of networks: the same weights as their makers' code loads, the same input, facts that are complete, and a fit whose
bundle needs nothing but itself. The hub is one on this machine, with tiny networks of random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import regraft
from hubserver import Hub, Repo, serving
from regraft.errors import ModelError, UsageError
from regraft.facts import ModelFacts
from regraft.features.engines.torch import TorchTrunk
from regraft.modality import MODALITIES
from regraft.pretrained import Access, find_model, source_of
from regraft.pretrained import hub as hub_room
from regraft.pretrained.architectures import architecture_of, build
from regraft.pretrained.operators import declare_missing_operators

torch = pytest.importorskip("torch")
pytest.importorskip("huggingface_hub")
declare_missing_operators()
timm = pytest.importorskip("timm")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(hub_room, "WAITS", (0.01,))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "shared"))
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


def stirred(network: Any, seed: int = 0) -> Any:
    """The network with every number drawn anew, statistics too: nothing is what it would be without being loaded."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.2 + 0.02)
    return network.eval()


def saved(state: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    from safetensors.torch import save

    return save({k: v.contiguous().clone() for k, v in state.items()}, metadata=metadata)


def pickled(value: Any) -> bytes:
    import io

    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def trunk_of(facts: ModelFacts, tile: int = 2) -> TorchTrunk:
    network = build(facts.architecture, 0)
    network.load_state_dict(source_of(facts).weights(facts))
    return TorchTrunk(network, MODALITIES[facts.task], facts.preprocessing, tile, "cpu")


def windows_of(facts: ModelFacts, source: Any) -> list[Any]:
    modality = MODALITIES[facts.task]
    return list(modality.preparer(facts.preprocessing, source_of(facts).files(facts))(modality.load(source).decode()).windows)


def picture(width: int = 301, height: int = 200, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return Image.fromarray(np.clip(np.asarray(coarse) + rng.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8))


SIZES = [(224, 224), (225, 331), (640, 427), (37, 53), (61, 19), (301, 300), (1, 9), (513, 257)]


# ---------------------------------------------------------------- what every source must give


@dataclass(frozen=True)
class Case:
    """A network of a source: `put` lays it on the hub or into a folder, gives its name and what its makers' code says of an input."""

    task: str
    put: Callable[[Hub, Path], tuple[str, Callable[[Any], np.ndarray]]]
    may: Access = Access()


def put_timm(name: str, *, pickle: bool = False) -> Callable[[Hub, Path], tuple[str, Callable[[Any], np.ndarray]]]:
    def put(hub: Hub, folder: Path) -> tuple[str, Callable[[Any], np.ndarray]]:
        plain = name.split(".")[0]
        network = stirred(timm.create_model(plain, pretrained=False))
        settings = timm.get_pretrained_cfg(name)
        files = {"config.json": json.dumps({"architecture": plain, "num_classes": 1000}).encode()}
        if pickle:
            files["pytorch_model.bin"] = pickled(network.state_dict())
        else:
            files["model.safetensors"] = saved(network.state_dict())
        hub.repos[settings.hf_hub_id] = Repo(files, {"license": "apache-2.0", "datasets": ["imagenet-1k"]})
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)

        def theirs(source: Any) -> np.ndarray:
            with torch.inference_mode():
                return network.forward_head(network.forward_features(transform(source)[None]), pre_logits=True)[0].numpy()

        return f"timm:{name}", theirs

    return put


CASES = {
    "timm resnet": Case("image", put_timm("test_resnet.r160_in1k")),
    "timm vit": Case("image", put_timm("test_vit.r160_in1k")),
    "timm convnext": Case("image", put_timm("test_convnext.r160_in1k")),
    "timm efficientnet": Case("image", put_timm("test_efficientnet.r160_in1k")),
    "timm byobnet, a pickle of tensors": Case("image", put_timm("test_byobnet.r160_in1k", pickle=True)),
    "timm mobilenetv4, head behind a convolution": Case("image", put_timm("mobilenetv4_conv_small_050.e3000_r224_in1k")),
}

INPUTS: dict[str, list[Any]] = {
    "image": [picture(), picture(64, 90, 1)],
    "text": ["a short one", "How do I get a refund for the blue shoes that I bought?"],
    "audio": [],
}

every = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])


@every
def test_features_are_those_of_the_makers_code(case, hub, tmp_path):
    name, theirs = case.put(hub, tmp_path)
    facts = find_model(name, case.may)
    trunk = trunk_of(facts)
    for source in INPUTS[case.task]:
        (window,) = windows_of(facts, source)
        row = trunk([window])[0]
        assert row.shape == (facts.features,)
        np.testing.assert_allclose(row, theirs(source), rtol=2e-4, atol=1e-5)
        assert np.std(row) > 0


@every
def test_facts_are_complete_and_the_description_stands_alone(case, hub, tmp_path):
    name, _ = case.put(hub, tmp_path)
    facts = find_model(name, case.may)
    assert facts.task == case.task and facts.name.startswith(name.split(":")[0])
    assert facts.licence and facts.origin and facts.trained_on and facts.published and facts.about
    assert len(facts.sha256) == 64
    if name.startswith(("timm:", "hf:")):
        assert facts.revision == hub.repos[facts.repository].commit
    plain = json.loads(json.dumps({"a": facts.architecture, "p": facts.preprocessing}, allow_nan=False))
    assert plain == {"a": dict(facts.architecture), "p": dict(facts.preprocessing)}
    hub.repos.clear()
    requests = len(hub.requests)
    with_head = build(plain["a"], 3)
    layer = with_head.get_submodule(architecture_of(plain["a"]).head(plain["a"]))
    assert isinstance(layer, torch.nn.Linear) and (layer.in_features, layer.out_features) == (facts.features, 3)
    assert sum(p.numel() for p in build(plain["a"], 0).parameters()) == facts.parameters
    assert not set(MODALITIES[facts.task].settings) - set(plain["p"])
    assert len(hub.requests) == requests


@every
def test_found_again_offline_and_not_when_it_was_never_fetched(case, hub, tmp_path):
    name, _ = case.put(hub, tmp_path)
    if not name.startswith(("timm:", "hf:")):
        pytest.skip("nothing is fetched")
    with pytest.raises(ModelError, match="nothing may be fetched"):
        find_model(name, Access(offline=True))
    assert not hub.requests
    facts = find_model(name)
    source_of(facts).weights(facts)
    before = len(hub.requests)
    again = find_model(name, Access(offline=True))
    assert again == facts
    source_of(again).weights(again), source_of(again).files(again)
    assert len(hub.requests) == before


@every
def test_the_old_output_layer_gives_what_the_makers_code_gives(case, hub, tmp_path):
    name, theirs = case.put(hub, tmp_path)
    facts = find_model(name, case.may)
    head = source_of(facts).old_head(facts)
    assert bool(head) == bool(facts.outputs)
    assert not facts.labels or len(facts.labels) == facts.outputs
    if head:
        path = architecture_of(facts.architecture).head(facts.architecture)
        network = build(facts.architecture, facts.outputs)
        network.load_state_dict({**source_of(facts).weights(facts), **head})
        assert set(head) == {f"{path}.weight", f"{path}.bias"}


def test_a_fit_from_the_hub_is_pinned_and_its_bundle_needs_no_hub(hub, tmp_path, image_folder, command, monkeypatch):
    name, _ = put_timm("test_resnet.r160_in1k")(hub, tmp_path)
    answer = command("fit", image_folder, "--model", name, "--out", "run", "--threads", 1, "--json")
    assert answer.code == 0, answer.err
    commit = hub.repos["timm/test_resnet.r160_in1k"].commit
    decisions = json.loads(Path("run/decisions.json").read_text())
    assert (decisions["repository"], decisions["revision"]) == ("timm/test_resnet.r160_in1k", commit)
    model = json.loads(Path("run/bundle/bundle.json").read_text())["model"]
    assert (model["name"], model["repository"], model["revision"]) == (name, "timm/test_resnet.r160_in1k", commit)
    assert model["licence"] == "apache-2.0" and model["trained_on"] == "ImageNet-1k"
    # again from what is here: the same bundle, byte for byte, and no request
    before = len(hub.requests)
    assert command("fit", image_folder, "--model", name, "--out", "again", "--threads", 1, "--offline").code == 0
    assert len(hub.requests) == before
    for file in ("model.safetensors", "bundle.json"):
        assert Path("run/bundle", file).read_bytes() == Path("again/bundle", file).read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("REGRAFT_HOME", str(tmp_path / "empty-home"))
    found = regraft.predict("run", sorted(image_folder.rglob("*.png"))[:4], threads=1)
    assert len(found) == 4 and len(hub.requests) == before


# ---------------------------------------------------------------- timm


TRANSFORMS = (
    "test_resnet.r160_in1k",
    "resnet50.a1_in1k",
    "tf_efficientnet_lite2.in1k",
    "vit_base_patch16_clip_224.openai",
    "vit_base_patch16_siglip_224.webli",
    "convnext_tiny.fb_in22k",
    "beit_base_patch16_224.in22k_ft_in22k_in1k",
    "inception_v3.tf_in1k",
)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_input_is_timms_bit_for_bit(name):
    pytest.importorskip("torchvision")
    from regraft.pretrained.architectures.timm import describe
    from regraft.pretrained.timm import preprocessing_of

    settings = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    theirs = timm.data.create_transform(**settings, is_training=False)
    modality, preprocessing = MODALITIES["image"], preprocessing_of(describe(name), name)
    prepare = modality.preparer(preprocessing, {})
    for seed, (width, height) in enumerate(SIZES):
        source = picture(width, height, seed)
        ours = modality.collate(prepare(modality.load(source).decode()).windows, preprocessing)["x"][0]
        assert torch.equal(ours, theirs(source)), f"{width} x {height}"


def test_what_cannot_be_followed_bit_for_bit_is_refused_by_name():
    from regraft.pretrained.architectures.timm import describe
    from regraft.pretrained.timm import preprocessing_of

    refused = [n for n in timm.list_models(pretrained=True) if timm.get_pretrained_cfg(n).crop_mode == "border"]
    with pytest.raises(ModelError, match="'border'"):
        preprocessing_of(describe(refused[0]), refused[0])


def test_unknown_names_show_the_nearest(hub):
    with pytest.raises(UsageError, match=r"no network 'timm:resnet5O'.*did you mean 'resnet"):
        find_model("timm:resnet5O")
    with pytest.raises(UsageError, match=r"did you mean 'resnet50\.a1_in1k'"):
        find_model("timm:resnet50.a1_in1")
    with pytest.raises(UsageError, match="timm:resnet50"):
        find_model("resnet50")
    assert not hub.requests


def test_weights_of_another_architecture_are_told_apart(hub, tmp_path):
    put_timm("test_resnet.r160_in1k")(hub, tmp_path)
    other = timm.create_model("test_convnext", pretrained=False)
    hub.repos["timm/test_resnet.r160_in1k"] = Repo({"model.safetensors": saved(other.state_dict())})
    facts = find_model("timm:test_resnet.r160_in1k")
    with pytest.raises(ModelError, match="not those of test_resnet") as caught:
        source_of(facts).weights(facts)
    assert any("missing: conv1" in f for f in caught.value.faults) and any("extra: " in f for f in caught.value.faults)


class Evil:
    def __reduce__(self):
        return (Path("ran").touch, ())


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"model.safetensors": b"\xff" * 8 + b"{" + b"x" * 5000}, "states a header of"),
        ({"model.safetensors": (3000).to_bytes(8, "little") + b"{" + b" " * 2000}, "truncated"),
        ({"model.safetensors": pickled({"a": torch.zeros(900)})}, "is a pickle under another name"),
        ({"model.safetensors": saved({"a": torch.zeros(900)})[:-400]}, "not safetensors that can be read"),
        ({"pytorch_model.bin": pickled({"a": Evil(), "b": torch.zeros(900)})}, "run code that lies in it"),
        ({"pytorch_model.bin": b"PK\x03\x04" + b"x" * 3000}, "cannot be read"),
        ({"pytorch_model.bin": pickled([1, 2, 3])}, "holds no state dict"),
        ({"flax_model.msgpack": b"x"}, "holds no weights that are read"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_bad_weights_are_refused_by_name(hub, files, words):
    hub.repos["timm/test_resnet.r160_in1k"] = Repo(files)
    with pytest.raises(ModelError, match=words):
        facts = find_model("timm:test_resnet.r160_in1k")
        source_of(facts).weights(facts)
    assert not Path("ran").exists()


def test_a_pickle_that_unfolds_beyond_reason_is_refused(tmp_path):
    import zipfile

    from regraft.pretrained.tensors import read_state

    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(20 << 20))
    with pytest.raises(ModelError, match="would unfold"):
        read_state(tmp_path / "bomb.pth")
