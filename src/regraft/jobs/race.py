"""race: which of several pretrained networks to take for the data at hand, found out on growing parts of the training examples."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import TEST, TRAIN, Example
from regraft.errors import DataError, Interrupted, ModelError, RegraftError, UsageError
from regraft.evaluation.classes import mean_interval
from regraft.events import Done, Emit, Event, Progress, Said, Started, Warned, silent
from regraft.facts import Figure, ModelFacts
from regraft.jobs.common import Messages, check_losses, choose_device, computing_threads, core_count, patterns, peak_memory_mb, resident_mb
from regraft.jobs.depths import DeepNetwork
from regraft.jobs.engines import choose_engine, circumstances, engine_at_once, reference_engine
from regraft.jobs.frozen import Frozen, choose_network, frozen_pretrained
from regraft.jobs.labelled import Labelled, named_data, open_labelled
from regraft.jobs.near import find_near
from regraft.jobs.network import Given
from regraft.jobs.parts import divide, rows_at
from regraft.jobs.plan import limits_of, nested
from regraft.jobs.planned import known_of
from regraft.jobs.validation import Validation
from regraft.modality import MODALITIES, Modality
from regraft.pretrained import Access, all_models, default_model, fetched_models, source_of
from regraft.pretrained.catalogue import entry_of, ordered_right
from regraft.spec import AUTO, FitSpec, one_of, refuse
from regraft.strategy.cost import Range, probe_seconds
from regraft.strategy.engines import worth_timing
from regraft.strategy.plan import Limits, Option, flag, nothing_left, seconds_in_words
from regraft.strategy.race import (
    MOST,
    QUICKER,
    Look,
    Standing,
    comparisons,
    enough,
    equal,
    falling_behind,
    first_size,
    gaps,
    next_size,
    race_seconds,
    rounds_to,
    standing,
    that_fit,
)
from regraft.strategy.rules import strengths_for
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.store import Space, Spaces, Store

if TYPE_CHECKING:
    from regraft.features import Extracted
    from regraft.features.engines import Engine
    from regraft.jobs.recording import Recorder

RACE = "race"
"""The decision that holds a race, and the file of findings of how fast networks were."""

TRIED = 16
"""Examples that a network is timed on, after as many that are not counted: the first tile takes longer than the others."""

OPENING = 3.0
"""Seconds that it takes to open a network and to run its first tile, at the least."""

NO_TIME = "no time was left to look at it"

TIMING = 60.0
"""Seconds that a race must have for each network before other engines are timed, which takes five to fifteen: less than a minute is better
spent on examples. What was found before is used in any case."""

SCORED = 1_000
"""Examples that scores of transferability are made of at most."""

PASS_SHARE, FASTER = 0.6, 4.0
"""Part of what a budget leaves that the features of all examples may take; how many times as fast as here another engine may make them,
where there are enough for looking for one (EfficientNet-Lite0: three to five times)."""

LARGE = 100_000_000
"""Parameters of all networks together up to which they stay open between rounds."""

LAYERED = ("sentence", "speech", "transformers")
"""Builders of transformers, whose layers all give features of one width."""

ROUGH_MEMORY = 0.15


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
    are dropped. The race ends when one is left, all examples were seen, more is not worth it, or its time is over: 15 % of `budget`, or a
    minute. The test part is not looked at. Limits and `budget` are those of `plan`, the other arguments those of `fit`.

    Returns `candidates` (each with its published figure, scores, figure with interval, how far it is behind, where it was dropped and why),
    `winner`, `regret`, `rounds` and more. Raises UsageError where no network keeps the limits (with what to relax), and whatever `fit`
    raises of data.
    """
    start = time.perf_counter()
    messages = Messages(on_event)
    limits = limits_of(budget, max_memory, max_latency, max_params, licence)
    names = () if model in (None, AUTO) else (model,) if isinstance(model, str) else tuple(dict.fromkeys(model or ()))
    source, data_text, test_text = named_data(data, test)
    spec = FitSpec(
        data=data_text,
        task=task,
        input=input,
        label=label,
        target=target,
        separator=separator,
        group=group,
        split=split,
        weight=weight,
        test=test_text,
        metric=metric,
        model=names[0] if len(names) == 1 else None,
        offline=offline,
        allow_code=allow_code,
        allow=patterns(allow),
        device=device,
        threads=threads,
        seed=seed,
        allow_outside=allow_outside,
        balance=balance,
        store=store,
    )
    labelled = open_labelled(spec, source, test)
    refuse(one_of(f"--metric for the target {labelled.target.name}", spec.metric, labelled.target.metrics))
    entered = enter(spec, labelled, limits, names)
    left = lambda: start + race_seconds(limits.budget) - time.perf_counter()
    for said in [labelled.how, *labelled.dataset.said]:
        if said:
            messages(Said(said))
    found = _Race(spec, labelled, limits, entered, choose_device(spec.device), messages, left)()
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
    steps = (spec.recipe, spec.remove, spec.replace, spec.insert, spec.resize_input, spec.at, spec.lora)
    refuse(["--model auto takes networks as they are: name the network that is to be changed"] if any(steps) else [])
    entered = enter(spec, labelled, limits, ())
    recorder = recorder_of()
    try:
        if (held := recorder.held_decision(RACE)) is None:
            deadline = recorder.deadline
            share = replace(limits, budget=deadline.seconds)
            over = start + race_seconds(None)
            left = (lambda: race_seconds(deadline.seconds) - deadline.spent) if deadline.bound else (lambda: over - time.perf_counter())
            held = _Race(spec, labelled, share, entered, choose_device(spec.device), recorder.emit, left, alone=False)()
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
    return str(_Race(spec, labelled, limits, entered, choose_device(spec.device), emit, lambda: until - time.perf_counter())()["winner"])


