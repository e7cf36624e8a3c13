"""inspect with a network, and what a fit makes of near-duplicates."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import regraft
from regraft.errors import UsageError
from regraft.evaluation.trust import CHECKS, near_duplicates
from regraft.events import Done

MODEL = "packaged:all-minilm-l6-v2"

INSIDE = ("the soup was hot and salty", "The soup was HOT, and salty!")
ACROSS = ("the team won the match by two goals", "The team won the match - by two goals.")


@pytest.fixture
def table(text_table: Path) -> Path:
    """The made-up texts, with a near-duplicate in the training part and one across the split."""
    with open(text_table, newline="", encoding="utf-8") as file:
        rows = [[r["text"], r["label"], "train"] for r in csv.DictReader(file)]
    assert {INSIDE[0], ACROSS[0]} <= {text for text, _, _ in rows}
    rows += [[INSIDE[1], "sport", "train"], [ACROSS[1], "sport", "test"], ["fish with potatoes", "food", "test"]]
    path = text_table.parent / "with_copies.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label", "split"], *rows])
    return path


def passes(heard: list) -> list[str]:
    return [e.note for e in heard if isinstance(e, Done) and e.stage == "features"]


@pytest.mark.weights
def test_what_a_network_finds_and_the_fit_that_follows(table: Path, command, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = command("inspect", table, "--model", MODEL, "--threads", 1, "--out", "lists", "--json")
    assert answer.code == 0, answer.err
    result = answer.json
    found = result["evidence"]
    assert set(CHECKS) <= set(found)
    near = found["near_duplicates"]
    assert near["groups"] == 2 and near["with_different_labels"]["groups"] == 1 and near["on_both_sides"]["groups"] == 1
    assert {e["part"] for e in near["on_both_sides"]["examples"][0]} == {"train", "test"}
    assert result["duplicates"]["groups"] == 0
    assert found["similarity"]["kind"] in ("near", "middling", "far") and found["similarity"]["earlier"]["at"]
    assert found["learning_curve"]["points"][-1]["examples"] < result["n"]["train"]
    with open("lists/near_duplicates.csv", newline="", encoding="utf-8") as file:
        assert [r["group"] for r in csv.DictReader(file)] == ["1", "1", "2", "2"]
    assert len(result["written"]) == 3

    heard: list = []
    run = regraft.fit(table, model=MODEL, threads=1, on_event=heard.append)
    assert passes(heard) == ["0 computed, 19 already there"]
    warned = " ".join(run.result["warned"])
    assert "1 of 2 test examples are near-duplicates of training examples" in warned and "have different labels" in warned
    assert run.result["test"]["without_duplicates"]["n"] == 1
    decisions = json.loads((run.path / "decisions.json").read_text(encoding="utf-8"))
    assert [len(group) for group in decisions["near_duplicates"]] == [2, 2]
    with open(run.path / "out_of_fold.csv", newline="", encoding="utf-8") as file:
        folds = {r["name"]: r["fold"] for r in csv.DictReader(file)}
    one, other = (e["name"] for e in near["with_different_labels"]["examples"][0])
    assert folds[one] == folds[other]

    # a run that is replayed takes the groups from there
    def never(*_: object) -> None:
        raise AssertionError("looked for again")

    monkeypatch.setattr(near_duplicates, "near_duplicates", never)
    again = regraft.fit(table, model=MODEL, threads=1, replay=run.path)
    assert again.result["estimate"] == run.result["estimate"]


def test_lists_need_a_network(table: Path) -> None:
    with pytest.raises(UsageError, match="--out"):
        regraft.inspect(table, out="lists")


def test_without_a_network_nothing_is_added(table: Path) -> None:
    assert "evidence" not in regraft.inspect(table)
