"""Memory that is kept while tiles run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from regraft.features import memory

MEASURE = """
import ctypes, resource, sys
from concurrent.futures import ThreadPoolExecutor
from regraft.features.memory import kept_memory

SIZE, PAGE = 80 << 20, resource.getpagesize()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def work(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = libc.malloc(SIZE)
        ctypes.memset(block, 1, SIZE)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def faults(times):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, times).result()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE

before = resident()
with kept_memory():
    faults(1)
    again = faults(8)
print(again, SIZE // PAGE, resident() - before)
"""
"""Pages that the system hands out for blocks of 80 MB, written to and freed in a thread, once one was there before; and what stays."""


@pytest.mark.skipif(memory._libc() is None, reason="glibc's allocator")
def test_freed_blocks_are_used_again_and_given_back_at_the_end():
    # in a process of its own: a thread that takes over the place of one that ended before is not reached
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    again, pages, stayed = map(int, done.stdout.split())
    assert again < pages
    assert stayed < 40 << 20


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory, "_libc", lambda: None)
    with memory.kept_memory():
        memory.give_back()
