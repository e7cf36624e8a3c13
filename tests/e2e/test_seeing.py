"""A fit that is watched: what events.jsonl keeps, what trackers get, and that neither changes a bit."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import regraft
from regraft.errors import Interrupted
from regraft.events import HeldOut, Progress, Warned
from regraft.jobs import tracking
from regraft.spec import TRACKERS as NAMES
from regraft.trackers import TRACKERS, Tracker

OWN = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.blocks = nn.Sequential(*[nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(2)])

    def forward(self, x):
        return self.blocks(self.stem(x)).mean((2, 3))

def small():
    torch.manual_seed(0)
    return Small(), {"size": 16, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
"""

OPTIONS: dict[str, Any] = {"model": "small_seen:small", "allow_code": True, "threads": 1, "train": "full", "settings": {"epochs": 4}}


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "small_seen.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("small_seen", None)


def bundle(run) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((Path(run) / "bundle").iterdir())}


def lines(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(run) / "events.jsonl").read_text().splitlines()]


def test_steps_and_folds_are_told_and_kept_and_trackers_change_nothing(image_folder):
    there = [name for name in NAMES if importlib.util.find_spec(name)]
    heard: list[Any] = []
    options = {**OPTIONS, "settings": {"epochs": 4, "wise": False}}
    regraft.fit(image_folder, out="same", track=there, **options)
    run = regraft.fit(image_folder, out="seen", on_event=heard.append, **options)
    assert bundle("same") == bundle("seen")
    steps = [e for e in heard if isinstance(e, Progress) and e.loss is not None]
    assert {e.stage for e in steps} == {*(f"training, fold {k} of 5" for k in range(1, 6)), "training, all examples"}
    last = [e for e in steps if e.done == e.total]
    assert len(last) == 6 and all(e.seconds_left == 0 for e in last)
    # the rate rises, and falls to 0
    rates = [e.lr for e in steps if e.stage.endswith("all examples")]
    assert max(rates) > 10 * rates[-1] > 0 and max(rates) == pytest.approx(
        json.loads(Path("seen/decisions.json").read_text())["settings"]["lr"]
    )
    folds = [e for e in heard if isinstance(e, HeldOut)]
    assert [e.fold for e in folds] == [1, 2, 3, 4, 5] and {e.metric for e in folds} == {"accuracy"}
    # what was told on the way is what is reported in the end, of the head too
    weighed = lambda of: sum(of(e) * e.examples for e in folds) / sum(e.examples for e in folds)
    assert (
        folds[-1].so_far
        == pytest.approx(weighed(lambda e: e.value))
        == pytest.approx(run.result["estimate"]["accuracy"]["value"], abs=1e-6)
    )
    gain = run.result.get("better_than_head", run.result.get("asked", {}).get("better_than_head"))
    assert weighed(lambda e: e.value - e.head) == pytest.approx(gain["accuracy"]["value"], abs=1e-6)
    kept = lines("seen")
    assert sum(line["event"] == "Progress" for line in kept) == len(steps) and all(line["time"] > 1.7e9 for line in kept)
    assert [line["value"] for line in kept if line["event"] == "HeldOut"] == [e.value for e in folds]
    assert {name for line in kept if line["event"] == "Decided" for name in line["decisions"]} >= {"model", "settings", "ships"}
    if "mlflow" in there:
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{Path('same/trackers/mlflow.db').absolute()}")
        id = json.loads(Path("same/trackers/mlflow.json").read_text())["id"]
        found, result = client.get_run(id), json.loads(Path("same/run.json").read_text())
        assert found.info.status == "FINISHED" and found.info.run_name == "same" and found.data.params["train"] == "full"
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            assert found.data.metrics[f"estimate/accuracy{end}"] == result["estimate"]["accuracy"][key]
        assert (
            found.data.tags["regraft.bundle"] == str(Path("same/bundle").absolute()) and found.data.tags["regraft.decision.train"] == "full"
        )
        assert len(client.get_metric_history(id, "training/all_examples/loss")) == sum(e.stage == steps[-1].stage for e in steps)


class _Told:
    """A tracker in place of a real one."""

    def __init__(self, monkeypatch) -> None:
        self.openings: list[Any] = []
        self.ends: list[str] = []
        self.points: list[Any] = []
        monkeypatch.setitem(TRACKERS, "wandb", Tracker("wandb", "nothing", "wandb", lambda: None, self.open))

    def open(self, opening):
        told = self

        class Session:
            id = "run 7"
            params = notes = lambda self, values: None
            points = lambda self, points: told.points.extend(points)
            close = lambda self, status: told.ends.append(status)

        self.openings.append(opening)
        return Session()


def test_a_fit_that_goes_on_is_one_run_there(image_folder, monkeypatch):
    told = _Told(monkeypatch)

    def stop(event):
        if isinstance(event, Progress) and event.stage == "training, fold 2 of 5":
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        regraft.fit(image_folder, out="run", track="wandb:birds", on_event=stop, **OPTIONS)
    assert told.ends == ["interrupted"]
    regraft.resume("run", allow_code=True)
    assert [(o.id, o.destination, o.name) for o in told.openings] == [(None, "birds", "run"), ("run 7", "birds", "run")]
    assert told.ends == ["interrupted", "finished"]
    assert {"training/fold_1/loss", "training/fold_5/loss", "training/held_out/accuracy", "estimate/accuracy"} <= {
        p.name for p in told.points
    }


def test_a_tracker_that_hangs_or_fails_fails_nothing(image_folder, monkeypatch):
    monkeypatch.setitem(tracking.PATIENCE, "finished", 0.2)
    monkeypatch.setattr(tracking, "SAID_AFTER", 0.1)
    waits = threading.Event()
    fails = Tracker("mlflow", "nothing", "mlflow", lambda: None, lambda opening: 1 / 0)
    monkeypatch.setitem(TRACKERS, "mlflow", fails)
    monkeypatch.setitem(TRACKERS, "wandb", Tracker("wandb", "nothing", "wandb", lambda: None, lambda opening: waits.wait(60)))
    heard: list[Any] = []
    run = regraft.fit(
        image_folder, out="run", track=["mlflow", "wandb"], on_event=heard.append, **{**OPTIONS, "train": "head", "settings": {}}
    )
    waits.set()
    warned = [e.message for e in heard if isinstance(e, Warned) and "--track" in e.message]
    assert len(warned) == 2 and "ZeroDivisionError" in warned[0] and "did not take everything" in warned[1]
    assert any("ZeroDivisionError" in message for message in run.result["warned"]) and run.result["estimate"]
