"""A fit that climbs: what is tried and why, killed and interrupted between and in rungs, and the explanation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from test_resume import NETWORK, OWN, Stop, bundle, stopping_at

import regraft
from regraft.errors import UsageError
from regraft.jobs import climb, prospects
from regraft.jobs.frozen import AGAIN
from regraft.workspace import checkpoints
from regraft.workspace.store import home


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python
    from regraft.strategy.gains import Expected, Gain

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "small_stops.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("REGRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    # two rungs that are expected to be worth it, so that both are trained whatever they give
    gains = {"norm": 3.0, "full": 9.0}
    monkeypatch.setattr(prospects, "gain_of", lambda train, *_, **__: Gain(Expected(gains.get(train, -9.0), 0.1), "a test", 0.0))
    monkeypatch.setattr(climb, "next_rung", _both)
    monkeypatch.setattr(climb, "hopeless", lambda *_: [])
    yield
    sys.modules.pop("small_stops", None)


def _both(prospects, standing, room):
    from regraft.strategy.ladder import Choice

    left = [name for name in ("norm", "full") if name not in standing.tried]
    return Choice(left[0], "asked by a test", left[0], {}) if left else Choice("", "every rung was tried", "", {})


def ladder(run) -> dict[str, dict]:
    return {step["train"]: step for step in json.loads((Path(run) / "run.json").read_text())["ladder"]}


def test_stopped_in_the_second_rung_it_ends_with_the_same_bytes(image_folder):
    whole = regraft.fit(image_folder, out="whole", train="auto", **NETWORK)
    found = ladder("whole")
    assert found["norm"]["tried"] and found["full"]["tried"] and not found["top=1"]["tried"]
    assert whole.result["train"] in ("head", "norm", "full") and whole.result["explanation"]
    # the pass of so few opened the network: what an example takes is told by whole tiles that went once more
    assert [known["pace"]["timed"] for known in json.loads((home() / "pace.json").read_text()).values()] == [16 * AGAIN]
    steps = found["norm"]["predicted"], found["norm"]["measured"]
    assert {"gain", "seconds", "memory"} <= set(steps[0]) and {"gain", "over_head", "seconds"} <= set(steps[1])
    kept = [name for name in ("norm", "full") if found[name]["kept"]]
    assert whole.result["train"] == (kept[-1] if kept else "head")
    assert json.loads(Path("whole/bundle/bundle.json").read_text())["train"] == whole.result["train"]
    with pytest.raises(Stop):
        regraft.fit(image_folder, out="run", train="auto", on_event=stopping_at("training of full, fold 2 of 5", 2), **NETWORK)
    assert Path("run/checkpoints/norm/done.safetensors").is_file() and Path("run/bundle/bundle.json").is_file()
    trained: set[str] = set()
    again = regraft.resume("run", allow_code=True, on_event=lambda e: trained.add(getattr(e, "stage", "")))
    assert not any(name.startswith("training of norm") for name in trained)
    assert bundle("run") == bundle("whole") and again.result["estimate"] == whole.result["estimate"]
    assert Path("run/out_of_fold.csv").read_bytes() == Path("whole/out_of_fold.csv").read_bytes()
    ours, theirs = (json.loads((Path(r) / "decisions.json").read_text())["rungs"] for r in ("run", "whole"))
    assert ours["full"]["settings"] == theirs["full"]["settings"] and ours["norm"]["outcome"] == theirs["norm"]["outcome"]
    assert not Path("run/checkpoints").exists() and not Path("run/material").exists()


def test_without_a_rung_a_budget_means_a_climb_and_settings_are_for_one_rung(image_folder):
    with pytest.raises(UsageError, match="--set"):
        regraft.fit(image_folder, budget="10m", settings={"lr": 1e-3}, **NETWORK)
