"""The rules as tables: facts in, decisions out."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from regraft.spec import FitSpec
from regraft.strategy.rules import MAX_FOLDS, STRENGTHS, fold_count, is_nested, weak_spots
from regraft.strategy.rungs import AS_IT_IS, RUNGS


@pytest.mark.parametrize(
    ("sizes", "folds"),
    [
        ([100, 100], 5),
        ([5, 1000], 5),
        ([5, 5], 5),
        ([4, 3], 4),
        ([4, 2, 1], 4),
        ([3, 3], 3),
        ([2, 2], 3),
        ([2, 1], 3),
        ([1, 1], 3),
        ([], 3),
        ([1, 1, 1, 1, 7], 5),
    ],
)
def test_fold_count(sizes, folds):
    assert fold_count(sizes) == folds
    assert 3 <= fold_count(sizes) <= MAX_FOLDS


def test_strengths_are_a_wide_even_grid():
    assert list(STRENGTHS) == sorted(STRENGTHS)
    assert STRENGTHS[0] <= 1e-5 and STRENGTHS[-1] >= 1, "from nearly none to the class frequencies alone"
    steps = [math.log10(b / a) for a, b in zip(STRENGTHS, STRENGTHS[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert steps[0] <= 1, "at most a factor of ten apart"


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"ant": 50, "bee": 50}, []),
        ({"ant": 50, "bee": 30}, []),
        ({"ant": 9, "bee": 29}, ["unequal: 9 to 29"]),
        ({"ant": 5, "bee": 14}, []),
        ({"ant": 5, "bee": 15}, ["unequal: 5 to 15"]),
        ({"ant": 1, "bee": 6}, ["one example only: ant."]),
        ({"ant": 1, "bee": 1, "wasp": 6}, ["one example only: ant, bee."]),
        ({"ant": 3, "bee": 4}, ["fewer than 5 examples: ant, bee"]),
        ({"ant": 2, "bee": 40}, ["fewer than 5 examples: ant", "unequal: 2 to 40"]),
        ({"ant": 1, "bee": 4, "wasp": 12}, ["one example only: ant.", "fewer than 5 examples: bee", "unequal: 1 to 12"]),
        ({f"c{i}": 1 for i in range(7)} | {"bee": 6}, ["one example only: c0, c1, c2, c3, c4 ..."]),
    ],
)
def test_weak_spots(sizes, words):
    said = weak_spots(sizes)
    assert len(said) == len(words), said
    for sentence, word in zip(said, words, strict=True):
        assert word in sentence


def test_inequality_is_said_with_what_can_be_done():
    (said,) = weak_spots({"ant": 10, "bee": 100})
    assert "--balance" in said and "balanced_accuracy" in said


def test_rungs_are_values_under_their_names():
    assert "head" in RUNGS
    for name, rung in RUNGS.items():
        assert rung.name == name and bool(rung.trains) == (name != AS_IT_IS) and rung.how
        FitSpec("photos", train=name)


def test_decisions_are_made_without_torch_or_numpy():
    code = (
        "import sys, regraft.strategy.rules, regraft.strategy.rungs, regraft.spec, regraft.facts, regraft.errors, regraft.events;"
        "print([m for m in ('torch', 'numpy', 'timm', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("examples", "folds", "nested"), [(100, 5, True), (5_000, 3, True), (5_001, 5, False), (100, 2, False)])
def test_when_the_choice_is_nested(examples: int, folds: int, nested: bool):
    assert is_nested(examples, folds) is nested
