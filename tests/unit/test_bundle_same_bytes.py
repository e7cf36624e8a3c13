"""Bundles: the same decisions give the same bytes; and what is not a bundle is refused before anything of it runs."""

from __future__ import annotations

import getpass
import json
import os
import pickle
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regraft
from regraft.errors import BundleError
from regraft.workspace.files import sha256_file

pytestmark = pytest.mark.weights

MANIFEST, WEIGHTS = "bundle.json", "model.safetensors"


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Any:
    """A folder with pictures and a store that last as long as this file's tests."""
    folder = tmp_path_factory.mktemp("bundles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def photos(place: Path, make_images) -> Path:
    return make_images(place / "photos", count=5)


def fitted(data: Path, place: Path, name: str, **options: Any) -> regraft.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_HOME", str(place / "home"))
        return regraft.fit(data, model="efficientnet-lite0", threads=1, out=str(place / name), **options)


@pytest.fixture(scope="module")
def first(photos: Path, place: Path) -> regraft.Run:
    return fitted(photos, place, "first")


@pytest.fixture
def bundle(first: regraft.Run, tmp_path: Path) -> Path:
    """A copy of a whole bundle, to be damaged."""
    return Path(shutil.copytree(first.path / "bundle", tmp_path / "bundle"))


@pytest.fixture(autouse=True)
def same_store(place: Path, monkeypatch) -> None:
    monkeypatch.setenv("REGRAFT_HOME", str(place / "home"))


# ---------------------------------------------------------------- the same bytes


def test_the_same_fit_gives_the_same_bytes(first, photos, place):
    """With stored features, in another folder, from another copy of the data."""
    other = Path(shutil.copytree(photos, place / "moved" / "photographs"))
    second = fitted(other, place, "deep/er/second")
    assert content(second.path / "bundle") == content(first.path / "bundle")


def test_features_computed_anew_give_the_same_bytes(first, photos, place):
    assert content(fitted(photos, place, "anew", store=False).path / "bundle") == content(first.path / "bundle")


def test_another_seed_changes_at_most_the_output_layer(first, photos, place):
    from safetensors.numpy import load_file

    other = fitted(photos, place, "seeded", seed=1)
    one, two = (load_file(run.path / "bundle" / WEIGHTS) for run in (first, other))
    assert one.keys() == two.keys()
    changed = {key for key in one if one[key].tobytes() != two[key].tobytes()}
    head = first.model.manifest["head"]["path"]
    assert changed <= {f"{head}.weight", f"{head}.bias"}
    manifests = [dict(run.model.manifest) for run in (first, other)]
    for manifest in manifests:
        manifest.pop("files")
    assert manifests[0] == manifests[1]


def strings_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for k, v in value.items() for text in (k, *strings_in(v))]
    if isinstance(value, list):
        return [text for v in value for text in strings_in(v)]
    return [value] if isinstance(value, str) else []


def test_the_manifest_holds_no_path_time_or_host(first, photos, place):
    manifest = json.loads((first.path / "bundle" / MANIFEST).read_text(encoding="utf-8"))
    secrets = [str(place), str(photos), str(Path.home()), photos.name, platform.node(), f"/{getpass.getuser()}/"]
    for text in strings_in(manifest):
        assert not os.path.isabs(text) and not re.match(r"[A-Za-z]:[\\/]", text), text
        assert not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d", text), text
        assert not any(secret and secret in text for secret in secrets if len(secret) > 3), text
    keys = {key for key in strings_in(manifest) if re.fullmatch(r"(?i).*(time|date|created|host|user|seconds).*", key)}
    assert not keys
    raw = (first.path / "bundle" / WEIGHTS).read_bytes()
    assert str(place).encode() not in raw


