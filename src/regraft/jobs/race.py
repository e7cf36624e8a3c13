"""race: which of several pretrained networks to take for the data at hand, found out on growing parts of the training examples.

Data, networks and limits come in; the winner goes out, with every round, the choice in words and what it may lose. The parts are in
`racing/`: who races, how they run, how a round is judged, what is told.
It never fits a model that is kept, and never looks at the test part.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from regraft.errors import DataError, Interrupted
from regraft.events import Done, Emit, Said, Started, Warned, silent
from regraft.jobs.common import Messages, choose_device, computing_threads, peak_memory_mb
from regraft.jobs.labelled import Labelled, asked_spec, open_labelled
from regraft.jobs.plan import limits_of
from regraft.jobs.racing.entering import BEHIND, Dropped, enter
from regraft.jobs.racing.judging import Judge
from regraft.jobs.racing.piloting import Pilots
from regraft.jobs.racing.running import RACE, Field
from regraft.jobs.racing.telling import Story
from regraft.spec import AUTO, FitSpec, one_of, refuse
from regraft.strategy.plan import Limits, seconds_in_words
from regraft.strategy.race import (
    Look,
    Standing,
    comparisons,
    enough,
    equal,
    falling_behind,
    first_size,
    next_size,
    nothing_promised,
    race_seconds,
    rounds_to,
    standing,
)
from regraft.strategy.rungs import AUTO as CLIMB

if TYPE_CHECKING:
    from regraft.jobs.recording import Recorder


def race(
    data: Any,
    *,
    task: str | None = None,
    input: str | None = None,
    label: str | None = None,
    target: str | None = None,
    separator: str | None = None,
    group: str | None = None,
    split: str | None = None,
    weight: str | None = None,
    test: Any = None,
    metric: str | None = None,
    model: str | Sequence[str] | None = None,
    budget: str | float | None = None,
    max_memory: str | float | None = None,
    max_latency: str | float | None = None,
    max_params: str | float | None = None,
    licence: str | None = None,
    offline: bool = False,
    allow_code: bool = False,
    allow: str | Sequence[str] = (),
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    allow_outside: bool = False,
    balance: bool = False,
    store: bool = True,
    on_event: Emit = silent,
) -> dict[str, Any]:
    """Which of several pretrained networks to take for this data, without fitting one.

    The networks are those of `model`, or all of the task whose weights are here (installed, or fetched before and known to the catalogue).
    They see the same growing parts of the training examples; a head on each is cross-validated in the same folds, those that fall behind
    are dropped. The race ends when one is left, all examples were seen, more is not worth it, or its time is over: 15 % of `budget` (a
    quarter of a small one, up to 30 s), or a minute. The test part is not looked at. Limits and `budget` are those of `plan`, the other
    arguments those of `fit`.

    Returns `candidates` (each with its published figure, scores, figure with interval, how far it is behind, where it was dropped and why),
    `winner`, `regret`, `rounds` and more. Raises UsageError where no network keeps the limits (with what to relax), and whatever `fit`
    raises of data.
    """
    start = time.perf_counter()
    messages = Messages(on_event)
    limits = limits_of(budget, max_memory, max_latency, max_params, licence)
    names = () if model in (None, AUTO) else (model,) if isinstance(model, str) else tuple(dict.fromkeys(model or ()))
    source, spec = asked_spec(locals(), model=names[0] if len(names) == 1 else None)
    labelled = open_labelled(spec, source, test)
    refuse(one_of(f"--metric for the target {labelled.target.name}", spec.metric, labelled.target.metrics))
    entered = enter(spec, labelled, limits, names)
    clock = lambda idle: start + race_seconds(limits.budget, idle=idle) - time.perf_counter()
    for said in [labelled.how, *labelled.dataset.said]:
        if said:
            messages(Said(said))
    trains = "head" if limits.budget is None else CLIMB
    found = _Race(Field(spec, labelled, limits, entered, choose_device(spec.device), messages, clock, trains))()
    return {
        "data": spec.data,
        **found,
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": peak_memory_mb(),
        **messages.to_json(),
    }


def raced(spec: FitSpec, labelled: Labelled, recorder_of: Callable[[], Recorder], start: float) -> tuple[str, Recorder]:
    """(the network that a fit with `--model auto` takes, its recorder). The race is a decision of the run before it is acted on: a fit
    that goes on or replays another takes it from there.
    """
    limits = limits_of(None, spec.max_memory, spec.max_latency, spec.max_params, spec.licence)
    refuse(["--model auto takes networks as they are: name the network that is to be changed"] if spec.changes_network else [])
    entered = enter(spec, labelled, limits, ())
    recorder = recorder_of()
    try:
        if (held := recorder.held_decision(RACE)) is None:
            deadline = recorder.deadline
            share = replace(limits, budget=deadline.seconds)
            spent = (lambda: deadline.spent) if deadline.bound else (lambda: time.perf_counter() - start)
            clock = lambda idle: race_seconds(deadline.seconds, idle=idle) - spent()
            place = choose_device(spec.device)
            held = _Race(Field(spec, labelled, share, entered, place, recorder.emit, clock, spec.train, spare=True), alone=False)()
        recorder.decide(**{RACE: held})
        return str(held["winner"]), recorder
    except BaseException as stop:
        recorder.folder.close()
        if isinstance(stop, KeyboardInterrupt):
            raise Interrupted(str(recorder.path)) from None
        raise


def raced_for_plan(spec: FitSpec, labelled: Labelled, limits: Limits, left: float, emit: Emit) -> str:
    """The network that `regraft plan --model auto` plans with, after a race of `left` seconds at most."""
    until = time.perf_counter() + left
    entered = enter(spec, labelled, limits, ())
    over = lambda idle: until - time.perf_counter()
    return str(_Race(Field(spec, labelled, limits, entered, choose_device(spec.device), emit, over, CLIMB))()["winner"])


@dataclass
class _Race:
    """A race on its way. `alone`: no fit follows."""

    field: Field
    alone: bool = True

    def __post_init__(self) -> None:
        self.judge, self.story, self.pilots = Judge(self.field, self.alone), Story(self.field), Pilots(self.field)
        self.looks: list[Look] = []

    def __call__(self) -> dict[str, Any]:
        field, begun = self.field, time.perf_counter()
        names = [facts.name for facts in field.entered.networks]
        what = f"{len(names)} networks" if len(names) != 1 else "one network"
        within = f"in at most {seconds_in_words(max(1.0, field.left()))}" if field.left() > 0 else "but its time is over already"
        field.emit(Said(f"race: {what} for {len(field.train):,} {field.modality.nouns}, {within}"))
        field.emit(Started(RACE, 0, field.modality.nouns))
        with computing_threads(field.threads):
            try:
                stopped = self._run()
            finally:
                field.close()
            if self.looks and self.judge.last is not None:
                self.looks[-1] = self.pilots(self.looks[-1], self.judge.seen)
        field.keep_paces()
        last = self.looks[-1] if self.looks else None
        result = self.story.result(stopped, self._standing() if last else None, last, self.judge.bare)
        field.emit(Done(RACE, time.perf_counter() - begun, f"{result['winner']}: {stopped}"))
        for said in result["reasons"]:
            field.emit(Said(said))
        if warned := self.story.verdict(result["winner"]):
            field.emit(Warned(warned))
        return result

    def _run(self) -> str:
        """Race until something ends it, which is returned in words."""
        field = self.field
        size = first_size(len(field.train), len(field.target.outputs))
        field.open(size)
        running = list(field.runners)
        if not running:
            return "nothing could be looked at in its time"
        if field.spare and len(running) == 1:
            return "no other one is left to look at"
        compared = comparisons(len(running), rounds_to(len(field.train), size))
        while True:
            running, seen = field.see(running, size)
            if not running:
                return "the time for it is over"
            least = size if not self.looks else int(1.25 * self.looks[-1].seen)
            if seen < min(least, len(field.train)) and self.looks:
                return "the time for it is over"
            look = self.judge(running, seen)
            if look is None:
                if seen >= len(field.train):
                    raise DataError("the training examples are too few to compare networks on", move="--model NAME")
            else:
                self.looks.append(look)
                self._idle(field.spare and nothing_promised(look))
                slack = equal(field.target.metrics[0], float(look.ends.min()))
                hopeful = self.pilots.worth_one(look)
                for name in falling_behind(look, len(field.train), compared, slack):
                    if name in hopeful:
                        continue
                    gap = field.runners[name].found["gap"].negative()
                    ahead = ", and less by what is trained below it" if gap.value > 0 else ""
                    behind = f"{field.target.difference(gap)} against {look.names[look.best()]}{ahead}"
                    field.drop(name, Dropped(BEHIND, f"after {seen:,} {field.modality.nouns}: {behind}"))
                running = [name for name in running if name not in field.out]
                now = self._standing()
                self.story.tell(look, running, now)
                if len(running) == 1:
                    return "one is left" if len(look.names) > 1 or self.looks[0] is not look else "it is the only one"
                if seen >= len(field.train):
                    return f"all {seen:,} {field.modality.nouns} were seen"
                if enough(look, now.regret):
                    return "seeing more is not expected to change the choice"
            if seen < size:
                return "the time for it is over"
            size = next_size(seen, len(field.train), field.left(), functools.partial(field.seconds, running, seen))
            if size <= seen:
                return "the next round would take more time than there is"

    def _idle(self, idle: bool) -> None:
        """Whether there is nothing better to do with the time; said where that leaves the race more of it."""
        field = self.field
        before, field.idle = field.left(), idle
        if (more := field.left() - before) > 1:
            field.emit(
                Said(f"training below the head is not expected to be worth it here: the race may take {seconds_in_words(more)} more")
            )

    def _standing(self) -> Standing:
        field = self.field
        last = self.looks[-1].names
        paces = {name: field.runners[name].pace for name in last}
        # where it is not known of all how fast they are, the number of parameters says it best
        costs = {name: paces[name] or 0.0 if all(paces.values()) else field.runners[name].facts.parameters for name in last}
        return standing(self.looks, len(field.train), costs)
