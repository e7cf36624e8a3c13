"""How much to train: what each rule says, and what is said where nothing is left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regraft.errors import UsageError
from regraft.pretrained import all_models
from regraft.strategy.cost import Range
from regraft.strategy.gains import GAINS, SHIFTS, Expected, amount_of, at_size, gain_of, nearness, scaled, unscaled
from regraft.strategy.outcomes import Outcome
from regraft.strategy.plan import Limits, Option, Plan, choose, explained, subset_size, value_of


def option(train: str, figure: float, seconds: float, order: int, **more) -> Option:
    around = lambda v, w: Range(v, v - w, v + w)
    memory = around(more.pop("memory", 800), 50)
    return Option("net", train, order, around(figure, 0.04), around(seconds, 0.2 * seconds), memory, 5.0, 4_000_000, 1_000, **more)


LADDER = (
    option("none", 0.80, 11, 0, licence="MIT", licence_kind="permissive", latency=9.0),
    option("head", 0.85, 10, 1, licence="MIT", licence_kind="permissive", latency=9.0),
    option("top=1", 0.87, 60, 3, licence="MIT", licence_kind="permissive", latency=9.0),
    option("full", 0.90, 300, 5, licence="MIT", licence_kind="permissive", latency=9.0, memory=2000),
)


@pytest.mark.parametrize(
    ("limits", "taken", "binds"),
    [
        (Limits(), "full", {}),
        (Limits(budget=3600), "full", {}),
        (Limits(budget=350), "top=1", {"budget": "full"}),  # 300 seconds may become 360
        (Limits(budget=15), "head", {"budget": "full"}),
        (Limits(memory=900), "top=1", {"memory": "full"}),
        (Limits(budget=80, memory=900), "top=1", {}),  # each of the two keeps full out
        (Limits(licence="permissive", latency=9.5, parameters=5e6), "full", {}),
    ],
)
def test_what_is_taken_and_what_binds(limits, taken, binds):
    plan = choose(LADDER, limits, "accuracy")
    assert plan.chosen.train == taken and {k: o.train for k, o in plan.binds.items()} == binds


def test_less_than_a_point_is_not_worth_more_time():
    near = (*LADDER[:2], option("full", 0.858, 300, 5))
    plan = choose(near, Limits(), "accuracy")
    assert plan.chosen.train == "head" and "too little for its time" in plan.changes[0]


def test_errors_are_better_when_they_are_small():
    options = (option("head", 0.50, 10, 1), option("full", 0.40, 300, 5))
    assert choose(options, Limits(), "mae").chosen.train == "full"
    assert value_of("mae", options[1]) > value_of("mae", options[0])


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(budget=5), ["--budget 12s leaves net head"]),
        (Limits(memory=500), ["--max-memory 850MB leaves net"]),
        (Limits(latency=1), ["--max-latency 9ms leaves net"]),
        (Limits(parameters=1e6), ["--max-params 4M leaves net"]),
        (Limits(licence="mit", budget=5), ["--budget 12s leaves net head"]),
        (Limits(licence="gpl-3.0"), ["--licence: MIT"]),
        (Limits(budget=5, memory=500), ["nor all but one", "would break --budget, --max-memory"]),
    ],
)
def test_where_nothing_is_left_it_is_said_what_to_relax(limits, says):
    with pytest.raises(UsageError) as raised:
        choose(LADDER, limits, "accuracy")
    assert all(text in str(raised.value) for text in says)


def test_an_unknown_latency_keeps_no_limit():
    with pytest.raises(UsageError):
        choose([option("head", 0.8, 10, 1)], Limits(latency=50), "accuracy")


@pytest.mark.parametrize(
    ("head", "constant", "found"),
    [(0.97, 0.5, "near"), (0.85, 0.5, "unknown"), (0.7, 0.5, "far"), (0.75, 0.02, "unknown"), (0.5, 0.02, "far")],
)
def test_how_near_the_data_is(head, constant, found):
    assert nearness(head, constant) == found


@pytest.mark.parametrize(
    ("per_class", "name"), [(1, "few"), (5, "few"), (6, "some"), (25, "some"), (26, "decent"), (250, "decent"), (251, "many")]
)
def test_the_names_of_amounts(per_class, name):
    assert amount_of(per_class) == name


def mean(train: str, per_class: float, near: str) -> float:
    return gain_of(train, per_class, near).expected.mean


def test_the_quadrants_of_size_and_similarity():
    """CS231n: small and similar, the head alone; large and similar, everything; different, more than the head."""
    assert max(mean(t, 5, "near") for t in ("top=1", "full")) <= 0 and mean("full", 1000, "near") >= 0.5
    for per_class in (5, 20, 100, 1000):
        assert mean("full", per_class, "far") > mean("full", per_class, "near")
        assert mean("full", per_class, "far") > mean("top=1", per_class, "far") > 0
    for near in ("near", "far"):
        values = [mean("full", n, near) for n in (5, 20, 100, 1000)]
        assert values == sorted(values)


def test_every_rule_names_its_source_and_has_a_spread():
    for (train, amount, near), (value, spread, source) in GAINS.items():
        assert 0.2 <= spread <= 0.8 and -0.1 <= value <= 1.5 and " " in source, (train, amount, near)
    assert "Kornblith" in gain_of("full", 100, "near").why and "SetFit" in gain_of("contrastive", 8, "far").why


def test_of_an_error_half_a_rule_is_taken_and_said():
    share, error = (gain_of("full", 100, "far", metric=m) for m in ("accuracy", "mae"))
    assert error.expected.mean == share.expected.mean / 2 and error.expected.deviation == share.expected.deviation / 2
    assert "half of what it is for classes" in error.why and "log odds" in share.why


def test_what_was_measured_moves_a_rule_for_its_input_alone_and_says_so():
    told = lambda train, task: gain_of(train, 8, "far", task=task, measured={("contrastive", "text"): 0.5, ("top", "image"): -0.25})
    plain = gain_of("contrastive", 8, "far", measured={})
    moved = told("contrastive", "text")
    assert moved.expected == Expected(plain.expected.mean + 0.5, plain.expected.deviation) and moved.rule == moved.expected.mean
    assert "SetFit" in moved.why and "+0.50 for text in fits on eight sets" in moved.why and "eight sets" not in plain.why
    assert told("contrastive", "image") == plain
    # blocks count as blocks
    for train in ("top=1", "top=2"):
        assert told(train, "image").expected.mean == pytest.approx(told(train, "text").expected.mean - 0.25)
    error = gain_of("contrastive", 8, "far", metric="mae", task="text", measured={("contrastive", "text"): 0.5})
    assert error.expected.mean == pytest.approx(moved.expected.mean / 2)


def test_what_was_measured_is_of_rungs_and_tasks_that_there_are():
    own = ("image", "text", "audio", *(facts.name for facts in all_models()))
    assert all(kind in {"norm", "top", "full", "contrastive"} and on in own for kind, on in SHIFTS)
    assert all(0 < abs(more) < 1 for more in SHIFTS.values())


def test_more_blocks_lie_between_one_and_all():
    for near in ("near", "far", "unknown"):
        means = [mean(t, 100, near) for t in ("top=1", "top=2", "top=3", "full")]
        assert means == sorted(means)


def test_what_is_not_clear_is_wider_than_either():
    near, far, unclear = (gain_of("full", 100, n).expected for n in ("near", "far", "unknown"))
    assert near.mean < unclear.mean < far.mean and unclear.deviation > (near.deviation + far.deviation) / 2


def test_earlier_outcomes_move_a_rule_and_only_its_own():
    better = [Outcome("full", "net", "cpu", figure=(1.0, 1.5)) for _ in range(8)]
    assert mean("full", 100, "near") < gain_of("full", 100, "near", better).expected.mean < mean("full", 100, "near") + 0.5
    assert gain_of("top=1", 100, "near", better) == gain_of("top=1", 100, "near")
    assert gain_of("full", 100, "near", better[:2]) == gain_of("full", 100, "near")


@pytest.mark.parametrize(("metric", "values"), [("accuracy", (0.0, 0.3, 0.99, 1.0)), ("f1_micro", (0.5,)), ("mae", (0.02, 1.0, 40.0))])
def test_scales_go_there_and_back_and_more_is_better(metric, values):
    for value in values:
        assert unscaled(metric, scaled(metric, value)) == pytest.approx(value, abs=2e-4)
    order = [scaled(metric, v) for v in values]
    assert order == sorted(order, reverse=metric == "mae")


def test_a_head_on_all_examples_is_known_and_one_on_few_is_not():
    whole, part, little = (at_size("accuracy", 0.9, seen, 1000).figure("accuracy") for seen in (1000, 500, 50))
    assert whole.high - whole.low < 0.02 < part.high - part.low < little.high - little.low
    assert whole.value == pytest.approx(0.9) and part.value > 0.9
    never_wrong = at_size("accuracy", 1.0, 40, 400).figure("accuracy")
    assert never_wrong.low < 0.97 and never_wrong.high < 1


@pytest.mark.parametrize(
    ("seconds", "example", "examples", "outputs", "size"),
    [(10, 0.05, 5000, 10, 200), (0, 0.05, 5000, 20, 60), (0, 0.05, 5000, 2, 32), (1000, 0.05, 5000, 10, 1000), (10, 0.05, 20, 2, 20)],
)
def test_how_many_examples_a_plan_looks_at(seconds, example, examples, outputs, size):
    assert subset_size(seconds, example, examples, outputs) == size


def test_a_price_is_that_of_the_time():
    plan = replace(choose(LADDER, Limits(), "accuracy"), price_per_hour=3.6)
    prices = [o["price"]["value"] for o in plan.to_json()["options"]]
    assert prices == [pytest.approx(o.seconds.value / 1000) for o in plan.options]
    assert Plan.from_json(plan.to_json()).price_per_hour == 3.6


def test_a_plan_explains_itself_and_can_be_edited():
    plan = choose(LADDER, Limits(budget=350), "accuracy")
    words = "\n".join(explained(plan))
    assert "to take: top=1. accuracy 0.870" in words and "not full: over --budget" in words
    assert "would allow net full: +3.0 points expected" in words and words == plan.explain()
    written = plan.to_json()
    written["chosen"]["train"] = "head"
    assert Plan.from_json(written).chosen.train == "head"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 2"),
        ({"options": "none"}, "cannot be read"),
        ({"chosen": {"model": "net", "train": "lora"}}, "none of its options"),
        ({"chosen": {}}, "cannot be read"),
    ],
)
def test_a_plan_that_cannot_be_read_says_why(change, says):
    written = choose(LADDER, Limits(), "accuracy").to_json()
    with pytest.raises(UsageError) as raised:
        Plan.from_json({**written, **change})
    assert says in str(raised.value)
    with pytest.raises(UsageError):
        Plan.from_json([])
