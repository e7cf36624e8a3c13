"""How gains and intervals are written, and the cells that a race has in common on the terminal and on the page of a run."""

from __future__ import annotations

import pytest

from regraft.cli.race import _row
from regraft.evaluation.told import RACE_COLUMNS, gain_said, race_rows
from regraft.strategy.wording import in_points, span

GAP = {"value": 0.02, "low": -0.001, "high": 0.041}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (in_points({"value": 0.0123, "low": -0.0, "high": 0.0251}), "+1.2 points (+0.0 to +2.5)"),
        (span({"value": 0.5, "low": 0.2, "high": 0.9}, "+.3g", -1, " in error"), "-0.5 in error (-0.2 to -0.9)"),
        (gain_said(GAP, "accuracy"), "+2.0 points (-0.1 to +4.1)"),
        (gain_said(GAP, "mae"), "+0.02 less error (-0.001 to +0.041)"),
    ],
)
def test_a_value_with_its_interval(said, expected):
    assert said == expected


@pytest.mark.parametrize(("target", "page", "terminal"), [("class", " points (-0.1 to 4.1)", " (-0.1 to 4.1)"), ("number", "", "")])
def test_a_network_of_a_race_is_written_alike_on_the_page_and_on_the_terminal(target, page, terminal):
    network = {
        **{
            "name": "a",
            "parameters": 3.4e6,
            "licence": "mit",
            "published": "70",
            "seen": 1200,
            "seconds": 12.0,
            "scores": None,
            "gap": GAP,
        },
        **{"figure": {"value": 0.5, "low": 0.4, "high": 0.6}, "dropped": "", "worse_than_no_network": False},
    }
    race = {"target": target, "winner": "b", "candidates": [network], "others": []}
    behind = "2.0" if target == "class" else "0.02 (-0.001 to 0.041)"
    (row,) = race_rows(race)
    assert row == ["a", "3.4 M", "1,200", "0.500 (0.400 to 0.600)", behind + page, "12 s", "not taken"] and len(row) == len(RACE_COLUMNS)
    shown = _row(network, race, [])
    assert shown == ["", "a", "3.4 M", "mit", "70", "1,200", "0.500 (0.400 to 0.600)", behind + terminal, "12 s", ""]
    best = {**network, "gap": {"value": 0.0, "low": 0.0, "high": 0.0}, "seen": None, "figure": None, "seconds": 0.0}
    assert race_rows({**race, "candidates": [best]})[0][2:6] == ["", "", "", ""]
