"""Which engine runs the frozen part: asked for, timed on the first tiles, or known of this machine; and whether it agrees."""

from __future__ import annotations

import math
import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import Example
from regraft.deadline import Deadline
from regraft.errors import ModelError, RegraftError, UsageError
from regraft.events import Emit, Said, Warned
from regraft.jobs.frozen import Frozen, pass_workers
from regraft.strategy.budget import ROUND, may_round, may_time_engines
from regraft.strategy.engines import Timing, is_short, objection, pick, worth_timing
from regraft.targets import Target
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.store import Store

if TYPE_CHECKING:
    from regraft.artifacts import Predictor
    from regraft.features.engines import Engine, Trunk

FINDINGS = "engines"
"""The file of findings; `rate` is in windows a second."""

NUMBER_ALIKE = 0.01
"""Two predicted numbers count as equal when they differ by at most this part of the labels' standard deviation."""

SLACK = 0.005
"""Part of a figure by which it may be lower on the features of another engine."""

ROUNDS = 2
"""Rounds in which the engines take turns; the faster one counts, as the less disturbed."""


@dataclass(frozen=True)
class Chosen:
    """The engine that runs, and what spoke for it. `exact` is the fastest that does not round: what its
    predictions are compared with, and what runs when they differ.
    """

    engine: Engine
    how: str
    timings: tuple[Timing, ...] = ()
    exact: Engine | None = None
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])
    """Engines that could not be used, and why."""
    free: bool = True
    """Whether it may still be replaced: nobody named it."""

    @property
    def plain(self) -> Engine:
        """What runs where nothing may be rounded: the engine itself, or the exact one beside it."""
        return self.engine if self.engine.exact else self.exact or reference_engine()

    def to_json(self) -> dict[str, Any]:
        """Plain data, for decisions.json."""
        found: dict[str, Any] = {"name": self.engine.name, "precision": self.engine.precision, "how": self.how}
        if self.timings:
            found["timings"] = [t.to_json() for t in self.timings]
        if self.exact:
            found["exact"] = [self.exact.name, self.exact.precision]
        return {**found, **({"left_out": dict(self.left_out)} if self.left_out else {})}

    def sentence(self, nouns: str) -> str:
        """What to tell the user; nothing when it is torch float32 and nothing else was looked at."""
        if not self.timings:
            told = self.how == ASKED or self.how == HERE and self.engine is not reference_engine()
            return f"engine: {self.engine.label} ({self.how})" if told else ""
        rates = {t.label: t.rate for t in self.timings}
        others = ", ".join(f"{label} {rate:,.0f}" for label, rate in rates.items() if label != self.engine.label)
        return f"engine: {self.engine.label}, {rates[self.engine.label]:,.0f} {nouns} a second when timed ({others}; {self.how})"


HURRIED = "the budget leaves no time for looking for another"

ASKED, FEW, TIMED, KNOWN, ALONE = "asked for", "too few examples for another", "timed here", "timed here before", "the only one here"

HERE = "its features are here already"

LOOKED_FOR = 32
"""Examples whose features are looked for in the store."""

MOSTLY = 0.5
"""Part of them from which the engine that made those makes the others: another one would have to make all of them."""


def reference_engine() -> Engine:
    """Torch float32: what others are compared with, and what runs where they cannot."""
    from regraft.features.engines import REFERENCE

    return REFERENCE


def wanted_engine(engine: str, precision: str, device: str) -> Engine | None:
    """The engine that was named, or None when the choice is free; UsageError or MissingExtra when it cannot be used."""
    from regraft.features.engines import engine_of

    if engine == "auto":
        return None
    found = engine_of(engine, "fp32" if precision == "auto" else precision)
    found.require(device)
    return found


