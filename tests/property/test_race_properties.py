"""What always holds of a race, whatever errors and seconds there are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.strategy.race import GROWTH, Look, expected_regret, falling_behind, next_size, standing, that_fit


@st.composite
def looks(draw: st.DrawFn) -> Look:
    count, n = draw(st.integers(1, 6)), draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rates = rng.random((count, 1))
    kind = draw(st.sampled_from(["share", "number", "none"]))
    errors = {"share": lambda: (rng.random((count, n)) < rates) * 1.0, "number": lambda: rng.exponential(size=(count, n)) * rates}
    return Look(tuple(f"n{k}" for k in range(count)), errors.get(kind, lambda: np.zeros((count, n)))(), draw(st.integers(n, 200)))


@settings(max_examples=150, deadline=None)
@given(looks(), st.integers(0, 2000), st.integers(1, 50))
def test_the_best_stays_and_more_to_come_drops_no_more(look, more, compared):
    examples = look.seen + more
    dropped = falling_behind(look, examples, compared)
    assert look.names[look.best()] not in dropped
    assert set(dropped) <= set(falling_behind(look, look.seen, compared)) <= set(falling_behind(look, look.seen, 1))
    order = np.random.default_rng(more).permutation(look.errors.shape[1])
    assert falling_behind(Look(look.names, look.errors[:, order], look.seen), examples, compared) == dropped


@settings(max_examples=60, deadline=None)
@given(looks(), st.integers(0, 2000))
def test_regret_is_never_below_what_is_known(look, more):
    examples, means = look.seen + more, look.means
    for k, name in enumerate(look.names):
        regret = expected_regret([look], name, examples)
        sd = float(np.sqrt(look.covariance(examples).diagonal().max()))
        # E max(0, x) is at least max(0, E x); drawn, up to the noise of the draws
        assert regret >= max(0.0, means[k] - means.min()) - 0.05 * sd - 1e-12
        assert regret == expected_regret([look], name, examples)
    costs = dict(zip(look.names, range(len(look.names)), strict=True))
    found = standing([look], examples, costs, "accuracy")
    assert found.chosen in look.names and means[look.names.index(found.chosen)] - means.min() < 0.005 + 1e-12


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
