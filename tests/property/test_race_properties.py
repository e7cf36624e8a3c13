"""What always holds of a race, whatever errors and seconds there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.strategy.gains import Expected
from regraft.strategy.pilot import Pilot, after, worth_of
from regraft.strategy.race import GROWTH, Look, expected_regret, falling_behind, next_size, promised, standing, that_fit, trained


@st.composite
def looks(draw: st.DrawFn) -> Look:
    count, n = draw(st.integers(1, 6)), draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rates = rng.random((count, 1))
    kind = draw(st.sampled_from(["share", "number", "none"]))
    errors = {"share": lambda: (rng.random((count, n)) < rates) * 1.0, "number": lambda: rng.exponential(size=(count, n)) * rates}
    found = errors.get(kind, lambda: np.zeros((count, n)))()
    promises = draw(st.one_of(st.none(), st.lists(st.floats(0, 2), min_size=count, max_size=count)))
    metric = "mae" if kind == "number" else "accuracy"
    return Look(tuple(f"n{k}" for k in range(count)), found, draw(st.integers(n, 200)), tuple(promises or ()), metric)


@settings(max_examples=150, deadline=None)
@given(looks(), st.integers(0, 2000), st.integers(1, 50))
def test_the_best_stays_and_more_to_come_drops_no_more(look, more, compared):
    examples = look.seen + more
    dropped = falling_behind(look, examples, compared)
    assert look.names[look.best()] not in dropped
    assert set(dropped) <= set(falling_behind(look, look.seen, compared)) <= set(falling_behind(look, look.seen, 1))
    order = np.random.default_rng(more).permutation(look.errors.shape[1])
    assert falling_behind(replace(look, errors=look.errors[:, order]), examples, compared) == dropped


@settings(max_examples=60, deadline=None)
@given(looks(), st.integers(0, 2000))
def test_regret_is_never_below_what_is_known(look, more):
    examples, means = look.seen + more, look.believed
    for k, name in enumerate(look.names):
        regret = expected_regret([look], name, examples)
        sd = float(np.sqrt(look.covariance(examples).diagonal().max()))
        # E max(0, x) is at least max(0, E x); drawn, up to the noise of the draws
        assert regret >= max(0.0, means[k] - means.min()) - 0.05 * sd - 1e-12
        assert regret == expected_regret([look], name, examples)
    costs = dict(zip(look.names, range(len(look.names)), strict=True))
    found, ends = standing([look], examples, costs), look.believed
    assert found.chosen in look.names and ends[look.names.index(found.chosen)] - ends.min() < 0.002 + 1e-12
    assert np.ptp(replace(look, promises=()).believed) <= np.ptp(look.means) + 1e-12


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0.001, 10))
def test_more_time_never_sees_less(size, examples, left, more, each):
    size = min(size, examples)
    seconds = lambda count: each * count
    one, other = (next_size(size, examples, t, seconds) for t in (left, left + more))
    assert size <= one <= other <= examples
    assert one == size or seconds(one) <= left and one <= max(GROWTH * size, min(examples, 1.25 * GROWTH * size) * 2)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0.01, 100), max_size=6), st.floats(0, 300), st.floats(0, 300))
def test_more_time_never_leaves_out_more(seconds, left, more):
    one, other = set(that_fit(seconds, left)), set(that_fit(seconds, left + more))
    assert one <= other and sum(seconds[name] for name in one) <= left
    assert not one or max(seconds[n] for n in one) <= min((seconds[n] for n in set(seconds) - one), default=1e9)


gains = st.dictionaries(st.sampled_from(["norm", "top=1", "top=2", "contrastive", "full", "none"]), st.floats(-2, 2))


@settings(max_examples=150, deadline=None)
@given(gains, st.integers(1, 5000), st.floats(1e-4, 1), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(1, 10))
def test_more_time_or_a_quicker_network_promises_no_less(gains, examples, each, left, more, slower):
    told = promised(gains, examples, each, left)
    assert 0 <= told <= promised(gains, examples, each, left + more) <= promised(gains, examples, None, 0.0)
    assert promised(gains, examples, each * slower, left) <= told


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["accuracy", "mae"]), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 3)), min_size=1, max_size=5), st.floats(0, 2))
def test_what_all_gain_alike_is_no_difference_and_errors_stay_errors(metric, each, alike):
    errors, promises = np.array([e for e, _ in each]), [p for _, p in each]
    ends = trained(metric, errors, promises)
    assert all(ends >= -1e-12) and all(ends <= errors + 1e-12) and ends[int(np.argmin(promises))] == errors[int(np.argmin(promises))]
    np.testing.assert_allclose(trained(metric, errors, [p + alike for p in promises]), ends, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(looks(), st.floats(0, 2), st.integers(1, 300))
def test_a_pilot_is_worth_nothing_less_than_nothing(look, doubt, judged):
    told = replace(look, promises=look.promises or (0.0,) * len(look.names))
    for name in told.names:
        worth = worth_of(told, name, doubt, judged)
        assert 0 <= worth <= max(1.0, float(told.errors.max())) + 1e-9
        assert worth_of(told, name, 0.0, judged) == 0


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 3), st.floats(0.05, 2), st.floats(-3, 3), st.floats(0.01, 1), st.floats(0, 2))
def test_more_that_was_seen_promises_no_less(promise, doubt, gain, noise, more):
    pilot = lambda mean: Pilot(Expected(mean, noise), 100, 0.5, 0.5, 20, 1.0)
    told = after(promise, doubt, pilot(gain))
    ends = promise, max(0.0, pilot(gain).says.mean)
    assert 0 <= told <= max(ends) + 1e-9 and told <= after(promise, doubt, pilot(gain + more)) + 1e-9
