"""Figures of several labels against scikit-learn and known values, and intervals that mean what they say."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest

from regraft.evaluation.labels import average_precision, each_label, example_f1, figures, label_scores, losses
from regraft.facts import Figure

NAMES = ("f1_micro", "f1_macro", "mean_average_precision", "exact", "log_loss")

Said = tuple[np.ndarray, np.ndarray, np.ndarray]


def said(n: int, k: int, skill: float, seed: int = 0, ties: bool = False) -> Said:
    """Labels of unequal frequency, log-odds that know something of them, and decisions."""
    rng = np.random.default_rng(seed)
    rates = np.linspace(0.5, 0.1, k)
    y = rng.uniform(size=(n, k)) < rates
    outputs = (skill * (2 * y - 1) + rng.normal(size=(n, k)) * 2 + np.log(rates / (1 - rates))).astype(np.float32)
    if ties:
        outputs = np.round(outputs)
    return y, outputs, outputs >= 0


def theirs(y: np.ndarray, outputs: np.ndarray, decided: np.ndarray) -> dict[str, float]:
    """The same figures from scikit-learn; it is asked for the labels that regraft counts."""
    metrics: Any = pytest.importorskip("sklearn.metrics")
    counted = [k for k in range(y.shape[1]) if y[:, k].any() or decided[:, k].any()]
    occur = [k for k in range(y.shape[1]) if y[:, k].any()]
    chances = 1 / (1 + np.exp(-outputs.astype(np.float64)))
    whole, own = y.astype(int), decided.astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranked = metrics.average_precision_score(whole[:, occur], outputs[:, occur], average="macro") if occur else 0.0
        return {
            "f1_micro": metrics.f1_score(whole, own, average="micro", zero_division=0),
            "f1_macro": metrics.f1_score(whole, own, average="macro", zero_division=0, labels=counted) if counted else 0.0,
            "mean_average_precision": ranked,
            "exact": metrics.accuracy_score(whole, own),
            "log_loss": float(np.mean([metrics.log_loss(whole[:, k], chances[:, k], labels=[0, 1]) for k in range(y.shape[1])])),
        }


def check(case: Said) -> dict[str, Figure]:
    """The figures, after comparing them with scikit-learn's and looking at their intervals."""
    found = figures(*case)
    assert tuple(found) == NAMES
    for name, value in theirs(*case).items():
        assert found[name].value == pytest.approx(value, rel=1e-5, abs=1e-9), name
    for name, figure in found.items():
        assert figure.low <= figure.value <= figure.high, name
        assert all(math.isfinite(v) for v in (figure.low, figure.value, figure.high)), name
        json.dumps(figure.to_json(), allow_nan=False)
        assert name == "log_loss" or (figure.low >= 0 and figure.high <= 1), name
    plain = label_scores(case[0], case[2])
    assert plain == {name: pytest.approx(found[name].value) for name in ("f1_micro", "f1_macro")}
    return found


@pytest.mark.parametrize(("n", "k"), [(300, 5), (40, 12), (200, 2), (30, 1)])
@pytest.mark.parametrize("skill", [0.0, 1.0, 4.0])
def test_values_agree_with_scikit_learn(n, k, skill):
    case = said(n, k, skill)
    if k > 1:
        check(case)
    else:
        # scikit-learn takes one column of labels as two classes
        y, outputs, decided = case
        two = tuple(np.concatenate([a, a], 1) for a in case)
        assert figures(y, outputs, decided)["f1_macro"].value == pytest.approx(theirs(*two)["f1_macro"])
        assert figures(y, outputs, decided)["mean_average_precision"].value == pytest.approx(theirs(*two)["mean_average_precision"])


@pytest.mark.parametrize("skill", [0.0, 1.0])
def test_equal_outputs_count_together_as_in_scikit_learn(skill):
    case = said(120, 4, skill, ties=True)
    assert len(np.unique(case[1])) < 30
    check(case)
    order = np.random.default_rng(1).permutation(120)
    shuffled = average_precision(case[0][order], case[1][order])
    assert shuffled == pytest.approx(average_precision(case[0], case[1])), "the order of ties does not matter"


def test_outputs_that_are_all_equal_are_worth_the_rate():
    y = said(100, 3, 0.0)[0]
    assert average_precision(y, np.zeros((100, 3), np.float32)) == pytest.approx(y.mean(0).mean())


def test_labels_that_do_not_occur_do_not_count():
    y, outputs, decided = said(60, 5, 1.0)
    y[:, 3] = y[:, 4] = False
    decided[:, 4] = False
    found = check((y, outputs, decided))
    without = figures(y[:, :3], outputs[:, :3], decided[:, :3])
    assert found["mean_average_precision"].value == pytest.approx(without["mean_average_precision"].value)
    assert found["f1_macro"].value < without["f1_macro"].value, "one that is said and does not occur counts as nothing"


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_examples(n):
    for seed in range(10):
        check(said(n, 3, 1.0, seed))


def test_rows_without_labels():
    y, outputs, decided = said(50, 3, 1.0)
    none = np.zeros_like(y)
    for case in ((none, outputs, decided), (none, outputs, none), (y, outputs, none), (none[:1], outputs[:1], none[:1])):
        check(case)
    assert figures(none, outputs, none)["exact"].value == 1
    bare = y.copy()
    bare[:25] = False
    check((bare, outputs, decided))


