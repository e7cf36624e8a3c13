"""Training more than a linear output layer: what `fit` needs for it."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import Example
from regraft.errors import ModelError, UsageError, WriteError
from regraft.events import Done, Emit, Progress, Said, Started, Warned, silent
from regraft.facts import ModelFacts
from regraft.jobs.interrupts import asked_to_stop
from regraft.jobs.network import Edited, Whole, in_head, whole_network
from regraft.jobs.recording import DATA, Recorder
from regraft.modality import MODALITIES, Modality, View, Views
from regraft.pretrained import source_of
from regraft.spec import refuse
from regraft.strategy.kept import fits, half_for
from regraft.strategy.rungs import AS_IT_IS, CONTRASTIVE, LORA_RUNG, Rung, rung_of
from regraft.strategy.settings import Settings, changed, folds_to_train, head_settings, precision_for, settings_for, worth_timing
from regraft.targets import Target
from regraft.workspace.checkpoints import Checkpoint
from regraft.workspace.files import sha256_file
from regraft.workspace.runs import CHECKPOINTS, MATERIAL
from regraft.workspace.store import Space, Store, home, space_key

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.anatomy.freezing import Frozen
    from regraft.features.cut import Cut
    from regraft.features.material import Looks, Material, Trunk
    from regraft.jobs.augment import Seen
    from regraft.jobs.validation import Validation
    from regraft.training.deeper import Keeping, Task, Tuned, Watch
    from regraft.training.loop import Learner
    from regraft.training.losses import Loss
    from regraft.training.mixing import Mix


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


def _settled(deeper: Deeper, usual: Settings, work: Work) -> Settings:
    """The settings: by the rules, with those of the rung and those that were asked for in their place; written down as who said them."""
    settings = changed(usual, deeper.rung.settings, deeper.asked)
    said = {name: f"the rung {deeper.rung.name}" for name in deeper.rung.settings} | {name: "--set" for name in deeper.asked}
    follows = {name: "follows" for name in settings.to_json() if getattr(settings, name) != getattr(usual, name)}
    work.decide(settings_from={**follows, **said})
    return settings


def _convolves(network: nn.Module) -> bool:
    """Whether most weights stand in convolutions."""
    from torch import nn

    inside = sum(p.numel() for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd) for p in m.parameters(recurse=False))
    return 2 * inside > sum(p.numel() for p in network.parameters())


LEAST_SAVED = 0.05
"""Share of a network's work that a cut has to save: below, what it keeps costs more than it is worth."""


def _cut(module: nn.Module, frozen: Frozen, inputs: Mapping[str, Tensor], work: Work) -> Cut:
    """The network divided where its frozen part ends, or whole where that is impossible or not worth it; said either way."""
    from regraft.features.cut import find_cut, no_cut

    emit = work.emit
    try:
        cut = find_cut(module, inputs, frozen)
    except ModelError as error:
        emit(Said(error.found))
        return no_cut(module, inputs, frozen, error.found)
    if cut.empty:
        return cut
    kept, room = cut.bytes * work.seen_examples, work.room()
    reason = ""
    if held := work.recorder.held_decision("cut"):
        reason = held["reason"]
    elif cut.saved < LEAST_SAVED:
        reason = f"the frozen part is {cut.saved:.0%} of the work: it runs with the rest"
    elif not fits(kept, room) and not fits(halved(cut) * work.seen_examples, room):
        reason = f"what the frozen part gives would take {kept / 1e9:,.1f} GB and {room / 1e9:,.1f} are free: it runs at every step"
    if reason:
        emit(Said(reason))
        return no_cut(module, inputs, frozen, reason)
    emit(Said(f"the frozen part, up to {cut.after}, runs once: {cut.saved:.0%} of the work, {_size(cut.bytes)} kept of each window"))
    return cut


