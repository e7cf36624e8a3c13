"""The race of networks: who is dropped, how the parts grow, what stopping now is expected to lose."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from regraft.strategy import race
from regraft.strategy.race import Look, falling_behind, first_size, gaps, next_size, rounds_to, standing, that_fit


def look(*rights: float, n: int = 100, seen: int = 100, seed: int = 0, together: bool = True) -> Look:
    """Networks that get so many of a hundred right; `together`: the better one gets right whatever the worse one does."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    errors = np.ones((len(rights), n))
    for k, right in enumerate(rights):
        errors[k, (order if together else rng.permutation(n))[: round(right * n)]] = 0
    return Look(tuple("abcdefgh"[: len(rights)]), errors, seen)


@pytest.mark.parametrize(
    ("rights", "n", "examples", "dropped"),
    [
        ((0.9, 0.6), 100, 100, ["b"]),
        ((0.6, 0.9), 100, 100, ["a"]),
        ((0.9, 0.88), 100, 100, []),
        ((0.9, 0.88), 4000, 4000, ["b"]),
        ((0.9, 0.6, 0.89, 0.5), 200, 200, ["b", "d"]),
        ((0.5, 0.5), 100, 100, []),
        ((1.0, 1.0), 64, 64, []),
        # the same lead, but errors have far to fall yet: the other one may be faster
        ((0.75, 0.6), 200, 200, ["b"]),
        ((0.75, 0.6), 200, 2_000_000, []),
    ],
)
def test_who_falls_behind(rights, n, examples, dropped):
    assert falling_behind(look(*rights, n=n, seen=n), examples, 4) == dropped


def test_pairs_tell_more_than_figures_alone():
    paired, apart = (look(0.85, 0.78, n=200, seen=200, together=t) for t in (True, False))
    assert falling_behind(paired, 200, 3) == ["b"] and falling_behind(apart, 200, 3) == []
    best, other = gaps(paired)
    assert (best.value, best.low <= 0 <= best.high) == (0, True) and other.value == pytest.approx(0.07) and other.low > 0


def test_more_comparisons_drop_no_more():
    one = look(0.9, 0.85, 0.8, 0.7, n=150, seen=150)
    counts = [len(falling_behind(one, 300, c)) for c in (1, 3, 10, 100, 10000)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]


@pytest.mark.parametrize(
    ("examples", "outputs", "size", "rounds"), [(1000, 2, 64, 5), (1000, 50, 100, 5), (40, 2, 40, 1), (64, 2, 64, 1), (65, 2, 64, 2)]
)
def test_the_first_round(examples, outputs, size, rounds):
    assert (first_size(examples, outputs), rounds_to(examples, size)) == (size, rounds)


@pytest.mark.parametrize(
    ("size", "examples", "left", "found"),
    [
        (64, 1000, 1e9, 128),
        (64, 130, 1e9, 130),  # two more are not worth a round
        (100, 1000, 150, 150),  # as many as fit
        (100, 1000, 124, 100),  # a few more say nothing
        (1000, 1000, 1e9, 1000),
        (900, 1000, 1e9, 1000),
    ],
)
def test_parts_grow_as_far_as_time_allows(size, examples, left, found):
    assert next_size(size, examples, left, float) == found


def test_what_does_not_fit_is_left_out_slowest_first():
    seconds = {"a": 2.0, "b": 9.0, "c": 4.0}
    assert [that_fit(seconds, left) for left in (100, 15, 14, 6, 5, 1)] == [
        ["a", "b", "c"],
        ["a", "b", "c"],
        ["a", "c"],
        ["a", "c"],
        ["a"],
        [],
    ]


def test_an_equal_network_is_taken_only_where_it_is_quicker():
    costs = {"a": 3.0, "b": 1.0, "c": 2.0}
    close = look(0.900, 0.899, 0.8, n=1000, seen=1000)
    assert (standing([close], 1000, costs).chosen, standing([close], 1000, costs).why) == ("b", race.QUICKER)
    assert standing([close], 1000, {"a": 1, "b": 3, "c": 2}).why == race.MEASURED
    apart = look(0.9, 0.89, 0.8, n=1000, seen=1000)
    assert standing([apart], 1000, costs).chosen == "a"


