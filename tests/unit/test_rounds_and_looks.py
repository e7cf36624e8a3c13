"""Corners of what a plan and a fit under a budget remember: rounds without an example, damaged findings, data that changed."""

from __future__ import annotations

import numpy as np
import pytest

from regraft.data.base import Example
from regraft.features import Extracted
from regraft.jobs import remembered
from regraft.jobs.rounds import _merged
from regraft.modality import MODALITIES


def extracted(kept: list[int], width: int) -> Extracted:
    identities = [bytes([k]) for k in kept]
    features = np.array(kept, np.float32)[:, None].repeat(width, 1)
    return Extracted(
        kept=kept, identities=identities, features=features, summaries=[], left_out=[], notes={}, computed=len(kept), seconds=1.0
    )


def test_a_round_that_ended_before_its_first_example_takes_nothing_from_the_others():
    empty = Extracted(kept=[], identities=[], features=np.zeros((0, 0), np.float32), summaries=[], left_out=[], notes={})
    found = _merged([(0, extracted([0, 1], 3)), (2, empty)], [4, 2, 7], 2)
    assert found.kept == [2, 4] and found.features.tolist() == [[1, 1, 1], [0, 0, 0]] and found.identities == [b"\x01", b"\x00"]
    assert _merged([(0, empty)], [4, 2], 0).kept == []


@pytest.mark.parametrize("held", [None, [], "much", {}, {"device": "cpu"}, {"complete": True, "amount": {"no": 1}}])
def test_a_finding_that_is_damaged_is_as_none(held, monkeypatch):
    monkeypatch.setattr(remembered, "read_finding", lambda *_: held)
    assert remembered.earlier_look("key", [Example("x", "a text", "a", "train")], MODALITIES["text"]) is None
