"""The bundle: the model that a user keeps. A folder with safetensors and JSON, and nothing that can execute.

    bundle.json          format, task, labels, architecture, preprocessing, head, origin and licence, hashes
    model.safetensors    every tensor of the network, its new output layer included
    tokenizer.json       and the like, where the network needs them

A bundle holds no times, paths or facts about the host: same decisions, same bytes.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regraft.errors import BundleError
from regraft.workspace.files import cannot_write, put_in_place, read_json, sha256_file, to_disk, write_json

FORMAT = 2
"""Raised when a bundle written today could not be read by an older regraft. 1: one class of several only."""

MANIFEST = "bundle.json"
WEIGHTS = "model.safetensors"
_ALLOWED = (".json", ".safetensors", ".txt", ".model")
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "task": str,
    "labels": list,
    "architecture": dict,
    "preprocessing": dict,
    "head": dict,
    "model": dict,
    "tile": int,
    "files": dict,
}


def write_bundle(folder: Path, manifest: Mapping[str, Any], tensors: Mapping[str, np.ndarray], extra: Mapping[str, Path]) -> None:
    """Write a bundle aside and rename it into place, also in that of another. `tensors` are C-contiguous; `extra` is copied in by name.

    WriteError where the disk does not take it.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        # (ascontiguousarray alone would give a counter without dimensions one)
        save_file({k: np.ascontiguousarray(v).reshape(v.shape) for k, v in sorted(tensors.items())}, aside / WEIGHTS)
        for name, source in sorted(extra.items()):
            shutil.copyfile(source, aside / name)
        files = {p.name: {"sha256": sha256_file(p), "bytes": p.stat().st_size} for p in sorted(aside.iterdir())}
        write_json(aside / MANIFEST, {"format": FORMAT, **manifest, "files": files})
        for path in aside.iterdir():
            to_disk(path)
        put_in_place(aside, folder)
    except (OSError, SafetensorError) as error:
        raise cannot_write(folder, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def copy_bundle(source: Path, folder: Path) -> None:
    """Put a copy of a whole bundle in the place of another, as `write_bundle` does. WriteError where the disk does not take it."""
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        shutil.copytree(source, aside)
        for path in aside.iterdir():
            to_disk(path)
        put_in_place(aside, folder)
    except OSError as error:
        raise cannot_write(folder, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def same_bundle(one: Path, other: Path) -> bool:
    """Whether two bundles that this program wrote hold the same: their manifests have the hashes of all files."""
    try:
        return (one / MANIFEST).read_bytes() == (other / MANIFEST).read_bytes()
    except OSError:
        return False


def read_bundle(folder: Path) -> dict[str, Any]:
    """Check a bundle whole (format, files, hashes, nothing foreign) and return its manifest. All faults at once."""
    manifest = _manifest(folder)
    faults = []
    for key, kind in _REQUIRED.items():
        if not isinstance(manifest.get(key), kind):
            faults.append(f"{MANIFEST} has no usable {key!r}")
    if not faults:
        faults += _file_faults(folder, manifest["files"])
        labels = manifest["labels"]
        if not labels or not all(isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
            faults.append(f"{MANIFEST}: 'labels' must be distinct strings")
        if manifest["tile"] < 1:
            faults.append(f"{MANIFEST}: 'tile' must be at least 1")
    if faults:
        raise BundleError(
            f"{folder} is not a whole bundle", faults=faults, move="copy it again from where it was made, or run `regraft fit` again"
        )
    return manifest


def _manifest(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST).is_file():
        raise BundleError(
            f"{folder} is not a bundle: it has no {MANIFEST}",
            expected="the folder `bundle` of a run, or a run's folder",
            move="regraft runs",
        )
    try:
        manifest = read_json(folder / MANIFEST)
    except (ValueError, OSError) as error:
        raise BundleError(f"{folder / MANIFEST} cannot be read: {error}", move="copy the bundle again") from None
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(f"{folder / MANIFEST} names no format", expected=f'"format": {FORMAT}')
    if version > FORMAT:
        raise BundleError(
            f"{folder} was written in format {version}; this regraft reads up to {FORMAT}", move="pip install --upgrade regraft"
        )
    return manifest


def _file_faults(folder: Path, files: Mapping[str, Any]) -> list[str]:
    faults = []
    for name in sorted({p.name for p in folder.iterdir()} - set(files) - {MANIFEST}):
        if not name.startswith("."):
            faults.append(
                f"{name} does not belong to the bundle: a bundle holds only the files that its {MANIFEST} lists, and never a pickle"
            )
    if WEIGHTS not in files:
        faults.append(f"{MANIFEST} does not list {WEIGHTS}")
    for name, facts in files.items():
        path = folder / name
        if Path(name).name != name or not name.endswith(_ALLOWED):
            faults.append(f"{name!r} may not be part of a bundle (allowed endings: {', '.join(_ALLOWED)})")
        elif path.is_symlink() or not path.is_file():
            faults.append(f"{name} is missing")
        elif not isinstance(facts, dict) or sha256_file(path) != facts.get("sha256"):
            faults.append(f"{name} is not what was written (its SHA-256 differs)" + _pickle_hint(path))
    return faults


def _pickle_hint(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(2)
    return "; it looks like a pickle, which is never loaded" if start in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") else ""
