"""The page of a run: what it tells of each kind of target, and that what stands in data is never more than text."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.errors import RunError
from regraft.evaluation.report import SECTIONS, Judged, Report, Shown, page
from regraft.jobs.report import read_judged
from regraft.modality import Sketch
from regraft.targets import TARGETS

FIGURE = {"value": 0.8, "low": 0.7, "high": 0.9}
HOSTILE = "</style><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\" ' &lt;"


def result(**more: Any) -> dict[str, Any]:
    return {
        "run": "runs/one-1", "data": "one", "train": "head", "model": "packaged:none", "task": "text", "n": 120, "seconds": 12.0,
        "estimate": {"accuracy": FIGURE, "calibration_error": FIGURE}, "estimate_how": "5-fold cross-validation",
        "baseline": {"constant": {"says": "a", "metrics": {"accuracy": FIGURE}}, "without_network": {"metrics": {"accuracy": FIGURE}}},
        "better_than_no_network": {"accuracy": {"value": 0.2, "low": 0.1, "high": 0.3}},
        "costs": {"seconds": {"predicted": None, "measured": 12.0, "unit": "s"}}, "left_out": [], "said": [], "warned": [],
    } | more  # fmt: skip


MANIFEST = {
    "model": {"name": "packaged:none", "about": "a network", "trained_on": "much", "licence": "MIT", "origin": "somewhere"},
    "train": "head",
    "versions": {"regraft": "0"},
}


def told(found: dict[str, Any], judged: list[Judged] | None = None, wrong: list[Shown] | None = None, **more: Any) -> str:
    return page(Report(found, more.pop("decisions", {}), MANIFEST, "texts", "word counts", judged or [], wrong or [], **more), SECTIONS)


class Seen(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def one(label: str, said: str, probability: float, name: str = "x") -> Judged:
    cells = {"label": label, "predicted": said, "probability": f"{probability:.6f}", "probability_of_label": f"{1 - probability:.6f}"}
    return Judged(name, cells, 0.0 if label == said else probability)


def test_what_stands_in_data_is_text_and_nothing_on_the_page_runs_or_loads():
    shown = [Shown(one(HOSTILE, "b", 0.9, HOSTILE), Sketch("text", HOSTILE)), Shown(one("a", HOSTILE, 0.8), Sketch("jpeg", b"\xff\xd8"))]
    confusion = {"labels": [HOSTILE, "b"], "rows": [[1, 2], [0, 3]]}
    found = result(run=HOSTILE, data=HOSTILE, train=HOSTILE, said=[HOSTILE], warned=[HOSTILE], confusion=confusion)
    found["left_out"] = [{"name": HOSTILE, "reason": HOSTILE}]
    found["baseline"]["constant"]["says"] = HOSTILE
    html = told(found, [s.judged for s in shown], shown, unseen=HOSTILE, decisions={"trained": [HOSTILE]})
    seen = Seen(html)
    assert not {tag for tag, _ in seen.tags} & {"script", "iframe", "object", "link", "form", "base"}
    assert all(not name.startswith("on") for _, attributes in seen.tags for name in attributes)
    sources = [a["src"] for tag, a in seen.tags if "src" in a]
    assert sources == ["data:image/jpeg;base64,/9g="] and "url(" not in html
    assert seen.words.count("<script>alert(1)</script>") >= 10 and "\x1b" not in html
    policy = next(a["content"] for tag, a in seen.tags if tag == "meta" and "http-equiv" in a)
    assert policy and policy.startswith("default-src 'none'")


STEPS = [
    {"train": "head", "tried": True, "kept": True, "why": "every climb begins with it", "measured": {"accuracy": 0.8}},
    {
        "train": "norm", "tried": True, "kept": True, "why": "better", "than": "head",
        "predicted": {
            "gain": {"value": 0.02, "low": -0.01, "high": 0.05},
            "seconds": {"value": 40.0, "low": 30.0, "high": 50.0},
            "memory": {"value": 900.0, "low": 800.0, "high": 1000.0},
        },
        "measured": {"gain": {"value": 0.031, "low": 0.01, "high": 0.052}, "seconds": 44.2, "memory": 1234.5},
    },
    {"train": "full", "tried": False, "kept": False, "why": "too long", "than": "norm"},
]  # fmt: skip
RACER = {
    "name": "a", "parameters": 4_650_000, "seen": 128, "figure": FIGURE, "gap": {"value": 0.0, "low": 0.0, "high": 0.0}, "seconds": 12.0,
    "worse_than_no_network": False, "dropped": "",
}  # fmt: skip


def raced(**more: Any) -> dict[str, Any]:
    behind = RACER | {
        "name": "b",
        "gap": {"value": 0.12, "low": 0.05, "high": 0.19},
        "dropped": "after 64 texts",
        "worse_than_no_network": True,
    }
    unseen = RACER | {"name": "c", "seen": None, "figure": None, "gap": None, "seconds": 0.0, "dropped": "no time"}
    race = {
        "winner": "a",
        "target": "class",
        "metric": "accuracy",
        "n": 200,
        "candidates": [RACER, behind, unseen],
        "reasons": ["a is best"],
    }
    return race | {"others": [{"name": "d", "why": "it failed"}]} | more


def test_a_climb_is_told_with_what_was_predicted_and_measured():
    told_in_words = ["What was tried:", "  norm: better.", "What was chosen: norm."]
    html = told(result(train="norm", ladder=STEPS, explanation=told_in_words))
    words = Seen(html).words
    for wanted in ("The ladder, predicted and measured", "+2.0 points (-1.0 to +5.0)+3.1 points (+1.0 to +5.2)40 s (30 s to 50 s)44 s",
                   "900 MB (800 MB to 1,000 MB)1,234 MBthis model", "not trained"):  # fmt: skip
        assert wanted in words, wanted
    assert "<p>What was tried:</p><ul><li>norm: better.</li></ul><p>What was chosen: norm.</p>" in html
    assert "kept at first" in Seen(told(result(train="full", ladder=STEPS))).words
    assert "The ladder" not in told(result())


def test_a_race_is_told_with_figures_and_why_networks_were_dropped():
    words = Seen(told(result(race=raced()))).words
    for wanted in ("a4.7 M1280.800 (0.700 to 0.900)12 staken", "12.0 points (5.0 to 19.0)12 safter 64 texts; worse than no network",
                   "c4.7 Mno time", "did not race: it failed", "a is best", "accuracy of a linear output layer"):  # fmt: skip
        assert wanted in words, wanted
    assert "Which networks raced" not in told(result())


POINTS = [{"examples": n, "error": e, "errors": [e, e + 0.01]} for n, e in ((25, 0.5), (50, 0.4), (100, 0.3))]
AHEAD = {"examples": 200, "error": 0.25, "low": 0.2, "high": 0.3, "gain": 0.05, "gain_low": 0.0, "gain_high": 0.1}


def test_hostile_words_in_a_climb_a_race_a_curve_and_a_profile_are_text():
    steps = [step | {"train": HOSTILE, "than": HOSTILE} for step in STEPS]
    race = raced(winner=HOSTILE, reasons=[HOSTILE], others=[{"name": HOSTILE, "why": HOSTILE}])
    curve = {"points": POINTS, "told": False, "reason": HOSTILE, "nouns": HOSTILE, "error_name": HOSTILE}
    depth = {"at": HOSTILE, "metrics": {"accuracy": FIGURE}, "saved": {"macs": 0.5}}
    profile = {
        "depths": [depth, depth | {"at": "last", "saved": {"macs": 0.0}}], "model": HOSTILE, "n": 100,
        "earliest": {"at": HOSTILE}, "highest": {"at": "last"}, "baseline": {"without_network": {"metrics": {"accuracy": FIGURE}}},
    }  # fmt: skip
    found = result(train=HOSTILE, ladder=steps, explanation=[HOSTILE, f"  {HOSTILE}"], race=race)
    for told_or_not in ({}, {"told": True, "forecasts": {"twice": AHEAD, "four_times": AHEAD | {"examples": 400}}}):
        html = told(found, curve=curve | told_or_not, profile=profile)
        seen = Seen(html)
        assert not {tag for tag, _ in seen.tags} & {"script", "img", "iframe"} and "\x1b" not in html
        assert all(not name.startswith("on") for _, attributes in seen.tags for name in attributes)
        for title in ("The ladder", "Which networks raced", "What more examples would bring", "What each depth"):
            assert f"<h2>{title}" in html
        assert seen.words.count("<script>alert(1)</script>") >= 12


def test_costs_are_written_as_what_they_are():
    costs = {
        "seconds": {"predicted": 100.0, "measured": 12.0, "unit": "s"},
        "peak_memory_mb": {"predicted": None, "measured": 1234.4, "unit": "MB"},
        "accuracy": {"predicted": 0.91234, "measured": 0.875, "unit": ""},
    }
    words = Seen(told(result(costs=costs))).words
    assert "time of the whole fit2 min12 s" in words and "memory at most1,234 MB" in words and "accuracy0.9120.875" in words


def test_figures_gains_and_costs_are_told():
    found = result(
        train="top=1", better_than_head={"accuracy": {"value": -0.05, "low": -0.1, "high": -0.01}},
        test={"n": 30, "metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}},
        costs={"seconds of features": {"predicted": 7.4, "measured": 9.0, "unit": "s"}},
    )  # fmt: skip
    words = Seen(told(found)).words
    for wanted in ("0.800 (0.700 to 0.900)", "0.500 (0.400 to 0.600) on 30 test texts", "+20.0 points (+10.0 to +30.0)", "clearly better",
                   "-5.0 points (-10.0 to -1.0)", "clearly worse", "seconds of features7 s9 s"):  # fmt: skip
        assert wanted in words, wanted


def test_many_classes_show_the_pairs_that_are_mistaken_most():
    labels = [f"class {i}" for i in range(40)]
    rows = [[9 if i == j else 3 if (i, j) == (4, 7) else 0 for j in range(40)] for i in range(40)]
    words = Seen(told(result(confusion={"labels": labels, "rows": rows}))).words
    assert "class 4class 73" in words and "class 5" not in words
    assert "No mistakes." in told(result(confusion={"labels": labels, "rows": np.diag(range(40)).tolist()}))


def test_probabilities_are_drawn_where_there_are_enough():
    judged = [one("a", "a" if i % 4 else "b", 0.5 + i / 200) for i in range(80)]
    assert "Whether its probabilities hold" in told(result(), judged)
    assert "Whether its probabilities hold" not in told(result(), judged[:39])
    drawn = re.search(r'class="line" points="([^"]+)"', told(result(), judged))
    assert drawn and len(drawn[1].split()) == 10


def test_numbers_are_drawn_against_what_is_true():
    judged = [Judged("x", {"value": str(i), "predicted": str(i + 1), "low": "0", "high": "9"}, 1.0) for i in range(3000)]
    base = result()
    found = result(estimate={"mae": FIGURE}, baseline={"constant": {"says": "4", "metrics": {"mae": FIGURE}}})
    html = told(found | {"better_than_no_network": base["better_than_no_network"]}, judged, [Shown(judged[0], None)])
    assert 1000 <= html.count("<circle") <= 2000 and "is 0.000, said" in Seen(html).words


CELLS = {
    "class": (["a", "b", "0.9", "0.1"], ["a", "a", "0.9", "0.9"], ["a", "", "", ""], 0.8),
    "multilabel": (['["a"]', '["b"]', "[0.25, 0.75]"], ['["a"]', '["a"]', "[0.8, 0.1]"], ['["a"]', "", ""], 1.5),
    "number": (["3", "5", "4", "6"], ["3", "3.5", "2.5", "4.5"], ["3", "", "", ""], 2.0),
}
LEARNT = {
    "class": {},
    "multilabel": {"counts": [3, 3], "examples": 6, "thresholds": [0.5, 0.5]},
    "number": {"mean": 4.0, "median": 4.0, "half_width": 1.0, "low": 0.0, "high": 9.0},
}


@pytest.mark.parametrize("name", list(TARGETS))
def test_how_wrong_an_example_was_is_told_by_each_target(name, tmp_path):
    kind = TARGETS[name]
    outputs = ["value"] if name == "number" else ["a", "b"]
    target = kind.from_json({"kind": name, **LEARNT[name]}, outputs)
    wrong, right, unsaid, off = CELLS[name]
    assert target.off(wrong) == pytest.approx(off) and target.off(right) == 0 and target.off(unsaid) is None
    file = tmp_path / "out_of_fold.csv"
    lines = [["name", "fold", *target.cell_names], ["one", "0", *wrong], ["two", "1", *right], ["three", "-1", *unsaid]]
    with open(file, "w", newline="") as out:
        csv.writer(out).writerows(lines)
    assert [(j.name, j.off) for j in read_judged(file, target)] == [("one", pytest.approx(off)), ("two", 0.0)]
    file.write_text(file.read_text().replace("two", "two,more\ntwo"))
    with pytest.raises(RunError, match="cannot be read"):
        read_judged(file, target)


def test_a_table_that_is_another_is_refused(tmp_path):
    target = TARGETS["class"].from_json({"kind": "class"}, ["a", "b"])
    file = tmp_path / "out_of_fold.csv"
    for content in ("", "name,fold\n", "name,fold,label,predicted,probability,probability_of_label\nx,0,a,b,much,0\n"):
        file.write_text(content)
        with pytest.raises(RunError, match="cannot be read"):
            read_judged(file, target)
    with pytest.raises(RunError, match="cannot be read"):
        read_judged(Path(tmp_path / "none.csv"), target)
