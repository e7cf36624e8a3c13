"""A budget is kept, by a clock that the test moves: what fits is done, recorded before it is acted on, and done again in the same way."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_resume import NETWORK, OWN, Stop, bundle, stopping_at

import regraft
from regraft.deadline import Deadline, OutOfTime
from regraft.errors import RunError
from regraft.events import Progress, Said, Started, Warned
from regraft.jobs.validation import Validation


@pytest.fixture(autouse=True)
def own_code(tmp_path, monkeypatch):
    from regraft.pretrained.architectures import python

    monkeypatch.setattr(python, "_allowed", set())
    (tmp_path / "small_stops.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("small_stops", None)


@dataclass
class Clock:
    """Goes on by what each event of a stage takes: `seconds` by the beginning of its name; asked for the time, by `each`."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])
    each: float = 0.0
    time: float = 1000.0
    events: list[object] = field(default_factory=list[object])

    def __call__(self) -> float:
        self.time += self.each
        return self.time

    def hear(self, event: object) -> None:
        self.events.append(event)
        if isinstance(event, Progress):
            self.time += next((s for name, s in self.seconds.items() if event.stage.startswith(name)), 0.0)

    @property
    def said(self) -> str:
        return "\n".join(e.message for e in self.events if isinstance(e, (Said, Warned)))


def decisions(run) -> dict[str, object]:
    return json.loads((Path(run) / "decisions.json").read_text())


def fit(data, out, seconds, clock, hear=None, **options):
    def listen(event):
        clock.hear(event)
        if hear:
            hear(event)

    return regraft.fit(data, out=out, budget=Deadline(seconds, clock), on_event=listen, **{**NETWORK, **options})


# ------------------------------------------------------------ the pass


def test_a_pass_takes_what_fits_of_every_class(make_images, tmp_path):
    data = make_images(tmp_path / "many", count=40)
    clock = Clock({"features": 1.0})
    run = fit(data, "run", 70.0, clock)
    used = decisions("run")["examples_used"]
    assert 9 <= used["used"] < 70 and used["of"] == 120
    assert run.result["n"] == used["used"] and clock.time - 1000 <= 70
    assert f"{used['used']} of 120 images are used: the budget of 70 s takes no more" in clock.said
    rows = (Path("run") / "out_of_fold.csv").read_text().splitlines()[1:]
    counts = [sum(row.startswith(name) for row in rows) for name in ("blue", "green", "red")]
    assert max(counts) - min(counts) <= 2
    assert run.result["budget"]["with_more"][0] == f"all 120 images ({used['used']} were used)"
    # done again with the decisions: the same bytes, whatever the clock says
    again = fit(data, "again", 70.0, Clock({"features": 0.01}), replay="run")
    assert bundle("again") == bundle("run") and again.result["n"] == used["used"]


def test_a_budget_that_is_not_reached_changes_nothing(image_folder):
    options = {"train": "full", "settings": {"epochs": 2}}
    plain = regraft.fit(image_folder, out="plain", **NETWORK, **options)
    run = fit(image_folder, "run", 1e5, Clock(), **options)
    assert bundle("run") == bundle("plain") and run.result["estimate"] == plain.result["estimate"]
    assert run.result["budget"]["with_more"] == [] and "budget" not in plain.result
    assert not any("budget" in key for key in decisions("plain"))