def test_regret_of_two_in_closed_form_and_drawn():
    two = look(0.8, 0.78, n=300, seen=300, together=False)
    believed, covariance = two.believed, two.covariance(300, two.said)
    deviation = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    draws = np.random.default_rng(1).normal(believed[0] - believed[1], deviation, 400_000)
    assert race.expected_regret([two], "a", 300) == pytest.approx(np.maximum(draws, 0).mean(), rel=0.02)
    # one that is hopeless adds nothing; one that was dropped before counts as it did then
    three = Look(("a", "b", "c"), np.vstack([two.errors, np.ones((1, 300))]), 300)
    assert race.expected_regret([three], "a", 300) == pytest.approx(race.expected_regret([two], "a", 300), rel=0.05)
    first = look(0.8, 0.78, 0.75, n=64, seen=64, together=False)
    later = Look(("a", "b"), two.errors, 300)
    assert race.expected_regret([first, later], "a", 300) > race.expected_regret([later], "a", 300)
    assert race.expected_regret([Look(("a",), two.errors[:1], 300)], "a", 300) == 0


def test_regret_is_of_the_one_that_is_taken():
    two = look(0.9, 0.8, n=400, seen=400)
    # of the ten points a little is believed to be chance
    assert 0.08 < race.expected_regret([two], "b", 400) < 0.1
    assert race.expected_regret([two], "a", 400) < 1e-4
    assert race.enough(two, race.expected_regret([two], "a", 400))
    assert not race.enough(look(0.9, 0.89), race.expected_regret([look(0.9, 0.89)], "a", 100))


def test_errors_of_numbers_have_a_unit():
    rng = np.random.default_rng(0)
    errors = np.abs(rng.normal(size=(2, 300))) * np.array([[1.0], [1.5]])
    costs = {"a": 1.0, "b": 1.0}
    plain, scaled = (Look(("a", "b"), unit * errors, 300, metric="mae") for unit in (1, 1000))
    assert falling_behind(plain, 300, 2) == falling_behind(scaled, 300, 2) == ["b"]
    one, other = (standing([each], 300, costs) for each in (plain, scaled))
    assert one.chosen == other.chosen and other.regret == pytest.approx(1000 * one.regret, rel=1e-6, abs=1e-12)


def test_a_share_of_the_budget_or_a_minute():
    assert race.race_seconds(None) == 60 and race.race_seconds(600) == pytest.approx(90)
    # of small ones a quarter, up to half a minute
    assert [race.race_seconds(b) for b in (60, 120, 180)] == pytest.approx([15, 30, 30])
    assert [race.race_seconds(b, idle=True) for b in (60, 600)] == pytest.approx([30, 300])


def test_there_is_nothing_better_to_do_where_training_is_promised_to_give_nothing():
    errors = look(0.96, 0.95)
    assert race.nothing_promised(errors) and race.nothing_promised(replace(errors, promises=(0.1, 0.2)))
    assert not race.nothing_promised(replace(errors, promises=(0.1, 0.9)))
    far = look(0.5, 0.4)
    assert not race.nothing_promised(replace(far, promises=(0.1, 0.2)))
    number = Look(("a", "b"), np.full((2, 9), 3.0), 9, (0.0, 0.01), "mae")
    assert race.nothing_promised(number) and not race.nothing_promised(replace(number, promises=(0.0, 0.1)))


