"""How fast this machine is with a network below its head: a few steps of the real training on a few examples, timed."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import Example
from regraft.events import Emit, silent
from regraft.jobs.common import has_bfloat16
from regraft.jobs.deeper import convolves, read_material, whole_learner
from regraft.jobs.validation import Validation
from regraft.jobs.work import Deeper, Work
from regraft.modality import MODALITIES
from regraft.strategy.cost import Body
from regraft.strategy.settings import Settings, changed, settings_for, worth_timing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from regraft.features.engines import Engine
    from regraft.features.material import Material
    from regraft.training.loop import Learner
    from regraft.training.probe import Probe

LEAST = 4
"""Examples of the smallest step that is timed: a whole one is thought to take as many times as long as it has more."""

JUDGED = 8
"""Examples that are judged for a timing, twice; the faster counts."""


CUTTING = 7.0
"""Seconds that finding a cut takes where none was timed: 7.5 to 7.8 of EfficientNet-Lite0 on one core of a server, PyTorch's own export for
the most part."""


class Aside:
    """Stands in for a run's recorder: nothing is decided, nothing is said, and what is written goes into a folder that is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.emit: Emit = silent
        self.decisions: dict[str, Any] = {}

    def held_decision(self, name: str) -> Any:
        """Nothing was decided before."""
        return None

    def decide(self, **decisions: Any) -> None:
        """Held for whoever calibrates."""
        self.decisions.update(decisions)

    def anew(self, *names: str) -> None:
        """Nothing was decided before."""


