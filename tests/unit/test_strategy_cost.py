"""Predicted seconds, memory and disk: more work costs more, what is measured is narrower than what is guessed, outcomes correct."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from regraft.strategy.contrastive import contrast_for
from regraft.strategy.cost import (
    Amount,
    Body,
    Held,
    Pace,
    Range,
    contrastive_stages,
    deeper_disk,
    deeper_memory,
    deeper_stages,
    engines_memory,
    head_disk,
    head_memory,
    head_stages,
    probe_seconds,
    scratch_seconds,
    stored_memory,
    total,
    training_seconds,
)
from regraft.strategy.outcomes import Outcome, corrected, in_stages, ratios, stage_of
from regraft.strategy.settings import Settings, folds_to_train, settings_for

AMOUNT = Amount(train=1000, test=200, outputs=5, folds=5, nested=True, windows=1.0, missing=1200, width=1280, rows=768)
PACE = Pace(begin=3.0, setup=1.0, example=0.02, reading=0.005, judged=0.015, probe=1.0, measured=("example", "judged", "probe"))
TOP = Body(macs=400_000_000, parameters=3_400_000, trained=1_000_000, saved=0.9, kept=30_000, activations=400_000, step=0.05)
FULL = Body(macs=400_000_000, parameters=3_400_000, trained=3_400_000, prepared=150_000, activations=40_000_000, step=1.2)
SETTINGS = settings_for(1000, 3_400_000, convolutions=True, whole=False)


def seconds(stages):
    return total(stages.values())


def test_the_ladder_in_the_order_of_cost():
    head, top, full = (
        seconds(head_stages(AMOUNT, PACE)),
        *(seconds({**head_stages(AMOUNT, PACE), **deeper_stages(AMOUNT, PACE, b, SETTINGS)}) for b in (TOP, FULL)),
    )
    assert head.high < top.value < full.value and top.low > head.low


def test_features_that_are_stored_cost_next_to_nothing():
    stored = head_stages(replace(AMOUNT, missing=0), PACE)
    assert stored["features"].value < 0.4 * head_stages(AMOUNT, PACE)["features"].value


def test_the_mean_of_few_examples_is_less_certain():
    widths = [(r := head_stages(AMOUNT, replace(PACE, timed=n))["features"]).high / r.low for n in (0, 16, 100, 1000)]
    assert widths == sorted(widths, reverse=True) and widths[0] > 1.5 * widths[-1]


def test_a_pace_that_was_kept_is_as_certain_as_when_it_was_measured():
    first = replace(PACE, timed=32)
    kept = json.loads(json.dumps(first.to_json()))
    assert kept["timed"] == 32 and isinstance(kept["timed"], int)
    names = ("example", "setup", "reading", "judged")
    again = Pace(begin=3.0, measured=("probe",)).as_before(kept, names)
    assert again.timed == 32 and set(again.measured) == set(first.measured)
    assert head_stages(AMOUNT, again) == head_stages(AMOUNT, first)
    # as earlier versions wrote it
    assert Pace().as_before({**kept, "timed": 32.0}, names).timed == 32
    # of how many the other numbers are the mean it does not say, and what is damaged says nothing
    assert Pace().as_before(kept, ("judged",)).timed == 0
    damaged = Pace().as_before({**kept, "timed": "many", "example": float("nan")}, names)
    assert (damaged.timed, damaged.example) == (0, Pace().example)


def test_a_step_that_was_not_timed_follows_from_multiply_adds_and_is_less_certain():
    timed, guessed = (deeper_stages(AMOUNT, PACE, b, SETTINGS)["training"] for b in (TOP, replace(TOP, step=None)))
    assert guessed.high / guessed.low > timed.high / timed.low
    # a tenth of the work is left: three times the forward of it, 32 images
    expected = 3 * 0.1 * 0.015 * 32
    one = training_seconds(AMOUNT, SETTINGS, Range.around(expected, 0.3), 0.0015)
    assert guessed.value == pytest.approx(one.value, rel=0.05)


@pytest.mark.parametrize("step", [0.01, 0.1, 0.2, 0.3, 0.5, 2.0])
def test_training_follows_the_rule_for_folds(step):
    settings = Settings(epochs=10, batch=32, lr=1e-4, layer_decay=0.75)
    # steps of 32 of 800 and of 1,000 examples; the last of an epoch has fewer
    one, last = (10 * n / 32 * step for n in (800, 1000))
    folds = folds_to_train(5, one, 1000)
    assert training_seconds(AMOUNT, settings, Range(step, step, step), 0.0).value == pytest.approx(folds * one + last)
    # ten examples are no whole step
    few = training_seconds(replace(AMOUNT, train=10), settings, Range(step, step, step), 0.0).value
    assert few == pytest.approx(10 * step * (folds_to_train(5, 10 * 8 / 32 * step, 10) * 8 + 10) / 32)
    # near the border both are possible
    around = training_seconds(AMOUNT, settings, Range.around(step, 0.12), 0.0)
    assert around.low <= around.value <= around.high
    if step == 0.2:
        # a fifth longer, and one fold fewer fits
        assert around.high < 1.1 * around.value


def test_memory_is_that_of_what_trains():
    held = Held(resident=500, peak=700)
    table = deeper_memory(AMOUNT, held, 1200, replace(FULL, buffers=65_000_000), 32)
    assert table.value - deeper_memory(AMOUNT, held, 1200, FULL, 32).value == pytest.approx(195)
    head, top, full = head_memory(AMOUNT, held, 1200), *(deeper_memory(AMOUNT, held, 1200, b, 32) for b in (TOP, FULL))
    assert head.value == 700 and head.value <= top.value < full.value
    assert full.value > 500 + 32 * 40
    assert head_memory(AMOUNT, held, 200).value > head.value
    assert deeper_memory(AMOUNT, held, 1200, FULL, 16).value < full.value


def test_disk_is_features_and_what_the_cut_keeps():
    assert head_disk(AMOUNT, 3_400_000) == pytest.approx((1200 * 1280 * 4 + 4 * (3_400_000 + 1280 * 5)) / 1e6)
    assert deeper_disk(AMOUNT, TOP) - head_disk(AMOUNT, 3_400_000) == pytest.approx(1200 * 30_000 / 1e6)
    assert deeper_disk(AMOUNT, FULL) - head_disk(AMOUNT, 3_400_000) == pytest.approx(1200 * 150_000 / 1e6)


@pytest.mark.parametrize(
    ("n", "width", "outputs", "nested", "measured"),
    [
        (40, 384, 2, True, 0.22),
        (120, 384, 6, True, 1.04),
        (244, 1280, 2, True, 0.72),
        (385, 512, 77, True, 6.84),
        (600, 1280, 40, True, 8.37),
        (1000, 384, 6, True, 2.51),
        (1000, 384, 77, True, 13.97),
        (1000, 1280, 10, True, 7.9),
        (2720, 1280, 136, True, 151),
        (5000, 1280, 10, False, 9.9),
        (10003, 384, 77, False, 58.7),
    ],
)
def test_what_a_linear_head_takes_is_what_was_measured_but_for_a_factor(n, width, outputs, nested, measured):
    assert measured / 2.5 <= probe_seconds(n, width, outputs, nested=nested) <= 2.5 * measured


def test_from_scratch_takes_longer_than_everything():
    assert scratch_seconds(AMOUNT, SETTINGS, 0.015).low > seconds(deeper_stages(AMOUNT, PACE, FULL, SETTINGS)).value


def test_few_texts_by_contrast_cost_by_steps_not_by_examples():
    small, large = (replace(AMOUNT, train=n, test=0, missing=0) for n in (48, 96))
    costs = [contrastive_stages(a, PACE, FULL, contrast_for(a.train, 20))["training"].value for a in (small, large)]
    assert costs[0] < costs[1] < 3 * costs[0]


def test_outcomes_move_a_prediction_by_their_median_and_set_its_width():
    predicted = Range.around(100, 0.12)
    assert corrected(predicted, []) == predicted
    one, many = corrected(predicted, [2.0]), corrected(predicted, [2.0] * 20)
    assert 100 < one.value < many.value < 200 and many.value > 180
    odd = corrected(predicted, [2.0] * 10 + [50.0])
    assert odd.value == pytest.approx(corrected(predicted, [2.0] * 11).value)
    varied = corrected(predicted, [1.0, 2.0, 0.5, 3.0, 0.4, 1.5])
    assert varied.high / varied.low > predicted.high / predicted.low > many.high / many.low


def test_an_outcome_counts_for_its_stage_and_device():
    outcomes = [
        Outcome("full", "net", "cpu", {"training": (10.0, 20.0)}, (500.0, 600.0)),
        Outcome("full", "net", "cuda:0", {"training": (1.0, 9.0)}),
    ]
    assert ratios(outcomes, "training", "cpu") == [2.0] and ratios(outcomes, "features", "cpu") == []
    moved = in_stages({"training": Range(10, 8, 12), "cut": Range(1, 1, 1)}, outcomes, "cpu")
    assert moved["training"].value > 10 and moved["cut"].value == 1
    assert Outcome.from_json(outcomes[0].to_json()) == outcomes[0]


@pytest.mark.parametrize("damaged", [None, [], {}, {"stages": {"a": [1]}, "train": "a", "model": "b", "device": "cpu"}, {"stages": 3}])
def test_a_damaged_outcome_is_refused(damaged):
    with pytest.raises((ValueError, TypeError, KeyError)):
        Outcome.from_json(damaged)


@pytest.mark.parametrize(
    ("event", "stage"),
    [
        ("training, fold 1 of 5", "training"),
        ("frozen part of views", "frozen part"),
        ("comparison", "features"),
        ("head, all examples", ""),
        ("features", "features"),
    ],
)
def test_stages_of_events(event, stage):
    assert stage_of(event) == stage


def test_a_head_whose_features_are_stored_holds_no_network():
    opened = Held(resident=300.0, peak=800.0)
    stored = stored_memory(replace(AMOUNT, missing=0), opened)
    assert stored_memory(replace(AMOUNT, missing=0), opened, "image").value == stored.value - 80
    assert engines_memory("image", AMOUNT, 0.1) > 400 > 0 == engines_memory("image", AMOUNT, 0.001) == engines_memory("text", AMOUNT, 0.1)
    assert engines_memory("image", replace(AMOUNT, missing=399), 9.0) == 0
    assert head_memory(AMOUNT, opened, 200, 100.0).value == pytest.approx(head_memory(AMOUNT, opened, 200).value + 100)
    assert 276 < stored.low < stored.high < head_memory(AMOUNT, opened, AMOUNT.examples).low
    assert stored_memory(replace(AMOUNT, train=10, test=0), Held(100.0, 120.0)).value == pytest.approx(120, abs=1)


def test_a_rung_opens_the_network_where_a_head_whose_features_are_stored_does_not():
    stored, missing = (replace(AMOUNT, missing=n) for n in (0, 100))
    slow = replace(PACE, setup=PACE.setup + 5)
    for amount, more in ((stored, 5), (missing, 0)):
        plain, later = (deeper_stages(amount, pace, TOP, SETTINGS)["opening"].value for pace in (PACE, slow))
        assert later - plain == pytest.approx(more)
    heads = [head_stages(missing, pace)["features"].value for pace in (PACE, slow)]
    assert heads[1] - heads[0] == pytest.approx(5)
