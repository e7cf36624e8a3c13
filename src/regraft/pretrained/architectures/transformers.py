"""Encoders of transformers for texts, pictures and sounds, from their configuration as plain data, with a stated pooling.

Only classes that transformers itself has are built: nothing that a configuration names is fetched, imported or run.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, ModelError, nearest
from regraft.pretrained.base import Architecture
from regraft.pretrained.operators import declare_missing_operators
from regraft.pretrained.tensors import Fit

if TYPE_CHECKING:
    from torch import Tensor, nn

INPUTS = {"input_ids": "text", "pixel_values": "image", "input_values": "audio"}
"""What a class of transformers calls its main input -> the task."""

SPECTROGRAM = "audio-spectrogram-transformer"
"""The kind of network whose `input_values` are mel frames, not samples."""

POOLINGS = ("mean", "cls", "pooled")
"""Over the tokens that hold something; the first token; what the network itself calls its pooled output."""

ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "Identity",
    "torch.nn.modules.activation.Tanh": "Tanh",
    "torch.nn.modules.activation.ReLU": "ReLU",
    "torch.nn.modules.activation.GELU": "GELU",
    "torch.nn.modules.activation.Sigmoid": "Sigmoid",
}
"""What sentence-transformers calls an activation -> torch's class, as it is without settings."""

LARGEST, DEEPEST = 10_000_000, 1_000
"""Numbers in a configuration that are believed; and numbers of layers."""

WIDEST = 65_536
"""Numbers in a row of features that are believed."""


def build(description: Mapping[str, Any], classes: int) -> nn.Module:
    """A module of what its task's modality collates, giving (n, classes) or features (n, width).

    `description`: config (of transformers, with model_type), pooling (one of `POOLINGS`), after (layers behind the pooling, see
    `layers_after`; none without it), normalize (length one), width. Texts:
    input_ids and attention_mask (n, length). Pictures: x (n, 3, h, w). Sounds: samples (n, length) and lengths (n,), how many of
    them are sound; for a `SPECTROGRAM` mel (n, bands, frames).
    """
    import torch
    from torch import nn

    config = configuration(description["config"])
    if description.get("answers"):
        return _answering(description["config"], config)
    cls, options = class_of(config)
    task, pooling = INPUTS[cls.main_input_name], str(description["pooling"])
    if pooling not in POOLINGS:
        raise ModelError(f"there is no pooling {pooling!r}. {nearest(pooling, POOLINGS)}".rstrip(), expected=", ".join(POOLINGS))
    normalize, width = bool(description.get("normalize")), int(description["width"])

    class Encoder(nn.Module):
        """The network of transformers, a pooling, an output layer."""

        def __init__(self) -> None:
            super().__init__()
            with quiet():
                self.encoder = cls(config, **options)
            if description.get("after"):
                self.after = layers_after(description["after"])
            self.head = nn.Linear(width, classes) if classes else nn.Identity()

        def pooled(self, out: Any, mask: Tensor | None) -> Tensor:
            if pooling == "pooled":
                row = out.pooler_output.flatten(1)
            elif pooling == "cls":
                row = out.last_hidden_state[:, 0]
            elif mask is None:
                row = out.last_hidden_state.mean(1)
            else:
                row = (out.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1e-9)
            if description.get("after"):
                row = self.after(row)
            return self.head(nn.functional.normalize(row, dim=1) if normalize else row)

    class TextEncoder(Encoder):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            out = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
            return self.pooled(out, attention_mask.to(out.last_hidden_state.dtype))

    class ImageEncoder(Encoder):
        def forward(self, x: Tensor) -> Tensor:
            return self.pooled(self.encoder(pixel_values=x), None)

    class SoundEncoder(Encoder):
        def forward(self, samples: Tensor, lengths: Tensor) -> Tensor:
            places = torch.arange(samples.shape[1], device=samples.device)[None, :]
            # those whose first layers normalise over the whole sound were trained on padding without a mask
            masked = config.feat_extract_norm == "layer"
            mask = (places < lengths[:, None]).long() if masked else None
            hidden = self.encoder(input_values=samples, attention_mask=mask)
            frames = self.encoder._get_feat_extract_output_lengths(lengths).clamp_min(1)
            inside = torch.arange(hidden.last_hidden_state.shape[1], device=samples.device)[None, :] < frames[:, None]
            return self.pooled(hidden, inside.to(hidden.last_hidden_state.dtype))

    class SpectrogramEncoder(Encoder):
        def forward(self, mel: Tensor) -> Tensor:
            return self.pooled(self.encoder(input_values=mel.transpose(1, 2)), None)

    if config.model_type == SPECTROGRAM:
        return SpectrogramEncoder()
    return {"text": TextEncoder, "image": ImageEncoder, "audio": SoundEncoder}[task]()


