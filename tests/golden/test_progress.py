"""What people see while a fit runs: a live bar with a line below it on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from regraft.cli import render
from regraft.cli.render import Screen
from regraft.events import Decided, Done, Event, HeldOut, Progress, Started

FOLD, NEXT = "training, fold 1 of 5", "training, fold 2 of 5"

EVENTS: list[Event] = [
    Started("features", 397, "images"),
    Progress("features", 1),
    Progress("features", 96, per_second=31.2, seconds_left=9.6),
    Done("features", 9.7, "397 computed"),
    Decided({"model": "x"}),
    Started(FOLD, 120, "steps"),
    Progress(FOLD, 1, 120, None, None, 0.71, 8e-5),
    Progress(FOLD, 34, 120, 52.3, 131.0, 0.3104, 7.96e-4),
    HeldOut(FOLD, 1, 5, "balanced_accuracy", 0.84, 0.8, 0.84, 40),
    Done(FOLD, 24.0, "balanced accuracy 0.840 held out (head 0.800), loss 0.31"),
    Started(NEXT, 120, "steps"),
    Progress(NEXT, 60, 120, 52.3, 40.0, 0.25, 5e-4),
    HeldOut(NEXT, 2, 5, "balanced_accuracy", 0.8, 0.8, 0.82, 40),
    Done(NEXT, 24.0, "balanced accuracy 0.800 held out (head 0.800), loss 0.2"),
    Started("head, fold 1 of 5", 10, "steps"),
    Progress("head, fold 1 of 5", 5, 10, 900.0, 0.0, 0.5, 1e-3),
]

PLAIN = """\
  features: 1 of 397 images
  features: 96 of 397 images, 31 images/s, about 10 s left
  features: 397 computed, 9.7 s
  training, fold 1 of 5: 1 of 120 steps, loss 0.71, learning rate 8e-05
  training, fold 1 of 5: 34 of 120 steps, 52 examples/s, about 2 min left, loss 0.31, learning rate 0.0008
  training, fold 1 of 5: balanced accuracy 0.840 held out (head 0.800), loss 0.31, 24.0 s
  training, fold 2 of 5: 60 of 120 steps, 52 examples/s, about 40 s left, loss 0.25, learning rate 0.0005, \
held out: balanced accuracy 0.840 (1 fold)
  training, fold 2 of 5: balanced accuracy 0.800 held out (head 0.800), loss 0.2, 24.0 s
  head, fold 1 of 5: 5 of 10 steps, 900 examples/s, loss 0.5, learning rate 0.001
"""


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(render.time, "monotonic", lambda: 100.0)


def shown(monkeypatch: pytest.MonkeyPatch, every: float, quiet: bool = False) -> str:
    monkeypatch.setattr(render, "PLAIN_EVERY", every)
    screen = Screen(quiet=quiet)
    screen.console, screen.live = Console(file=io.StringIO(), highlight=False, soft_wrap=True, width=200), False
    with screen:
        for event in EVENTS:
            screen(event)
    assert isinstance(screen.console.file, io.StringIO)
    return screen.console.file.getvalue()


def test_without_a_terminal_there_is_a_line_every_so_often(monkeypatch: pytest.MonkeyPatch):
    assert shown(monkeypatch, every=0.0) == PLAIN
    seldom = [line for line in PLAIN.splitlines() if line.endswith(" s")]
    assert shown(monkeypatch, every=15.0).splitlines() == seldom


def test_a_program_that_reads_json_is_told_nothing(monkeypatch: pytest.MonkeyPatch):
    assert shown(monkeypatch, every=0.0, quiet=True) == ""


@pytest.mark.parametrize("colours", [True, False], ids=["colours", "NO_COLOR"])
def test_on_a_terminal_a_bar_moves_and_below_it_stands_what_a_step_says(colours: bool, monkeypatch: pytest.MonkeyPatch):
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    terminal = lambda: Console(file=io.StringIO(), highlight=False, force_terminal=True, width=80, color_system="standard")
    screen = Screen()
    screen.console, screen.live = terminal(), True
    frames: list[str] = []
    with screen:
        for event in EVENTS[:12]:
            screen(event)
            if isinstance(event, Progress):
                frame = terminal()
                frame.print(screen._bar.get_renderable())
                assert isinstance(frame.file, io.StringIO)
                frames.append(frame.file.getvalue())
    assert bool(re.search(r"\x1b\[[\d;]*3\dm", "".join(frames))) == colours
    seen = [[line.rstrip() for line in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", frame).splitlines()] for frame in frames]
    assert re.fullmatch(r"  features [ ━╸╺]+ 96/397 images 31 images/s, about 10 s left", seen[1][0]) and len(seen[1]) == 1
    assert re.fullmatch(r"  training, fold 1 of 5 [ ━╸╺]+ 34/120 steps 52 examples/s, about 2 min left", seen[3][0])
    assert seen[3][1:] == ["    loss 0.31, learning rate 0.0008"]
    assert seen[4][1:] == ["    loss 0.25, learning rate 0.0005, held out: balanced accuracy 0.840 (1 fold)"]
    assert all(len(line) <= 80 for frame in seen for line in frame)
