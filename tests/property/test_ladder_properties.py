"""Climbing, for any expectations: more time never ends lower, a dearer rung is never taken for an equal one, limits always hold."""

from __future__ import annotations

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.strategy.cost import Range
from regraft.strategy.gains import Expected, scaled, unscaled
from regraft.strategy.ladder import PARTS, Choice, Prospect, Room, Standing, Tried, Way, next_rung, value_on
from regraft.strategy.plan import worth

NAMES = ("norm", "top=1", "top=2", "contrastive", "full")
MANY = 10**9
"""Examples that say for sure what a rung gave."""
SECONDS = st.floats(0.5, 300).map(lambda s: round(s, 1))


@st.composite
def prospects(draw) -> list[Prospect]:
    found: list[Prospect] = []
    for order, name in enumerate(NAMES[: draw(st.integers(1, 5))], 2):
        gain = Expected(draw(st.floats(-0.5, 2.0).map(lambda g: round(g, 2))), draw(st.sampled_from([0.2, 0.4])))
        one, more = draw(SECONDS), draw(SECONDS)
        ways = [Way(share, 1, Range.around(2 + share * one, 0.2)) for share in draw(st.sampled_from([(1.0,), (0.5, 1.0), tuple(PARTS)]))]
        ways += [Way(1.0, 2, Range.around(2 + one + more, 0.2))] * draw(st.booleans())
        memory = Range.around(draw(st.floats(100, 4000)), 0.1)
        found.append(Prospect(name, order, gain, tuple(ways), memory))
    return found


METRICS = st.sampled_from([("accuracy", 0.6), ("accuracy", 0.93), ("f1_micro", 0.4), ("mae", 3.0)])
LEFT = st.one_of(st.floats(0, 900), st.just(math.inf))


Taken = list[tuple[Choice, Prospect, Way, Room]]


def climb(ladder: list[Prospect], metric: str, head: float, room: Room) -> Taken:
    """Every rung gives what was expected of it, and takes as long as it may."""
    standing, taken = Standing(metric, head), Taken()
    while (choice := next_rung(ladder, standing, room)).train:
        one = next(p for p in ladder if p.train == choice.train)
        way = one.way(room.seconds)
        assert way is not None
        taken.append((choice, one, way, room))
        after = unscaled(metric, scaled(metric, head) + one.gained(way).mean)
        gain = after - head if metric != "mae" else head - after
        sure = Tried(Range(gain, gain, gain), MANY, Expected(one.gained(way).mean, 0.0))
        standing = standing.with_tried(choice.train, sure)
        standing = Standing(metric, head, standing.tried, standing.best, choice.aim)
        room = Room(room.seconds - way.seconds.high, room.memory)
    return taken


def height(metric: str, head: float, taken: Taken) -> float:
    start = scaled(metric, head)
    return max([value_on(metric, start), *(value_on(metric, start + one.gained(way).mean) for _, one, way, _ in taken)])


@given(prospects(), METRICS, LEFT, LEFT, st.floats(100, 5000))
@settings(deadline=None, max_examples=300)
def test_more_time_never_ends_lower(ladder, target, one, other, memory):
    metric, head = target
    less, more = sorted([one, other])
    heights = [height(metric, head, climb(ladder, metric, head, Room(left, memory))) for left in (less, more)]
    assert heights[1] >= heights[0] - worth(metric) - 1e-9
    if all(len(one.ways) == 1 for one in ladder):  # a fuller way takes longer, so what was the cheapest of equals may be so no more
        assert heights[1] >= heights[0] - 1e-9


@given(prospects(), METRICS, LEFT, st.floats(100, 5000))
@settings(deadline=None, max_examples=300)
def test_limits_hold_and_each_step_is_worth_it(ladder, target, left, memory):
    metric, head = target
    taken = climb(ladder, metric, head, Room(left, memory))
    assert sum(way.seconds.high for _, _, way, _ in taken) <= left + 1e-6
    assert len({c.train for c, *_ in taken}) == len(taken)
    best = value_on(metric, scaled(metric, head))
    for _, one, way, room in taken:
        assert one.memory.high <= room.memory
        value = value_on(metric, scaled(metric, head) + one.gained(way).mean)
        assert value > best + worth(metric) - 1e-9
        best = value


@given(prospects(), METRICS, LEFT)
@settings(deadline=None, max_examples=300)
def test_nothing_dearer_is_taken_for_an_equal_one(ladder, target, left):
    metric, head = target
    choice = next_rung(ladder, Standing(metric, head), Room(left))
    if not choice.train:
        return
    one = next(p for p in ladder if p.train == choice.train)
    own = one.way(left)
    assert own is not None
    start = scaled(metric, head)
    for other in ladder:
        way = other.way(left)
        if way is not None and way.seconds.high < own.seconds.high:
            assert value_on(metric, start + other.gained(way).mean) < value_on(metric, start + one.gained(own).mean)


@given(prospects(), METRICS, LEFT)
@settings(deadline=None, max_examples=100)
def test_whoever_is_not_trained_has_a_reason_and_all_of_it_can_be_written(ladder, target, left):
    metric, head = target
    choice = next_rung(ladder, Standing(metric, head), Room(left))
    plain = json.loads(json.dumps(choice.to_json()))
    assert Choice.from_json(plain) == choice
    assert choice.why and all(choice.others.values())
    if not choice.train:
        assert set(choice.others) == {p.train for p in ladder}
    again = [Prospect.from_json(json.loads(json.dumps(p.to_json()))) for p in ladder]
    assert [p.to_json() for p in again] == [p.to_json() for p in ladder]
    room = Room(left)
    assert Room.from_json(json.loads(json.dumps(room.to_json()))).memory == math.inf
