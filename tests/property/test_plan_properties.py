"""What a choice always keeps, whatever the options are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import UsageError
from regraft.strategy.cost import Range, total
from regraft.strategy.outcomes import corrected
from regraft.strategy.plan import Limits, Option, Plan, best_of, choose, value_of, worth

FEW = settings(max_examples=60, deadline=None)

positive = st.floats(0.01, 1e5)


def ranges(low: float, high: float) -> st.SearchStrategy[Range]:
    return st.lists(st.floats(low, high), min_size=3, max_size=3).map(sorted).map(lambda v: Range(v[1], v[0], v[2]))


options = st.builds(
    Option,
    model=st.sampled_from(["a", "b"]),
    train=st.sampled_from(["none", "head", "norm", "top=1", "full"]),
    order=st.integers(0, 5),
    figure=ranges(0.01, 0.99),
    seconds=ranges(0.1, 1000),
    memory=ranges(10, 5000),
    disk=positive,
    parameters=st.integers(1, 10**8),
    trained=st.integers(0, 10**8),
    licence=st.sampled_from(["MIT", "Apache-2.0", "CC-BY-NC"]),
    licence_kind=st.sampled_from(["permissive", "non-commercial"]),
    latency=st.none() | st.floats(0.1, 100),
)
several = st.lists(options, min_size=1, max_size=8, unique_by=lambda o: (o.model, o.train))
metrics = st.sampled_from(["accuracy", "mae"])
limits = st.builds(
    Limits,
    budget=st.none() | st.floats(1, 1200),
    memory=st.none() | st.floats(10, 6000),
    latency=st.none() | st.floats(0.1, 120),
    parameters=st.none() | st.integers(1, 10**8),
    licence=st.none() | st.sampled_from(["MIT", "permissive"]),
)


def chosen(given_options, given_limits, metric):
    try:
        return choose(given_options, given_limits, metric)
    except UsageError as error:
        # every way out that is named is one
        assert not any(not given_limits.broken(o) for o in given_options) and (error.faults or error.move)
        return None


@FEW
@given(several, limits, metrics)
def test_limits_always_hold(given_options, given_limits, metric):
    plan = chosen(given_options, given_limits, metric)
    if plan is not None:
        assert plan.chosen in given_options and not given_limits.broken(plan.chosen)
        assert all(given_limits.without(name).broken(o) == () for name, o in plan.binds.items())


@FEW
@given(several, limits, metrics)
def test_a_dearer_option_is_never_taken_for_an_equal_one(given_options, given_limits, metric):
    plan = chosen(given_options, given_limits, metric)
    for other in given_options if plan is not None else []:
        if not given_limits.broken(other) and other.seconds.high < plan.chosen.seconds.high:
            assert value_of(metric, other) < value_of(metric, plan.chosen)


@FEW
@given(several, limits, metrics)
def test_nothing_allowed_is_worth_so_much_more(given_options, given_limits, metric):
    plan = chosen(given_options, given_limits, metric)
    for other in given_options if plan is not None else []:
        if not given_limits.broken(other):
            assert value_of(metric, other) <= value_of(metric, plan.chosen) + worth(metric) + 1e-12


@FEW
@given(several, limits, metrics, st.floats(1, 1200), st.floats(1, 1200))
def test_more_budget_never_gives_a_worse_plan(given_options, given_limits, metric, one, other):
    less, more = sorted((one, other))
    small, large = (chosen(given_options, Limits(**{**vars(given_limits), "budget": b}), metric) for b in (less, more))
    if small is not None:
        assert large is not None and value_of(metric, large.chosen) >= value_of(metric, small.chosen)


@FEW
@given(several, limits, metrics, st.randoms())
def test_the_order_of_the_options_does_not_matter(given_options, given_limits, metric, random):
    shuffled = list(given_options)
    random.shuffle(shuffled)
    one, two = (chosen(o, given_limits, metric) for o in (given_options, shuffled))
    assert (one and one.chosen) == (two and two.chosen)


@FEW
@given(several, limits, metrics)
def test_a_plan_is_read_back_as_it_was_written(given_options, given_limits, metric):
    plan = chosen(given_options, given_limits, metric)
    if plan is not None:
        again = Plan.from_json(plan.to_json())
        assert again.to_json() == plan.to_json() and again.chosen.name == plan.chosen.name


@FEW
@given(st.lists(ranges(0.1, 100), min_size=1, max_size=6), st.lists(st.floats(0.01, 100), max_size=20))
def test_sums_and_corrections_stay_intervals(parts, ratios):
    whole = total(parts)
    assert 0 <= whole.low <= whole.value <= whole.high
    assert whole.high - whole.value <= sum(r.high - r.value for r in parts) + 1e-6
    for r in parts:
        moved = corrected(r, ratios)
        assert 0 < moved.low <= moved.value <= moved.high
        if ratios:
            # never beyond what was seen, nor away from it
            assert min(1.0, *ratios) * 0.999 <= moved.value / r.value <= max(1.0, *ratios) * 1.001


def test_nothing_is_best_of_nothing():
    assert best_of([], "accuracy") is None
