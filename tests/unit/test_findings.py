"""What a machine was measured to do: kept beside the store, and no harm when it is damaged or cannot be written."""

from __future__ import annotations

import json

import pytest

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
