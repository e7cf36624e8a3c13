"""What a way to train costs before it is paid: seconds, memory, disk. Pure: counts and what was measured on this machine in, intervals out.

A pass over N examples of F multiply-adds costs N x F once; training E epochs costs E x N x 3 F, backward being twice the forward; what a
cut saves of F runs once only (docs/cut.md). Memory is that of the weights, of gradients and the optimiser's state of what trains, and of
what the trained part alone keeps for its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from regraft.facts import Figure
from regraft.strategy.contrastive import Contrast
from regraft.strategy.engines import SHORT, TIMED_FROM
from regraft.strategy.settings import Settings, batch_for, folds_to_train, worth_timing

Z = 1.645
"""Of a normal distribution, nine of ten lie within so many standard deviations."""


@dataclass(frozen=True)
class Range:
    """What is expected of a quantity that is not known yet, and where it should lie nine times of ten."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, figure: Figure) -> Range:
        """A measured figure with its interval."""
        return cls(figure.value, figure.low, figure.high)

    @classmethod
    def around(cls, value: float, spread: float) -> Range:
        """A positive quantity whose logarithm has the standard deviation `spread`."""
        factor = math.exp(Z * spread)
        return cls(value, value / factor, value * factor)

    def times(self, factor: float) -> Range:
        """The same of so many."""
        return Range(self.value * factor, self.low * factor, self.high * factor)

    def plus(self, amount: float) -> Range:
        """The same with a known amount more."""
        return Range(self.value + amount, self.low + amount, self.high + amount)

    def __contains__(self, value: float) -> bool:
        """Whether it came out within the interval."""
        return self.low <= value <= self.high

    def to_json(self) -> dict[str, float]:
        """Plain data, rounded to what means something."""
        return {name: float(f"{getattr(self, name):.4g}") for name in ("value", "low", "high")}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Range:
        """What `to_json` gave. ValueError, TypeError or KeyError for anything else."""
        found = cls(*(float(values[name]) for name in ("value", "low", "high")))
        if not all(map(math.isfinite, (found.value, found.low, found.high))) or not found.low <= found.value <= found.high:
            raise ValueError(f"{dict(values)} is no interval around a value")
        return found


TOGETHER = 0.5
"""How much the stages of a fit err alike: a machine that is busy is so for all of them."""


def total(ranges: Iterable[Range]) -> Range:
    """The sum of several, which err in part alike."""
    parts = list(ranges)
    value = sum(r.value for r in parts)
    below, above = (_both([r.value - r.low for r in parts]), _both([r.high - r.value for r in parts]))
    return Range(value, max(0.0, value - below), value + above)


def _both(widths: Sequence[float]) -> float:
    """The width of a sum whose parts have these widths and correlate by TOGETHER."""
    squares, whole = sum(w * w for w in widths), sum(widths)
    return math.sqrt((1 - TOGETHER) * squares + TOGETHER * whole * whole)


@dataclass(frozen=True)
class Amount:
    """How much there is to do. `windows` are those of an example, `missing` the examples whose features are not in the store, `width` the
    features of one. `outputs` are those of the output layer, `rows` how many numbers the model without a network reads of an example.
    """

    train: int
    test: int
    outputs: int
    folds: int
    nested: bool
    windows: float
    missing: int
    width: int
    rows: int

    @property
    def examples(self) -> int:
        """All that go through the network."""
        return self.train + self.test


