"""Engines from the command to the prediction: named, missing, timed, remembered, refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regraft
from regraft.errors import MissingExtra, UsageError
from regraft.events import Said, Warned
from regraft.features.engines import engine_of
from regraft.jobs import engines as choosing
from regraft.strategy.engines import Timing

pytestmark = pytest.mark.weights

OPENVINO = engine_of("openvino", "fp32")
ROUNDING = engine_of("openvino", "bf16")
needs_openvino = pytest.mark.skipif(bool(OPENVINO.missing("cpu")), reason="pip install 'regraft[fast]'")
needs_bfloat16 = pytest.mark.skipif(bool(ROUNDING.missing("cpu")), reason="no OpenVINO, or no bfloat16 in this processor")


@pytest.fixture(scope="module")
def photos(tmp_path_factory, make_images) -> Path:
    return make_images(tmp_path_factory.mktemp("engines") / "photos", count=8)


def fitted(photos: Path, **options: Any) -> tuple[regraft.Run, dict[str, Any], list[str]]:
    """The run, its decisions, and what was said and warned."""
    heard: list[str] = []
    listen = lambda event: heard.append(event.message) if isinstance(event, (Said, Warned)) else None
    run = regraft.fit(photos, threads=1, on_event=listen, **options)
    return run, json.loads((run.path / "decisions.json").read_text(encoding="utf-8")), heard


def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "openvino" else there(name, *more))


def probabilities(run: regraft.Run, photos: Path) -> np.ndarray:
    pictures = sorted(photos.glob("*/*.png"))
    return np.array([list(p.probabilities.values()) for p in run.predict(pictures, threads=1)])


@pytest.fixture(scope="module")
def plain(photos, tmp_path_factory) -> np.ndarray:
    """What the model says whose features are torch float32's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_HOME", str(tmp_path_factory.mktemp("home")))
        run, _, _ = fitted(photos, engine="torch", precision="fp32", out=str(tmp_path_factory.mktemp("run") / "plain"))
        return probabilities(run, photos)


def test_few_examples_take_torch_float32_without_timing(photos, own_home, monkeypatch):
    monkeypatch.setattr(choosing, "_timed", lambda *_: pytest.fail("engines were timed"))
    run, decisions, heard = fitted(photos)
    assert decisions["engine"] == {"name": "torch", "precision": "fp32", "how": "too few examples for another"}
    assert run.model.manifest["engine"] == {"name": "torch", "precision": "fp32"}
    assert not [line for line in heard if line.startswith("engine")] and not (own_home / "engines.json").exists()


@pytest.mark.long
@needs_openvino
def test_an_engine_that_was_named_is_used_to_the_end(photos, plain, command):
    run, decisions, heard = fitted(photos, engine="openvino")
    assert decisions["engine"] == {"name": "openvino", "precision": "fp32", "how": "asked for"}
    assert decisions["features"]["engine"] == "openvino fp32" and decisions["features"]["openvino"]
    assert run.model.manifest["engine"] == {"name": "openvino", "precision": "fp32"}
    assert "engine: openvino fp32 (asked for)" in heard
    assert np.abs(probabilities(run, photos) - plain).max() < 1e-3
    again, other, _ = fitted(photos, engine="openvino", store=False)
    assert (again.path / "bundle" / "model.safetensors").read_bytes() == (run.path / "bundle" / "model.safetensors").read_bytes()
    assert other["features"] == decisions["features"]
    figures = run.evaluate(photos, threads=1)
    assert figures["metrics"]["accuracy"]["value"] == 1.0


@pytest.mark.long
@needs_openvino
def test_where_the_engine_is_missing_torch_predicts_and_says_so(photos, plain, monkeypatch, command):
    run, _, _ = fitted(photos, engine="openvino")
    here = probabilities(run, photos)
    without_openvino(monkeypatch)
    assert np.abs(probabilities(run, photos) - here).max() < 1e-3
    heard: list[str] = []
    run.predict(sorted(photos.glob("red/*.png")), on_event=lambda e: heard.append(e.message) if isinstance(e, Warned) else None)
    assert len(heard) == 1 and "openvino fp32" in heard[0] and "torch fp32 is used" in heard[0] and "regraft[fast]" in heard[0]
    answer = command("predict", run.path, *sorted(photos.glob("red/*.png")))
    assert answer.code == 0 and "torch fp32 is used" in answer.err
    assert len(answer.out.splitlines()) == 8


