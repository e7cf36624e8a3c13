"""Around every hostile case: a bound on its time and on its memory."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from outcomes import check_text

SECONDS = 25
"""Of one test, on a machine that does other things too."""

MEMORY_MB = 2048
"""The most that a process may hold that does nothing but this test."""

IMPORTED_MB = 400
"""What such a process holds before: PyTorch, the libraries of networks and pytest (350 to 400 MB). A process that has run thousands of
tests holds more; what counts is what this one adds."""


class Hangs(BaseException):
    """Not an Exception: nothing may catch it on its way."""


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fails a test that takes too long or too much memory; where the system cannot tell, it runs without these bounds."""

    def ring(*_: Any) -> None:
        raise Hangs(f"it takes more than {SECONDS} s")

    can_ring = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if can_ring:
        before = signal.signal(signal.SIGALRM, ring)
        signal.alarm(SECONDS)
    measured = _forget_peak()
    before_mb = peak_mb()
    try:
        yield
    finally:
        if can_ring:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
    if measured:
        held = peak_mb() - max(0.0, before_mb - IMPORTED_MB)
        assert held < MEMORY_MB, f"it held {held:.0f} MB"


def _forget_peak() -> bool:
    """Linux counts the peak anew from here on."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_mb() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


@pytest.fixture
def refused(command: Callable[..., Any]) -> Callable[..., str]:
    """Run a command that must fail with a message: `refused("fit", path)` gives what stood on standard error."""

    def run(*words: object, codes: Sequence[int] = (1, 2)) -> str:
        answer = command(*words)
        assert answer.code in codes, answer
        assert "fault of regraft" not in answer.err, answer.err
        check_text(answer.err, keep="\n")
        return answer.err

    return run
