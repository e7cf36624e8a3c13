from __future__ import annotations

import numpy as np
import pytest

from regraft.facts import Figure
from regraft.strategy.depths import earliest_good_enough, widened


@pytest.mark.parametrize(
    ("behind", "earliest"),
    [
        ([(0.2, 0.1, 0.3), (0.05, 0.01, 0.09), (0.0, 0.0, 0.0)], 2),
        ([(0.2, 0.1, 0.3), (0.05, -0.01, 0.11), (0.0, 0.0, 0.0)], 1),
        ([(0.05, 0.0, 0.1), (0.0, 0.0, 0.0), (0.04, 0.01, 0.07)], 0),
        ([(0.0, 0.0, 0.0)], 0),
        # the highest stands first: what is later costs more and is no better
        ([(0.0, 0.0, 0.0), (0.1, -0.1, 0.3)], 0),
    ],
)
def test_the_earliest_place_whose_distance_may_be_nothing(behind, earliest):
    assert earliest_good_enough([Figure(*gap) for gap in behind]) == earliest


def test_one_comparison_keeps_its_interval_and_more_widen_it():
    plain = Figure(0.02, 0.01, 0.03)
    alone, many = widened(plain, 1), widened(plain, 16)
    assert np.allclose([alone.low, alone.high], [0.01, 0.03])
    # the 1 - 0.05 / 32 point of the normal distribution is 2.955, that of one comparison 1.960
    assert np.allclose([many.low, many.high], [0.02 - 0.01 * 2.955 / 1.96, 0.02 + 0.01 * 2.955 / 1.96], atol=1e-4)


def test_the_picked_highest_of_equals_is_rarely_called_better():
    random = np.random.default_rng(0)
    called = plainly = 0
    for _ in range(400):
        gains = random.normal(0, 1, (15, 200))
        best = gains[gains.mean(1).argmax()]
        half = 1.96 * best.std(ddof=1) / np.sqrt(200)
        gap = Figure(best.mean(), best.mean() - half, best.mean() + half)
        plainly += gap.low > 0
        called += widened(gap, 15).low > 0
    # one side of 5 % for all together, where the plain interval is wrong in every third case
    assert called <= 400 * 0.05 < 400 * 0.2 < plainly
