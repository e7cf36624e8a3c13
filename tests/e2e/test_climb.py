"""A fit that climbs: what is tried and why, killed and interrupted between and in rungs, and the explanation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_budget import Clock
from test_resume import KILLED, NETWORK, OWN, Stop, bundle, ctrl_c, said, stopping_at

import regraft
from regraft.deadline import Deadline
from regraft.errors import Interrupted, UsageError
from regraft.events import Progress, Started
from regraft.jobs import climb, prospects
from regraft.jobs import expecting as before
from regraft.jobs.frozen import AGAIN
from regraft.strategy import ladder as ladder_rules
from regraft.workspace import checkpoints
from regraft.workspace.store import home


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "small_stops.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("REGRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    expecting(monkeypatch.setattr)
    yield
    sys.modules.pop("small_stops", None)


def expecting(put) -> None:
    """Two rungs that are expected to be worth it, so that both are trained, for a few epochs, whatever they give."""
    from regraft.strategy import settings
    from regraft.strategy.gains import Expected, Gain

    gains = {"norm": 3.0, "full": 9.0}
    put(prospects, "gain_of", lambda train, *_, **__: Gain(Expected(gains.get(train, -9.0), 0.1), "a test", 0.0))
    put(climb, "next_rung", _both)
    put(before, "hopeless", lambda *_: False)
    put(settings, "epochs_for", lambda *_: 5)


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


def test_what_a_climb_found_is_shown_reported_compared_and_replayed(image_folder, command):
    options = ["--model", "small_stops:small", "--allow-code", "--threads", "1"]
    done = command("fit", image_folder, "--train", "auto", "--out", "run", *options)
    assert done.code == 0 and "What was tried, on held-out examples; gains are on the same ones" in done.out, done.err
    result = json.loads(Path("run/run.json").read_text())
    steps = {step["train"]: step for step in result["ladder"]}
    own = json.loads(Path("run/decisions.json").read_text())["rungs"]
    shown = command("show", "run").out
    for train in ("norm", "full"):
        measured = steps[train]["measured"]["gain"]
        line = next(line for line in shown.splitlines() if line.startswith(f"{train} "))
        assert f"{100 * measured['value'] + 0.0:+.1f} points (" in line and ("this model" in line) == (train == result["train"])
    settings = own[result["train"]]["settings"] if result["train"] in own else None
    assert (settings is None) == (result["train"] == "head")
    assert settings is None or f"epochs {settings['epochs']}" in shown
    page = Path("run/report.html").read_text()
    assert "<h2>The ladder, predicted and measured</h2>" in page and page.count("<li>") >= len(result["ladder"])
    assert settings is None or f"epochs {settings['epochs']}" in page
    assert "The ladder, predicted and measured" in command("report", "run", "--out", "page.html", "--json").json["sections"]
    again = command("fit", image_folder, "--train", "auto", "--out", "again", "--replay", "run", *options)
    assert again.code == 0 and bundle("again") == bundle("run") and "not as in the run" not in again.err
    told = command("compare", "run", "again", "--json").json
    assert [run["train"] for run in told["runs"]] == [result["train"]] * 2
    assert told["comparisons"][0]["gain"]["value"] == 0


def test_killed_in_a_rung_it_ends_with_the_same_bytes(image_folder, tmp_path):
    options = {**NETWORK, "train": "auto"}
    whole = regraft.fit(image_folder, out="whole", **options)
    run = str(tmp_path / "run")
    paths = [str(tmp_path), str(Path(__file__).parent)]
    code = f"import sys; sys.path[:0] = {paths!r}\nfrom test_climb import expecting\nexpecting(setattr)\n"
    code += KILLED.format(here=str(tmp_path), data=str(image_folder), run=run, options=options)
    code = code.replace(
        "    left -= 1\n    if not left:",
        "    if getattr(event, 'stage', '') == 'training of full, fold 2 of 5' and getattr(event, 'done', 0) == 3:",
    )
    done = subprocess.run([sys.executable, "-c", code, "1", "fit"], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert not Path(run, "run.json").exists() and Path(run, "bundle/bundle.json").is_file()
    assert regraft.resume(run, allow_code=True).result["estimate"] == whole.result["estimate"]
    assert bundle(run) == bundle("whole")


def test_interrupted_in_a_rung_the_best_so_far_is_there(image_folder):
    stop = stopping_at("training of full, fold 1 of 5", 1, KeyboardInterrupt)
    with pytest.raises(Interrupted) as stopped:
        regraft.fit(image_folder, out="run", train="auto", on_event=stop, **NETWORK)
    assert "resume run" in str(stopped.value) and not Path("run/run.json").exists()
    assert regraft.open_run("run/bundle").predict([next(image_folder.rglob("*.png"))])


def test_interrupted_twice_it_stops_at_once_and_goes_on_later(image_folder):
    pressed: list[tuple[str, int]] = []
    later: list[object] = []

    def press(event):
        if pressed:
            later.append(event)
        elif isinstance(event, Progress) and (event.stage, event.done) == ("training of full, fold 2 of 5", 2):
            for _ in range(2):
                pressed.append((event.stage, event.done))
                os.kill(os.getpid(), signal.SIGINT)

    with ctrl_c(), pytest.raises(Interrupted, match="resume run"):
        regraft.fit(image_folder, out="run", train="auto", on_event=press, **NETWORK)
    assert len(pressed) == 2 and not any("stopping after this step" in line for line in said("run"))
    # at once: no step came after, and no other stage
    assert not any(isinstance(event, (Progress, Started)) for event in later)
    assert not Path("run/run.json").exists() and not list(Path("run").rglob("*.part"))
    example = next(image_folder.rglob("*.png"))
    before = regraft.open_run("run/bundle").predict([example])
    assert before
    begun: list[str] = []
    again = regraft.resume("run", allow_code=True, on_event=lambda e: begun.append(e.stage) if isinstance(e, Started) else None)
    found = ladder("run")
    assert found["norm"]["tried"] and found["full"]["tried"] and again.predict([example])
    assert not any(stage.startswith("training of norm") for stage in begun), "norm was trained before"


@pytest.mark.parametrize("seconds", [20.0, 120.0])
def test_a_climb_keeps_its_deadline_and_says_what_did_not_fit(image_folder, monkeypatch, seconds):
    monkeypatch.setattr(climb, "next_rung", ladder_rules.next_rung)
    # labels that cannot be told: anything seems worth trying
    rows = ["path,label", *(f"{p},{'ab'[i % 2]}" for i, p in enumerate(sorted(image_folder.rglob("*.png"))))]
    Path("t.csv").write_text("\n".join(rows))
    options = {**NETWORK, "allow_outside": True}
    clock = Clock({"training": 3.0}, each=0.05)
    whole: list[bool] = []

    def hear(event):
        clock.hear(event)
        if isinstance(event, Started) and event.stage.startswith("training"):
            whole.append(Path("run/bundle/bundle.json").is_file())

    run = regraft.fit("t.csv", out="run", budget=Deadline(seconds, clock), on_event=hear, **options)
    assert clock.time - 1000 <= seconds and all(whole) and run.predict([next(image_folder.rglob("*.png"))])
    found = {step["train"]: step for step in run.result["ladder"]}
    assert all(step["why"] for step in found.values()) and (seconds < 100 or found["full"]["tried"])
    again = regraft.fit("t.csv", out="again", budget=Deadline(seconds, Clock()), replay="run", **options)
    assert bundle("again") == bundle("run") and again.result["train"] == run.result["train"]


@pytest.mark.parametrize("kind", ["labels", "number"])
def test_a_climb_of_several_labels_and_of_a_number(image_folder, kind):
    pictures = sorted(image_folder.rglob("*.png"))
    value = {
        "labels": lambda i, p: f"{p.parent.name};even" if i % 2 else p.parent.name,
        "number": lambda i, p: str(i % 7 + len(p.parent.name) / 2),
    }
    rows = ["path,label", *(f"{p},{value[kind](i, p)}" for i, p in enumerate(pictures))]
    Path("t.csv").write_text("\n".join(rows))
    more = {"separator": ";"} if kind == "labels" else {"target": "number"}
    run = regraft.fit("t.csv", out="run", train="auto", allow_outside=True, **more, **NETWORK)
    found = {step["train"]: step for step in run.result["ladder"]}
    assert found["norm"]["tried"] and found["full"]["tried"]
    told = "\n".join(run.result["explanation"])
    assert ("in F1 of each example:" in told and "a label:" in told) if kind == "labels" else " in mean absolute error (" in told
    # what is chosen is what ships, with its figure
    shown = run.result["estimate"]["f1_micro" if kind == "labels" else "mae"]["value"]
    assert f" {shown:.3f}, held out" in told if kind == "labels" else f" {shown:.3g}, held out" in told


def test_few_shot_training_is_climbed_to(image_folder, monkeypatch):
    from regraft.strategy.ladder import Choice

    for module in (prospects, before):
        monkeypatch.setattr(module, "few_texts", lambda _: True)
    once = lambda _, standing, __: Choice("" if standing.tried else "contrastive", "asked by a test", "contrastive", {})
    monkeypatch.setattr(climb, "next_rung", once)
    run = regraft.fit(image_folder, out="run", train="auto", **NETWORK)
    found = {step["train"]: step for step in run.result["ladder"]}
    assert found["contrastive"]["tried"] and "measured" in found["contrastive"], found["contrastive"]["why"]
    assert run.result["train"] == ("contrastive" if found["contrastive"]["kept"] else "head")
    assert run.predict([next(image_folder.rglob("*.png"))])


def test_without_a_rung_a_budget_means_a_climb_and_settings_are_for_one_rung(image_folder):
    with pytest.raises(UsageError, match="--set"):
        regraft.fit(image_folder, budget="10m", settings={"lr": 1e-3}, **NETWORK)
