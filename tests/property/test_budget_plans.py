"""What fits into a budget: more time never gives less, and what is planned never takes longer than what is left."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import UsageError
from regraft.spec import BUDGETS, FitSpec, clock_time, seconds_in
from regraft.strategy.budget import (
    LEAST_STEPS,
    SAFE,
    Costs,
    Training,
    examples_in_round,
    fitting_within,
    fittings,
    fold_steps,
    folds_within,
    may_look,
    may_round,
    may_time_engines,
    nested_order,
    seconds_of,
    shortened,
    steps_within,
    time_for,
    training_within,
    views_within,
)

seconds = st.floats(0, 1e5, allow_nan=False)
costs = st.builds(Costs, st.floats(1e-4, 50), st.floats(0, 500), st.floats(0, 100))


# ------------------------------------------------------------ what is asked


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10s", 10),
        ("90", 90),
        ("2m", 120),
        ("2min", 120),
        ("1h30m", 5400),
        ("1h", 3600),
        ("1.5h", 5400),
        ("1h 5m 3s", 3903),
        ("2M", 120),
        ("0.5m", 30),
        ("720h", BUDGETS[1]),
    ],
)
def test_times_that_are_understood(text, found):
    assert seconds_in(text) == found


@pytest.mark.parametrize("text", ["", " ", "m", "10x", "30m1h", "-5", "1..5s", ".", "ten", "1h30", "1e3", "10 s m", "nan", "inf", "٣s"])
def test_times_that_are_not(text):
    assert "such as 90s, 10m" in str(seconds_in(text))
    with pytest.raises(UsageError, match="--budget"):
        FitSpec("photos", budget=text)


@pytest.mark.parametrize("text", ["0", "0s", "0.2s", "721h", "99999999999"])
def test_times_that_are_too_short_or_long(text):
    assert "1 second to 30 days" in str(seconds_in(text))


@given(st.integers(0, 700), st.integers(0, 59), st.integers(0, 59))
def test_what_is_written_is_read(h, m, s):
    whole = 3600 * h + 60 * m + s
    text = f"{h}h" * (h > 0) + f"{m}m" * (m > 0) + f"{s}s" * (s > 0 or not whole)
    assert seconds_in(text) == (whole if whole >= 1 else seconds_in("0"))


@given(st.text(max_size=12))
def test_any_text_is_a_time_or_named(text):
    found = seconds_in(text)
    assert isinstance(found, str) or BUDGETS[0] <= found <= BUDGETS[1]


@given(st.integers(1, 10**6))
def test_a_time_that_is_said_is_one_that_can_be_asked(whole):
    said = seconds_in(clock_time(whole).replace("min", "m"))
    assert isinstance(said, float) and said == pytest.approx(whole, rel=0.06, abs=30 if whole >= 600 else 0.5)


# ------------------------------------------------------------ trainings


@pytest.mark.parametrize(
    ("left", "folds", "steps"),
    [
        (10_000, 5, 400),  # everything
        (1_500, 2, 400),  # fewer folds: 400 steps of a second, and 320 + 10 a fold
        (870, 1, 400),
        (400, 1, 179),  # fewer steps, in one fold
        (70, 1, 23),
        (60, None, None),  # less than a schedule
        (0, None, None),
        (-5, None, None),
    ],
)
def test_the_training_that_fits(left, folds, steps):
    found = training_within(left, Costs(1.0, 10.0, 8.0), 5, 400)
    assert (found and (found.folds, found.steps)) == (folds and (folds, steps))


@given(seconds, costs, st.integers(2, 5), st.integers(1, 5000))
def test_a_training_never_takes_more_than_is_left(left, cost, folds, steps):
    found = training_within(left, cost, folds, steps)
    if found is None:
        return
    assert 1 <= found.folds <= folds and min(LEAST_STEPS, steps) <= found.steps <= steps
    assert seconds_of(found, cost, folds) + cost.finishing <= left


@given(seconds, seconds, costs, st.integers(2, 5), st.integers(1, 5000))
def test_more_time_never_gives_a_smaller_training(less, more, cost, folds, steps):
    less, more = sorted((less, more))
    a, b = training_within(less, cost, folds, steps), training_within(more, cost, folds, steps)
    if a is not None:
        assert b is not None and b.steps >= a.steps and b.folds >= a.folds


def test_without_an_end_everything_fits():
    assert training_within(math.inf, Costs(1e3, 1e3, 1e3), 5, 400) == Training(5, 400)


@given(seconds, seconds, costs, st.integers(2, 5), st.integers(0, 5), st.integers(1, 2000))
def test_folds_on_the_way(less, more, cost, folds, done, steps):
    less, more, done = *sorted((less, more)), min(done, folds)
    a, b = (folds_within(left, cost, folds, folds, done, steps) for left in (less, more))
    assert done <= a <= b <= folds
    if a > done:
        each = fold_steps(steps, folds) * cost.step + cost.judging
        assert (a - done) * each + steps * cost.step + cost.finishing <= less * (1 + 1e-9)


@given(seconds, seconds, costs, st.integers(1, 2000))
def test_steps_of_the_final_training(less, more, cost, steps):
    less, more = sorted((less, more))
    a, b = steps_within(less, cost, steps), steps_within(more, cost, steps)
    if a is not None:
        assert b is not None and b >= a and a * cost.step + cost.finishing <= less


@given(seconds, st.floats(1e-4, 50), st.integers(1, 5000))
def test_a_schedule_is_shortened_to_what_fits(left, pace, remaining):
    found = shortened(left, pace, remaining)
    if found is None:
        assert remaining * pace * 0.95 <= left
    else:
        assert 0 <= found < remaining and found * pace <= left * (1 + 1e-9) + 1e-9


@given(st.floats(-10, 1e4), seconds, seconds)
def test_shares_of_time_add_up(left, own, after):
    assert 0 <= time_for(left, own, after) <= max(0.0, left) * (1 + 1e-9)
    if own + after > 0:
        assert time_for(left, own, after) + time_for(left, after, own) == pytest.approx(max(0.0, left))


# ------------------------------------------------------------ output layers


@given(st.integers(1, 12), st.booleans(), st.integers(2, 5))
def test_each_way_to_fit_is_cheaper_than_the_one_before(strengths, nested, folds):
    ways = fittings(strengths, nested)
    fits = [way.fits(folds) for way in ways]
    assert all(a > b for a, b in zip(fits, fits[1:], strict=False))
    for way in ways:
        assert way.places and list(way.places) == sorted(set(way.places)) and way.places[-1] < strengths


@given(seconds, seconds, st.floats(1e-5, 30), st.integers(1, 12), st.integers(2, 5), st.booleans())
def test_more_time_never_tries_fewer_strengths(less, more, each, strengths, folds, nested):
    less, more = sorted((less, more))
    a, b = (fitting_within(left, each, strengths, folds, nested=nested) for left in (less, more))
    assert len(b.places) >= len(a.places) and b.fits(folds) >= a.fits(folds)
    cheapest = fittings(strengths, nested)[-1]
    assert a == cheapest or a.fits(folds) * each <= SAFE * less


# ------------------------------------------------------------ the pass


@given(st.floats(-5, 1e4), st.one_of(st.none(), st.floats(1e-4, 10)), st.integers(1, 10**5), st.integers(1, 500))
def test_a_round_never_takes_more_than_is_left(left, each, remaining, first):
    found = examples_in_round(left, each, remaining, first)
    assert 0 <= found <= remaining
    if each is not None:
        assert found * each <= max(0.0, left) * (1 + 1e-9)
    if left <= 0:
        assert not found


@given(st.floats(0.01, 1e3), st.floats(1e-3, 1), st.integers(1, 3000), st.integers(1, 64))
def test_rounds_end_within_the_time(left, each, total, first):
    done, rounds = 0, 0
    pace: float | None = None
    while done < total and (size := examples_in_round(left, pace, total - done, first)):
        left, done, pace, rounds = left - size * each, done + size, each, rounds + 1
        assert rounds < 40
    # the first round alone is taken without knowing what it costs
    assert left >= -first * each - 1e-6


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), min_size=1, max_size=120), st.integers(0, 4), st.randoms())
def test_every_beginning_of_an_order_is_an_image_of_the_whole(rows, first, random):
    strata, units = [s for s, _ in rows], [(s, u) for s, u in rows]
    keys = [random.random() for _ in rows]
    order, early = nested_order(strata, units, keys, {s: first for s in strata})
    assert sorted(order) == list(range(len(rows)))
    placed = [units[i] for i in order]
    # who belongs together stands together
    assert len([1 for a, b in zip(placed, placed[1:], strict=False) if a != b]) == len(set(units)) - 1
    named = {s: len({u for t, u in units if t == s}) for s in strata}
    begin = set(placed[:early])
    assert all(sum(s == t for t, _ in begin) == min(first, named[s]) for s in named)
    # of the others, any beginning has of each stratum its part
    for cut in range(len(set(units)) + 1):
        seen = list(dict.fromkeys(placed))[:cut]
        late = [u for u in seen if u not in begin]
        if late:
            parts = [sum(s == t for t, _ in seen) / named[s] for s in named if named[s] > first]
            assert max(parts) - min(parts) <= max((first + 1.5) / named[s] for s in named if named[s] > first) + 1e-9


@given(seconds, seconds, st.floats(1e-4, 5), st.integers(1, 2000), st.integers(1, 64))
def test_views_that_fit(less, more, each, examples, views):
    less, more = sorted((less, more))
    a, b = (views_within(left, each, examples, views) for left in (less, more))
    assert 1 <= a <= b <= views and (a - 1) * each * examples <= less


# ------------------------------------------------------------ what may be tried


@given(seconds, seconds, seconds, st.floats(0, 60), st.integers(1, 6))
def test_what_may_be_tried_with_less_may_be_with_more(less, more, cost, own, others):
    less, more = sorted((less, more))
    for may in (may_look, may_round):
        assert may(more, cost) or not may(less, cost)
    assert may_time_engines(more, cost, own, others) or not may_time_engines(less, cost, own, others)


@pytest.mark.parametrize(
    ("left", "whole", "own", "others", "may"),
    [(60, 300, 3, 2, True), (10, 300, 3, 2, False), (600, 5, 3, 2, False), (600, 600, 60, 3, True), (100, 600, 60, 3, False)],
)
def test_when_engines_are_timed(left, whole, own, others, may):
    assert may_time_engines(left, whole, own, others) is may
