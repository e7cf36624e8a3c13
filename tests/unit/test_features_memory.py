"""Memory that is kept while tiles run."""

from __future__ import annotations

import ctypes
import resource
from concurrent.futures import ThreadPoolExecutor

import pytest

from regraft.features import memory

SIZE = 80 << 20

PAGES = SIZE // resource.getpagesize()


def faults(times: int) -> int:
    """Pages that the system had to hand out for blocks of 80 MB, each written to and freed, in a thread."""

    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]

    def work() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(times):
            block = libc.malloc(SIZE)
            ctypes.memset(block, 1, SIZE)
            libc.free(block)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.mark.skipif(memory._libc() is None, reason="glibc's allocator")
def test_freed_blocks_are_used_again_and_given_back_at_the_end():
    with memory.kept_memory():
        faults(1)
        assert faults(8) < PAGES
    before = resident()
    with memory.kept_memory():
        faults(1)
    assert resident() < before + (40 << 20)


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory, "_libc", lambda: None)
    with memory.kept_memory():
        memory.give_back()
