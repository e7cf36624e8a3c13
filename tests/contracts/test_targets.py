"""What every kind of target promises: from labels as text to figures, predictions and the bundle, and back."""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from regraft.errors import DataError
from regraft.facts import Figure
from regraft.spec import METRICS
from regraft.targets import TARGETS, Target, Wanted, find_target, target_from_json
from regraft.targets.base import Unusable
from regraft.training.head import assign_folds
from regraft.training.losses import LOSSES

N = 60


@dataclass(frozen=True)
class Case:
    """How to make labels of one kind, and scores that know something of them."""

    cells: Callable[[np.random.Generator, int], list[str]]
    outputs: list[str] | None
    dtype: type
    shape: tuple[int, ...]
    wanted: Wanted
    unusable: Sequence[str]
    damaged: Sequence[dict[str, Any]]
    smallest: list[str]
    hopeless: Sequence[list[str]]


def class_cells(rng: np.random.Generator, n: int) -> list[str]:
    return [str(c) for c in rng.permutation((["ant", "bee 10", "bee 9", "bee 09", "wäsp"] * n)[:n])]


def label_cells(rng: np.random.Generator, n: int) -> list[str]:
    names = np.array(["x", "y 10", "y 9", "z", "z 01", "z 1"])
    rows = rng.uniform(size=(n, 6)) < [0.6, 0.3, 0.3, 0.2, 0.2, 0.2]
    rows[:2] = True
    return [json.dumps(names[row].tolist()) if i % 2 else "|".join(names[row]) for i, row in enumerate(rows)]


def number_cells(rng: np.random.Generator, n: int) -> list[str]:
    return [f"{v:.3f}" for v in rng.gamma(2, 40, n) - 20]


HUGE = 10**400

CASES = {
    "class": Case(
        class_cells,
        ["ant", "bee 09", "bee 9", "bee 10", "wäsp"],
        np.int64,
        (),
        Wanted(),
        ["", "fly", "Ant"],
        [{"counts": v} for v in ([1], "ab", {"a": 1}, 3, [1.0] * 5, [True] * 5, [-1] * 5, [HUGE] * 5, [None] * 5, [math.nan] * 5, False)],
        ["a", "a", "b"],
        [[], [""], ["a", "a"], ["a", "b"]],
    ),
    "multilabel": Case(
        label_cells,
        ["x", "y 9", "y 10", "z", "z 01", "z 1"],
        np.bool_,
        (6,),
        Wanted("multilabel", "|"),
        ["[{}]", "[[]]", "[x, y]", "[" * 500 + "]"],
        [
            *({"counts": v} for v in (None, [1], "ab", 3, [1.0] * 6, [True] * 6, [-1] * 6, [HUGE] * 6, [61] * 6, [math.nan] * 6)),
            *(
                {"thresholds": v}
                for v in (None, [], [0.5], 0.5, [0] * 6, [1] * 6, [2] * 6, ["a"] * 6, [True] * 6, [math.nan] * 6, [HUGE] * 6)
            ),
            *({"examples": v} for v in (None, 0, -1, 1.5, "1", True, [1], math.nan, HUGE)),
            *({"separator": v} for v in ("", 1, ["|"], False)),
        ],
        ["a", "a|b"],
        [[], [""], ["a"], ["a", "b"], ["[]", "[]"]],
    ),
    "number": Case(
        number_cells,
        ["value"],
        np.float64,
        (),
        Wanted(),
        ["", "many", "nan", "inf", "-inf", "1e16", "1_000", "1,5", "0x1F"],
        [
            {key: v}
            for key in ("mean", "median", "half_width", "low", "high")
            for v in (None, "1", [1], True, math.nan, math.inf, -math.inf, HUGE, -HUGE)
        ]
        + [{"half_width": -1}, {"low": 5, "high": 4}],
        ["1", "2"],
        [[], [""], ["1"], ["2", "2.0"], ["a", "b"], ["nan", "1"], ["inf", "nan"]],
    ),
}


@dataclass
class Learnt:
    """A target with what folds and judging need."""

    case: Case
    cells: list[str]
    target: Target
    y: np.ndarray
    folds: np.ndarray
    outputs: np.ndarray

    @property
    def shipped(self) -> Target:
        return self.target.settle(self.y, self.outputs)


