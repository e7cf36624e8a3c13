"""The local record of predictions: what is damaged is passed over and counted, and it stays small."""

from __future__ import annotations

import pytest

from regraft.jobs.planned import earlier_outcomes
from regraft.strategy.outcomes import Outcome
from regraft.workspace import outcomes as record
from regraft.workspace.outcomes import KEPT, keep_outcome, outcomes_file, read_outcomes

ONE = Outcome("full", "net", "cpu", {"training": (10.0, 12.0)}, (500.0, 510.0), (1.0, 1.2))


def test_what_is_kept_is_read_in_its_order():
    assert read_outcomes() == ([], 0)
    for n in range(3):
        keep_outcome({"n": n})
    assert [line["n"] for line in read_outcomes()[0]] == [0, 1, 2]


@pytest.mark.parametrize("damage", [b"\x00\xff\xfe\n", b"{\n", b"[1, 2]\n", b'{"format": 99}\n', b'"text"\n', b"[" * 100_000 + b"\n"])
def test_a_damaged_line_is_passed_over_and_counted(damage):
    keep_outcome(ONE.to_json())
    with open(outcomes_file(), "ab") as file:
        file.write(damage)
    keep_outcome(ONE.to_json())
    assert earlier_outcomes() == ([ONE, ONE], 1)


def test_a_line_of_another_shape_is_counted_too():
    keep_outcome({"stages": [], "train": "full"})
    assert earlier_outcomes() == ([], 1)


def test_after_a_torn_line_the_next_one_stands_alone():
    keep_outcome(ONE.to_json())
    whole = outcomes_file().read_bytes()
    outcomes_file().write_bytes(whole + whole[:20])
    keep_outcome(ONE.to_json())
    found, bad = read_outcomes()
    assert len(found) == 2 and bad == 1


def test_it_is_bounded(monkeypatch):
    monkeypatch.setattr(record, "KEPT", 10)
    for n in range(40):
        keep_outcome({"n": n})
        assert len(outcomes_file().read_text().splitlines()) <= 15
    assert read_outcomes()[0][-1]["n"] == 39 and len(read_outcomes()[0]) == 10
    assert KEPT >= 100


def test_where_nothing_can_be_written_nothing_is_kept(monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("REGRAFT_HOME", str(tmp_path / "taken"))
    keep_outcome(ONE.to_json())
    assert read_outcomes() == ([], 0)
