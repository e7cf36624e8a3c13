"""The cheapest place to cut a graph: a minimum cut with a bound on what is computed again. Plain numbers, no torch.

Of every node it is known what it reads, how many bytes its value has, and how much work it is. Some nodes are wanted by the live
part. A cut is a set of nodes whose values are kept; what is wanted but not kept is computed again from them, at every step.
The fewest bytes are wanted with at most `budget` work done again. (Ford and Fulkerson 1956; the bound enters by a price on work, a
Lagrange multiplier, which is raised until it is held.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

UNIT = 1 << 40
"""A byte, in units of the price of work: at the lowest price work only decides between cuts of equal bytes."""

TRIES = 8
"""Steps by which the price is narrowed down after its power of two is known."""


def cheapest_cut(
    reads: Sequence[Sequence[int]], sizes: Sequence[int | None], work: Sequence[int], wanted: Collection[int], budget: int
) -> tuple[list[int], list[int]]:
    """(nodes that are kept, nodes that are computed again), both ascending.

    `reads[v]` are the nodes that v reads, all lower than v; one that reads nothing is an input and cannot be computed. `sizes[v]`
    is None where v cannot be kept. Of cuts of equal bytes the one with the least work is taken. ValueError when there is none
    within the budget.
    """
    near = _within(reads, work, wanted, budget)
    price, top = 1, 1 << 1
    best = _priced(reads, sizes, work, wanted, near, price)
    if best is None:
        raise ValueError("no cut holds the budget")
    while _total(work, best[1]) > budget:
        price, top = top, top << 1
        best = _priced(reads, sizes, work, wanted, near, price)
        if best is None or top > UNIT << 60:
            raise ValueError("no cut holds the budget")
    low, high = price >> 1, price
    for _ in range(TRIES):
        middle = (low + high) // 2
        if middle in (low, high):
            break
        found = _priced(reads, sizes, work, wanted, near, middle)
        if found is not None and _total(work, found[1]) <= budget:
            best, high = found, middle
        else:
            low = middle
    return best


def _total(work: Sequence[int], nodes: Collection[int]) -> int:
    return sum(work[v] for v in nodes)


def _within(reads: Sequence[Sequence[int]], work: Sequence[int], wanted: Collection[int], budget: int) -> list[bool]:
    """Which nodes a cut within the budget may compute again: to do so, everything on a way from it to a wanted one is too."""
    far = budget + 1
    away = [far] * len(reads)
    for v in reversed(range(len(reads))):
        if v in wanted:
            away[v] = 0
        away[v] = min(far, away[v] + work[v]) if reads[v] else far
        for u in reads[v]:
            away[u] = min(away[u], away[v])
    return [a <= budget for a in away]


def _priced(
    reads: Sequence[Sequence[int]],
    sizes: Sequence[int | None],
    work: Sequence[int],
    wanted: Collection[int],
    near: Sequence[bool],
    price: int,
) -> tuple[list[int], list[int]] | None:
    """The minimum of bytes plus price times work, or None.

    Every node is split in two: before it (2 v) and after it (2 v + 1). The way through it costs its bytes; a node behind the
    cut is computed again, which cuts the edge from the source to it.
    """
    flow = _Flow(2 * len(reads) + 2)
    source, sink = 2 * len(reads), 2 * len(reads) + 1
    held = {v for v in range(len(reads)) if near[v]}
    kept = {u for v in held for u in reads[v]} | held | set(wanted)
    for v in sorted(kept):
        size = sizes[v]
        flow.add(2 * v, 2 * v + 1, None if size is None else size * UNIT)
        flow.add(source, 2 * v, work[v] * price if near[v] else None)
        if near[v]:
            for u in reads[v]:
                flow.add(2 * u + 1, 2 * v, None)
        if v in wanted:
            flow.add(2 * v + 1, sink, None)
    if not flow.fill(source, sink):
        return None
    behind = flow.reaching(sink)
    cut = [v for v in sorted(kept) if 2 * v + 1 in behind and 2 * v not in behind]
    return cut, [v for v in sorted(kept) if 2 * v in behind]


class _Flow:
    """A maximum flow by shortest augmenting paths (Edmonds and Karp 1972). A capacity of None has no bound."""

    def __init__(self, nodes: int) -> None:
        self.edges: list[list[int]] = [[] for _ in range(nodes)]
        self.to: list[int] = []
        self.left: list[int | None] = []

    def add(self, start: int, end: int, capacity: int | None) -> None:
        for a, b, room in ((start, end, capacity), (end, start, 0)):
            self.edges[a].append(len(self.to))
            self.to.append(b)
            self.left.append(room)

    def fill(self, source: int, sink: int) -> bool:
        """Send what can be sent; False when that has no bound."""
        while path := self._path(source, sink):
            rooms = [room for e in path if (room := self.left[e]) is not None]
            if not rooms:
                return False
            least = min(rooms)
            for e in path:
                if (room := self.left[e]) is not None:
                    self.left[e] = room - least
                if (back := self.left[e ^ 1]) is not None:
                    self.left[e ^ 1] = back + least
        return True

    def _path(self, source: int, sink: int) -> list[int]:
        by: dict[int, int] = {source: -1}
        todo = deque([source])
        while todo:
            at = todo.popleft()
            for e in self.edges[at]:
                if self.to[e] not in by and self.left[e] != 0:
                    by[self.to[e]] = e
                    todo.append(self.to[e])
            if sink in by:
                break
        else:
            return []
        path: list[int] = []
        at = sink
        while at != source:
            path.append(by[at])
            at = self.to[by[at] ^ 1]
        return path

    def reaching(self, sink: int) -> set[int]:
        """The nodes from which more could still come to the sink: the side of the minimum cut that is nearest to it."""
        seen = {sink}
        todo = [sink]
        while todo:
            for e in self.edges[todo.pop()]:
                if self.to[e] not in seen and self.left[e ^ 1] != 0:
                    seen.add(self.to[e])
                    todo.append(self.to[e])
        return seen
