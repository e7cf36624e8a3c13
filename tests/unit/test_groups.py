"""Groups: examples of one patient, speaker or drawer stay on one side of every fold and split."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from regraft.data.base import TEST, TRAIN, Asked
from regraft.data.open import open_data, set_aside
from regraft.errors import DataError, UsageError
from regraft.jobs.common import EXTENSIONS, asked
from regraft.training.head import assign_folds, bound_together


def table(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label", "speaker"), *rows])
    return path


def spoken(speakers: int = 6, each: int = 4) -> list[tuple[str, str, str]]:
    return [(f"word {i} of {s}", "yes" if i % 2 else "no", f"s{s}") for s in range(speakers) for i in range(each)]


def test_without_groups_content_alone_binds():
    assert bound_together([b"a", b"b", b"a"], None) == [b"a", b"b", b"a"]


def test_a_group_and_equal_content_bind_in_chains():
    names = bound_together([b"a", b"b", b"b", b"c", b"d"], ["x", "x", "y", "y", "z"])
    assert len(set(names[:4])) == 1 and names[4] not in names[:4]


def test_examples_without_a_group_are_bound_by_content_only():
    names = bound_together([b"a", b"b", b"a"], [None, "x", None])
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_ever_in_two_folds_and_folds_are_even(seed):
    rng = np.random.default_rng(seed)
    groups = [f"g{g}" for g in rng.integers(20, size=200)]
    labels = rng.integers(3, size=200)
    folds = assign_folds(labels, bound_together([b"%d" % i for i in range(200)], groups), 5, seed)
    found = defaultdict(set)
    for group, fold in zip(groups, folds.tolist(), strict=True):
        found[group].add(fold)
    assert all(len(where) == 1 for where in found.values())
    sizes = np.bincount(folds)
    assert len(sizes) == 5 and sizes.max() <= 2 * sizes.min()


def test_fewer_groups_than_folds_give_fewer_folds():
    folds = assign_folds(np.array([0, 1] * 6), bound_together([b"%d" % i for i in range(12)], ["a"] * 6 + ["b"] * 6), 5, 0)
    assert sorted(set(folds.tolist())) == [0, 1]


def test_a_table_gives_its_groups_and_the_column_is_not_the_label(tmp_path: Path):
    data = table(tmp_path / "t.csv", spoken())
    dataset = open_data(data, asked(None, None, None, group="speaker"))
    assert {e.group for e in dataset.examples} == {f"s{i}" for i in range(6)}
    assert {e.label for e in dataset.examples} == {"yes", "no"}
    assert any("speaker" in said for said in dataset.said)


def test_a_missing_group_is_left_out_by_line(tmp_path: Path):
    data = table(tmp_path / "t.csv", [*spoken(2), ("lonely", "yes", "")])
    dataset = open_data(data, asked(None, None, None, group="speaker"))
    assert [(item.name, item.reason) for item in dataset.left_out] == [("t.csv, line 10: lonely", "the group is missing")]


def test_a_group_column_that_is_not_there_names_the_nearest(tmp_path: Path):
    with pytest.raises(UsageError, match="did you mean 'speaker'"):
        open_data(table(tmp_path / "t.csv", spoken()), asked(None, None, None, group="speakers"))


def test_a_list_has_no_group_column():
    with pytest.raises(UsageError, match="group='speaker'"):
        open_data([("a", "x"), ("b", "y")], Asked("text", extensions=EXTENSIONS, group="speaker"))


def test_a_frame_gives_its_groups():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(spoken(), columns=["text", "label", "speaker"])
    dataset = open_data(frame, asked(None, None, None, group="speaker"))
    assert {e.group for e in dataset.examples} == {f"s{i}" for i in range(6)}


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_whole_groups_are_set_aside(tmp_path: Path, fraction: float):
    dataset = open_data(table(tmp_path / "t.csv", spoken(10)), asked(None, None, None, group="speaker"))
    set_aside(dataset, fraction, seed=1)
    train, test = ({e.group for e in dataset.part(part)} for part in (TRAIN, TEST))
    assert train and test and not train & test
    assert abs(len(dataset.part(TEST)) / len(dataset.examples) - fraction) <= 0.05


def test_one_group_cannot_be_divided(tmp_path: Path):
    dataset = open_data(table(tmp_path / "t.csv", spoken(1)), asked(None, None, None, group="speaker"))
    with pytest.raises(DataError, match="one group only"):
        set_aside(dataset, 0.2, seed=0)


@pytest.mark.weights
def test_a_fit_keeps_groups_together_and_says_when_both_parts_share_one(tmp_path: Path):
    import regraft

    data = table(tmp_path / "t.csv", spoken())
    test = table(tmp_path / "held.csv", [("another word", "yes", "s1"), ("one more word", "no", "new")])
    run = regraft.fit(data, group="speaker", test=test, out=str(tmp_path / "run"), threads=1)
    found = defaultdict(set)
    with open(run.path / "out_of_fold.csv", encoding="utf-8", newline="") as file:
        for (_, _, speaker), row in zip(spoken(), csv.DictReader(file), strict=True):
            found[speaker].add(row["fold"])
    assert len(found) == 6 and all(len(where) == 1 for where in found.values())
    assert any("1 groups stand in both parts (s1)" in said for said in run.result["warned"])


@pytest.mark.weights
def test_two_groups_give_an_estimate_that_says_it_is_not_nested(tmp_path: Path):
    import regraft

    run = regraft.fit(table(tmp_path / "t.csv", spoken(2, 8)), group="speaker", out=str(tmp_path / "run"), threads=1)
    assert run.result["estimate_how"] == "2-fold cross-validation, not nested: too few groups"
    assert any("two folds only" in said for said in run.result["warned"])


@pytest.mark.weights
def test_one_group_cannot_be_judged(tmp_path: Path):
    import regraft

    with pytest.raises(DataError, match="one group only"):
        regraft.fit(table(tmp_path / "t.csv", spoken(1, 8)), group="speaker", out=str(tmp_path / "run"), threads=1)
