"""Two runs on the same examples, in pairs."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

import regraft
from regraft.errors import RunError, UsageError

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_images):
    """A run, and one with other folds; the second says something else of two examples."""
    folder = tmp_path_factory.mktemp("compare")
    photos = make_images(folder / "photos", count=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_HOME", str(folder / "home"))
        for name, seed in (("a", 0), ("b", 1)):
            regraft.fit(photos, threads=1, seed=seed, out=str(folder / name))
    change(folder / "b", {0: None, 3: None})
    return folder


def change(run, places):
    """Another prediction at some places; an example of them that was right is wrong now."""
    file = run / "out_of_fold.csv"
    with open(file, newline="") as lines:
        rows = list(csv.reader(lines))
    labels = sorted({row[2] for row in rows[1:]})
    for k, said in places.items():
        right = rows[1 + k][2]
        rows[1 + k][3] = next(label for label in labels if label != right) if said is None else said
    with open(file, "w", newline="") as lines:
        csv.writer(lines).writerows(rows)


def test_a_difference_is_counted_in_pairs(runs, command):
    found = regraft.compare(runs / "a", runs / "b")
    (pair,) = found["comparisons"]
    n, off = pair["n"], pair["only_first"]
    assert n == 24 and off == 2 and pair["only_other"] == 0
    difference = np.zeros(n)
    difference[:2] = -1
    half = 1.959964 * difference.std(ddof=1) / n**0.5
    assert pair["gain"]["value"] == pytest.approx(-2 / 24, abs=1e-6)
    assert pair["gain"]["low"] == pytest.approx(-2 / 24 - half, abs=1e-6)
    assert pair["gain"]["high"] == pytest.approx(-2 / 24 + half, abs=1e-6)
    assert "no clear difference" in pair["verdict"] and "-8.3 points of accuracy" in pair["verdict"]
    answer = command("compare", runs / "a", runs / "b")
    assert answer.code == 0 and "no clear difference" in answer.out and "one does better on 2, the other on 0" in answer.out
    assert json.loads(command("compare", runs / "a", runs / "b", "--json").out)["comparisons"][0]["gain"] == pair["gain"]
    back = regraft.compare(runs / "b", runs / "a")["comparisons"][0]
    assert back["gain"]["value"] == pytest.approx(2 / 24, abs=1e-6) and back["only_other"] == 2


def test_a_clear_difference_is_named(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "worse")
    change(tmp_path / "worse", dict.fromkeys(range(12)))
    assert (
        f"{tmp_path / 'worse'} is worse than {runs / 'a'}" in regraft.compare(runs / "a", tmp_path / "worse")["comparisons"][0]["verdict"]
    )
    assert len(regraft.compare(runs / "a", runs / "b", tmp_path / "worse")["comparisons"]) == 2


def test_what_was_not_held_out_in_both_is_left_out(runs, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "some")
    rows = (tmp_path / "some" / "out_of_fold.csv").read_text().splitlines()
    rows[1] = ",".join([*rows[1].split(",")[:3], "", "", ""])
    (tmp_path / "some" / "out_of_fold.csv").write_text("\n".join(rows[:-1]) + "\n")
    pair = regraft.compare(runs / "a", tmp_path / "some")["comparisons"][0]
    assert (pair["n"], pair["left_out"]) == (22, 2)


def spoil(run, change):
    lines = (run / "out_of_fold.csv").read_text().splitlines()
    (run / "out_of_fold.csv").write_text("\n".join(change(lines)) + "\n")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda lines: [lines[0], *("x" + line for line in lines[1:])], "no example has the same name in both"),
        (lambda lines: [lines[0], *(line.replace("red,", "blue,", 1) for line in lines[1:])], "have other labels, such as"),
        (lambda lines: ["name,what", *lines[1:]], "its header is name, what"),
        (lambda lines: [*lines[:3], "short,1"], "line 4 has 2 cells"),
        (lambda lines: [lines[0], lines[1].rsplit(",", 4)[0] + ",zebra,zebra,1,1"], "is none of the labels"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path, command, how, words):
    shutil.copytree(runs / "a", tmp_path / "other")
    spoil(tmp_path / "other", how)
    with pytest.raises(RunError) as caught:
        regraft.compare(runs / "a", tmp_path / "other")
    assert words in " ".join([str(caught.value.found), *caught.value.faults])
    answer = command("compare", runs / "a", tmp_path / "other")
    assert answer.code == 1 and "Traceback" not in answer.err


def test_one_run_or_a_bundle_alone_is_not_enough(runs, command):
    with pytest.raises(UsageError, match="two runs"):
        regraft.compare(runs / "a")
    assert command("compare", runs / "a").code == 2
    with pytest.raises(RunError, match=r"no out_of_fold\.csv"):
        regraft.compare(runs / "a", runs / "b" / "bundle")