def test_the_manifest_says_what_a_person_needs(first):
    manifest = first.model.manifest
    assert manifest["labels"] == ["blue", "green", "red"] and manifest["target"] == {"kind": "class", "counts": [5, 5, 5]}
    assert manifest["task"] == "image" and manifest["format"] == 2
    assert manifest["model"]["licence"] == "Apache-2.0" and manifest["model"]["origin"]
    assert set(manifest["versions"]) >= {"regraft", "torch"}
    assert manifest["files"][WEIGHTS]["sha256"] == sha256_file(first.path / "bundle" / WEIGHTS)


def test_a_bundle_works_by_itself_elsewhere(bundle, first, photos):
    pictures = sorted((photos / "red").iterdir())
    here, there = first.predict(pictures, threads=1), regraft.open_run(bundle).predict(pictures, threads=1)
    assert here == there and len(there) == 5
    assert regraft.show(bundle)["bundle"]["labels"] == ["blue", "green", "red"]


# ---------------------------------------------------------------- what is refused


def mend(bundle: Path, change: Callable[[dict[str, Any]], None] = lambda manifest: None) -> None:
    """Write hashes into the manifest that fit the files there are, as a careful stranger would."""
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    for name in manifest["files"]:
        manifest["files"][name] = {"sha256": sha256_file(bundle / name), "bytes": (bundle / name).stat().st_size}
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def reshape(bundle: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(bundle / WEIGHTS)
    change(tensors)
    save_file(tensors, bundle / WEIGHTS)
    mend(bundle)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


VERBS: dict[str, Callable[[Path, Path], Any]] = {
    "network": lambda bundle, photos: regraft.open_run(bundle).network(),
    "predict": lambda bundle, photos: regraft.open_run(bundle).predict(sorted((photos / "red").iterdir()), threads=1),
    # the features of these pictures are stored: only the output layer is read from the bundle
    "evaluate": lambda bundle, photos: regraft.open_run(bundle).evaluate(photos, threads=1),
}

every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())


@every_verb
def test_tampered_weights_are_refused(bundle, photos, verb):
    raw = bytearray((bundle / WEIGHTS).read_bytes())
    raw[-5] ^= 1
    (bundle / WEIGHTS).write_bytes(raw)
    with pytest.raises(BundleError, match=r"SHA-256"):
        verb(bundle, photos)


@every_verb
def test_a_newer_format_is_refused_with_the_move(bundle, photos, verb):
    edit(bundle, lambda manifest: manifest.update(format=99))
    with pytest.raises(BundleError, match="format 99") as caught:
        verb(bundle, photos)
    assert "upgrade" in caught.value.move


@every_verb
@pytest.mark.parametrize("name", ["extra.pkl", "model.pt", "pytorch_model.bin", "code.py", "notes.json"])
def test_a_file_that_does_not_belong_is_refused(bundle, photos, verb, name, tmp_path):
    (bundle / name).write_bytes(pickle.dumps(Bomb(tmp_path / "went off")))
    with pytest.raises(BundleError, match=re.escape(name)):
        verb(bundle, photos)
    assert not (tmp_path / "went off").exists()


@every_verb
def test_a_pickle_that_the_manifest_lists_is_refused(bundle, photos, verb, tmp_path):
    (bundle / "extra.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "went off")))
    edit(bundle, lambda manifest: manifest["files"].update({"extra.pkl": {}}))
    mend(bundle)
    with pytest.raises(BundleError, match=r"extra\.pkl"):
        verb(bundle, photos)
    assert not (tmp_path / "went off").exists()


@every_verb
@pytest.mark.parametrize("mended", [False, True], ids=["as it is", "with its hash in the manifest"])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_named_safetensors_is_refused(bundle, photos, verb, mended, how, tmp_path):
    if how == "pickle":
        (bundle / WEIGHTS).write_bytes(pickle.dumps(Bomb(tmp_path / "went off")))
    else:
        import torch

        torch.save({"x": Bomb(tmp_path / "went off")}, bundle / WEIGHTS)
    if mended:
        mend(bundle)
    with pytest.raises(BundleError):
        verb(bundle, photos)
    assert not (tmp_path / "went off").exists()


@every_verb
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update({"classifier.weight": np.zeros((4, 1280), np.float32), "classifier.bias": np.zeros(4, np.float32)}),
        lambda t: t.update({"classifier.weight": np.zeros((3, 7), np.float32)}),
        lambda t: t.pop("classifier.weight"),
        lambda t: t.pop("classifier.bias"),
        lambda t: t.update({"classifier.bias": np.zeros((3, 1), np.float32)}),
    ],
    ids=["another class", "narrower", "no weight", "no bias", "bias of another rank"],
)
def test_an_output_layer_of_wrong_shape_is_refused(bundle, photos, verb, change):
    reshape(bundle, change)
    with pytest.raises(BundleError):
        verb(bundle, photos)


