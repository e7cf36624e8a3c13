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

from regraft.data.base import Example
from regraft.deadline import OutOfTime
from regraft.errors import ModelError, UsageError
from regraft.evaluation.names import METRIC_NAMES
from regraft.events import Said, Warned
from regraft.facts import Figure
from regraft.jobs.calibrate import CUTTING, JUDGED, LEAST, Sample, batch_to_time, read_known, seconds_to_time
from regraft.jobs.candidates import Candidate, save_candidate, tempered, trained_candidate
from regraft.jobs.common import memory_room_mb, peak_memory_mb, resident_mb
from regraft.jobs.contrastive import TunedEncoder, check_contrastive
from regraft.jobs.engines import circumstances
from regraft.jobs.frozen import Frozen
from regraft.jobs.growing import compared_places, errors_of, likely
from regraft.jobs.labelled import Labelled
from regraft.jobs.network import Given
from regraft.jobs.pacing import SHORTENED, finishing
from regraft.jobs.planned import earlier_outcomes, known_of
from regraft.jobs.prospects import LADDER, Ground, calibrated, few_texts, hopeless, rungs_of, unlooked
from regraft.jobs.recording import DATA, Recorder
from regraft.jobs.ship import settled
from regraft.jobs.validation import Validation
from regraft.jobs.work import Deeper, plan_deeper
from regraft.modality import MODALITIES
from regraft.spec import FitSpec
from regraft.strategy.cost import Amount, Held, Pace, Range, probe_seconds
from regraft.strategy.explain import Step, Story, explained, step_of
from regraft.strategy.gains import RATE, SHARES, Expected, Grown, scaled, unscaled
from regraft.strategy.ladder import Choice, Prospect, Room, Standing, Tried, most_promising, next_rung
from regraft.strategy.outcomes import Outcome, stage_of
from regraft.strategy.pilot import Pilot, heard
from regraft.strategy.plan import allowance, seconds_in_words
from regraft.strategy.similarity import Similarity, similarity_of, skill_of
from regraft.workspace.bundle import copy_bundle, same_bundle
from regraft.workspace.checkpoints import Checkpoint
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.outcomes import keep_outcome
from regraft.workspace.runs import BUNDLE

if TYPE_CHECKING:
    from regraft.features.engines import Engine
    from regraft.jobs.augment import Seen
    from regraft.jobs.deeper import Trained
    from regraft.training.probe import Probe

EXPECTED, CHOICES, OUTCOME = "ladder_expected", "ladder", "outcome"
"""Decisions: what is expected of each rung; what to train next, one after the other; of one rung what came of it."""

LOOKING = 0.15
"""Part of the time that is left which goes into timing what rungs take, at most."""

PACE = "pace"
"""The file of findings where plans keep how fast this machine is, too."""

FEW_TILES = 8
"""Tiles of examples, fewer than which do not say how fast a pass is."""

