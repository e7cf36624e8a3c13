"""A pass within a budget: how many examples go through the network, whatever lies in the feature store already."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from regraft.data.base import TRAIN, Example
from regraft.deadline import Deadline
from regraft.features import Extracted
from regraft.jobs import rounds
from regraft.jobs.rounds import Rounds
from regraft.targets.classes import Classes


@dataclass
class Machine:
    """A clock that only a pass moves: so many seconds an example that is not `there`, in the store."""

    each: float
    there: set[str]
    now: float = 0.0
    last: int = 0
    """How many of the last round were not looked at."""

    def run(self, some, emit, enough) -> Extracted:
        looked = computed = 0
        for example in some:
            if example.name not in self.there:
                self.now += self.each
                computed += 1
                self.there.add(example.name)
            looked += 1
            if enough():
                break
        self.last = len(some) - looked
        kept = list(range(looked))
        return Extracted(kept, [b""] * looked, np.zeros((looked, 4), np.float32), [], [], {}, computed, 0.0, looked)


def rounds_of(machine: Machine, n: int, budget: float, monkeypatch) -> Rounds:
    monkeypatch.setattr(rounds, "seconds_of_model", lambda rows, width, outputs: 0.0)
    examples = [Example(str(k), str(k), TRAIN, "ab"[k % 2]) for k in range(n)]
    target = Classes(["a", "b"])
    labelled: Any = SimpleNamespace(target=target, dataset=SimpleNamespace(task="image"))
    recorder: Any = SimpleNamespace(
        deadline=Deadline(budget, now=lambda: machine.now),
        emit=lambda event: None,
        held_decision=lambda name: None,
        decide=lambda **d: None,
    )
    made = Rounds(labelled, examples, [k % 2 for k in range(n)], 0, 8, 1, 4, False, recorder)
    # the store has the first ones in the order of the pass
    monkeypatch.setattr(Rounds, "_order", lambda self: (list(range(n)), 6))
    return made


@pytest.mark.parametrize("stored", [0, 100, 600, 900, 1000])
def test_as_many_go_through_as_fit_whatever_was_stored(stored, monkeypatch):
    machine = Machine(0.1, {str(k) for k in range(stored)})
    found = rounds_of(machine, 1000, 40.0, monkeypatch)(machine.run)
    assert not machine.last, "the last round was broken off"
    assert machine.now <= 40
    # what is left of the time would not have taken a quarter more
    assert found.looked == 1000 or machine.now > 0.75 * 37
    assert found.looked >= min(1000, stored + 0.75 * 370)