def learnt(name: str, n: int = N, seed: int = 0) -> Learnt:
    case, rng = CASES[name], np.random.default_rng(seed)
    cells = case.cells(rng, n)
    found = find_target(cells, case.wanted if name == "multilabel" else Wanted(name))
    target = found.kind.learn(cells, found.wanted)
    y = target.array([target.encode(c) for c in cells])
    folds = assign_folds(target.strata(y), [b"%d" % i for i in range(n)], 3, 0)
    return Learnt(case, cells, target, y, folds, target.link(scores(name, target, y, rng)))


def scores(name: str, target: Target, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(size=(len(y), len(target.outputs)))
    if name == "class":
        return 2 * np.eye(len(target.outputs))[y] + noise
    return 3 * y - 1.5 + noise if name == "multilabel" else y[:, None] + 5 * noise


@pytest.fixture(params=list(TARGETS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def plain(value: Any) -> Any:
    """A value after a journey through strict JSON."""
    return json.loads(json.dumps(value, allow_nan=False))


def check_figures(found: dict[str, Figure]) -> None:
    assert found
    for key, figure in found.items():
        assert all(math.isfinite(v) for v in (figure.low, figure.value, figure.high)), key
        assert figure.low <= figure.value <= figure.high, key
        rounded = plain(figure.to_json())
        assert set(rounded) == {"value", "low", "high"}


def test_every_kind_has_a_case_and_its_names_fit():
    assert set(CASES) == set(TARGETS) == set(METRICS)
    for name, kind in TARGETS.items():
        assert kind.name == name and kind.about and kind.compared and kind.cell_names
        assert kind.loss in LOSSES
        assert kind.metrics == METRICS[name]


# ---------------------------------------------------------------- labels


def test_labels_become_an_array(name: str):
    case, target, y = CASES[name], learnt(name).target, learnt(name).y
    assert target.name == name
    assert target.outputs == case.outputs
    assert y.dtype == case.dtype and y.shape == (N, *case.shape)
    assert target.array([]).shape[0] == 0 and target.array([]).dtype == case.dtype
    assert np.isfinite(y).all()
    target.check(y)
    assert target.described(learnt(name).cells)
    assert target.strangers(learnt(name).cells) == {}
    for balanced in (False, True):
        assert all(isinstance(said, str) and said for said in target.remarks(learnt(name).cells, balanced=balanced))


def test_labels_that_cannot_be_used_say_why(name: str):
    target = learnt(name).target
    for cell in CASES[name].unusable:
        with pytest.raises(Unusable) as reason:
            target.encode(cell)
        assert 5 < len(str(reason.value)) < 200


def test_the_order_of_examples_does_not_matter(name: str):
    first = learnt(name)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(N)
        cells = [first.cells[i] for i in order]
        found = find_target(cells, first.case.wanted if name == "multilabel" else Wanted(name))
        target = found.kind.learn(cells, found.wanted)
        assert target.outputs == first.target.outputs
        y, outputs, folds = first.y[order], first.outputs[order], first.folds[order]
        assert (target.array([target.encode(c) for c in cells]) == y).all()
        one, two = plain(first.shipped.to_json()), plain(target.settle(y, outputs).to_json())
        assert {k: v for k, v in one.items() if k != "mean"} == {k: v for k, v in two.items() if k != "mean"}
        decided = target.decide_out_of_fold(y, outputs, folds)
        assert (decided == first.target.decide_out_of_fold(first.y, first.outputs, first.folds)[order]).all()
        here, there = (t.figures(a, b, c) for t, a, b, c in ((first.target, y, outputs, decided), (target, y, outputs, decided)))
        assert here == there


def test_strata_hold_every_example_in_a_fold(name: str):
    found = learnt(name)
    strata = found.target.strata(found.y)
    assert len(strata) == N and all(isinstance(s, tuple) and s and all(type(k) is int for k in s) for s in strata)
    common = Counter(s for own in strata for s in own)
    assert all(found.folds[i] >= 0 for i, own in enumerate(strata) if any(common[s] > 1 for s in own))
    sizes = np.bincount(found.folds)
    assert len(sizes) == 3 and sizes.max() - sizes.min() <= 5


@pytest.mark.parametrize("each", [4, 10, 50])
def test_a_number_that_its_group_decides_can_be_held_out(each: int):
    """Ages of speakers: each bin of the number is one speaker's. Nothing was held out at all."""
    ages = np.repeat([20, 31, 39, 48, 57, 66, 75], each)
    target = TARGETS["number"].learn([str(a) for a in ages], Wanted())
    folds = assign_folds(target.strata(ages.astype(float)), [b"%d" % a for a in ages], 5, 0)
    assert set(folds) == {0, 1, 2, 3, 4}
    assert all(len(set(folds[ages == a])) == 1 for a in ages)


def test_a_single_smallest_number_is_held_out_too():
    y = np.array([-500.0, *[0.0] * 99])
    target = TARGETS["number"].learn([str(v) for v in y], Wanted())
    assert (assign_folds(target.strata(y), [b"%d" % i for i in range(100)], 5, 0) >= 0).all()


def test_numbers_of_all_sizes_are_in_every_fold():
    y = np.random.default_rng(0).exponential(size=200) ** 2
    target = TARGETS["number"].learn([str(v) for v in y], Wanted())
    folds = assign_folds(target.strata(y), [b"%d" % i for i in range(200)], 5, 0)
    assert np.bincount(folds).tolist() == [40] * 5
    for low in range(0, 200, 20):
        assert np.bincount(folds[np.argsort(y)[low : low + 20]], minlength=5).min() >= 2


@pytest.mark.parametrize("cells", [c for case in CASES.values() for c in case.hopeless])
def test_labels_that_say_nothing_are_a_data_error(cells: list[str]):
    for name, case in CASES.items():
        if cells in case.hopeless:
            with pytest.raises(DataError):
                TARGETS[name].learn(cells, case.wanted)


def test_the_smallest_set_goes_all_the_way(name: str):
    case = CASES[name]
    target = TARGETS[name].learn(case.smallest, case.wanted)
    y = target.array([target.encode(c) for c in case.smallest])
    target.check(y)
    assert len(target.strata(y)) == len(y)
    outputs = target.link(scores(name, target, y, np.random.default_rng(0)))
    decided = target.decide_out_of_fold(y, outputs, np.arange(len(y)))
    for some in (slice(None), slice(0, 1)):
        check_figures(target.figures(y[some], outputs[some], decided[some]))
        plain(target.details(y[some], outputs[some], decided[some]))
        plain(target.constant(y[some]))
    shipped = target.settle(y, outputs)
    assert target_from_json(plain(shipped.to_json()), target.outputs) == shipped


# ---------------------------------------------------------------- outputs and decisions


def test_outputs_are_single_precision_and_readable(name: str):
    found = learnt(name)
    raw = scores(name, found.target, found.y, np.random.default_rng(1))
    before = raw.copy()
    outputs = found.target.link(raw)
    assert (raw == before).all()
    assert outputs.dtype == np.float32 and outputs.shape == (N, len(found.target.outputs))
    read = found.target.readable(outputs)
    assert read.shape == outputs.shape and np.isfinite(read).all()
    if name != "number":
        assert (read >= 0).all() and (read <= 1).all()
    for row in (0, 7):
        assert (found.target.link(raw[row : row + 1]) == outputs[row : row + 1]).all(), "one row by itself gives the same bits"
    sure = found.target.readable(found.target.link(np.where(raw > 0, 2000.0, -2000.0)))
    assert np.isfinite(sure).all()
    assert np.isnan(found.target.readable(np.full_like(outputs, np.nan))).all(), "rows that were never held out"


def test_decisions_out_of_fold_never_look_at_their_own_labels(name: str):
    found = learnt(name)
    before = found.target.decide_out_of_fold(found.y, found.outputs, found.folds)
    assert len(before) == N
    for fold in range(3):
        inside = found.folds == fold
        y = found.y.copy()
        y[inside] = y[inside][::-1] if name != "number" else 1e6
        after = found.target.decide_out_of_fold(y, found.outputs, found.folds)
        assert (after[inside] == before[inside]).all()


def test_a_single_fold_still_decides(name: str):
    found = learnt(name)
    decided = found.shipped.decide_out_of_fold(found.y, found.outputs, np.zeros(N, int))
    assert decided.shape == found.shipped.decide(found.outputs).shape


def test_settling_skips_what_was_never_held_out(name: str):
    found = learnt(name)
    outputs = found.outputs.copy()
    outputs[:10] = np.nan
    whole, rest = found.target.settle(found.y, outputs), found.target.settle(found.y[10:], outputs[10:])
    learnt_keys = {"thresholds", "half_width"} & set(whole.to_json())
    assert {k: whole.to_json()[k] for k in learnt_keys} == {k: rest.to_json()[k] for k in learnt_keys}
    plain(whole.to_json())
    assert whole.outputs == found.target.outputs


def test_judgeable_leaves_all_where_all_can_stand_apart(name: str):
    found = learnt(name)
    view, columns = found.target.judgeable(dict.fromkeys(range(20), 5))
    assert view is found.target and columns == slice(None) and found.target.unjudged(columns) == ""


def test_labels_that_cannot_be_judged_are_named_and_left_out():
    found = learnt("multilabel")
    view, columns = found.target.judgeable({0: 5, 1: 1, 3: 2, 4: 9, 5: 9, 6: 4})
    assert columns == [0, 3, 4, 5] and view.outputs == ["x", "z", "z 01", "z 1"]
    said = found.target.unjudged(columns)
    assert "y 9" in said and "y 10" in said
    y, outputs = found.y[:, columns], found.outputs[:, columns]
    decided = view.decide_out_of_fold(y, outputs, found.folds)
    check_figures(view.figures(y, outputs, decided))
    assert [row["label"] for row in view.details(y, outputs, decided)["each_label"]] == view.outputs
    plain(view.constant(y))
    shipped = found.target.settle(found.y, found.outputs, columns)
    assert shipped.outputs == found.target.outputs
    assert target_from_json(plain(shipped.to_json()), shipped.outputs) == shipped
    with pytest.raises(DataError):
        found.target.judgeable({0: 1, 6: 10})


# ---------------------------------------------------------------- judging


def test_figures_constant_and_details(name: str):
    found = learnt(name)
    decided = found.target.decide_out_of_fold(found.y, found.outputs, found.folds)
    figures = found.target.figures(found.y, found.outputs, decided)
    check_figures(figures)
    assert set(found.target.metrics) <= set(figures)
    plain(found.target.details(found.y, found.outputs, decided))
    constant = plain(found.target.constant(found.y))
    assert isinstance(constant["says"], str) and constant["says"]
    first = found.target.metrics[0]
    assert set(constant["metrics"]) <= set(figures) and first in constant["metrics"]
    value = constant["metrics"][first]["value"]
    assert figures[first].value < value if name == "number" else figures[first].value > value


def test_parts_without_some_labels_can_be_judged(name: str):
    """A test part with one value only, with one example, with no label at all."""
    found = learnt(name)
    shipped = found.shipped
    parts = [np.flatnonzero((found.y == found.y[k]).reshape(N, -1).all(1)) for k in (0, 1, 5)]
    for part in (*parts, np.array([3])):
        y, outputs = found.y[part], found.outputs[part]
        check_figures(shipped.figures(y, outputs, shipped.decide(outputs)))
        plain(shipped.details(y, outputs, shipped.decide(outputs)))
        plain(shipped.constant(y))
    if name == "multilabel":
        y = np.zeros_like(found.y)
        check_figures(shipped.figures(y, found.outputs, shipped.decide(found.outputs)))
        plain(shipped.details(y, found.outputs, shipped.decide(found.outputs)))
        plain(shipped.constant(y))


def test_what_choices_are_made_by_is_higher_for_better(name: str):
    found = learnt(name)
    good = LOSSES[found.target.loss].decide(torch.from_numpy(found.outputs))
    bad = np.roll(good, 1, 0)
    perfect = found.y
    for metric in found.target.metrics:
        values = [found.target.score(metric, found.y, said) for said in (bad, good, perfect)]
        assert all(math.isfinite(v) for v in values)
        if metric != "log_loss" or name == "number":
            assert values[0] < values[1] < values[2], metric
        gains = found.target.gains(metric, found.y, good)
        assert gains.shape == (N,) and gains.dtype == np.float64
        assert gains.mean() > found.target.gains(metric, found.y, bad).mean()
    decided = found.shipped.decide(found.outputs)
    assert found.target.gains(found.target.compared, found.y, decided).shape == (N,)
    assert found.target.difference(Figure(0.1, -0.1, 0.2))


def test_a_metrics_own_value_is_that_of_the_figures(name: str):
    found = learnt(name)
    said = LOSSES[found.target.loss].decide(torch.from_numpy(found.outputs))
    decided = said if name == "multilabel" else found.target.decide(found.outputs)
    figures = found.target.figures(found.y, found.outputs, decided)
    for metric in found.target.metrics:
        assert found.target.value(metric, found.y, found.outputs, said) == pytest.approx(figures[metric].value, rel=1e-5), metric


# ---------------------------------------------------------------- shipping


def test_predictions_fit_their_header(name: str):
    shipped = learnt(name).shipped
    for row in learnt(name).outputs[:10]:
        said = shipped.prediction("some file", row)
        assert len(said.cells()) == len(shipped.columns())
        assert all(isinstance(c, str) for c in (*said.cells(), *said.short(), *shipped.columns()))
        found = plain(said.to_json())
        assert found["name"] == "some file"
        if name == "number":
            assert found["low"] <= found["value"] <= found["high"] and type(found["value"]) is float
        else:
            assert list(found["probabilities"]) == shipped.outputs
            assert all(type(p) is float for p in found["probabilities"].values())
        (decided,) = shipped.decide(row[None])
        if name == "class":
            assert found["label"] == shipped.outputs[int(decided)]
        elif name == "multilabel":
            assert found["labels"] == [label for label, there in zip(shipped.outputs, decided, strict=True) if there]
        else:
            assert [found["value"], found["high"] - found["value"]] == pytest.approx(decided.tolist())


def test_rows_of_the_out_of_fold_table(name: str):
    found = learnt(name)
    decided = found.target.decide_out_of_fold(found.y, found.outputs, found.folds)
    for k in range(10):
        cells = found.target.cells(found.outputs[k], decided[k], found.y[k])
        assert len(cells) == len(found.target.cell_names) and all(isinstance(c, str) and c for c in cells)
        truth, said = (found.target.array([value])[0] for value in found.target.read_cells(cells))
        assert np.allclose(truth, found.y[k]) and np.allclose(said, np.atleast_1d(decided[k])[0] if name == "number" else decided[k])


def test_a_row_that_was_never_held_out_has_its_label_and_nothing_else(name: str):
    """One example with the only label of its kind; the table of a fit of several labels failed on it."""
    found = learnt(name)
    held = found.target.cells(found.outputs[0], found.target.decide(found.outputs)[0], found.y[0])
    cells = found.target.cells(np.full(len(found.target.outputs), np.nan, np.float32), None, found.y[0])
    assert cells == [held[0], *[""] * (len(held) - 1)]
    assert found.target.read_cells(cells)[1] is None


def test_numbers_in_the_out_of_fold_table_keep_their_digits():
    found = learnt("number")
    cells = found.target.cells(np.array([1234567.5], np.float32), np.array([1234567.5, 0.25]), 1234568.25)
    assert [float(c) for c in cells] == pytest.approx([1234568.25, 1234567.5, 1234567.25, 1234567.75], abs=0.02)


def test_the_bundles_json_and_back(name: str):
    shipped = learnt(name).shipped
    values = plain(shipped.to_json())
    assert values["kind"] == name
    back = target_from_json(values, list(shipped.outputs))
    assert back == shipped and back.to_json() == shipped.to_json()
    outputs = learnt(name).outputs
    assert (back.decide(outputs) == shipped.decide(outputs)).all()
    assert plain(back.constant(learnt(name).y)) == plain(shipped.constant(learnt(name).y))


def test_damaged_json_is_a_value_error(name: str):
    shipped = learnt(name).shipped
    whole = plain(shipped.to_json())
    for change in CASES[name].damaged:
        with pytest.raises(ValueError, match="target"):
            target_from_json({**copy.deepcopy(whole), **change}, shipped.outputs)
    for kind in (None, 1, [], {}, "", "classes", ["class"]):
        with pytest.raises(ValueError, match="target"):
            target_from_json({**whole, "kind": kind}, shipped.outputs)
    with pytest.raises(ValueError, match="target"):
        target_from_json(whole, [*shipped.outputs, "one more"])
    with pytest.raises(ValueError, match="target"):
        target_from_json({}, shipped.outputs)
    for key in set(whole) - {"kind", "separator"}:
        less = {k: v for k, v in whole.items() if k != key}
        if (name, key) != ("class", "counts"):
            with pytest.raises(ValueError, match="target"):
                target_from_json(less, shipped.outputs)


def test_bundles_of_format_1_have_classes_and_their_counts_or_none():
    for counts in ([3, 4], None, []):
        target = target_from_json({"kind": "class", "counts": counts}, ["a", "b"])
        assert target.outputs == ["a", "b"]
        assert plain(target.constant(np.array([1, 1, 0])))["says"] == "b"
