"""A fit that climbs the ladder: from the linear head on, a rung at a time, as long as more is expected to be worth its cost.

In comes a fit that has its head on disk; out goes the best model of those that were trained, and what was expected and measured of each.
What is decided (expectations, the order, the end) is written down before it is acted on. The best model so far is whole on disk at every
moment.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.deadline import OutOfTime
from regraft.errors import ModelError, UsageError
from regraft.evaluation.names import METRIC_NAMES
from regraft.events import Said, Warned
from regraft.facts import Figure
from regraft.jobs.candidates import Candidate, save_candidate, tempered, trained_candidate
from regraft.jobs.common import memory_room_mb, peak_memory_mb
from regraft.jobs.contrastive import TunedEncoder, check_contrastive
from regraft.jobs.expecting import Expecting
from regraft.jobs.pacing import SHORTENED, finishing
from regraft.jobs.prospects import LADDER
from regraft.jobs.recording import DATA, Recorder
from regraft.jobs.ship import settled
from regraft.jobs.work import Deeper, plan_deeper
from regraft.modality import MODALITIES
from regraft.strategy.cost import Range
from regraft.strategy.explain import Step, Story, explained, step_of
from regraft.strategy.gains import RATE, SHARES, scaled, unscaled
from regraft.strategy.ladder import Choice, Prospect, Room, Standing, Tried, most_promising, next_rung
from regraft.strategy.outcomes import Outcome, stage_of
from regraft.strategy.plan import seconds_in_words
from regraft.workspace.bundle import copy_bundle, same_bundle
from regraft.workspace.checkpoints import Checkpoint
from regraft.workspace.outcomes import keep_outcome
from regraft.workspace.runs import BUNDLE

if TYPE_CHECKING:
    from regraft.jobs.deeper import Trained

CHOICES, OUTCOME = "ladder", "outcome"
"""Decisions: what to train next, one after the other; of one rung what came of it."""

UNITS, MEASURES = {"class": "class", "multilabel": "label"}, {"f1_of_examples": "F1 of each example"}
"""What has examples, by the target; what gains are measured in, where that is not the target's first metric."""

DONE = "done.safetensors"
"""What a rung that came to its end leaves for a run that goes on."""


Weigh = Callable[[Range, Range, int], Tried]
"""What to believe of a rung by what it gained over the best so far and over the head on so many examples."""


@dataclass(frozen=True)
class Climbed:
    """The model that is kept, what it gains over the head where it is another one, and the result's words on the ladder."""

    candidate: Candidate
    over_head: Figure | None
    result: Mapping[str, Any]


@dataclass(frozen=True)
class _Done:
    """A rung that was trained and judged: its model, what it gains over the best so far and over the head, what that lets believe, the
    seconds it took, and the MB that the process held at most, where it raised that.
    """

    candidate: Candidate
    over_best: Figure
    over_head: Figure
    tried: Tried
    seconds: float
    memory: float | None


