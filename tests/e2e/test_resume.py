"""A fit that stops goes on: killed at any moment, interrupted, replayed; what is not as it was is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import regraft
from regraft.errors import Interrupted, RegraftError, RunError, UsageError
from regraft.events import Progress, Said
from regraft.workspace import checkpoints

OWN = """
import torch
from torch import nn
INPUT = {"size": 16, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.2)

    def forward(self, x):
        return x + self.drop(self.norm(self.conv(x)).relu())

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.blocks = nn.Sequential(*[Block(8) for _ in range(3)])

    def forward(self, x):
        return self.blocks(self.stem(x)).mean((2, 3))

def small():
    torch.manual_seed(0)
    return Small(), INPUT
"""

KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
import torch
torch.set_num_threads(1)
import regraft
from regraft.workspace import checkpoints
checkpoints.EVERY, checkpoints.SHARE = 0.0, 1e9
left = int(sys.argv[1])

def listen(event):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "fit":
    regraft.fit({data!r}, out={run!r}, on_event=listen, **{options!r})
else:
    regraft.resume({run!r}, allow_code=True, on_event=listen)
"""

NETWORK = {"model": "small_stops:small", "allow_code": True, "threads": 1}
TRAININGS = {
    "full": {"train": "full"},
    "from the cut": {"train": "last 1 block, head"},
    "norm": {"train": "norm"},
    "lora": {"lora": "last 1 block", "rank": 2},
}


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "small_stops.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    # checkpoints at every step: any step can be the one to go on from
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    yield
    sys.modules.pop("small_stops", None)


def bundle(run) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((Path(run) / "bundle").iterdir())}


def said(run) -> list[str]:
    lines = [json.loads(line) for line in (Path(run) / "events.jsonl").read_text().splitlines()]
    return [line["message"] for line in lines if line["event"] == "Said"]


