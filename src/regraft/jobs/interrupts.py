"""Ctrl-C while something can be saved: the first press asks to stop at the next good place, the second stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from regraft.events import Emit, Said


@contextmanager
def asked_to_stop(emit: Emit) -> Iterator[Callable[[], bool]]:
    """Whether somebody pressed Ctrl-C, from now to the end of the block; pressed again, it is KeyboardInterrupt as always.

    Only the main thread hears signals: elsewhere, and where a program has its own way with Ctrl-C, nothing is changed.
    """
    pressed = said = False

    def press(number: int, frame: FrameType | None) -> Any:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        # nothing is said from here: the log may be in the middle of a line
        pressed = True

    def asked() -> bool:
        nonlocal said
        if pressed and not said:
            said = True
            emit(Said("stopping after this step: what was done is saved. Ctrl-C again stops at once"))
        return pressed

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours:
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
