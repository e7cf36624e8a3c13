"""The bundle: written whole or not at all, checked whole, never executing anything."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.artifacts import open_model
from regraft.errors import BundleError
from regraft.workspace import bundle as bundles

MANIFEST: dict[str, Any] = {
    "task": "image",
    "labels": ["ant", "bee"],
    "architecture": {"builder": "timm", "name": "tf_efficientnet_lite0"},
    "preprocessing": {"size": 224, "crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3},
    "head": {"path": "classifier", "in": 3, "out": 2},
    "model": {key: "x" for key in ("name", "about", "trained_on", "licence", "origin", "package", "sha256")},
    "train": "head",
    "class_counts": [3, 3],
    "versions": {"regraft": "0.1.0"},
    "tile": 4,
}
TENSORS = {"classifier.weight": np.ones((2, 3), np.float32), "classifier.bias": np.zeros(2, np.float32)}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    extra = tmp_path / "tok.json"
    extra.write_text("{}", encoding="utf-8")
    bundles.write_bundle(tmp_path / "bundle", MANIFEST, TENSORS, {"tokenizer.json": extra})
    return tmp_path / "bundle"


def change(bundle: Path, **values: Any) -> None:
    """Other values in bundle.json; None removes a key."""
    path = bundle / "bundle.json"
    manifest = {**json.loads(path.read_text(encoding="utf-8")), **values}
    path.write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}), encoding="utf-8")


def rewrite(bundle: Path, name: str, content: bytes) -> None:
    """A file with other content, whose hash is put right."""
    (bundle / name).write_bytes(content)
    files = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["files"]
    change(bundle, files={**files, name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}})


def faults(bundle: Path) -> str:
    with pytest.raises(BundleError) as raised:
        bundles.read_bundle(bundle)
    assert str(bundle) in str(raised.value)
    return str(raised.value)


def test_what_was_written_is_read(bundle: Path):
    manifest = bundles.read_bundle(bundle)
    assert {k: manifest[k] for k in MANIFEST} == MANIFEST
    assert set(manifest["files"]) == {"model.safetensors", "tokenizer.json"}
    assert sorted(p.name for p in bundle.iterdir()) == ["bundle.json", "model.safetensors", "tokenizer.json"]
    assert sorted(p.name for p in bundle.parent.iterdir() if ".part" in p.name) == []


def test_a_whole_bundle_opens(bundle: Path):
    """Else the tests of damaged ones below would say nothing."""
    assert open_model(bundle).labels == ["ant", "bee"]


def test_equal_content_gives_equal_bytes(tmp_path: Path):
    for name, tensors in (("a", TENSORS), ("b", dict(reversed(TENSORS.items())))):
        bundles.write_bundle(tmp_path / name, MANIFEST, tensors, {})
    for name in ("bundle.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_failed_write_leaves_nothing(tmp_path: Path):
    with pytest.raises(OSError):
        bundles.write_bundle(tmp_path / "out" / "bundle", MANIFEST, TENSORS, {"tokenizer.json": tmp_path / "nowhere"})
    assert list((tmp_path / "out").iterdir()) == []


def test_a_changed_file_is_named(bundle: Path):
    content = bytearray((bundle / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (bundle / "model.safetensors").write_bytes(bytes(content))
    said = faults(bundle)
    assert "model.safetensors is not what was written (its SHA-256 differs)" in said
    assert "try:" in said


def test_a_newer_format_says_how_to_upgrade(bundle: Path):
    change(bundle, format=bundles.FORMAT + 1)
    with pytest.raises(BundleError) as raised:
        bundles.read_bundle(bundle)
    expected = f"{bundle} was written in format {bundles.FORMAT + 1}; this regraft reads up to {bundles.FORMAT}"
    assert str(raised.value) == f"{expected}\n  try: pip install --upgrade regraft"


class Trap:
    """Unpickling it makes a file."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("trapped"),))


@pytest.mark.parametrize("name", ["model.safetensors", "weights.pkl", "weights.pt"])
def test_a_pickle_is_refused_and_never_opened(bundle: Path, name: str):
    (bundle / name).write_bytes(pickle.dumps(Trap()))
    assert "pickle" in faults(bundle)
    assert not Path("trapped").exists()


def test_a_pickle_that_the_manifest_lists_is_refused_too(bundle: Path):
    rewrite(bundle, "weights.pkl", pickle.dumps(Trap()))
    assert "weights.pkl" in faults(bundle)
    assert not Path("trapped").exists()


@pytest.mark.parametrize("name", ["../secret.json", "a/b.json", "/etc/x.json", "..\\x.json", "", "x.py", "x\0.json"])
def test_names_that_lead_elsewhere_are_refused(bundle: Path, name: str):
    (bundle.parent / "secret.json").write_text("{}", encoding="utf-8")
    files = bundles.read_bundle(bundle)["files"]
    change(bundle, files={**files, name: {"sha256": hashlib.sha256(b"{}").hexdigest(), "bytes": 2}})
    faults(bundle)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_out_of_the_bundle_is_refused(bundle: Path):
    outside = bundle.parent / "outside.safetensors"
    (bundle / "model.safetensors").rename(outside)
    (bundle / "model.safetensors").symlink_to(outside)
    assert "model.safetensors" in faults(bundle)


def test_a_missing_file_is_named(bundle: Path):
    (bundle / "tokenizer.json").unlink()
    assert "tokenizer.json is missing" in faults(bundle)


def test_all_faults_are_named_at_once(bundle: Path):
    (bundle / "tokenizer.json").unlink()
    (bundle / "notes.doc").touch()
    change(bundle, tile=0)
    said = faults(bundle)
    assert "tokenizer.json" in said
    assert "notes.doc" in said
    assert "tile" in said


@pytest.mark.parametrize(
    "values",
    [
        {"labels": ["a", "a"]},
        {"labels": []},
        {"labels": [1, 2]},
        {"labels": None},
        {"tile": "4"},
        {"tile": -1},
        {"files": {}},
        {"files": []},
        {"format": None},
        {"format": "1"},
        {"format": True},
        {"task": None},
        {"task": "video"},
        {"architecture": {}},
        {"architecture": {"builder": "unheard of"}},
        {"head": {}},
        {"head": {"path": 7, "in": 3, "out": 2}},
        {"head": {"path": "classifier", "in": 3, "out": 5}},
        {"model": {}},
        {"preprocessing": {}},
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_used_is_refused_when_it_is_opened(bundle: Path, values: dict[str, Any]):
    """Not later, somewhere in the middle of predicting."""
    change(bundle, **values)
    with pytest.raises(BundleError):
        open_model(bundle)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff", b"[" * 100_000, b"null"], ids=lambda c: repr(c[:4]))
def test_a_manifest_that_is_no_json(bundle: Path, content: bytes):
    (bundle / "bundle.json").write_bytes(content)
    faults(bundle)


def test_a_folder_that_is_no_bundle(tmp_path: Path):
    with pytest.raises(BundleError, match="has no bundle.json"):
        bundles.read_bundle(tmp_path)


@pytest.mark.weights
def test_weights_that_are_no_safetensors_are_named_although_their_hash_is_right(bundle: Path):
    rewrite(bundle, "model.safetensors", b"\xff" * 100)
    with pytest.raises(BundleError, match="model.safetensors"):
        open_model(bundle).network()


@pytest.mark.weights
def test_weights_of_another_network_are_named(bundle: Path):
    with pytest.raises(BundleError, match="do not fit"):
        open_model(bundle).network()
