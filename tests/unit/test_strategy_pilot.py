"""Pilots: who is worth one, who judges it, and what it lets believe."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from regraft.strategy.cost import Range
from regraft.strategy.gains import Expected
from regraft.strategy.ladder import Prospect, Standing, Way
from regraft.strategy.pilot import (
    LEAST,
    SHORT,
    SHOWN,
    STEPS,
    Pilot,
    after,
    folds_that_judge,
    heard,
    judges,
    pilot_seconds,
    worth_of,
    worth_one,
)
from regraft.strategy.race import Look, standing


def look(*rights: float, n: int = 500, promises: tuple[float, ...] = ()) -> Look:
    """Networks that get so many of `n` right, by chance apart."""
    rng = np.random.default_rng(0)
    errors = np.ones((len(rights), n))
    for k, right in enumerate(rights):
        errors[k, rng.permutation(n)[: round(right * n)]] = 0
    return Look(tuple("abcdefgh"[: len(rights)]), errors, n, promises or (0.0,) * len(rights))


def pilot(gain: float, noise: float = 0.15) -> Pilot:
    return Pilot(Expected(gain, noise), 200, 0.7, 0.8, STEPS, 9.0)


@pytest.mark.parametrize(
    ("rights", "doubts", "judged", "who"),
    [
        ((0.80, 0.75), {"a": 0.0, "b": 0.5}, 200, ["b"]),
        # the one that leads may be promised too much
        ((0.80, 0.75), {"a": 0.5, "b": 0.0}, 200, []),
        ((0.95, 0.30), {"a": 0.0, "b": 0.5}, 200, []),
        ((0.80, 0.75), {"a": 0.0, "b": 0.0}, 200, []),
        ((0.80, 0.75), {"a": 0.0, "b": 0.5}, 39, []),
        ((0.80,), {"a": 0.5}, 200, []),
        # what is promised less surely can turn more
        ((0.80, 0.78, 0.78), {"a": 0.0, "b": 0.3, "c": 0.6}, 200, ["c", "b"]),
    ],
)
def test_who_is_worth_a_pilot(rights, doubts, judged, who):
    assert worth_one(look(*rights), doubts, judged) == who


def test_a_promise_that_decides_is_worth_a_pilot_too():
    """The worse head leads by what it is promised: it may be taken wrongly."""
    promised = look(0.8, 0.75, promises=(0.0, 0.6))
    assert standing([promised], 500, {"a": 1.0, "b": 1.0}).chosen == "b"
    assert worth_one(promised, {"a": 0.0, "b": 0.5}, 200) == ["b"]
    assert worth_of(promised, "b", 0.5, 200) > worth_of(promised, "b", 0.1, 200) >= 0
    # more that judge tell more, and an error has no unit
    assert worth_of(promised, "b", 0.5, 200) > worth_of(promised, "b", 0.5, 40)
    number = Look(("a", "b"), np.array([[1.0] * 300, [1.2] * 300]), 300, (0.0, 0.0), "mae")
    assert (
        0 < worth_of(number, "b", 0.5, 100) == pytest.approx(worth_of(replace(number, errors=1000 * number.errors), "b", 0.5, 100) / 1000)
    )
    assert worth_of(replace(number, promises=()), "b", 0.5, 100) == 0


@pytest.mark.parametrize(
    ("examples", "folds", "of", "judged"),
    [(40, 5, 2, 16), (200, 5, 2, 80), (256, 5, 2, 102), (512, 5, 2, 200), (1000, 5, 1, 200), (10_000, 5, 1, 200), (300, 2, 1, 150)],
)
def test_half_of_the_folds_judge_at_most(examples, folds, of, judged):
    assert folds_that_judge(examples, folds) == of and judges(examples, folds) == judged


def test_what_is_promised_after_a_pilot():
    assert after(0.2, 0.5, pilot(0.6)) == pytest.approx(0.2 + (0.8 - 0.2) * 0.25 / (0.25 + 0.2**2 + 0.2**2), abs=1e-6)
    assert after(0.2, 0.5, pilot(-2.0)) == 0.0 < after(0.2, 0.1, pilot(-0.2))
    assert pilot(0.6).says.deviation == pytest.approx(math.hypot(0.15 / SHOWN, SHORT))
    assert pilot_seconds(0.0, 200) > 0 and pilot_seconds(0.1, 200) - pilot_seconds(0.0, 200) == pytest.approx(0.1 * (3 * 320 + 200))
    assert LEAST < STEPS and Pilot.from_json(pilot(0.25).to_json()) == pilot(0.25)


def prospect(train: str, gain: float, deviation: float) -> Prospect:
    ways = tuple(Way(share, 1, Range(s, s, s)) for share, s in ((0.25, 10.0), (1.0, 40.0)))
    return Prospect(train, 3, Expected(gain, deviation), ways, Range(1.0, 1.0, 1.0))


def test_a_climb_hears_of_a_pilot():
    before = [prospect("top=1", 0.3, 0.4), prospect("full", 0.5, 0.6)]
    top, full = heard(before, pilot(0.9))
    assert 0.5 < full.gain.mean < 0.9 / SHOWN and full.gain.deviation < 0.6 and full.shown == full.gain.mean
    assert 0.3 < top.gain.mean < 0.3 + 0.4 and top.gain.deviation == 0.4 and top.shown == 0
    # a few steps gave so much already: a quarter of all gives no less
    assert full.gained(full.ways[0]).mean == full.shown > before[1].gained(before[1].ways[0]).mean
    assert Prospect.from_json(full.to_json()).shown == pytest.approx(full.shown, abs=1e-4) and "shown" not in top.to_json()
    assert "20 steps in the race gave +0.90" in full.reasons[-1]
    # a pilot that lost makes all of them less likely, and shows nothing
    top, full = heard(before, pilot(-0.5))
    assert full.gain.mean < 0.5 and top.gain.mean < 0.3 and full.shown == 0
    stand = Standing("accuracy", 0.7)
    assert stand.expected(full, [top, full]).mean < stand.expected(before[1], before).mean
    assert heard(before[:1], pilot(0.9)) == before[:1]