def test_groups_stay_together_in_what_is_used(tmp_path, make_images):
    data = make_images(tmp_path / "many", count=30)
    paths = sorted(data.rglob("*.png"))
    lines = ["path,label,who", *(f"{p},{p.parent.name},{p.parent.name}{i % 6}" for i, p in enumerate(paths))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    clock = Clock({"features": 1.0})
    fit(tmp_path / "t.csv", "run", 80.0, clock, group="who", allow_outside=True)
    used = decisions("run")["examples_used"]["used"]
    assert used < 90 and used % 5 == 0


@pytest.mark.parametrize("seconds", [2.0, 6.0])
def test_an_impossible_budget_is_refused(image_folder, seconds):
    clock = Clock({"features": 1.0})
    with pytest.raises(RunError, match="is too little") as caught:
        fit(image_folder, "run", seconds, clock)
    assert "or more" in caught.value.expected and "--budget" in caught.value.move
    assert clock.time - 1000 <= seconds + 3


def test_what_cannot_be_meant_is_wrong_usage(command, image_folder):
    answer = command("fit", image_folder, "--budget", "10x")
    assert answer.code == 2 and "--budget 10x: expected a time such as 90s" in answer.err


# ------------------------------------------------------------ below the head


def trained(clock: Clock) -> dict[str, int]:
    """The steps of each training."""
    return {e.stage: e.done for e in clock.events if isinstance(e, Progress) and e.stage.startswith("training")}


def test_a_schedule_is_fitted_to_what_is_left(image_folder):
    clock = Clock({"training": 1.0}, each=0.25)
    run = fit(image_folder, "run", 150.0, clock, train="full", settings={"epochs": 100, "batch": 6})
    found = decisions("run")
    plan = found["training_plan"]
    assert plan["folds"] == 1 and 20 <= plan["steps"] < plan["of"] == 300
    assert clock.time - 1000 <= 150
    made = trained(clock)
    assert list(made) == ["training, fold 1 of 5", "training, all examples"]
    assert "with the whole rise and fall" in clock.said
    assert "1 of 5 folds held out" in run.result["estimate_how"] or run.result.get("asked")
    (more,) = [m for m in run.result["budget"]["with_more"] if "steps" in m]
    assert "all 300 steps of training" in more and "5 folds" in more
    again = fit(image_folder, "again", 150.0, Clock(), train="full", settings={"epochs": 100, "batch": 6}, replay="run")
    assert bundle("again") == bundle("run") and again.result["estimate"] == run.result["estimate"]


def test_a_training_that_gets_slower_is_shortened_and_goes_on_in_the_same_way(image_folder):
    options = {"train": "full", "settings": {"epochs": 40, "batch": 6}}

    def slower_from(step):
        def hear(event):
            if isinstance(event, Progress) and event.stage == "training, all examples" and event.done == step:
                clock.seconds["training, all"] = clock.seconds.pop("training") * 6

        return hear

    clock = Clock({"training": 0.5}, each=0.02)
    run = fit(image_folder, "run", 200.0, clock, slower_from(30), **options)
    found = decisions("run")
    assert found["shortened"] and all(b["step"] <= b["end"] for b in found["shortened"])
    assert clock.time - 1000 <= 200 * 1.02 + 2 and "slower than planned" in clock.said
    assert trained(clock)["training, all examples"] < found["lengths"][-1]["steps"]
    # a run that is stopped after the schedule was shortened goes on to the same bytes
    clock = Clock({"training": 0.5}, each=0.02)
    slow, stop = slower_from(30), stopping_at("training, all examples", found["shortened"][0]["step"] + 2)
    with pytest.raises(Stop):
        fit(image_folder, "stopped", 200.0, clock, lambda event: (slow(event), stop(event)), **options)
    before = decisions("stopped")["shortened"]
    assert before and before == found["shortened"][: len(before)]
    regraft.resume("stopped", allow_code=True)
    again = fit(image_folder, "again", 200.0, Clock(), replay="run", **options)
    assert bundle("again") == bundle("run") and decisions("again")["shortened"] == found["shortened"]
    assert again.result["estimate"] == run.result["estimate"]


def test_where_nothing_below_the_head_fits_the_head_ships(image_folder):
    clock = Clock({"training": 5.0}, each=1.0)
    run = fit(image_folder, "run", 60.0, clock, train="full", settings={"epochs": 40, "batch": 6})
    assert run.result["train"] == "head" and "did not fit into the budget" in run.result["asked"]["reason"]
    assert not decisions("run")["below_head"]["trained"] and not trained(clock)
    assert "nothing below the head is trained within the budget of 60 s" in clock.said
    head = regraft.fit(image_folder, out="head", **NETWORK)
    assert run.result["estimate"] == head.result["estimate"]
    assert run.predict([sorted(image_folder.rglob("*.png"))[0]])
    again = fit(image_folder, "again", 60.0, Clock(), train="full", settings={"epochs": 40, "batch": 6}, replay="run")
    assert bundle("again") == bundle("run") and again.result["train"] == "head"


@pytest.mark.parametrize("jump", [-500.0, 3600.0])
def test_a_clock_that_jumps_breaks_nothing(image_folder, jump):
    clock = Clock({"training": 0.1})

    def hear(event):
        if isinstance(event, Progress) and event.stage == "training, fold 2 of 5" and event.done == 2:
            clock.time += jump

    run = fit(image_folder, "run", 300.0, clock, hear, train="full", settings={"epochs": 10, "batch": 6})
    assert run.predict([sorted(image_folder.rglob("*.png"))[0]])
    if jump > 0:
        # as after a night of sleep: what is there is kept, at once
        assert run.result["train"] == "head" and len(trained(clock)) == 2


def test_a_run_that_goes_on_has_what_was_left(image_folder):
    options = {"train": "full", "settings": {"epochs": 40, "batch": 6}}
    clock = Clock({"training": 0.5}, each=0.01)
    with pytest.raises(Stop):
        fit(image_folder, "run", 100.0, clock, stopping_at("training, fold 1 of 5", 20), **options)
    spent = json.loads(Path("run/time.json").read_text())["seconds"]
    assert 9 <= spent <= clock.time - 1000 and not Path("run/run.json").exists() and Path("run/bundle/bundle.json").is_file()
    run = regraft.resume("run", allow_code=True)
    # the real clock goes on from what was spent
    assert spent <= run.result["budget"]["used"] and run.result["budget"]["seconds"] == 100 and not Path("run/time.json").exists()


def test_the_commands_say_what_it_did(image_folder, command):
    answer = command("fit", image_folder, "--budget", "10m", "--out", "run", "--model", "small_stops:small", "--allow-code")
    assert answer.code == 0 and "budget 10 min," in answer.out, answer.err
    assert "budget 10 min," in command("show", "run").out
    told = command("show", "run", "--json").json["result"]["budget"]
    assert told["seconds"] == 600 and 0 < told["used"] < 600


@pytest.mark.parametrize("train", ["head", "norm"])
def test_a_study_that_takes_too_long_leaves_the_quick_head(image_folder, monkeypatch, train):
    """The study is broken off as the alarm breaks it off; a model was there before it, and ships."""
    plain, there = Validation.probe, list[bool]()

    def probe(self, what, rows, strengths, emit, **options):
        if what == "output layer" and len(strengths) > 1:
            there.append(Path("run/bundle/bundle.json").is_file())
            raise OutOfTime("")
        return plain(self, what, rows, strengths, emit, **options)

    monkeypatch.setattr(Validation, "probe", probe)
    run = fit(image_folder, "run", 600.0, Clock({}), train=train)
    assert there == [True] and decisions("run")["fitting"] == {"places": [5], "nested": False}
    assert "all 9 strengths of the output layer" in str(run.result["budget"]["with_more"])
    assert run.result["train"] == train and len(decisions("run")["strengths"]) == 1
    assert regraft.predict("run", [next(image_folder.rglob("*.png"))])
    again = regraft.fit(image_folder, out="again", budget=Deadline(600.0, Clock({})), replay="run", **NETWORK, train=train)
    assert there == [True], "a replay does what was done, and begins no study"
    assert bundle("again") == bundle("run") and again.result["estimate"] == run.result["estimate"]


def test_progress_is_one_stage_over_all_rounds(make_images, tmp_path):
    data = make_images(tmp_path / "many", count=30)
    clock = Clock({"features": 0.5})
    fit(data, "run", 300.0, clock)
    begun = [e for e in clock.events if isinstance(e, Started) and e.stage == "features"]
    done = [e.done for e in clock.events if isinstance(e, Progress) and e.stage == "features"]
    assert [e.total for e in begun] == [90] and done == list(range(1, 91))


def test_contrastive_tuning_keeps_it_too(image_folder):
    clock = Clock({"contrastive": 1.0}, each=0.25)
    run = fit(image_folder, "run", 90.0, clock, train="contrastive")
    found = decisions("run")
    made = {e.stage: e.done for e in clock.events if isinstance(e, Progress) and e.stage.startswith("contrastive")}
    assert found["training_plan"]["of"] == 20 and clock.time - 1000 <= 90
    # fewer folds, and steps that got slower than was measured are fewer
    assert found["folds_trained"] < 5 and made["contrastive, all examples"] < 20
    again = fit(image_folder, "again", 90.0, Clock(), train="contrastive", replay="run")
    assert bundle("again") == bundle("run") and again.result["estimate"] == run.result["estimate"]


def test_where_whole_steps_of_tuning_do_not_fit_smaller_ones_are_made(image_folder, monkeypatch):
    from regraft.training import contrastive

    monkeypatch.setattr(contrastive, "seconds_of_step", lambda encoder, task, settings, seed, now: 0.2 * settings.batch)
    clock = Clock({"contrastive": 0.5}, each=0.01)
    run = fit(image_folder, "run", 90.0, clock, train="contrastive")
    found, many = decisions("run"), len(list(image_folder.rglob("*.png")))
    assert found["settings"]["batch"] == many // 2 and found["training_plan"]["steps"] == 20
    assert f"contrastive tuning: {many // 2} of {many} examples a step" in clock.said
    assert f"{many} examples in each step of contrastive tuning ({many // 2} were)" in str(run.result["budget"]["with_more"])
    fit(image_folder, "again", 90.0, Clock(), train="contrastive", replay="run")
    assert bundle("again") == bundle("run") and decisions("again")["settings"] == found["settings"]
    # where not even the smallest fit, nothing is trained
    monkeypatch.setattr(contrastive, "seconds_of_step", lambda encoder, task, settings, seed, now: float(settings.batch))
    less = fit(image_folder, "less", 90.0, Clock({"contrastive": 0.5}, each=0.01), train="contrastive")
    assert less.result["train"] == "head" and decisions("less")["settings"]["batch"] < many


def test_views_that_do_not_fit_are_left_out(image_folder):
    clock = Clock({"augmented": 1.0, "a view": 1.0})
    run = fit(image_folder, "run", 120.0, clock, views=8, augment="crop")
    count = decisions("run")["views"]["count"]
    assert 2 <= count < 8 and clock.time - 1000 <= 120
    assert run.result["budget"]["with_more"] == [f"8 views of each example ({count} were used)"]
    fit(image_folder, "again", 120.0, Clock(), views=8, augment="crop", replay="run")
    assert bundle("again") == bundle("run")
