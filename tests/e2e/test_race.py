"""Which network to take: a race by itself, and before a fit that goes on, is interrupted, or replays another one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import regraft
from regraft.errors import UsageError
from regraft.events import Said
from regraft.jobs import expecting
from regraft.pretrained import Access, find_model

OWN = """
import torch
from torch import nn
INPUT = {"size": 12, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}

class Colour(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3, stride=2)
        self.gain = gain
        self.more = nn.Linear(6, 4) if gain == 1 else nn.Identity()

    def forward(self, x):
        if self.gain == "broken":
            raise RuntimeError("no forward today")
        return self.body(x).mean((2, 3)) * (self.gain if self.gain else 0.0)

def make(gain):
    torch.manual_seed(0)
    return Colour(gain), INPUT

def good(): return make(1)
def blind(): return make(0)
def broken(): return make("broken")
def lost(): return make(float("nan"))
"""


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "nets.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("nets", None)


@pytest.fixture
def pictures(tmp_path, make_images):
    """Three colours, forty pictures of each."""
    return make_images(tmp_path / "pictures", count=40)


@pytest.fixture
def here(monkeypatch):
    """The networks of this file stand for those that are here; the blind one is the usual one."""
    from regraft.jobs import frozen, race
    from regraft.jobs.racing import entering, running, telling

    facts = [find_model(f"nets:{name}", Access(allow_code=True)) for name in ("blind", "good")]
    module = sys.modules[race.__module__]
    monkeypatch.setattr(entering, "all_models", lambda: facts)
    for room in (telling, running, frozen):
        monkeypatch.setattr(room, "default_model", lambda task: facts[0])
    return module


NAMED = [word for name in ("blind", "good", "broken", "lost") for word in ("--model", f"nets:{name}")]
MORE = ["--allow-code", "--threads", 1]


def of(found, name):
    return next(c for c in found["candidates"] if c["name"].endswith(name))


def steady(found):
    """What does not depend on a clock or on memory."""
    return json.loads(
        json.dumps(found), object_hook=lambda o: {k: v for k, v in o.items() if k not in ("seconds", "pace", "peak_memory_mb")}
    )


def test_a_race_drops_what_falls_behind_and_leaves_out_what_fails(pictures, command):
    told = command("race", pictures, *NAMED, *MORE)
    assert told.code == 0, told.err
    assert "python:nets:good is taken" in told.out and f"regraft fit {pictures} --allow-code --model python:nets:good" in told.out
    assert "nets:broken does not race" in told.out and "no forward today" in told.out and "not finite numbers" in told.out
    assert "python:nets:blind is worse than no network" in told.out and "python:nets:blind is out: after 64 images" in told.err
    found = command("race", pictures, *NAMED, *MORE, "--json").json
    assert found["winner"] == "python:nets:good" and found["stopped"] == "one is left" and found["n"] == 120
    good, blind = of(found, "good"), of(found, "blind")
    assert good["seen"] == blind["seen"] == 64 and good["gap"]["value"] == 0 < blind["gap"]["low"]
    assert good["figure"]["value"] > 0.9 > 0.5 > blind["figure"]["value"] and good["dropped"] == ""
    assert (good["dropped_kind"], blind["dropped_kind"], of(found, "lost")["dropped_kind"]) == ("", "behind", "failed")
    assert good["scores"]["features"]["logme"] > blind["scores"]["features"]["logme"]
    assert good["scores"]["features"]["hscore"] > blind["scores"]["features"]["hscore"] == 0
    assert blind["worse_than_no_network"] and not good["worse_than_no_network"]
    assert 0 <= found["regret"] < 0.01 and found["rounds"][0]["dropped"] == ["python:nets:blind"]
    # features are stored now, and nothing else may change by that
    assert steady(command("race", pictures, *NAMED, *MORE, "--json").json) == steady(found)
    assert steady(command("race", pictures, *NAMED, *MORE, "--no-store", "--json").json) == steady(found)


def test_networks_that_are_equal_are_looked_at_as_far_as_there_are_examples(pictures):
    found = regraft.race(pictures, model=["nets:good", "python:nets:good"], allow_code=True, threads=1)
    assert found["stopped"] == "it is the only one" and found["candidates"][0]["seen"] == 64
    number = [(path, float(k)) for k, path in enumerate(sorted(pictures.rglob("*.png")))]
    found = regraft.race(number, model=["nets:blind", "nets:good"], allow_code=True, threads=1)
    assert found["target"] == "number" and found["metric"] == "mae" and found["winner"] == "python:nets:good"
    assert list(of(found, "good")["scores"]["features"]) == ["logme"]


def test_a_fit_takes_the_winner_and_says_so_before(pictures, here, command, monkeypatch):
    done = command("fit", pictures, "--model", "auto", *MORE, "--out", "run")
    assert done.code == 0, done.err
    decided = json.loads(Path("run/decisions.json").read_text())
    names = list(decided)
    assert json.loads(Path("run/run.json").read_text())["race"] == decided["race"] and "python:nets:blind" in command("show", "run").out
    assert "<h2>Which networks raced</h2>" in Path("run/report.html").read_text()
    assert decided["race"]["winner"] == decided["model"] == "python:nets:good" and names.index("race") < names.index("model")
    assert json.loads(Path("run/run.json").read_text())["model"] == "python:nets:good"
    assert json.loads(Path("run/spec.json").read_text())["model"] == "auto"
    # another fit with its decisions does not race
    monkeypatch.setattr(here._Race, "__call__", lambda self: pytest.fail("raced again"))
    again = command("fit", pictures, "--model", "auto", *MORE, "--out", "again", "--replay", "run")
    assert again.code == 0, again.err
    assert Path("again/bundle/model.safetensors").read_bytes() == Path("run/bundle/model.safetensors").read_bytes()


def test_a_fit_within_a_budget_races_without_being_asked(pictures, here, monkeypatch):
    monkeypatch.setattr(expecting.Expecting, "_look", lambda self: ([], {}))
    given = {"allow_code": True, "threads": 1}
    monkeypatch.setattr(here, "nothing_promised", lambda look: True)
    said = []
    run = regraft.fit(pictures, budget="10m", on_event=said.append, **given)
    told = [event.message for event in said if isinstance(event, Said)]
    # half of the budget in place of 15 %
    assert "training below the head is not expected to be worth it here: the race may take 3.5m more" in told
    assert run.result["model"] == "python:nets:good" == run.result["race"]["winner"] and of(run.result["race"], "good")["promised"] > 0
    # too little time for it, or something was said of the network or what trains
    for more in ({"budget": "50s"}, {"budget": "10m", "train": "head"}, {"budget": "10m", "model": "nets:blind"}):
        assert "race" not in regraft.fit(pictures, **given, **more).result, more


def test_what_training_gives_too_little_is_not_opened(pictures, here, monkeypatch):
    from regraft.jobs.racing.promising import Promises

    more = {"good": 0.0, "blind": 0.7}
    monkeypatch.setattr(Promises, "of", lambda self, facts, pace: more[facts.name.rpartition(":")[2]])
    monkeypatch.setattr(expecting.Expecting, "_look", lambda self: ([], {}))
    race = regraft.fit(pictures, budget="10m", allow_code=True, threads=1).result["race"]
    assert race["winner"] == "python:nets:blind" and race["rounds"] == [] and race["stopped"] == "no other one is left to look at"
    why = "training is expected to give python:nets:blind 0.70 more in log odds"
    assert why in of(race, "good")["dropped"] and of(race, "good")["pace"] is None
    # who asks for a race alone sees all
    assert regraft.race(pictures, budget="10m", allow_code=True, threads=1)["winner"] == "python:nets:good"
    # with a little more the worse head is taken, and what both are expected to reach is said
    more["blind"] = 8.0
    told = regraft.race(pictures, budget="10m", allow_code=True, threads=1)
    ahead = "python:nets:good has the better head (1.000), but trained as far as there is time it is expected to reach 0.9"
    assert told["winner"] == "python:nets:blind" and ahead in told["reasons"][0]


def test_a_network_of_fixed_words_is_promised_nothing(text_table):
    from regraft.jobs.labelled import open_labelled
    from regraft.jobs.racing.promising import Promises
    from regraft.pretrained import all_models
    from regraft.spec import FitSpec

    labelled = open_labelled(FitSpec(data=str(text_table)), text_table, None)
    own, fixed = (next(f for f in all_models() if f.name.endswith(name)) for name in ("all-minilm-l6-v2", "use-multilingual-v3"))
    count = len(labelled.part("train")[0])
    told = Promises(labelled, "auto", None, count, 0)
    assert told.of(own, None) > 0 == told.of(fixed, None)
    # as much as fits, and nothing where only a head is fitted
    assert 0 == Promises(labelled, "auto", 120.0, count, 0).of(own, 10.0) < Promises(labelled, "auto", 120.0, count, 0).of(own, 1e-3)
    assert Promises(labelled, "head", None, count, 0).of(own, None) == 0


def test_of_few_examples_a_network_is_timed_once_it_is_open(make_images, tmp_path, here, monkeypatch):
    from regraft.jobs.frozen import Frozen

    plain, opened = Frozen.run, set()

    def slow_at_first(self, *given, **more):
        found = plain(self, *given, **more)
        found.seconds = found.seconds if id(self) in opened else 100.0
        opened.add(id(self))
        return found

    monkeypatch.setattr(Frozen, "run", slow_at_first)
    found = regraft.race(make_images(tmp_path / "few", count=4), allow_code=True, threads=1)
    assert len(opened) == 2 and all(0 < c["pace"] < 1 for c in found["candidates"])


def test_a_plan_is_of_the_winner(pictures, here, command):
    found = command("plan", pictures, "--model", "auto", *MORE, "--json").json
    assert {option["model"] for option in found["options"]} == {"python:nets:good"}
    assert found["chosen"]["model"] == "python:nets:good"


def test_a_fit_that_was_interrupted_goes_on_with_its_race(pictures, here, monkeypatch):
    def stop_at(said):
        def listen(event):
            if isinstance(event, Said) and said in event.message:
                raise KeyboardInterrupt

        return listen

    with pytest.raises(KeyboardInterrupt):
        regraft.fit(pictures, model="auto", allow_code=True, threads=1, out="during", on_event=stop_at("64 images"))
    assert "race" not in json.loads(Path("during/decisions.json").read_text() if Path("during/decisions.json").exists() else "{}")
    assert regraft.resume("during", allow_code=True).result["model"] == "python:nets:good"
    with pytest.raises(KeyboardInterrupt):
        regraft.fit(pictures, model="auto", allow_code=True, threads=1, out="after", on_event=stop_at("network: "))
    monkeypatch.setattr(here._Race, "__call__", lambda self: pytest.fail("raced again"))
    assert regraft.resume("after", allow_code=True).result["model"] == "python:nets:good"


def test_without_time_the_usual_network_is_taken(pictures, here, monkeypatch):
    monkeypatch.setattr(here, "race_seconds", lambda budget, idle=False: 0.0)
    found = regraft.race(pictures, allow_code=True, threads=1)
    assert found["winner"] == "python:nets:blind" and found["regret"] is None and "without a race" in found["reasons"][0]
    assert all(c["dropped"] == "no time was left to look at it" for c in found["candidates"][1:])
    assert [c["dropped_kind"] for c in found["candidates"]] == ["", "time"]


def test_limits_are_kept_and_what_to_relax_is_said(pictures, here, command):
    refused = command("race", pictures, *MORE, "--max-params", 10)
    assert refused.code == 2 and "no option keeps --max-params 0.1M" in refused.err and "leaves python:nets:" in refused.err
    refused = command("race", pictures, *MORE, "--licence", "mit")
    assert refused.code == 2 and "--licence" in refused.err
    refused = command("race", pictures, *MORE, "--max-latency", "0.001ms")
    assert refused.code == 2 and "--max-latency" in refused.err and "leaves python:nets:" in refused.err
    refused = command("race", pictures, *MORE, "--max-memory", "1MB")
    assert refused.code == 2 and "--max-memory" in refused.err
    kept = command("race", pictures, *MORE, "--max-latency", "60000ms", "--max-memory", "900GB", "--max-params", "1M", "--json")
    assert kept.code == 0 and all(c["latency"] > 0 for c in kept.json["candidates"])
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-params", "1M"], "--model is not auto"),
        (["--model", "auto", "--remove", "body"], "name the network that is to be changed"),
        (["--model", "auto", "--max-params", "-1"], "expected more than 0"),
    ],
)
def test_options_that_contradict_are_refused_before_anything_is_done(pictures, here, command, words, said):
    refused = command("fit", pictures, *MORE, *words)
    assert refused.code == 2 and said in refused.err and not Path("runs").exists()


def test_a_network_of_another_kind_or_name_is_refused(pictures):
    with pytest.raises(UsageError, match="is for text"):
        regraft.race(pictures, model="packaged:all-minilm-l6-v2")
    with pytest.raises(UsageError, match="there is no network"):
        regraft.race(pictures, model=["nets:good", "efficientnet-lite9"], allow_code=True)


@pytest.mark.weights
def test_networks_of_text_with_the_mean_over_their_layers(text_table, command):
    found = command("race", text_table, "--threads", 1, "--json").json
    minilm = of(found, "minilm-l6-v2")
    assert set(minilm["scores"]) == {"features", "layers"} and minilm["figure"]["value"] > 0.7
    assert set(minilm["scores"]["layers"]) == {"logme", "hscore"}
    assert minilm["prior"] == 69.25 and found["limits"]["budget"] is None
