"""regraft predict MODEL: a network as it was published says what its makers' code says, with its own classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_sources import (
    SEEN,
    SMALL,
    SOUND,
    Hub,
    Repo,
    files_of,
    hub,
    picture,
    put_image,
    put_sound,
    put_spectrogram,
    put_text,
    put_whisper,
    saved,
    stirred,
)

import regraft
from regraft.errors import UsageError

__all__ = ["Hub", "hub"]  # a fixture

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

TEXT, NAMES = "how do I get a refund for the blue shoes?", {0: "other", 1: "refund", 2: "shoes"}


def softmax(scores) -> list[float]:
    return torch.softmax(torch.as_tensor(scores), -1).flatten().tolist()


def put_small_timm(hub: Hub, **config: object):
    """resnet10t with 1,000 outputs on the hub; the network and its transform."""
    network = stirred(timm.create_model("resnet10t", pretrained=False))
    files = {"config.json": json.dumps({"architecture": "resnet10t", "num_classes": 1000, **config}).encode()}
    hub.repos["timm/resnet10t.c3_in1k"] = Repo({**files, "model.safetensors": saved(network.state_dict())}, {"license": "apache-2.0"})
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    with torch.inference_mode():
        return lambda source: softmax(network(transform(source)[None])[0])


def test_a_network_of_timm_says_the_classes_of_imagenet(hub, command, tmp_path):
    theirs = put_small_timm(hub)
    picture().save("photo.png")
    (found,) = regraft.predict("timm:resnet10t.c3_in1k", ["photo.png"], threads=1)
    with torch.inference_mode():
        assert list(found.probabilities.values()) == pytest.approx(theirs(picture()), abs=1e-6)
    names = list(found.probabilities)
    assert len(names) == 1000 and names[207] == "golden retriever" and names[0].startswith("tench")
    assert [n for n in names if n.startswith("crane")] == ["crane (n02012849)", "crane (n03126707)"]
    assert found.label == names[int(np.argmax(theirs(picture())))]
    # offline, in JSON, and the most probable only
    done = command("predict", "timm:resnet10t.c3_in1k", "photo.png", "--offline", "--json", "--top", 3, "--threads", 1)
    assert done.code == 0, done.err
    (one,) = done.json
    kept = list(one["probabilities"].values())
    assert one["label"] == found.label == next(iter(one["probabilities"])) and len(kept) == 3 and kept == sorted(kept, reverse=True)
    shown = command("predict", "timm:resnet10t.c3_in1k", "photo.png", "--top", 2, "--threads", 1).out.rstrip("\n").split("\t")
    assert shown[:2] == ["photo.png", found.label] and len(shown) == 5


def test_names_that_a_repository_gives_come_first(hub, command):
    put_small_timm(hub, label_names=[f"thing {i}" for i in range(1000)])
    picture().save("photo.png")
    done = command("predict", "timm:resnet10t.c3_in1k", "photo.png", "--csv", "--threads", 1)
    assert done.code == 0 and done.out.splitlines()[0].startswith("name,label,probability,thing 0,thing 1,")


CASES = {
    "bert": (put_text("bert", "BertForSequenceClassification", {**SMALL, "id2label": NAMES}), "SequenceClassification"),
    "distilbert": (
        put_text(
            "distilbert",
            "DistilBertForSequenceClassification",
            {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "id2label": NAMES},
        ),
        "SequenceClassification",
    ),
    "roberta": (put_text("roberta", "RobertaForSequenceClassification", {**SMALL, "id2label": NAMES}), "SequenceClassification"),
    "vit": (put_image("vit", "ViTForImageClassification", {**SEEN, "id2label": NAMES}), "ImageClassification"),
    "mobilevit": (
        put_image("mobilenet_v2", "MobileNetV2ForImageClassification", {"image_size": 32, "depth_multiplier": 0.35, "id2label": NAMES}),
        "ImageClassification",
    ),
    "wav2vec2": (
        put_sound("wav2vec2", "Wav2Vec2ForSequenceClassification", {**SOUND, "feat_extract_norm": "layer", "id2label": NAMES}),
        "AudioClassification",
    ),
    "audio spectrogram transformer": (put_spectrogram("ASTForAudioClassification", id2label=NAMES), "AudioClassification"),
}


@pytest.mark.parametrize("case", CASES)
def test_classifiers_of_transformers_say_what_transformers_says(case, hub, tmp_path, make_tone):
    put, kind = CASES[case]
    name, _ = put(hub, tmp_path)
    network = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(tmp_path / "made").eval()
    if kind == "SequenceClassification":
        from tokenizers import Tokenizer

        source = TEXT
        inputs = {"input_ids": torch.tensor([Tokenizer.from_file(str(tmp_path / "made/tokenizer.json")).encode(TEXT).ids])}
    elif kind == "ImageClassification":
        source = picture(41, 33)
        inputs = transformers.ViTImageProcessorPil.from_pretrained(tmp_path / "made")(images=source, return_tensors="pt")
    else:
        source = (make_tone(440.0, 1.2), 16_000)
        prepared = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "made")
        inputs = prepared(source[0], sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        theirs = softmax(network(**inputs).logits[0])
    for place in (name, f"path:{tmp_path / 'made'}"):
        (found,) = regraft.predict(place, [source], threads=1)
        assert list(found.probabilities) == list(NAMES.values())
        assert list(found.probabilities.values()) == pytest.approx(theirs, abs=2e-5)
    assert max(theirs) - min(theirs) > 1e-3


@pytest.mark.parametrize(
    "put",
    [
        put_text("bert", "BertModel", SMALL),
        put_text("bert", "BertForSequenceClassification", {**SMALL, "num_labels": 1}),
        put_text("bert", "BertForSequenceClassification", {**SMALL, "problem_type": "multi_label_classification"}),
        put_whisper,
    ],
)
def test_networks_without_classes_are_refused(put, hub, tmp_path, text_table, tone_folder, command):
    name, _ = put(hub, tmp_path)
    Path("a.txt").write_text(TEXT)
    done = command("predict", name, "a.txt", "--threads", 1)
    assert done.code == 2 and "no output layer that says one class of several" in done.err
    # and what it says works
    assert f"try: regraft fit DATA --model {name}" in done.err
    data = tone_folder if put is put_whisper else text_table
    assert command("fit", data, "--model", name, "--out", "run", "--threads", 1).code == 0


def test_weights_of_the_old_output_layer_that_are_not_there_are_named(hub, tmp_path):
    put, _ = CASES["bert"]
    name, _ = put(hub, tmp_path)
    from safetensors.torch import load_file

    state = {k: v for k, v in load_file(tmp_path / "made/model.safetensors").items() if not k.startswith("classifier.")}
    hub.repos["someone/texts"] = Repo({**files_of(tmp_path / "made"), "model.safetensors": saved(state, {"format": "pt"})})
    with pytest.raises(regraft.RegraftError, match="lacks weights of its output layer"):
        regraft.predict(name, [TEXT], threads=1)


def test_classes_without_names_are_numbers(tmp_path, command):
    network = stirred(timm.create_model("resnet10t", pretrained=False, num_classes=4))
    Path("weights.safetensors").write_bytes(saved(network.state_dict(), {"architecture": "timm:resnet10t"}))
    picture().save("photo.png")
    done = command("predict", "path:weights.safetensors", "photo.png", "--json", "--threads", 1)
    assert done.code == 0 and list(done.json[0]["probabilities"]) == ["0", "1", "2", "3"]
    assert "nothing says what the 4 classes" in done.err


@pytest.mark.weights
def test_the_packaged_networks_know_imagenet(command, data_root):
    for number in (0, 1, 2):
        bees = sorted((data_root / "hymenoptera/val/bees").iterdir())[:12]
        found = regraft.predict(f"efficientnet-lite{number}", bees, top=5, threads=1)
        assert sum("bee" in p.probabilities or "honeycomb" in p.probabilities for p in found) >= 10


@pytest.mark.weights
def test_a_run_under_path_is_the_run(image_folder, command):
    assert command("fit", image_folder, "--out", "run", "--threads", 1).code == 0
    source = next(image_folder.rglob("*.png"))
    first, second = (command("predict", name, source, "--json", "--threads", 1) for name in ("run", "path:run"))
    assert first.code == second.code == 0 and first.json == second.json


@pytest.mark.weights
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("predict", "all-minilm-l6-v2", "a.txt"), "regraft fit DATA --model all-minilm-l6-v2"),
        (("predict", "efficientnet-light0", "a.png"), "and no folder of a run. did you mean 'efficientnet-lite0'?"),
        (("predict", "efficientnet-lite0", "a.png", "--top", 0), "at least 1"),
        (("predict", "efficientnet-lite0", "a.png", "--top", 2, "--csv"), "--json --top N"),
    ],
)
def test_what_cannot_be_meant(words, said, command):
    done = command(*words)
    assert done.code == 2 and said in done.err


def test_python_says_the_same():
    with pytest.raises(UsageError, match="no folder of a run"):
        regraft.predict("nothing-like-that", ["a.png"])


@pytest.mark.parametrize("case", [*CASES, "timm"])
def test_a_network_is_built_again_with_its_own_output_layer(case, hub, tmp_path):
    """`--train none`: what a bundle describes takes the same tensors and gives the same scores."""
    from regraft.anatomy import build_network
    from regraft.jobs.as_it_is import keep_output_layer
    from regraft.jobs.network import Given
    from regraft.modality import MODALITIES
    from regraft.pretrained import find_model, source_of

    if case == "timm":
        put_small_timm(hub)
        name = "timm:resnet10t.c3_in1k"
    else:
        name, _ = CASES[case][0](hub, tmp_path)
    facts = find_model(name)
    old = source_of(facts).old(facts)
    kept = keep_output_layer(Given(facts, None))
    assert old is not None and kept.classes == old.labels
    given = json.loads(json.dumps(dict(kept.given.facts.architecture)))
    modality = MODALITIES[facts.task]
    inputs = modality.collate([modality.blank(facts.preprocessing)] * 2, facts.preprocessing)
    with torch.inference_mode():
        theirs = old.build()(**inputs)
        ours = build_network(given, 0).eval()
        ours.load_state_dict(kept.given.edited.weights)
        torch.testing.assert_close(ours(**inputs), theirs, rtol=1e-6, atol=1e-7)
        groups = [[0], [1, 2]]
        joined = build_network({**given, "groups": groups}, 2).eval()
        joined.load_state_dict(kept.given.edited.weights)
        chances = theirs.softmax(1)
        wanted = torch.stack([chances[:, own].sum(1) for own in groups], 1)
        assert torch.allclose(joined(**inputs).softmax(1), wanted / wanted.sum(1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("wrong", [[[0]], [[0], []], [[0], [99]], [[0], [True]], "ab"])
def test_groups_that_cannot_be_are_refused(wrong, hub, tmp_path):
    from regraft.anatomy import build_network
    from regraft.errors import ModelError
    from regraft.pretrained.architectures.published import described

    network = {"builder": "timm", "name": "resnet10t", "head": "fc"}
    with pytest.raises(ModelError, match="cannot be"):
        build_network({**described(network, 3), "groups": wrong}, 2)
    for broken in ({"builder": "published"}, described(described(network, 3), 3)):
        with pytest.raises(ModelError, match="published network"):
            build_network(broken, 2)
