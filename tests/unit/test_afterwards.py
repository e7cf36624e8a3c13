"""Choices on held-out outputs: the best of several, and temperatures, both told without flattering."""

from __future__ import annotations

import numpy as np
import pytest

from regraft.targets.classes import Classes
from regraft.training.afterwards import chosen, cross_parts, temperature, tempered

TARGET = Classes(["a", "b", "c"])


def made_up(n: int = 3000, heat: float = 1.0, seed: int = 0):
    """Log-probabilities that are `heat` times too sure, and labels drawn from the right ones."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 3)) * 1.5
    right = np.exp(TARGET.link(scores).astype(np.float64))
    y = np.array([rng.choice(3, p=p / p.sum()) for p in right])
    return TARGET.link(scores * heat), y


@pytest.mark.parametrize("heat", [0.3, 1.0, 4.0])
def test_the_temperature_that_was_put_in_is_found(heat):
    outputs, y = made_up(heat=heat)
    assert temperature(outputs, y) == pytest.approx(heat, rel=0.08)


def test_temperatures_stay_in_reach():
    outputs, y = made_up(40)
    assert temperature(outputs, outputs.argmax(1)) == pytest.approx(0.05, rel=0.01)
    assert temperature(outputs, outputs.argmin(1)) == pytest.approx(20, rel=0.05)


def test_a_fold_is_tempered_by_the_others():
    outputs, y = made_up(600, heat=3.0)
    parts = np.arange(600) % 5
    after = tempered(outputs, y, parts, TARGET.link)
    rows = np.arange(600)
    assert after[rows, y].mean() > outputs[rows, y].mean()
    # other labels in a part change what the other parts get, not what it gets itself
    turned = np.where(parts == 0, (y + 1) % 3, y)
    other = tempered(outputs, turned, parts, TARGET.link)
    assert np.array_equal(after[parts == 0], other[parts == 0]) and not np.array_equal(after[parts == 1], other[parts == 1])


def test_an_option_that_is_clearly_better_is_taken():
    rng = np.random.default_rng(0)
    parts = np.arange(200) % 4
    gains = (rng.uniform(size=(3, 200)) < np.array([[0.5], [0.9], [0.6]])).astype(float)
    losses = 1 - gains + 0.0
    found = chosen(lambda k, at: float(gains[k, at].mean()), gains, losses, parts)
    assert found.best == 1 and set(found.outside.values()) == {1} and set(found.outside) == {0, 1, 2, 3}
    outputs = np.arange(3)[:, None, None] * np.ones((3, 200, 2))
    assert (found.of(outputs, parts) == 1).all()


def test_options_that_cannot_be_told_apart_are_chosen_by_loss():
    gains = np.ones((3, 40))
    losses = np.array([[0.3], [0.2], [0.4]]) * np.ones((3, 40))
    assert chosen(lambda k, at: 1.0, gains, losses, np.arange(40) % 2).best == 1


def test_choosing_among_equals_by_chance_does_not_flatter():
    # no option is better than another: what is reported stays at a half, the best in hindsight does not
    told, hindsight = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        gains = (rng.uniform(size=(5, 60)) < 0.5).astype(float)
        parts = np.arange(60) % 5
        found = chosen(lambda k, at, gains=gains: float(gains[k, at].mean()), gains, 1 - gains, parts)
        told.append(found.of(gains, parts).mean())
        hindsight.append(gains.mean(1).max())
    assert abs(np.mean(told) - 0.5) < 0.03 and np.mean(hindsight) > 0.56


def test_parts_for_choices():
    folds, inner = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3])
    assert cross_parts(folds, inner).tolist() == folds.tolist()
    assert cross_parts(np.zeros(4, int), inner).tolist() == [0, 1, 0, 1]
    assert cross_parts(np.zeros(4, int), np.zeros(4, int)) is None
