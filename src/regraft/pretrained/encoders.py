"""Encoders that transformers or sentence-transformers saved, from their files: of a repository on the hub, or of a folder.

Read as data: config.json, the processor's settings, modules.json, tokenizer.json, safetensors (one file or shards).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from regraft.errors import ModelError
from regraft.facts import ModelFacts
from regraft.pretrained.architectures import build
from regraft.pretrained.architectures import transformers as library
from regraft.pretrained.base import Old
from regraft.pretrained.tensors import Fit, as_float32, fitting, read_state

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "model.safetensors.index.json"
WHOLE = ("model.safetensors", "pytorch_model.bin")
TOKENS = 512
"""Tokens of a text that are read when the network could take more and its makers say nothing."""

WINDOW_SECONDS = 10
FRAMES, BANDS = 60_000, 512
"""Of a spectrogram that a network takes at once: what is believed, ten minutes."""

TILES = {"image": 16, "text": 16, "audio": 8}
_PROCESSORS = {
    "ViTImageProcessor": False,
    "CLIPImageProcessor": True,
    "ConvNextImageProcessor": False,
    "DeiTImageProcessor": True,
    "BitImageProcessor": True,
    "SiglipImageProcessor": False,
}
"""Those of transformers that only resize, crop and normalize -> whether they crop when nothing is said."""
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers."""


class Files(Protocol):
    """Files by name, wherever they lie."""

    @property
    def files(self) -> Mapping[str, Any]: ...

    def json(self, name: str) -> Any: ...

    def fetch(self, name: str, limit: int | None = None) -> Path: ...

    def check(self, name: str) -> Path: ...

    def sha256(self, name: str) -> str: ...


def facts_of(files: Files, name: str, *, licence: str, trained_on: str, origin: str) -> ModelFacts:
    """What is known of an encoder; ModelError names what is not supported."""
    held = files.json("config.json")
    if not isinstance(held, dict):
        raise ModelError(f"{name} has no config.json, which says what network it is", expected="what transformers saves")
    if held.get("model_type") == "whisper":
        found = _whisper(files, held, name)
    else:
        found = _encoder(files, held, name)
    main, names = weight_files(files, name), all_weight_files(files, name, found["architecture"])
    digest = files.sha256(names[0]) if len(names) == 1 else hashlib.sha256("".join(map(files.sha256, names)).encode()).hexdigest()
    return ModelFacts(
        name=name,
        published="see the card of its repository",
        licence=licence,
        trained_on=trained_on,
        origin=origin,
        tile=TILES[found["task"]],
        file=INDEX if len(main) > 1 else main[0],
        sha256=digest,
        **found,
    )


def weight_files(files: Files, name: str) -> list[str]:
    """The files that hold the weights: one, or the shards that an index names. Safetensors come first."""
    if WHOLE[0] in files.files:
        return [WHOLE[0]]
    if INDEX in files.files:
        index = files.json(INDEX)
        places = index.get("weight_map") if isinstance(index, dict) else None
        shards = sorted({str(v) for v in places.values()}) if isinstance(places, dict) else []
        if not shards or any(s not in files.files or not s.endswith(".safetensors") for s in shards):
            raise ModelError(f"{INDEX} of {name} names shards that are not there, or are not safetensors", faults=shards[:5])
        return shards
    if WHOLE[1] in files.files:
        return [WHOLE[1]]
    raise ModelError(f"{name} holds no weights that are read", expected=f"{WHOLE[0]}, its shards, or {WHOLE[1]} with nothing but tensors")


def all_weight_files(files: Files, name: str, architecture: Mapping[str, Any]) -> list[str]:
    """Those of `weight_files`, and those of the layers behind its pooling."""
    return [*weight_files(files, name), *(_dense_files(files, name) if architecture.get("after") else ())]


def state_of(files: Files, name: str) -> dict[str, Tensor]:
    """All tensors, float32."""
    state: dict[str, Tensor] = {}
    for file in weight_files(files, name):
        state |= read_state(files.check(file))
    return as_float32(state)


