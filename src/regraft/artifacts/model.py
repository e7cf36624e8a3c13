"""A bundle made into something that predicts, and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from regraft.errors import BundleError, ModelError
from regraft.facts import AnyPrediction, LeftOut, ModelFacts
from regraft.features import stream
from regraft.modality import MODALITIES, Modality
from regraft.pretrained.architectures import architecture_of
from regraft.targets import Target, target_from_json
from regraft.workspace.bundle import WEIGHTS, read_bundle, write_bundle

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.features.engines import Engine, Trunk

FEATURES, SCORES = "features", "scores"
"""What is averaged over the windows of an input."""

OutputLayer = Callable[[np.ndarray], np.ndarray]
"""Rows (n, d) float32 -> scores (n, outputs) float64, row by row, so that neighbours never change a bit."""

GROUP = 2048
"""Inputs whose predictions are put back in order together; bounds what is held."""


def save_bundle(
    folder: Path,
    *,
    facts: ModelFacts,
    tensors: Mapping[str, Tensor],
    files: dict[str, Path],
    features: int,
    target: Target,
    rung: str,
    engine: Engine,
    versions: dict[str, str],
    averaged: str = FEATURES,
) -> None:
    """Write the network with its new head, all its `tensors` on the CPU; its head reads so many `features`.

    `averaged` says what is averaged over the windows of a long input: the features before the head, or the scores after it.
    """
    head = architecture_of(facts.architecture).head(facts.architecture)
    manifest = {
        "task": facts.task,
        "labels": list(target.outputs),
        "target": target.to_json(),
        "train": rung,
        "architecture": dict(facts.architecture),
        "preprocessing": dict(facts.preprocessing),
        "head": {"path": head, "in": features, "out": len(target.outputs), **({} if f"{head}.weight" in tensors else {"linear": False})},
        **({"averaged": averaged} if averaged != FEATURES else {}),
        "tile": facts.tile,
        "engine": {"name": engine.name, "precision": engine.precision},
        "model": {
            "name": facts.name,
            "about": facts.about,
            "trained_on": facts.trained_on,
            "licence": facts.licence,
            "origin": facts.origin,
            "package": f"{facts.package}=={facts.version}" if facts.package else "",
            "sha256": facts.identity,
            **({"allowed": list(facts.allow)} if facts.allow else {}),
            **({"repository": facts.repository, "revision": facts.revision} if facts.repository else {}),
        },
        "versions": versions,
    }
    write_bundle(folder, manifest, {name: tensor.numpy() for name, tensor in tensors.items()}, files)


class Predictor(Protocol):
    """What `predict` asks of a model: a bundle, or a pretrained network as it was published."""

    @property
    def target(self) -> Target: ...

    @property
    def modality(self) -> Modality: ...

    @property
    def preprocessing(self) -> Mapping[str, Any]: ...

    @property
    def files(self) -> Mapping[str, Path]: ...

    @property
    def tile(self) -> int: ...

    @property
    def engine(self) -> Mapping[str, Any] | None:
        """The `name` and `precision` of the engine that its features came from; None: torch float32."""
        ...

    def backbone(self) -> tuple[nn.Module, OutputLayer]:
        """(what runs over windows, what makes scores of its rows)."""
        ...


@dataclass(frozen=True)
class Model:
    """A checked bundle. Opening it reads no weights and imports no torch; predicting does."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def labels(self) -> list[str]:
        """The names of the outputs, in order: labels, or the one number's."""
        return self.manifest["labels"]

    @property
    def target(self) -> Target:
        """What is predicted."""
        return target_of(self.manifest)

    @property
    def modality(self) -> Modality:
        """What its input is."""
        return MODALITIES[self.manifest["task"]]

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """How its input is prepared."""
        return self.manifest["preprocessing"]

    @property
    def tile(self) -> int:
        """Windows in one batch."""
        return self.manifest["tile"]

    @property
    def engine(self) -> Mapping[str, Any] | None:
        """The engine that its features came from."""
        held = self.manifest.get("engine")
        return held if isinstance(held, dict) else None

    @property
    def files(self) -> dict[str, Path]:
        """Files that travel with the network."""
        return {name: self.folder / name for name in self.manifest["files"] if name != WEIGHTS}

    def allow_code(self) -> None:
        """Let the code that its architecture names be imported and run; a network that is made without code needs no such leave."""
        from regraft.pretrained.architectures.python import allow

        if self.manifest["architecture"].get("builder") == "python":
            allow(str(self.manifest["architecture"].get("function")))

    def network(self) -> nn.Module:
        """The plain module in evaluation mode: its input is what `modality.collate` gives, its output (n, classes) scores."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from regraft.anatomy import build_network

        network = build_network(self.manifest["architecture"], len(self.labels))
        try:
            state = load_file(self.folder / WEIGHTS)
        except (SafetensorError, ValueError) as error:
            raise BundleError(f"{WEIGHTS} in {self.folder} is not safetensors: {error}", move="run `regraft fit` again") from None
        wanted = {k: tuple(v.shape) for k, v in network.state_dict().items()}
        found = {k: tuple(v.shape) for k, v in state.items()}
        if wanted != found:
            faults = [f"{k} is missing" for k in sorted(wanted.keys() - found.keys())]
            faults += [f"{k} is unknown" for k in sorted(found.keys() - wanted.keys())]
            faults += [f"{k} is {found[k]}, expected {wanted[k]}" for k in sorted(wanted.keys() & found.keys()) if wanted[k] != found[k]]
            raise BundleError(
                f"the weights in {self.folder} do not fit the network that {self.manifest['architecture']} describes", faults=faults[:10]
            )
        network.load_state_dict(state)
        return network.eval()

    @property
    def averages_scores(self) -> bool:
        """Whether what the whole network gives is averaged over windows, not the features before its head."""
        return self.manifest.get("averaged") == SCORES

    def output_layer(self) -> OutputLayer:
        """What makes scores of rows that the trunk gave. BundleError when it is not there or does not fit.

        A linear one is read without building the network.
        """
        from safetensors import SafetensorError, safe_open

        if self.averages_scores:
            return as_they_are
        path = self.manifest["head"]["path"]
        try:
            with safe_open(self.folder / WEIGHTS, framework="numpy") as tensors:
                if f"{path}.weight" not in tensors.keys():  # noqa: SIM118 - no mapping
                    return layers(self._head(self.network()))
                weight, bias = tensors.get_tensor(f"{path}.weight"), tensors.get_tensor(f"{path}.bias")
        except (SafetensorError, ValueError) as error:
            raise BundleError(f"{WEIGHTS} in {self.folder} has no usable output layer {path}: {error}") from None
        expected = (len(self.labels), self.manifest["head"]["in"])
        if weight.shape != expected or bias.shape != expected[:1]:
            raise BundleError(f"the output layer {path} of {self.folder} is {weight.shape} and {bias.shape}", expected=f"{expected}")
        return linear(weight, bias)

    def _head(self, network: nn.Module) -> nn.Module:
        from regraft.anatomy import layer_at

        return layer_at(network, self.manifest["head"]["path"])

    def backbone(self) -> tuple[nn.Module, OutputLayer]:
        """(what runs over windows, what makes scores of its rows)."""
        from torch import nn

        from regraft.anatomy import replace_layer

        network = self.network()
        if self.averages_scores:
            return network, as_they_are
        head = self._head(network)
        replace_layer(network, self.manifest["head"]["path"], nn.Identity())
        if isinstance(head, nn.Linear) and head.bias is not None:
            return network, linear(head.weight.detach().numpy(), head.bias.detach().numpy())
        return network, layers(head)


def open_model(folder: Path) -> Model:
    """Check a bundle and open it; BundleError names every fault."""
    manifest = read_bundle(folder)
    if manifest["task"] not in MODALITIES:
        raise BundleError(f"{folder} is for {manifest['task']!r}", expected=", ".join(MODALITIES), move="pip install --upgrade regraft")
    try:
        architecture_of(manifest["architecture"])
    except ModelError as error:
        raise BundleError(f"{folder}: {error.found}", move=error.move) from None
    head, path = manifest["head"], architecture_of(manifest["architecture"]).head(manifest["architecture"])
    if head.get("path") != path or head.get("out") != len(manifest["labels"]) or not isinstance(head.get("in"), int):
        raise BundleError(
            f"{folder}: the output layer that bundle.json describes is {head}", expected=f"{path} with {len(manifest['labels'])} outputs"
        )
    needed = [key for key in MODALITIES[manifest["task"]].settings if key not in manifest["preprocessing"]]
    if needed or not isinstance(manifest["model"].get("name"), str):
        raise BundleError(f"{folder}: its bundle.json lacks {', '.join(needed) or 'the name of its model'}")
    try:
        target_of(manifest)
    except ValueError as error:
        raise BundleError(f"{folder}: {error}", move="copy it again from where it was made, or run `regraft fit` again") from None
    return Model(folder, manifest)


def target_of(manifest: Mapping[str, Any]) -> Target:
    """The target in a manifest; those of format 1 know one class of several only. ValueError when it cannot be one."""
    values = manifest.get("target", {"kind": "class", "counts": manifest.get("class_counts")})
    if not isinstance(values, dict):
        raise ValueError("its target is not an object")
    return target_from_json(values, manifest["labels"])


def linear(weight: np.ndarray, bias: np.ndarray) -> OutputLayer:
    """An output layer of weight (outputs, d) and bias (outputs,), in float64."""
    wide, shift = weight.astype(np.float64), bias.astype(np.float64)
    return lambda rows: np.stack([wide @ row.astype(np.float64) + shift for row in rows]) if len(rows) else np.zeros((0, len(shift)))


def layers(head: nn.Module) -> OutputLayer:
    """A head of several layers, in evaluation mode."""
    import torch

    def scores(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate([head(torch.from_numpy(row[None].astype(np.float32))).double().numpy() for row in rows])

    return scores


def as_they_are(rows: np.ndarray) -> np.ndarray:
    """Rows that are scores already."""
    return rows.astype(np.float64)


def outputs_of(rows: np.ndarray, layer: OutputLayer, target: Target) -> np.ndarray:
    """What an output layer says of rows (n, d), as the target reads it: outputs (n, outputs) float32."""
    if not len(rows):
        return np.zeros((0, len(target.outputs)), np.float32)
    return np.concatenate([target.link(layer(row[None])) for row in rows]).astype(np.float32, copy=False)


def predict(
    model: Predictor, names: Iterable[str], sources: Iterable[Any], *, device: str, engine: Engine, workers: int
) -> Iterator[AnyPrediction | LeftOut]:
    """Predictions in the order of the inputs; an input that cannot be read gives a LeftOut. Any number of inputs."""
    parts: list[tuple[Trunk, OutputLayer]] = []
    target = model.target

    def trunk() -> Trunk:
        from regraft.features.engines import Trunk

        if not parts:
            network, layer = model.backbone()
            parts.append((Trunk(network, model.modality, model.preprocessing, model.tile, device, engine, workers), layer))
        return parts[0][0]

    prepare = model.modality.preparer(model.preprocessing, model.files)
    names, sources = iter(names), iter(sources)
    while group := list(islice(sources, GROUP)):
        rows: list[np.ndarray | str] = [""] * len(group)
        first: dict[bytes, int] = {}
        twins: list[tuple[int, bytes]] = []
        for row in stream(group, model.modality, trunk, prepare, workers=workers):
            if row.features is not None:
                rows[row.index] = row.features
                first[row.identity] = row.index
            elif row.known:
                twins.append((row.index, row.identity))
            else:
                rows[row.index] = row.reason
        for index, identity in twins:
            rows[index] = rows[first[identity]] if identity in first else "it holds the same as another one that was left out"
        for name, row in zip(islice(names, len(group)), rows, strict=True):
            if isinstance(row, str):
                yield LeftOut(name, row)
                continue
            yield target.prediction(name, outputs_of(row[None], parts[0][1], target)[0])
