"""What a machine was measured to do: kept beside the store, and no harm when it is damaged or cannot be written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from regraft.jobs.planning.looking import FINDINGS, _pace
from regraft.strategy.cost import Pace
from regraft.workspace import findings
from regraft.workspace.findings import findings_key, keep_finding, read_finding


def test_what_was_kept_is_found(own_home):
    assert read_finding("engines", "a") is None
    keep_finding("engines", "a", [1, 2])
    keep_finding("engines", "b", {"x": 0.5})
    keep_finding("engines", "a", [3])
    assert read_finding("engines", "a") == [3] and read_finding("engines", "b") == {"x": 0.5}
    assert read_finding("other", "a") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"a": '])
def test_a_damaged_file_holds_nothing_and_is_replaced(own_home, content):
    own_home.mkdir()
    (own_home / "engines.json").write_bytes(content)
    assert read_finding("engines", "a") is None
    keep_finding("engines", "a", 1)
    assert json.loads((own_home / "engines.json").read_text()) == {"a": 1}


def test_a_home_that_cannot_be_written_is_no_fault(own_home):
    own_home.write_text("a file where a folder should be")
    keep_finding("engines", "a", 1)
    assert read_finding("engines", "a") is None


def test_the_oldest_go(own_home, monkeypatch):
    monkeypatch.setattr(findings, "ENTRIES", 3)
    for name in "abcd":
        keep_finding("engines", name, name)
    assert [read_finding("engines", name) for name in "abcd"] == [None, "b", "c", "d"]


def test_a_key_depends_on_every_fact_and_not_on_their_order():
    assert findings_key({"a": 1, "b": 2}) == findings_key({"b": 2, "a": 1})
    assert len({findings_key(f) for f in ({"a": 1}, {"a": 2}, {"b": 1}, {})}) == 4


def test_a_pace_that_an_earlier_plan_kept_is_read_back_with_how_many_it_was_timed_on(own_home):
    pace = Pace(example=0.0125, timed=32, measured=("begin", "example", "judged"))
    keep_finding(FINDINGS, "k", {"pace": pace.to_json()})
    nothing_computed: Any = None
    again = _pace(read_finding(FINDINGS, "k"), 2.0, nothing_computed, 0.0, 0)
    assert (again.example, again.timed, again.begin) == (0.0125, 32, 2.0) and set(again.measured) == set(pace.measured)