def weights_of(files: Files, facts: ModelFacts, fit: Fit | None = None) -> dict[str, Tensor]:
    """The backbone's tensors as its architecture names them."""
    state = state_of(files, facts.name)
    if facts.architecture["builder"] == "speech":
        encoder = {k.removeprefix("model."): v for k, v in state.items() if k.removeprefix("model.").startswith("encoder.")}
        return fitting(encoder, lambda: build(facts.architecture, 0), facts.name, fit=fit)
    loaded, _ = library.load(library.configuration(facts.architecture["config"]), state, facts.name, fit)
    if after := facts.architecture.get("after"):
        loaded |= _dense_weights(files, facts.name, after)
    return as_float32(loaded)


def old_head_of(files: Files, facts: ModelFacts) -> dict[str, Tensor]:
    """The tensors of the old output layer, as `head`."""
    if not facts.outputs:
        return {}
    state = state_of(files, facts.name)
    weight = next(n for n in _CLASSIFIERS if n in state)
    return {"head.weight": state[weight], "head.bias": state[weight.removesuffix("weight") + "bias"]}


def old_of(files: Files, facts: ModelFacts) -> Old | None:
    """The whole network with its own output layers, as transformers builds it; None when it says no one class of several."""
    held = files.json("config.json")
    kind = library.answering(held) if isinstance(held, dict) else None
    if kind is None or facts.architecture["builder"] != "transformers":
        return None
    names = held.get("id2label")
    outputs, labels = len(names) if isinstance(names, dict) else 2, _class_names(names)
    if outputs < 2:
        return None
    return Old(outputs, labels, library.answers(held), lambda: library.whole(held, kind, state_of(files, facts.name), facts.name))


_CLASSIFIERS = ("classifier.weight", "classifier.1.weight")
_PLAIN_HEADS = {
    "ViTForImageClassification": "cls",
    "DeiTForImageClassification": "cls",
    "ResNetForImageClassification": "pooled",
    "ConvNextForImageClassification": "pooled",
    "ConvNextV2ForImageClassification": "pooled",
    "SwinForImageClassification": "pooled",
    "Swinv2ForImageClassification": "pooled",
    "RegNetForImageClassification": "pooled",
}
"""Classes whose output layer is one linear layer on the features that are taken here -> by which pooling."""


def _encoder(files: Files, held: dict[str, Any], name: str) -> dict[str, Any]:
    import torch

    kind = str(held.get("model_type"))
    if isinstance(held.get("vision_config"), dict) and kind in ("clip", "siglip", "siglip2"):
        # of a network for pictures and texts, the part for pictures
        held = {**held["vision_config"], "model_type": f"{kind}_vision_model"}
    config = library.configuration(held)
    cls, _ = library.class_of(config)
    task = library.INPUTS[cls.main_input_name]
    parameters, width, pools = library.outline(config)
    description: dict[str, Any] = {"builder": "transformers", "config": library.plain(held), "pooling": "mean", "normalize": False}
    outputs, labels, extra = 0, (), {}
    if task == "text":
        preprocessing, extra, pooling = _text(files, config, name)
        description |= pooling
        if after := description.get("after"):
            if after[0]["in"] != width:
                raise ModelError(f"the dense layer of {name} takes {after[0]['in']!r} numbers", expected=f"the {width:,} of its network")
            with torch.device("meta"):
                parameters += sum(p.numel() for p in library.layers_after(after).parameters())
            width = after[-1]["out"]
        how = {"mean": "the mean of its tokens", "cls": "its first token"}[description["pooling"]]
        how += "".join(f", a dense layer to {row['out']}" for row in after or ())
        about = f"{kind} of transformers, {how}, up to {preprocessing['max_tokens']} tokens"
        if preprocessing.get("prefix"):
            about += f", each text after {preprocessing['prefix']!r}"
    elif task == "image":
        description["pooling"] = "pooled" if pools else "cls"
        preprocessing = _image(files, name)
        outputs, labels = _old_classes(held, description["pooling"])
        about = f"{kind} of transformers, {preprocessing['size']} px"
    elif kind == library.SPECTROGRAM:
        description["pooling"] = "pooled"
        preprocessing = _spectrogram(files, config, name)
        about = f"{kind} of transformers, windows of {preprocessing['window_seconds']:g} s in {preprocessing['bands']} mel bands"
    else:
        preprocessing = _sound(files, name)
        about = f"{kind} of transformers, the mean over time"
    return {
        "task": task,
        "about": about,
        "architecture": {**description, "width": width},
        "preprocessing": preprocessing,
        "parameters": parameters,
        "features": width,
        "outputs": outputs,
        "labels": labels,
        "extra_files": extra,
    }


