"""Training below the head within a budget: what is measured before it, how long it may be, and what is recorded of it on the way."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from regraft.deadline import OutOfTime
from regraft.events import Said, Warned
from regraft.jobs.common import has_bfloat16
from regraft.jobs.recording import Recorder
from regraft.strategy.budget import (
    Costs,
    Training,
    fold_steps,
    folds_within,
    may_look,
    shortened,
    steps_within,
    time_for,
    training_within,
)
from regraft.strategy.settings import Settings, folds_to_train, precision_for, worth_timing

if TYPE_CHECKING:
    from regraft.jobs.work import Work
    from regraft.training.deeper import Task
    from regraft.training.loop import Bend, Learner
    from regraft.training.pacing import Pacing

JUDGED = 32
"""Examples whose judging is timed."""

RECENT = 16
"""Steps that say how fast a training is now."""

JUDGING = 0.15
"""Part of the time for training that judging weights between its start and end may take; beyond, its end alone is judged."""

LENGTHS, SHORTENED, FOLDS = "lengths", "shortened", "folds_within"


def finishing(recorder: Recorder, scoring: float = 0.0) -> float:
    """Seconds that are set aside for what comes after training, with so many for the scores of the test part."""
    deadline = recorder.deadline
    return (deadline.ending + scoring / max(1.0, deadline.slowness)) * deadline.slowness + 1.3 * deadline.writing + recorder.reserved


@dataclass
class Pace:
    """A training in the time that is left: `whole` steps are its schedule on everything, `folds` those of the data, which has so many
    training `examples`.
    """

    recorder: Recorder
    what: str
    """The stage, in words: contrastive tuning, training."""
    folds: int
    examples: int
    whole: int
    costs: Costs
    plan: Training
    prefix: str = ""
    """What the names of its decisions begin with."""
    _until: float = math.inf
    _times: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RECENT + 1))
    _bends: list[dict[str, int]] = field(default_factory=list[dict[str, int]])

    @classmethod
    def of(
        cls, recorder: Recorder, what: str, folds: int, examples: int, whole: int, measured: Callable[[], Costs], prefix: str = ""
    ) -> Pace:
        """The plan, recorded under a name that begins so. OutOfTime where nothing fits."""
        held = recorder.held_decision(f"{prefix}training_plan")
        if held is None:
            costs = measured()
            one = fold_steps(whole, folds) * costs.step + costs.judging
            # what is wanted without a budget is enough with one
            most = folds_to_train(folds, one, examples)
            plan = training_within(recorder.deadline.left, costs, folds, whole, most)
            if plan is None:
                raise OutOfTime(cls.too_slow(what, costs, recorder.deadline.left))
        else:
            costs, plan = Costs(**held["seconds"]), Training(held["folds"], held["steps"])
        seconds = {"step": round(costs.step, 5), "judging": round(costs.judging, 3), "finishing": round(costs.finishing, 3)}
        recorder.decide(**{f"{prefix}training_plan": {"folds": plan.folds, "steps": plan.steps, "of": whole, "seconds": seconds}})
        if plan.steps < whole:
            recorder.emit(
                Said(f"{what}: {plan.steps} of {whole} steps, with the whole rise and fall of the rates: the budget takes no more")
            )
        return cls(recorder, what, folds, examples, whole, costs, plan, prefix, _bends=recorder.listed(prefix + SHORTENED))

    @staticmethod
    def too_slow(what: str, costs: Costs, left: float) -> str:
        """Why nothing is trained."""
        return f"a step of {what} takes {costs.step:.2g} s here, and {max(0.0, left - costs.finishing):.0f} s are left for it"

    def pacing(self) -> Pacing:
        """As `tune` asks it."""
        from regraft.training.pacing import Pacing

        return Pacing(self.steps, self.trained_folds, self.bends, self.shorter)

    def bends(self, training: int) -> list[Bend]:
        """Where the schedule of a training was shortened before."""
        from regraft.training.loop import Bend

        return [Bend(b["restart"], b["step"], b["end"]) for b in self._bends if b["training"] == training]

    def steps(self, training: int, last: bool, whole: int) -> int:
        """How many steps of its `whole` schedule a training makes; OutOfTime where the final one does not fit any more."""
        deadline = self.recorder.deadline
        listed = self.recorder.listed(self.prefix + LENGTHS)
        held = next((entry["steps"] for entry in listed if entry["training"] == training), None)
        if held is None:
            made = [self._made(entry) for entry in listed] if last else []
            part = min(self.plan.steps / self.whole, median(made)) if made else self.plan.steps / self.whole
            held = max(1, math.ceil(round(whole * part, 6)))
            if last:
                fitting = steps_within(deadline.left, self.costs, held)
                if fitting is None:
                    raise OutOfTime(self.too_slow(self.what, self.costs, deadline.left))
                held = fitting
            self.recorder.lengthen(self.prefix + LENGTHS, {"training": training, "steps": held, "of": whole})
        self._times.clear()
        # what was over before is done again as it was
        past = any(entry["training"] > training for entry in listed)
        self._until = math.inf
        if not self.recorder.replays and not past:
            own = held * self.costs.step
            # other folds are left out before a schedule is shortened
            rest = 0.0 if last else self.costs.judging + self.plan.steps * self.costs.step
            room = deadline.left - self.costs.finishing
            self._until = deadline.spent + time_for(room, own, rest)
        return held

    def _made(self, entry: dict[str, int]) -> float:
        """The part of its schedule that a training made."""
        return min([entry["steps"], *(bend.end for bend in self.bends(entry["training"]))]) / entry["of"]

    @property
    def _pace(self) -> float:
        """Seconds of a step by the last ones; as planned where there are too few."""
        taken = len(self._times) - 1
        return (self._times[-1][1] - self._times[0][1]) / taken if taken > 0 else self.costs.step

    def shorter(self, training: int, restart: int, step: int, end: int) -> int | None:
        """Where the schedule has to end now, if that is sooner than planned."""
        deadline = self.recorder.deadline
        if math.isinf(self._until) or step >= end:
            return None
        left = deadline.left  # a clock that waited goes on from here
        now = deadline.spent
        if self._times and self._times[-1][0] >= step:
            self._times.clear()  # it began again
        self._times.append((step, now))
        if math.isinf(left) or len(self._times) < 2:
            return None
        room, last = self._until - now, now - self._times[-2][1]
        before = [b["step"] for b in self._bends if b["training"] == training and b["restart"] == restart]
        if before and step - before[-1] < RECENT // 2 and room > RECENT * last:
            return None  # how slow it is now will be clearer after a few steps
        # one more step as long as the last one would be too late
        fitting = 0 if room < last else shortened(room, self._pace, end - step)
        if fitting is None:
            return None
        entry = {"training": training, "restart": restart, "step": step, "end": step + fitting}
        self._bends.append(entry)
        self.recorder.lengthen(self.prefix + SHORTENED, entry)
        if not before:
            sooner = f"from step {step} the rates fall to 0 until step {step + fitting} of {end}, or sooner"
            self.recorder.emit(Warned(f"{self.what} is slower than planned: {sooner}"))
        return step + fitting

    def trained_folds(self, done: int, folds: int) -> int:
        """How many folds are trained in all, now that some are."""
        held = next((entry["folds"] for entry in self.recorder.listed(self.prefix + FOLDS) if entry["done"] == done), None)
        if held is None:
            self.costs = replace(self.costs, step=self._pace)
            one = fold_steps(self.plan.steps, self.folds) * self.costs.step + self.costs.judging
            most = min(self.plan.folds, folds_to_train(folds, one, self.examples))
            held = folds_within(self.recorder.deadline.left, self.costs, folds, most, done, self.plan.steps)
            self.recorder.lengthen(self.prefix + FOLDS, {"done": done, "folds": held})
        if held > done:
            self.plan = replace(self.plan, folds=held)
        return held

    def say(self, folds: int) -> None:
        """What more time would have bought."""
        deadline, more = self.recorder.deadline, []
        made = self._made(self.recorder.listed(self.prefix + LENGTHS)[-1])
        if made < 1:
            more.append(f"all {self.whole} steps of {self.what} (about {round(made * self.whole)} were made)")
        if folds < self.folds:
            more.append(f"{self.folds} folds trained (of which {folds} {'was' if folds == 1 else 'were'})")
        if more:
            deadline.more[f"{self.prefix}training"] = ", ".join(more)


def seconds_of_judging(learner: Learner, task: Task, examples: int, now: Callable[[], float]) -> float:
    """What scoring so many examples takes: of a few it is timed, the second time."""
    from regraft.training.loop import judge

    some, spent = task.train[:JUDGED], math.inf
    for _ in range(2):
        begun = now()
        judge(learner, task.material, some)
        spent = now() - begun
    return spent / max(1, len(some)) * examples


def within(
    work: Work, learner: Learner, task: Task, settings: Settings, mixes: Sequence[float], what: str, prefix: str = ""
) -> tuple[Settings, Pace | None]:
    """(the settings with what the budget leaves of them, how the training keeps it); as they are without a budget."""
    recorder, deadline = work.recorder, work.recorder.deadline
    if not deadline.bound:
        return settings, None
    folds = int(task.folds.max()) + 1
    held: dict[str, Any] | None = recorder.held_decision(f"{prefix}settings_within")
    measured: Costs | None = None
    if held is None:
        held, measured = _measured(work, learner, task, settings, mixes, folds, what)
    recorder.decide(**{f"{prefix}settings_within": held})
    for name in ("wise", "find"):
        if getattr(settings, name) and not held[name]:
            meaning = {"wise": "weights between start and end of the training, tried", "find": "a learning rate found by a range test"}[
                name
            ]
            deadline.more[name] = meaning
            recorder.emit(Said(f"{name}: not done, the budget leaves no time for it"))
    settings = replace(settings, **held)
    whole = settings.steps(len(task.train))

    return settings, Pace.of(
        recorder,
        what,
        folds,
        len(task.train),
        whole,
        lambda: measured or _measured(work, learner, task, settings, mixes, folds, what)[1],
        prefix,
    )


def _measured(
    work: Work, learner: Learner, task: Task, settings: Settings, mixes: Sequence[float], folds: int, what: str
) -> tuple[dict[str, Any], Costs]:
    """(settings that depend on the clock, what things cost): a few steps are timed. OutOfTime where that alone is too much."""
    from regraft.training.deeper import seconds_of_whole_steps
    from regraft.training.loop import RANGE_STEPS

    deadline = work.recorder.deadline
    plain = replace(settings, precision="fp32" if settings.precision == "auto" else settings.precision)
    most = max(0.0, deadline.left - finishing(work.recorder)) / 20
    step = seconds_of_whole_steps(learner, task, plain, work.seed, most, deadline.now)
    if step > most:
        raise OutOfTime(Pace.too_slow(what, Costs(step, 0.0, finishing(work.recorder)), deadline.left))
    whole, precision = settings.steps(len(task.train)), plain.precision
    able = settings.precision == "auto" and has_bfloat16(work.device)
    if able and worth_timing(step, whole) and may_look(deadline.left, 5 * step):
        bf16 = seconds_of_whole_steps(learner, task, replace(settings, precision="bf16"), work.seed, step, deadline.now)
        precision = precision_for(step, bf16)
        step = bf16 if precision == "bf16" else step
    one = seconds_of_judging(learner, task, len(task.train), deadline.now) / folds
    tested = seconds_of_judging(learner, task, work.tested, deadline.now)
    end = finishing(work.recorder, tested)
    usable = deadline.left - end
    wise = settings.wise and len(mixes) * one <= JUDGING * usable
    find = settings.find and may_look(usable, 2 * RANGE_STEPS * step)
    judging = one * (len(mixes) if wise else 1) + RANGE_STEPS * step * find
    return {"precision": precision, "wise": wise, "find": find}, Costs(step, judging, end)