@dataclass(frozen=True)
class Entered:
    """Networks that race, in the order of their published figures, and those that do not, with why. `named`: a person chose them."""

    networks: tuple[ModelFacts, ...]
    out: Mapping[str, str]
    named: bool


def enter(spec: FitSpec, labelled: Labelled, limits: Limits, names: Sequence[str]) -> Entered:
    """The networks that can race: named, or of the task with their weights here, as far as they keep the limits on what is known of them.
    UsageError when none does, with what to relax.
    """
    task, may = labelled.dataset.task, Access(spec.offline, spec.allow_code, spec.allow)
    out: dict[str, str] = {}
    known: list[ModelFacts] = []
    for name in names:
        try:
            known.append(choose_network(name, task, may))
        except ModelError as error:
            out[name] = str(error)
    if not names:
        known = [facts for facts in all_models() if facts.task == task]
        out |= {facts.name: f"its weights are not here: {line}" for facts in known if (line := source_of(facts).missing(facts))}
        known = [*(facts for facts in known if facts.name not in out), *fetched_models(task)]
    if not known:
        raise ModelError("no network can race", faults=[f"{name}: {reason}" for name, reason in out.items()], move="regraft models")
    stated = Limits(parameters=limits.parameters, licence=limits.licence)
    options = {facts.name: _option(facts, labelled) for facts in known}
    broken = {name: stated.broken(option) for name, option in options.items()}
    out |= {name: f"over {', '.join(map(flag, each))}" for name, each in broken.items() if each}
    if all(broken.values()):
        raise nothing_left(list(options.values()), stated)
    able = sorted((facts for facts in known if not broken[facts.name]), key=_prior)
    out |= {facts.name: f"{MOST} with higher published figures race" for facts in able[MOST:] if not names}
    return Entered(tuple(able if names else able[:MOST]), out, bool(names))


def _prior(facts: ModelFacts) -> tuple[bool, float]:
    """Networks of a task by the published figure that they are compared by; those without one last."""
    figure = entry_of(facts).accuracy
    return figure is None, -(figure or 0.0)


def _option(facts: ModelFacts, labelled: Labelled, memory: float = 0.0, latency: float | None = None) -> Option:
    """A head on a network, as limits look at it."""
    head = (facts.features + 1) * len(labelled.target.outputs)
    nothing = Range(0.0, 0.0, 0.0)
    return Option(
        model=facts.name,
        train="head",
        order=1,
        figure=nothing,
        seconds=nothing,
        memory=Range.around(memory, ROUGH_MEMORY) if memory else nothing,
        disk=0.0,
        parameters=facts.parameters + head,
        trained=head,
        licence=facts.licence,
        licence_kind=entry_of(facts).licence_kind,
        latency=latency,
    )