def test_a_missing_engine_that_was_named_is_an_error_before_anything_is_made(photos, monkeypatch, command, tmp_path):
    without_openvino(monkeypatch)
    with pytest.raises(MissingExtra, match="openvino is not installed"):
        regraft.fit(photos, engine="openvino", out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    answer = command("fit", photos, "--engine", "openvino")
    assert answer.code == 1 and "pip install 'regraft[fast]'" in answer.err
    assert command("features", photos, "--engine", "openvino", "--out", "f.npy").code == 1


def test_what_there_is_not_is_named(photos, command):
    with pytest.raises(UsageError, match="expected fp32"):
        regraft.fit(photos, engine="onnx", precision="bf16")
    assert "'--engine'" in command("fit", photos, "--engine", "tensorrt").err


def test_a_bundle_with_an_engine_that_is_unknown_here_still_predicts(photos, plain):
    run, _, _ = fitted(photos)
    manifest = json.loads((run.path / "bundle" / "bundle.json").read_text())
    manifest["engine"] = {"name": "of tomorrow", "precision": "int4"}
    (run.path / "bundle" / "bundle.json").write_text(json.dumps(manifest))
    assert np.abs(probabilities(regraft.open_run(run.path), photos) - plain).max() == 0
    del manifest["engine"]
    (run.path / "bundle" / "bundle.json").write_text(json.dumps(manifest))
    assert np.abs(probabilities(regraft.open_run(run.path), photos) - plain).max() == 0


@needs_openvino
def test_features_of_an_engine_agree(photos, tmp_path):
    one = regraft.extract_features(photos, engine="torch")["features"]
    two = regraft.extract_features(photos, engine="openvino")["features"]
    assert one.shape == two.shape and 0 < np.abs(one - two).max() < 1e-3 * np.abs(one).max()


# ---------------------------------------------------------------- auto


@pytest.fixture
def eager(monkeypatch):
    """Any number of examples is worth timing."""
    monkeypatch.setattr(choosing, "worth_timing", lambda examples: True)
    monkeypatch.setattr(choosing, "is_short", lambda reference, examples: False)


@pytest.mark.long
@needs_openvino
def test_engines_are_timed_on_real_tiles_and_remembered(photos, own_home, eager, monkeypatch):
    run, decisions, heard = fitted(photos)
    assert [line for line in heard if line.startswith("engine")]
    timings = {t["engine"]: t for t in decisions["engine"]["timings"]}
    assert "torch fp32" in timings and "openvino fp32" in timings and all(t["rate"] > 0 for t in timings.values())
    assert decisions["engine"]["how"] == "timed here"
    assert run.model.manifest["engine"]["name"] == decisions["engine"]["name"]
    monkeypatch.setattr(choosing, "_timed", lambda *_: pytest.fail("timed again"))
    _, again, _ = fitted(photos, store=False)
    assert again["engine"]["how"] == "timed here before" and again["engine"]["timings"] == decisions["engine"]["timings"]


@needs_openvino
def test_features_that_are_here_are_used_whatever_made_them(photos, own_home, eager, monkeypatch):
    """The load of a machine changes from one fit to the next: what is faster now does not make everything be computed again."""
    monkeypatch.setattr(choosing, "_timed", lambda *_: pytest.fail("engines were timed"))
    for engine in ("openvino", "torch"):
        fitted(photos, engine=engine)
        _, decisions, heard = fitted(photos)
        # of two the reference
        assert decisions["engine"] == {"name": engine, "precision": "fp32", "how": "its features are here already"}
        assert any("24 already there" in line for line in heard) or decisions["features"]["engine"] == f"{engine} fp32"


@needs_openvino
def test_of_features_that_are_mostly_missing_nothing_follows(photos, own_home, eager, monkeypatch, tmp_path, make_images):
    more = make_images(tmp_path / "more", count=17)
    monkeypatch.setattr(choosing, "_timed", lambda *_: [Timing("torch fp32", 0.1, 40, True)])
    fitted(photos, engine="openvino")
    held = sum(1 for _ in more.glob("*/*.png"))
    assert held > 2 * 24 and fitted(more)[1]["engine"]["how"] == "timed here"


@needs_openvino
def test_a_pass_that_is_short_in_torch_looks_for_no_other_engine(photos, own_home, monkeypatch):
    monkeypatch.setattr(choosing, "worth_timing", lambda examples: True)
    run, decisions, heard = fitted(photos)
    assert decisions["engine"] == {"name": "torch", "precision": "fp32", "how": "too few examples for another"}
    assert not [line for line in heard if line.startswith("engine")]
    monkeypatch.setattr(choosing, "_timed", lambda *_: pytest.fail("timed again"))
    assert fitted(photos, store=False)[1]["engine"] == decisions["engine"]


def test_damaged_findings_are_measured_again(photos, own_home, eager, monkeypatch):
    monkeypatch.setattr(choosing, "_timed", lambda *_: [Timing("torch fp32", 0.1, 40, True)])
    fitted(photos, store=False)
    good = (own_home / "engines.json").read_text()
    wrong = {key: [{"engine": "torch fp32", "rate": "fast"}] for key in json.loads(good)}
    for content in ("", "[]", '{"x": 1}', json.dumps(wrong)):
        (own_home / "engines.json").write_text(content)
        assert fitted(photos, store=False)[1]["engine"]["how"] == "timed here", content


TIMINGS = [Timing("torch fp32", 0.0, 1, True), Timing("openvino fp32", 0.0, 3, True), Timing("openvino bf16", 0.0, 1000, False)]


@pytest.fixture
def rounding(eager, monkeypatch):
    """The engine that rounds is taken, which so few examples would not do."""
    monkeypatch.setattr(choosing, "_timed", lambda *_: TIMINGS)
    monkeypatch.setattr(choosing, "pick", lambda *_: (TIMINGS[2], TIMINGS[1]))


@needs_bfloat16
def test_an_engine_that_rounds_is_kept_when_predictions_stay(photos, rounding):
    run, decisions, heard = fitted(photos)
    assert decisions["agreement"] | {"figure": 0, "exact_figure": 0} == {
        "compared_with": "openvino fp32", "examples": 24, "equal": 24,
        "metric": "accuracy", "figure": 0, "exact_figure": 0, "accepted": True,
    }  # fmt: skip
    assert run.model.manifest["engine"] == {"name": "openvino", "precision": "bf16"}
    assert any("24 of 24 held-out predictions are those of openvino fp32" in line for line in heard)


@needs_bfloat16
@pytest.mark.parametrize("looks", [0, 1], ids=["on a sample before the pass", "on everything after it"])
def test_an_engine_whose_predictions_differ_is_replaced(photos, rounding, monkeypatch, looks):
    """The fastest exact engine runs instead, and the run is what it would have been with that one."""
    expected, _, _ = fitted(photos, engine="openvino", precision="fp32", store=False)
    answers = iter([""] * looks + ["7 of 24 predictions differ"])
    monkeypatch.setattr(choosing, "objection", lambda *_: next(answers))
    run, decisions, heard = fitted(photos)
    assert decisions["engine"]["name"] == "openvino" and decisions["engine"]["precision"] == "fp32"
    assert decisions["engine"]["left_out"]["openvino bf16"] == "7 of 24 predictions differ"
    assert decisions["agreement_of_sample"]["accepted"] == bool(looks) and ("agreement" in decisions) == bool(looks)
    assert any("openvino bf16 is not used: 7 of 24 predictions differ. openvino fp32 runs in its place" in line for line in heard)
    for name in ("model.safetensors", "bundle.json"):
        assert (run.path / "bundle" / name).read_bytes() == (expected.path / "bundle" / name).read_bytes()
    assert run.result["estimate"] == expected.result["estimate"]


@needs_bfloat16
def test_an_engine_that_was_named_stays_and_its_agreement_is_said(photos, monkeypatch):
    monkeypatch.setattr(choosing, "objection", lambda *_: "7 of 24 predictions differ")
    run, decisions, heard = fitted(photos, engine="openvino", precision="bf16")
    assert run.model.manifest["engine"]["precision"] == "bf16" and not decisions["agreement"]["accepted"]
    assert any("held-out predictions" in line for line in heard)


@needs_openvino
def test_an_engine_that_breaks_in_the_middle_is_replaced_by_torch(photos, plain, eager, monkeypatch):
    from regraft.features.engines.base import Trunk

    compare = Trunk._compare

    def refuse(self: Trunk, *given: Any) -> None:
        if self.engine.label == "openvino fp32":
            from regraft.errors import ModelError

            raise ModelError("the engine openvino fp32 gives other features of this network than torch")
        compare(self, *given)

    monkeypatch.setattr(choosing, "_timed", lambda *_: TIMINGS[:2])
    monkeypatch.setattr(Trunk, "_compare", refuse)
    run, decisions, heard = fitted(photos)
    assert run.model.manifest["engine"] == {"name": "torch", "precision": "fp32"}
    assert "gives other features" in decisions["engine"]["left_out"]["openvino fp32"]
    assert any("torch fp32 runs in its place" in line for line in heard)
    assert np.array_equal(probabilities(run, photos), plain)


@needs_bfloat16
def test_texts_and_numbers_too(text_table, rounding, tmp_path):
    assert fitted(text_table, store=False)[1]["agreement"]["equal"] == 16
    lines = text_table.read_text().splitlines()
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("\n".join(["text,label", *(f"{line.rsplit(',', 1)[0]},{i / 7:.3f}" for i, line in enumerate(lines[1:]))]))
    _, decisions, _ = fitted(numbers, target="number", store=False)
    assert decisions["agreement"]["examples"] == 16 and decisions["agreement"]["metric"] == "mae"