@pytest.mark.parametrize("verb", [VERBS["network"], VERBS["predict"]], ids=["network", "predict"])
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update({"conv_stem.weight": np.zeros((32, 3, 5, 5), np.float32)}),
        lambda t: t.pop("bn1.weight"),
        lambda t: t.update({"unknown.weight": np.zeros(3, np.float32)}),
    ],
    ids=["wrong shape", "missing", "unknown"],
)
def test_weights_that_do_not_fit_the_network_are_refused(bundle, photos, verb, change):
    reshape(bundle, change)
    with pytest.raises(BundleError):
        verb(bundle, photos)


@every_verb
@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("labels"),
        lambda m: m.update(labels=["blue", "blue", "red"]),
        lambda m: m.update(labels=["blue", "green"]),
        lambda m: m.update(labels=["blue", "green", "red", "wasp"]),
        lambda m: m.update(task="smell"),
        lambda m: m.update(tile=0),
        lambda m: m.update(architecture={"builder": "somebody.elses.module"}),
        lambda m: m.update(architecture={}),
        lambda m: m.update(format="1"),
        lambda m: m.update(files={}),
        lambda m: m["files"].update({"../outside.json": {"sha256": ""}}),
    ],
    ids=[
        "no labels", "labels twice", "a label less", "a label more", "unknown task", "tile 0",
        "unknown builder", "no builder", "format in words", "no files", "a path outside",
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_meant_is_refused(bundle, photos, verb, change):
    edit(bundle, change)
    with pytest.raises(BundleError):
        verb(bundle, photos)


@pytest.mark.parametrize("verb", [VERBS["predict"], VERBS["evaluate"]], ids=["predict", "evaluate"])
@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(head={}),
        lambda m: m.update(head={"path": "no.such.layer"}),
        lambda m: m.update(preprocessing={}),
        lambda m: m["preprocessing"].pop("size"),
    ],
    ids=["head without path", "head elsewhere", "no preprocessing", "no size"],
)
def test_a_manifest_that_lacks_what_is_needed_is_refused(bundle, photos, verb, change):
    edit(bundle, change)
    with pytest.raises(BundleError):
        verb(bundle, photos)


@every_verb
def test_a_manifest_without_an_origin_works_or_is_refused_in_words(bundle, photos, verb):
    edit(bundle, lambda manifest: manifest.update(model={}))
    try:
        assert verb(bundle, photos)
    except BundleError as error:
        assert "model" in str(error)


@every_verb
@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b"\xff\xfe\x00", b'{"format": 1}'], ids=repr)
def test_a_manifest_that_is_not_one_is_refused(bundle, photos, verb, raw):
    (bundle / MANIFEST).write_bytes(raw)
    with pytest.raises(BundleError):
        verb(bundle, photos)


@every_verb
def test_a_bundle_without_its_weights_is_refused(bundle, photos, verb):
    (bundle / WEIGHTS).unlink()
    with pytest.raises(BundleError, match="missing"):
        verb(bundle, photos)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_in_a_bundle_are_refused(bundle, photos, tmp_path):
    shutil.move(bundle / WEIGHTS, tmp_path / "elsewhere")
    (bundle / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError):
        regraft.open_run(bundle).network()