def choose_engine(
    frozen: Frozen,
    examples: Sequence[Example],
    named: Engine | None,
    precision: str,
    device: str,
    threads: int,
    more: int = 0,
    *,
    keep: bool = True,
    deadline: Deadline | None = None,
) -> Chosen:
    """The engine for a pass over these examples and so many `more` views of them: the named one, that of features which are in the store
    already (where those are used, `keep`), or the fastest of those of a precision (`auto`: of any). Within a deadline others are looked for
    only where that pays, and those that round are taken only where everything could run again.
    """
    from regraft.features.engines import ENGINES, REFERENCE

    if named is not None:
        return Chosen(named, ASKED, free=False)
    count = len(examples) + more
    if not worth_timing(count):
        return Chosen(REFERENCE, FEW)
    if keep and precision in ("auto", REFERENCE.precision) and (there := _with_features(frozen, examples, device)):
        return Chosen(there, HERE)
    able, left_out = _able(device, precision)
    if not able:
        return Chosen(REFERENCE, ALONE, left_out=left_out)
    key = findings_key(circumstances(frozen, [REFERENCE, *able], device, threads))
    timings, how = _known(key, [REFERENCE, *able]), KNOWN
    # the reference alone was timed before, where it was done soon
    if not timings or len(timings) == 1 and not is_short(timings[0], count):
        timings, how = _timed(frozen, examples, [REFERENCE, *able], device, threads, left_out, count, deadline), TIMED
        keep_finding(FINDINGS, key, [t.to_json() for t in timings])
    if len(timings) == 1 and (is_short(timings[0], count) or deadline):
        return Chosen(REFERENCE, FEW if is_short(timings[0], count) else HURRIED)
    by_label = {e.label: e for e in ENGINES}
    left = deadline.left if deadline else math.inf
    best, exact = pick(timings[0], [t for t in timings[1:] if t.exact or may_round(left, count / timings[0].rate)], count)
    return Chosen(by_label[best.label], how, tuple(timings), by_label[exact.label], left_out)


def _able(device: str, precision: str) -> tuple[list[Engine], dict[str, str]]:
    """(the engines beside the reference that are worth timing, those that cannot be used with the reason)."""
    from regraft.features.engines import ENGINES

    left_out = {e.label: reason for e in ENGINES if e.tried and (reason := e.missing(device))}
    able = [e for e in ENGINES[1:] if e.tried and e.label not in left_out and precision in ("auto", e.precision)]
    if any(e.precision == "bf16" and e.traced for e in able):
        # it was as fast as torch's own bfloat16 or faster on four of five networks (docs/log.md): one of the two is timed
        able = [e for e in able if e.label != "torch bf16"]
    return able, left_out


def engine_at_once(frozen: Frozen, examples: Sequence[Example], device: str, threads: int, *, keep: bool) -> Engine:
    """An exact engine with nothing timed: that of features which are in the store, the best one by what was found before, else the
    reference.
    """
    from regraft.features.engines import ENGINES, REFERENCE

    if keep and examples and (there := _with_features(frozen, examples, device)):
        return there
    able, _ = _able(device, "auto")
    timings = _known(findings_key(circumstances(frozen, [REFERENCE, *able], device, threads)), [REFERENCE, *able])
    if len(timings) < 2:
        return REFERENCE
    best = pick(timings[0], timings[1:], len(examples))[1]
    return next(e for e in ENGINES if e.label == best.label)


def held_engine(held: Mapping[str, Any], device: str) -> Chosen:
    """The choice that `Chosen.to_json` wrote down, with nothing timed again. MissingExtra when the engine cannot be used any more."""
    from regraft.features.engines import engine_of

    engine = engine_of(held["name"], held["precision"])
    engine.require(device)
    timings = tuple(Timing(t["engine"], t["setup"], t["rate"], t["exact"]) for t in held.get("timings", ()))
    exact = engine_of(*held["exact"]) if held.get("exact") else None
    return Chosen(engine, held["how"], timings, exact, held.get("left_out", {}), free=held["how"] != ASKED)


def _with_features(frozen: Frozen, examples: Sequence[Example], device: str) -> Engine | None:
    """The engine, among those that do not round, whose features of most of these examples are in the store: told by some from all over the
    data. None when there is none.
    """
    from regraft.features.engines import ENGINES

    spaces = {e.label: Store().held(frozen.maker(device, e)) for e in ENGINES if e.exact}
    if not any(spaces.values()):
        return None
    try:
        chosen = [examples[k] for k in np.linspace(0, len(examples) - 1, min(len(examples), LOOKED_FOR)).astype(int)]
        contents = [frozen.modality.load(e.source).identity for e in chosen]
    except Exception:  # the pass says what is wrong with an example
        return None
    held = {label: sum(content in space for content in contents) for label, space in spaces.items() if space is not None}
    most = max(held, key=lambda label: held[label])
    engine = next(e for e in ENGINES if e.label == most)
    return engine if held[most] >= MOSTLY * len(contents) and not engine.missing(device) else None


