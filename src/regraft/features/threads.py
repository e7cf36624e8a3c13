"""Work in several threads, taken up in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


def in_order(function: Callable[[Item], Found], items: Iterable[Item], workers: int, ahead: int) -> Generator[Found, None, None]:
    """What `function` gives for each item, in order. At most `ahead` items are on their way, so that any number of them can come.

    The first ones start when the first result is asked for. Close the generator to stop: what has not begun never does.
    """
    waiting = iter(items)
    pending: deque[Future[Found]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="regraft-read")

    def refill() -> None:
        pending.extend(pool.submit(function, item) for item in islice(waiting, ahead - len(pending)))

    try:
        refill()
        while pending:
            found = pending.popleft().result()
            refill()
            yield found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter."""
    waiting = iter(items)
    while chunk := list(islice(waiting, size)):
        yield chunk
