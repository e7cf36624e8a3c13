"""`path:PLACE`: networks in files of this machine; nothing is fetched, and no code in them is run.

path:runs/photos-1             a run or a bundle: its backbone
path:some/folder               what transformers or sentence-transformers saved
path:weights.pth?timm=NAME     a state dict for the architecture that is named; torchvision=NAME too
path:weights.safetensors       the same, where the file's own metadata names the architecture ("architecture": "timm:NAME")
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import BundleError, ModelError, UsageError, nearest
from regraft.facts import ModelFacts
from regraft.pretrained import encoders, named
from regraft.pretrained.architectures import architecture_of, build
from regraft.pretrained.base import Access, Old, Source
from regraft.pretrained.old import as_published
from regraft.pretrained.tensors import PICKLES, Fit, fitting, read_state, safetensors_metadata
from regraft.workspace.bundle import MANIFEST, WEIGHTS, read_bundle
from regraft.workspace.files import JSON_LIMIT, read_json, sha256_file

if TYPE_CHECKING:
    from torch import Tensor

ENTRIES = 5_000
"""Files of a folder that are looked at."""


class Folder:
    """A folder's files, in the way that a repository gives them. Links that lead out of the folder are not followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.files: dict[str, Any] = {}
        for count, path in enumerate(self.folder.rglob("*")):
            if count >= ENTRIES:
                raise ModelError(f"{folder} holds more than {ENTRIES:,} files", expected="the folder of one network")
            if path.is_file() and path.resolve().is_relative_to(self.folder):
                self.files[path.relative_to(self.folder).as_posix()] = None

    def fetch(self, name: str, limit: int | None = None) -> Path:
        """The file called `name`; ModelError when there is none, or it is too large."""
        if name not in self.files:
            raise ModelError(f"{self.folder} holds no {name}")
        path = self.folder / name
        if limit is not None and path.stat().st_size > limit:
            raise ModelError(f"{path} has {path.stat().st_size:,} bytes, more than the {limit:,} that such a file may have")
        return path

    check = fetch

    def json(self, name: str) -> Any:
        """A JSON file, parsed; None when there is none of that name."""
        if name not in self.files:
            return None
        try:
            return read_json(self.fetch(name, JSON_LIMIT))
        except ValueError as error:
            raise ModelError(f"{self.folder / name} is not JSON that can be read: {error}") from None

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file."""
        return sha256_file(self.fetch(name))


def find(rest: str, may: Access) -> ModelFacts | None:
    """The facts of what lies at a path; None when nothing does. With `may.allow` its weights are compared with its architecture now."""
    facts = _found(rest)
    if facts is None or not may.allow:
        return facts
    facts = dataclasses.replace(facts, allow=may.allow)
    fit = Fit(may.allow)
    _split(facts, fit)
    return dataclasses.replace(facts, new_weights=sum(fit.new.values()), unused=tuple(sorted(fit.left_out)))


def _found(rest: str) -> ModelFacts | None:
    text, _, asked = rest.partition("?")
    place = Path(text).expanduser()
    if not place.exists():
        return None
    if place.is_dir():
        if asked:
            raise UsageError(f"path:{rest}: {text} is a folder, which says itself what it holds", expected="?timm=NAME after a file only")
        bundle = next((p for p in (place / "bundle", place) if (p / MANIFEST).is_file()), None)
        if bundle is not None:
            return _of_bundle(bundle, place)
        if (place / "config.json").is_file():
            return _of_saved(place)
        raise ModelError(
            f"{place} holds no network that is known", expected=f"a run, a bundle ({MANIFEST}), or what transformers saves (config.json)"
        )
    return _of_file(place, asked)


def nearest_names(rest: str) -> list[str]:
    """What lies beside the path that was meant."""
    parent = Path(rest.partition("?")[0]).expanduser().parent
    try:
        return [str(parent / p.name) for p in sorted(parent.iterdir())[:ENTRIES]]
    except OSError:
        return []


def _name(place: Path) -> str:
    # the last part alone: a bundle holds no paths of the machine it was made on
    return f"path:{place.resolve().name}"


def _of_saved(place: Path) -> ModelFacts:
    stated = "not stated in its folder"
    facts = encoders.facts_of(Folder(place), _name(place), licence=stated, trained_on=stated, origin="a folder on this machine")
    return _at(facts, place)


def _at(facts: ModelFacts, place: Path) -> ModelFacts:
    return dataclasses.replace(facts, place=str(place.resolve()))


def _of_bundle(bundle: Path, place: Path) -> ModelFacts:
    try:
        manifest = read_bundle(bundle)
    except BundleError as error:
        raise ModelError(error.found, expected=error.expected, faults=error.faults, move=error.move) from None
    architecture, model, head = manifest["architecture"], manifest["model"], manifest["head"]
    path = architecture_of(architecture).head(architecture)
    if head.get("path") != path or not isinstance(head.get("in"), int):
        raise ModelError(f"{bundle / MANIFEST} describes its output layer as {head}", expected=path)
    import torch

    with torch.device("meta"):
        parameters = sum(p.numel() for p in build(architecture, 0).parameters())
    said: dict[str, Any] = {k: str(model.get(k) or "not stated in its bundle") for k in ("about", "trained_on", "licence", "origin")}
    as_it_came = manifest.get("train") == "head" and isinstance(model.get("sha256"), str) and model["sha256"]
    extra = {n: (n, f["sha256"]) for n, f in manifest["files"].items() if n != WEIGHTS}
    return ModelFacts(
        name=_name(place),
        task=str(manifest["task"]),
        published="none",
        parameters=parameters,
        features=head["in"],
        tile=manifest["tile"],
        architecture=architecture,
        preprocessing=manifest["preprocessing"],
        # a backbone that was not trained is the network that it was: its features are known by that
        sha256=as_it_came or manifest["files"][WEIGHTS]["sha256"],
        file=WEIGHTS,
        extra_files=extra,
        outputs=len(manifest["labels"]),
        labels=tuple(manifest["labels"]),
        place=str(bundle.resolve()),
        **said,
    )


def _of_file(place: Path, asked: str) -> ModelFacts:
    if place.suffix not in (".safetensors", *PICKLES):
        raise ModelError(f"{place} is not a file of weights that is read", expected=f".safetensors, {', '.join(PICKLES)}")
    kind, _, name = asked.partition("=")
    labels: tuple[str, ...] = ()
    if place.suffix == ".safetensors":
        stated = safetensors_metadata(place)
        labels = _labels(stated.get("labels", ""))
        if not asked and stated.get("architecture"):
            kind, _, name = stated["architecture"].partition(":")
    if not name:
        raise UsageError(f"{place} does not say which architecture its weights are for", move=f"path:{place}?timm=NAME")
    if kind not in named.LIBRARIES:
        raise UsageError(
            f"path:{place}?{kind}=: {nearest(kind, list(named.LIBRARIES))}".rstrip(),
            expected=", ".join(f"?{k}=NAME" for k in named.LIBRARIES),
        )
    return named.facts_of(kind, name, _name(place), sha256_file(place), labels, str(place.resolve()), read_state(place))


def _labels(text: str) -> tuple[str, ...]:
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(v, str) for v in found) else ()


def weights(facts: ModelFacts) -> dict[str, Tensor]:
    """The backbone's tensors; ModelError when the file has changed since the network was found, or is another's."""
    return _split(facts, Fit(facts.allow))[0]


def old_head(facts: ModelFacts) -> dict[str, Tensor]:
    """The tensors of the old output layer: for a bundle, the one that was fitted."""
    return _split(facts, Fit(facts.allow))[1] if facts.outputs else {}


def old(facts: ModelFacts) -> Old | None:
    """The network with its old output layer. (That of a bundle may say several labels, or a number: `predict` opens it as a run.)"""
    place = Path(facts.place)
    if place.is_dir() and not (place / MANIFEST).is_file():
        return encoders.old_of(Folder(place), facts)
    return as_published(facts, weights, old_head)


def _split(facts: ModelFacts, fit: Fit) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    place = Path(facts.place)
    if (place / MANIFEST).is_file():
        return _apart(facts, read_state(place / WEIGHTS), fit)
    if place.is_dir():
        files = Folder(place)
        return encoders.weights_of(files, facts, fit), encoders.old_head_of(files, facts)
    if sha256_file(place) != facts.sha256:
        raise ModelError(f"{place} has changed since it was looked at", move="the same command again")
    return named.split(facts, read_state(place), fit)


def _apart(facts: ModelFacts, state: Mapping[str, Tensor], fit: Fit) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    path = architecture_of(facts.architecture).head(facts.architecture)
    head = {k: v for k, v in state.items() if k.startswith(f"{path}.")}
    body = {k: v for k, v in state.items() if k not in head}
    return fitting(body, lambda: build(facts.architecture, 0), facts.name, fit=fit), head


def files(facts: ModelFacts) -> dict[str, Path]:
    """The tokenizer of a network of texts."""
    found = {name: Path(facts.place) / inner for name, (inner, _) in facts.extra_files.items()}
    for name, path in found.items():
        if not path.is_file() or sha256_file(path) != facts.extra_files[name][1]:
            raise ModelError(f"{path} has changed since it was looked at", move="the same command again")
    return found


SOURCE = Source(
    "path",
    "path:PLACE, a run, a bundle, a saved folder, or a file of weights",
    models=lambda: (),
    missing=lambda facts: "",
    weights=weights,
    files=files,
    find=find,
    nearest=nearest_names,
    old_head=old_head,
    old=old,
)