def circumstances(frozen: Frozen, engines: Sequence[Engine], device: str, threads: int) -> dict[str, Any]:
    """Everything that timings depend on."""
    makers = [frozen.maker(device, engine) for engine in engines]
    return {"makers": makers, "threads": threads, "machine": [platform.machine(), platform.processor(), _processor()]}


def _processor() -> str:
    """What the processor calls itself, where it can be read."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return "".join(line for line in file.read(4096).splitlines() if line.startswith(("model name", "cpu family", "stepping")))
    except OSError:
        return ""


def _known(key: str, engines: Sequence[Engine]) -> list[Timing]:
    """What was found before, the reference first; nothing when that is not whole."""
    exact = {e.label: e.exact for e in engines}
    try:
        held = read_finding(FINDINGS, key)
        found = [Timing(str(t["engine"]), float(t["setup"]), float(t["rate"]), exact[t["engine"]]) for t in held]
    except (TypeError, ValueError, KeyError):
        return []
    whole = found and found[0].label == engines[0].label and all(t.rate > 0 and t.setup >= 0 for t in found)
    return found if whole else []


def _timed(
    frozen: Frozen,
    examples: Sequence[Example],
    engines: Sequence[Engine],
    device: str,
    threads: int,
    left_out: dict[str, str],
    count: int,
    deadline: Deadline | None = None,
) -> list[Timing]:
    """Each engine's making and pace on tiles of real examples, in turns; one that cannot take the network is left out, with the reason. The
    first alone where a pass over `count` examples is short with it, or the deadline leaves no time for more.
    """
    from regraft.features.engines.graph import forget
    from regraft.features.threads import computing_crew

    start = time.perf_counter()
    workers = pass_workers(device, threads)
    tiles = _tiles(frozen, examples, workers)
    # opened here: every engine needs the network, so that it counts for none
    frozen.trunk(device, engines[0], threads)
    windows = sum(len(tile) for tile in tiles)
    setups: dict[str, float] = {}
    enough = -math.inf
    fastest: dict[str, float] = {}
    trunks: dict[str, Trunk] = {}
    try:
        with computing_crew(workers) as pool:
            for engine in engines:
                if deadline and deadline.left < enough:
                    break  # the others took longer to make than was thought
                begun = time.perf_counter()
                try:
                    trunk = frozen.trunk(device, engine, threads)
                    for tile in _one_of_each(tiles):
                        pool.submit(trunk, tile).result()
                except ModelError as error:
                    if engine is engines[0]:
                        raise
                    left_out[engine.label] = str(error.found)
                    continue
                trunks[engine.label], setups[engine.label] = trunk, time.perf_counter() - begun
                if engine is engines[0]:
                    begun = time.perf_counter()
                    for _rows in (pool.map if trunk.side_by_side else map)(trunk, tiles):
                        pass
                    alone = Timing(engine.label, setups[engine.label], windows / (time.perf_counter() - begun), engine.exact)
                    own, whole = time.perf_counter() - start, count / alone.rate
                    others = len(engines) - 1
                    pays = deadline is None or may_time_engines(deadline.left, whole, own, others, deadline.slowness)
                    if is_short(alone, count) or not pays:
                        return [alone]
                    enough = ROUND * deadline.left if deadline else -math.inf
            for _ in range(ROUNDS):
                for label, trunk in trunks.items():
                    begun = time.perf_counter()
                    for _rows in (pool.map if trunk.side_by_side else map)(trunk, tiles):
                        pass
                    spent = time.perf_counter() - begun
                    fastest[label] = min(spent, fastest.get(label, spent))
    finally:
        forget()
    exact = {e.label: e.exact for e in engines}
    return [Timing(label, setups[label], windows / fastest[label], exact[label]) for label in trunks]


def _one_of_each(tiles: Sequence[list[Any]]) -> Iterator[list[Any]]:
    """A tile of each shape."""
    seen: set[Any] = set()
    for tile in tiles:
        if (shape := _shape(tile[0])) not in seen:
            seen.add(shape)
            yield tile


def _shape(window: Mapping[str, np.ndarray]) -> Any:
    return tuple((k, v.shape) for k, v in window.items())


def _tiles(frozen: Frozen, examples: Sequence[Example], workers: int) -> list[list[Any]]:
    """A tile of real windows for each worker, at least two, of the commonest shapes of some examples from all over the data."""
    count = max(2, workers)
    needed = frozen.tile * min(count, 4)
    prepare = frozen.modality.preparer(frozen.preprocessing, frozen.files)
    by_shape: dict[Any, list[Any]] = defaultdict(list)
    for k in np.linspace(0, len(examples) - 1, min(len(examples), 2 * needed)).astype(int):
        try:
            prepared = prepare(frozen.modality.load(examples[k].source).decode())
        except RegraftError:
            raise
        except Exception:  # noqa: S112 - the pass says what is wrong with it
            continue
        for window in prepared.windows[:2]:
            by_shape[_shape(window)].append(window)
        if sum(len(own) for own in by_shape.values()) >= needed:
            break
    if not by_shape:
        by_shape[()] = [frozen.modality.blank(frozen.preprocessing)]
    whole = [own[i : i + frozen.tile] for own in by_shape.values() for i in range(0, len(own), frozen.tile)]
    whole.sort(key=len, reverse=True)
    # a short tile costs as much as a full one: filled up, every tile counts the same for every engine
    full = [(own * frozen.tile)[: frozen.tile] for own in whole[:count]]
    return [full[i % len(full)] for i in range(count)]


def recorded_engine(model: Predictor, device: str, emit: Emit) -> Engine:
    """The engine that a model's features came from, when it can be used here; else torch float32, said aloud."""
    from regraft.features.engines import REFERENCE, engine_of

    held = model.engine
    if held is None:
        return REFERENCE
    name, precision = str(held.get("name")), str(held.get("precision"))
    try:
        engine = engine_of(name, precision)
    except UsageError:
        reason, move = "this regraft does not know it", "pip install --upgrade regraft"
    else:
        reason, move = engine.missing(device), engine.move
        if not reason:
            return engine
    emit(
        Warned(
            f"the model was fitted to features of {name} {precision}, and {reason}: torch fp32 is used, which may move probabilities a "
            f"little ({move})"
        )
    )
    return REFERENCE