def layers_after(rows: Sequence[Mapping[str, Any]]) -> nn.Sequential:
    """The modules of sentence-transformers behind its pooling, with random weights, under the names that it gives their tensors.

    A row says in, out, bias and activation (one of `ACTIVATIONS`) of a Dense. ModelError for one that cannot be.
    """
    from torch import nn

    layers, width = [], None
    for row in rows:
        inner, outer, activation = row["in"], row["out"], str(row["activation"])
        if activation not in ACTIVATIONS:
            raise ModelError(f"the activation {activation} of a dense layer is not supported", expected=", ".join(ACTIVATIONS))
        if not all(type(n) is int and 0 < n <= WIDEST for n in (inner, outer)) or width not in (None, inner):
            found = f"from {inner!r} to {outer!r}" + (f" behind one that gives {width:,}" if width else "")
            raise ModelError(f"a dense layer {found} numbers cannot be", expected=f"1 to {WIDEST:,}, as many as come in")
        linear = nn.Linear(inner, outer, bias=bool(row["bias"]))
        layers.append(nn.Sequential(OrderedDict(linear=linear, activation=getattr(nn, ACTIVATIONS[activation])())))
        width = outer
    return nn.Sequential(*layers)


def configuration(plain: Any) -> Any:
    """transformers' configuration of plain data; ModelError for one that it does not know, or that asks for more than a network."""
    library()
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if not isinstance(plain, Mapping):
        raise ModelError("the configuration is not an object", expected="what transformers writes as config.json")
    kind = plain.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        own = "; it brings code of its own, which is never run" if plain.get("auto_map") else ""
        hint = nearest(str(kind), list(CONFIG_MAPPING.keys()))
        raise ModelError(
            f"transformers has no network of the kind {kind!r}{own}. {hint}".rstrip(), move="pip install --upgrade transformers"
        )
    for key in ("quantization_config", "use_timm_backbone", "use_pretrained_backbone", "backbone", "vision_tower"):
        if plain.get(key):
            raise ModelError(f"its configuration asks for {key}, which is not supported", expected="a network that stands alone, in float")
    cleaned = _cleaned(plain)
    try:
        with quiet():
            return CONFIG_MAPPING[kind](**{k: v for k, v in cleaned.items() if k != "model_type"})
    except Exception as error:
        # transformers checks values as it pleases
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(f"transformers refuses the configuration of this {kind} ({type(error).__name__}: {first})"[:300]) from None


_DROPPED = (
    "auto_map",
    "custom_pipelines",
    "attn_implementation",
    "experts_implementation",
    "use_kernels",
    "dtype",
    "torch_dtype",
    "transformers_version",
)
"""What a configuration may name that could be fetched or run, or that says how it was saved."""


