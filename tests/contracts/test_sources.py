"""Every source of networks: the same weights as their makers' code loads, the same input, facts that are complete, and a fit whose
bundle needs nothing but itself. The hub is one on this machine, with tiny networks of random weights."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
                numbers = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(numbers * 0.2 - 0.1 if tensor.ndim > 1 else numbers + 0.5)
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


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SEEN = {**SMALL, "image_size": 32, "patch_size": 8}
WORDS = ["a", "short", "one", "how", "do", "i", "get", "refund", "for", "the", "blue", "shoes", "that", "bought", "?", "query", ":", "##s"]


def tokenizer(folder: Path) -> None:
    """A tokenizer of a few words, with [CLS] and [SEP] around a text, and its settings."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 16, "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "cls_token": "[CLS]", "sep_token": "[SEP]"}))


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def saved_encoder(kind: str, whole: str, folder: Path, options: dict[str, Any], shards: bool = False) -> Any:
    """A tiny network of transformers with random weights, saved by transformers itself as `whole` (the class with its old head)."""
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(kind, **options)
    torch.manual_seed(0)
    network = getattr(transformers, whole)(config)
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(torch.randn(tensor.shape) * 0.05)
        for name, tensor in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                tensor.add_(torch.rand(tensor.shape))
    network.eval().save_pretrained(folder, **({"max_shard_size": "20KB"} if shards else {}))
    return network