LACKING, VIEWED = "the network has no such layers, or cannot be trained so", "it reads examples as they are, and views were asked for"

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
    """One climb. `features` are those of the usable examples, `probe` and `head` the linear head on them, `bare` held-out outputs of the
    same without a network; `engine` gave the features, in `spent` seconds for the examples that were `computed`, and `plain_engine` is what
    runs the frozen part before a cut. `train` trains a rung and records what it decides.
    """

    given: Given
    spec: FitSpec
    labelled: Labelled
    usable: Sequence[Example]
    features: np.ndarray
    validation: Validation
    probe: Probe
    head: Candidate
    bare: np.ndarray
    frozen: Frozen
    engine: Engine
    plain_engine: Engine | None
    computed: int
    spent: float
    seen: Seen | None
    device: str
    threads: int
    recorder: Recorder
    train: Callable[[Deeper, Recorder], Trained | TunedEncoder]

    def __call__(self) -> Climbed:
        """Climb, and say what came of it."""
        recorder, self.emit = self.recorder, self.recorder.emit
        target = self.labelled.target
        self.metric = target.metrics[0]
        judged = self.validation.figures(self.validation.judge(self.head.held_out))[self.metric].value
        self.similarity = self._similarity()
        self.steps: dict[str, Step] = {}
        prospects, unavailable = self._expectations(judged)
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
            self.steps[choice.train] = step.judged(done.tried, range_of(done.over_best), done.seconds, done.memory)
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

    # ------------------------------------------------------------ expectations

    def _expectations(self, judged: float) -> tuple[list[Prospect], dict[str, str]]:
        """(what can be trained, with what is expected of it; what cannot, and why), recorded."""
        recorder = self.recorder
        held = recorder.held_decision(EXPECTED)
        if held is None:
            try:
                recorder.deadline.ring_at(finishing(recorder), "")
                prospects, unavailable = self._look(judged)
            except OutOfTime:
                prospects, unavailable = self._unlooked(), {}
            finally:
                recorder.deadline.silence()
            held = {"rungs": [p.to_json() for p in prospects], "unavailable": unavailable}
        recorder.decide(**{EXPECTED: held})
        return [Prospect.from_json(p) for p in held["rungs"]], dict(held["unavailable"])

    def _look(self, judged: float) -> tuple[list[Prospect], dict[str, str]]:
        recorder, deadline, validation = self.recorder, self.recorder.deadline, self.validation
        parts, target = validation.parts, self.labelled.target
        outcomes, near = earlier_outcomes()[0], self.similarity.kind
        if hopeless(found := self._unlooked(), self.metric, judged):
            return found, {}  # what each takes is not looked at
        known = self._known()
        pace = self._pace(known)
        left = lambda: deadline.left - finishing(recorder)
        until = deadline.spent + (LOOKING * left() if deadline.bound else allowance(None))
        if deadline.bound and CUTTING + seconds_to_time(pace.example, LEAST, JUDGED) > left():
            return self._unlooked(), {}  # too little is left to find out what a rung takes here
        deeper = rungs_of(self.given, self.labelled)
        if self.seen is not None:
            deeper.pop("contrastive", None)  # it reads the examples as they are
        budget = lambda: until - deadline.spent
        count = max(JUDGED, batch_to_time(pace.example, max(0.0, min(60.0, budget())), 32))
        places = np.unique(np.linspace(0, len(parts.train) - 1, min(count, len(parts.train))).astype(int))
        at = parts.train[places]
        sample = Sample(
            [self.usable[k] for k in at],
            self.features[at],
            validation,
            self.probe,
            self.device,
            max(2, self.threads),
            self.spec.seed,
            self.spec.store,
            self.plain_engine,
            places,
        )
        held = Held(resident_mb() or 0.0, peak_memory_mb() or 0.0)
        before = read_known(known.get("rungs"))
        rungs = before if known.get("complete") is True and before else None
        complete = rungs is not None
        if rungs is None:
            rungs, complete = calibrated(deeper, sample, before, pace, budget, len(parts.train), self.emit, bound=deadline.bound)
        rungs = {train: k for train, k in rungs.items() if train in deeper}
        if "full" in rungs:
            whole = rungs["full"]
            measured = (*pace.measured, "judged") if whole.measured else pace.measured
            pace = replace(pace, judged=whole.timed.judged, reading=whole.timed.reading, measured=measured)
        self._keep_known(known, pace, held, rungs, complete=complete)
        amount = Amount(
            train=len(parts.train),
            test=len(parts.test),
            outputs=len(target.outputs),
            folds=validation.count,
            nested=validation.nested,
            windows=next((k.timed.windows for k in rungs.values() if k.measured), 1.0),
            missing=0,
            width=self.features.shape[1],
            rows=1,
        )
        head = Grown(Expected(scaled(self.metric, judged), 0.0))
        held = Held(resident_mb() or 0.0, peak_memory_mb() or 0.0)
        ground = Ground(
            self.given,
            self.labelled,
            self.device,
            outcomes,
            amount,
            pace,
            held,
            rungs,
            head,
            len(parts.train) + len(parts.test),
            judged,
            near,
        )
        there = self._heard(ground.prospects())
        lacking = [train for train in LADDER[2:] if train not in rungs and (train != "contrastive" or few_texts(self.labelled))]
        return there, {train: VIEWED if train == "contrastive" and self.seen else LACKING for train in lacking}

    def _unlooked(self) -> list[Prospect]:
        """What can be said of the rungs where there is no time to look at what they take."""
        examples, near = len(self.validation.parts.train), self.similarity.kind
        return self._heard(unlooked(self.labelled, self.given.facts.name, examples, near, earlier_outcomes()[0]))

    def _heard(self, prospects: list[Prospect]) -> list[Prospect]:
        """After what a short training of this network gave in a race, where it had one."""
        race = self.recorder.decisions.get("race") or {}
        own = next((c for c in race.get("candidates", ()) if c["name"] == self.given.facts.name), {})
        return heard(prospects, Pilot.from_json(own["pilot"])) if own.get("pilot") else prospects

    def _pace(self, known: Mapping[str, Any]) -> Pace:
        """How fast the pass and the head were, here or in an earlier plan of the same data."""
        # the network is open
        pace, parts = Pace(setup=0.0), self.validation.parts
        if self.computed:
            spent, count = self.spent, self.computed
            if count < FEW_TILES * self.frozen.tile:
                # most of that went into opening the network
                spent, count = self.frozen.seconds_again(self.usable, self.device, self.threads, self.engine)
            pace = replace(pace, example=spent / count, timed=count, measured=("example",))
        elif isinstance(held := known.get("pace"), Mapping):
            pace = pace.as_before(held, ("example", "reading", "judged"))
        nested, outputs = self.validation.nested, len(self.labelled.target.outputs)
        expected = probe_seconds(len(parts.y), self.features.shape[1], outputs, nested=nested)
        if taken := self.recorder.stages.get("output layer"):
            pace = replace(pace, probe=taken / expected, measured=(*pace.measured, "probe"))
        return pace

    def _key(self) -> str:
        on = circumstances(self.frozen, [self.engine], self.device, self.threads)
        return findings_key({"circumstances": on, "data": known_of(self.labelled)})

    def _known(self) -> Mapping[str, Any]:
        """What an earlier plan or climb found of the pace here. Of a changed network nothing is kept."""
        found = None if self.given.edited is not None else read_finding(PACE, self._key())
        return found if isinstance(found, Mapping) else {}

    def _keep_known(self, known: Mapping[str, Any], pace: Pace, held: Held, rungs: Mapping[str, Any], *, complete: bool) -> None:
        if self.given.edited is None and not known:
            kept = {"pace": pace.to_json(), "held": [held.resident, held.peak], "complete": complete}
            keep_finding(PACE, self._key(), {**kept, "rungs": {name: k.to_json() for name, k in rungs.items()}})

    def _similarity(self) -> Similarity:
        """How similar the data is to what the network knows, by its features."""
        from regraft.evaluation.trust.similarity import neighbour_outputs

        validation, target = self.validation, self.labelled.target
        y, kind = validation.parts.y, target.name
        values = np.eye(len(target.outputs), dtype=np.float32)[y] if kind == "class" else y.reshape(len(y), -1).astype(np.float64)
        middle = np.median(values, axis=0) if kind == "number" else values.mean(0)
        always = np.where(np.isfinite(self.head.held_out), middle[None, :], np.nan)
        some = compared_places(len(y))
        near = np.full(always.shape, np.nan)
        rows = self.features[validation.parts.train[some]]
        near[some] = neighbour_outputs(rows, values[some], validation.folds[some])
        outputs = (self.head.held_out, likely(kind, near), self.bare)
        constant = float(errors_of(validation, likely(kind, always)).mean())
        linear, neighbours, without = (skill_of(float(errors_of(validation, o).mean()), constant) for o in outputs)
        return similarity_of(linear, neighbours, without)

    # ------------------------------------------------------------ one after the other

    def _choice(self, number: int, prospects: Sequence[Prospect], standing: Standing) -> tuple[Room, Choice]:
        """What is trained next, as it was decided before or by what is left now; recorded."""
        recorder, deadline = self.recorder, self.recorder.deadline
        listed = recorder.listed(CHOICES)
        if number < len(listed):
            return Room.from_json(listed[number]["room"]), Choice.from_json(listed[number])
        left = deadline.left - finishing(recorder) if deadline.bound else float("inf")
        room = Room.from_json(Room(left, memory_room_mb() if self.device == "cpu" else float("inf")).to_json())
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
            (over_best, count), (over_head, _) = (compared(candidate.held_out, o.held_out, validation) for o in (best, self.head))
            tried = weigh(range_of(over_best), range_of(over_head), count)
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
        without = validation.figures(validation.judge(self.bare))[self.metric].value
        against_none = validation.gain(validation.judge(self.head.held_out), self.bare)
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
            kind=self.similarity.kind,
            reasons=self.similarity.reasons,
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
            "similarity": self.similarity.to_json(),
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
            prospect.train, self.head.facts.name, self.device.partition(":")[0], pairs, memory, (float(raw["figure"]), figure)
        )
        keep_outcome(outcome.to_json())


def compared(held: np.ndarray, other: np.ndarray, validation: Validation) -> tuple[Figure, int]:
    """(what a model gains over another one, by held-out outputs (n, outputs) of both, where both have them; how many those are)."""
    places = np.flatnonzero(np.isfinite(held).all(1) & np.isfinite(other).all(1))
    return validation.gain(validation.judge(held, places), other), len(places)


def raised(before: float | None, now: float | None) -> float | None:
    """The most memory that the process held, in MB, where it is more than before: else it says nothing of what was done since."""
    return now if now is not None and before is not None and now > before else None


def range_of(figure: Figure) -> Range:
    """A figure with its interval, for the ladder."""
    return Range(figure.value, figure.low, figure.high)


def _never(temperature: float) -> None:
    raise AssertionError("a model that is written already")
