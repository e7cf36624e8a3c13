"""Climbing: from what is expected, what was tried and what is left, which rung is next, and why; case by case."""

from __future__ import annotations

import math

import pytest

from regraft.strategy.cost import Range
from regraft.strategy.gains import Expected, scaled, unscaled
from regraft.strategy.ladder import Prospect, Room, Standing, Tried, Way, most_promising, next_rung

ORDER = {"norm": 2, "top=1": 3, "contrastive": 5, "full": 6}


def gain(points: float, head: float = 0.7) -> float:
    """The gain in log odds that is so many points over the head."""
    return scaled("accuracy", head + points / 100) - scaled("accuracy", head)


def rung(train: str, points: float, seconds: float | None, memory: float = 500, halves: bool = False) -> Prospect:
    """A rung that is expected to give so many points in so many seconds, at most; None where nobody looked."""
    ways = () if seconds is None else (Way(1.0, 1, Range(0.8 * seconds, 0.6 * seconds, seconds)),)
    if halves and seconds:
        ways = (Way(0.5, 1, Range(0.4 * seconds, 0.3 * seconds, 0.5 * seconds)), *ways)
    return Prospect(train, ORDER[train], Expected(gain(points), 0.3), ways, Range(memory, 0.9 * memory, 1.1 * memory))


NORM, TOP, FULL = rung("norm", 3, 20), rung("top=1", 5, 40), rung("full", 8, 200)

