"""Training more than a linear output layer: what `fit` needs for it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import ModelError
from regraft.events import Said, Warned
from regraft.jobs.common import has_bfloat16
from regraft.jobs.interrupts import asked_to_stop
from regraft.jobs.network import in_head
from regraft.jobs.pacing import within
from regraft.jobs.reading import halved, material_of, view_numbers
from regraft.jobs.recording import DATA
from regraft.jobs.watching import Watching
from regraft.jobs.work import Deeper, Work
from regraft.modality import MODALITIES, Modality
from regraft.strategy.kept import fits
from regraft.strategy.settings import Settings, changed, folds_to_train, head_settings, precision_for, settings_for, worth_timing
from regraft.workspace.checkpoints import Checkpoint
from regraft.workspace.runs import MATERIAL

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.anatomy.freezing import Frozen
    from regraft.features.at_cut import AtCut
    from regraft.features.cut import Cut
    from regraft.features.material import Looks, Material
    from regraft.jobs.augment import Seen
    from regraft.training.deeper import Keeping, Task, Tuned
    from regraft.training.loop import Learner
    from regraft.training.mixing import Mix


def _settled(deeper: Deeper, usual: Settings, work: Work) -> Settings:
    """The settings: by the rules, with those of the rung and those that were asked for in their place; written down as who said them."""
    settings = changed(usual, deeper.rung.settings, deeper.asked)
    said = {name: f"the rung {deeper.rung.name}" for name in deeper.rung.settings} | {name: "--set" for name in deeper.asked}
    follows = {name: "follows" for name in settings.to_json() if getattr(settings, name) != getattr(usual, name)}
    work.decide(settings_from={**follows, **said})
    return settings


def convolves(network: nn.Module) -> bool:
    """Whether most weights stand in convolutions."""
    from torch import nn

    inside = sum(p.numel() for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd) for p in m.parameters(recurse=False))
    return 2 * inside > sum(p.numel() for p in network.parameters())


LEAST_SAVED = 0.05
"""Share of a network's work that a cut has to save: below, what it keeps costs more than it is worth."""


def _cut(module: nn.Module, frozen: Frozen, inputs: Mapping[str, Tensor], work: Work, modality: Modality) -> Cut:
    """The network divided where its frozen part ends, or whole where that is impossible or not worth it; said either way."""
    from regraft.features.cut import find_cut, no_cut

    emit = work.emit
    frozen.apply(module)
    if all(p.requires_grad for p in module.parameters()):
        # what torch.export would find in seconds
        return no_cut(module, inputs, frozen, "everything trains")
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
    elif cut.one_length and modality.name != "image":
        reason = f"the frozen part takes {modality.nouns} of one length only when it stands alone: it runs with the rest"
    elif cut.saved < LEAST_SAVED:
        reason = f"the frozen part is {cut.saved:.0%} of the work: it runs with the rest"
    elif not fits(kept, room) and not fits(halved(cut) * work.seen_examples, room):
        reason = f"what the frozen part gives would take {kept / 1e9:,.1f} GB and {room / 1e9:,.1f} are free: it runs at every step"
    if reason:
        emit(Said(reason))
        return no_cut(module, inputs, frozen, reason)
    emit(Said(f"the frozen part, up to {cut.after}, runs once: {cut.saved:.0%} of the work, {_size(cut.bytes)} kept of each window"))
    return cut


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def whole_learner(deeper: Deeper, settings: Settings, work: Work) -> tuple[Learner, Cut, FrozenPart | None]:
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
    cut = no_cut(module, live, frozen, why) if why else _cut(module, frozen, live, work, modality)
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

    layers = layer_groups(module, net.parts, net.trained)
    groups = list(rates_by_depth(layers, settings, adapter_parameters(module)))
    new = [name for depth, names in layers if not depth for name in names]
    scores = of_windows if cut.empty else of_kept
    padding = modality.pad if cut.empty else None
    pad = None if padding is None else lambda windows: padding(windows, preprocessing)
    learner = Learner(module, scores, cut.rest.train, cut.rest.eval, groups, output, of_windows if cut.empty else None, new, pad)
    return learner, cut, None if cut.empty else FrozenPart(cut, inputs, _engine_before(cut, deeper, work))


