"""The networks that regraft[weights] does not bring, through the command line: from fit to a copied bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from regraft.pretrained import find_model, packaged

pytestmark = pytest.mark.weights


@pytest.mark.parametrize(
    ("name", "size"), [("packaged:use-multilingual-v3", 82_000_000), ("packaged:resemblyzer", 6_000_000)], ids=lambda value: str(value)
)
def test_fit_and_predict_with_a_copied_bundle(name: str, size: int, make_texts: Any, make_tones: Any, command: Any):
    facts = find_model(name)
    if line := packaged.missing(facts):
        pytest.skip(line)
    data = make_texts(Path("data.csv")) if facts.task == "text" else make_tones(Path("data"))
    fitted = command("fit", data, "--model", name, "--threads", "1", "--out", "run", "--json")
    assert fitted.code == 0, fitted.err
    assert fitted.json["estimate"]["accuracy"]["value"] >= 0.7
    bundle = Path("run/bundle")
    assert {p.name for p in bundle.iterdir()} == {"bundle.json", "model.safetensors", *facts.extra_files}
    assert sum(p.stat().st_size for p in bundle.iterdir()) < size, "the token table is kept as the bytes that it came as"
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    assert manifest["preprocessing"] == facts.preprocessing

    inputs = [data] if facts.task == "text" else sorted(data.rglob("*.wav"))[:4]
    words = (*inputs, "--threads", "1", "--json")
    there = command("predict", shutil.copytree(bundle, Path("elsewhere")), *words)
    assert there.code == 0, there.err
    assert there.json == command("predict", "run", *words).json
