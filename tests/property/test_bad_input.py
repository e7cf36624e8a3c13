"""Random bytes where files should be: only the errors that people are shown, never another one."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from regraft.data import open_data
from regraft.data.base import Asked
from regraft.errors import BundleError, RegraftError, RunError, Unreadable
from regraft.modality import MODALITIES
from regraft.workspace.bundle import read_bundle
from regraft.workspace.files import read_json
from regraft.workspace.runs import read_run

EXTENSIONS = {name: modality.extensions for name, modality in MODALITIES.items()}
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ENDINGS = [(name, ending) for name in MODALITIES for ending in sorted(MODALITIES[name].extensions)]


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3)).save(out, kind)
    return out.getvalue()


WHOLE = {kind: encoded(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")}


def flac() -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(4_000) / 7).astype(np.float32), 16_000, format="FLAC")
    return out.getvalue()


def wav() -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(800) / 7).astype(np.float32), 16_000, format="WAV")
    return out.getvalue()


def decodes_or_is_unreadable(task: str, path: Path) -> None:
    modality = MODALITIES[task]
    try:
        decoded = modality.load(path).decode()
    except Unreadable as reason:
        assert str(reason).strip()
    else:
        modality.summary(decoded)


@FEW
@given(content=st.binary(max_size=300), kind=st.sampled_from(ENDINGS))
def test_random_bytes_as_an_example(tmp_path: Path, content: bytes, kind: tuple[str, str]):
    task, ending = kind
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    decodes_or_is_unreadable(task, path)


@pytest.mark.filterwarnings("ignore")
@FEW
@given(data=st.data(), kind=st.sampled_from(sorted(WHOLE)))
def test_a_damaged_image(tmp_path: Path, data: st.DataObject, kind: str):
    """A whole file with a few other bytes, or cut off."""
    (tmp_path / "x").write_bytes(harmed(data, WHOLE[kind]))
    decodes_or_is_unreadable("image", tmp_path / "x")


@FEW
@given(data=st.data(), which=st.sampled_from([flac, wav]))
def test_a_damaged_sound(tmp_path: Path, data: st.DataObject, which: Any):
    (tmp_path / "x").write_bytes(harmed(data, which()))
    decodes_or_is_unreadable("audio", tmp_path / "x")


def harmed(data: st.DataObject, whole: bytes) -> bytes:
    content = bytearray(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    places = st.integers(0, max(0, len(content) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        if content:
            content[place] = value
    return bytes(content)


def opens_or_says_why(path: Path) -> None:
    try:
        dataset = open_data(path, Asked(None, None, None, EXTENSIONS))
    except RegraftError as error:
        assert error.found
    else:
        assert all(e.label is None or e.label.strip() for e in dataset.examples)


@FEW
@given(content=st.binary(max_size=200))
def test_random_bytes_as_a_table(tmp_path: Path, content: bytes):
    (tmp_path / "t.csv").write_bytes(content)
    opens_or_says_why(tmp_path / "t.csv")


CELLS = st.text(alphabet="ab1.5,;\"'\n\r\t \u00e9", max_size=8)


@FEW
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=4), min_size=1, max_size=8), ending=st.sampled_from([".csv", ".tsv"]))
def test_random_cells_as_a_table(tmp_path: Path, rows: list[list[str]], ending: str):
    (tmp_path / f"t{ending}").write_text("text,label\n" + "\n".join(",".join(row) for row in rows), encoding="utf-8")
    opens_or_says_why(tmp_path / f"t{ending}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@FEW
@given(content=st.binary(max_size=100))
def test_random_bytes_as_json(tmp_path: Path, content: bytes):
    (tmp_path / "x.json").write_bytes(content)
    with contextlib.suppress(ValueError):
        read_json(tmp_path / "x.json")


MANIFEST_KEYS = ("format", "task", "labels", "architecture", "preprocessing", "head", "model", "tile", "files")


@FEW
@given(
    values=st.dictionaries(st.sampled_from(MANIFEST_KEYS), JSON | st.integers(1, 3)), format=JSON | st.just(1), junk=st.binary(max_size=20)
)
def test_a_random_manifest_of_a_bundle(tmp_path: Path, values: dict[str, Any], format: Any, junk: bytes):
    (tmp_path / "bundle.json").write_text(json.dumps({**values, "format": format}), encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(junk)
    with pytest.raises(BundleError):
        read_bundle(tmp_path)


@FEW
@given(files=st.dictionaries(st.text(max_size=12) | st.sampled_from(["model.safetensors", "../x.json", "a\0b.json"]), JSON, max_size=4))
def test_random_names_of_files_in_a_bundle(tmp_path: Path, files: dict[str, Any]):
    whole = {"format": 1, "task": "image", "labels": ["a", "b"], "tile": 1}
    whole |= {key: {} for key in ("architecture", "preprocessing", "head", "model")}
    (tmp_path / "bundle.json").write_text(json.dumps({**whole, "files": files}), encoding="utf-8")
    with pytest.raises(BundleError):
        read_bundle(tmp_path)


@FEW
@given(content=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_random_result_of_a_run(tmp_path: Path, content: bytes, command: Any):
    """`read_run` names it, and the commands that list and show runs go on or say why."""
    folder = tmp_path / "runs" / "r"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text("{}", encoding="utf-8")
    (folder / "run.json").write_bytes(content)
    with contextlib.suppress(RunError):
        assert isinstance(read_run(folder), dict)
    for words in (("runs", tmp_path / "runs"), ("runs", tmp_path / "runs", "--json"), ("show", folder)):
        answer = command(*words)
        assert "fault of regraft" not in answer.err, (words, answer.err)
        assert answer.code in (0, 1)
