"""How networks run in a race: those that entered come in; features of growing parts of the examples go out, with how fast they were made.

It drops what fails, breaks a limit that has to be measured, or does not fit into the time. It never looks at a label and compares nothing.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import TEST, TRAIN
from regraft.errors import DataError, ModelError, RegraftError, UsageError
from regraft.events import Emit, Event, Progress, Said, Started, Warned, silent
from regraft.facts import ModelFacts
from regraft.jobs.common import core_count, resident_mb
from regraft.jobs.depths import DeepNetwork
from regraft.jobs.engines import choose_engine, circumstances, engine_at_once, reference_engine
from regraft.jobs.expecting import FEW_TILES
from regraft.jobs.frozen import Frozen, frozen_pretrained
from regraft.jobs.labelled import Labelled
from regraft.jobs.network import Given
from regraft.jobs.parts import nested
from regraft.jobs.planned import known_of
from regraft.jobs.racing.entering import BEHIND, BUDGET, LIMIT, NO_TIME, TIME, Dropped, Entered, failed, option_of
from regraft.jobs.racing.promising import LAYERED, Promises
from regraft.modality import MODALITIES, Modality
from regraft.pretrained import default_model, source_of
from regraft.spec import FitSpec
from regraft.strategy.cost import probe_seconds
from regraft.strategy.engines import worth_timing
from regraft.strategy.plan import Limits, flag, nothing_left, seconds_in_words
from regraft.strategy.race import beyond_reach, race_seconds, that_fit
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.store import Space, Spaces, Store

if TYPE_CHECKING:
    from regraft.features import Extracted
    from regraft.features.engines import Engine

RACE = "race"
"""The decision that holds a race, and the file of findings of how fast networks were."""

TRIED = 16
"""Examples that a network is timed on, after as many that are not counted: the first tile takes longer than the others."""

OPENING = 3.0
"""Seconds that it takes to open a network and to run its first tile, at the least."""

TIMING = 60.0
"""Seconds that a race must have for each network before other engines are timed, which takes five to fifteen: less than a minute is better
spent on examples. What was found before is used in any case."""

PASS_SHARE, FASTER = 0.6, 4.0
"""Part of what a budget leaves that the features of all examples may take; how many times as fast as here another engine may make them,
where there are enough for looking for one (EfficientNet-Lite0: three to five times)."""

LARGE = 100_000_000
"""Parameters of all networks together up to which they stay open between rounds."""


@dataclass
class Runner:
    """A network in the race."""

    facts: ModelFacts
    frozen: Frozen
    engine: Engine
    space: Space | Spaces
    key: str
    pace: float | None = None
    """Seconds that an example takes in its pass, here or as it was before."""
    known: bool = False
    """Whether it was before."""
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
class Field:
    """The networks of a race, and how far they are. `clock` gives the seconds that it may still take, told whether there is nothing better
    to do with them; `out` says why the others are out. `trains` says what is trained afterwards; with `spare` networks that it would give
    far less than others are not looked at.
    """

    spec: FitSpec
    labelled: Labelled
    limits: Limits
    entered: Entered
    device: str
    emit: Emit
    clock: Callable[[bool], float]
    trains: str
    spare: bool = False

    def __post_init__(self) -> None:
        self.threads = self.spec.threads or core_count()
        self.target = self.labelled.target
        self.metric = self.spec.metric or self.target.metrics[0]
        self.modality: Modality = MODALITIES[self.labelled.dataset.task]
        self.train, self.values = self.labelled.part(TRAIN)
        self.order = nested(self.labelled, self.spec.seed)
        self.out: dict[str, Dropped] = dict(self.entered.out)
        self.runners: dict[str, Runner] = {}
        self.probing = 1.0
        """How many times as long as expected a head takes here."""
        tested = len(self.labelled.part(TEST)[0])
        self.promises = Promises(self.labelled, self.trains, self.limits.budget, len(self.train) + tested, tested)
        self.idle = False
        """Whether training below the head is promised to give nothing."""
        self.judging = 0.0
        """Seconds that the heads of the round are expected to take: what a pass has to leave."""

    def left(self) -> float:
        """Seconds that the race may still take."""
        return self.clock(self.idle)

    def open(self, size: int) -> None:
        """Open every network and time it on a few examples; those that fail, break a limit or do not fit into the time are left out."""
        first: dict[str, float] = {}
        usual = default_model(self.modality.name).name
        # that one first, so that it is known how fast it is when others are spared
        for facts in sorted(self.entered.networks, key=lambda facts: self.spare and facts.name != usual):
            if self.spare and (why := self._beyond_reach(facts)):
                self.drop(facts.name, Dropped(BEHIND, why))
                continue
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
                # the only pass took what opening the network takes, and inputs of a new length take longer the first time
                if (size < TRIED + TRIED // 2 or self.modality.pad is not None) and not runner.known:
                    self._time_again(runner)
                self._measure(runner)
            except Exception as error:
                if isinstance(error, (DataError, UsageError)):
                    raise
                self.drop(facts.name, failed(error))
                continue
            if facts.name not in self.out:
                first[facts.name] = self.seconds([facts.name], runner.done, size)
        self._keep_limits()
        first = {name: seconds for name, seconds in first.items() if name not in self.out}
        fitting = that_fit(first, max(0.0, self.left()))
        for name in first:
            if name not in fitting and len(first) > 1:
                self.drop(name, self._too_slow(self.runners[name], size))
        self._keep_budget()
        self.runners = {name: runner for name, runner in self.runners.items() if name not in self.out}

    def _beyond_reach(self, facts: ModelFacts) -> str:
        """Why a network need not be looked at: one that was gains so much more by what is trained below its head."""
        promises = {name: self.promised(name) for name in self.runners if name not in self.out}
        if not promises:
            return ""
        best = max(promises, key=lambda name: promises[name])
        promises[facts.name] = self.promises.of(facts, None)
        if facts.name not in beyond_reach(promises, best):
            return ""
        more = promises[best] - promises[facts.name]
        return f"it is not looked at: training is expected to give {best} {more:.2f} more in log odds, which no head makes up for"

    def promised(self, name: str) -> float:
        """What training below the head is expected to give a network that runs, on the scale of gains."""
        return self.promises.of(self.runners[name].facts, self.runners[name].pace)

    def _runner(self, facts: ModelFacts) -> Runner:
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
        return Runner(facts, frozen, engine, space, key, pace, pace is not None)

    def _engine(self, frozen: Frozen, *, layered: bool) -> Engine:
        """An exact engine: torch for networks whose layers are looked at, else the fastest where there is time to find it."""
        waiting = len(self.entered.networks) - len(self.runners)
        if not layered and worth_timing(len(self.train)) and self.left() > TIMING * waiting:
            return choose_engine(frozen, self.train, None, "auto", self.device, self.threads, keep=self.spec.store).plain
        return engine_at_once(frozen, self.train, self.device, self.threads, keep=self.spec.store)

    def _pass(self, runner: Runner, count: int) -> int:
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
        # inputs of a new length take longer the first time: only many say how fast it is
        if found.computed >= (TRIED // 2 if self.modality.pad is None or runner.pace is None else FEW_TILES * runner.frozen.tile):
            runner.pace = found.seconds / found.computed
        runner.done = max(runner.done, found.looked)
        runner.memory = max(runner.memory, resident_mb() or 0.0)
        if sum(r.facts.parameters for r in self.runners.values()) > LARGE or self.limits.memory is not None:
            runner.frozen.let_go()
        runner.seconds += time.perf_counter() - begun
        return found.looked

    def _time_again(self, runner: Runner) -> None:
        """Time a network whose only pass took what opening it takes: a few examples go once more, one by one, each in a tile of its own."""
        assert runner.extracted is not None
        fresh = runner.space.empty() if isinstance(runner.space, Spaces) else Space(None, {})
        some = [self.train[self.order[k]] for k in runner.extracted.kept]
        if some:
            spent, timed = runner.frozen.seconds_again(some, self.device, self.threads, runner.engine, fresh)
            runner.pace = spent / timed if timed else runner.pace

    def _measure(self, runner: Runner) -> None:
        """What limits on latency and memory look at."""
        assert runner.extracted is not None
        if not runner.extracted.looked:
            self.drop(runner.name, NO_TIME)
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
            name: option_of(r.facts, self.labelled, r.memory + 12 * r.facts.features * rows / 1e6, r.latency)
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
                self.drop(name, Dropped(LIMIT, ", ".join(f"over {flag(limit)}: {had[limit]}" for limit in each)))

    def _keep_budget(self) -> None:
        """Leave out networks whose features of all examples would take most of what a budget leaves: all but the quickest."""
        if self.limits.budget is None:
            return
        examples = len(self.train) + len(self.labelled.part(TEST)[0])
        allowed = PASS_SHARE * (self.limits.budget - race_seconds(self.limits.budget)) * (FASTER if worth_timing(examples) else 1.0)
        took = {name: (r.pace or 0.0) * examples for name, r in self.runners.items() if name not in self.out}
        for name, seconds in took.items():
            if seconds > allowed and seconds > min(took.values()):
                took_in_all = f"features of all {examples:,} {self.modality.nouns} would take about {seconds_in_words(seconds)}"
                self.drop(name, Dropped(BUDGET, f"the budget: {took_in_all}"))

    def see(self, running: Sequence[str], size: int) -> tuple[list[str], int]:
        """(the networks that have features of a part of the examples, how many all of them have looked at)."""
        seen: dict[str, int] = {}
        self.judging = self.seconds(running, size, size)
        for name in running:
            try:
                seen[name] = self._pass(self.runners[name], size)
            except Exception as error:
                if isinstance(error, (DataError, UsageError)):
                    raise
                self.drop(name, failed(error))
        seen = {name: count for name, count in seen.items() if count}
        return list(seen), min(seen.values(), default=0)

    def seconds(self, running: Sequence[str], seen: int, size: int) -> float:
        """What a round of `size` is expected to take, when so many have been seen."""
        runners = [self.runners[name] for name in running]
        passing = sum((r.pace or 0.0) * max(0, size - seen) for r in runners)
        outputs = len(self.target.outputs)
        widths = [r.facts.features for r in runners]
        return passing + self.probing * sum(probe_seconds(size, width, outputs, nested=False) for width in widths)

    def _stored(self, runner: Runner, size: int) -> bool:
        """Whether its space holds as many rows as a first round needs: then its pace says nothing."""
        space = runner.space.spaces[-1] if isinstance(runner.space, Spaces) else runner.space
        return len(space) >= size

    def _too_slow(self, runner: Runner, size: int) -> Dropped:
        took = seconds_in_words((runner.pace or 0.0) * size)
        return Dropped(
            TIME, f"it does not fit into the time, beside the others: features of {size:,} {self.modality.nouns} take about {took}"
        )

    def drop(self, name: str, why: Dropped) -> None:
        """Take a network out of the race, which is said."""
        self.out[name] = why
        self.emit(Said(f"{name} is out: {why.said}"))
        if name in self.runners:
            self.runners[name].frozen.let_go()

    def extracted(self, name: str) -> Extracted:
        """The features that a network has so far."""
        found = self.runners[name].extracted
        assert found is not None
        return found

    def close(self) -> None:
        """Give the memory of all networks back."""
        for runner in self.runners.values():
            runner.frozen.let_go()

    def keep_paces(self) -> None:
        """Write down how fast they were, for later races."""
        for runner in self.runners.values():
            if runner.pace is not None:
                keep_finding(RACE, runner.key, float(f"{runner.pace:.4g}"))


def _passing(emit: Emit) -> Emit:
    """How far passes are, and what must be known; not that each part ended."""

    def heard(event: Event) -> None:
        if isinstance(event, (Started, Progress, Said, Warned)):
            emit(event)

    return heard
