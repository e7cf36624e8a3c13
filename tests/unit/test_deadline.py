"""The clock of a budget: it only goes forward, waits where something is done again, and rings in time."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import pytest

from regraft.deadline import LEAVING, Deadline, OutOfTime, process_age, steady, too_little


class Hand:
    """A clock that is moved by hand."""

    time = 50.0

    def __call__(self) -> float:
        return self.time


def test_seconds_are_counted_from_the_beginning():
    clock = Hand()
    deadline = Deadline(60.0, clock)
    assert deadline.spent == 0 and deadline.left == 60 - LEAVING
    clock.time += 20
    assert deadline.spent == 20 and deadline.left == 40 - LEAVING
    clock.time += 100
    assert deadline.left < 0


def test_a_clock_that_jumps_back_gains_nothing_and_one_that_jumps_ahead_is_later():
    clock = Hand()
    deadline = Deadline(60.0, clock)
    clock.time += 30
    assert deadline.spent == 30
    clock.time -= 25
    assert deadline.spent == 30
    clock.time += 26
    assert deadline.spent == 31
    clock.time += 8 * 3600
    assert deadline.left < -8 * 3600 + 60


def test_without_a_budget_there_is_no_end():
    deadline = Deadline.of(None)
    assert not deadline.bound and deadline.left == float("inf") and deadline.asked is None
    deadline.ring_at(0, "")
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_clock_waits_until_something_new_is_asked():
    clock = Hand()
    deadline = Deadline(60.0, clock, before=25.0, waiting=True)
    clock.time += 1000
    assert deadline.spent == 25
    assert deadline.left == 35 - LEAVING
    clock.time += 5
    assert deadline.spent == 30


@pytest.mark.parametrize(("budget", "seconds", "asked"), [("2m", 120, "2m"), (90, 90, "90"), (45.5, 45.5, "45.5"), ("10x", None, "10x")])
def test_what_a_budget_names(budget, seconds, asked):
    found = Deadline.of(budget)
    assert found.seconds == seconds and found.asked == asked
    assert Deadline.of(found) is found


def test_a_deadline_of_ones_own_can_be_asked_for_again():
    assert Deadline(2_592_000.0, Hand()).asked == "2592000s"


def test_it_rings_in_time_whatever_runs_then():
    deadline = Deadline(1.0)
    deadline.slowness = 0.0
    deadline.ring_at(0.95, "too slow")
    try:
        with pytest.raises(OutOfTime, match="too slow"):
            while True:
                # who carries on whatever happens
                with suppress(Exception):
                    time.sleep(0.01)
    finally:
        deadline.silence()
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


class Named:
    """A class that has one waits a moment for it to be named."""

    def __set_name__(self, owner, name):
        self._wait()

    def __del__(self):
        self._wait()

    @staticmethod
    def _wait(seconds=0.08):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass


@pytest.mark.parametrize("run", [lambda: type("Made", (), {"named": Named()}), Named], ids=["a class is made", "an object goes"])
def test_it_rings_a_moment_later_where_python_would_make_something_else_of_it(run):
    deadline = Deadline(1.0)
    deadline.slowness = 0.0
    deadline.ring_at(0.97, "too slow")
    try:
        with pytest.raises(OutOfTime, match="too slow"):
            run()
            Named._wait(1.0)
    finally:
        deadline.silence()


def test_it_rings_a_moment_later_where_an_operator_of_pytorch_calls_python():
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Slow(TorchDispatchMode):
        whole = False

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            Named._wait()
            self.whole = True
            return func(*args, **(kwargs or {}))

    deadline = Deadline(10.0)
    deadline.slowness = 0.0
    numbers = torch.ones(2)
    try:
        with pytest.raises(OutOfTime, match="too slow"), Slow() as slow:
            numbers.clamp(0, 6)  # what PyTorch loads for it
            slow.whole = False
            deadline.ring_at(deadline.left - 0.03, "too slow")
            numbers.clamp(0, 6)
            Named._wait(1.0)
        assert slow.whole
    finally:
        deadline.silence()


def test_an_alarm_of_somebody_else_is_left_alone():
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        deadline = Deadline(1.0)
        deadline.ring_at(0, "")
        deadline.silence()
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_other_threads_and_other_clocks_do_without():
    rung: list[float] = []

    def ask():
        deadline = Deadline(1.0)
        deadline.ring_at(0, "")
        rung.append(signal.getitimer(signal.ITIMER_REAL)[0])

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    Deadline(1.0, Hand()).ring_at(0, "")
    assert rung == [0.0] and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_the_steady_clock_goes_on_and_processes_are_young():
    first = steady()
    assert steady() >= first and process_age() >= 0


@pytest.mark.parametrize(("need", "words"), [(0.0, "60 s"), (100.0, "100 s"), (1000.0, "17 min")])
def test_what_is_said_of_too_little(need, words):
    error = too_little(Deadline(30.0, Hand()), "nothing fits", need)
    assert "--budget 30s is too little: nothing fits" in error.found and error.expected.startswith(f"{words} or more")
    assert error.move.startswith(f"--budget {words.replace(' min', 'm').replace(' ', '')}") and error.exit_code == 1