def _cleaned(value: Any, key: str = "", depth: int = 0) -> Any:
    """The same without what could be fetched or run; ModelError for numbers beyond reason."""
    if depth > 8:
        raise ModelError("the configuration is nested too deeply")
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if isinstance(k, str) and not k.startswith("_") and k not in _DROPPED}
        return {k: _cleaned(v, k, depth + 1) for k, v in kept.items()}
    if isinstance(value, list):
        return [_cleaned(v, key, depth + 1) for v in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        limit = DEEPEST if "layers" in key or key in ("depth", "depths") else LARGEST
        if (
            isinstance(value, int)
            and abs(value) > limit
            and ("size" in key or "num" in key or "dim" in key or "depth" in key or "max_" in key)
        ):
            raise ModelError(f"the configuration states {key} {value:,}", expected=f"at most {limit:,}")
    return value


def plain(config: Any) -> dict[str, Any]:
    """A configuration as the plain data that `configuration` takes, for a bundle."""
    kept = _cleaned(config)
    for key in ("id2label", "label2id", "architectures", "task_specific_params", "finetuning_task"):
        # of the old output layer, of no use without it
        kept.pop(key, None)
    return kept


def class_of(config: Any) -> tuple[Any, dict[str, Any]]:
    """The class of transformers for an encoder, and the options to build it without a pooling layer of its own.

    ModelError for what is no encoder of texts, pictures or sounds.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES, MODEL_MAPPING

    kind = config.model_type
    generates = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if kind == "timm_wrapper":
        raise ModelError("this repository holds a network of timm", move="timm:NAME.TAG")
    if (
        generates
        or getattr(config, "is_encoder_decoder", False)
        or getattr(config, "is_decoder", False)
        or type(config) not in MODEL_MAPPING
    ):
        raise ModelError(f"a {kind} is not an encoder of texts, pictures or sounds", expected="such as bert, vit, clip, wav2vec2, whisper")
    cls: Any = MODEL_MAPPING[type(config)]
    # of those for pictures or sounds alone: a network of two kinds of input calls one of them its main one
    if (
        cls.main_input_name not in INPUTS
        or hasattr(config, "text_config")
        or (INPUTS[cls.main_input_name] == "audio" and kind != SPECTROGRAM and not hasattr(config, "feat_extract_norm"))
    ):
        raise ModelError(f"networks of the kind {kind} are not supported: their input is {cls.main_input_name}", expected=", ".join(INPUTS))
    return cls, {"add_pooling_layer": False} if _has_dense_pooler(cls, config) else {}


def _has_dense_pooler(cls: Any, config: Any) -> bool:
    """Whether it would add a pooling layer with weights that only its own pretraining used; one without weights is kept."""
    if "add_pooling_layer" not in inspect.signature(cls.__init__).parameters:
        return False
    if cls.main_input_name == "input_ids":
        return True
    import torch

    with torch.device("meta"), quiet():
        names = cls(config).state_dict()
    return any("pooler." in name and "dense" in name for name in names)


def load(config: Any, state: Mapping[str, Tensor], what: str, fit: Fit | None = None) -> tuple[dict[str, Tensor], list[str]]:
    """(the encoder's tensors by its own names, the names in `state` that it did not take).

    transformers knows how names of older files became those of today. ModelError names what is missing or of another shape, but for what
    `fit` allows.
    """
    import torch

    fit = fit or Fit()
    cls, options = class_of(config)
    with quiet(), torch.random.fork_rng(devices=[]):
        # what the weights lack is drawn, the same every time
        torch.manual_seed(0)
        try:
            network, found = cls.from_pretrained(
                None,
                config=config,
                state_dict=dict(state),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                **options,
            )
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise ModelError(f"transformers cannot put the weights into {what} ({type(error).__name__}: {first})"[:300]) from None
    extra = sorted(found["unexpected_keys"])
    lacking = {"missing": sorted(found["missing_keys"]), "of another shape": sorted(str(key[0]) for key in found["mismatched_keys"])}
    own = dict(network.state_dict())
    fit.check({*own, *state}, what)
    fit.new |= {name: own[name].numel() for names in lacking.values() for name in names if fit.allows(name)}
    fit.left_out += [name for name in extra if fit.allows(name)]
    faults = [f"{word}: {name}" for word, names in lacking.items() for name in names if not fit.allows(name)]
    if faults:
        parts = {name.split(": ")[1].rsplit(".", 1)[0] for name in faults}
        few = 2 * len(faults) <= len(own)
        raise ModelError(
            f"the weights are not those of {what}: {len(lacking['missing'])} tensors are missing, {len(lacking['of another shape'])} of "
            f"another shape, {len(extra)} extra",
            faults=[*faults[:8], *(f"extra: {name}" for name in extra[:4])],
            move=f'--allow "{", ".join([*fit.allow, *(f"{p}.*" for p in sorted(parts))])}", if these differences are meant'
            if few
            else "the config.json beside the weights says another architecture",
        )
    return {f"encoder.{k}": v.detach() for k, v in own.items()}, extra


def answering(plain: Mapping[str, Any]) -> Any:
    """The class of transformers that a configuration was saved by, when it says one class of several of a text, picture or sound.

    None for others: encoders, networks of several labels at once, of a number, with code of their own.
    """
    library()
    from transformers.models.auto import modeling_auto as auto

    classes = plain.get("architectures")
    if plain.get("problem_type") in ("multi_label_classification", "regression") or not isinstance(classes, list) or len(classes) != 1:
        return None
    config = configuration(plain)
    for mapping in (
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
    ):
        cls = mapping.get(type(config), None)
        if cls is not None and not isinstance(cls, tuple) and cls.__name__ == classes[0] and cls.main_input_name in INPUTS:
            return cls
    return None


def whole(plain: Mapping[str, Any], cls: Any, state: Mapping[str, Tensor], what: str) -> nn.Module:
    """The network of a class that `answering` gave, with its weights: inputs as those of `build`, scores (n, outputs).

    ModelError names what is missing or of another shape.
    """
    import torch

    config = configuration(plain)
    with quiet():
        try:
            network, found = cls.from_pretrained(
                None, config=config, state_dict=dict(state), output_loading_info=True, ignore_mismatched_sizes=True, dtype=torch.float32
            )
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise ModelError(f"transformers cannot put the weights into {what} ({type(error).__name__}: {first})"[:300]) from None
    lacking = [*sorted(found["missing_keys"]), *map(str, found["mismatched_keys"])]
    if lacking:
        raise ModelError(f"{what} lacks weights of its output layer", faults=[f"missing: {name}" for name in lacking[:5]])
    return _as_published(network, config)


def answers(held: Mapping[str, Any]) -> dict[str, Any]:
    """The description of a network with its own output layers, whose configuration has a class that `answering` gives."""
    config = {**plain(held), **{key: held[key] for key in ("architectures", "id2label") if key in held}}
    return {"builder": "transformers", "config": _cleaned(config), "answers": True}


def _answering(held: Mapping[str, Any], config: Any) -> nn.Module:
    """The network of a description that `answers` gave, with random weights."""
    cls = answering(held)
    if cls is None:
        raise ModelError(f"no network with classes of its own can be built of this {config.model_type}", expected="what transformers saved")
    with quiet():
        return _as_published(cls(config), config)


def _as_published(network: Any, config: Any) -> nn.Module:
    """A network of transformers as a module of what its modality collates, which gives scores (n, outputs)."""
    import torch
    from torch import nn

    task = INPUTS[network.main_input_name]
    masked = getattr(config, "feat_extract_norm", "layer") == "layer"

    class AsPublished(nn.Module):
        """The whole network."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, **inputs: Tensor) -> Tensor:
            if task == "image":
                return self.network(pixel_values=inputs["x"]).logits
            if task == "text":
                return self.network(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
            if config.model_type == SPECTROGRAM:
                return self.network(input_values=inputs["mel"].transpose(1, 2)).logits
            samples, lengths = inputs["samples"], inputs["lengths"]
            mask = (torch.arange(samples.shape[1], device=samples.device)[None, :] < lengths[:, None]).long() if masked else None
            return self.network(input_values=samples, attention_mask=mask).logits

    return AsPublished().eval()


def outline(config: Any) -> tuple[int, int, bool]:
    """(parameters of the encoder, width of its features by its own pooling or tokens, whether it pools); nothing is filled.

    ModelError for a configuration of which no network can be built.
    """
    import torch

    cls, options = class_of(config)
    try:
        with torch.device("meta"), torch.inference_mode(), quiet():
            network = cls(config, **options).eval()
            if config.model_type == SPECTROGRAM:
                network(input_values=torch.zeros(1, config.max_length, config.num_mel_bins))
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(f"no {config.model_type} can be built as its configuration says ({type(error).__name__}: {first})"[:300]) from None
    parameters = sum(p.numel() for p in network.parameters())
    if INPUTS[cls.main_input_name] != "image":
        return parameters, int(config.hidden_size), config.model_type == SPECTROGRAM
    side = config.image_size if hasattr(config, "image_size") else 224
    height, width = side if isinstance(side, (list, tuple)) else (side, side)
    with torch.inference_mode(), quiet():
        out = network(pixel_values=torch.zeros(2, int(getattr(config, "num_channels", 3)), height, width, device="meta"))
    pooled = getattr(out, "pooler_output", None)
    return parameters, int((pooled if pooled is not None else out.last_hidden_state[:, 0]).flatten(1).shape[1]), pooled is not None


def library() -> Any:
    """transformers; MissingExtra with the install line when it cannot be imported."""
    declare_missing_operators()
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra(f"networks of hf: need transformers ({error})", move="pip install 'regraft[text]'") from None
    return transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars and reports of the library meanwhile: only the command line prints."""
    from transformers.utils import logging as theirs

    logger, bars = logging.getLogger("transformers"), theirs.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            theirs.enable_progress_bar()


ARCHITECTURE = Architecture("transformers", build)
