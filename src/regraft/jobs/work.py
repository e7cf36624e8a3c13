"""What deeper training is asked to do: the network with its new head and what trains in it, and what it works on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import Example
from regraft.errors import UsageError
from regraft.events import Emit
from regraft.facts import ModelFacts
from regraft.jobs.network import Edited, Whole, in_head, whole_network
from regraft.jobs.recording import Recorder
from regraft.modality import Modality
from regraft.pretrained import source_of
from regraft.spec import refuse
from regraft.strategy.rungs import AS_IT_IS, CONTRASTIVE, LORA_RUNG, Rung, rung_of
from regraft.targets import Target
from regraft.workspace.store import home

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.features.engines import Engine
    from regraft.jobs.augment import Seen
    from regraft.jobs.validation import Validation
    from regraft.training.losses import Loss


@dataclass(frozen=True)
class Deeper:
    """A network on its way to be trained: a rung above the linear head, or a head of several layers on frozen features."""

    whole: Whole
    rung: Rung
    facts: ModelFacts
    """Of the network with its new head."""
    backbone: Mapping[str, Tensor]
    asked: Mapping[str, Any]
    """Settings that were asked for."""

    @property
    def on_features(self) -> bool:
        """Whether only the head trains: it then reads the features that are there already."""
        return all(in_head(self.whole.net, path) for path in self.whole.net.trained.paths)

    @property
    def trains_scales_alone(self) -> bool:
        """Whether what trains below the head are biases and scales."""
        net = self.whole.net
        below = [p for name, p in net.module.named_parameters() if name in net.trained and not in_head(net, name)]
        return bool(below) and all(p.ndim <= 1 for p in below)

    def said(self) -> str:
        """What trains, in a sentence."""
        from regraft.anatomy.adapters import adapters, outside_adapters

        net = self.whole.net
        every, live = net.totals()
        held = adapters(net.module)
        told = outside_adapters(net.module, net.trained.paths)
        if held:
            told.insert(0, f"adapters at {len(held)} layers")
        return f"trains {', '.join(told)}: {live:,} of {every:,} parameters ({live / max(1, every):.1%})"


def plan_deeper(
    facts: ModelFacts, edited: Edited | None, train: str, asked: Mapping[str, Any], target: Target, modality: Modality
) -> Deeper | None:
    """What there is to train beyond a linear output layer; None when there is nothing. UsageError when `train` selects nothing, or for
    settings that have no meaning here.

    `facts` are those before the recipe, `asked` the settings that were asked for.
    """
    rung = rung_of(train)
    refuse(_foreign_settings({**rung.settings, **asked}, target, modality))
    linear = UsageError(
        "--set is for what is trained step by step, and --train head fits a linear output layer at once",
        expected="a rung above the head, layers, or a head of several layers",
        move="--train top=1",
    )
    if rung.name == AS_IT_IS:
        if asked:
            raise linear
        return None
    if rung.name == CONTRASTIVE and asked:
        raise UsageError(
            f"--set {', '.join(asked)}: --train contrastive has settings of its own, which follow from the data", move="--train full"
        )
    if rung.name == "head" and edited is not None and edited.trains is not None:
        rung = Rung(edited.trains, edited.trains, "what the recipe says")
    if rung.name == "head" and edited is not None and edited.lora:
        rung = LORA_RUNG
    if rung.name == "head" and not (edited is not None and edited.has_own_head):
        if asked:
            raise linear
        return None
    backbone = edited.weights if edited else source_of(facts).weights(facts)
    whole = whole_network(facts, edited, backbone, len(target.outputs), rung.trains)
    changed = edited.facts if edited else facts
    deeper = Deeper(whole, rung, replace(changed, architecture=whole.architecture), backbone, asked)
    if deeper.on_features and whole.plain:
        if asked:
            raise linear
        return None
    return deeper


def _foreign_settings(given: Mapping[str, Any], target: Target, modality: Modality) -> list[str]:
    """What is wrong with settings for such a target and such inputs."""
    faults = [
        f"{name} mixes images, and these are {modality.nouns}"
        for name in ("mixup", "cutmix")
        if given.get(name) and modality.name != "image"
    ]
    faults += [
        f"{name} needs classes, and the target is a number"
        for name in ("smoothing", "mixup", "cutmix")
        if given.get(name) and target.name == "number"
    ]
    if given.get("balanced") and target.name != "class":
        faults.append(f"balanced draws every class equally often; the target here is {target.name} ({target.about})")
    return faults


@dataclass(frozen=True)
class Work:
    """What deeper training works on. `features` and `examples` are all usable ones, `train` the positions of those to learn from.
    `starts` are linear output layers, (weight, bias), fitted without each fold, and last on everything.
    """

    features: np.ndarray
    examples: Sequence[Example]
    train: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    folds: np.ndarray
    loss: Loss
    starts: Sequence[tuple[np.ndarray, np.ndarray]]
    validation: Validation
    head_held_out: np.ndarray
    """Held-out outputs (n, outputs) of the linear head."""
    seed: int
    device: str
    workers: int
    recorder: Recorder
    keep: bool = True
    """Whether what the cut gives stays in the feature store."""
    engine: Engine | None = None
    """What runs the frozen part before a cut, where it can take it: the exact engine of the features. None: torch."""
    seen: Seen | None = None
    """How the training examples are seen besides as they are."""

    @property
    def seen_examples(self) -> int:
        """How many examples and views of them are prepared before training."""
        return len(self.examples) + (len(self.train) * (self.seen.count - 1) if self.seen and self.seen.count else 0)

    @property
    def tested(self) -> int:
        """How many examples are scored when everything is trained."""
        return len(self.examples) - len(self.train)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.recorder.path

    @property
    def emit(self) -> Emit:
        """Where events go."""
        return self.recorder.emit

    @property
    def decide(self) -> Callable[..., None]:
        """Records decisions before they are acted on."""
        return self.recorder.decide

    def room(self) -> int:
        """Free bytes where what the cut gives may be kept: on the disk of the run, and on that of the feature store."""
        places = [self.folder, next(p for p in (home(), *home().absolute().parents) if p.exists())]
        return min(shutil.disk_usage(place).free for place in places[: 1 + self.keep])