@dataclass
class _Runner:
    """A network in the race."""

    facts: ModelFacts
    frozen: Frozen
    engine: Engine
    space: Space | Spaces
    key: str
    pace: float | None = None
    """Seconds that an example takes in its pass, here or as it was before."""
    done: int = 0
    seconds: float = 0.0
    extracted: Extracted | None = None
    layers: np.ndarray | None = None
    memory: float = 0.0
    latency: float | None = None
    found: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the last round that it was in said of it."""

    @property
    def name(self) -> str:
        """The network's."""
        return self.facts.name

    @functools.cached_property
    def old_layer(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(weight, bias) of the output layer that the network came with, where that is one linear layer on its features."""
        try:
            tensors = {name.rpartition(".")[2]: t.numpy() for name, t in source_of(self.facts).old_head(self.facts).items()}
        except (RegraftError, RuntimeError, OSError):
            return None
        weight = tensors.get("weight")
        if weight is None or weight.ndim != 2 or weight.shape[1] != self.facts.features:
            return None
        return weight, tensors.get("bias", np.zeros(len(weight), np.float32))


@dataclass
class _Race:
    """A race on its way. `left` gives the seconds that it may still take."""

    spec: FitSpec
    labelled: Labelled
    limits: Limits
    entered: Entered
    device: str
    emit: Emit
    left: Callable[[], float]
    alone: bool = True
    """Whether no fit follows, which says what is wrong with examples itself."""

    def __post_init__(self) -> None:
        self.threads = self.spec.threads or core_count()
        self.target = self.labelled.target
        self.metric = self.spec.metric or self.target.metrics[0]
        self.modality: Modality = MODALITIES[self.labelled.dataset.task]
        self.train, self.values = self.labelled.part(TRAIN)
        self.order = nested(self.labelled, self.spec.seed)
        self.out = dict(self.entered.out)
        self.looks: list[Look] = []
        self.rounds: list[dict[str, Any]] = []
        self.runners: dict[str, _Runner] = {}
        self.probing = 1.0
        """How many times as long as expected a head takes here."""
        self.bare: dict[str, Any] = {}
        self.judging = 0.0
        """Seconds that the heads of the round are expected to take: what a pass has to leave."""

    def __call__(self) -> dict[str, Any]:
        begun = time.perf_counter()
        names = [facts.name for facts in self.entered.networks]
        what = f"{len(names)} networks" if len(names) != 1 else "one network"
        within = f"in at most {seconds_in_words(max(1.0, self.left()))}" if self.left() > 0 else "but its time is over already"
        self.emit(Said(f"race: {what} for {len(self.train):,} {self.modality.nouns}, {within}"))
        self.emit(Started(RACE, 0, self.modality.nouns))
        with computing_threads(self.threads):
            try:
                stopped = self._run()
            finally:
                for runner in self.runners.values():
                    runner.frozen.let_go()
        self._keep_paces()
        result = self._result(stopped)
        self.emit(Done(RACE, time.perf_counter() - begun, f"{result['winner']}: {stopped}"))
        for said in result["reasons"]:
            self.emit(Said(said))
        if warned := self._verdict(result["winner"]):
            self.emit(Warned(warned))
        return result

    # ---------------------------------------------------------------- the rounds

    def _run(self) -> str:
        """Race until something ends it, which is returned in words."""
        size = first_size(len(self.train), len(self.target.outputs))
        self._open(size)
        running = list(self.runners)
        if not running:
            return "nothing could be looked at in its time"
        compared = comparisons(len(running), rounds_to(len(self.train), size))
        while True:
            running, seen = self._see(running, size)
            if not running:
                return "the time for it is over"
            least = size if not self.looks else int(1.25 * self.looks[-1].seen)
            if seen < min(least, len(self.train)) and self.looks:
                return "the time for it is over"
            look = self._judge(running, seen)
            if look is None:
                if seen >= len(self.train):
                    raise DataError("the training examples are too few to compare networks on", move="--model NAME")
            else:
                self.looks.append(look)
                slack = equal(self.target.metrics[0], float(look.means.min()))
                for name in falling_behind(look, len(self.train), compared, slack):
                    behind = self.target.difference(self.runners[name].found["gap"].negative())
                    self._drop(name, f"after {seen:,} {self.modality.nouns}: {behind} against {look.names[look.best()]}")
                running = [name for name in running if name not in self.out]
                now = self._standing()
                self._tell(look, running, now)
                if len(running) == 1:
                    return "one is left" if len(look.names) > 1 or self.looks[0] is not look else "it is the only one"
                if seen >= len(self.train):
                    return f"all {seen:,} {self.modality.nouns} were seen"
                if enough(look, now.regret, self.target.metrics[0]):
                    return "seeing more is not expected to change the choice"
            if seen < size:
                return "the time for it is over"
            size = next_size(seen, len(self.train), self.left(), functools.partial(self._seconds, running, seen))
            if size <= seen:
                return "the next round would take more time than there is"

    def _open(self, size: int) -> None:
        """Open every network and time it on a few examples; those that fail, break a limit or do not fit into the time are left out."""
        first: dict[str, float] = {}
        for facts in self.entered.networks:
            if self.left() <= OPENING:
                self.out[facts.name] = NO_TIME
                continue
            try:
                runner = self._runner(facts)
                if runner.pace is not None and runner.pace * size > self.left() and not self._stored(runner, size):
                    self.out[facts.name] = self._too_slow(runner, size)
                    continue
                self.runners[facts.name] = runner
                for count in (TRIED, 2 * TRIED):
                    if count == TRIED or self.left() > runner.seconds:
                        self._pass(runner, min(count, size))
                self._measure(runner)
            except Exception as error:
                if isinstance(error, (DataError, UsageError)):
                    raise
                self._drop(facts.name, _reason(error))
                continue
            if facts.name not in self.out:
                first[facts.name] = self._seconds([facts.name], runner.done, size)
        self._keep_limits()
        first = {name: seconds for name, seconds in first.items() if name not in self.out}
        fitting = that_fit(first, max(0.0, self.left()))
        for name in first:
            if name not in fitting and len(first) > 1:
                self._drop(name, self._too_slow(self.runners[name], size))
        self._keep_budget()
        self.runners = {name: runner for name, runner in self.runners.items() if name not in self.out}

    def _runner(self, facts: ModelFacts) -> _Runner:
        weights = functools.cache(lambda: dict(source_of(facts).weights(facts)))
        frozen = frozen_pretrained(facts, weights)
        layered = facts.architecture.get("builder") in LAYERED
        engine = self._engine(frozen, layered=layered)
        space: Space | Spaces = Store(keep=self.spec.store).space(frozen.maker(self.device, engine))
        key = findings_key({"circumstances": circumstances(frozen, [engine], self.device, self.threads), "data": known_of(self.labelled)})
        if engine is reference_engine() and layered:
            try:
                deep = DeepNetwork.of(Given(facts, None))
            except (UsageError, ModelError):
                deep = None
            if deep is not None and len(deep.places) > 2:
                space, frozen = deep.spaces(self.device, engine, keep=self.spec.store), deep.frozen()
        held = read_finding(RACE, key)
        pace = float(held) if isinstance(held, (int, float)) and not isinstance(held, bool) and held > 0 else None
        return _Runner(facts, frozen, engine, space, key, pace)

    def _engine(self, frozen: Frozen, *, layered: bool) -> Engine:
        """An exact engine: torch for networks whose layers are looked at, else the fastest where there is time to find it."""
        waiting = len(self.entered.networks) - len(self.runners)
        if not layered and worth_timing(len(self.train)) and self.left() > TIMING * waiting:
            return choose_engine(frozen, self.train, None, "auto", self.device, self.threads, keep=self.spec.store).plain
        return engine_at_once(frozen, self.train, self.device, self.threads, keep=self.spec.store)

    def _pass(self, runner: _Runner, count: int) -> int:
        """Features of the first `count` examples; how many were looked at before the time was over."""
        begun = time.perf_counter()
        examples = [self.train[k] for k in self.order[:count]]
        over = lambda: self.left() <= self.judging
        runner.extracted = found = runner.frozen.run(
            examples,
            self.device,
            self.threads,
            runner.engine,
            keep=self.spec.store,
            summaries=runner is next(iter(self.runners.values())),
            emit=_passing(self.emit),
            stage=f"features, {runner.name}",
            into=runner.space,
            enough=over,
        )
        if isinstance(runner.space, Spaces):
            found.features = runner.space.spaces[-1].gather(found.identities)
        if found.computed >= TRIED // 2:
            runner.pace = found.seconds / found.computed
        runner.done = max(runner.done, found.looked)
        runner.memory = max(runner.memory, resident_mb() or 0.0)
        if sum(r.facts.parameters for r in self.runners.values()) > LARGE or self.limits.memory is not None:
            runner.frozen.let_go()
        runner.seconds += time.perf_counter() - begun
        return found.looked

    def _measure(self, runner: _Runner) -> None:
        """What limits on latency and memory look at."""
        assert runner.extracted is not None
        if not runner.extracted.looked:
            self._drop(runner.name, NO_TIME)
            return
        if not runner.extracted.kept:
            raise ModelError(f"it has no features of the first {runner.done} examples: {runner.extracted.left_out[0].reason}")
        if self.limits.latency is None:
            return
        one = [self.train[self.order[runner.extracted.kept[0]]]]
        alone = lambda: runner.frozen.run(
            one, self.device, self.threads, runner.engine, keep=False, summaries=False, emit=silent, into=Space(None, {})
        )
        plain = isinstance(runner.space, Space)
        if plain:
            runner.latency = 1000 * min(alone().seconds for _ in range(2))
        else:
            # of a network that gives all its layers, the same without them
            frozen = frozen_pretrained(runner.facts, lambda: dict(source_of(runner.facts).weights(runner.facts)))
            own, runner.frozen = runner.frozen, frozen
            runner.latency = 1000 * min(alone().seconds for _ in range(2))
            runner.frozen = own

    def _keep_limits(self) -> None:
        """Leave out what breaks a limit that had to be measured. UsageError when nothing is left."""
        measured = Limits(memory=self.limits.memory, latency=self.limits.latency)
        if not measured.given or not self.runners:
            return
        rows = len(self.train) + len(self.labelled.part(TEST)[0])
        options = {
            name: _option(r.facts, self.labelled, r.memory + 12 * r.facts.features * rows / 1e6, r.latency)
            for name, r in self.runners.items()
            if name not in self.out
        }
        broken = {name: measured.broken(option) for name, option in options.items()}
        if options and all(broken.values()):
            raise nothing_left(list(options.values()), measured)
        for name, each in broken.items():
            if each:
                had = {
                    "memory": f"{options[name].memory.high:,.0f} MB expected",
                    "latency": f"{options[name].latency or 0:.3g} ms measured",
                }
                self._drop(name, ", ".join(f"over {flag(limit)}: {had[limit]}" for limit in each))

    def _keep_budget(self) -> None:
        """Leave out networks whose features of all examples would take most of what a budget leaves: all but the quickest."""
        if self.limits.budget is None:
            return
        examples = len(self.train) + len(self.labelled.part(TEST)[0])
        allowed = PASS_SHARE * (self.limits.budget - race_seconds(self.limits.budget)) * (FASTER if worth_timing(examples) else 1.0)
        took = {name: (r.pace or 0.0) * examples for name, r in self.runners.items() if name not in self.out}
        for name, seconds in took.items():
            if seconds > allowed and seconds > min(took.values()):
                self._drop(
                    name, f"the budget: features of all {examples:,} {self.modality.nouns} would take about {seconds_in_words(seconds)}"
                )

    def _see(self, running: Sequence[str], size: int) -> tuple[list[str], int]:
        """(the networks that have features of a part of the examples, how many all of them have looked at)."""
        seen: dict[str, int] = {}
        self.judging = self._seconds(running, size, size)
        for name in running:
            try:
                seen[name] = self._pass(self.runners[name], size)
            except Exception as error:
                if isinstance(error, (DataError, UsageError)):
                    raise
                self._drop(name, _reason(error))
        seen = {name: count for name, count in seen.items() if count}
        return list(seen), min(seen.values(), default=0)

    def _seconds(self, running: Sequence[str], seen: int, size: int) -> float:
        """What a round of `size` is expected to take, when so many have been seen."""
        runners = [self.runners[name] for name in running]
        passing = sum((r.pace or 0.0) * max(0, size - seen) for r in runners)
        outputs = len(self.target.outputs)
        widths = [r.facts.features for r in runners]
        return passing + self.probing * sum(probe_seconds(size, width, outputs, nested=False) for width in widths)

    def _stored(self, runner: _Runner, size: int) -> bool:
        """Whether its space holds as many rows as a first round needs: then its pace says nothing."""
        space = runner.space.spaces[-1] if isinstance(runner.space, Spaces) else runner.space
        return len(space) >= size

    def _too_slow(self, runner: _Runner, size: int) -> str:
        took = seconds_in_words((runner.pace or 0.0) * size)
        return f"it does not fit into the time, beside the others: features of {size:,} {self.modality.nouns} take about {took}"

    # ---------------------------------------------------------------- a round, judged

    def _judge(self, running: list[str], seen: int) -> Look | None:
        """A head on the features of every network, in the same folds, and one without a network; None where so few examples cannot be
        divided. Networks that fail are dropped.
        """
        most = max(sum(k < seen for k in self._extracted(name).kept) for name in running)
        for name in list(running):
            kept = sum(k < seen for k in self._extracted(name).kept)
            if kept < 0.9 * most:
                self._drop(name, f"it has features of {kept:,} of {most:,} {self.modality.nouns} only")
                running.remove(name)
        common = set.intersection(*(set(self._extracted(name).kept) for name in running))
        kept = sorted(k for k in common if k < seen)
        first = self._extracted(running[0])
        if not self.looks:
            check_losses(first.left_out, len(first.kept), self.modality, strict=self.spec.strict, emit=self.emit if self.alone else silent)
        try:
            validation = self._validation(first, kept)
        except DataError:
            return None
        errors: dict[str, np.ndarray] = {}
        judged: dict[str, Any] = {}
        begun = time.perf_counter()
        expected = 0.0
        for name in running:
            runner = self.runners[name]
            rows = rows_at(_rows(self._extracted(name), kept), validation.parts.train)
            started = time.perf_counter()
            probe = validation.probe(f"output layer, {name}", rows, strengths_for(self.target.loss), silent, nested=False, careful=False)
            judged[name] = validation.judge(probe.out_of_fold)
            right = validation.view.gains(self.target.compared, judged[name].truth, judged[name].truth)
            errors[name] = right - validation.gains(judged[name])
            runner.found = {
                "seen": seen,
                "figure": validation.figures(judged[name])[self.metric].to_json(),
                "scores": self._scores(runner, rows, validation),
                "gain": mean_interval(validation.gains(judged[name]) - self._bare_gains(validation, first, kept)),
            }
            runner.seconds += time.perf_counter() - started
            expected += probe_seconds(len(rows), rows.shape[1], len(self.target.outputs), nested=False)
            self.emit(Progress(RACE, seen))
        self.probing = max(0.2, min(10.0, (time.perf_counter() - begun) / max(1e-3, expected)))
        look = Look(tuple(running), np.stack([errors[name] for name in running]), seen)
        for name, gap in zip(running, gaps(look), strict=True):
            self.runners[name].found["gap"] = _Gap(gap)
        constant = validation.view.constant(judged[running[0]].truth)
        self.bare |= {"constant": constant}
        return look

    def _extracted(self, name: str) -> Extracted:
        found = self.runners[name].extracted
        assert found is not None
        return found

    def _validation(self, first: Extracted, kept: Sequence[int]) -> Validation:
        """Folds for the examples that all networks have features of; near-duplicates, as the first one sees them, share one."""
        examples: list[Example] = [self.train[self.order[k]] for k in kept]
        values = [self.values[self.order[k]] for k in kept]
        place = {k: i for i, k in enumerate(first.kept)}
        own = replace(
            first,
            kept=list(range(len(kept))),
            identities=[first.identities[place[k]] for k in kept],
            features=_rows(first, kept),
        )
        parts = divide(self.labelled, examples, values, own, silent)
        parts = find_near(examples, own, self.modality, silent).bind(parts, examples, own.identities, silent)
        return Validation.of(self.target, self.metric, parts, self.spec.seed, balance=self.spec.balance, emit=silent)

    def _bare_gains(self, validation: Validation, first: Extracted, kept: Sequence[int]) -> np.ndarray:
        """How good each decision of the same head without a network is, on the same examples."""
        if self.bare.get("of") is not validation:
            place = {k: i for i, k in enumerate(first.kept)}
            summaries = [first.summaries[place[k]] for k in kept]
            rows = self.modality.vectorise(self.modality.learn_vectoriser(summaries), summaries)
            strengths = strengths_for(self.target.loss)[1::2]
            probe = validation.probe("without the network", rows, strengths, silent, nested=False, careful=False)
            judged = validation.judge(probe.out_of_fold)
            figure = validation.figures(judged)[self.metric].to_json()
            self.bare |= {"of": validation, "gains": validation.gains(judged), "figure": figure}
        return self.bare["gains"]

    def _scores(self, runner: _Runner, rows: np.ndarray, validation: Validation) -> dict[str, dict[str, float]]:
        """Scores of transferability on the features, and of transformers on the mean over their layers."""
        from regraft.evaluation.transferability import Material, scores_of

        y, outputs = validation.parts.y[:SCORED], len(self.target.outputs)
        old = None
        if runner.old_layer is not None:
            weight, bias = runner.old_layer
            old = (rows[:SCORED] @ weight.T + bias).argmax(1)
        found = {"features": scores_of(Material(rows[:SCORED], y, self.target.name, outputs, old))}
        if isinstance(runner.space, Spaces):
            ids = [i for i in validation.parts.identities[:SCORED]]
            layers = [space.gather(ids) for space in runner.space.spaces]
            alike = [each for each in layers if each.shape == layers[-1].shape]
            if len(alike) > 2:
                found["layers"] = scores_of(Material(np.mean(alike, 0), y, self.target.name, outputs))
        return found

    # ---------------------------------------------------------------- what came out

    def _drop(self, name: str, reason: str) -> None:
        self.out[name] = reason
        self.emit(Said(f"{name} is out: {reason}"))
        if name in self.runners:
            self.runners[name].frozen.let_go()

    def _standing(self) -> Standing:
        last = self.looks[-1].names
        paces = {name: self.runners[name].pace for name in last}
        # where it is not known of all how fast they are, the number of parameters says it best
        costs = {name: paces[name] or 0.0 if all(paces.values()) else self.runners[name].facts.parameters for name in last}
        return standing(self.looks, len(self.train), costs, self.target.metrics[0])

    def _tell(self, look: Look, running: Sequence[str], now: Standing) -> None:
        figures = [f"{name} {self.runners[name].found['figure']['value']:.3f}" for name in look.names]
        left = f"{len(running)} left" if len(running) > 1 else "one left"
        self.emit(Said(f"{look.seen:,} {self.modality.nouns}: {', '.join(figures)}; {left}"))
        self.rounds.append(
            {
                "examples": look.seen,
                "networks": {name: {k: _plain(v) for k, v in self.runners[name].found.items()} for name in look.names},
                "dropped": [name for name in look.names if name not in running],
                "first": now.chosen,
                "regret": round(now.regret, 6),
            }
        )

    def _result(self, stopped: str) -> dict[str, Any]:
        now = self._standing() if self.looks else None
        winner = now.chosen if now else self._without_looks()
        ran = [self._row(facts, winner) for facts in self.entered.networks]
        more = [{"name": name, "why": reason} for name, reason in self.out.items() if not any(row["name"] == name for row in ran)]
        last = self.looks[-1] if self.looks else None
        return {
            "task": self.labelled.dataset.task,
            "target": self.target.name,
            "metric": self.metric,
            "compared": self.target.compared,
            "n": len(self.train),
            "seen": last.seen if last else 0,
            "winner": winner,
            "stopped": stopped,
            "regret": round(now.regret, 6) if now else None,
            "reasons": self._reasons(winner, now, stopped),
            "candidates": ran,
            "others": more,
            "rounds": self.rounds,
            "baseline": {"constant": self.bare["constant"], "without_network": self.bare["figure"]} if self.looks else {},
            "limits": self.limits.to_json(),
        }

    def _row(self, facts: ModelFacts, winner: str) -> dict[str, Any]:
        entry, runner = entry_of(facts), self.runners.get(facts.name)
        found = runner.found if runner else {}
        return {
            "name": facts.name,
            "parameters": facts.parameters,
            "licence": facts.licence,
            "published": entry.published,
            "prior": entry.accuracy,
            **{name: _plain(found.get(name)) for name in ("seen", "figure", "gap", "gain", "scores")},
            "pace": None if runner is None or runner.pace is None else float(f"{runner.pace:.4g}"),
            "latency": None if runner is None or runner.latency is None else round(runner.latency, 2),
            "seconds": round(runner.seconds, 2) if runner else 0.0,
            "worse_than_no_network": "gain" in found and found["gain"].high < 0,
            "dropped": "" if facts.name == winner else self.out.get(facts.name, ""),
        }

    def _without_looks(self) -> str:
        """The network to take when none could be looked at: the task's usual one, where it is among them, else the one with the best
        published figure.
        """
        names = [facts.name for facts in self.entered.networks]
        able = [name for name in names if not self._failed(name)] or names
        usual = default_model(self.labelled.dataset.task).name
        return usual if usual in able else able[0]

    def _failed(self, name: str) -> bool:
        reason = self.out.get(name, "")
        return bool(reason) and not reason.startswith((NO_TIME, "it does not fit"))

    def _reasons(self, winner: str, now: Standing | None, stopped: str) -> list[str]:
        """The choice in words."""
        if now is None:
            how = "the usual one of its kind" if winner == default_model(self.labelled.dataset.task).name else "the best published figure"
            return [f"{winner} is taken without a race ({stopped}): {how}"]
        last = self.looks[-1]
        others = [name for name in last.names if name != winner]
        found = self.runners[winner].found["figure"]
        on = f"with a new output layer, cross-validated on {last.seen:,} {self.modality.nouns}"
        said = [f"{winner} is taken: {self.metric} {found['value']:.3f} {on}"]
        if now.why == QUICKER:
            best = last.names[last.best()]
            said[0] += f"; {best} is as good as equal ({self.runners[best].found['figure']['value']:.3f}), and slower"
        elif others:
            said[0] += "; " + "; ".join(f"{name} {self.runners[name].found['figure']['value']:.3f}" for name in others)
        if len(self.runners) > 1:
            lost = f"{now.regret * 100:.1f} points" if self.target.name != "number" else f"{now.regret:.3g}"
            said.append(f"to stop here ({stopped}) is expected to lose {lost} against the best of them")
        return [*said, *filter(None, [self._by_published(winner)])]

    def _by_published(self, winner: str) -> str:
        """What published figures would have said, where that is another network; nothing where they say nothing."""
        first, taken = entry_of(self.entered.networks[0]), entry_of(next(f for f in self.entered.networks if f.name == winner))
        right = ordered_right(first, taken)
        if right is None or first.name == winner:
            return ""
        often = f"such figures order two networks as other data does about {right * 100:.0f} times of 100"
        return f"by published figures it would have been {first.name} ({first.published}); {often}"

    def _verdict(self, winner: str) -> str:
        """What to say of a winner that is not clearly better than no network."""
        gain: Figure | None = self.runners[winner].found.get("gain") if winner in self.runners else None
        if gain is None or gain.low > 0:
            return ""
        worse = "worse" if gain.high < 0 else "not clearly better"
        return f"{winner} is {worse} than no network here: {self.target.difference(gain)} on the examples of the race"

    def _keep_paces(self) -> None:
        for runner in self.runners.values():
            if runner.pace is not None:
                keep_finding(RACE, runner.key, float(f"{runner.pace:.4g}"))


@dataclass(frozen=True)
class _Gap:
    """How far behind the best a network is, in errors."""

    figure: Figure

    def negative(self) -> Figure:
        """The same as a gain."""
        return Figure(-self.figure.value, -self.figure.high, -self.figure.low)


def _plain(value: Any) -> Any:
    if isinstance(value, _Gap):
        return value.figure.to_json()
    return value.to_json() if isinstance(value, Figure) else value


def _rows(extracted: Extracted, kept: Sequence[int]) -> np.ndarray:
    """The features of some positions of the sources."""
    place = {k: i for i, k in enumerate(extracted.kept)}
    return extracted.features[[place[k] for k in kept]]


def _reason(error: Exception) -> str:
    """Why a network failed, in a line."""
    said = error.found if isinstance(error, RegraftError) else f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return f"it failed: {said}".rstrip(": ")


def _passing(emit: Emit) -> Emit:
    """How far passes are, and what must be known; not that each part ended."""

    def heard(event: Event) -> None:
        if isinstance(event, (Started, Progress, Said, Warned)):
            emit(event)

    return heard
