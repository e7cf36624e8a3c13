"""A tracker works in a thread of its own: it gets what a fit tells, and can neither fail it nor hold it up."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from regraft.errors import MissingExtra, UsageError
from regraft.events import STEPS_KEPT, Decided, Done, Event, HeldOut, Measured, Progress, Said, Warned
from regraft.jobs.tracking import final_figures
from regraft.spec import FitSpec
from regraft.trackers import TRACKERS, load_tracker
from regraft.trackers import base as trackers
from regraft.trackers.base import Opening, Point, Sending, Tracker, points_of, slug


@dataclass
class Heard:
    """A session that keeps what it is told, with the thread in which it was."""

    id: str = "run 1"
    params_: dict[str, str] = field(default_factory=dict)
    notes_: dict[str, str] = field(default_factory=dict)
    calls: list[list[Point]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def params(self, values):
        self.params_ |= values

    def notes(self, values):
        self.notes_ |= values

    def points(self, points):
        self.threads.add(threading.current_thread().name)
        self.calls.append(list(points))

    def close(self, status):
        self.closed.append(status)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trackers, "SEND_EVERY", 0.05)


def sending(open: Callable[[Opening], Any], tmp_path: Path, id: str | None = None):
    said: list[Event] = []
    kept: list[str] = []
    made = Sending(Tracker("fake", "nothing", "fake", lambda: None, open), Opening("run", tmp_path, None, id), kept.append, said.append)
    return made, said, kept


def step(done: int, total: int = 1000, stage: str = "training, fold 1 of 5") -> Progress:
    return Progress(stage, done, total, 50.0, 1.0, 1 / done, 1e-3)


def test_what_a_fit_tells_comes_there_in_its_order(tmp_path: Path):
    heard = Heard()
    to, said, kept = sending(lambda opening: heard, tmp_path)
    to.params({"train": "top=1", "out": None, "settings": ["lr=1e-3"]})
    to(Decided({"model": "a", "cut": {"after": "blocks.5"}}))
    for done in range(1, 1001):
        to(step(done))
    to(HeldOut("training, fold 1 of 5", 1, 5, "accuracy", 0.84, 0.8, 0.84, 40))
    to(Done("training, fold 1 of 5", 24.0))
    to(Measured("seconds of features", 9.0, 8.0, "s"))
    to(Progress("features", 3))
    to(Said("hello"))
    to(Decided({"model": "b"}))
    to.result({"estimate/accuracy": 0.9, "test/accuracy": float("nan")})
    to.end("finished")
    assert to.wait(10) and heard.closed == ["finished"] and not said and kept == ["run 1"]
    assert heard.params_ == {"train": "top=1", "settings": '["lr=1e-3"]'}
    assert heard.notes_ == {"decision.model": "b", "decision.cut": '{"after": "blocks.5"}'}
    points = [p for call in heard.calls for p in call]
    losses = [(p.step, p.value) for p in points if p.name == "training/fold_1/loss"]
    assert len(losses) == STEPS_KEPT and losses[0] == (5, 1 / 5) and losses[-1][0] == 1000
    others = {p.name: (p.value, p.step) for p in points if not p.name.startswith("training/fold_1/")}
    assert others == {
        "training/held_out/accuracy": (0.84, 1),
        "training/held_out/accuracy_of_head": (0.8, 1),
        "training/held_out/accuracy_so_far": (0.84, 1),
        "cost/seconds_of_features": (9.0, None),
        "estimate/accuracy": (0.9, None),
    }
    # many go together, and never in the thread of the fit
    assert len(heard.calls) < 50 and heard.threads == {"regraft-fake"}


def test_a_run_that_goes_on_has_its_params(tmp_path: Path):
    heard = Heard()
    to, _, _ = sending(lambda opening: heard, tmp_path, id="run 1")
    to.params({"train": "top=1"})
    to.end("finished")
    assert to.wait(10) and not heard.params_


class _Full(Heard):
    def points(self, points):
        raise OSError(28, "No space left on device\nand more")


class _Leaves(Heard):
    def close(self, status):
        raise SystemExit(3)


def _refuses(opening):
    raise ConnectionError("\x1b[31mno such host")


@pytest.mark.parametrize(
    ("open", "words"),
    [(_refuses, r"ConnectionError: \\x1b\[31mno such host"), (lambda o: _Full(), "No space left"), (lambda o: _Leaves(), "SystemExit: 3")],
    ids=["opening", "sending", "closing"],
)
def test_what_fails_is_said_once_and_left(open, words: str, tmp_path: Path):
    to, said, _ = sending(open, tmp_path)
    for done in range(1, 20):
        to(step(done, 20))
    to.end("finished")
    assert to.wait(10)
    to(step(20, 20))
    assert to.wait(0)
    (warned,) = said
    assert isinstance(warned, Warned)
    assert re.search(rf"--track fake: .*{words}.*; the fit does not need it", warned.message) and "\n" not in warned.message


def test_what_hangs_is_left(tmp_path: Path):
    free = threading.Event()
    to, said, _ = sending(lambda opening: free.wait(30) and Heard(), tmp_path)
    begun = time.monotonic()
    for done in range(1, 1001):
        to(step(done))
    to.end("finished")
    assert not to.wait(0.1)
    to.leave("it did not take everything within 30 s")
    to.leave("again")
    free.set()
    assert time.monotonic() - begun < 20 and [type(e) for e in said] == [Warned]


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("training, fold 12 of 15", "training/fold_12"),
        ("training, all examples", "training/all_examples"),
        ("output layer, all views", "output_layer/all_views"),
        ("a:b; c", "a_b_c"),
    ],
)
def test_names_that_all_trackers_take(stage: str, name: str):
    assert slug(stage) == name


def test_figures_that_are_none_or_no_number_are_left_out():
    assert [p.name for p in points_of(Progress("training, fold 1 of 5", 1, 1, None, None, float("inf"), 1e-3))] == ["training/fold_1/lr"]
    assert not [*points_of(Progress("features", 1))]


def test_the_final_figures_have_their_intervals():
    figure = {"value": 0.9, "low": 0.8, "high": 0.95}
    result = {"estimate": {"accuracy": figure}, "baseline": {}, "test": {"metrics": {"accuracy": figure}}, "seconds": 3.0, "n": 40}
    assert final_figures({**result, "peak_memory_mb": None, "better_than_head": {"accuracy": figure}}) == {
        f"{part}/accuracy{end}": value
        for part in ("estimate", "test", "better_than_head")
        for end, value in (("", 0.9), ("_low", 0.8), ("_high", 0.95))
    } | {"cost/seconds": 3.0, "estimate/examples": 40}


@pytest.mark.parametrize(
    ("track", "words"),
    [
        (("mlfow",), "did you mean 'mlflow'"),
        (("mlflow", "mlflow:sqlite:///runs.db"), "given 2 times"),
        (("mlflow:https://me:secret@host/x",), "holds a password"),
    ],
)
def test_what_cannot_be_tracked_is_said_before_anything_is_done(track: tuple[str, ...], words: str):
    with pytest.raises(UsageError, match=words) as caught:
        FitSpec(data="d", track=track)
    assert "secret" not in str(caught.value)


def test_a_tracker_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    def missing():
        raise ModuleNotFoundError("No module named 'wandb'")

    monkeypatch.setitem(TRACKERS, "wandb", Tracker("wandb", "the package wandb", "wandb", missing, TRACKERS["wandb"].open))
    with pytest.raises(MissingExtra, match=r"needs the package wandb") as caught:
        load_tracker("wandb:team/birds")
    assert caught.value.move == "pip install 'regraft[wandb]'"
