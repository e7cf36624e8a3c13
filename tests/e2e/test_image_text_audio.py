"""The main job through the command line, for pictures, texts and sounds: from fit to cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.weights, pytest.mark.cores]

METRICS = {"accuracy", "balanced_accuracy", "f1_macro", "log_loss"}
TASKS = {"image": ["blue", "green", "red"], "text": ["food", "sport"], "audio": ["high", "low"]}
HEAVY = {"timm", "torchvision", "transformers"}


@dataclass(frozen=True)
class Fitted:
    """One run that several tests look at."""

    task: str
    data: Path
    run: Path
    home: Path
    result: dict[str, Any]
    err: str


@pytest.fixture(scope="session")
def all_fits(
    tmp_path_factory: pytest.TempPathFactory, make_images: Any, make_texts: Any, make_tones: Any, command: Any
) -> Callable[[str], Fitted]:
    """A fit of each task, made when it is first asked for."""
    made: dict[str, Fitted] = {}

    def fitted(task: str) -> Fitted:
        if task not in made:
            folder = tmp_path_factory.mktemp(task)
            make = {"image": make_images, "text": make_texts, "audio": make_tones}[task]
            data = make(folder / ("data.csv" if task == "text" else "data"))
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("REGRAFT_HOME", str(folder / "home"))
                patch.chdir(folder)
                answer = command("fit", data, "--threads", "1", "--out", folder / "runs" / "first", "--json")
            assert answer.code == 0, answer.err
            made[task] = Fitted(task, data, folder / "runs" / "first", folder / "home", answer.json, answer.err)
        return made[task]

    return fitted


@pytest.fixture(params=list(TASKS))
def fitted(request: pytest.FixtureRequest, all_fits: Callable[[str], Fitted], monkeypatch: pytest.MonkeyPatch) -> Fitted:
    """The fit of one task, with its feature store."""
    found = all_fits(request.param)
    monkeypatch.setenv("REGRAFT_HOME", str(found.home))
    return found


def check_metrics(metrics: dict[str, Any]) -> None:
    assert set(metrics) >= METRICS
    for name, figure in metrics.items():
        assert set(figure) == {"value", "low", "high"}, name
        assert figure["low"] <= figure["value"] <= figure["high"], name


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def inputs_of(fitted: Fitted) -> list[Path]:
    return [fitted.data] if fitted.task == "text" else sorted(fitted.data.rglob("*.*"))[:4]


def test_fit_gives_what_a_program_needs(fitted: Fitted):
    result = fitted.result
    assert set(result) >= {"run", "model", "train", "estimate", "baseline", "seconds", "peak_memory_mb", "left_out"}
    assert result["task"] == fitted.task
    assert result["labels"] == TASKS[fitted.task]
    assert result["train"] == "head"
    check_metrics(result["estimate"])
    assert set(result["baseline"]) == {"constant", "without_network"}
    for baseline in result["baseline"].values():
        assert 0 <= baseline["metrics"]["accuracy"]["value"] <= 1
    assert result["left_out"] == []
    assert result["seconds"] > 0
    assert "test" not in result


def test_an_easy_set_is_learnt(fitted: Fitted):
    assert fitted.result["estimate"]["accuracy"]["value"] >= 0.8


def test_the_run_folder_holds_everything(fitted: Fitted):
    names = {p.name for p in fitted.run.iterdir()}
    assert names >= {"spec.json", "decisions.json", "events.jsonl", "run.json", "out_of_fold.csv", "bundle"}
    assert not any(name.startswith(".") for name in names)
    assert json.loads((fitted.run / "run.json").read_text(encoding="utf-8")) == fitted.result
    rows = (fitted.run / "out_of_fold.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + fitted.result["n"]


def test_costs_are_recorded_predicted_and_measured(fitted: Fitted):
    for cost in fitted.result["costs"].values():
        assert {"predicted", "measured"} <= set(cost)


def test_the_bundle_holds_no_times_paths_or_host(fitted: Fitted):
    text = (fitted.run / "bundle" / "bundle.json").read_text(encoding="utf-8")
    for trace in (str(fitted.data), str(fitted.run.parent), str(Path.home()), os.uname().nodename if hasattr(os, "uname") else "//"):
        assert trace not in text
    manifest = json.loads(text)
    assert manifest["model"]["licence"]
    assert manifest["model"]["origin"]
    assert manifest["labels"] == TASKS[fitted.task]
    assert {p.suffix for p in (fitted.run / "bundle").iterdir()} <= {".json", ".safetensors"}


def test_the_licence_is_shown(fitted: Fitted, command: Any):
    licence = fitted.result["licence"]
    assert licence
    assert licence in command("show", fitted.run).out
    assert command("show", fitted.run, "--json").json["bundle"]["model"]["licence"] == licence
    assert any(licence in said for said in fitted.result["said"])


def test_predict_gives_probabilities_in_order(fitted: Fitted, command: Any):
    answer = command("predict", fitted.run, *inputs_of(fitted), "--threads", "1", "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert len(found) == (16 if fitted.task == "text" else 4)
    for item in found:
        assert set(item) == {"name", "label", "probability", "probabilities"}
        assert sum(item["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert item["probabilities"][item["label"]] == item["probability"] == max(item["probabilities"].values())
    if fitted.task != "text":
        assert [item["name"] for item in found] == [str(p) for p in inputs_of(fitted)]
    table = command("predict", fitted.run, *inputs_of(fitted), "--threads", "1", "--csv").out.splitlines()
    assert table[0].split(",")[:3] == ["name", "label", "probability"]
    assert table[0].split(",")[3:] == TASKS[fitted.task]
    assert len(table) == len(found) + 1


def test_a_copied_bundle_predicts_the_same(fitted: Fitted, command: Any, tmp_path: Path):
    copied = shutil.copytree(fitted.run / "bundle", tmp_path / "elsewhere" / "model")
    words = (*inputs_of(fitted), "--threads", "1", "--json")
    there, here = command("predict", copied, *words), command("predict", fitted.run, *words)
    assert there.code == here.code == 0, there.err
    assert there.json == here.json


def test_evaluate(fitted: Fitted, command: Any):
    answer = command("evaluate", fitted.run, fitted.data, "--threads", "1", "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert set(found) >= {"metrics", "baseline", "confusion", "n"}
    check_metrics(found["metrics"])
    assert found["metrics"]["accuracy"]["value"] >= 0.9, "these are the examples it was trained on"
    assert found["n"] == fitted.result["n"] == int(np.sum(found["confusion"]["rows"]))
    assert found["confusion"]["labels"] == TASKS[fitted.task]


@pytest.mark.parametrize("ending", ["npy", "npz", "parquet"])
def test_features(all_fits: Any, monkeypatch: pytest.MonkeyPatch, command: Any, ending: str):
    fitted = all_fits("text")
    monkeypatch.setenv("REGRAFT_HOME", str(fitted.home))
    out = Path(f"f.{ending}")
    answer = command("features", fitted.data, "--model", fitted.result["model"], "--threads", "1", "--out", out, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["shape"] == [16, 384]
    if ending == "parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(out).to_pydict()
        rows, labels = np.array(table["features"]), table["label"]
    elif ending == "npz":
        with np.load(out) as held:
            rows, labels = held["features"], held["labels"].tolist()
    else:
        rows, labels = np.load(out), ["food"] * 8 + ["sport"] * 8
    assert rows.shape == (16, 384)
    assert labels == ["food"] * 8 + ["sport"] * 8
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-4)


@pytest.mark.parametrize("task", ["image", "audio"])
def test_features_of_the_other_tasks(all_fits: Any, monkeypatch: pytest.MonkeyPatch, command: Any, task: str):
    fitted = all_fits(task)
    monkeypatch.setenv("REGRAFT_HOME", str(fitted.home))
    answer = command("features", fitted.data, "--threads", "1", "--out", "f.npy", "--json")
    assert answer.code == 0, answer.err
    rows = np.load("f.npy")
    assert list(rows.shape) == answer.json["shape"]
    assert len(rows) == fitted.result["n"]
    assert np.isfinite(rows).all()


def test_runs_lists_it(fitted: Fitted, command: Any):
    (row,) = command("runs", fitted.run.parent, "--json").json
    assert row["finished"]
    assert row["model"] == fitted.result["model"]
    assert row["estimate"] == fitted.result["estimate"]
    assert str(fitted.run) in command("runs", fitted.run.parent).out


def test_cache_shows_what_is_kept(fitted: Fitted, command: Any):
    found = command("cache", "--json").json
    assert found["bytes"] == sum(space["bytes"] for space in found["spaces"]) > 0
    (space,) = [s for s in found["spaces"] if s["maker"]["kind"] == "features"]
    assert space["rows"] >= fitted.result["n"]
    assert command("cache").code == 0


def test_models_are_listed(command: Any):
    found = command("models", "--json").json
    assert {m["task"] for m in found} == set(TASKS)
    for model in found:
        assert model["licence"]
        assert model["trained_on"]
        assert model["parameters"] > 1e6
    assert command("models").code == 0


def test_the_same_input_gives_the_same_bundle_warm_or_without_a_store(fitted: Fitted, command: Any):
    for i, more in enumerate(((), ("--no-store",))):
        answer = command("fit", fitted.data, "--threads", "1", "--out", f"again-{i}", "--json", *more)
        assert answer.code == 0, answer.err
        assert hashes(Path(f"again-{i}") / "bundle") == hashes(fitted.run / "bundle")


def test_emptying_the_cache(command: Any, image_folder: Path):
    assert command("features", image_folder, "--threads", "1", "--out", "f.npy").code == 0
    assert command("cache", "--json").json["bytes"] > 0
    assert command("cache", "--empty", "--json").json["bytes"] > 0
    assert command("cache", "--json").json["spaces"] == []


def test_the_network_is_a_plain_module(fitted: Fitted):
    import torch

    import regraft

    network = regraft.open_run(fitted.run).network()
    assert isinstance(network, torch.nn.Module)
    assert not network.training
    assert any(isinstance(m, torch.nn.Linear) and m.out_features == len(TASKS[fitted.task]) for m in network.modules())


def test_the_test_part_changes_nothing_that_is_chosen(command: Any, make_images: Any):
    """Other test examples with other labels: the same bundle, byte for byte, and another test figure."""
    make_images(Path("a/train"))
    make_images(Path("a/test"), count=2, seed=9)
    shutil.copytree("a", "b")
    Path("b/test/red").rename("b/test/x")
    Path("b/test/blue").rename("b/test/red")
    Path("b/test/x").rename("b/test/blue")
    results = {name: command("fit", name, "--threads", "1", "--out", f"run-{name}", "--json").json for name in "ab"}
    assert hashes(Path("run-a/bundle")) == hashes(Path("run-b/bundle"))
    assert results["a"]["estimate"] == results["b"]["estimate"]
    check_metrics(results["a"]["test"]["metrics"])
    assert results["a"]["test"]["n"] == 6
    assert results["a"]["test"]["metrics"]["accuracy"] != results["b"]["test"]["metrics"]["accuracy"]


def test_a_fraction_is_set_aside_and_judged(all_fits: Any, monkeypatch: pytest.MonkeyPatch, command: Any):
    fitted = all_fits("text")
    monkeypatch.setenv("REGRAFT_HOME", str(fitted.home))
    result = command("fit", fitted.data, "--threads", "1", "--test", "0.25", "--json").json
    assert (result["n"], result["test"]["n"]) == (12, 4)


def test_what_the_screen_says_is_in_the_json(all_fits: Any, monkeypatch: pytest.MonkeyPatch, command: Any, make_texts: Any):
    fitted = all_fits("text")
    monkeypatch.setenv("REGRAFT_HOME", str(fitted.home))
    folder = Path("split")
    make_texts(folder / "train.csv")
    make_texts(folder / "val.csv")
    words = ("--threads", "1")
    for name, command_line in (("fit", ("fit", folder)), ("evaluate", ("evaluate", fitted.run, folder))):
        plain, held = command(*command_line, *words), command(*command_line, *words, "--json").out
        said = [line.strip() for line in plain.err.splitlines() if " s" not in line[-3:] and line.strip()]
        assert said, name
        for line in said:
            assert json.dumps(line.removeprefix("note: "), ensure_ascii=False)[1:-1] in held, (name, line)


WARM = """
import sys
sys.argv = ["regraft", *sys.argv[1:]]
from regraft.cli.main import main
try:
    main()
