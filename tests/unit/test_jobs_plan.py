"""What a plan is made of: limits as they are asked for, which examples are looked at, what is timed and kept."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from regraft.errors import UsageError
from regraft.features.engines import base
from regraft.jobs.calibrate import CUTTING, LEAST, Known, Timed, batch_to_time, guessed, read_known, seconds_to_time
from regraft.jobs.common import has_bfloat16
from regraft.jobs.parts import nested
from regraft.jobs.plan import limits_of
from regraft.strategy.cost import Body
from regraft.strategy.plan import Limits
from regraft.strategy.settings import Settings


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((None,) * 5, Limits()),
        (("10m", "4GB", "20ms", "30M", "MIT"), Limits(600, 4000, 20, 3e7, "MIT")),
        ((90, "800 mb", 20, 1e6, None), Limits(90, 800, 20, 1e6)),
        (("1h30m", 500, None, None, None), Limits(5400, 500)),
    ],
)
def test_limits_as_they_are_asked_for(given, found):
    assert limits_of(*given) == found


def test_all_faults_of_limits_are_told_at_once():
    with pytest.raises(UsageError) as raised:
        limits_of("now", "4", "fast", "-3", None)
    assert len(raised.value.faults) == 4 and "such as 800MB or 4GB" in str(raised.value)


def labelled(labels: str, target: str = "class"):
    examples = [SimpleNamespace(label=label) for label in labels]
    return SimpleNamespace(part=lambda name: (examples, []), target=SimpleNamespace(name=target))


def test_every_beginning_holds_all_labels_in_their_parts():
    labels = "a" * 80 + "b" * 16 + "c" * 4
    order = nested(labelled(labels), 0)  # pyright: ignore[reportArgumentType]
    assert sorted(order) == list(range(100))
    for count in (25, 50, 75):
        held = Counter(labels[k] for k in order[:count])
        assert all(abs(held[name] - count * of / 100) <= 1 for name, of in (("a", 80), ("b", 16), ("c", 4)))
    assert nested(labelled(labels), 0) == order != nested(labelled(labels), 1)  # pyright: ignore[reportArgumentType]
    assert sorted(nested(labelled("abcd", "number"), 0)) == [0, 1, 2, 3]  # pyright: ignore[reportArgumentType]


def test_as_large_a_step_is_timed_as_there_is_time():
    batches = [batch_to_time(0.1, seconds, 32) for seconds in (0, 5, 20, 60, 1e6)]
    assert batches == sorted(batches) and batches[0] == LEAST and batches[-1] == 32
    assert batch_to_time(0.1, 0, 2) == 2
    assert seconds_to_time(0.1, 32, 32) > seconds_to_time(0.1, 4, 16) > 0


def test_what_cannot_be_read_of_earlier_timings_is_not_there():
    one = Timed(Body(10, 20, 5, saved=0.5, step=0.1), 0.01, 0.002, 12.0, 1.0, 1)
    whole = Known(one, True, Settings(3, 16, 1e-3, 0.8))
    plain = whole.to_json()
    bad = {"norm": {"timed": 3}, "top=1": {**plain, "settings": {"steps": 3}}, "top=2": None, "none": {**plain, "timed": {"body": {}}}}
    assert read_known({"full": json.loads(json.dumps(plain)), **bad}) == {"full": whole}
    assert read_known([]) == read_known(None) == {}


def test_bfloat16_is_looked_for_where_there_are_instructions(monkeypatch):
    monkeypatch.setattr(base, "without_bfloat16", lambda: "this CPU has none")
    assert not has_bfloat16("cpu") and has_bfloat16("cuda:0")
    monkeypatch.setattr(base, "without_bfloat16", lambda: "")
    assert has_bfloat16("cpu")


def test_a_cut_that_was_not_timed_takes_what_cuts_take():
    net = SimpleNamespace(totals=lambda: (1000, 10))
    deeper: Any = SimpleNamespace(whole=SimpleNamespace(net=net), trains_scales_alone=False)
    whole = Timed(Body(macs=100, parameters=1000, trained=1000, cutting=0.4, step=1.0), 0.1, 0.01, 5.0, 1.0, 1)
    assert guessed(deeper, whole, 0.8).body.cutting == CUTTING > 0.4
    # where nothing runs once there is no cut to find
    assert guessed(deeper, whole, 0.0).body.cutting == 0.4
