"""Figures of numbers against scikit-learn and known values, and intervals that mean what they say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from regraft.evaluation.numbers import figures, half_width
from regraft.facts import Figure

NAMES = ("mae", "rmse", "r2", "coverage")


def said(n: int, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, what is said of them, and half-widths."""
    rng = np.random.default_rng(seed)
    y = rng.normal(5, 3, n)
    return y, y + rng.normal(0, noise, n) * rng.exponential(1, n), np.full(n, 1.6 * noise)


def plain(found: dict[str, Figure]) -> None:
    for name, figure in found.items():
        assert figure.low <= figure.value <= figure.high, name
        assert all(math.isfinite(v) for v in (figure.low, figure.value, figure.high)), name
        json.dumps(figure.to_json(), allow_nan=False)
        if name in ("mae", "rmse", "coverage"):
            assert figure.low >= 0, name
    assert found["coverage"].high <= 1


@pytest.mark.parametrize("n", [2, 3, 50, 400])
@pytest.mark.parametrize("noise", [0.1, 1.0, 30.0])
def test_values_agree_with_scikit_learn(n, noise):
    metrics = pytest.importorskip("sklearn.metrics")
    y, values, half = said(n, noise)
    found = figures(y, values, half)
    assert tuple(found) == NAMES
    assert found["mae"].value == pytest.approx(metrics.mean_absolute_error(y, values))
    assert found["rmse"].value == pytest.approx(metrics.root_mean_squared_error(y, values))
    assert found["r2"].value == pytest.approx(metrics.r2_score(y, values))
    assert found["coverage"].value == (np.abs(y - values) <= half).mean()
    plain(found)


@pytest.mark.parametrize("offset", [1e6, -1e9, 1e12])
def test_large_numbers_with_small_differences_keep_their_digits(offset):
    """Steps of 1/1024 are exact beside 1e12 in float64."""
    y, values, half = (np.round(a * 1024) / 1024 for a in said(200))
    here, there = figures(y, values, half), figures(y + offset, values + offset, half)
    for name in NAMES:
        for key in ("value", "low", "high"):
            assert getattr(there[name], key) == pytest.approx(getattr(here[name], key), rel=1e-3), name


@pytest.mark.parametrize("unit", [1e-6, 1e3, 1e6, 1e9])
def test_intervals_have_the_unit_of_the_numbers(unit):
    """Squared errors of prices are far above a million; the interval was cut there once, and shrank to nothing."""
    y, values, half = said(200)
    here, there = figures(y, values, half), figures(y * unit, values * unit, half * unit)
    for name in NAMES:
        scale = unit if name in ("mae", "rmse") else 1
        for key in ("value", "low", "high"):
            assert getattr(there[name], key) == pytest.approx(getattr(here[name], key) * scale, rel=1e-6), (name, key)


@pytest.mark.parametrize("value", [0.1, 0.0, 1e12 + 0.1, -7.3])
def test_equal_numbers_have_no_r2(value):
    """Their standard deviation can be a rounding error above zero, and R² was -5e31."""
    for n in (2, 3, 7, 10):
        found = figures(np.full(n, value), np.full(n, value + 1), np.full(n, 2.0))
        assert set(found) == {"mae", "rmse", "coverage"}
        assert found["mae"].value == pytest.approx(1, abs=1e-3)
        plain(found)


def test_one_example_says_little_and_nothing_breaks():
    for y, value in ((5.0, 6.0), (1e12, 2e12), (0.0, 0.0), (-3.0, 1e15)):
        found = figures(np.array([y]), np.array([value]), np.array([math.inf]))
        assert set(found) == {"mae", "rmse", "coverage"}
        assert found["mae"].value == found["rmse"].value == abs(y - value)
        assert found["mae"].low == 0 and found["mae"].high >= 2 * found["mae"].value
        plain(found)


def test_numbers_that_are_all_right():
    y = np.arange(20.0)
    found = figures(y, y.copy(), np.zeros(20))
    assert (found["mae"].value, found["rmse"].value, found["r2"].value, found["coverage"].value) == (0, 0, 1, 1)
    assert found["coverage"].low < 1
    plain(found)


def test_the_mean_has_an_r2_of_zero_and_worse_is_below():
    y = np.random.default_rng(0).normal(size=100)
    assert figures(y, np.full(100, y.mean()), np.ones(100))["r2"].value == pytest.approx(0, abs=1e-12)
    assert figures(y, -y, np.ones(100))["r2"].high < 0


def test_two_examples_have_an_r2_though_most_resamples_have_none():
    found = figures(np.array([0.0, 1.0]), np.array([0.1, 0.8]), np.ones(2))
    assert found["r2"].value == pytest.approx(0.9)
    plain(found)


@pytest.mark.parametrize("name", NAMES)
def test_intervals_shrink_with_more_examples(name):
    widths = []
    for n in (60, 600, 6000):
        figure = figures(*said(n))[name]
        widths.append(figure.high - figure.low)
    assert widths[0] / widths[2] == pytest.approx(10, rel=0.6), "a hundred times the examples, a tenth of the width"


@pytest.mark.parametrize("scale", [1, 1e5])
def test_intervals_cover_the_truth_about_as_often_as_they_say(scale):
    """200 samples of a large population: 95 % intervals should miss about 10 of them."""
    y, values, half = (a * scale for a in said(40_000, seed=1))
    errors = y - values
    truth = {
        "mae": np.abs(errors).mean(),
        "rmse": math.sqrt((errors**2).mean()),
        "r2": 1 - (errors**2).mean() / y.var(),
        "coverage": (np.abs(errors) <= half).mean(),
    }
    rng = np.random.default_rng(2)
    covered = dict.fromkeys(truth, 0)
    for _ in range(200):
        chosen = rng.integers(len(y), size=120)
        found = figures(y[chosen], values[chosen], half[chosen])
        for name in covered:
            covered[name] += found[name].low <= truth[name] <= found[name].high
    # squared errors have a long tail here, and their interval is the normal one
    assert covered["mae"] >= 176 and covered["r2"] >= 168 and covered["coverage"] >= 176 and covered["rmse"] >= 160, covered
    assert covered["mae"] <= 199, "intervals that always cover are too wide"


def test_the_half_width_holds_nine_of_ten_new_examples():
    rng = np.random.default_rng(0)
    for n in (9, 19, 40):
        held = []
        for _ in range(2000):
            errors = rng.standard_t(3, n + 1)
            held.append(abs(errors[-1]) <= half_width(errors[:-1], 0.9))
        assert 0.88 < np.mean(held) < 0.9 + 1 / (n + 1) + 0.02, n


def test_the_half_width_by_hand():
    assert half_width(np.array([3.0, -1.0, 2.0]), 0.9) == 3, "too few: the largest"
    assert half_width(-np.arange(1.0, 20.0), 0.9) == 18, "the 18th of 19 as of 20"
    assert half_width(np.zeros(5), 0.9) == 0