@dataclass(frozen=True)
class Timed:
    """What timing a rung gave: its body, the seconds of a window that is judged by the part that trains, of an example that is read, in
    milliseconds what one example alone takes, the windows of an example, and the length that nine of ten texts do not exceed (1 for what
    has none).
    """

    body: Body
    judged: float
    reading: float
    latency: float
    windows: float
    length: int

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a finding."""
        return {"body": self.body.to_json(), **{k: v for k, v in vars(self).items() if k != "body"}}

    @classmethod
    def from_json(cls, values: Any) -> Timed:
        """What `to_json` gave; TypeError, KeyError or ValueError for anything else."""
        numbers = {k: float(values[k]) for k in ("judged", "reading", "latency", "windows")}
        return cls(Body(**values["body"]), length=int(values["length"]), **numbers)


@dataclass(frozen=True)
class Sample:
    """A few usable training examples, with what training needs of them: `features` has a row for each. `places` are theirs among all that
    the validation knows; the first ones when not given.
    """

    examples: Sequence[Example]
    features: np.ndarray
    validation: Validation
    probe: Probe
    device: str
    workers: int
    seed: int
    keep: bool
    engine: Engine | None = None
    """What runs the frozen part before a cut, where it can."""
    places: np.ndarray | None = None

    @contextmanager
    def work(self) -> Iterator[Work]:
        """Them as training takes them, in a folder that is removed."""
        from regraft.training.losses import LOSSES

        count = len(self.examples)
        validation = self.validation
        places = np.arange(count) if self.places is None else self.places
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            yield Work(
                features=self.features,
                examples=self.examples,
                train=np.arange(count),
                values=validation.parts.y[places],
                weights=validation.weights[places],
                folds=validation.folds[places],
                loss=LOSSES[validation.target.loss],
                starts=[(self.probe.weight, self.probe.bias)],
                head_held_out=self.probe.out_of_fold[places],
                validation=validation,
                seed=self.seed,
                device=self.device,
                workers=self.workers,
                recorder=Aside(Path(folder)),  # pyright: ignore[reportArgumentType]
                keep=self.keep,
                engine=self.engine,
            )


def usual_settings(deeper: Deeper, examples: int) -> Settings:
    """The settings that a fit of so many training examples takes: by the rules, with those of the rung."""
    net = deeper.whole.net
    settings = settings_for(
        examples,
        net.totals()[0],
        convolutions=convolves(net.module),
        whole=deeper.rung.whole,
        scales=deeper.trains_scales_alone,
        images=MODALITIES[deeper.facts.task].name == "image",
    )
    return changed(settings, deeper.rung.settings, deeper.asked)


def seconds_to_time(example: float, batch: int, windows: int) -> float:
    """What timing a rung takes, about: three steps, what is judged, and what is read, when an example takes so many seconds in the pass."""
    return example * (3 * 3 * batch + 3 * JUDGED + windows)


def batch_to_time(example: float, seconds: float, batch: int) -> int:
    """How many examples of a step of `batch` are timed, in about so many seconds."""
    return max(min(LEAST, batch), min(batch, int(seconds / max(1e-6, 18 * example))))


def timed(deeper: Deeper, sample: Sample, settings: Settings, examples: int, batch: int, *, rounded: bool) -> Timed:
    """Find the cut, make what training reads of the sample, and time steps of `batch` examples and judging; nothing moves. `examples` is
    how many the fit will have, `rounded` says whether bfloat16 may be timed too. RegraftError when the network cannot be trained so.
    """
    from regraft.training.deeper import Task, seconds_of_steps
    from regraft.training.losses import LOSSES

    with sample.work() as work:
        begun = time.perf_counter()
        learner, cut, trunk = whole_learner(deeper, settings, work)
        cutting = time.perf_counter() - begun
        begun = time.perf_counter()
        material, _ = read_material(deeper, work, cut, trunk, work.folder)
        reading = (time.perf_counter() - begun) / len(work.examples)
        task = Task(material, LOSSES[sample.validation.target.loss], work.values, work.train, work.weights, work.folds)
        took = lambda name: seconds_of_steps(learner, task, replace(settings, precision=name, batch=batch), work.seed)
        # as many examples as a step has are not always there
        scale = settings.batch / min(batch, len(work.train))
        step = scale * took("fp32")
        rounds = has_bfloat16(sample.device)
        worth = rounded and rounds and settings.precision == "auto" and worth_timing(step, settings.steps(examples))
        judged, latency = _judging(learner, material, work.train)
        every, live = deeper.whole.net.totals()
        body = Body(
            macs=deeper.whole.net.seen.macs,
            parameters=every,
            trained=live,
            saved=0.0 if cut.empty else round(cut.saved, 4),
            kept=0 if cut.empty else _bytes(material),
            prepared=_bytes(material) if cut.empty else 0,
            activations=kept_for_gradient(learner, material, work.train),
            cutting=cutting,
            step=step,
            rounded=scale * took("bf16") if worth else None,
            rounds=rounds,
            buffers=_buffers(deeper),
        )
        windows = len(material.example) / len(work.examples)
        return Timed(body, judged, reading, latency, windows, _length(deeper, material))


def _length(deeper: Deeper, material: Material) -> int:
    from regraft.training.contrastive import usual_length

    try:
        return usual_length(material) if MODALITIES[deeper.facts.task].pad else 1
    except (KeyError, IndexError, ValueError):  # what a cut keeps has no lengths
        return 1


def _buffers(deeper: Deeper) -> int:
    """Bytes of what is no parameter."""
    return sum(b.numel() * b.element_size() for b in deeper.whole.net.module.buffers())


def _bytes(material: Material) -> int:
    """What a window takes, on the mean."""
    few = np.arange(len(material.example))[:: max(1, len(material.example) // 8)][:8]
    return int(np.mean([sum(a.nbytes for a in material.read(np.array([w])).values()) for w in few]))


def _judging(learner: Learner, material: Material, train: np.ndarray) -> tuple[float, float]:
    """(seconds of a window that is judged among others, milliseconds of one example alone)."""
    from regraft.training.loop import judge

    def fastest(examples: np.ndarray) -> float:
        spent: list[float] = []
        for _ in range(2):
            begun = time.perf_counter()
            judge(learner, material, examples)
            spent.append(time.perf_counter() - begun)
        return min(spent)

    together = train[:JUDGED]
    return fastest(together) / max(1, len(material.windows_of(together))), 1000 * fastest(train[:1])


def kept_for_gradient(learner: Learner, material: Material, train: np.ndarray) -> int:
    """Bytes of a window that the trained part keeps for its gradient: what is saved on the way forward, each piece of memory once."""
    import torch

    own = {p.untyped_storage().data_ptr() for p in learner.module.parameters()} | {
        b.untyped_storage().data_ptr() for b in learner.module.buffers()
    }
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    windows = next(iter(material.alike(material.windows_of(train[:4]), 4)))
    learner.train_mode()
    try:
        random = torch.get_rng_state()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            learner.scores(material.read(windows)).sum()
        torch.set_rng_state(random)
    finally:
        learner.eval_mode()
    return sum(seen.values()) // max(1, len(windows))


def untimed(deeper: Deeper, example: float) -> Timed:
    """The whole network where there was no time to time it, from the seconds of an example in the pass, a third of which is reading."""
    net = deeper.whole.net
    every, live = net.totals()
    sizes = [math.prod(row.output) * max(1, row.calls) for row in net.rows() if row.output and not row.children]
    prepared = sum(t[0].numel() * t.element_size() for t in net.inputs.values())
    body = Body(net.seen.macs, every, live, prepared=prepared, activations=4 * sum(sizes), buffers=_buffers(deeper))
    return Timed(body, 2 * example / 3, example / 3, 1000 * example, 1.0, 32 if MODALITIES[deeper.facts.task].pad else 1)


def guessed(deeper: Deeper, whole: Timed, saved: float) -> Timed:
    """A rung that was not timed, from the whole network that was: what a cut saves of the work it saves of a step. Where biases and scales
    alone train, the gradients of weights, a third of a step, are not made.
    """
    every, live = deeper.whole.net.totals()
    share = 1 - saved
    steps = share * (0.75 if deeper.trains_scales_alone else 1.0)
    body = replace(
        whole.body,
        trained=live,
        parameters=every,
        saved=saved,
        cutting=max(CUTTING, whole.body.cutting) if saved else whole.body.cutting,
        kept=whole.body.prepared if saved else 0,
        activations=int(whole.body.activations * share),
        step=None if whole.body.step is None else steps * whole.body.step,
        rounded=None if whole.body.rounded is None else steps * whole.body.rounded,
    )
    return replace(whole, body=body, judged=whole.judged * share)


def saved_of(deeper: Deeper) -> float:
    """The share of the network's multiply-adds that comes before what trains, from its layers alone."""
    rows = [row for row in deeper.whole.net.rows() if not row.children]
    total = sum(row.macs for row in rows) or 1
    before = 0
    for row in rows:
        if row.trained:
            break
        before += row.macs
    return before / total


@dataclass(frozen=True)
class Known:
    """What is known of a rung here: timings, whether they are its own (`measured`) or told from the whole network's, and the settings
    that a fit takes.
    """

    timed: Timed
    measured: bool
    settings: Settings

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a finding."""
        return {"timed": self.timed.to_json(), "measured": self.measured, "settings": self.settings.to_json()}


def read_known(values: Any) -> dict[str, Known]:
    """What was kept of earlier plans, by rung; what cannot be read is not there."""
    found: dict[str, Known] = {}
    for name, one in values.items() if isinstance(values, Mapping) else ():
        try:
            found[str(name)] = Known(Timed.from_json(one["timed"]), bool(one["measured"]), Settings(**one["settings"]))
        except (TypeError, KeyError, ValueError):
            continue
    return found
