"""When a fit has to be done, by a clock that only goes forward."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from regraft.errors import RunError
from regraft.spec import clock_time, seconds_in

LEAVING = 0.6
"""Seconds between the written run and the end of the process: PyTorch's threads and memory are given back."""

UNWINDING = 0.7
"""Seconds that what was broken off takes to end: a tile that runs, a file that is read."""

STARTING = 120.0
"""Seconds that a process may have taken to start; one that is older is another program's, which runs the command inside."""

BUSIEST = 8.0
"""Times as slow as an idle machine that what cannot be measured beforehand is taken to be at most."""


SWALLOWING, AGAIN = ("__set_name__", "__del__", "__torch_dispatch__", "__torch_function__"), 0.005
"""Functions in which nothing can be broken off: up to 3.11 Python makes a RuntimeError of whatever leaves the first, which a
class calls while it is made (PyTorch being loaded), and it drops what leaves the second; the others are called from inside of PyTorch's
operators (where a network is traced), which something unexpected can end with the whole process. Seconds after which it rings again.
"""


def steady() -> float:
    """Seconds of a clock that nobody sets and that goes on while the machine sleeps, where there is such a one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def process_age() -> float:
    """Seconds since this process began, where the system tells; else 0."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        # the second field, the name, may hold spaces and brackets
        begun = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        age = steady() - begun
        if 0 <= age < STARTING:
            return age
    return 0.0


class OutOfTime(BaseException):
    """What was begun does not fit into the time that is left: `reason` says why. No Exception, as Ctrl-C is none: whoever carries on
    whatever happens must not carry on here.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def _in(frame: FrameType | None, names: tuple[str, ...]) -> bool:
    """Whether one of these functions runs."""
    while frame is not None:
        if frame.f_code.co_name in names:
            return True
        frame = frame.f_back
    return False


@dataclass
class Deadline:
    """A budget of `seconds`, of which `before` were spent when the clock stood at `began`; without `seconds` there is no end.

    The clock `now` may jump: backwards, nothing is gained; forwards, it is later. Where `waiting`, it stands until something is asked that
    was not decided before: a run that goes on does again what it did, and that does not count twice.
    """

    seconds: float | None = None
    now: Callable[[], float] = steady
    began: float | None = None
    before: float = 0.0
    waiting: bool = False
    asked: str | None = None
    """The budget as it was asked for, for a spec; what it names is checked there."""
    quiet: bool = False
    """Whether it never rings: where the decisions of another run count, and not the clock."""
    slowness: float = 1.0
    """How many times as long as on an idle machine things take."""
    writing: float = 0.0
    """Seconds that the first bundle took to be written."""
    ending: float = 1.5
    """Seconds that figures and files take at the end, on an idle machine (`strategy.budget.ending_seconds`)."""
    more: dict[str, str] = field(default_factory=dict[str, str])
    """What the budget did not take, by what it is about: "with more time: ..."."""

    def __post_init__(self) -> None:
        self._latest = self.now()
        self._before: Any = None
        self._wish: tuple[float, str] | None = None
        self._felt = (self._latest - self.before, 0.0 if self.before else time.process_time())
        self.began = self._latest if self.began is None else self.began
        if self.asked is None and self.seconds is not None:
            self.asked = f"{self.seconds:.10g}s"

    @classmethod
    def of(cls, budget: str | float | Deadline | None, *, process: bool = False) -> Deadline:
        """The deadline that a budget names, from now on, or from the start of the `process`. One that names no time is for the spec to
        refuse.
        """
        if isinstance(budget, Deadline):
            return budget
        if budget is None:
            return cls()
        found = seconds_in(str(budget))
        seconds = found if isinstance(found, float) else None
        made = cls(seconds, before=process_age() if process else 0.0, asked=str(budget))
        if process:
            made.feel()
            # nothing of a process of one command has to stay whole: PyTorch's being loaded can be broken off too
            made.ring_at(UNWINDING * made.slowness, "")
        return made

    @property
    def bound(self) -> bool:
        """Whether there is an end."""
        return self.seconds is not None

    @property
    def spent(self) -> float:
        """Seconds so far."""
        if self.waiting:
            return self.before
        self._latest = max(self._latest, self.now())
        return self.before + self._latest - (self.began or 0.0)

    @property
    def left(self) -> float:
        """Seconds that are left for something that was not decided before; infinitely many without an end."""
        if self.waiting:
            self.waiting = False
            self.began = self._latest = self.now()
            if self._wish is not None:
                self.ring_at(*self._wish)
        return float("inf") if self.seconds is None else self.seconds - self.spent - LEAVING * self.slowness

    def feel(self) -> None:
        """Take in how busy the machine is: seconds for each second of computing since the start, in which one thread worked."""
        wall, computed = self._felt
        if self.now is steady and self.bound:
            self.slowness = min(BUSIEST, max(1.0, (self.now() - wall) / max(0.01, time.process_time() - computed)))

    def ring_at(self, reserve: float, reason: str) -> None:
        """Raise OutOfTime once no more than `reserve` seconds are left, whatever runs then. In the main thread of a system that has alarms,
        and by the real clock, alone; elsewhere what asks for `left` has to do.
        """
        self.silence()
        self._wish = (reserve, reason)
        if not self._rings:
            return

        def ring(number: int, frame: FrameType | None) -> None:
            if _in(frame, SWALLOWING):
                signal.setitimer(signal.ITIMER_REAL, AGAIN)
                return
            raise OutOfTime(reason)

        self._before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, max(0.001, self.left - reserve))

    def hush(self, replay: object) -> None:
        """Never ring where there is something to `replay`."""
        if replay:
            self.quiet = True
            self.silence()

    def silence(self) -> None:
        """Ring no more."""
        self._wish = None
        if self._before is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            self._before = None

    @property
    def _rings(self) -> bool:
        ours = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
        # an alarm of the user's program is its own
        free = ours and signal.getitimer(signal.ITIMER_REAL)[0] == 0
        return free and self.bound and not (self.waiting or self.quiet) and self.now is steady

    @property
    def text(self) -> str:
        """The budget in words."""
        return clock_time(self.seconds or 0.0)

    def to_json(self) -> dict[str, Any]:
        """What a result says of it."""
        return {"seconds": self.seconds, "used": round(self.spent, 2), "with_more": list(self.more.values())}


def too_little(deadline: Deadline, found: str = "", need: float = 0.0) -> RunError:
    """What to say of a budget in which there is no head: what was `found`, and how many seconds it `need`s, where that is known."""
    least = max(2 * (deadline.seconds or 0), need)
    enough = clock_time(5 * math.ceil(least / 5) if least < 120 else 60 * math.ceil(least / 60))
    found = found or f"{deadline.spent:.0f} s are over, there is no model yet, and what is left is needed to end"
    return RunError(
        f"--budget {deadline.asked} is too little: {found}",
        expected=f"{enough} or more, as busy as this machine is",
        move=f"--budget {enough.replace(' ', '').replace('min', 'm')}; what was computed is kept",
    )
