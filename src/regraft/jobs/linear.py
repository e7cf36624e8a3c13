"""The linear head of a fit: features of the usable examples come in; the head with its study, its bundle, and the same without any network
go out.

It trains nothing below the head, and what ships is for others to say.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regraft.data.base import Example
from regraft.deadline import OutOfTime
from regraft.events import silent
from regraft.facts import ModelFacts
from regraft.jobs.augment import Augmenting, Seen, see_in_time, views_said
from regraft.jobs.candidates import Candidate, head_candidate, save_candidate
from regraft.jobs.frozen_pass import FrozenPass
from regraft.jobs.pacing import finishing
from regraft.jobs.parts import rows_at
from regraft.jobs.recording import Recorder
from regraft.jobs.rounds import fitting_for, quickest, take_quickest
from regraft.jobs.ship import Bare, settled
from regraft.jobs.validation import Validation
from regraft.modality import Modality
from regraft.workspace.runs import BUNDLE

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.features import Extracted
    from regraft.training.probe import Probe

BASELINE_STRENGTHS = slice(1, None, 2)
"""Every second strength for the model without a network: half as many cost half."""


@dataclass
class Linear:
    """The head on the `extracted` features of the `usable` examples. `rung` is what it is called where it ships; `strengths` are tried.
    Afterwards `validation` is how it was judged, `probe` what was fitted, `extracted.features` what it reads, and `seen` the views.
    """

    rung: str
    facts: ModelFacts
    backbone: Mapping[str, Tensor]
    modality: Modality
    network: FrozenPass
    usable: Sequence[Example]
    extracted: Extracted
    validation: Validation
    strengths: tuple[float, ...]
    augmenting: Augmenting | None
    recorder: Recorder
    seen: Seen | None = field(default=None, init=False)
    probe: Probe = field(init=False)

    def fit(self) -> None:
        """Fit it to features that can be relied on, and record it."""
        from regraft.features.memory import give_back

        recorder, emit, extracted = self.recorder, self.recorder.emit, self.extracted
        self._study()
        train, validation = self.validation.parts.train, self.validation
        if self.network.again_if_it_disagrees(self.probe, validation, self.usable, extracted):
            self.probe = validation.probe("output layer", rows_at(extracted.features, train), self.strengths, emit)
        if self.augmenting:
            self.seen = see_in_time(self.augmenting, self.network, self.probe, validation, extracted.features, self.keep)
        if self.seen and self.seen.count:
            rows = self.seen.rows(rows_at(extracted.features, train))
            plain, self.probe = self.probe, validation.probe("output layer, all views", rows, self.strengths, emit)
            gain = validation.gain(validation.judge(self.probe.out_of_fold), plain.out_of_fold)
            recorder.decide(views_gain={validation.target.compared: gain.to_json()})
            emit(views_said(self.seen, gain, validation.target))
        # what only the pass needs holds memory
        self.network.frozen.let_go()
        give_back()
        probe = self.probe
        recorder.decide(
            strength=probe.strength,
            strengths=list(probe.strengths),
            scores=[round(s, 6) for s in probe.scores],
            losses=[round(s, 6) for s in probe.losses],
            fold_strengths=list(probe.fold_strengths),
            strengths_tried_on=probe.tried_on,
            metric=validation.metric,
            folds=validation.count,
        )

    def _study(self) -> None:
        """Fit it with its whole study. Within a budget a quick one comes first, and its bundle: from then on there is a model, which stays
        where the study takes longer than was thought.
        """
        recorder, deadline, validation = self.recorder, self.recorder.deadline, self.validation
        rows = rows_at(self.extracted.features, validation.parts.train)
        quick = quickest(validation, self.strengths)
        if quick is None or not deadline.bound or not self.network.chosen.engine.exact:
            self.probe = validation.probe("output layer", rows, self.strengths, recorder.emit)
            return
        hurried, single = quick
        begun = deadline.spent
        self.probe = hurried.probe("output layer", rows, single, silent)
        spent = deadline.spent - begun
        self.validation = hurried
        self.keep()
        try:
            # the model without the network takes about as long as the quick head
            deadline.ring_at(finishing(recorder) + spent, "")
            self.probe = validation.probe("output layer", rows, self.strengths, recorder.emit)
            self.validation = validation
        except OutOfTime:
            take_quickest(recorder, validation, *single)
            self.strengths = single
        finally:
            deadline.silence()

    def head(self) -> Candidate:
        """It as a model."""
        return head_candidate(
            self.rung, self.probe, self.extracted.features, self.validation, self.facts, self.backbone, self.network.chosen.engine
        )

    def keep(self) -> None:
        """Write it as the bundle where there is none: from here on there is a model, whatever happens."""
        if not (self.recorder.path / BUNDLE).is_dir():
            begun, head = time.perf_counter(), self.head()
            save_candidate(self.recorder.path / BUNDLE, head, settled(head, self.validation))
            self.recorder.deadline.writing = time.perf_counter() - begun
        self.recorder.deadline.silence()

    def without_network(self) -> Bare:
        """The same head on what can be read off the examples without any network. Empties `extracted.summaries`."""
        modality, validation, extracted = self.modality, self.validation, self.extracted
        parts, target = validation.parts, validation.target
        learnt = modality.learn_vectoriser([extracted.summaries[k] for k in parts.train])
        rows = modality.vectorise(learnt, [extracted.summaries[k] for k in parts.train])
        test_rows = modality.vectorise(learnt, [extracted.summaries[k] for k in parts.test]) if len(parts.test) else rows[:0]
        # of 100,000 images they take 300 MB, and the rows made of them as much again
        extracted.summaries.clear()
        # not nested: a third of the work, and if anything it flatters what we compare with
        strengths = self.strengths[BASELINE_STRENGTHS] or self.strengths
        name, count = "fitting_without_network", validation.count
        strengths, _ = fitting_for(self.recorder, name, rows, len(target.outputs), strengths, count, nested=False)
        probe = validation.probe("without the network", rows, strengths, self.recorder.emit, nested=False, careful=False)
        return Bare(learnt, probe, test_rows, target.settle(parts.y, probe.out_of_fold, validation.columns))
