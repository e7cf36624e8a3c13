"""What every modality promises."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regraft.errors import Unreadable
from regraft.modality import MODALITIES, Modality, base
from regraft.modality.base import Stored
from regraft.spec import TASKS


def write_image(path: Path, number: int) -> Path:
    pixels = np.random.default_rng(number).integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def write_text(path: Path, number: int) -> Path:
    path.write_text("some words " * (number + 1), encoding="utf-8")
    return path


def write_sound(path: Path, number: int) -> Path:
    import soundfile

    soundfile.write(path, np.sin(np.arange(9_000) * (number + 1) / 9).astype(np.float32) / 2, 16_000, format="WAV")
    return path


def no_files(folder: Path) -> dict[str, Path]:
    return {}


def tokenizer(folder: Path) -> dict[str, Path]:
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "some": 1, "words": 2}, "unk_token": "[UNK]"}
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "pre_tokenizer": {"type": "Whitespace"}, "model": model}), encoding="utf-8")
    return {"tokenizer.json": path}


KINDS: dict[str, tuple[Callable[[Path, int], Path], str, dict[str, Any], Callable[[Path], dict[str, Path]]]] = {
    "image": (
        write_image,
        ".png",
        {"size": 32, "crop_pct": 0.9, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3},
        no_files,
    ),
    "text": (write_text, ".txt", {"tokenizer": "tokenizer.json", "max_tokens": 32, "pad_id": 0}, tokenizer),
    "audio": (write_sound, ".wav", {"window_seconds": 10}, no_files),
}
"""Modality -> how to write an example, its ending, preprocessing, files. A new modality adds its own here."""

pytestmark = pytest.mark.parametrize("name", list(MODALITIES))


def example(name: str, folder: Path, number: int = 0, stem: str = "x") -> Path:
    folder.mkdir(exist_ok=True)
    write, ending, _, _ = KINDS[name]
    return write(folder / f"{stem}{number}{ending}", number)


def preparer(modality: Modality, folder: Path) -> Callable[[Any], Any]:
    _, _, preprocessing, files = KINDS[modality.name]
    return modality.preparer(preprocessing, files(folder))


def test_it_is_a_task_with_endings(name: str):
    modality = MODALITIES[name]
    assert name in TASKS
    assert modality.name == name
    assert all(e.startswith(".") and e == e.lower() for e in modality.extensions)
    assert KINDS[name][1] in modality.extensions
    for other in MODALITIES.values():
        assert other is modality or not other.extensions & modality.extensions


def test_identity_follows_the_content(name: str, tmp_path: Path):
    load = MODALITIES[name].load
    one, same, other = example(name, tmp_path / "a"), example(name, tmp_path / "b", stem="y"), example(name, tmp_path / "a", 1)
    identities = [load(path).identity for path in (one, one, same, other)]
    assert all(isinstance(i, bytes) and len(i) == 16 for i in identities)
    assert identities[0] == identities[1] == identities[2] != identities[3]


def test_from_the_file_to_tensors(name: str, tmp_path: Path):
    import torch

    modality = MODALITIES[name]
    prepare = preparer(modality, tmp_path)
    prepared = prepare(modality.load(example(name, tmp_path / "a")).decode())
    assert len(prepared.windows) == len(prepared.weights) >= 1
    assert all(w > 0 for w in prepared.weights)
    (window, *_) = prepared.windows
    batch = modality.collate([window, window, window], KINDS[name][2])
    assert all(isinstance(v, torch.Tensor) and v.shape[0] == 3 for v in batch.values())
    for value in batch.values():
        assert torch.isfinite(value.float()).all()
        assert torch.equal(value[0], value[2])


def test_preparing_is_pure(name: str, tmp_path: Path):
    """The same example gives the same bits, whatever was prepared before it."""
    modality = MODALITIES[name]
    prepare = preparer(modality, tmp_path)
    path = example(name, tmp_path / "a")
    first = prepare(modality.load(path).decode()).windows[0]
    prepare(modality.load(example(name, tmp_path / "a", 3)).decode())
    again = prepare(modality.load(path).decode()).windows[0]
    assert first.keys() == again.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])


def test_rows_without_a_network_are_finite_and_of_one_width(name: str, tmp_path: Path):
    modality = MODALITIES[name]
    summaries = [modality.summary(modality.load(example(name, tmp_path / "a", i)).decode()) for i in range(5)]
    learnt = modality.learn_vectoriser(summaries)
    assert json.loads(json.dumps(learnt)) == learnt
    rows = modality.vectorise(learnt, summaries)
    assert rows.dtype == np.float32
    assert rows.shape[0] == 5
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(modality.vectorise(learnt, summaries[:2]), rows[:2])
    if modality.summary_version:
        assert len({s.shape for s in summaries}) == 1


def test_stored_content_is_what_the_same_file_is(name: str, tmp_path: Path):
    """The same identity, the same decoded example, and read no earlier than it is needed."""
    modality, path = MODALITIES[name], example(name, tmp_path / "a")
    reads: list[int] = []
    stored = Stored("train[0]", lambda: reads.append(1) or path.read_bytes())
    assert not reads and stored == Stored("train[0]", path.read_bytes)
    assert modality.load(stored).identity == modality.load(path).identity
    kept, there = modality.load(stored).decode(), modality.load(path).decode()
    assert kept == there if name != "audio" else np.array_equal(kept, there)


@pytest.mark.parametrize(("content", "reason"), [(b"", "the file is empty (0 bytes)"), (b"x" * 11, "more than")])
def test_stored_content_has_the_bounds_of_a_file(name: str, content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base, "FILE_LIMIT", 10)
    with pytest.raises(Unreadable) as raised:
        MODALITIES[name].load(Stored("x", lambda: content)).decode()
    assert reason in str(raised.value)


DAMAGED = {
    "empty": b"",
    "binary": bytes(range(128, 256)) * 8,
    "zeros-and-high-bytes": b"\xfe\x00\x80" * 300,
    "half-a-header": struct.pack("<4sI4s", b"RIFF", 10**9, b"WAVE"),
    "png-header": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\xff" * 30,
}


@pytest.mark.parametrize("damage", list(DAMAGED))
def test_damaged_input_is_unreadable_with_a_reason_or_read(name: str, damage: str, tmp_path: Path):
    path = tmp_path / f"x{KINDS[name][1]}"
    path.write_bytes(DAMAGED[damage])
    try:
        MODALITIES[name].load(path).decode()
    except Unreadable as reason:
        assert str(reason).strip()
        with pytest.raises(Unreadable, match=re.escape(str(reason))):
            MODALITIES[name].load(Stored("x", lambda: DAMAGED[damage])).decode()
    else:
        assert name == "text", "only a text may be made of such bytes"
        assert damage not in ("empty", "binary", "zeros-and-high-bytes")


@pytest.mark.parametrize("source", [Path("nowhere"), Path(), None, 7, object(), [1, 2], {"a": 1}], ids=lambda s: type(s).__name__)
def test_what_is_no_example_is_unreadable(name: str, source: Any):
    with pytest.raises(Unreadable):
        MODALITIES[name].load(source).decode()


SKETCHES = {"jpeg": bytes, "text": str, "levels": np.ndarray}


def test_a_sketch_is_small_and_of_a_kind_that_a_report_draws(name: str):
    from regraft.evaluation.report.wrong import DRAWN

    modality = MODALITIES[name]
    for source in modality.made_up():
        sketch = modality.sketch(modality.load(source).decode())
        assert isinstance(sketch.content, SKETCHES[sketch.kind]) and len(sketch.content) < 40_000
        assert DRAWN[sketch.kind](sketch.content).startswith("<")
    assert set(DRAWN) == set(SKETCHES)
