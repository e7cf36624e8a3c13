"""Who writes a run: a file that is locked as long as its process lives, whatever ends it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from regraft.errors import RunError
from regraft.workspace.files import cannot_write

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes apart
    fcntl = None

LOCK = "lock"


class Lock:
    """A run's folder in the hands of this process. The system lets go of it when the process ends."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        try:
            self._file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - open as long as the lock
        except OSError as error:
            raise cannot_write(self.path, error) from None
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                writer = read_lock(folder).get("process")
                self._file.close()
                raise RunError(
                    f"{folder} is being written right now" + (f", by process {writer}" if writer else ""),
                    move="wait until it has finished, or stop it; or another --out",
                ) from None
            except OSError:
                pass  # a file system without locks

    def write(self, facts: Mapping[str, Any]) -> None:
        """Say who holds it."""
        try:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(json.dumps({"process": os.getpid(), **facts}, ensure_ascii=True) + "\n")
            self._file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def release(self, *, remove: bool = False) -> None:
        """Let go; safe to call twice. `remove`: nobody needs the file any more."""
        if remove and not self._file.closed:
            self.path.unlink(missing_ok=True)
        with suppress(OSError):  # what a full disk did not take of it was said before
            self._file.close()


def read_lock(folder: Path) -> dict[str, Any]:
    """What the last process that wrote a run said of itself; empty when it said nothing that can be read."""
    try:
        found = json.loads((folder / LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