finally:
    print("LOADED", *sorted(sys.modules), file=sys.stderr)
"""


def test_a_warm_fit_imports_no_library_of_networks(fitted: Fitted):
    words = ["fit", str(fitted.data), "--threads", "1", "--out", "warm", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", WARM, *words], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(next(line for line in done.stderr.splitlines() if line.startswith("LOADED")).split())
    assert "torch" in loaded
    assert not loaded & HEAVY


CUT_SHORT = """
import os, signal, sys
# a process that was started in the background ignores it
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["regraft", *sys.argv[1:]]
from regraft.cli import main, render
from regraft.events import Progress
show = render.Screen.__call__
def watch(self, event):
    show(self, event)
    if isinstance(event, Progress) and event.stage == "features" and event.done == 20:
        os.kill(os.getpid(), signal.SIGINT)
render.Screen.__call__ = watch
main.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are others on Windows")
@pytest.mark.parametrize("out", [(), ("--out", "result")], ids=["numbered", "named"])
def test_control_c_ends_with_a_message_and_resume_goes_on(command: Any, make_images: Any, out: tuple[str, ...]):
    words = ["fit", str(make_images(Path("d"), count=12)), "--threads", "1", *out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CUT_SHORT, *words], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    (run,) = Path().glob("runs/*") if not out else [Path("result")]
    assert done.stderr.splitlines()[-1] == f"interrupted. What was done is kept. To go on: regraft resume {run}"
    again = command("resume", run)
    assert again.code == 0, again.err
    (line,) = [line for line in again.err.splitlines() if line.strip().startswith("features:")]
    counts = [int(word) for word in line.replace(",", "").split() if word.isdigit()]
    assert sum(counts[:2]) == 36
    assert counts[1] >= 16, line


@pytest.mark.long
@pytest.mark.data
def test_real_photographs(data_root: Path, command: Any):
    """Ants and bees, the validation folder as the test."""
    answer = command("fit", data_root / "hymenoptera", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["test"]["metrics"]["accuracy"]["value"] >= 0.9
    assert any("val/" in said for said in answer.json["said"])