@contextmanager
def ctrl_c() -> Iterator[None]:
    """SIGINT is heard as a terminal's: a process in the background may have been started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Stop(Exception):
    """What a test throws in the middle of a fit."""


def stopping_at(stage: str, step: int, error: type[BaseException] = Stop):
    """A listener that throws when a stage comes to a step."""

    def listen(event):
        if isinstance(event, Progress) and event.stage == stage and event.done == step:
            raise error

    return listen


@pytest.mark.parametrize("name", TRAININGS)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(name, image_folder, tmp_path):
    options = {**NETWORK, **TRAININGS[name], "settings": {"epochs": 3}}
    events: list[object] = []
    whole = regraft.fit(image_folder, out="whole", on_event=events.append, **options)
    run, draw = str(tmp_path / "run"), random.Random(len(name))
    code = KILLED.format(here=str(tmp_path), data=str(image_folder), run=run, options=options)
    for verb in ("fit", "resume") if name == "full" else ("fit",):
        moment = str(draw.randrange(2, max(3, len(events) // 2)))
        done = subprocess.run([sys.executable, "-c", code, moment, verb], capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
        assert not (Path(run) / "run.json").exists()
    found = regraft.resume(run, allow_code=True)
    assert bundle(run) == bundle("whole")
    assert found.result["estimate"] == whole.result["estimate"]
    ours, theirs = (json.loads((Path(r) / "decisions.json").read_text()) for r in (run, "whole"))
    # each has its own clock
    assert ours | {"precision_timed": 0} == theirs | {"precision_timed": 0}


@pytest.mark.parametrize(("stage", "step"), [("training, fold 2 of 5", 2), ("training, all examples", 3)])
def test_it_goes_on_in_the_middle_of_a_training(stage, step, image_folder):
    options = {**NETWORK, "train": "full", "settings": {"epochs": 4}}
    regraft.fit(image_folder, out="whole", **options)
    with pytest.raises(Stop):
        regraft.fit(image_folder, out="run", on_event=stopping_at(stage, step), **options)
    assert list(Path("run/checkpoints").glob("*.safetensors")) and Path("run/bundle/bundle.json").is_file()
    steps: list[tuple[str, int]] = []
    listen = lambda event: steps.append((event.stage, event.done)) if isinstance(event, Progress) else None
    regraft.resume("run", allow_code=True, on_event=listen)
    trained = [s for s in steps if s[0].startswith("training")]
    # neither what came before nor the steps that were made are made again
    assert trained[0][0] == stage and trained[0][1] in (step, step + 1)
    assert bundle("run") == bundle("whole") and not Path("run/checkpoints").exists()
    # what judges is made of the folds
    assert Path("run/out_of_fold.csv").read_bytes() == Path("whole/out_of_fold.csv").read_bytes()


def test_one_interrupt_saves_and_says_how_to_go_on(image_folder):
    options = {**NETWORK, "train": "full", "settings": {"epochs": 4}}
    regraft.fit(image_folder, out="whole", **options)

    def press(event):
        if isinstance(event, Progress) and event.stage == "training, fold 1 of 5" and event.done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with ctrl_c(), pytest.raises(Interrupted, match="regraft resume run"):
        regraft.fit(image_folder, out="run", on_event=press, **options)
    assert any("what was done is saved" in line for line in said("run"))
    regraft.resume("run", allow_code=True)
    assert bundle("run") == bundle("whole")


def test_the_command_exits_as_shells_expect(image_folder, command, monkeypatch):
    def stop(*_, **__):
        raise Interrupted("runs/a b", best=True)

    monkeypatch.setattr("regraft.jobs.fit", stop)
    answer = command("fit", image_folder)
    assert answer.code == 130 and "regraft resume 'runs/a b'" in answer.err and "runs/a b/bundle" in answer.err


def test_what_is_not_as_it_was_is_named(image_folder, command):
    options = {**NETWORK, "train": "full", "settings": {"epochs": 4}}
    with pytest.raises(Stop):
        regraft.fit(image_folder, out="run", on_event=stopping_at("training, fold 1 of 5", 2), **options)
    first = sorted(image_folder.rglob("*.png"))[0]
    kept = first.read_bytes()
    first.write_bytes(sorted(image_folder.rglob("*.png"))[-1].read_bytes())
    with pytest.raises(RunError) as caught:
        regraft.resume("run", allow_code=True)
    assert "cannot go on" in caught.value.found and caught.value.faults
    answer = command("resume", "run", "--allow-code")
    assert answer.code == 1 and "not everything is as it was" in answer.err and "Traceback" not in answer.err
    first.write_bytes(kept)
    held = Path("run/checkpoints/training.safetensors")
    whole = held.read_bytes()
    held.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="cannot be read"):
        regraft.resume("run", allow_code=True)
    held.unlink()
    regraft.resume("run", allow_code=True)


def test_a_finished_run_a_run_that_is_not_and_one_without_code(image_folder, command):
    with pytest.raises(RegraftError, match="no such folder"):
        regraft.resume("nowhere")
    with pytest.raises(Stop):
        regraft.fit(image_folder, out="run", on_event=stopping_at("features", 3), **NETWORK)
    with pytest.raises(UsageError, match="allow"):
        regraft.resume("run")
    before = command("resume", "run", "--allow-code")
    assert before.code == 0 and "cross-validated" in before.out
    written = bundle("run")
    heard: list[str] = []
    again = regraft.resume("run", on_event=lambda event: heard.append(event.message) if isinstance(event, Said) else None)
    assert heard == ["run is finished: there is nothing to resume"] and bundle("run") == written
    assert again.result["model"] == "small_stops:small" or again.result["model"].endswith("small_stops:small")


def test_what_lay_in_memory_is_given_again(image_folder):
    pairs = [(p, p.parent.name) for p in sorted(image_folder.rglob("*.png"))]
    options = {**NETWORK, "train": "full", "settings": {"epochs": 2}}
    regraft.fit(pairs, out="whole", **options)
    with pytest.raises(Stop):
        regraft.fit(pairs, out="run", on_event=stopping_at("training, fold 1 of 5", 2), **options)
    with pytest.raises(UsageError, match=r"in memory: data"):
        regraft.resume("run", allow_code=True)
    regraft.resume("run", data=pairs, allow_code=True)
    assert bundle("run") == bundle("whole")


def test_a_run_that_is_being_written_is_refused(image_folder, monkeypatch):
    inside: list[str] = []

    def listen(event):
        if isinstance(event, Progress) and event.stage == "features" and not inside:
            with pytest.raises(RunError, match="is being written right now"):
                regraft.resume("run", allow_code=True)
            inside.append("tried")

    regraft.fit(image_folder, out="run", on_event=listen, **NETWORK)
    assert inside == ["tried"]


def test_decisions_are_taken_from_another_run(image_folder, command):
    options = {**NETWORK, "train": "full", "settings": {"epochs": 2}}
    regraft.fit(image_folder, out="one", **options)
    decisions = json.loads(Path("one/decisions.json").read_text())
    assert decisions["folds_trained"] == 5
    decisions["folds_trained"] = 1
    Path("one/decisions.json").write_text(json.dumps(decisions))
    regraft.fit(image_folder, out="two", replay="one", **options)
    assert json.loads(Path("two/decisions.json").read_text())["folds_trained"] == 1
    assert "1 of 5 folds held out" in json.loads(Path("two/run.json").read_text())["estimate_how"]