def save_dense(folder: Path, said: dict[str, Any], pickle: bool) -> None:
    """As sentence-transformers writes a Dense; its weights are 0.3 at most."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(said))
    linear = torch.nn.Linear(said["in_features"], said["out_features"], bias=said.get("bias", True))
    generator = torch.Generator().manual_seed(1)
    state = {f"linear.{k}": torch.rand(v.shape, generator=generator) * 0.6 - 0.3 for k, v in linear.state_dict().items()}
    if pickle:
        torch.save(state, folder / "pytorch_model.bin")
    else:
        (folder / "model.safetensors").write_bytes(saved(state))


TANH = {"in_features": 32, "out_features": 12, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
WIDER = {"in_features": 32, "out_features": 48, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}
BACK = {"in_features": 48, "out_features": 20, "module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}


def put_text(
    kind: str,
    whole: str,
    options: dict[str, Any],
    *,
    pooling: str = "",
    extra: dict[str, Any] | None = None,
    shards: bool = False,
    pickle: bool = False,
):
    """With `pooling`, as a repository of sentence-transformers."""

    def put(hub: Hub, folder: Path) -> tuple[str, Callable[[Any], np.ndarray]]:
        folder = folder / "made"
        folder.mkdir()
        options_ = {**options, "vocab_size": 40, "pad_token_id": 0}
        network = saved_encoder(kind, whole, folder, options_, shards)
        tokenizer(folder)
        if pickle:
            (folder / "model.safetensors").unlink()
            torch.save(network.state_dict(), folder / "pytorch_model.bin")
        if pooling:
            dense = (extra or {}).get("dense", [])
            modules = ["Transformer", "Pooling", *["Dense"] * len(dense), *(["Normalize"] if extra and extra.get("normalize") else [])]
            paths = ["", *(f"{i}_{m}" for i, m in enumerate(modules) if i)]
            rows = [
                {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{m}"} for i, m in enumerate(modules)
            ]
            for i, said in enumerate(dense, 2):
                save_dense(folder / f"{i}_Dense", said, pickle)
            (folder / "modules.json").write_text(json.dumps(rows))
            (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12, "do_lower_case": False}))
            (folder / "1_Pooling").mkdir()
            modes = {f"pooling_mode_{m}": m == pooling for m in ("cls_token", "mean_tokens", "max_tokens")}
            (folder / "1_Pooling" / "config.json").write_text(
                json.dumps({"word_embedding_dimension": options_.get("hidden_size", 32), **modes})
            )
            prompts = (extra or {}).get("prompts")
            if prompts:
                (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts, "default_prompt_name": "query"}))
        hub.repos["someone/texts"] = Repo(files_of(folder), {"license": "mit"})

        def theirs(text: str) -> np.ndarray:
            if pooling:
                library = pytest.importorskip("sentence_transformers")
                return library.SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode([text])[0]
            from tokenizers import Tokenizer

            made = Tokenizer.from_file(str(folder / "tokenizer.json"))
            made.enable_truncation(16)
            with torch.inference_mode():
                body = getattr(network, network.base_model_prefix, network)
                return body(input_ids=torch.tensor([made.encode(text).ids])).last_hidden_state[0].mean(0).numpy()

        return "hf:someone/texts", theirs

    return put


PROCESSORS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {"size": {"height": 32, "width": 32}, "resample": 2},
    "CLIPImageProcessor": {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 32}, "crop_pct": 0.875},
    "DeiTImageProcessor": {"size": {"height": 37, "width": 37}, "crop_size": {"height": 32, "width": 32}},
}


def put_image(kind: str, whole: str, options: dict[str, Any], processor: str = "ViTImageProcessor", pooled: bool = True, part: str = ""):
    def put(hub: Hub, folder: Path) -> tuple[str, Callable[[Any], np.ndarray]]:
        transformers = pytest.importorskip("transformers")
        folder = folder / "made"
        folder.mkdir()
        network = saved_encoder(kind, whole, folder, options)
        prepared = getattr(transformers, f"{processor}Pil", getattr(transformers, processor))(**PROCESSORS[processor])
        prepared.save_pretrained(folder)
        hub.repos["someone/pictures"] = Repo(files_of(folder), {"license": "mit"})

        def theirs(source: Any) -> np.ndarray:
            pixels = prepared(images=source, return_tensors="pt")["pixel_values"]
            body = getattr(network, part or network.base_model_prefix, network)
            with torch.inference_mode():
                out = body(pixel_values=pixels)
            return (out.pooler_output.flatten(1) if pooled else out.last_hidden_state[:, 0])[0].numpy()

        return "hf:someone/pictures", theirs

    return put


SOUND = {
    **SMALL,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_feat_extract_layers": 7,
}


def put_sound(kind: str, whole: str, options: dict[str, Any]):
    def put(hub: Hub, folder: Path) -> tuple[str, Callable[[Any], np.ndarray]]:
        transformers = pytest.importorskip("transformers")
        folder = folder / "made"
        folder.mkdir()
        network = saved_encoder(kind, whole, folder, options)
        prepared = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
        prepared.save_pretrained(folder)
        hub.repos["someone/sounds"] = Repo(files_of(folder), {"license": "mit"})

        def theirs(source: Any) -> np.ndarray:
            body = getattr(network, network.base_model_prefix, network)
            values = prepared(source[0], sampling_rate=16_000, return_tensors="pt")["input_values"]
            with torch.inference_mode():
                return body(input_values=values).last_hidden_state[0].mean(0).numpy()

        return "hf:someone/sounds", theirs

    return put


HEARD = {**SMALL, "max_length": 128, "num_mel_bins": 32}


def put_spectrogram(whole: str, **more: Any):
    """An audio spectrogram transformer of windows of 1.28 s."""

    def put(hub: Hub, folder: Path) -> tuple[str, Callable[[Any], np.ndarray]]:
        transformers = pytest.importorskip("transformers")
        folder = folder / "made"
        folder.mkdir()
        network = saved_encoder("audio-spectrogram-transformer", whole, folder, {**HEARD, **more})
        prepared = transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=128, mean=-6.0, std=3.5)
        prepared.save_pretrained(folder)
        hub.repos["someone/heard"] = Repo(files_of(folder), {"license": "mit"})

        def theirs(source: Any) -> np.ndarray:
            body = getattr(network, network.base_model_prefix, network)
            values = prepared(source[0], sampling_rate=16_000, return_tensors="pt")["input_values"]
            with torch.inference_mode():
                return body(input_values=values).pooler_output[0].numpy()

        return "hf:someone/heard", theirs

    return put


def put_whisper(hub: Hub, folder: Path, bands: int = 80) -> tuple[str, Callable[[Any], np.ndarray]]:
    pytest.importorskip("transformers")
    folder = folder / "made"
    folder.mkdir()
    options = {
        "d_model": 32,
        "num_mel_bins": bands,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 64,
        "encoder_ffn_dim": 64,
        "decoder_layers": 1,
        "vocab_size": 100,
    }
    token = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "begin_suppress_tokens": None}
    network = saved_encoder("whisper", "WhisperForConditionalGeneration", folder, {**options, **token})
    hub.repos["someone/whisper"] = Repo(files_of(folder), {"license": "mit"})

    def theirs(source: Any) -> np.ndarray:
        from regraft.modality.audio import log_mel

        # the window that the network itself takes is 30 s; ours is shorter, so the encoder is run on its first positions
        encoder, mel = network.model.encoder, torch.from_numpy(log_mel(source[0], bands))[None]
        with torch.inference_mode():
            hidden = torch.nn.functional.gelu(encoder.conv2(torch.nn.functional.gelu(encoder.conv1(mel)))).permute(0, 2, 1)
            hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
            for layer in encoder.layers:
                hidden = layer(hidden, None)
            return encoder.layer_norm(hidden)[0].mean(0).numpy()

    return "hf:someone/whisper", theirs


def put_file(kind: str, name: str, ending: str):
    """A state dict for a named architecture in a file."""

    def put(hub: Hub, folder: Path) -> tuple[str, Callable[[Any], np.ndarray]]:
        if kind == "torchvision":
            models = pytest.importorskip("torchvision.models")
            network, transform = stirred(models.get_model(name, weights=None)), models.get_model_weights(name).DEFAULT.transforms()
            body = stirred(models.get_model(name, weights=None))
            body.fc = torch.nn.Identity()
        else:
            network, body = (stirred(timm.create_model(name, pretrained=False, num_classes=n)) for n in (4, 0))
            transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
        body.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("fc.")})
        path, labels = folder / f"weights{ending}", json.dumps(list("abcd"))
        if ending == ".safetensors":
            path.write_bytes(saved(network.state_dict(), {"architecture": f"{kind}:{name}", "labels": labels}))
        else:
            torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)

        def theirs(source: Any) -> np.ndarray:
            with torch.inference_mode():
                return body(transform(source)[None])[0].numpy()

        return f"path:{path}" + ("" if ending == ".safetensors" else f"?{kind}={name}"), theirs

    return put


def put_folder(put: Callable[[Hub, Path], Any]) -> Callable[[Hub, Path], tuple[str, Callable[[Any], np.ndarray]]]:
    """What another case laid on the hub, in a folder."""

    def again(hub: Hub, folder: Path) -> tuple[str, Callable[[Any], np.ndarray]]:
        _, theirs = put(hub, folder)
        hub.repos.clear()
        return f"path:{folder / 'made'}", theirs

    return again


CASES = {
    "timm resnet": Case("image", put_timm("test_resnet.r160_in1k")),
    "timm vit": Case("image", put_timm("test_vit.r160_in1k")),
    "timm convnext": Case("image", put_timm("test_convnext.r160_in1k")),
    "timm efficientnet": Case("image", put_timm("test_efficientnet.r160_in1k")),
    "timm byobnet, a pickle of tensors": Case("image", put_timm("test_byobnet.r160_in1k", pickle=True)),
    "bert, the mean": Case("text", put_text("bert", "BertForMaskedLM", SMALL)),
    "bert in shards": Case("text", put_text("bert", "BertForSequenceClassification", SMALL, shards=True)),
    "distilbert, a pickle of tensors": Case(
        "text", put_text("distilbert", "DistilBertModel", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}, pickle=True)
    ),
    "sentence-transformers, mean, length one": Case(
        "text", put_text("bert", "BertModel", SMALL, pooling="mean_tokens", extra={"normalize": True})
    ),
    "sentence-transformers, first token, a prompt": Case(
        "text", put_text("mpnet", "MPNetModel", SMALL, pooling="cls_token", extra={"prompts": {"query": "query: "}})
    ),
    "sentence-transformers with a dense layer": Case(
        "text", put_text("bert", "BertModel", SMALL, pooling="cls_token", extra={"dense": [TANH], "normalize": True})
    ),
    "sentence-transformers with two dense layers, pickles of tensors": Case(
        "text", put_text("bert", "BertModel", SMALL, pooling="mean_tokens", extra={"dense": [WIDER, BACK]}, pickle=True)
    ),
    "a folder of sentence-transformers with a dense layer": Case(
        "text", put_folder(put_text("bert", "BertModel", SMALL, pooling="mean_tokens", extra={"dense": [TANH]}))
    ),
    "modernbert": Case(
        "text",
        put_text("modernbert", "ModernBertModel", {**SMALL, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}),
    ),
    "vit": Case("image", put_image("vit", "ViTForImageClassification", SEEN, pooled=False)),
    "resnet of transformers": Case(
        "image",
        put_image(
            "resnet",
            "ResNetForImageClassification",
            {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
            "ConvNextImageProcessor",
        ),
    ),
    "dinov2": Case("image", put_image("dinov2", "Dinov2Model", SEEN, "DeiTImageProcessor", part="x")),
    "clip, its part for pictures": Case(
        "image",
        put_image(
            "clip",
            "CLIPModel",
            {"vision_config": SEEN, "text_config": {**SMALL, "vocab_size": 50}},
            "CLIPImageProcessor",
            part="vision_model",
        ),
    ),
    "wav2vec2": Case("audio", put_sound("wav2vec2", "Wav2Vec2ForCTC", SOUND)),
    "wav2vec2 that takes a mask": Case(
        "audio", put_sound("wav2vec2", "Wav2Vec2Model", {**SOUND, "feat_extract_norm": "layer", "do_stable_layer_norm": True})
    ),
    "audio spectrogram transformer": Case("audio", put_spectrogram("ASTModel")),
    "audio spectrogram transformer with classes": Case("audio", put_spectrogram("ASTForAudioClassification")),
    "a folder of an audio spectrogram transformer": Case("audio", put_folder(put_spectrogram("ASTModel"))),
    "whisper": Case("audio", put_whisper),
    "whisper of 128 bands": Case("audio", partial(put_whisper, bands=128)),
    "a file that says its architecture": Case("image", put_file("timm", "test_resnet", ".safetensors")),
    "a pickle of tensors for a named architecture": Case("image", put_file("timm", "test_resnet", ".pth")),
    "a file for torchvision": Case("image", put_file("torchvision", "resnet18", ".pth")),
    "a folder of sentence-transformers": Case("text", put_folder(put_text("bert", "BertModel", SMALL, pooling="mean_tokens"))),
    "a folder of transformers": Case("image", put_folder(put_image("vit", "ViTForImageClassification", SEEN, pooled=False))),
    "timm mobilenetv4, head behind a convolution": Case("image", put_timm("mobilenetv4_conv_small_050.e3000_r224_in1k")),
}

INPUTS: dict[str, list[Any]] = {
    "image": [picture(), picture(64, 90, 1)],
    "text": ["a short one", "How do I get a refund for the blue shoes that I bought?"],
    "audio": [(np.random.default_rng(i).normal(0, 0.1, 8_000 * (i + 1)).astype(np.float32), 16_000) for i in range(2)],
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
        expected = theirs(source)
        np.testing.assert_allclose(row, expected, rtol=2e-4, atol=1e-5 * max(1, np.abs(expected).max()))
        assert np.isfinite(row).all() and np.std(row) > 0


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
    from regraft.pretrained.named import preprocessing_of

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
    from regraft.pretrained.named import preprocessing_of

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


# ---------------------------------------------------------------- hf


@pytest.mark.parametrize(
    ("kind", "whole", "options", "processor"),
    [
        ("vit", "ViTForImageClassification", {**SEEN, "num_labels": 5}, "ViTImageProcessor"),
        (
            "resnet",
            "ResNetForImageClassification",
            {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 5},
            "ViTImageProcessor",
        ),
        (
            "convnext",
            "ConvNextForImageClassification",
            {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "num_labels": 5},
            "ViTImageProcessor",
        ),
        (
            "swin",
            "SwinForImageClassification",
            {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "num_labels": 5},
            "ViTImageProcessor",
        ),
    ],
)
def test_old_classes_are_those_of_the_makers_code(hub, tmp_path, kind, whole, options, processor):
    options = {**options, "id2label": {i: f"thing {i}" for i in range(5)}}
    name, _ = put_image(kind, whole, options, processor)(hub, tmp_path)
    facts = find_model(name)
    assert facts.outputs == 5 and facts.labels == tuple(f"thing {i}" for i in range(5))
    network = build(facts.architecture, facts.outputs)
    network.load_state_dict({**source_of(facts).weights(facts), **source_of(facts).old_head(facts)})
    transformers = pytest.importorskip("transformers")
    theirs = getattr(transformers, whole).from_pretrained(tmp_path / "made").eval()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(x=x), theirs(pixel_values=x).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("processor", list(PROCESSORS))
def test_pictures_are_prepared_as_transformers_does(processor, hub, tmp_path):
    transformers = pytest.importorskip("transformers")
    name, _ = put_image("vit", "ViTModel", SEEN, processor)(hub, tmp_path)
    facts = find_model(name)
    theirs = getattr(transformers, f"{processor}Pil")(**PROCESSORS[processor])
    for seed, (width, height) in enumerate(SIZES):
        source = picture(width, height, seed)
        ours = MODALITIES["image"].collate(windows_of(facts, source), facts.preprocessing)["x"]
        torch.testing.assert_close(ours, theirs(images=source, return_tensors="pt")["pixel_values"], rtol=0, atol=1e-5)


def changed(file: str, **values: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[file] = json.dumps({**json.loads(files.get(file, b"{}")), **values}).encode()

    return change


def without(file: str) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.pop(file) and None


def modules(*kinds: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files["modules.json"] = json.dumps([{"path": "", "type": kind} for kind in kinds]).encode()

    return change


OURS = ("sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling")


def shards_elsewhere(files: dict[str, bytes]) -> None:
    files.pop("model.safetensors")
    files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": "../x.safetensors"}}).encode()


BROKEN = {
    "own code, unknown kind": (
        changed("config.json", model_type="strange", auto_map={"AutoModel": "x.Y"}),
        "code of its own, which is never run",
    ),
    "a generator of text": (changed("config.json", model_type="gpt2"), "not an encoder"),
    "another network": (changed("config.json", num_hidden_layers=3), "the weights are not those of"),
    "another width": (changed("config.json", intermediate_size=48), "the weights are not those of"),
    "layers beyond reason": (changed("config.json", num_hidden_layers=10**9), "num_hidden_layers 1,000,000,000"),
    "numbers beyond reason": (changed("config.json", hidden_size=10**12), "hidden_size"),
    "a value of another type": (changed("config.json", hidden_size="wide"), "refuses the configuration|cannot"),
    "quantized": (changed("config.json", quantization_config={"bits": 4}), "quantization_config"),
    "no tokenizer": (without("tokenizer.json"), "no tokenizer.json"),
    "no configuration": (without("config.json"), "no config.json"),
    "no weights": (without("model.safetensors"), "no weights that are read"),
    "a module that is not known": (
        modules(*OURS, "sentence_transformers.models.LSTM"),
        "the modules of hf:someone/texts are Transformer, Pooling, LSTM",
    ),
    "a module of its own": (modules(*OURS, "modeling.Dense"), "are Transformer, Pooling, modeling.Dense"),
    "a dense layer that says nothing": (modules(*OURS, "sentence_transformers.models.Dense"), "does not say what its dense layer is"),
    "no modules": (lambda files: files.update({"modules.json": b"[]"}), "is not a list of modules"),
    "a prompt that is not there": (
        changed("config_sentence_transformers.json", prompts={}, default_prompt_name="query"),
        "names a prompt 'query'",
    ),
    "shards elsewhere": (
        shards_elsewhere,
        "shards that are not there",
    ),
}


@pytest.mark.parametrize(("change", "words"), list(BROKEN.values()), ids=list(BROKEN))
def test_what_is_not_supported_or_broken_is_refused_by_name(hub, tmp_path, change, words, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("something was asked on the terminal"))
    name, _ = put_text("bert", "BertModel", SMALL)(hub, tmp_path)
    files = dict(hub.repos["someone/texts"].files)
    change(files)
    hub.repos["someone/texts"] = Repo(files)
    with pytest.raises(ModelError, match=words):
        facts = find_model(name)
        source_of(facts).weights(facts)


def test_a_dense_layer_by_hand(hub, tmp_path):
    """Without sentence-transformers: the first token, times the weights, the bias, tanh, length one."""
    from safetensors.numpy import load

    texts = ["a short one", "how do I get a refund?"]
    plain, _ = put_text("bert", "BertModel", SMALL, pooling="cls_token")(hub, tmp_path)
    before = find_model(plain)
    rows = [trunk_of(before)(windows_of(before, text))[0] for text in texts]
    (tmp_path / "two").mkdir()
    name, _ = put_text("bert", "BertModel", SMALL, pooling="cls_token", extra={"dense": [TANH], "normalize": True})(hub, tmp_path / "two")
    facts, weights = find_model(name), load((tmp_path / "two/made/2_Dense/model.safetensors").read_bytes())
    assert facts.features == 12 and facts.parameters == before.parameters + 32 * 12 + 12 and facts.sha256 != before.sha256
    for text, row in zip(texts, rows, strict=True):
        expected = np.tanh(weights["linear.weight"] @ row + weights["linear.bias"])
        found = trunk_of(facts)(windows_of(facts, text))[0]
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-6)


def test_other_weights_of_a_dense_layer_are_another_network(hub, tmp_path):
    name, _ = put_text("bert", "BertModel", SMALL, pooling="cls_token", extra={"dense": [TANH]})(hub, tmp_path)
    before = find_model(name).sha256
    files = dict(hub.repos["someone/texts"].files)
    files["2_Dense/model.safetensors"] = saved({"linear.weight": torch.ones(12, 32), "linear.bias": torch.ones(12)})
    hub.repos["someone/texts"] = Repo(files)
    assert find_model(name).sha256 != before


DENSE = "2_Dense/config.json"
BROKEN_DENSE = {
    "an unknown activation": (
        changed(DENSE, activation_function="torch.nn.modules.activation.PReLU"),
        r"activation\.PReLU .* not supported",
    ),
    "an activation of its own": (changed(DENSE, activation_function="modeling.Own"), r"modeling\.Own"),
    "an activation that is a list": (changed(DENSE, activation_function=["os.system"]), "os.system"),
    "a residual": (changed(DENSE, use_residual=True), "use_residual: True"),
    "another input": (changed(DENSE, module_input_name="token_embeddings"), "module_input_name: 'token_embeddings'"),
    "a setting that is not known": (changed(DENSE, dropout=0.5), "dropout: 0.5"),
    "a bias that is a word": (changed(DENSE, bias="yes"), "bias: 'yes'"),
    "another input width": (changed(DENSE, in_features=31), "takes 31 numbers"),
    "no width": (changed(DENSE, out_features=None), "from 32 to None numbers cannot be"),
    "a width beyond reason": (changed(DENSE, out_features=10**9), "from 32 to 1000000000 numbers cannot be"),
    "a width that is true": (changed(DENSE, out_features=True), "to True numbers cannot be"),
    "another width": (changed(DENSE, out_features=13), "not those of the dense layers"),
    "no bias in the configuration": (changed(DENSE, bias=False), "extra: 0.linear.bias"),
    "no weights": (without("2_Dense/model.safetensors"), "no weights of its dense layer"),
    "a pickle that runs code": (
        lambda files: (
            files.update({"2_Dense/pytorch_model.bin": pickled({"linear.weight": Evil()})})
            or files.pop("2_Dense/model.safetensors")
            and None
        ),
        "run code that lies in it",
    ),
}


@pytest.mark.parametrize(("change", "words"), list(BROKEN_DENSE.values()), ids=list(BROKEN_DENSE))
def test_dense_layers_that_are_not_supported_are_refused_by_name(hub, tmp_path, change, words):
    name, _ = put_text("bert", "BertModel", SMALL, pooling="cls_token", extra={"dense": [TANH]})(hub, tmp_path)
    files = dict(hub.repos["someone/texts"].files)
    change(files)
    hub.repos["someone/texts"] = Repo(files)
    with pytest.raises(ModelError) as caught:
        facts = find_model(name)
        source_of(facts).weights(facts)
    assert re.search(words, "\n".join([str(caught.value), *caught.value.faults]))
    assert not Path("ran").exists()


def test_a_fit_behind_a_dense_layer(hub, tmp_path, text_table, command, monkeypatch):
    name, _ = put_text("bert", "BertModel", SMALL, pooling="mean_tokens", extra={"dense": [TANH], "normalize": True})(hub, tmp_path)
    assert command("fit", text_table, "--model", name, "--out", "run", "--threads", 1).code == 0
    hub.repos.clear()
    monkeypatch.setenv("REGRAFT_HOME", str(tmp_path / "empty-home"))
    assert len(regraft.predict("run", ["the soup was hot"], threads=1)) == 1


def test_code_in_a_repository_is_not_fetched_or_run(hub, tmp_path):
    """The kind is known to transformers, and the repository offers its own code beside: it is passed over."""
    name, theirs = put_text("bert", "BertModel", SMALL)(hub, tmp_path)
    files = dict(hub.repos["someone/texts"].files)
    files["modeling.py"] = b"from pathlib import Path; Path('ran').touch()"
    changed("config.json", auto_map={"AutoModel": "modeling.Y", "AutoConfig": "modeling.Z"}, _attn_implementation="someone/kernel")(files)
    hub.repos["someone/texts"] = Repo(files)
    facts = find_model(name)
    row = trunk_of(facts)(windows_of(facts, "a short one"))[0]
    np.testing.assert_allclose(row, theirs("a short one"), rtol=2e-4, atol=1e-5)
    assert not any("modeling.py" in r for r in hub.requests) and not Path("ran").exists()
    assert "auto_map" not in facts.architecture["config"] and "_attn_implementation" not in facts.architecture["config"]


@pytest.mark.parametrize(
    "change",
    [
        {"resample": 5},
        {"do_flip_channel_order": True},
        {"image_processor_type": "OddProcessor"},
        {"do_pad": True},
        {"rescale_factor": 1.0},
        {"size": {"longest_edge": 100}},
        {"crop_size": {"height": 64, "width": 64}},
    ],
)
def test_pictures_that_cannot_be_prepared_exactly_are_refused(hub, tmp_path, change):
    name, _ = put_image("vit", "ViTModel", SEEN, "CLIPImageProcessor")(hub, tmp_path)
    files = dict(hub.repos["someone/pictures"].files)
    changed("preprocessor_config.json", **change)(files)
    hub.repos["someone/pictures"] = Repo(files)
    with pytest.raises(ModelError, match="prepared"):
        find_model(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampling_rate": 8_000}, "sampling_rate: 8000"),
        ({"max_length": 1024}, "max_length: 1024, expected 128"),
        ({"num_mel_bins": 128}, "num_mel_bins: 128, expected 32"),
        ({"std": 0}, "std: 0"),
        ({"mean": "low"}, "mean: 'low'"),
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "'WhisperFeatureExtractor'"),
    ],
)
def test_spectrograms_that_the_network_does_not_take_are_refused(hub, tmp_path, change, words):
    name, _ = put_spectrogram("ASTModel")(hub, tmp_path)
    files = dict(hub.repos["someone/heard"].files)
    changed("preprocessor_config.json", **change)(files)
    hub.repos["someone/heard"] = Repo(files)
    with pytest.raises(ModelError, match="cannot be prepared") as caught:
        find_model(name)
    assert len(caught.value.faults) == 1 and words in caught.value.faults[0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_length": 8}, "no audio-spectrogram-transformer can be built"),
        ({"max_length": -5}, "no audio-spectrogram-transformer can be built"),
        ({"time_stride": 0}, "no audio-spectrogram-transformer can be built"),
        ({"max_length": 100_000}, "cannot be prepared"),
    ],
)
def test_spectrograms_beyond_reason_are_refused(hub, tmp_path, values, words):
    name, _ = put_spectrogram("ASTModel")(hub, tmp_path)
    files = dict(hub.repos["someone/heard"].files)
    changed("config.json", **values)(files)
    changed("preprocessor_config.json", **{k: v for k, v in values.items() if k == "max_length"})(files)
    hub.repos["someone/heard"] = Repo(files)
    with pytest.raises(ModelError, match=words):
        find_model(name)


def test_a_spectrogram_that_is_not_normalised(hub, tmp_path):
    transformers = pytest.importorskip("transformers")
    name, _ = put_spectrogram("ASTModel")(hub, tmp_path)
    files = dict(hub.repos["someone/heard"].files)
    changed("preprocessor_config.json", do_normalize=False)(files)
    hub.repos["someone/heard"] = Repo(files)
    theirs = transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=128, do_normalize=False)
    samples, rate = INPUTS["audio"][0]
    (window,) = windows_of(find_model(name), (samples, rate))
    expected = theirs(samples, sampling_rate=rate, return_tensors="np")["input_values"][0]
    np.testing.assert_allclose(window["mel"].T, expected, atol=1e-4)


def test_a_fit_on_an_audio_spectrogram_transformer(hub, tmp_path, tone_folder, command, monkeypatch):
    name, _ = put_spectrogram("ASTForAudioClassification")(hub, tmp_path)
    answer = command("fit", tone_folder, "--model", name, "--out", "run", "--threads", 1, "--json")
    assert answer.code == 0, answer.err
    hub.repos.clear()
    monkeypatch.setenv("REGRAFT_HOME", str(tmp_path / "empty-home"))
    files = sorted(tone_folder.rglob("*.wav"))
    found = regraft.predict("run", files, threads=1)
    right = [p.label == path.parent.name for p, path in zip(found, files, strict=True)]
    assert len(right) == 12 and sum(right) >= 10


def test_fits_of_texts_and_sounds_from_the_hub(hub, tmp_path, text_table, tone_folder, command, monkeypatch):
    texts, _ = put_text("bert", "BertModel", SMALL, pooling="mean_tokens", extra={"prompts": {"query": "query: "}})(hub, tmp_path)
    assert command("fit", text_table, "--model", texts, "--out", "texts", "--threads", 1).code == 0
    (tmp_path / "two").mkdir()
    sounds, _ = put_sound("wav2vec2", "Wav2Vec2Model", SOUND)(hub, tmp_path / "two")
    assert command("fit", tone_folder, "--model", sounds, "--out", "sounds", "--threads", 1).code == 0
    wrong = command("fit", tone_folder, "--model", texts, "--threads", 1)
    assert wrong.code == 2 and "is for text, the data is audio" in wrong.err
    before = len(hub.requests)
    monkeypatch.setenv("REGRAFT_HOME", str(tmp_path / "empty-home"))
    assert len(regraft.predict("texts", ["the soup was hot"], threads=1)) == 1
    assert len(regraft.predict("sounds", sorted(tone_folder.rglob("*.wav"))[:2], threads=1)) == 2
    assert len(hub.requests) == before


# ---------------------------------------------------------------- path and torchvision


def test_the_backbone_of_a_run_and_its_old_labels(hub, tmp_path, image_folder, command):
    name, theirs = put_timm("test_resnet.r160_in1k")(hub, tmp_path)
    assert command("fit", image_folder, "--model", name, "--out", "first", "--threads", 1).code == 0
    before = len(hub.requests)
    facts = find_model("path:first")
    assert facts.labels == ("blue", "green", "red") and facts.licence == "apache-2.0"
    np.testing.assert_allclose(trunk_of(facts)(windows_of(facts, picture()))[0], theirs(picture()), rtol=2e-4, atol=1e-5)
    network = build(facts.architecture, facts.outputs)
    network.load_state_dict({**source_of(facts).weights(facts), **source_of(facts).old_head(facts)})
    answer = command("fit", image_folder, "--model", "path:first", "--out", "second", "--threads", 1, "--json")
    assert answer.code == 0, answer.err
    assert str(tmp_path) not in Path("second/bundle/bundle.json").read_text()
    assert find_model("path:second/bundle").sha256 == facts.sha256
    assert len(hub.requests) == before


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (lambda f: None, "absent.pth", "no network 'path:absent.pth'"),
        (lambda f: (f / "x.pth").write_bytes(pickled({"a": Evil()})), "x.pth?timm=test_resnet", "run code that lies in it"),
        (lambda f: (f / "x.pth").write_bytes(b""), "x.pth?timm=test_resnet", "cannot be read"),
        (lambda f: (f / "x.pth").write_bytes(pickled({"a": torch.zeros(2)})), "x.pth", "does not say which architecture"),
        (lambda f: (f / "x.pth").write_bytes(pickled({"a": torch.zeros(2)})), "x.pth?tim=test_resnet", "timm"),
        (lambda f: (f / "x.pth").write_bytes(pickled({"a": torch.zeros(2)})), "x.pth?timm=test_resnett", "no network 'test_resnett'"),
        (lambda f: (f / "x.pth").write_bytes(pickled({"a": torch.zeros(2)})), "x.pth?torchvision=resnet19", "did you mean 'resnet1"),
        (lambda f: (f / "x.pth").write_bytes(pickled({"a": torch.zeros(2)})), "x.pth?timm=test_resnet", "not those of test_resnet"),
        (lambda f: (f / "x.py").write_text("1"), "x.py", "not a file of weights"),
        (lambda f: (f / "x").mkdir(), "x", "holds no network that is known"),
        (lambda f: (f / "x").mkdir() or (f / "x" / "bundle.json").write_text("{"), "x", "cannot be read"),
        (lambda f: (f / "x").mkdir() or (f / "x" / "config.json").write_text("[" * 100_000), "x", "not JSON|no config"),
    ],
)
def test_bad_paths_are_refused_by_name(tmp_path, make, name, words):
    make(tmp_path)
    with pytest.raises((ModelError, UsageError), match=words):
        facts = find_model(f"path:{name}")
        source_of(facts).weights(facts)
    assert not Path("ran").exists()


def test_a_link_that_leaves_a_saved_folder_is_not_followed(hub, tmp_path):
    put_text("bert", "BertModel", SMALL)(hub, tmp_path)
    folder = tmp_path / "made"
    (folder / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (folder / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        find_model(f"path:{folder}")


def test_a_file_that_changed_meanwhile_is_refused(hub, tmp_path):
    name, _ = put_file("timm", "test_resnet", ".safetensors")(hub, tmp_path)
    facts = find_model(name)
    (tmp_path / "weights.safetensors").write_bytes(saved(stirred(timm.create_model("test_resnet", num_classes=4), 1).state_dict()))
    with pytest.raises(ModelError, match="has changed"):
        source_of(facts).weights(facts)


def test_offline_with_nothing_but_the_cache_that_others_share(hub, tmp_path):
    """What another program fetched is enough, and no connection is opened for it."""
    _, theirs = put_text("bert", "BertModel", SMALL, pooling="mean_tokens")(hub, tmp_path)
    repo = hub.repos["someone/texts"]
    folder = tmp_path / "shared" / "models--someone--texts"
    for name, content in repo.files.items():
        path = folder / "snapshots" / repo.commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(repo.commit)
    facts = find_model("hf:someone/texts", Access(offline=True))
    assert facts.revision == repo.commit
    row = trunk_of(facts)(windows_of(facts, "a short one"))[0]
    np.testing.assert_allclose(row, theirs("a short one"), rtol=2e-4, atol=1e-5)
    assert not hub.requests


def test_what_a_card_says_cannot_steer_a_terminal(hub, tmp_path):
    name, _ = put_text("bert", "BertModel", SMALL)(hub, tmp_path)
    hub.repos["someone/texts"].card = {"license": "mit\x1b[2J\x07" + "x" * 500, "datasets": ["a\x1b[1m"]}
    facts = find_model(name)
    assert facts.licence.isprintable() and len(facts.licence) <= 120 and facts.trained_on.isprintable()


def test_torchvision_alone_says_where_its_weights_must_come_from():
    pytest.importorskip("torchvision")
    with pytest.raises(ModelError, match=r"path:FILE\.pth\?torchvision=resnet18"):
        find_model("torchvision:resnet18")
    with pytest.raises(UsageError, match="did you mean 'resnet18'"):
        find_model("torchvision:resnet1")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "convnext_tiny", "vit_b_16", "swin_t", "efficientnet_b0"])
def test_torchvision_networks_are_described_and_prepared_as_torchvision_does(name):
    models = pytest.importorskip("torchvision.models")
    from regraft.pretrained.architectures.torchvision import describe

    architecture, preprocessing, features, _ = describe(name)
    network = build(architecture, 5)
    layer = network.get_submodule(architecture_of(architecture).head(architecture))
    assert (layer.in_features, layer.out_features) == (features, 5)
    transform = models.get_model_weights(name).DEFAULT.transforms()
    modality = MODALITIES["image"]
    for seed, (width, height) in enumerate(SIZES):
        source = picture(width, height, seed)
        windows = modality.preparer(preprocessing, {})(modality.load(source).decode()).windows
        torch.testing.assert_close(modality.collate(windows, preprocessing)["x"][0], transform(source), rtol=0, atol=1e-6)


# ---------------------------------------------------------------- code of one's own

OWN = """
from pathlib import Path
import torch
Path("ran").touch()
INPUT = {"size": 16, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}