@dataclass
class Climb:
    """One climb. `expecting` has what the fit knows so far and tells what each rung may give; `head` is its linear head as a model. `train`
    trains a rung and records what it decides.
    """

    expecting: Expecting
    head: Candidate
    train: Callable[[Deeper, Recorder], Trained | TunedEncoder]

    def __post_init__(self) -> None:
        known = self.expecting
        self.given, self.labelled, self.validation, self.recorder = known.given, known.labelled, known.validation, known.recorder
        self.metric, self.emit, self.steps = known.metric, known.recorder.emit, dict[str, Step]()

    def __call__(self) -> Climbed:
        """Climb, and say what came of it."""
        recorder, judged = self.recorder, self.expecting.judged
        prospects, unavailable = self.expecting()
        best, over_head = self.head, None
        standing = Standing(self.metric, judged)
        number = 0
        while True:
            room, choice = self._choice(number, prospects, standing)
            if not choice.train:
                break
            number += 1
            prospect = next(p for p in prospects if p.train == choice.train)
            step = step_of(prospect, prospects, standing, room, choice.why)
            aim = next((p.way(room.seconds) for p in prospects if p.train == choice.aim != choice.train), None)
            own = recorder.of_rung(choice.train, aim.seconds.high if aim else 0.0)
            weigh = partial(standing.weighed, prospect, prospects, prospect.way(room.seconds))
            done, reason = self._rung(prospect, own, best, weigh)
            standing = replace(standing, aim=choice.aim)
            if done is None:
                self.steps[choice.train] = replace(step, why=reason)
                standing = replace(standing, passed=standing.passed | {choice.train})
                continue
            self.steps[choice.train] = step.judged(done.tried, Range.of(done.over_best), done.seconds, done.memory)
            standing = standing.with_tried(choice.train, done.tried)
            self._keep_outcome(prospect, own, standing, done)
            if done.tried.better:
                best, over_head = done.candidate, done.over_head
        for p in prospects:
            if p.train not in self.steps:
                self.steps[p.train] = step_of(p, prospects, standing, room, choice.others.get(p.train, choice.why))
        self.steps |= {train: Step(train, standing.best, why) for train, why in unavailable.items()}
        self.emit(Said(f"ladder: {standing.best} is kept; {choice.why}"))
        return Climbed(best, over_head, self._result(prospects, standing, choice, judged, best))

    # ------------------------------------------------------------ one after the other

    def _choice(self, number: int, prospects: Sequence[Prospect], standing: Standing) -> tuple[Room, Choice]:
        """What is trained next, as it was decided before or by what is left now; recorded."""
        recorder, deadline = self.recorder, self.recorder.deadline
        listed = recorder.listed(CHOICES)
        if number < len(listed):
            return Room.from_json(listed[number]["room"]), Choice.from_json(listed[number])
        left = deadline.left - finishing(recorder) if deadline.bound else float("inf")
        room = Room.from_json(Room(left, memory_room_mb() if self.expecting.device == "cpu" else float("inf")).to_json())
        choice = next_rung(prospects, standing, room)
        recorder.lengthen(CHOICES, {**choice.to_json(), "room": room.to_json()})
        if choice.train:
            self.emit(Said(f"ladder: {choice.train} next, {choice.why}"))
        return room, choice

    def _rung(self, prospect: Prospect, own: Recorder, best: Candidate, weigh: Weigh) -> tuple[_Done | None, str]:
        """(a rung, trained and judged; why it was not)."""
        held = own.held_decision(OUTCOME)
        if held and not held["trained"]:
            own.decide(**{OUTCOME: held})
            return None, held["reason"]
        if (before := self._taken_up(prospect.train, own)) is not None:
            self.emit(Said(f"ladder: {prospect.train} was trained before"))
            return before, ""
        deadline, more = self.recorder.deadline, dict(self.recorder.deadline.more)
        try:
            deadline.ring_at(finishing(self.recorder), "")
            return self._trained(prospect.train, own, best, weigh, more), ""
        except OutOfTime as late:
            reason = late.reason or f"the time was over at: {self.recorder.stage or 'preparing it'}"
        except (ModelError, UsageError, RuntimeError, MemoryError) as error:
            told = error.found if isinstance(error, (ModelError, UsageError)) else next(iter(str(error).splitlines()), type(error).__name__)
            reason = f"it cannot be trained: {told}"
        finally:
            deadline.silence()
        deadline.more.clear()
        deadline.more.update(more)
        own.anew(OUTCOME)
        own.decide(**{OUTCOME: {"trained": False, "reason": reason}})
        self.emit(Warned(f"{prospect.train} is left out: {reason}"))
        return None, reason

    def _trained(self, train: str, own: Recorder, best: Candidate, weigh: Weigh, more: dict[str, str]) -> _Done:
        begun, peak = time.perf_counter(), peak_memory_mb()
        target, validation = self.labelled.target, self.validation
        modality = MODALITIES[self.labelled.dataset.task]
        # opened anew: no rung starts from what another one trained
        deeper = plan_deeper(self.given.base, self.given.edited, train, {}, target, modality)
        assert deeper is not None
        if train == "contrastive":
            check_contrastive(deeper, target)
        trained = self.train(deeper, own)
        try:
            if isinstance(trained, TunedEncoder):
                candidate = trained.candidate(validation)
            else:
                candidate = trained_candidate(trained, validation, self.head.engine, self.head.features)
            (over_best, count), (over_head, _) = (validation.compared(candidate.held_out, o.held_out) for o in (best, self.head))
            tried = weigh(Range.of(over_best), Range.of(over_head), count)
            if kept := tried.better:
                candidate = tempered(candidate, validation, own.decide, self.emit)
            scores = candidate.scores(validation.parts.test) if kept and len(validation.parts.test) else np.zeros((0, 1))
            self.recorder.deadline.silence()
            if kept:
                save_candidate(own.checkpoints / BUNDLE, candidate, settled(candidate, validation))
        finally:
            trained.close()
        facts = {
            "how": candidate.how,
            "over_best": vars(over_best),
            "over_head": vars(over_head),
            "tried": tried.to_json(),
            "seconds": time.perf_counter() - begun,
            "memory": raised(peak, peak_memory_mb()),
        }
        self._checkpoint(own).save({"held_out": candidate.held_out, "scores": scores}, facts)
        if not kept:
            self.recorder.deadline.more.clear()
            self.recorder.deadline.more.update(more)
        said = f"{train}: {target.difference(over_best)} against {best.rung}, on the same {count:,} held-out {modality.nouns}"
        self.emit(Said(f"ladder: {said}: {'it is kept' if kept else f'{best.rung} stays'}"))
        del trained, deeper, candidate
        gc.collect()
        done = self._taken_up(train, own)
        assert done is not None
        return done

    def _checkpoint(self, own: Recorder) -> Checkpoint:
        """What a rung that came to its end leaves for a run that goes on."""
        taken = own.decisions
        return Checkpoint(own.checkpoints / DONE, {name: taken[name] for name in (DATA, "model", "recipe", "trained") if name in taken})

    def _taken_up(self, train: str, own: Recorder) -> _Done | None:
        """A rung that came to its end, now or before the run was interrupted: its bundle in the place of the run's, if it is better."""
        if not (own.checkpoints / DONE).is_file():
            return None
        found = self._checkpoint(own).read()
        assert found is not None
        tensors, facts = found
        gains = Figure(**facts["over_best"]), Figure(**facts["over_head"])
        tried = Tried.from_json(facts["tried"])
        measured = {"over_best": gains[0].to_json(), "over_head": gains[1].to_json(), "judged": tried.count}
        own.decide(**{OUTCOME: {"trained": True, "kept": tried.better, **measured}})
        place = own.checkpoints / BUNDLE
        if tried.better and not same_bundle(place, self.recorder.path / BUNDLE):
            copy_bundle(place, self.recorder.path / BUNDLE)
        for left in own.checkpoints.glob("*.safetensors"):
            if left.name != DONE:
                left.unlink(missing_ok=True)

        def scores(positions: np.ndarray) -> np.ndarray:
            return tensors["scores"]

        candidate = replace(
            self.head, rung=train, held_out=tensors["held_out"], how=facts["how"], scores=scores, tensors=dict, cool=_never, saved=place
        )
        return _Done(candidate, *gains, tried, facts["seconds"], facts.get("memory"))

    # ------------------------------------------------------------ what came of it

    def _result(self, prospects: Sequence[Prospect], standing: Standing, choice: Choice, judged: float, best: Candidate) -> dict[str, Any]:
        """What `run.json` says of the climb."""
        validation, target, n = self.validation, self.labelled.target, len(self.validation.parts.y)
        without = validation.figures(validation.judge(self.expecting.bare))[self.metric].value
        against_none = validation.gain(validation.judge(self.head.held_out), self.expecting.bare)
        steps = sorted(self.steps.values(), key=lambda s: LADDER.index(s.train))
        story = Story(
            metric=self.metric,
            metric_name=METRIC_NAMES[self.metric].replace(",", ""),
            n=n,
            each=float(n) if target.name == "number" else sum(target.spread(validation.parts.y).values()) / len(target.outputs),
            unit=UNITS.get(target.name, ""),
            described=target.described(self.labelled.train_cells),
            nouns=MODALITIES[self.labelled.dataset.task].nouns,
            model=self.head.facts.name,
            kind=self.expecting.similarity.kind,
            reasons=self.expecting.similarity.reasons,
            head=judged,
            without=without,
            steps=steps,
            best=standing.best,
            figure=validation.figures(validation.judge(best.held_out))[self.metric].value,
            end=choice.why,
            twice=unscaled(self.metric, scaled(self.metric, judged) + RATE[self.metric in SHARES].mean * math.log(2)),
            longer=self._longer(prospects, standing),
            clear=against_none.low > 0,
            measure=MEASURES.get(target.compared, ""),
            short=list(self.recorder.deadline.more.values()),
            raced=bool(self.recorder.decisions.get("race", {}).get("rounds")),
        )
        head = {
            "train": "head",
            "tried": True,
            "kept": True,
            "why": "every climb begins with it",
            "measured": {self.metric: round(judged, 6)},
        }
        return {
            "ladder": [head, *(s.to_json() for s in steps)],
            "similarity": self.expecting.similarity.to_json(),
            "explanation": explained(story),
        }

    def _longer(self, prospects: Sequence[Prospect], standing: Standing) -> dict[str, Any]:
        """The budget that would take one more rung, and what that is expected to give; nothing where none would."""
        deadline = self.recorder.deadline
        if not deadline.bound:
            return {}
        choice = next_rung(prospects, replace(standing, aim=""), Room())
        found = next((p for p in prospects if p.train == choice.aim), None) or most_promising(prospects, standing)
        if found is None:
            return {}
        gain = step_of(found, prospects, standing, Room(), "").expected
        if not found.ways:
            return {"train": found.train, "gain": gain}
        seconds = deadline.spent + found.ways[-1].seconds.high + finishing(self.recorder)
        return {"train": found.train, "budget": seconds_in_words(10 * math.ceil(seconds / 10)), "gain": gain}

    def _keep_outcome(self, prospect: Prospect, own: Recorder, standing: Standing, done: _Done) -> None:
        """Add what came of an expectation to the local record, where it can be compared: not of a rung that was taken up again, and no
        seconds of one that the budget cut short.
        """
        if not own.uninterrupted or own.replays:
            return
        raw, stages = prospect.raw, dict[str, float]()
        for name, spent in own.stages.items():
            if stage := stage_of(name):
                stages[stage] = stages.get(stage, 0.0) + spent
        plan, most = own.decisions.get("training_plan"), prospect.ways[-1].folds
        if own.decisions.get(SHORTENED) or plan and (plan["steps"] < plan["of"] or plan["folds"] < most):
            stages.pop("training", None)
        pairs = {n: (float(raw["stages"][n]), s) for n, s in stages.items() if n in raw["stages"]}
        memory = (float(raw["memory"]), done.memory) if done.memory is not None else None
        figure = scaled(self.metric, standing.after(standing.tried[prospect.train].measured.value))
        outcome = Outcome(
            prospect.train, self.head.facts.name, self.expecting.device.partition(":")[0], pairs, memory, (float(raw["figure"]), figure)
        )
        keep_outcome(outcome.to_json())


def raised(before: float | None, now: float | None) -> float | None:
    """The most memory that the process held, in MB, where it is more than before: else it says nothing of what was done since."""
    return now if now is not None and before is not None and now > before else None


def _never(temperature: float) -> None:
    raise AssertionError("a model that is written already")