@dataclass
class FrozenPart:
    """What comes before a cut, over windows: in an engine, or in torch where `at_cut` is None."""

    cut: Cut
    inputs: Callable[[Sequence[Mapping[str, np.ndarray]]], dict[str, Tensor]]
    at_cut: AtCut | None

    def __call__(self, windows: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """What is kept of each window."""
        given = self.inputs(windows)
        kept = self.at_cut(given) if self.at_cut else [tensor.cpu().numpy() for tensor in self.cut.features(given)]
        return [{str(i): values[row] for i, values in enumerate(kept)} for row in range(len(windows))]

    @property
    def engine(self) -> Mapping[str, Any] | None:
        """What of the engine can change a bit; None for torch."""
        return self.at_cut.engine.identity() if self.at_cut else None


def _engine_before(cut: Cut, deeper: Deeper, work: Work) -> AtCut | None:
    """The engine of the features, where it can run what comes before a cut as well; decided before anything is kept."""
    from regraft.features.at_cut import AtCut, takes

    held, engine = work.recorder.held_decision("frozen_part"), work.engine
    if engine is None or not takes(engine, cut) or (held and held["engine"] != engine.label):
        return None
    work.decide(frozen_part={"engine": engine.label})
    return AtCut(cut, engine, deeper.facts.tile, work.workers)


def read_material(deeper: Deeper, work: Work, cut: Cut, trunk: FrozenPart | None, place: Path) -> tuple[Material, Looks | None]:
    """What training reads; where an engine does not take the frozen part, torch does."""
    try:
        return material_of(deeper, work, cut, trunk, place)
    except ModelError as error:
        if trunk is None or trunk.at_cut is None:
            raise
        work.emit(Said(f"{error.found}: torch runs the frozen part"))
        work.recorder.anew("frozen_part")
        work.decide(frozen_part={"engine": "torch fp32", "reason": error.found})
        trunk.at_cut = None
        return material_of(deeper, work, cut, trunk, place)


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
    """The settings with the precision that a few timed steps speak for, where it was left open; the timing is a decision.

    A CPU without instructions for bfloat16 emulates it: 33 s a step were measured in place of 1.6, so there nothing is tried.
    """
    from regraft.training.deeper import seconds_of_steps

    if settings.precision != "auto":
        return settings
    held = work.recorder.held_decision("precision_timed")
    if held is None:
        fp32 = seconds_of_steps(learner, task, replace(settings, precision="fp32"), work.seed)
        held = {"fp32": round(fp32, 4)}
        if worth_timing(fp32, settings.steps(len(work.train))) and has_bfloat16(work.device):
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


def start_of(deeper: Deeper, layer: tuple[np.ndarray, np.ndarray]) -> dict[str, Tensor]:
    """A linear output layer, (weight, bias), by the names of the network's new head."""
    import torch

    (path,) = deeper.whole.net.head
    weight, bias = map(torch.from_numpy, layer)
    return {f"{path}.weight": weight, f"{path}.bias": bias}


def train_deeper(deeper: Deeper, work: Work) -> Trained:
    """Train and judge: a head of several layers first on the features that are there, then, from the fitted head, what lies below.

    Prepared examples, and what the cut gives where it is not kept in the feature store, lie in the run's folder while this runs, and are
    removed by `Trained.close`.
    """
    work.emit(Said(deeper.said()))
    work.decide(trained=list(deeper.whole.net.trained.paths))
    (path,) = deeper.whole.net.head
    if deeper.whole.plain:
        starts = [start_of(deeper, layer) for layer in work.starts]
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
    learner = _head_learner(deeper, settings, work.device)
    plain, looks, seen = work.features[work.train], None, work.seen
    standard = Standard.of(learner.module, plain if seen is None or not seen.count else seen.rows(plain))
    rows = standard(work.features)
    if seen is not None and seen.count:
        every = np.concatenate([rows, *map(standard, seen.features)])
        material = of_rows(every, examples=np.concatenate([np.arange(len(rows)), view_numbers(work, seen)]))
        looks = in_turn(material, len(rows), seen.count, work.seed)
    task = Task(of_rows(rows), work.loss, work.values, work.train, work.weights, work.folds, looks=looks)
    settings, pace = within(work, learner, task, settings, (1.0,), "the head", "head_")
    work.decide(head_settings=settings.to_json())
    with _keeping(work, learner, "head", [], ("head_settings",)) as keeping:
        options = Watching("head", work).options
        tuned = tune(learner, task, settings, seed=work.seed, keep_states=True, keeping=keeping, pacing=pace and pace.pacing(), **options)
    if pace is not None:
        pace.say(tuned.folds)
    tuned = replace(tuned, states=[standard.folded(state) for state in tuned.states])
    learner.restore(tuned.states[-1])
    held = work.validation.linked(tuned.held_out[-1])
    return Trained(deeper, tuned, learner, of_rows(work.features), work.folder / MATERIAL, held)


def _train_whole(deeper: Deeper, work: Work, starts: Sequence[Mapping[str, Tensor]]) -> Trained:
    from regraft.anatomy.recompute import recomputed
    from regraft.training.afterwards import MIXES
    from regraft.training.deeper import Task, tune

    convolutions = convolves(deeper.whole.net.module)
    images = MODALITIES[deeper.facts.task].name == "image"
    weights = deeper.whole.net.totals()[0]
    kind = {"convolutions": convolutions, "whole": deeper.rung.whole, "scales": deeper.trains_scales_alone, "images": images}
    usual = settings_for(len(work.train), weights, **kind)
    settings = _settled(deeper, usual, work)
    learner, cut, trunk = whole_learner(deeper, settings, work)
    place = work.folder / MATERIAL
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        material, looks = read_material(deeper, work, cut, trunk, place)
        task = Task(material, work.loss, work.values, work.train, work.weights, work.folds, work.validation.inner, looks)
        settings, pace = within(work, learner, task, settings, MIXES, "training")
        settings = _in_the_precision(learner, task, settings, work)
        work.decide(settings=settings.to_json())
        mixes = MIXES if settings.wise else MIXES[-1:]
        blocks = [path for paths in deeper.whole.net.parts.blocks for path in paths] if settings.checkpointing else []
        held = work.recorder.held_decision("folds_trained")
        options = {
            "starts": starts,
            "folds_for": lambda folds, seconds: held or folds_to_train(folds, seconds, len(work.train)),
            "decided": lambda count: work.decide(folds_trained=count),
            **Watching("training", work).options,
            "mixes": mixes,
            "pacing": pace and pace.pacing(),
            **_divisions(work),
        }
        with _keeping(work, learner, "training", starts, ("settings", "cut")) as keeping, recomputed(deeper.whole.net.module, blocks):
            tuned = tune(learner, task, settings, seed=work.seed, keeping=keeping, **options)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    if pace is not None:
        work.decide(folds_trained=tuned.folds)
        pace.say(tuned.folds)
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
    held: list[dict[str, int]] = work.recorder.listed("divided")

    def divided(training: int, step: int, parts: int) -> None:
        work.recorder.lengthen("divided", {"training": training, "step": step, "parts": parts})
        work.emit(Warned(f"memory ran out: a batch is computed in {parts} parts, one after the other; a step still sees all of it"))

    return {"parts_at": {(d["training"], d["step"]): d["parts"] for d in held}, "divided": divided}


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
    taken = work.recorder.decisions
    identity = {**{name: taken[name] for name in named if name in taken}, "seed": work.seed, "start": digest.hexdigest()}
    checkpoint = Checkpoint(work.recorder.checkpoints / f"{stage}.safetensors", identity)
    with asked_to_stop(work.emit) as stopping:
        yield Keeping(checkpoint.read, checkpoint.save, lambda: checkpoint.due, stopping)


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