def _old_classes(held: Mapping[str, Any], pooling: str) -> tuple[int, tuple[str, ...]]:
    classes, names = held.get("architectures"), held.get("id2label")
    if not isinstance(classes, list) or len(classes) != 1 or _PLAIN_HEADS.get(str(classes[0])) != pooling:
        return 0, ()
    return len(names) if isinstance(names, dict) else 2, _class_names(names)


def _class_names(names: Any) -> tuple[str, ...]:
    """What `id2label` calls the classes, in order; nothing when these are only numbers, or not all different."""
    if not isinstance(names, dict):
        return ()
    labels = tuple(str(names.get(str(i), "")) for i in range(len(names)))
    generic = all(label in ("", f"LABEL_{i}") for i, label in enumerate(labels))
    return () if generic or len(set(labels)) < len(labels) else labels


# ---------------------------------------------------------------- texts


def _text(files: Files, config: Any, name: str) -> tuple[dict[str, Any], dict[str, tuple[str, str]], dict[str, Any]]:
    if "tokenizer.json" not in files.files:
        raise ModelError(
            f"{name} has no tokenizer.json", expected="a tokenizer as the library tokenizers writes it", move="another repository"
        )
    pooling, folder = _sentence_pooling(files, name)
    if folder:
        raise ModelError(f"{name} keeps its network in the folder {folder!r}", expected="its files beside modules.json")
    stated = files.json("sentence_bert_config.json") or {}
    settings = files.json("tokenizer_config.json") or {}
    pad = config.pad_token_id if isinstance(config.pad_token_id, int) and config.pad_token_id >= 0 else 0
    room = getattr(config, "max_position_embeddings", None)
    if isinstance(room, int) and config.model_type in ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"):
        # their positions are counted from after the padding's number
        room -= pad + 1
    wanted = [stated.get("max_seq_length"), settings.get("model_max_length")]
    wanted = [n for n in wanted if isinstance(n, (int, float)) and 0 < n < 1_000_000]
    limit = int(wanted[0]) if wanted else TOKENS
    if not (isinstance(stated.get("max_seq_length"), int)):
        limit = min(limit, TOKENS)
    if isinstance(room, int) and room > 0:
        limit = min(limit, room)
    preprocessing: dict[str, Any] = {"tokenizer": "tokenizer.json", "max_tokens": limit, "pad_id": pad}
    if prefix := _prefix(files, name):
        preprocessing["prefix"] = prefix
    if stated.get("do_lower_case"):
        preprocessing["lower"] = True
    return preprocessing, {"tokenizer.json": ("tokenizer.json", files.sha256("tokenizer.json"))}, pooling


def _sentence_pooling(files: Files, name: str) -> tuple[dict[str, Any], str]:
    """(pooling and normalize, the folder of the network) that sentence-transformers stated; the mean over the tokens without it."""
    modules = _modules(files, name)
    if not modules:
        return {}, ""
    out: dict[str, Any] = {}
    kinds = [kind for kind, _ in modules]
    last = kinds[-1] == "Normalize"
    if kinds[:2] != ["Transformer", "Pooling"] or any(k != "Dense" for k in kinds[2 : len(kinds) - last]):
        raise ModelError(
            f"the modules of {name} are {', '.join(kinds)}", expected="Transformer, Pooling, Dense or nothing, and Normalize or nothing"
        )
    out["normalize"] = last
    if after := [_dense(files, folder, name) for kind, folder in modules if kind == "Dense"]:
        out["after"] = after
    held = files.json(f"{modules[1][1] or '.'}/config.json")
    if not isinstance(held, dict):
        raise ModelError(f"{name} does not say how its tokens are pooled", expected="1_Pooling/config.json")
    modes = [k.removeprefix("pooling_mode_") for k, v in held.items() if k.startswith("pooling_mode_") and v]
    if isinstance(mode := held.get("pooling_mode"), (str, list)):
        modes = [mode] if isinstance(mode, str) else mode
    known = {"mean_tokens": "mean", "cls_token": "cls", "mean": "mean", "cls": "cls"}
    if len(modes) != 1 or modes[0] not in known:
        raise ModelError(f"{name} pools its tokens by {' and '.join(map(str, modes)) or 'nothing'}", expected="mean_tokens or cls_token")
    if held.get("include_prompt") is False and _prefix(files, name):
        raise ModelError(f"{name} leaves its prompt out of the mean of the tokens, which is not supported")
    out["pooling"] = known[modes[0]]
    return out, modules[0][1]


