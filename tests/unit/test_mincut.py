"""The minimum cut on small graphs: against every possible cut, and the cases that it was made for."""

from __future__ import annotations

import itertools
import random

import pytest

from regraft.features.cut.mincut import cheapest_cut


def every_cut(reads, sizes, work, wanted, budget):
    """(bytes, work) of the best cut, by trying all."""
    best = None
    nodes = range(len(reads))
    may = [v for v in nodes if sizes[v] is not None]
    for count in range(len(may) + 1):
        for kept in itertools.combinations(may, count):
            again, todo, possible = set(), [v for v in wanted if v not in kept], True
            while todo:
                v = todo.pop()
                if v in again:
                    continue
                if not reads[v]:
                    possible = False
                    break
                again.add(v)
                todo += [u for u in reads[v] if u not in kept]
            cost = sum(sizes[v] for v in kept), sum(work[v] for v in again)
            if possible and cost[1] <= budget and (best is None or cost < best):
                best = cost
    return best


def cost_of(found, sizes, work):
    return sum(sizes[v] for v in found[0]), sum(work[v] for v in found[1])


@pytest.mark.parametrize("seed", range(150))
def test_without_a_bound_that_matters_it_is_the_best_of_all_cuts(seed):
    rng = random.Random(seed)
    count = rng.randint(3, 8)
    reads = [[] if v < 2 else sorted(rng.sample(range(v), rng.randint(1, min(3, v)))) for v in range(count)]
    sizes = [rng.choice([None, 1, 2, 3, 5, 8]) if v >= 2 else rng.randint(1, 9) for v in range(count)]
    work = [rng.randint(0, 4) for _ in range(count)]
    wanted = set(rng.sample(range(count), rng.randint(1, 2)))
    found = cheapest_cut(reads, sizes, work, wanted, 1000)
    assert cost_of(found, sizes, work) == every_cut(reads, sizes, work, wanted, 1000)


@pytest.mark.parametrize("seed", range(150))
def test_the_bound_is_held_and_keeping_is_possible_whenever_any_cut_is(seed):
    rng = random.Random(seed)
    count = rng.randint(3, 8)
    reads = [[] if v < 2 else sorted(rng.sample(range(v), rng.randint(1, min(3, v)))) for v in range(count)]
    sizes = [rng.choice([1, 2, 3, 5, 8]) for _ in range(count)]
    work = [rng.randint(1, 9) for _ in range(count)]
    wanted = set(rng.sample(range(count), rng.randint(1, 2)))
    budget = rng.randint(0, 12)
    kept, again = found = cheapest_cut(reads, sizes, work, wanted, budget)
    assert sum(work[v] for v in again) <= budget
    assert all(u in kept or u in again for v in again for u in reads[v]), "what is computed again finds what it reads"
    assert all(v in kept or v in again for v in wanted)
    best = every_cut(reads, sizes, work, wanted, budget)
    assert best is not None
    assert best[0] <= cost_of(found, sizes, work)[0] <= sum(sizes[v] for v in wanted), "never more than keeping all that is wanted"


def test_an_expanded_mask_goes_back_to_what_it_was_made_from():
    #        ids, mask, hidden (much work), expanded mask (little work)
    reads, sizes, work = [[], [], [0], [1], [2, 3]], [96, 12, 1536, 144, None], [0, 0, 100_000, 144, 50_000]
    assert cheapest_cut(reads, sizes, work, {2, 3}, 1000) == ([1, 2], [3])
    assert cheapest_cut(reads, sizes, work, {2, 3}, 100) == ([2, 3], []), "not where that is too much work"


def test_it_does_not_slide_back_to_small_inputs():
    reads, sizes, work = [[], [0], [1]], [3, 1000, 1000], [0, 90, 10]
    assert cheapest_cut(reads, sizes, work, {2}, 1) == ([2], [])
    assert cheapest_cut(reads, sizes, work, {2}, 99) == ([2], [])
    assert cheapest_cut(reads, sizes, work, {2}, 100) == ([0], [1, 2])


def test_of_cuts_of_equal_bytes_the_last_one_is_taken():
    assert cheapest_cut([[], [0], [1], [2]], [4, 4, 4, 4], [0, 1, 1, 1], {3}, 10) == ([3], [])


def test_what_cannot_be_kept_is_computed_again_or_refused():
    assert cheapest_cut([[], [0], [1]], [9, 4, None], [0, 5, 5], {2}, 5) == ([1], [2])
    with pytest.raises(ValueError, match="budget"):
        cheapest_cut([[], [0], [1]], [9, 4, None], [0, 5, 5], {2}, 4)