def network():
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())

def made():
    return network(), INPUT

def bare():
    return network()

def picture():
    return torch.nn.Identity(), INPUT

def breaks():
    raise RuntimeError("on purpose")

def number():
    return 3
"""


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "code_of_mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("code_of_mine", None)


@pytest.mark.parametrize("name", ["python:code_of_mine:made", "code_of_mine:made"])
def test_own_code_runs_only_when_it_is_allowed_and_again_for_its_bundle(own_code, name, image_folder, command, monkeypatch):
    from regraft.pretrained.architectures import python

    refused = command("fit", image_folder, "--model", name, "--threads", 1)
    assert refused.code == 2 and "--allow-code" in refused.err and not Path("ran").exists()
    assert command("fit", image_folder, "--model", name, "--allow-code", "--out", "run", "--threads", 1).code == 0
    Path("ran").unlink()
    sys.modules.pop("code_of_mine")
    monkeypatch.setattr(python, "_allowed", set())
    source = next(image_folder.rglob("*.png"))
    refused = command("predict", "run", source, "--threads", 1)
    assert refused.code == 1 and "--allow-code" in refused.err and not Path("ran").exists()
    assert command("predict", "run", source, "--allow-code", "--threads", 1).code == 0
    assert Path("ran").exists()
    assert command("evaluate", "run", image_folder, "--allow-code", "--threads", 1).code == 0


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("bare", "does not say how its input is prepared"),
        ("picture", "for two examples"),
        ("breaks", "raised RuntimeError: on purpose"),
        ("number", "gave a int"),
        ("absent", "cannot be imported"),
    ],
)
def test_code_that_gives_no_network_is_named(own_code, function, words):
    with pytest.raises(ModelError, match=words):
        find_model(f"python:code_of_mine:{function}", Access(allow_code=True))


def test_a_bundle_that_names_code_does_not_run_it_by_being_opened(own_code, image_folder, command):
    assert command("fit", image_folder, "--model", "code_of_mine:made", "--allow-code", "--out", "run", "--threads", 1).code == 0
    Path("ran").unlink()
    sys.modules.pop("code_of_mine")
    assert command("show", "run").code == 0
    assert not Path("ran").exists()


# ---------------------------------------------------------------- weights that fit partly


def partly(path: Path, change: Callable[[dict[str, Any]], None]) -> Any:
    network = stirred(timm.create_model("test_resnet", pretrained=False, num_classes=4))
    state = dict(network.state_dict())
    change(state)
    path.write_bytes(saved(state, {"architecture": "timm:test_resnet"}))
    return network


def without_a_block_and_with_more(state: dict[str, Any]) -> None:
    for name in [n for n in state if n.startswith("layer4.")]:
        del state[name]
    state["decoder.weight"] = torch.zeros(3, 3)
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :1]


def test_differences_are_named_and_the_advice_works(image_folder, command):
    partly(Path("weights.safetensors"), without_a_block_and_with_more)
    refused = command("fit", image_folder, "--model", "path:weights.safetensors", "--out", "run", "--threads", 1)
    assert refused.code == 1 and "1 extra, 1 of another shape" in refused.err
    assert "missing: layer4" in refused.err and "extra: decoder.weight (3, 3)" in refused.err
    advice = refused.err.split('--allow "')[1].split('"')[0]
    assert set(advice.split(", ")) == {"layer4.*", "decoder.*", "conv1.*"}
    for verb in (["fit", image_folder, "--out", "run"], ["features", image_folder, "--out", "f.npz"], ["show"], ["predict"]):
        data = [next(image_folder.rglob("*.png"))] if verb == ["predict"] else []
        more = [] if verb[0] in ("fit", "features") else ["path:weights.safetensors"]
        options = ["--model", "path:weights.safetensors"] if not more else []
        threads = [] if verb == ["show"] else ["--threads", 1]
        done = command(*verb, *more, *data, *options, "--allow", advice, *threads)
        assert done.code == 0, done.err
        assert (
            "of its weights are new" in done.err + done.out and "1 tensors of the file are left out: decoder.weight" in done.err + done.out
        )
    assert json.loads(Path("run/bundle/bundle.json").read_text())["model"]["allowed"] == advice.split(", ")
    # what is left of it is loaded, what is new is drawn the same every time, and the bundle predicts as the fit did
    facts = find_model("path:weights.safetensors", Access(allow=tuple(advice.split(", "))))
    first, second = source_of(facts).weights(facts), source_of(facts).weights(facts)
    assert all(torch.equal(first[n], second[n]) for n in first)
    network = stirred(timm.create_model("test_resnet", pretrained=False, num_classes=4))
    assert torch.equal(first["layer1.0.conv1.weight"], network.state_dict()["layer1.0.conv1.weight"])
    new = [n for n in first if n.startswith("layer4.") and not n.endswith("num_batches_tracked")] + ["conv1.0.weight"]
    assert facts.new_weights == sum(first[n].numel() for n in new)
    assert facts.identity != find_model("path:weights.safetensors").identity
    assert command("predict", "run", next(image_folder.rglob("*.png")), "--threads", 1).code == 0


def test_what_is_not_allowed_is_still_refused():
    partly(Path("weights.safetensors"), without_a_block_and_with_more)
    with pytest.raises(ModelError, match="0 tensors are missing, 1 extra, 0 of another shape") as caught:
        find_model("path:weights.safetensors", Access(allow=("layer4.*", "conv1.*")))
    assert caught.value.move == '--allow "layer4.*, conv1.*, decoder.*", if these differences are meant'


@pytest.mark.parametrize(
    ("name", "allow", "said"),
    [
        ("path:weights.safetensors", "layer5.*", "--allow layer5.* chooses no tensor"),
        ("timm:test_resnet.r160_in1k", "fc.*", "is not path:"),
        (None, "fc.*", "--model path:"),
    ],
)
def test_allow_that_means_nothing(name, allow, said, image_folder, command):
    partly(Path("weights.safetensors"), without_a_block_and_with_more)
    done = command("fit", image_folder, *(["--model", name] if name else []), "--allow", allow, "--threads", 1)
    assert done.code == 2 and said in done.err


def test_a_file_that_does_not_fit_at_all_gets_no_such_advice():
    other = stirred(timm.create_model("test_convnext", pretrained=False))
    Path("other.safetensors").write_bytes(saved(other.state_dict(), {"architecture": "timm:test_resnet"}))
    facts = find_model("path:other.safetensors")
    with pytest.raises(ModelError, match="not those of test_resnet") as caught:
        source_of(facts).weights(facts)
    assert caught.value.move == "name the architecture that the weights were made with"
    with pytest.raises(ModelError, match="nothing of the weights fits"):
        find_model("path:other.safetensors", Access(allow=("*",)))


def test_differences_of_a_saved_folder(hub, tmp_path, text_table, command):
    put_text("bert", "BertModel", SMALL)(hub, tmp_path)
    from safetensors.torch import load_file

    path = tmp_path / "made/model.safetensors"
    state = {k: v for k, v in load_file(path).items() if "layer.1." not in k}
    path.write_bytes(saved(state, {"format": "pt"}))
    name = f"path:{tmp_path / 'made'}"
    refused = command("fit", text_table, "--model", name, "--out", "run", "--threads", 1)
    assert refused.code == 1 and "missing: encoder.layer.1." in refused.err
    advice = refused.err.split('--allow "')[1].split('"')[0]
    done = command("fit", text_table, "--model", name, "--allow", advice, "--out", "run", "--threads", 1)
    assert done.code == 0 and "of its weights are new" in done.err


def test_what_was_fetched_before_is_found_and_opened_without_a_hub(hub, tmp_path):
    from regraft.pretrained import fetched_models
    from regraft.pretrained.catalogue import entry_of

    assert fetched_models("image") == []
    name, _ = put_timm("mobilenetv4_conv_small.e2400_r224_in1k")(hub, tmp_path)
    facts = find_model(name)
    source_of(facts).weights(facts)
    hub_room._opened.clear()
    asked = len(hub.requests)
    (found,) = fetched_models("image")
    assert found.name == f"{name}@{facts.revision}" and found.sha256 == facts.sha256 and fetched_models("text") == []
    assert entry_of(found).accuracy == entry_of(facts).accuracy is not None
    # by this name it is opened later with any leave, and nothing is asked
    hub_room._opened.clear()
    again = find_model(found.name)
    assert set(source_of(again).weights(again)) == set(source_of(facts).weights(facts)) and len(hub.requests) == asked
    (hub_room._root(facts.repository) / facts.revision / facts.file).unlink()
    assert fetched_models("image") == []
