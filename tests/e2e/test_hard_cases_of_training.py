"""Training below the head where data, settings or files are at the edge of what can be: said in words, or done right."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from test_deeper_training import MODEL, own_code

import regraft
from regraft.errors import RunError
from regraft.events import Progress
from regraft.workspace import checkpoints

__all__ = ["own_code"]
OPTIONS = {"model": "small_blocks:small", "allow_code": True, "threads": 1}


def rows(run: str) -> list[dict[str, str]]:
    with open(Path(run) / "out_of_fold.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("sizes", [["batch=1"], ["batch=6", "accumulate=6"]])
def test_a_batch_of_one_under_a_batch_norm_is_refused_in_words(sizes, image_folder, command):
    settings = [word for size in sizes for word in ("--set", size)]
    layers = "head=Sequential(Linear(6), BatchNorm1d(), ReLU())"
    answer = command("fit", image_folder, *MODEL, "--replace", layers, *settings, "--set", "epochs=1", "--out", "run")
    assert answer.code == 1 and "one example at a time" in answer.err and "--set batch=16" in answer.err, answer.err
    assert "Traceback" not in answer.err


def test_fewer_examples_than_folds(make_images, tmp_path):
    """Two of each of two classes: three folds, one of them with two examples; nobody is judged by a network that saw it."""
    data = make_images(tmp_path / "few", ("blue", "red"), count=2)
    run = regraft.fit(data, train="full", settings={"epochs": 2}, out="run", **OPTIONS)
    assert run.result["n"] == 4 and run.result["estimate_how"].startswith("3-fold cross-validation of the whole training")
    assert all(row["predicted"] for row in rows("run"))
    with pytest.raises(regraft.errors.DataError, match="has one example"):
        regraft.fit(make_images(tmp_path / "one", ("blue", "red"), count=1), train="full", out="none", **OPTIONS)


@pytest.mark.parametrize("train", ["full", "contrastive"])
def test_a_class_that_no_fold_can_hold_out(train, image_folder, make_images, command, monkeypatch):
    """A class of one example is trained on, never judged, and can be predicted; folds whose part lacks nothing else go on."""
    monkeypatch.setattr("regraft.strategy.contrastive.STEPS", (3, 3))
    make_images(image_folder, ("white",), count=1)
    more = ["--set", "epochs=2", "--set", "balanced=true", "--set", "patience=1"] if train == "full" else []
    answer = command("fit", image_folder, *MODEL, "--train", train, *more, "--out", "run")
    assert answer.code == 0 and "one example only: white" in answer.err, answer.err
    assert [row["predicted"] for row in rows("run") if row["label"] == "white"] == [""]
    (said,) = regraft.open_run("run").predict([image_folder / "white/0.png"], allow_code=True, threads=1)
    assert set(said.probabilities) == {"blue", "green", "red", "white"}


def test_some_of_the_folds_are_judged_and_compared_on_what_both_judged(image_folder, command, monkeypatch):
    regraft.fit(image_folder, out="head", **OPTIONS)
    monkeypatch.setattr("regraft.jobs.deeper.folds_to_train", lambda folds, seconds, examples: 2)
    run = regraft.fit(image_folder, train="full", settings={"epochs": 2}, out="some", **OPTIONS)
    decisions = json.loads(Path("some/decisions.json").read_text())
    judged = [row for row in rows("some") if row["predicted"]]
    assert decisions["folds_trained"] == 2 and {row["fold"] for row in rows("some")} == {"0", "1", "-1"}
    assert len(decisions["wise"]["part_mixes"]) == 2, "each fold's weights are chosen in the other"
    how = run.result["estimate_how"]
    assert how.startswith(f"2 of 5 folds held out: {len(judged)} examples") and how.endswith("in the other ones")
    figure = run.result["estimate"]["accuracy"]["value"]
    assert figure == pytest.approx(sum(row["label"] == row["predicted"] for row in judged) / len(judged), abs=1e-6)
    (pair,) = regraft.compare("head", "some")["comparisons"]
    both = {row["name"]: row for row in rows("head")}
    gain = [(r["label"] == r["predicted"]) - (r["label"] == both[r["name"]]["predicted"]) for r in judged]
    assert pair["n"] == len(judged) and pair["left_out"] == run.result["n"] - len(judged)
    assert pair["gain"]["value"] == pytest.approx(sum(gain) / len(gain), abs=1e-6)
    assert (pair["only_other"], pair["only_first"]) == (gain.count(1), gain.count(-1))
    answer = command("compare", "head", "some")
    assert answer.code == 0 and f"on {len(judged)} examples" in answer.out


class Stop(Exception):
    """What a test throws in the middle of a fit."""


def test_a_checkpoint_of_other_data_is_refused_with_the_difference(image_folder, make_images, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)

    def listen(event):
        if isinstance(event, Progress) and event.stage.startswith("training, fold 1") and event.done == 2:
            raise Stop

    others = {"a": image_folder, "b": make_images(tmp_path / "other", count=5, seed=9)}
    for name, data in others.items():
        with pytest.raises(Stop):
            regraft.fit(data, train="full", settings={"epochs": 3}, out=name, on_event=listen, **OPTIONS)
    for file in Path("b/checkpoints").iterdir():
        shutil.copy(file, Path("a/checkpoints") / file.name)
    with pytest.raises(RunError, match="belongs to another training") as error:
        regraft.resume("a", allow_code=True)
    assert "examples.train was 15, and is now 18" in error.value.faults
    assert any(fault.startswith("examples.sha256 was") for fault in error.value.faults)
    assert (Path("a/bundle") / "bundle.json").is_file()
