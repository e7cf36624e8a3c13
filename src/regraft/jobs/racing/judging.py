"""A round of a race, judged: features of the networks in it come in; the errors of a head on each, in the same folds, go out.

It decides nothing but that a network without features is out, and never looks at the test part.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import Example
from regraft.errors import DataError
from regraft.evaluation.classes import mean_interval
from regraft.events import Progress, silent
from regraft.facts import Figure
from regraft.jobs.common import check_losses
from regraft.jobs.growing import Seen
from regraft.jobs.linear import BASELINE_STRENGTHS
from regraft.jobs.near import find_near
from regraft.jobs.parts import divide, rows_at
from regraft.jobs.racing.entering import FAILED, Dropped
from regraft.jobs.racing.running import RACE, Field, Runner
from regraft.jobs.validation import Validation
from regraft.strategy.cost import probe_seconds
from regraft.strategy.race import Look, gaps
from regraft.strategy.rules import strengths_for
from regraft.workspace.store import Spaces

if TYPE_CHECKING:
    from regraft.features import Extracted
    from regraft.training.probe import Probe

SCORED = 1_000
"""Examples that scores of transferability are made of at most."""


@dataclass
class Judge:
    """Judges the rounds of a race. `alone`: no fit follows, which says itself what is wrong with examples."""

    racing: Field
    alone: bool
    bare: dict[str, Any] = field(default_factory=dict[str, Any])
    """The same head without a network, and always saying the same."""
    last: tuple[Validation, list[int], dict[str, Probe]] | None = None
    """The last round: its folds, the examples in it, and the heads."""

    def __call__(self, running: list[str], seen: int) -> Look | None:
        """A head on the features of every network, in the same folds, and one without a network; None where so few examples cannot be
        divided. Networks that fail are dropped.
        """
        most = max(sum(k < seen for k in self.racing.extracted(name).kept) for name in running)
        for name in list(running):
            kept = sum(k < seen for k in self.racing.extracted(name).kept)
            if kept < 0.9 * most:
                self.racing.drop(name, Dropped(FAILED, f"it has features of {kept:,} of {most:,} {self.racing.modality.nouns} only"))
                running.remove(name)
        common = set.intersection(*(set(self.racing.extracted(name).kept) for name in running))
        kept = sorted(k for k in common if k < seen)
        first = self.racing.extracted(running[0])
        if not self.bare:
            check_losses(
                first.left_out,
                len(first.kept),
                self.racing.modality,
                strict=self.racing.spec.strict,
                emit=self.racing.emit if self.alone else silent,
            )
        try:
            validation = self._validation(first, kept)
        except DataError:
            return None
        errors: dict[str, np.ndarray] = {}
        judged: dict[str, Any] = {}
        heads: dict[str, Probe] = {}
        begun = time.perf_counter()
        expected = 0.0
        for name in running:
            runner = self.racing.runners[name]
            rows = rows_at(_rows(self.racing.extracted(name), kept), validation.parts.train)
            started = time.perf_counter()
            probe = validation.probe(
                f"output layer, {name}", rows, strengths_for(self.racing.target.loss), silent, nested=False, careful=False
            )
            heads[name], judged[name] = probe, validation.judge(probe.out_of_fold)
            right = validation.view.gains(self.racing.target.compared, judged[name].truth, judged[name].truth)
            errors[name] = right - validation.gains(judged[name])
            runner.found = {
                "seen": seen,
                "figure": validation.figures(judged[name])[self.racing.metric].to_json(),
                "scores": self._scores(runner, rows, validation),
                "gain": mean_interval(validation.gains(judged[name]) - self._bare_gains(validation, first, kept)),
            }
            runner.seconds += time.perf_counter() - started
            expected += probe_seconds(len(rows), rows.shape[1], len(self.racing.target.outputs), nested=False)
            self.racing.emit(Progress(RACE, seen))
        self.racing.probing = max(0.2, min(10.0, (time.perf_counter() - begun) / max(1e-3, expected)))
        self.last = validation, kept, heads
        constant = validation.view.constant(judged[running[0]].truth)
        self.bare |= {"constant": constant}
        rows, metric = np.stack([errors[name] for name in running]), self.racing.target.metrics[0]
        if self.racing.promises.made:
            best = min(running, key=lambda name: float(errors[name].mean()))
            near = self.seen(best).similarity(self.bare["held"]).kind
            self.racing.promises.look(validation.figures(judged[best])[metric].value, near)
        promises = [self.racing.promised(name) for name in running]
        look = Look(tuple(running), rows, seen, tuple(promises), metric)
        for name, gap, promise in zip(running, gaps(look), promises, strict=True):
            self.racing.runners[name].found |= {"gap": Gap(gap), "promised": round(promise, 3)}
        return look

    def seen(self, name: str) -> Seen:
        """What a network of the last round was judged by."""
        assert self.last is not None
        validation, kept, heads = self.last
        return Seen(validation, rows_at(_rows(self.racing.extracted(name), kept), validation.parts.train), heads[name])

    def _validation(self, first: Extracted, kept: Sequence[int]) -> Validation:
        """Folds for the examples that all networks have features of; near-duplicates, as the first one sees them, share one."""
        examples: list[Example] = [self.racing.train[self.racing.order[k]] for k in kept]
        values = [self.racing.values[self.racing.order[k]] for k in kept]
        place = {k: i for i, k in enumerate(first.kept)}
        own = replace(
            first,
            kept=list(range(len(kept))),
            identities=[first.identities[place[k]] for k in kept],
            features=_rows(first, kept),
        )
        parts = divide(self.racing.labelled, examples, values, own, silent)
        parts = find_near(examples, own, self.racing.modality, silent).bind(parts, examples, own.identities, silent)
        return Validation.of(
            self.racing.target, self.racing.metric, parts, self.racing.spec.seed, balance=self.racing.spec.balance, emit=silent
        )

    def _bare_gains(self, validation: Validation, first: Extracted, kept: Sequence[int]) -> np.ndarray:
        """How good each decision of the same head without a network is, on the same examples."""
        if self.bare.get("of") is not validation:
            place = {k: i for i, k in enumerate(first.kept)}
            summaries = [first.summaries[place[k]] for k in kept]
            rows = self.racing.modality.vectorise(self.racing.modality.learn_vectoriser(summaries), summaries)
            strengths = strengths_for(self.racing.target.loss)[BASELINE_STRENGTHS]
            probe = validation.probe("without the network", rows, strengths, silent, nested=False, careful=False)
            judged = validation.judge(probe.out_of_fold)
            figure = validation.figures(judged)[self.racing.metric].to_json()
            self.bare |= {"of": validation, "gains": validation.gains(judged), "figure": figure, "held": probe.out_of_fold}
        return self.bare["gains"]

    def _scores(self, runner: Runner, rows: np.ndarray, validation: Validation) -> dict[str, dict[str, float]]:
        """Scores of transferability on the features, and of transformers on the mean over their layers."""
        from regraft.evaluation.transferability import Material, scores_of

        y, outputs = validation.parts.y[:SCORED], len(self.racing.target.outputs)
        old = None
        if runner.old_layer is not None:
            weight, bias = runner.old_layer
            old = (rows[:SCORED] @ weight.T + bias).argmax(1)
        found = {"features": scores_of(Material(rows[:SCORED], y, self.racing.target.name, outputs, old))}
        if isinstance(runner.space, Spaces):
            ids = [i for i in validation.parts.identities[:SCORED]]
            layers = [space.gather(ids) for space in runner.space.spaces]
            alike = [each for each in layers if each.shape == layers[-1].shape]
            if len(alike) > 2:
                found["layers"] = scores_of(Material(np.mean(alike, 0), y, self.racing.target.name, outputs))
        return found


@dataclass(frozen=True)
class Gap:
    """How far behind the best a network is, in errors."""

    figure: Figure

    def negative(self) -> Figure:
        """The same as a gain."""
        return Figure(-self.figure.value, -self.figure.high, -self.figure.low)


def _rows(extracted: Extracted, kept: Sequence[int]) -> np.ndarray:
    """The features of some positions of the sources."""
    place = {k: i for i, k in enumerate(extracted.kept)}
    return extracted.features[[place[k] for k in kept]]