@dataclass(frozen=True)
class Agreement:
    """How predictions of the new head on an engine's features compare with those on exact ones, held out."""

    exact: str
    """The engine that made those."""
    examples: int
    equal: int
    figure: float
    reference: float
    metric: str
    objection: str

    def to_json(self) -> dict[str, Any]:
        """Plain data, for decisions.json."""
        return {
            "compared_with": self.exact,
            "examples": self.examples,
            "equal": self.equal,
            "metric": self.metric,
            "figure": round(self.figure, 6),
            "exact_figure": round(self.reference, 6),
            "accepted": not self.objection,
        }

    def said(self) -> Said:
        """One line."""
        both = f"{self.metric} {abs(self.figure):.4g}, with {self.exact} {abs(self.reference):.4g}"
        return Said(f"engine: {self.equal:,} of {self.examples:,} held-out predictions are those of {self.exact}; {both}")


def compare_predictions(
    exact: Engine, target: Target, metric: str, y: np.ndarray, ours: np.ndarray, reference: np.ndarray, spread: float
) -> Agreement:
    """What two sets of held-out outputs (n, outputs) say of the same examples. `spread` is the labels' standard deviation (numbers)."""
    mine, theirs = target.decide(ours), target.decide(reference)
    if target.name == "number":
        same = np.abs(ours - reference)[:, 0] <= NUMBER_ALIKE * spread
    else:
        same = (mine == theirs).reshape(len(y), -1).all(1)
    figure, other = float(target.score(metric, y, mine)), float(target.score(metric, y, theirs))
    # one example more or less is what a sample cannot tell from nothing, where a figure counts examples
    slack = max(SLACK * abs(other), 0.0 if target.name == "number" else 1 / len(y))
    equal = int(same.sum())
    return Agreement(exact.label, len(y), equal, figure, other, metric, objection(equal, len(y), figure, other, slack + 1e-9))
