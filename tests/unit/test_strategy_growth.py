"""How a head is expected to grow with the examples: by the rule, and by what its own learning curve says."""

from __future__ import annotations

import pytest

from regraft.strategy.gains import RATE, grown, own_rate
from regraft.strategy.learning import LearningCurve, Measured


def curve(power: float, sizes=(50, 100, 200, 400), draws: int = 4) -> LearningCurve:
    """Errors that fall as a power of the examples to 0.1 at 400, a little apart from draw to draw."""
    errors = lambda n: tuple(0.1 * (n / 400) ** -power * (1 + 0.02 * d) for d in range(draws))
    return LearningCurve(tuple(Measured(n, errors(n)) for n in sizes), 0.01)


def test_where_all_were_seen_the_figure_is_known():
    found = grown("accuracy", 0.9, 400, 400, curve(0.5))
    assert found.why == "" and found.expected.figure("accuracy").value == pytest.approx(0.9, abs=0.01)


def test_without_a_curve_the_rule_says_it():
    plain = grown("accuracy", 0.8, 400, 4000)
    few = grown("accuracy", 0.8, 400, 4000, LearningCurve(curve(0.5).points[:2], 0.01, "two points only"))
    assert plain.expected == few.expected and "two points only" in few.why
    assert f"{RATE[True].mean:g}, give or take {RATE[True].deviation:g}" in plain.why
    assert 0.8 < plain.expected.figure("accuracy").value < 1


@pytest.mark.parametrize("metric", ["accuracy", "mae"])
def test_a_curve_that_falls_faster_promises_more(metric):
    value = 0.9 if metric == "accuracy" else 0.3
    slow, fast = (grown(metric, value, 400, 4000, curve(power)) for power in (0.05, 0.6))
    assert fast.expected.mean > slow.expected.mean
    assert "its own learning curve fell from" in fast.why


def test_a_curve_makes_it_surer_and_stands_between_itself_and_the_rule():
    rule = RATE[True]
    steep, flat = (own_rate("accuracy", curve(power), 400, rule) for power in (0.9, 0.0))
    assert flat.mean < rule.mean < steep.mean
    assert max(steep.deviation, flat.deviation) < rule.deviation
    vague = own_rate("accuracy", curve(0.9, sizes=(390, 395, 400)), 400, rule)
    assert abs(vague.mean - rule.mean) < abs(steep.mean - rule.mean), "points that stand close together say little"
    assert vague.deviation > steep.deviation
