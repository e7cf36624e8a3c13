"""Contrastive fine-tuning of an encoder, and a linear head on what it then gives: what `fit` needs for it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regraft.errors import UsageError
from regraft.events import Said, Warned
from regraft.jobs.candidates import Candidate
from regraft.jobs.common import has_bfloat16
from regraft.jobs.engines import reference_engine
from regraft.jobs.pacing import JUDGED, Pace, finishing
from regraft.jobs.reading import prepared_material
from regraft.jobs.rounds import seconds_of_model
from regraft.jobs.validation import Validation
from regraft.jobs.watching import Watching
from regraft.jobs.work import Deeper, Work
from regraft.modality import MODALITIES
from regraft.strategy.budget import Costs, training_within
from regraft.strategy.contrastive import Contrast, contrast_for, in_smaller_steps
from regraft.strategy.settings import folds_said, folds_to_train
from regraft.targets import Target
from regraft.workspace.runs import MATERIAL

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.training.contrastive import Contrasted, Encoder, Task
    from regraft.training.probe import Probe


def check_contrastive(deeper: Deeper, target: Target) -> None:
    """UsageError for what pairs of one class cannot be made of, and for a network with a head or adapters of its own."""
    from regraft.anatomy.adapters import adapters

    if target.name != "class":
        raise UsageError(
            f"--train contrastive puts examples of one class together; the target here is {target.name} ({target.about})",
            move="--train head, or top, full",
        )
    if not deeper.whole.plain:
        raise UsageError("--train contrastive ends in one linear layer, and the recipe has a head of several", move="--train full")
    if adapters(deeper.whole.net.module):
        raise UsageError("--train contrastive trains the layers themselves, and the recipe has adapters", move="--train lora")


def train_contrastive(deeper: Deeper, work: Work, head: Probe, precision: str) -> TunedEncoder:
    """Train and judge. `head` is the linear head on features of the network as it came; `precision` is a spec's.

    Prepared examples lie in files in the run's folder while this runs, and are removed by `TunedEncoder.close`.
    """
    from regraft.training.contrastive import Encoder, Task, reader, tune_encoder, usual_length

    facts, net, place = deeper.facts, deeper.whole.net, work.folder / MATERIAL
    modality, device = MODALITIES[facts.task], work.device
    work.emit(Said(deeper.said()))
    work.decide(trained=list(net.trained.paths))
    module = _without_head(deeper).to(device)
    frozen = net.frozen()
    frozen.apply(module)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        material = prepared_material(deeper, work, place)
        settings = contrast_for(len(work.train), usual_length(material) if modality.pad else 1, facts.parameters)
        bfloat16 = device == "cpu" and precision != "fp32" and has_bfloat16(device)

        def run(windows: object) -> Tensor:
            given = modality.collate(windows, facts.preprocessing)  # pyright: ignore[reportArgumentType]
            return module(**{k: v.to(device) for k, v in given.items()})

        pad = modality.pad
        padded = None if pad is None else lambda windows: pad(windows, facts.preprocessing)
        encoder = Encoder(module, reader(material, run, padded), lambda: frozen.train(module), bfloat16)
        classes = int(work.values.max()) + 1
        task = Task(work.train, work.values, work.weights, work.folds, classes, head.strengths, head.strength, work.loss)
        settings, pace = _paced(work, encoder, task, settings, "bf16" if bfloat16 else "fp32")
        found = tune_encoder(
            encoder,
            task,
            settings,
            seed=work.seed,
            folds_for=lambda folds, seconds: folds_to_train(folds, seconds, len(work.train)),
            decided=lambda folds: work.decide(folds_trained=folds),
            chose=lambda strength, losses: work.decide(tuned_strength=strength, tuned_losses=[round(v, 6) for v in losses]),
            **Watching("contrastive", work).options,
            pacing=pace and pace.pacing(),
        )
        if pace is not None:
            work.decide(folds_trained=found.folds)
            pace.say(found.folds)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    if found.restarts:
        work.emit(Warned(f"training began again {found.restarts} times at a third of the rate: its loss was no finite number"))
    return TunedEncoder(deeper, encoder, found, place)


def _paced(work: Work, encoder: Encoder, task: Task, settings: Contrast, precision: str) -> tuple[Contrast, Pace | None]:
    """(the settings, recorded; how tuning keeps the deadline, where there is one): with smaller steps where only they fit."""
    from regraft.training.contrastive import seconds_of_step

    recorder, deadline, whole = work.recorder, work.recorder.deadline, settings.batch
    folds, costs = int(task.folds.max()) + 1, None

    def measured() -> Costs:
        step = seconds_of_step(encoder, task, settings, work.seed, deadline.now)
        begun, some = deadline.now(), task.examples[:JUDGED]
        width = encoder.features(some).shape[1]
        each = (deadline.now() - begun) / max(1, len(some))
        layer = seconds_of_model(len(task.examples), width, task.classes)
        # every training ends in features of all examples, and output layers on them
        judging = each * len(task.examples) + layer * len(task.strengths)
        return Costs(step, judging, finishing(recorder, each * len(work.examples) + layer))

    if (held := recorder.held_decision("settings")) is not None:
        settings = replace(settings, batch=held["batch"])
    elif deadline.bound:
        costs = measured()
        while training_within(deadline.left, costs, folds, settings.steps) is None and (smaller := in_smaller_steps(settings)):
            settings = smaller
            costs = measured()
    work.decide(settings={**settings.to_json(), "precision": precision})
    if not deadline.bound:
        return settings, None
    pace = Pace.of(recorder, "contrastive tuning", folds, len(work.train), settings.steps, lambda: costs or measured())
    if settings.batch < whole:
        work.emit(Said(f"contrastive tuning: {settings.batch} of {whole} examples a step: the budget takes no more"))
        deadline.more["contrastive batch"] = f"{whole} examples in each step of contrastive tuning ({settings.batch} were)"
    return settings, pace


def _without_head(deeper: Deeper) -> nn.Module:
    from torch import nn

    from regraft.anatomy import replace_layer

    module = deeper.whole.net.module
    replace_layer(module, deeper.whole.output, nn.Identity())
    return module


@dataclass(frozen=True)
class TunedEncoder:
    """A tuned encoder with the head that was fitted to it."""

    deeper: Deeper
    encoder: Encoder
    found: Contrasted
    folder: Path

    def scores(self, positions: np.ndarray) -> np.ndarray:
        """Scores (examples, classes) float64 of usable examples."""
        from regraft.artifacts import linear

        return linear(*self.found.layer)(self.encoder.features(positions))

    def cool(self, temperature: float) -> None:
        """Divide the scores by a number."""
        for values in self.found.layer:
            values /= np.float32(temperature)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the network with its head, on the CPU."""
        import torch

        weight, bias = map(torch.from_numpy, self.found.layer)
        path = self.deeper.whole.output
        own: Mapping[str, Tensor] = self.encoder.module.state_dict()
        return {**{k: v.detach().cpu().contiguous() for k, v in own.items()}, f"{path}.weight": weight, f"{path}.bias": bias}

    def candidate(self, validation: Validation) -> Candidate:
        """As a model of the fit."""
        from regraft.artifacts import FEATURES

        found, of = self.found, validation.count
        if found.folds == of:
            how = f"{of}-fold cross-validation of the whole training, the head's strength chosen in the other folds"
        else:
            how = folds_said(found.folds, of, int(np.isfinite(found.held_out).all(1).sum()))
            how += ", the head's strength chosen in the other ones" if found.folds > 1 else ""
        rung, facts, features = self.deeper.rung.name, self.deeper.facts, found.layer[0].shape[1]
        return Candidate(rung, found.held_out, how, self.scores, facts, self.tensors, FEATURES, reference_engine(), features, self.cool)

    def close(self) -> None:
        """Remove the prepared examples."""
        shutil.rmtree(self.folder, ignore_errors=True)