def halved(cut: Cut) -> int:
    """Bytes kept of an example where float32 is kept in half precision."""
    import torch

    return sum(tensor.bytes // (2 if tensor.dtype == torch.float32 else 1) for tensor in cut.tensors)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def _whole_learner(deeper: Deeper, settings: Settings, work: Work) -> tuple[Learner, Cut, Trunk | None]:
    """The network with what trains in it, ready for the loop; where it is cut; and its frozen part, where that runs once."""
    import torch

    from regraft.anatomy import layer_at
    from regraft.anatomy.adapters import adapter_parameters
    from regraft.anatomy.freezing import Frozen, layer_groups
    from regraft.anatomy.select import Selected
    from regraft.features.cut import no_cut
    from regraft.training.loop import Learner, rates_by_depth

    net, device = deeper.whole.net, work.device
    # batch norms of a new head have statistics already, from its own fit
    fresh = tuple(path for path in net.fresh().paths if not in_head(net, path))
    frozen = Frozen(net.trained, settings.adapt, Selected(fresh))
    module = net.module.to(device)
    modality, preprocessing = MODALITIES[deeper.facts.task], deeper.facts.preprocessing
    if modality.name == "image":
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    why = _why_whole(settings, work.seen)
    if why:
        work.emit(Said(why))
    live = {k: v.to(device) for k, v in net.inputs.items()}
    cut = no_cut(module, live, frozen, why) if why else _cut(module, frozen, live, work)
    # how much disk was free may have decided it
    work.decide(cut={"after": cut.after, "bytes": cut.bytes, "saved": round(cut.saved, 4), "reason": cut.reason})
    output = layer_at(module, deeper.whole.output)
    assert isinstance(output, torch.nn.Linear)

    def inputs(windows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
        return {k: v.to(device) for k, v in modality.collate(windows, preprocessing).items()}

    def of_windows(arrays: Mapping[str, np.ndarray], mix: Mix | None = None) -> Tensor:
        given = inputs([{name: array[i] for name, array in arrays.items()} for i in range(len(next(iter(arrays.values()))))])
        if mix is not None:
            given = {name: mix.of(images) for name, images in given.items()}
        return cut.rest(*(given[name] for name in cut.inputs))

    def of_kept(arrays: Mapping[str, np.ndarray]) -> Tensor:
        return cut.rest(*(torch.from_numpy(arrays[str(i)]).to(device) for i in range(len(cut.tensors))))

    def trunk(windows: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        kept = [tensor.cpu().numpy() for tensor in cut.features(inputs(windows))]
        return [{str(i): values[row] for i, values in enumerate(kept)} for row in range(len(windows))]

    layers = layer_groups(module, net.parts, net.trained)
    groups = list(rates_by_depth(layers, settings, adapter_parameters(module)))
    new = [name for depth, names in layers if not depth for name in names]
    scores = of_windows if cut.empty else of_kept
    learner = Learner(module, scores, cut.rest.train, cut.rest.eval, groups, output, of_windows if cut.empty else None, new)
    return learner, cut, None if cut.empty else trunk


def _why_whole(settings: Settings, seen: Seen | None) -> str:
    """Why the frozen part cannot run once; empty when it can."""
    if seen is not None and not seen.count:
        return "every epoch shows another view, so that the frozen part runs at every step"
    if settings.mixup or settings.cutmix:
        return "images are mixed before they come into the network, so that its frozen part runs at every step"
    if settings.checkpointing:
        return "blocks are computed a second time to save memory, which the network in one piece can do: its frozen part runs at every step"
    return ""


def _in_the_precision(learner: Learner, task: Task, settings: Settings, work: Work) -> Settings:
    """The settings with the precision that a few timed steps speak for, where it was left open; the timing is a decision."""
    from regraft.training.deeper import seconds_of_steps

    if settings.precision != "auto":
        return settings
    held = work.recorder.held_decision("precision_timed")
    if held is None:
        fp32 = seconds_of_steps(learner, task, replace(settings, precision="fp32"), work.seed)
        held = {"fp32": round(fp32, 4)}
        if worth_timing(fp32, settings.steps(len(work.train))):
            held["bf16"] = round(seconds_of_steps(learner, task, replace(settings, precision="bf16"), work.seed), 4)
    work.decide(precision_timed=held)
    precision = precision_for(held["fp32"], held["bf16"]) if "bf16" in held else "fp32"
    if "bf16" in held:
        work.emit(Said(f"training in {precision}: a step takes {held['fp32']:.2g} s in fp32 and {held['bf16']:.2g} s in bf16"))
    return replace(settings, precision=precision)


def _mixed(tuned: Tuned, learner: Learner, work: Work, mixes: Sequence[float]) -> tuple[np.ndarray, str]:
    """Held-out outputs (n, outputs) by the weights that were chosen without each fold, and which ship, in words; they are put into the
    network.
    """
    from regraft.training.afterwards import between, told

    found = work.validation.choose(tuned.held_out)
    if found is None:
        return work.validation.linked(tuned.held_out[-1]), ""
    choice, held = found
    work.decide(wise=told(mixes, choice))
    mix = mixes[choice.best]
    if mix != 1:
        learner.move(between(tuned.begin, learner.moving(), mix))
    words = {0.0: "those that training started from: the linear head alone", 1.0: "those that training ended with"}
    ships = words.get(mix, f"{mix:.0%} of the way from where training started to where it ended")
    work.emit(Said(f"weights: {ships}, as held-out examples say (WiSE-FT)"))
    return held, ships


def _head_learner(deeper: Deeper, settings: Settings, device: str) -> Learner:
    """The new head alone, which reads rows of features."""
    import torch

    from regraft.anatomy import layer_at
    from regraft.training.loop import Learner

    (path,) = deeper.whole.net.head
    head = layer_at(deeper.whole.net.module, path).to(device).requires_grad_(True)
    output = layer_at(deeper.whole.net.module, deeper.whole.output)
    assert isinstance(output, torch.nn.Linear)
    groups = [([name for name, _ in head.named_parameters()], settings.lr)]
    return Learner(head, lambda arrays: head(torch.from_numpy(arrays["input"]).to(device)), head.train, head.eval, groups, output)


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
    seed: int
    device: str
    workers: int
    recorder: Recorder
    keep: bool = True
    """Whether what the cut gives stays in the feature store."""
    seen: Seen | None = None
    """How the training examples are seen besides as they are."""

    @property
    def seen_examples(self) -> int:
        """How many examples and views of them are prepared before training."""
        return len(self.examples) + (len(self.train) * (self.seen.count - 1) if self.seen and self.seen.count else 0)

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


def train_deeper(deeper: Deeper, work: Work) -> Trained:
    """Train and judge: a head of several layers first on the features that are there, then, from the fitted head, what lies below.

    Prepared examples, and what the cut gives where it is not kept in the feature store, lie in the run's folder while this runs, and are
    removed by `Trained.close`.
    """
    import torch

    work.emit(Said(deeper.said()))
    work.decide(trained=list(deeper.whole.net.trained.paths))
    (path,) = deeper.whole.net.head
    if deeper.whole.plain:
        starts = [{f"{path}.weight": torch.from_numpy(w), f"{path}.bias": torch.from_numpy(b)} for w, b in work.starts]
    else:
        first = _train_head(deeper, work)
        if deeper.on_features:
            return first
        starts = [{f"{path}.{name}": tensor for name, tensor in state.items()} for state in first.tuned.states]
    return _train_whole(deeper, work, starts)


def _train_head(deeper: Deeper, work: Work) -> Trained:
    """A head of several layers on frozen features."""
    from regraft.features.material import in_turn, of_rows
    from regraft.training.deeper import Standard, Task, tune

    settings = head_settings(len(work.train))
    if deeper.on_features:
        settings = _settled(deeper, settings, work)
    work.decide(head_settings=settings.to_json())
    learner = _head_learner(deeper, settings, work.device)
    plain, looks, seen = work.features[work.train], None, work.seen
    standard = Standard.of(learner.module, plain if seen is None or not seen.count else seen.rows(plain))
    rows = standard(work.features)
    if seen is not None and seen.count:
        every = np.concatenate([rows, *map(standard, seen.features)])
        material = of_rows(every, examples=np.concatenate([np.arange(len(rows)), _numbers(work, seen)]))
        looks = in_turn(material, len(rows), seen.count, work.seed)
    task = Task(of_rows(rows), work.loss, work.values, work.train, work.weights, work.folds, looks=looks)
    with _keeping(work, learner, "head", [], ("head_settings",)) as keeping:
        tuned = tune(learner, task, settings, seed=work.seed, keep_states=True, watch=watch_training(work.emit, "head"), keeping=keeping)
    tuned = replace(tuned, states=[standard.folded(state) for state in tuned.states])
    learner.restore(tuned.states[-1])
    held = work.validation.linked(tuned.held_out[-1])
    return Trained(deeper, tuned, learner, of_rows(work.features), work.folder / MATERIAL, held)


def _train_whole(deeper: Deeper, work: Work, starts: Sequence[Mapping[str, Tensor]]) -> Trained:
    from regraft.anatomy.recompute import recomputed
    from regraft.training.afterwards import MIXES
    from regraft.training.deeper import Task, tune

    convolutions = _convolves(deeper.whole.net.module)
    images = MODALITIES[deeper.facts.task].name == "image"
    weights = deeper.whole.net.totals()[0]
    kind = {"convolutions": convolutions, "whole": deeper.rung.whole, "scales": deeper.trains_scales_alone, "images": images}
    usual = settings_for(len(work.train), weights, **kind)
    settings = _settled(deeper, usual, work)
    learner, cut, trunk = _whole_learner(deeper, settings, work)
    place = work.folder / MATERIAL
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        material, looks = _material(deeper, work, cut, trunk, place)
        task = Task(material, work.loss, work.values, work.train, work.weights, work.folds, work.validation.inner, looks)
        settings = _in_the_precision(learner, task, settings, work)
        work.decide(settings=settings.to_json())
        mixes = MIXES if settings.wise else MIXES[-1:]
        blocks = [path for paths in deeper.whole.net.parts.blocks for path in paths] if settings.checkpointing else []
        held = work.recorder.held_decision("folds_trained")
        options = {
            "starts": starts,
            "folds_for": folds_to_train if held is None else lambda folds, seconds: held,
            "decided": lambda count: work.decide(folds_trained=count),
            "watch": watch_training(work.emit, "training"),
            "mixes": mixes,
            **_divisions(work),
        }
        with _keeping(work, learner, "training", starts, ("settings", "cut")) as keeping, recomputed(deeper.whole.net.module, blocks):
            tuned = tune(learner, task, settings, seed=work.seed, keeping=keeping, **options)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    if tuned.restarts:
        work.emit(
            Warned(f"training began again {tuned.restarts} times at a third of the rates: its loss was no finite number, or exploded")
        )
    if settings.patience or settings.find:
        work.decide(epochs_kept=tuned.epochs, rates=[float(f"{rate:.3g}") for rate in tuned.rates])
        kept, rates = ", ".join(map(str, tuned.epochs)), ", ".join(f"{rate:.2g}" for rate in tuned.rates)
        work.emit(Said(f"epochs after which weights were kept: {kept}; largest rates: {rates}"))
    held, ships = _mixed(tuned, learner, work, mixes) if settings.wise else (work.validation.linked(tuned.held_out[-1]), "")
    return Trained(deeper, tuned, learner, material, place, held, ships)


def _divisions(work: Work) -> dict[str, Any]:
    """What `tune` needs for a batch that memory does not take: where it was so before, and what to do when it is so."""
    held: list[dict[str, int]] = list(work.recorder.held_decision("divided") or [])

    def divided(training: int, step: int, parts: int) -> None:
        held.append({"training": training, "step": step, "parts": parts})
        work.decide(divided=held)
        work.emit(Warned(f"memory ran out: a batch is computed in {parts} parts, one after the other; a step still sees all of it"))

    return {"parts_at": {(d["training"], d["step"]): d["parts"] for d in held}, "divided": divided}


def prepared_material(deeper: Deeper, work: Work, place: Path) -> Material:
    """Every usable example, prepared, in `place`."""
    from regraft.features.material import gather

    facts = deeper.facts
    modality, files = MODALITIES[facts.task], source_of(facts).files(facts)
    names, sources = [e.name for e in work.examples], [e.source for e in work.examples]
    prepare, space = modality.preparer(facts.preprocessing, files), Space(place, {}, needed=True)
    return gather(names, sources, modality, prepare, space, workers=work.workers, emit=work.emit)


def _numbers(work: Work, seen: Seen) -> np.ndarray:
    """What the views of the training examples are numbered by, view after view: v x usable examples + the example's position."""
    return np.concatenate([work.train + view * len(work.examples) for view in range(1, seen.count)])


def _material(deeper: Deeper, work: Work, cut: Cut, trunk: Trunk | None, place: Path) -> tuple[Material, Looks | None]:
    """What is judged and trained on, and what each epoch reads where that is views of examples: prepared in `place`, or what the trunk
    gives for them, in the feature store.
    """
    from regraft.features.material import Look, in_turn

    read = _Reading(deeper, work, cut, trunk, place, "float32" if trunk is None else _precision(deeper, work, cut, trunk))
    plain, seen, size = read(work.examples), work.seen, len(work.examples)
    if seen is None:
        return plain, None
    if seen.count:
        wanted = [_view(work.examples[i], view) for view in range(1, seen.count) for i in work.train]
        both = plain.followed_by(read(wanted, seen.views, "views"), _numbers(work, seen))
        return plain, in_turn(both, size, seen.count, work.seed)

    def another(epoch: int, examples: np.ndarray) -> Look:
        for before in place.glob("epoch-*"):
            if before.name != f"epoch-{epoch}":
                shutil.rmtree(before, ignore_errors=True)
        material = read([_view(work.examples[i], epoch + 1) for i in examples], seen.views, f"epoch-{epoch}", silent)
        at = np.full(size, -1)
        at[examples] = np.arange(len(examples))
        return Look(material, at, examples)

    return plain, another


def _view(example: Example, number: int) -> Example:
    return replace(example, source=View(example.source, number))


@dataclass(frozen=True)
class _Reading:
    """Makes material of examples, in a folder of its own in `place` where it does not come from the feature store. `precision` is what the
    tensors at the cut are kept in.
    """

    deeper: Deeper
    work: Work
    cut: Cut
    trunk: Trunk | None
    place: Path
    precision: str

    def __call__(self, examples: Sequence[Example], views: Views | None = None, name: str = "plain", emit: Emit | None = None) -> Material:
        """The examples as they are, or views of them."""
        from regraft.features.material import gather

        work, facts = self.work, self.deeper.facts
        modality, files = MODALITIES[facts.task], source_of(facts).files(facts)
        preparer = modality.preparer if views is None else partial(views.preparer, modality)
        prepare = preparer(facts.preprocessing, files)
        if views is not None:
            modality = views.modality(modality)
        names, sources = [e.name for e in examples], [e.source for e in examples]
        folder = self.place / name
        shared = {"workers": work.workers, "emit": emit or work.emit}
        of = "" if views is None else " of views"
        if self.trunk is None:
            return gather(names, sources, modality, prepare, Space(folder, {}, needed=True), stage=f"preparing{of}", **shared)
        space = _space(self.deeper, work, self.cut, self.precision, folder, views)
        options = {"trunk": self.trunk, "tile": facts.tile, "side_by_side": work.device == "cpu", "precision": self.precision}
        stored = space.folder != folder
        try:
            material = gather(names, sources, modality, prepare, space, stage=f"frozen part{of}", **options, **shared)
        except WriteError as error:
            other = "set REGRAFT_HOME to a folder on another disk; what is there already is kept"
            raise WriteError(error.found, move=f"make room there, or {other if stored else '--out FOLDER on another disk'}") from None
        if stored:
            for removed in Store().trim(protect=self._keys()):
                work.emit(Said(f"the feature store is over its size: {removed.rows:,} examples of {removed.key} were removed"))
        return material

    def _keys(self) -> tuple[str, ...]:
        """Of the spaces that this training reads."""
        seen = self.work.seen
        spaces = (None, seen.views) if seen else (None,)
        return tuple(space_key(_maker(self.deeper, self.work, self.cut, self.precision, views)) for views in spaces)


def _precision(deeper: Deeper, work: Work, cut: Cut, trunk: Trunk) -> str:
    """What the tensors at the cut are kept in; recorded, and said when it is not float32."""
    from regraft.features.material import largest

    if held := work.recorder.held_decision("kept"):
        # how much disk was free decided it
        work.decide(kept=held)
        return held["precision"]
    full, half = (size * work.seen_examples for size in (cut.bytes, halved(cut)))
    room = work.room()
    if fits(full, room):
        work.decide(kept={"precision": "float32"})
        return "float32"
    facts = deeper.facts
    modality = MODALITIES[facts.task]
    prepare = modality.preparer(facts.preprocessing, source_of(facts).files(facts))
    value = largest([e.source for e in work.examples[: facts.tile]], modality, prepare, trunk)
    chosen = half_for(value)
    reason = f"in float32 it would take {full / 1e9:,.1f} GB, and {room / 1e9:,.1f} are free"
    work.decide(kept={"precision": chosen, "reason": reason, "largest": value})
    work.emit(Said(f"what the frozen part gives is kept in {chosen}, {half / 1e9:,.1f} GB: {reason}"))
    return chosen


def _space(deeper: Deeper, work: Work, cut: Cut, precision: str, place: Path, views: Views | None) -> Space:
    """Where what the trunk gives is kept: in the feature store, or, when it is not to be kept there, cannot or is more than the store may
    hold, in the run's folder while it runs.
    """
    aside = Space(place, {}, needed=True)
    store = Store(keep=work.keep)
    size = (cut.bytes if precision == "float32" else halved(cut)) * work.seen_examples
    if not work.keep:
        return aside
    if size > store.limit:
        held = f"{size / 1e9:,.1f} GB, and the feature store may hold {store.limit / 1e9:,.1f} (REGRAFT_CACHE_SIZE)"
        work.emit(Said(f"what the frozen part gives takes {held}: it is kept for this run only"))
        return aside
    try:
        space = store.space(_maker(deeper, work, cut, precision, views), needed=True)
    except WriteError:
        return aside
    assert space.folder is not None
    return space if os.access(space.folder, os.W_OK) else aside


def _maker(deeper: Deeper, work: Work, cut: Cut, precision: str, views: Views | None) -> dict[str, Any]:
    """What makes the tensors at the cut, of examples as they are or of views of them."""
    from regraft.features import cut_maker
    from regraft.features.cut import identity

    facts = deeper.facts
    return cut_maker(
        cut=identity(cut),
        network=str(facts.architecture.get("name", facts.name)),
        preprocessing=facts.preprocessing,
        modality=MODALITIES[facts.task],
        tile=facts.tile,
        device=work.device,
        precision=precision,
        files={name: sha256_file(path) for name, path in sorted(source_of(facts).files(facts).items())},
        views=views,
    )


@contextmanager
def _keeping(
    work: Work, learner: Learner, stage: str, starts: Sequence[Mapping[str, Tensor]], decisions: Sequence[str]
) -> Iterator[Keeping]:
    """Where a training is saved on its way, and what it belongs to; one Ctrl-C saves it and stops."""
    from regraft.training.deeper import Keeping

    digest = hashlib.sha256()
    for tensors in (learner.moving(), *starts):
        for name, tensor in sorted(tensors.items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    named = (DATA, "model", "recipe", "trained", "device", "threads", "versions", "views", *decisions)
    taken = work.recorder.folder.decisions
    identity = {**{name: taken[name] for name in named if name in taken}, "seed": work.seed, "start": digest.hexdigest()}
    checkpoint = Checkpoint(work.folder / CHECKPOINTS / f"{stage}.safetensors", identity)
    with asked_to_stop(work.emit) as stopping:
        yield Keeping(checkpoint.read, checkpoint.save, lambda: checkpoint.due, stopping)


def watch_training(emit: Emit, what: str) -> Watch:
    """Progress of each training as a stage of its own."""
    began: dict[str, float] = {}

    def watch(stage: str, step: int, steps: int, loss: float) -> None:
        name = f"{what}, {stage}"
        if name not in began:
            began[name] = time.perf_counter()
            emit(Started(name, steps, "steps"))
        emit(Progress(name, step, steps))
        if step == steps:
            emit(Done(name, time.perf_counter() - began[name], f"{steps} steps, loss {loss:.3g}"))

    return watch


@dataclass(frozen=True)
class Trained:
    """A trained network with what judged it."""

    deeper: Deeper
    tuned: Tuned
    learner: Learner
    material: Material
    folder: Path
    held_out: np.ndarray
    """Outputs (n, outputs) of every training example by a network that had not seen it; NaN where there is none."""
    mixed: str = ""
    """Which weights ship, where there was a choice."""

    def scores(self, positions: np.ndarray) -> np.ndarray:
        """Scores (examples, outputs) float64 of usable examples by the final network."""
        from regraft.training.loop import judge

        return judge(self.learner, self.material, positions)

    def cool(self, temperature: float) -> None:
        """Divide what the output layer gives by a number, in its weights."""
        from regraft.training.deeper import rescale

        rescale(self.learner, 1 / temperature, 0.0)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the whole network, on the CPU; what adapters learnt is in the weights of their layers."""
        from regraft.anatomy.adapters import merged

        network = merged(self.deeper.whole.net.module)
        return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}

    def close(self) -> None:
        """Remove what was prepared for this run alone."""
        shutil.rmtree(self.folder, ignore_errors=True)
