"""Memory that stays with the process while it computes, in place of being asked for anew for every layer of every tile.

The system hands large blocks out one page at a time, cleared: a third of the CPU time of a pass (docs/log.md). This speaks to glibc;
with another C library nothing happens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TRIM, _MAPPED, _ARENAS = -1, -3, -8
"""Names of mallopt's settings in glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX."""


@cache
def _libc() -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL(None)
        return found if hasattr(found, "gnu_get_libc_version") else None
    except (OSError, TypeError):
        return None


@contextmanager
def kept_memory() -> Iterator[None]:
    """Blocks of up to 1 GB are kept when they are freed, in one place for all threads that start meanwhile; given back at the end."""
    if (libc := _libc()) is None:
        yield
        return
    # a thread's own arena cannot hold blocks of more than 64 MB
    for name, value in ((_MAPPED, 1 << 30), (_TRIM, 1 << 30), (_ARENAS, 1)):
        libc.mallopt(name, value)
    try:
        yield
    finally:
        # where glibc's own bounds end up when they have grown
        for name, value in ((_MAPPED, 32 << 20), (_TRIM, 64 << 20), (_ARENAS, 0)):
            libc.mallopt(name, value)
        give_back()


def give_back() -> None:
    """Free memory goes back to the system now: between two stages that need different blocks."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)