def test_training_is_counted_where_it_gives_one_network_more():
    errors = look(0.8, 0.75, n=400, seen=400)
    # 0.75 and 0.7 more in log odds than the other one gains: 0.858
    deeper = replace(errors, promises=(0.3, 1.0))
    assert deeper.ends == pytest.approx((0.2, 0.142), abs=1e-3)
    costs = {"a": 1.0, "b": 1.0}
    found = [standing([one], 400, costs) for one in (errors, deeper)]
    assert [(f.chosen, f.why) for f in found] == [("a", race.MEASURED), ("b", race.TRAINED)]
    assert falling_behind(errors, 400, 1) == ["b"] and falling_behind(deeper, 400, 1) == ["a"]
    # what both are expected to reach in the end, with what they gain alike
    assert race.reached(replace(deeper, promises=(0.0, 0.0))) == pytest.approx(1 - errors.believed)
    assert race.reached(deeper) == pytest.approx([0.84, 0.891], abs=5e-3)
    # how far each is behind is told of their heads
    assert [round(g.value, 3) for g in gaps(deeper)] == [-0.05, 0.0]
    assert race.trained("accuracy", np.array([0.2, 0.25]), (1.0, 1.0)) == pytest.approx((0.2, 0.25))
    assert race.trained("mae", np.array([2.0, 1.0]), (math.log(4), 0.0)) == pytest.approx((0.5, 1.0))


def test_of_few_examples_a_difference_of_heads_says_little():
    """Twenty points on thirty examples do not outweigh half of a log odd; on three thousand they do."""
    few, many = (replace(look(0.5, 0.7, n=n, seen=n, together=False), promises=(0.5, 0.0)) for n in (30, 3000))
    assert np.ptp(few.believed) < np.ptp(few.means) and many.believed[1] - many.believed[0] == pytest.approx(-0.08, abs=0.01)
    costs = {"a": 1.0, "b": 1.0}
    assert [standing([one], 3000, costs).chosen for one in (few, many)] == ["a", "b"]
    # a network of another kind stays far away, also on few
    other = look(0.95, 0.1, n=64, seen=64, together=False)
    assert other.said > 0.9 > few.said


def test_a_promise_is_of_what_fits():
    gains = {"top=1": 0.3, "full": 0.5}
    before, steps = race.passes_of("full", 100)
    work = [race.passes_of(train, 100) for train in ("none", "top=1", "top=2", "full", "contrastive")]
    assert [b for b, _ in work] == [0, 100, 100, 100, 200] and 0 == work[0][1] < work[1][1] < work[2][1] < work[3][1] == steps
    # what every training begins with is not less where fewer steps are made
    for share, told in ((0.0, 0.0), (0.1, 0.21), (0.25, 0.3), (0.5, 0.35), (1.0, 0.5)):
        assert race.promised(gains, 100, 1.0, before + share * steps) == pytest.approx(told), share
    assert race.promised(gains, 100, 1.0, before) == 0 < race.promised(gains, 100, 1.0, before + steps / 16)
    assert race.promised({"full": -0.2}, 100, 1.0, 1e9) == 0 == race.promised({}, 100, None, 0.0)
    assert race.promised({"full": 0.5}, 100, None, 0.0) == 0.5
    assert race.passes_of("top=1", 100, cut=False) == (before, steps)
    # of many examples the shortest training is a small part of all of it, of few it is all
    assert race.least_passes(5000) == 5000 + 6 * 20 * 32 < sum(race.passes_of("full", 5000)) / 10
    assert race.least_passes(4) <= sum(race.passes_of("full", 4))
    # what a climb would not train for is no promise
    half, every = before + 0.5 * steps, before + steps
    assert race.promised({"full": 0.5}, 100, 1.0, half, 0.4) == 0 < race.promised({"full": 0.5}, 100, 1.0, every, 0.4)
    assert race.worth_more("accuracy", 0.5) == pytest.approx(0.04, abs=1e-3)
    assert race.worth_more("accuracy", 0.5) < race.worth_more("accuracy", 0.97)
    assert race.worth_more("accuracy", 1.0) == 0 and race.worth_more("mae", 3.0) == 0.02


def test_networks_that_no_head_brings_back_are_not_looked_at():
    assert race.beyond_reach({"a": 0.9, "b": 0.5, "c": 0.4}, "a") == ["c"]
    assert race.beyond_reach({"a": 0.9}, "a") == []