CASES = {
    # what there is, seconds and MB that are left, (trained next, the goal), words of why, words of why not the others
    "a goal, and a step to it": ([NORM, FULL], 300, math.inf, ("norm", "full"), "+3.0 points expected over head, in 16s", {}),
    "no room for the step": (
        [NORM, FULL],
        210,
        math.inf,
        ("full", "full"),
        "+8.0 points",
        {"norm": "are kept for full, which is expected"},
    ),
    "the goal does not fit": (
        [NORM, FULL],
        100,
        math.inf,
        ("norm", "norm"),
        "+3.0 points",
        {"full": "but it takes 2.7m (2m to 3.4m) and 1.7m are left"},
    ),
    "nothing fits": ([NORM, FULL], 10, math.inf, ("", ""), "does not fit into the time that is left", {"norm": "and 10s are left"}),
    "as good, in less time": (
        [TOP, rung("full", 5.5, 200)],
        900,
        math.inf,
        ("top=1", "top=1"),
        "+5.0 points",
        {"full": "top=1 is expected to be as good (-0.5 points) in less time: 32s (24s to 40s), not 2.7m"},
    ),
    "fewer changes, but dearer and no better": (
        [rung("norm", 5, 90), TOP],
        900,
        math.inf,
        ("top=1", "top=1"),
        "+5.0 points",
        {"norm": "as good (+0.0 points) in less time"},
    ),
    "more changes, and less": (
        [NORM, rung("full", 1.5, 5)],
        900,
        math.inf,
        ("norm", "norm"),
        "+3.0",
        {"full": "norm changes less and is expected to give more (+1.5 points)"},
    ),
    "two steps alike": (
        [rung("norm", 4, 20), rung("top=1", 4.5, 30), FULL],
        900,
        math.inf,
        ("norm", "full"),
        "+4.0",
        {"top=1": "on the way to it norm as much in less time"},
    ),
    "less than a point": (
        [rung("norm", 0.6, 2)],
        900,
        math.inf,
        ("", ""),
        "no other rung is expected to give 1 point more",
        {"norm": "+0.6 points expected over head: less than 1 point is not worth it"},
    ),
    "worse": ([rung("full", -2, 2)], 900, math.inf, ("", ""), "no other rung", {"full": "-2.0 points expected over head"}),
    "no memory": (
        [NORM, rung("full", 8, 50, 4000)],
        900,
        3000,
        ("norm", "norm"),
        "+3.0",
        {"full": "needs 4,000 MB (up to 4,400) of memory, and 3,000 MB are free"},
    ),
    "no memory for any": ([rung("full", 8, 50, 4000)], 900, 3000, ("", ""), "what is expected to be better needs more memory", {}),
    "half of the steps": ([rung("full", 8, 200, halves=True)], 150, math.inf, ("full", "full"), "with half of its training", {}),
    "half of them gives too little": (
        [rung("full", 1.3, 200, halves=True)],
        150,
        math.inf,
        ("", ""),
        "does not fit",
        {"full": "is all that fits: 2.5m are left"},
    ),
    "nobody looked": (
        [rung("full", 8, None)],
        12.4,
        math.inf,
        ("", ""),
        "does not fit",
        {"full": "+8.0 points expected over head, but 13s are left, too little to find out what it takes here"},
    ),
    "nothing there": ([], 900, math.inf, ("", ""), "no other rung can be trained here", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_next_and_why(case):
    prospects, seconds, memory, (train, aim), why, others = CASES[case]
    found = next_rung(prospects, Standing("accuracy", 0.7), Room(seconds, memory))
    assert (found.train, found.aim) == (train, aim), found
    assert why in found.why
    assert all(words in found.others[name] for name, words in others.items()), found.others


LADDER = [NORM, TOP, FULL]


def tried(gains: dict[str, float], best: str, **more) -> Standing:
    measured: dict[str, Tried] = {}
    for name, points in gains.items():
        found = Range(points / 100, points / 100 - 0.02, points / 100 + 0.02)
        measured[name] = Tried(found, 500, Expected(gain(points), 0.1))
    return Standing("accuracy", 0.7, measured, best, **more)


def test_a_surprise_moves_what_is_expected_of_the_others_by_a_part():
    plain = Standing("accuracy", 0.7).expected(FULL, LADDER).mean
    good, bad, alike = (tried({"norm": points}, "norm").expected(FULL, LADDER).mean for points in (9, -3, 3))
    assert bad < plain < good and alike == pytest.approx(plain, abs=1e-3)
    assert good - plain < gain(9) - gain(3)
    # two standard deviations are the most that counts
    assert tried({"norm": 25}, "norm").expected(FULL, LADDER).mean - plain < 0.5 * 2 * 0.3 + 1e-9


def test_after_a_rung_that_gave_less_than_nothing_the_climb_may_end():
    prospects = [NORM, rung("full", 4, 50)]
    assert next_rung(prospects, Standing("accuracy", 0.7), Room(900)).train == "norm"
    found = next_rung(prospects, tried({"norm": -6}, "head"), Room(900))
    assert found.train == "" and "not worth it" in found.others["full"] and "over head" in found.others["full"]


def test_the_goal_stays_where_another_became_as_cheap():
    one, other = rung("top=1", 5, 40), rung("full", 5.5, 60)
    assert next_rung([one, other], Standing("accuracy", 0.7), Room(900)).train == "top=1"
    found = next_rung([one, other], Standing("accuracy", 0.7, aim="full"), Room(900))
    assert (found.train, found.aim) == ("full", "full")
    assert found.others["top=1"] == "full was the goal before, and is expected to be as good (+0.5 points)"


def test_what_was_tried_or_cannot_be_trained_is_not_tried_again():
    found = next_rung(LADDER, tried({"norm": 3}, "norm", passed=frozenset({"full"})), Room())
    assert found.train == "top=1" and "over norm" in found.why and set(found.others) == set()
    end = next_rung(LADDER, tried({"norm": 3, "top=1": 5}, "top=1", passed=frozenset({"full"})), Room())
    assert (end.train, end.why, end.others) == ("", "every rung was tried", {})


def test_of_a_number_less_error_is_better_and_a_fiftieth_is_the_least():
    less = lambda share: Prospect("full", 6, Expected(-math.log(1 - share), 0.2), (Way(1.0, 1, Range(9, 8, 10)),), Range(1, 1, 1))
    found = next_rung([less(0.1)], Standing("mae", 2.0), Room(60))
    assert found.train == "full" and found.why == "-10 % error expected over head, in 9s (8s to 10s)"
    end = next_rung([less(0.01)], Standing("mae", 2.0), Room(60))
    assert end.others["full"] == "-1 % error expected over head: less than 2 % of the error is not worth it"
    standing = Standing("mae", 2.0, {"full": Tried(Range(0.5, 0.2, 0.8), 20, Expected(math.log(2 / 1.5), 0.1))}, "full")
    assert standing.figure == pytest.approx(1.5) and unscaled("mae", scaled("mae", 1.5)) == pytest.approx(1.5)


def test_the_most_promising_is_told_whatever_it_takes():
    unknown = [rung("norm", 3, None), rung("full", 8, None)]
    found = most_promising(unknown, Standing("accuracy", 0.7))
    assert found is not None and found.train == "full"
    assert most_promising([rung("norm", 0.5, None)], Standing("accuracy", 0.7)) is None
    assert most_promising(unknown, tried({}, "head", passed=frozenset({"norm", "full"}))) is None
    # without an end to the time nothing is said of what is left
    assert "are left" not in next_rung(unknown, Standing("accuracy", 0.7), Room()).others["full"]