@dataclass(frozen=True)
class Pace:
    """How fast this machine is with a network, in seconds: `begin` until the pass begins, `setup` until its engine is ready, `example` of
    the pass an example (read, prepared and through the network), `reading` of it an example alone, `probe` by how many times what
    `probe_seconds` says a linear head took, `ending` after the last stage. `judged` is a window through the whole network in training's
    engine. `measured` says of which that is known here; the others are guesses. `timed` is how many examples `example` is the mean of.
    """

    begin: float = 4.0
    setup: float = 1.0
    example: float = 0.05
    reading: float = 0.005
    judged: float = 0.02
    probe: float = 1.0
    ending: float = 1.5
    timed: int = 0
    measured: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        seconds = {k: float(f"{v:.4g}") for k, v in vars(self).items() if k not in ("timed", "measured")}
        return {**seconds, "timed": self.timed, "measured": list(self.measured)}

    def as_before(self, held: Mapping[str, Any], names: Sequence[str]) -> Pace:
        """With the numbers of these names from what `to_json` gave of an earlier one; with `example` goes how many it is the mean of."""
        numbers = {name: float(value) for name in names if _is_number(value := held.get(name))}
        timed = held.get("timed") if "example" in numbers else None
        known = [name for name in ("example", "judged") if name in held.get("measured", ())]
        # earlier versions wrote the count as 32.0
        return replace(self, **numbers, timed=int(timed) if _is_number(timed) else self.timed, measured=(*self.measured, *known))


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether a file says a number there, which other versions and hands may have written."""
    return isinstance(value, (int, float)) and math.isfinite(value)


@dataclass(frozen=True)
class Body:
    """A rung on a network, in numbers. Multiply-adds and bytes are those of a window.

    macs         multiply-adds of the whole network
    saved        the share of them that runs once, before a cut; 0 where there is none
    kept         bytes that the cut keeps
    prepared     bytes of a window as the network takes it, kept in the run while it trains where there is no cut
    parameters   of the network with its new head
    trained      of them those that train
    activations  bytes that the trained part keeps for its gradient
    cutting      seconds to find the cut
    step         seconds of a step in float32; None where none was timed
    rounded      the same in bfloat16
    rounds       whether the device computes in bfloat16, so that a fit may time it
    buffers      bytes of the network that are no parameters: tables, statistics
    """

    macs: int
    parameters: int
    trained: int
    saved: float = 0.0
    kept: int = 0
    prepared: int = 0
    activations: int = 0
    cutting: float = 1.0
    step: float | None = None
    rounded: float | None = None
    rounds: bool = False
    buffers: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))

    @property
    def live(self) -> float:
        """Multiply-adds of the part that trains."""
        return self.macs * (1 - self.saved)


MEASURED, GUESSED, ROUGH = 0.12, 0.5, 0.3
"""Standard deviations of the logarithm of seconds: timed on this machine, not timed, timed on something else alike. Timings of the same
work on a quiet machine vary by a tenth."""


def probe_seconds(n: int, width: int, outputs: int, *, nested: bool) -> float:
    """Seconds of a linear head with all folds and strengths on one core: within a factor of two and a half of 62 real heads of 10 to 10,003
    examples, 256 to 1,280 numbers and 2 to 136 classes, mostly within 1.4 (docs/how-it-decides.md). What is made up is easier to fit.
    """
    work = 0.24 + 0.014 * outputs + 3.8e-5 * (n * min(n, width) * outputs) ** 0.75
    return work if nested else 0.6 * work


def head_stages(amount: Amount, pace: Pace) -> dict[str, Range]:
    """The stages of `--train head`, by name."""

    def spread(name: str) -> float:
        return MEASURED if name in pace.measured else GUESSED

    def probe(width: int, share: float = 1.0) -> Range:
        seconds = share * pace.probe * probe_seconds(amount.train, width, amount.outputs, nested=amount.nested and share == 1)
        return Range.around(seconds, ROUGH if "probe" in pace.measured else 2 * GUESSED)

    found = {"begin": Range.around(pace.begin, spread("begin"))}
    known = amount.examples - amount.missing
    features = pace.example * amount.missing + (pace.setup if amount.missing else 0.0) + known * min(pace.reading, pace.example)
    # one example takes as long as another, give or take; the mean of few says less than that of many
    found["features"] = Range.around(max(0.05, features), math.hypot(spread("example"), 1 / math.sqrt(max(4, pace.timed))))
    found["output layer"] = probe(amount.width)
    found["without the network"] = probe(amount.rows, 0.5)
    found["ending"] = Range.around(pace.ending, ROUGH)
    return found


def step_seconds(body: Body, amount: Amount, pace: Pace, batch: int, precision: str = "fp32") -> Range:
    """A step of training of so many examples: as timed, or from multiply-adds: three times those of the part that trains."""
    timed = body.rounded if precision == "bf16" else body.step
    if timed is not None:
        return Range.around(timed, MEASURED)
    # forward once more than a window that is judged for the part that trains: backward is twice the forward
    return Range.around(3 * (1 - body.saved) * pace.judged * amount.windows * batch, ROUGH if "judged" in pace.measured else GUESSED)


MIXES = 5
"""Weights between the start and the end of a training that each fold is judged with, where `wise` asks for it (training/afterwards.py)."""


def training_seconds(amount: Amount, settings: Settings, step: Range, judged: float, most: int | None = None, share: float = 1.0) -> Range:
    """All folds that are trained and the final training; how many folds there are follows from what one takes, as it will when it is known,
    and is at most `most`. `judged` are the seconds of a held-out example, `share` is the part of the steps that is made.
    """
    own = math.ceil(amount.train * (1 - 1 / max(2, amount.folds)))
    held = (amount.train - own) * judged * (MIXES if settings.wise else 1)

    def steps(examples: int) -> float:
        # the last step of an epoch has the examples that are left
        return share * settings.epochs * examples / settings.batch

    def took(seconds: float) -> float:
        one = steps(own) * seconds + held
        folds = folds_to_train(amount.folds, one, amount.train)
        return min(folds, most or folds) * one + steps(amount.train) * seconds

    # near the border between all folds and one, what takes longer may be done sooner
    tried = [took(step.low * (step.high / step.low) ** (k / 16)) for k in range(17)]
    value = took(step.value)
    return Range(value, min(*tried, value), max(*tried, value))


def deeper_stages(
    amount: Amount, pace: Pace, body: Body, settings: Settings, precision: str = "fp32", most: int | None = None, share: float = 1.0
) -> dict[str, Range]:
    """The stages of training below the head, by name, in at most so many folds and with a `share` of the steps: what comes on top of those
    of the head.
    """
    rough = ROUGH if body.step is None else MEASURED
    found = {**_opening(amount, pace), "cut": Range.around(body.cutting, ROUGH)}
    read = amount.examples * pace.reading
    trunk = body.saved * pace.judged * amount.windows * amount.examples
    found["frozen part" if body.saved else "preparing"] = Range.around(read + trunk, ROUGH if "judged" in pace.measured else GUESSED)
    step = step_seconds(body, amount, pace, settings.batch, precision)
    judged = (1 - body.saved) * pace.judged * amount.windows
    training = training_seconds(amount, settings, step, judged, most, share)
    found["training"] = total([training, _precision_timing(body, settings, step, amount)])
    found["judging"] = Range.around(max(0.02, amount.test * judged), rough)
    return found


def _opening(amount: Amount, pace: Pace) -> dict[str, Range]:
    """What it takes to open the network, which a head whose features are all stored does without."""
    return {"opening": Range.around(0.0 if amount.missing else pace.setup, ROUGH)}


def _precision_timing(body: Body, settings: Settings, step: Range, amount: Amount) -> Range:
    """What a fit takes to find out how to compute: three steps in float32, and where that may pay three in bfloat16."""
    if settings.precision != "auto":
        return Range(0.0, 0.0, 0.0)
    plain = step.times(3)
    if not body.rounds or not worth_timing(step.value, settings.steps(amount.train)):
        return plain
    other = Range.around(plain.value, GUESSED) if body.rounded is None else Range.around(3 * body.rounded, MEASURED)
    return total([plain, other])


def contrastive_stages(
    amount: Amount, pace: Pace, body: Body, contrast: Contrast, most: int | None = None, share: float = 1.0
) -> dict[str, Range]:
    """The stages of `--train contrastive`, in at most so many folds and with a `share` of the steps, on top of the head: every fold
    tunes the encoder, encodes everything and fits heads.
    """
    found = {**_opening(amount, pace), "preparing": Range.around(max(0.02, amount.examples * pace.reading), ROUGH)}
    batches = share * contrast.steps * contrast.batch * amount.windows
    each = 3 * pace.judged if body.step is None else body.step / max(1, batch_for(amount.train))
    encoding = amount.train * amount.windows * pace.judged
    heads = pace.probe * probe_seconds(amount.train, amount.width, amount.outputs, nested=False)

    def took(scale: float) -> float:
        one = scale * (batches * each / max(1.0, amount.windows) + encoding) + heads
        folds = folds_to_train(amount.folds, one, amount.train)
        return (min(folds, most or folds) + 1) * one

    tried = [took(math.exp(Z * ROUGH * k / 8)) for k in range(-8, 9)]
    found["training"] = Range(took(1.0), min(tried), max(tried))
    found["judging"] = Range.around(max(0.02, amount.test * amount.windows * pace.judged), ROUGH)
    return found


@dataclass(frozen=True)
class Held:
    """Memory of the process in MB as the plan found it: `resident` before anything below the head is opened, `peak` so far."""

    resident: float
    peak: float


BYTES_OF_WEIGHTS, BYTES_OF_TRAINED = 12, 16
"""For each parameter: what came, the network, and its state at the start. For each that trains, besides: gradient 4, AdamW's two means 8,
where it ended 4."""

LOADED = 60.0
"""MB of what PyTorch loads to find a cut and to train (measured: 50 to 90)."""

TEMPORARY = 1.4
"""Times what is kept for the gradient: the gradient on its way back, and what an operation needs while it runs."""

ROUGH_MEMORY = 0.1


def head_memory(amount: Amount, held: Held, done: int, more: float = 0.0) -> Range:
    """MB at most of `--train head`, when `done` examples have gone through the same steps already: three copies of their features grow.
    `more` is what looking for an engine takes.
    """
    return Range.around(held.peak + more + 12 * amount.width * max(0, amount.examples - done) / 1e6, ROUGH_MEMORY)


STORED = {"image": 280.0}
OTHERS_STORED = 360.0
"""MB of a fit whose features are all stored: it opens no network (images 276 to 283, texts and sounds 350 to 374 on the sets of
benchmarks/judgement)."""

ENGINES = {"image": 430.0}
"""MB that a fit holds more where it looks for a faster engine: 390 to 500 with EfficientNet-Lite0 and 1 (benchmarks/judgement)."""


def engines_memory(task: str, amount: Amount, example: float) -> float:
    """MB more of a fit that looks for a faster engine, as it does where a pass at `example` seconds each takes long enough."""
    looks = amount.missing >= TIMED_FROM and amount.missing * example > SHORT
    return ENGINES.get(task, 0.0) if looks else 0.0


def stored_memory(amount: Amount, held: Held, task: str = "") -> Range:
    """MB at most of `--train head` where nothing has to go through the network."""
    return Range.around(min(held.peak, STORED.get(task, OTHERS_STORED)) + 12 * amount.width * amount.examples / 1e6, ROUGH_MEMORY)


def deeper_memory(amount: Amount, held: Held, done: int, body: Body, batch: int) -> Range:
    """MB at most of training below the head: what the pass held stays with the process, and what gradients need goes there first."""
    weights = (BYTES_OF_WEIGHTS * (body.parameters + body.buffers / 4) + BYTES_OF_TRAINED * body.trained) / 1e6
    kept = TEMPORARY * body.activations * batch * amount.windows / 1e6
    before = head_memory(amount, held, done).value
    return Range.around(before + LOADED + weights + max(0.0, kept - (held.peak - held.resident)), 1.5 * ROUGH_MEMORY)


def head_disk(amount: Amount, parameters: int) -> float:
    """MB that are kept: features in the store, and the bundle."""
    return (4 * amount.width * amount.examples + 4 * (parameters + amount.width * amount.outputs)) / 1e6


def deeper_disk(amount: Amount, body: Body) -> float:
    """MB: what the head takes, what the cut keeps, or prepared examples while it runs."""
    each = body.kept if body.saved else body.prepared
    return head_disk(amount, body.parameters) + each * amount.windows * amount.examples / 1e6


LONGER = 17.0
"""How many times as many steps a network from random weights needs to come as far: Kornblith et al. 2019, section 4.6, Inception v4 to nine
tenths of the best odds of being right, in 26 epochs (1,151 steps) fine-tuned and 444 (19,531) from random weights, geometric means
over their data sets.
"""


def scratch_seconds(amount: Amount, settings: Settings, forward: float, step: float | None = None, batch: int = 1) -> Range:
    """Training the same network from random weights, once: LONGER times the steps of fine-tuning, each as long as a `step` of `batch`
    examples was measured to be; else from multiply-adds, which take `forward` seconds a window here, and three times that in a step.
    """
    example = 3 * forward * amount.windows if step is None else step / batch
    return Range.around(LONGER * settings.epochs * amount.train * example, GUESSED)
