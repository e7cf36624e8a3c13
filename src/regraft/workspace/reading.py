"""Which files are being read right now, kept where a crash leaves it.

A decoder in C that crashes takes the whole process with it, and nothing can be said any more. So each thread writes the name of what
it reads into a small mapped file, which the system keeps when the process is gone; the next command finds it and says the names.
"""

from __future__ import annotations

import itertools
import mmap
import os
import secrets
import threading
from contextlib import suppress
from pathlib import Path

from regraft.workspace.store import home

SLOT = 1024
"""Bytes of one thread's name; a longer one is cut at its beginning."""

SLOTS = 64


class Reading:
    """The mapped file of one process. `close` it; where it cannot be made, nothing is written and nothing fails."""

    def __init__(self, folder: Path | None = None) -> None:
        self._threads = threading.local()
        self._numbers = itertools.count()
        self._map: mmap.mmap | None = None
        self.path = (folder or home() / "reading") / f"{os.getpid()}-{secrets.token_hex(4)}"
        with suppress(OSError, ValueError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "w+b") as file:
                file.truncate(SLOT * SLOTS)
                self._map = mmap.mmap(file.fileno(), SLOT * SLOTS)

    def enter(self, name: str) -> None:
        """`name` is what the calling thread reads from now on."""
        if self._map is None:
            return
        if not hasattr(self._threads, "slot"):
            self._threads.slot = next(self._numbers) % SLOTS
        at = self._threads.slot * SLOT
        text = name.encode("utf-8", "backslashreplace")[-(SLOT - 1) :]
        self._map[at : at + SLOT] = text.ljust(SLOT, b"\0")

    def leave(self) -> None:
        """The calling thread reads nothing any more."""
        if self._map is not None and hasattr(self._threads, "slot"):
            self._map[self._threads.slot * SLOT] = 0

    def close(self) -> None:
        """The end, as it should be: nothing is left behind."""
        if self._map is not None:
            self._map.close()
            self._map = None
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def left_behind(folder: Path | None = None) -> list[str]:
    """The names that processes were reading when they ended without a word; each is told once."""
    folder = folder or home() / "reading"
    names: list[str] = []
    for path in sorted(folder.glob("*-*")) if folder.is_dir() else []:
        number = path.name.partition("-")[0]
        if not number.isdigit() or _runs(int(number)):
            continue
        with suppress(OSError):
            content = path.read_bytes()[: SLOT * SLOTS]
            slots = [content[i : i + SLOT] for i in range(0, len(content), SLOT)]
            names += [s.partition(b"\0")[0].decode("utf-8", "replace") for s in slots if s[:1] != b"\0"]
            path.unlink()
    return names


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
