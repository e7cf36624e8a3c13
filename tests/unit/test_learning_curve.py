"""The learning curve's law: what it forecasts, how sure it is, and when it says nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from regraft.strategy.learning import DRAWS, SHARES, Measured, fit_curve, shares_for


def points(error, n: int, scatter: float = 0.02, seed: int = 0) -> list[Measured]:
    random = np.random.default_rng(seed)
    return [
        Measured(round(s * n), tuple(error(s * n) * (1 + scatter * random.normal(size=draws))))
        for s, draws in zip(SHARES, DRAWS, strict=True)
    ]


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.02, 1.0, 0.4), (0.2, 2.0, 0.5), (0.0, 1.2, 0.25)])
def test_the_interval_holds_what_a_power_law_gives(floor: float, scale: float, exponent: float) -> None:
    def law(n: float) -> float:
        return floor + scale * n**-exponent

    held = [0, 0]
    for seed in range(20):
        curve = fit_curve(points(law, 2000, seed=seed), 0.002)
        for place, factor in enumerate((2, 4)):
            found = curve.forecast(factor * 2000)
            assert found is not None
            held[place] += found.low <= law(factor * 2000) <= found.high
            assert found.gain_low <= found.gain <= found.gain_high
    # of 20, where 18 are to be expected; a law without a floor stands at the edge of what is believed beforehand
    assert min(held) >= (17 if floor else 12), held


def test_more_examples_are_never_expected_to_be_worse() -> None:
    curve = fit_curve(points(lambda n: 0.1 + n**-0.5, 500), 0.01)
    errors = [f.error for n in (500, 1000, 2000, 8000) if (f := curve.forecast(n)) is not None]
    assert len(errors) == 4 and errors == sorted(errors, reverse=True)
    assert (curve.needed(errors[2]) or 0) <= 2100
    assert curve.needed(0.0) is None


def test_a_curve_that_does_not_fall_tells_nothing() -> None:
    curve = fit_curve(points(lambda n: 0.3, 1000), 0.01)
    assert not curve.told and "hardly falls" in curve.reason
    assert json.loads(json.dumps(curve.to_json()))["told"] is False


def test_too_few_points_and_no_errors_tell_nothing() -> None:
    assert "too few" in fit_curve(points(lambda n: 1 / n, 100)[:2], 0.01).reason
    assert "no error" in fit_curve([Measured(n, (0.0,)) for n in (10, 20, 40)], 0.0).reason
    assert fit_curve([], 0.0).forecast(10) is None


def test_parts_that_hold_too_little_of_a_class_are_left_out() -> None:
    assert [s for s, _ in shares_for([100] * 5, 500)] == list(SHARES)
    assert [s for s, _ in shares_for([8] * 40, 320)] == [0.4, 0.8, 1.0]
    assert shares_for([], 20)[-1][0] == 1.0