def _modules(files: Files, name: str) -> list[tuple[str, str]]:
    """(kind, folder) of each module that sentence-transformers saved; nothing when it did not. A kind not its own by its whole name."""
    rows = files.json("modules.json")
    if rows is None:
        return []
    if not isinstance(rows, list) or not rows or not all(isinstance(m, dict) for m in rows):
        raise ModelError(f"modules.json of {name} is not a list of modules")
    kinds = [str(m.get("type", "")) for m in rows]
    kinds = [k.rsplit(".", 1)[-1] if k.startswith("sentence_transformers.") else k for k in kinds]
    return [(kind, str(m.get("path") or "").rstrip("/")) for kind, m in zip(kinds, rows, strict=True)]


_DENSE = {
    "in_features": None,
    "out_features": None,
    "bias": True,
    "activation_function": "torch.nn.modules.activation.Tanh",
    "module_input_name": "sentence_embedding",
    "module_output_name": "sentence_embedding",
    "use_residual": False,
}
"""What a Dense of sentence-transformers states -> what it takes where nothing is said."""


def _dense(files: Files, folder: str, name: str) -> dict[str, Any]:
    """A Dense as `layers_after` takes it."""
    held = files.json(f"{folder}/config.json")
    if not isinstance(held, dict):
        raise ModelError(f"{name} does not say what its dense layer is", expected=f"{folder}/config.json")
    said = {**_DENSE, **{k: v for k, v in held.items() if v is not None}}
    faults = [f"{key}: {said[key]!r}" for key in ("module_input_name", "module_output_name", "use_residual") if said[key] != _DENSE[key]]
    faults += [f"{key}: {held[key]!r}" for key in held if key not in _DENSE]
    faults += [f"bias: {said['bias']!r}"] if not isinstance(said["bias"], bool) else []
    if faults:
        raise ModelError(f"the dense layer {folder} of {name} is not supported", faults=faults, expected=", ".join(list(_DENSE)[:4]))
    return {"in": said["in_features"], "out": said["out_features"], "bias": said["bias"], "activation": said["activation_function"]}


def _dense_files(files: Files, name: str) -> list[str]:
    """The files with the weights of the layers behind the pooling, in order."""
    found: list[str] = []
    for folder in (folder for kind, folder in _modules(files, name) if kind == "Dense"):
        places = [f"{folder}/{whole}" for whole in WHOLE]
        held = [place for place in places if place in files.files]
        if not held:
            raise ModelError(f"{name} holds no weights of its dense layer", expected=" or ".join(places))
        found.append(held[0])
    return found