@pytest.mark.parametrize("n", [1, 4, 30, 300])
def test_perfect_predictions_still_have_an_interval(n):
    y = np.random.default_rng(0).uniform(size=(n, 3)) < 0.5
    y[0] = True
    found = check((y, np.where(y, 9, -9).astype(np.float32), y))
    for name in ("f1_micro", "f1_macro", "mean_average_precision", "exact"):
        assert found[name].value == found[name].high == 1
        assert 1 - 6 / n < found[name].low < 1 - 0.3 / n, name


def test_predictions_that_are_all_wrong():
    y = np.random.default_rng(0).uniform(size=(30, 3)) < 0.5
    found = check((y, np.where(y, -9, 9).astype(np.float32), ~y))
    assert found["f1_micro"].value == found["f1_macro"].value == found["exact"].value == 0
    assert found["exact"].high > 0


def test_sure_outputs_stay_finite():
    y = np.array([[True, False], [False, True]])
    outputs = np.array([[300, -300], [300, -300]], np.float32)
    np.testing.assert_allclose(losses(y, outputs), [[0, 0], [300, 300]], atol=1e-9)
    assert math.isfinite(figures(y, outputs, outputs > 0)["log_loss"].value)


def test_the_f1_of_examples_by_hand():
    y = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 1]], bool)
    decided = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
    assert example_f1(y, decided) == pytest.approx([2 / 3, 1, 0, 0, 1])


def test_weights_are_repeated_examples():
    """What the bootstrap rests on: a weight of two is the example twice, and of nothing is without it."""
    y, outputs, _ = said(40, 4, 1.0, ties=True)
    weights = np.random.default_rng(0).integers(0, 3, (5, 40))
    found = average_precision(y, outputs, weights.astype(np.float32))
    assert found.shape == (5,)
    for row, value in zip(weights, found, strict=True):
        chosen = np.repeat(np.arange(40), row)
        assert value == pytest.approx(average_precision(y[chosen], outputs[chosen]))


def test_each_label_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    y, outputs, decided = said(100, 4, 1.0)
    y[:, 2] = False
    decided[:, 3] = False
    rows = each_label(y, outputs, decided, ["a", "b", "c", "d"])
    assert [r["label"] for r in rows] == ["a", "b", "c", "d"]
    assert [r["n"] for r in rows] == y.sum(0).tolist()
    for k in (0, 1):
        assert rows[k]["precision"] == pytest.approx(metrics.precision_score(y[:, k], decided[:, k]), abs=1e-6)
        assert rows[k]["recall"] == pytest.approx(metrics.recall_score(y[:, k], decided[:, k]), abs=1e-6)
        assert rows[k]["f1"] == pytest.approx(metrics.f1_score(y[:, k], decided[:, k]), abs=1e-6)
        assert rows[k]["average_precision"] == pytest.approx(metrics.average_precision_score(y[:, k], outputs[:, k]), abs=1e-6)
    assert (rows[2]["recall"], rows[2]["average_precision"], rows[2]["f1"]) == (None, None, 0)
    assert (rows[3]["precision"], rows[3]["recall"], rows[3]["f1"]) == (None, 0, 0)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


@pytest.mark.parametrize("name", NAMES)
def test_intervals_shrink_with_more_examples(name):
    widths = []
    for n in (60, 600, 6000):
        figure = figures(*said(n, 3, 1.0))[name]
        widths.append(figure.high - figure.low)
    assert widths[0] / widths[2] == pytest.approx(10, rel=0.7), "a hundred times the examples, a tenth of the width"


@pytest.mark.parametrize("skill", [0.7, 2.0])
def test_intervals_cover_the_truth_about_as_often_as_they_say(skill):
    """80 samples of a large population: 95 % intervals should miss about 4 of them.

    The bootstrap misses a few more; of average precision, which repeated examples raise, about 15 % at this size.
    """
    y, outputs, decided = said(20_000, 3, skill)
    truth = {name: figure.value for name, figure in figures(y, outputs, decided).items()}
    rng = np.random.default_rng(1)
    covered = dict.fromkeys(NAMES, 0)
    for _ in range(80):
        chosen = rng.integers(20_000, size=100)
        found = figures(y[chosen], outputs[chosen], decided[chosen])
        for name in NAMES:
            covered[name] += found[name].low <= truth[name] <= found[name].high
    assert covered.pop("mean_average_precision") >= 60 and all(count >= 69 for count in covered.values()), covered
    assert covered["f1_micro"] <= 79 and covered["log_loss"] <= 119, "intervals that always cover are too wide"


def test_the_same_input_gives_the_same_figures_and_changes_nothing():
    case = said(80, 4, 1.0)
    before = [a.tobytes() for a in case]
    assert figures(*case) == figures(*case)
    assert [a.tobytes() for a in case] == before


def test_what_choices_are_made_by_are_the_metrics_that_can_be_asked_for():
    from regraft.spec import METRICS
    from regraft.targets import TARGETS

    assert {name: kind.metrics for name, kind in TARGETS.items()} == METRICS
