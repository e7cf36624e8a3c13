"""A race that a short training turns: the network with the worse head learns in a few steps what the other one never does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import regraft
from regraft.errors import ModelError
from regraft.evaluation.told import race_rows
from regraft.events import Said
from regraft.jobs import climb, expecting
from regraft.jobs.racing import piloting
from regraft.jobs.racing.piloting import Pilots
from regraft.pretrained import Access, find_model
from regraft.strategy import pilot as pilot_rules
from regraft.strategy.ladder import Choice

MORE = {"allow_code": True, "threads": 1}

OWN = """
import torch
from torch import nn
INPUT = {"size": 12, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}

class Mixed(nn.Module):
    "The brightness of an image, times a weight that trains, and what says nothing."
    def __init__(self, weight, factor):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.factor = factor

    def forward(self, x):
        light = x[:, :1].mean((2, 3)) * 20
        noise = x[:, 1:2].mean((2, 3)) * 20
        return torch.cat([light * (self.weight * self.factor) + noise, torch.ones_like(noise)], 1)

def steady(): return Mixed(0.62, 1.0), INPUT
def learner(): return Mixed(0.0003, 1400.0), INPUT
"""


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    from regraft.jobs import frozen
    from regraft.jobs.racing import entering, running, telling
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "nets.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    facts = [find_model(f"nets:{name}", Access(allow_code=True)) for name in ("steady", "learner")]
    monkeypatch.setattr(entering, "all_models", lambda: facts)
    for room in (telling, running, frozen):
        monkeypatch.setattr(room, "default_model", lambda task: facts[0])
    monkeypatch.setattr(piloting, "LAYERED", ("python",))
    yield
    sys.modules.pop("nets", None)


@pytest.fixture
def pictures(tmp_path):
    """Two classes that differ in how much red there is, and as much in green by chance."""
    rng = np.random.default_rng(0)
    for k in range(300):
        kind = k % 2
        own = np.array([128 + 12 * (2 * kind - 1), 128, 128]) + np.array([0, 20 * rng.standard_normal(), 0])
        place = tmp_path / "pictures" / ("dark", "light")[kind] / f"{k}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(np.broadcast_to(own, (12, 12, 3)), 0, 255).astype(np.uint8)).save(place)
    return tmp_path / "pictures"


def of(found, name):
    return next(c for c in found["candidates"] if c["name"].endswith(name))


def test_a_few_steps_turn_a_race_and_move_what_is_expected(pictures, monkeypatch):
    monkeypatch.setattr(climb, "next_rung", lambda prospects, standing, room: Choice("", "enough"))
    said = []
    run = regraft.fit(pictures, budget="10m", out="run", on_event=said.append, **MORE)
    race = run.result["race"]
    steady, learner = of(race, "steady"), of(race, "learner")
    assert steady["figure"]["value"] > learner["figure"]["value"] + 0.03 and steady["pilot"] is None
    pilot = learner["pilot"]
    assert pilot["steps"] == 20 and pilot["judged"] >= 40 and pilot["head"] < 0.75 < 0.9 < pilot["figure"]
    assert race["winner"] == run.result["model"] == "python:nets:learner" and learner["promised"] > steady["promised"]
    assert "python:nets:steady has the better head" in race["reasons"][0]
    assert f"20 steps of training took python:nets:learner from {pilot['head']:.3f} to {pilot['figure']:.3f} on " in race["reasons"][1]
    told = [event.message for event in said if isinstance(event, Said)]
    assert "race: 20 steps of training on python:nets:learner, which may turn it" in told
    row = next(row for row in race_rows(race) if row[0] == "python:nets:learner")
    assert row[-1].startswith(f"taken; 20 steps of training: {pilot['head']:.3g} to {pilot['figure']:.3g}")
    # the climb knows what they gave
    expected = {p["train"]: p for p in json.loads(Path("run/decisions.json").read_text())["ladder_expected"]["rungs"]}
    assert expected["full"]["shown"] > 1 and "20 steps in the race gave +" in expected["full"]["reasons"][-1]
    # who goes on from these decisions makes no pilot
    monkeypatch.setattr(Pilots, "_pilot", lambda *given: pytest.fail("trained again"))
    again = regraft.fit(pictures, budget="10m", replay="run", out="again", **MORE)
    assert again.result["race"] == race and again.result["model"] == "python:nets:learner"


@pytest.mark.parametrize("how", ["no time", "fails", "too few"])
def test_without_a_pilot_the_better_head_is_taken(pictures, monkeypatch, how):
    if how == "no time":
        monkeypatch.setattr(piloting, "LEAST", 21)
    elif how == "fails":
        monkeypatch.setattr(piloting, "plan_deeper", lambda *given: (_ for _ in ()).throw(ModelError("it has no gradient")))
    else:
        monkeypatch.setattr(pilot_rules, "JUDGED", (200, 200))
    monkeypatch.setattr(expecting.Expecting, "_look", lambda self: ([], {}))
    said = []
    race = regraft.fit(pictures, budget="10m", on_event=said.append, **MORE).result["race"]
    assert race["winner"] == "python:nets:steady" and of(race, "learner")["pilot"] is None
    told = [event.message for event in said if isinstance(event, Said)]
    assert (how == "fails") == ("python:nets:learner could not be trained: it has no gradient" in told)


def test_a_race_alone_and_a_limit_on_memory_make_none(pictures, monkeypatch):
    monkeypatch.setattr(Pilots, "_pilot", lambda *given: pytest.fail("trained"))
    monkeypatch.setattr(expecting.Expecting, "_look", lambda self: ([], {}))
    assert regraft.race(pictures, budget="10m", **MORE)["winner"] == "python:nets:steady"
    run = regraft.fit(pictures, model="auto", train="auto", budget="10m", max_memory="900GB", **MORE)
    assert run.result["model"] == "python:nets:steady"
