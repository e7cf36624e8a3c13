"""Work in several threads, taken up in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


@contextmanager
def crew(workers: int, begin: Callable[[], None] | None = None) -> Iterator[ThreadPoolExecutor]:
    """So many threads, each of which calls `begin` first. At the end what has not begun never does; what has is waited for."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="regraft", initializer=begin)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def computing_crew(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A crew in whose threads PyTorch's kernels use one core each; for the caller everything is as it was afterwards.

    Kernels that share their work among threads add in another order than on one, and wait for each other.
    """
    import torch

    before = torch.get_num_threads()
    try:
        # partly kept by thread, partly for the whole process (MKL): so each thread says it, and the caller puts it right
        with crew(workers, lambda: torch.set_num_threads(1)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def in_order(function: Callable[[Item], Found], items: Iterable[Item], pool: Executor, ahead: int) -> Generator[Found, None, None]:
    """What `function` gives for each item, in order. At most `ahead` items are on their way, so that any number of them can come.

    The first ones start when the first result is asked for.
    """
    waiting = iter(items)
    pending: deque[Future[Found]] = deque()

    def refill() -> None:
        pending.extend(pool.submit(function, item) for item in islice(waiting, ahead - len(pending)))

    refill()
    while pending:
        found = pending.popleft().result()
        refill()
        yield found


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter."""
    waiting = iter(items)
    while chunk := list(islice(waiting, size)):
        yield chunk
