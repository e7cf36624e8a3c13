"""Figures against scikit-learn and known values, and intervals that mean what they say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from regraft.evaluation.classes import (
    SCORES,
    calibration_error,
    confusion_json,
    confusion_table,
    figures,
    mean_interval,
    paired_difference,
    wilson,
)

NAMES = ("accuracy", "balanced_accuracy", "f1_macro", "log_loss", "calibration_error")


def said(n: int, classes: int, skill: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of unequal frequency and log-probabilities (n, classes) that know something of them."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, size=n, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    scores = rng.normal(size=(n, classes)) + skill * np.eye(classes)[labels]
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return labels, logs.astype(np.float32)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # the other end of the same
        (20, 20, 0.8389, 1.0),
        (28, 29, 0.8282, 0.9939),
    ],
)
def test_wilson_against_published_values(right, n, low, high):
    figure = wilson(right, n)
    assert figure.value == right / n
    assert figure.low == pytest.approx(low, abs=6e-5)
    assert figure.high == pytest.approx(high, abs=6e-5)


@pytest.mark.parametrize(("classes", "skill"), [(2, 1.0), (5, 2.0), (12, 0.5)])
def test_values_agree_with_scikit_learn(classes, skill):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, logs = said(300, classes, skill)
    predicted = logs.argmax(1)
    found = {name: figure.value for name, figure in figures(labels, logs).items()}
    assert set(found) == set(NAMES)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert found["f1_macro"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    chances = np.exp(logs.astype(np.float64))
    chances /= chances.sum(1, keepdims=True)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, chances, labels=np.arange(classes)), rel=1e-5)
    assert SCORES["accuracy"](labels, predicted, classes) == pytest.approx(found["accuracy"])
    assert SCORES["balanced_accuracy"](labels, predicted, classes) == pytest.approx(found["balanced_accuracy"])
    assert SCORES["f1_macro"](labels, predicted, classes) == pytest.approx(found["f1_macro"])


def test_classes_that_do_not_occur_do_not_count():
    """As scikit-learn: recall over the classes that occur, F1 over those that occur or are predicted."""
    metrics = pytest.importorskip("sklearn.metrics")
    labels, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 1, 0])
    logs = np.log(np.full((5, 5), 0.05) + 0.75 * np.eye(5)[predicted])
    with pytest.warns(UserWarning, match="not in y_true"):
        expected = metrics.balanced_accuracy_score(labels, predicted)
    found = figures(labels, logs)
    assert found["balanced_accuracy"].value == pytest.approx(expected)
    assert found["f1_macro"].value == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))


def test_confusion_table_has_the_truth_in_rows():
    metrics = pytest.importorskip("sklearn.metrics")
    labels, logs = said(100, 4, 1.0)
    table = confusion_table(labels, logs.argmax(1), 4)
    assert (table == metrics.confusion_matrix(labels, logs.argmax(1), labels=range(4))).all()
    plain = confusion_json(np.array([0, 0, 1]), np.array([0, 1, 1]), ["ant", "bee"])
    assert json.loads(json.dumps(plain)) == {"labels": ["ant", "bee"], "rows": [[1, 1], [0, 1]]}


@pytest.mark.parametrize("n", [1, 2, 7, 40, 400])
@pytest.mark.parametrize("skill", [0.0, 2.0, 50.0])
def test_intervals_contain_the_value_and_are_plain_numbers(n, skill):
    for classes in (2, 6):
        labels, logs = said(n, classes, skill)
        for name, figure in figures(labels, logs).items():
            assert figure.low <= figure.value <= figure.high, name
            assert all(math.isfinite(v) for v in (figure.low, figure.value, figure.high)), name
            json.dumps(figure.to_json(), allow_nan=False)
            if name != "log_loss":
                assert figure.low >= 0 and figure.high <= 1, name


@pytest.mark.parametrize("name", NAMES)
def test_intervals_shrink_with_more_examples(name):
    widths = []
    for n in (60, 600, 6000):
        figure = figures(*said(n, 3, 1.0))[name]
        widths.append(figure.high - figure.low)
    assert widths[0] > widths[1] > widths[2] > 0
    if name != "calibration_error":
        assert widths[0] / widths[2] == pytest.approx(10, rel=0.5), "a hundred times the examples, a tenth of the width"


@pytest.mark.parametrize("n", [4, 30, 300])
def test_perfect_predictions_still_have_an_interval(n):
    labels = np.arange(n) % 2
    found = figures(labels, np.log(np.where(np.eye(2)[labels] > 0, 0.999, 0.001)))
    for name in ("accuracy", "balanced_accuracy", "f1_macro"):
        assert found[name].value == found[name].high == 1
        assert 1 - 6 / n < found[name].low < 1 - 0.5 / n, name


@pytest.mark.parametrize("n", [4, 30])
def test_predictions_that_are_all_wrong_still_have_an_interval(n):
    labels = np.arange(n) % 2
    found = figures(labels, np.log(np.where(np.eye(2)[labels] > 0, 0.001, 0.999)))
    for name in ("accuracy", "balanced_accuracy"):
        assert found[name].value == found[name].low == 0 < found[name].high, name


def balanced(labels: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean([(predicted[labels == k] == k).mean() for k in np.unique(labels)]))


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    each = [2 * ((labels == k) & (predicted == k)).sum() / ((labels == k).sum() + (predicted == k).sum()) for k in np.unique(labels)]
    return float(np.mean(each))


TRUTHS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda labels, logs: float((logs.argmax(1) == labels).mean()),
    "balanced_accuracy": lambda labels, logs: balanced(labels, logs.argmax(1)),
    "f1_macro": lambda labels, logs: macro_f1(labels, logs.argmax(1)),
    "log_loss": lambda labels, logs: float(-logs[np.arange(len(labels)), labels].mean()),
}


@pytest.mark.parametrize(("n", "skill"), [(60, 1.5), (150, 3.0)])
def test_intervals_cover_the_truth_about_as_often_as_they_say(n, skill):
    """200 samples of a large population: 95 % intervals should miss about 10 of them; below 88 % would be a wrong formula."""
    labels, logs = said(40_000, 3, skill)
    truth = {name: measure(labels, logs) for name, measure in TRUTHS.items()}
    rng = np.random.default_rng(1)
    covered = dict.fromkeys(TRUTHS, 0)
    for _ in range(200):
        chosen = rng.integers(len(labels), size=n)
        found = figures(labels[chosen], logs[chosen])
        for name in covered:
            covered[name] += found[name].low <= truth[name] <= found[name].high
    assert all(count >= 176 for count in covered.values()), covered
    assert covered["accuracy"] <= 199 and covered["log_loss"] <= 199, "intervals that always cover are too wide"


def test_mean_interval_is_the_normal_one():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    half = 1.959964 * values.std(ddof=1) / 2
    figure = mean_interval(values)
    assert (figure.value, figure.low, figure.high) == pytest.approx((2.5, 2.5 - half, 2.5 + half))


def test_calibration_error_of_one_who_boasts():
    """Always 99 % sure and right half of the time: the error is 0.49."""
    labels = np.tile([0, 1], 500)
    figure = calibration_error(labels, np.log(np.tile([0.99, 0.01], (1000, 1))))
    assert figure.value == pytest.approx(0.49)
    assert figure.low > 0.4


def test_calibration_error_of_honest_probabilities_is_small():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 20_000)
    labels = (rng.uniform(size=20_000) > sure).astype(int)
    figure = calibration_error(labels, np.log(np.stack([sure, 1 - sure], 1)))
    assert figure.value < 0.02
    assert calibration_error(labels, np.log(np.stack([sure**0.2, 1 - sure**0.2], 1))).value > 0.1


def test_calibration_error_by_hand():
    """Ten bins of ten examples each, computed as the definition says."""
    rng = np.random.default_rng(3)
    sure = np.sort(rng.uniform(0.5, 1, 100))
    right = rng.uniform(size=100) < 0.7
    logs = np.log(np.stack([sure, 1 - sure], 1))
    expected = np.mean([abs(sure[i : i + 10].mean() - right[i : i + 10].mean()) for i in range(0, 100, 10)])
    order = rng.permutation(100)
    assert calibration_error(np.where(right, 0, 1)[order], logs[order]).value == pytest.approx(expected)


def test_paired_difference_counts_only_where_two_models_differ():
    labels = np.zeros(100, int)
    ours, theirs = np.zeros(100, int), np.zeros(100, int)
    theirs[:30] = 1
    ours[30:40] = 1
    figure = paired_difference(labels, ours, theirs)
    assert figure.value == pytest.approx(0.2)
    assert 0 < figure.low < 0.2 < figure.high < 0.4
    back = paired_difference(labels, theirs, ours)
    assert (back.value, back.low, back.high) == pytest.approx((-figure.value, -figure.high, -figure.low))
    same = paired_difference(labels, ours, ours)
    assert same.value == 0 and same.low <= 0 <= same.high


def test_the_same_input_gives_the_same_figures():
    labels, logs = said(80, 4, 1.0)
    assert figures(labels, logs) == figures(labels, logs)


def test_what_choices_are_made_by_are_the_metrics_that_can_be_asked_for():
    from regraft.spec import METRICS

    assert set(SCORES) == set(METRICS["class"])