def _dense_weights(files: Files, name: str, after: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The tensors of the layers behind the pooling as the architecture names them."""
    places = _dense_files(files, name)
    state = {f"{i}.{key}": tensor for i, place in enumerate(places) for key, tensor in read_state(files.check(place)).items()}
    try:
        state = fitting(state, lambda: library.layers_after(after), f"the dense layers of {name}")
    except ModelError as error:
        raise ModelError(error.found, faults=error.faults, expected="what the config.json beside them says") from None
    return {f"after.{key}": tensor for key, tensor in state.items()}


def _prefix(files: Files, name: str) -> str:
    """What sentence-transformers puts before a text when nothing else is said."""
    held = files.json("config_sentence_transformers.json") or {}
    chosen, prompts = held.get("default_prompt_name"), held.get("prompts")
    if chosen is None or not isinstance(prompts, dict):
        return ""
    if not isinstance(prompts.get(chosen), str):
        raise ModelError(f"{name} names a prompt {chosen!r} that it does not have")
    return prompts[chosen]


# ---------------------------------------------------------------- pictures


def _image(files: Files, name: str) -> dict[str, Any]:
    """preprocessor_config.json as the image modality takes it: what Pillow does, as transformers' processors on Pillow do."""
    held = files.json("preprocessor_config.json")
    if not isinstance(held, dict):
        raise ModelError(f"{name} has no preprocessor_config.json, which says how pictures are prepared")
    known = {
        "do_resize",
        "size",
        "resample",
        "do_center_crop",
        "crop_size",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
    }
    also = {"do_convert_rgb", "image_processor_type", "feature_extractor_type", "processor_class", "do_convert_annotations", "data_format"}
    odd = [k for k, v in held.items() if k not in known | also and not k.startswith("_") and v not in (None, False, [], {})]
    kind = str(held.get("image_processor_type") or held.get("feature_extractor_type") or "ViTImageProcessor")
    kind = kind.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if kind not in _PROCESSORS:
        raise ModelError(f"the pictures of {name} are prepared by {kind}, which is not supported", expected=", ".join(_PROCESSORS))
    if _PROCESSORS[kind] and "do_center_crop" not in held:
        raise ModelError(f"the preprocessor_config.json of {name} does not say do_center_crop")
    crop_pct = held.get("crop_pct")
    faults = [f"{k}: {held[k]!r}" for k in odd if k != "crop_pct"]
    if not held.get("do_resize", True) or not held.get("do_rescale", True) or not held.get("do_normalize", True):
        faults.append("it does not resize, rescale and normalize")
    if abs(float(held.get("rescale_factor", 1 / 255)) - 1 / 255) > 1e-9:
        faults.append(f"rescale_factor: {held.get('rescale_factor')!r}")
    resample = _RESAMPLE.get(held.get("resample", 2) if isinstance(held.get("resample", 2), int) else -1)
    if resample is None:
        faults.append(f"resample: {held.get('resample')!r}")
    size, crop = held.get("size"), held.get("crop_size") if held.get("do_center_crop") else None
    out: dict[str, Any] = {}
    if crop_pct is not None and isinstance(size, dict) and set(size) == {"shortest_edge"}:
        # ConvNext: below 384 px the shorter side becomes size / crop_pct, from there on each side the size
        edge = int(size["shortest_edge"])
        out = (
            {"size": edge, "resize_to": int(edge / float(crop_pct))}
            if edge < 384
            else {"size": edge, "crop_mode": "squash", "resize_to": edge}
        )
    elif isinstance(size, dict) and set(size) == {"shortest_edge"} and (sides := _sides(crop)):
        out = {"size": sides[0] if sides[0] == sides[1] else sides, "resize_to": int(size["shortest_edge"])}
        if max(sides) > out["resize_to"]:
            faults.append(f"it crops {sides} out of {size}, which pads small pictures")
    elif sides := _sides(size):
        inner = _sides(crop) or sides
        if inner[0] > sides[0] or inner[1] > sides[1]:
            faults.append(f"it crops {inner} out of {sides}")
        out = {"size": inner[0] if inner[0] == inner[1] else inner, "crop_mode": "squash", "resize_to": sides}
    else:
        faults.append(f"size {size!r} with crop_size {crop!r}")
    mean, std = held.get("image_mean"), held.get("image_std")
    if not all(isinstance(v, list) and len(v) == 3 and all(isinstance(n, (int, float)) for n in v) for v in (mean, std)):
        faults.append(f"image_mean {mean!r}, image_std {std!r}")
    if faults:
        raise ModelError(f"the pictures of {name} cannot be prepared as its preprocessor_config.json says", faults=faults)
    return {**out, "crop_pct": 1.0, "crop_at": "floor", "interpolation": resample, "mean": mean, "std": std}


def _sides(size: Any) -> list[int] | None:
    """[height, width] of what transformers calls a size."""
    if isinstance(size, int) and not isinstance(size, bool):
        return [size, size]
    if isinstance(size, dict) and set(size) == {"height", "width"} and all(isinstance(v, int) for v in size.values()):
        return [size["height"], size["width"]]
    return None


# ---------------------------------------------------------------- sounds


def _sound(files: Files, name: str) -> dict[str, Any]:
    held = files.json("preprocessor_config.json")
    kind = held.get("feature_extractor_type", "Wav2Vec2FeatureExtractor") if isinstance(held, dict) else None
    if kind != "Wav2Vec2FeatureExtractor" or held.get("sampling_rate") != 16_000 or held.get("feature_size", 1) != 1:
        raise ModelError(
            f"the sounds of {name} cannot be prepared as it asks", expected="Wav2Vec2FeatureExtractor at 16,000 samples a second"
        )
    return {"spectrogram": "samples", "window_seconds": WINDOW_SECONDS, "normalize": bool(held.get("do_normalize", True))}


_SPECTROGRAM = {
    "num_mel_bins": 128,
    "max_length": 1024,
    "do_normalize": True,
    "mean": -4.2677393,
    "std": 4.5689974,
    "sampling_rate": 16_000,
}
"""What transformers' ASTFeatureExtractor takes for what is not said."""


def _spectrogram(files: Files, config: Any, name: str) -> dict[str, Any]:
    """preprocessor_config.json of an audio spectrogram transformer as the audio modality takes it."""
    held = files.json("preprocessor_config.json")
    if not isinstance(held, dict):
        raise ModelError(f"{name} has no preprocessor_config.json, which says how sounds are prepared")
    said = {key: held.get(key, usual) for key, usual in _SPECTROGRAM.items()}
    if not said["do_normalize"]:
        said |= {"mean": 0.0, "std": 0.5}
    faults = [f"{key}: {said[key]!r}" for key in ("mean", "std") if not _is_number(said[key])]
    if not faults and said["std"] <= 0:
        faults.append(f"std: {said['std']!r}")
    for key, wanted in (("sampling_rate", 16_000), ("num_mel_bins", config.num_mel_bins), ("max_length", config.max_length)):
        if said[key] != wanted:
            faults.append(f"{key}: {said[key]!r}, expected {wanted:,}")
    if not (0 < config.max_length <= FRAMES and 0 < config.num_mel_bins <= BANDS):
        faults.append(f"{config.max_length:,} frames in {config.num_mel_bins:,} bands, expected at most {FRAMES:,} in {BANDS}")
    if (kind := held.get("feature_extractor_type", "ASTFeatureExtractor")) != "ASTFeatureExtractor":
        faults.append(f"feature_extractor_type: {kind!r}")
    if faults:
        raise ModelError(
            f"the sounds of {name} cannot be prepared as it asks",
            expected="ASTFeatureExtractor at 16,000 samples a second, with the bands and frames of the network",
            faults=faults,
        )
    return {
        "spectrogram": "kaldi-log-mel",
        "window_seconds": config.max_length / 100,
        "bands": config.num_mel_bins,
        "mean": float(said["mean"]),
        "std": float(said["std"]),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


MEL_BANDS = (80, 128)
"""What Whispers listen to: those since large-v3 to 128."""

_WHISPER = ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins", "max_source_positions")


def _whisper(files: Files, held: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The encoder of a Whisper, as the packaged one is built."""
    import torch

    stated = library.configuration(held)
    config: dict[str, Any] = {key: getattr(stated, key, None) for key in _WHISPER}
    if not all(isinstance(v, int) and 0 < v <= 10_000 for v in config.values()) or config["encoder_layers"] > library.DEEPEST:
        raise ModelError(f"the configuration of {name} cannot be right", faults=[f"{k}: {v!r}" for k, v in config.items()])
    if config["num_mel_bins"] not in MEL_BANDS or config["max_source_positions"] < 50 * WINDOW_SECONDS:
        raise ModelError(
            f"{name} listens to {config['num_mel_bins']} mel bands, at most {config['max_source_positions']} positions",
            expected=f"{' or '.join(map(str, MEL_BANDS))} bands",
        )
    architecture = {"builder": "speech", "config": config}
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build(architecture, 0).parameters())
    return {
        "task": "audio",
        "about": f"the encoder of a Whisper: {config['encoder_layers']} transformer layers of {config['d_model']} on log-mel frames",
        "architecture": architecture,
        "preprocessing": {"window_seconds": WINDOW_SECONDS, **({"bands": bands} if (bands := config["num_mel_bins"]) != 80 else {})},
        "parameters": parameters,
        "features": config["d_model"],
    }
