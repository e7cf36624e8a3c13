"""The model that is kept: judged, compared with what it is to be better than, and written with its run.

In come candidates with what they say of examples that they had not seen; out go the bundle, the tables beside it and `run.json`, last.
Nothing here trains or chooses.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from regraft.events import Measured, Warned
from regraft.facts import Figure, LeftOut, ModelFacts
from regraft.jobs.candidates import Candidate, save_candidate
from regraft.jobs.common import peak_memory_mb
from regraft.jobs.network import Edited
from regraft.jobs.parts import Parts
from regraft.jobs.planned import Expected
from regraft.jobs.recording import Recorder
from regraft.jobs.run import Run
from regraft.jobs.validation import Judged, Validation
from regraft.spec import FitSpec
from regraft.targets import Target
from regraft.workspace.files import write_json, written_aside
from regraft.workspace.runs import BUNDLE, OUT_OF_FOLD

if TYPE_CHECKING:
    from regraft.training.probe import Probe


def settled(candidate: Candidate, validation: Validation) -> Target:
    """The target with what a candidate's held-out outputs decide: thresholds, intervals."""
    return validation.target.settle(validation.parts.y, candidate.held_out, validation.columns)


@dataclass(frozen=True)
class Bare:
    """The model without a network: what its vectoriser learnt, its head, and its rows of the test part."""

    learnt: Mapping[str, Any]
    probe: Probe
    test_rows: np.ndarray
    target: Target


@dataclass(frozen=True)
class PassedOver:
    """What was asked for, where the linear head ships: why, and what it gained over the head as far as it was judged."""

    rung: str
    reason: str
    gain: Figure | None = None

    def to_json(self, compared: str) -> dict[str, Any]:
        """Plain data."""
        found = {"train": self.rung, "reason": self.reason}
        return {**found, "better_than_head": {compared: self.gain.to_json()}} if self.gain else found


@dataclass(frozen=True)
class Shipping:
    """What a fit knows of itself when it comes to its end. `start` is when it began, by `time.perf_counter`; `facts` and `edited` are the
    network's, `expected` is what was predicted.
    """

    spec: FitSpec
    facts: ModelFacts
    edited: Edited | None
    target: Target
    expected: Expected
    device: str
    recorder: Recorder
    start: float

    def __call__(
        self,
        candidate: Candidate,
        passed_over: PassedOver | None,
        bare: Bare,
        validation: Validation,
        left_out: Sequence[LeftOut],
        over_head: Figure | None = None,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> Run:
        """Judge the model that is kept and write it with its run, with what was asked for in its place, and what it gains over the linear
        head where it is another one. `more` goes into the result.
        """
        parts, view = validation.parts, validation.view
        judged = validation.judge(candidate.held_out)
        shipped = settled(candidate, validation)
        comparison = validation.gain(judged, bare.probe.out_of_fold)
        baseline = validation.judge(bare.probe.out_of_fold, judged.places)
        details = (shipped if view is self.target else view).details(judged.truth, judged.held, judged.decided)
        test = _test(candidate, shipped, bare, parts) if len(parts.test) else None
        self.recorder.deadline.silence()
        save_candidate(self.recorder.path / BUNDLE, candidate, shipped)
        self._write_without_network(bare)
        self._write_out_of_fold(judged, validation)
        if verdict := verdict_of(comparison, self.target.difference(comparison)):
            self.recorder.emit(Warned(verdict))
        seconds = time.perf_counter() - self.start
        self._compare_with_plan(seconds, validation, judged)
        self.recorder.folder.finish(
            {
                "format": 1,
                "run": str(self.recorder.path),
                "data": self.spec.data,
                "task": self.facts.task,
                "target": self.target.name,
                "labels": self.target.outputs,
                "model": self.facts.name,
                **({"recipe": self.edited.steps} if self.edited and self.edited.steps else {}),
                "licence": self.facts.licence,
                "train": candidate.rung,
                **({"race": race} if (race := self.recorder.decisions.get("race")) else {}),
                **({"asked": passed_over.to_json(self.target.compared)} if passed_over else {}),
                **more,
                "metric": validation.metric,
                "n": len(parts.y),
                "judged": len(judged.places),
                "estimate": _json(validation.figures(judged)),
                "estimate_how": candidate.how,
                "baseline": {
                    "constant": view.constant(judged.truth),
                    "without_network": {"metrics": _json(validation.figures(baseline))},
                },
                "better_than_no_network": {self.target.compared: comparison.to_json()},
                **({"better_than_head": {self.target.compared: over_head.to_json()}} if over_head else {}),
                **details,
                **({"test": test} if test else {}),
                **({"budget": deadline.to_json()} if (deadline := self.recorder.deadline).bound else {}),
                "seconds": round(seconds, 2),
                "peak_memory_mb": peak_memory_mb(),
                "costs": self.recorder.costs,
                "left_out": [item.to_json() for item in left_out],
                **self.recorder.messages.to_json(),
            }
        )
        return Run(self.recorder.path)

    def _compare_with_plan(self, seconds: float, validation: Validation, judged: Judged) -> None:
        """Say what was predicted beside what was measured, and keep both for the next predictions."""
        expected, metric = self.expected, self.target.metrics[0]
        self.recorder.emit(Measured("seconds", seconds, expected.value("seconds"), "s"))
        if (memory := peak_memory_mb()) is not None:
            self.recorder.emit(Measured("peak_memory_mb", memory, expected.value("peak_memory_mb"), "MB"))
        figure = validation.figures(judged)[metric].value
        self.recorder.emit(Measured(metric, figure, expected.value(metric)))
        expected.keep(self.spec, self.facts.name, self.device, seconds, figure, self.recorder)

    def _write_without_network(self, bare: Bare) -> None:
        path = self.recorder.path
        with written_aside(path / "without_network.npz") as aside, open(aside, "wb") as file:
            np.savez_compressed(file, weight=bare.probe.weight, bias=bare.probe.bias)
        write_json(path / "without_network.json", {"vectoriser": dict(bare.learnt), "target": bare.target.to_json()})

    def _write_out_of_fold(self, judged: Judged, validation: Validation) -> None:
        target, parts, path = validation.view, validation.parts, self.recorder.path
        held, y = judged.outputs, parts.y
        if target is not self.target:
            held, y = held[:, validation.columns], y[:, validation.columns]
        with written_aside(path / "out_of_fold.npy") as aside, open(aside, "wb") as file:
            np.save(file, target.readable(held), allow_pickle=False)
        places = {int(k): i for i, k in enumerate(judged.places)}
        with written_aside(path / OUT_OF_FOLD) as aside, _text_file(aside) as file:
            writer = csv.writer(file)
            writer.writerow(["name", "fold", *target.cell_names])
            for k, example in enumerate(parts.examples):
                decided = judged.decided[places[k]] if k in places else None
                fold = int(validation.folds[k]) if k in places else -1
                writer.writerow([example.name, fold, *target.cells(held[k], decided, y[k])])


def _test(candidate: Candidate, shipped: Target, bare: Bare, parts: Parts) -> dict[str, Any]:
    """The figures of the test part, which nothing before has looked at."""
    from regraft.artifacts import as_they_are, linear, outputs_of

    y = parts.y_test
    outputs = outputs_of(candidate.scores(parts.test), as_they_are, shipped)
    bare_outputs = outputs_of(bare.test_rows, linear(bare.probe.weight, bare.probe.bias), bare.target)
    decided = shipped.decide(outputs)
    found = {
        "metrics": _json(shipped.figures(y, outputs, decided)),
        "baseline": {
            "constant": shipped.constant(y),
            "without_network": {"metrics": _json(shipped.figures(y, bare_outputs, bare.target.decide(bare_outputs)))},
        },
        **shipped.details(y, outputs, decided),
        "n": len(parts.test),
    }
    fresh = parts.fresh
    if not fresh.all() and fresh.any():
        metrics = _json(shipped.figures(y[fresh], outputs[fresh], decided[fresh]))
        found["without_duplicates"] = {"metrics": metrics, "n": int(fresh.sum())}
    return found


def _text_file(path: Path) -> TextIO:
    """A text file to write; what is no text (a lone surrogate) is spelt out."""
    return open(path, "w", encoding="utf-8", newline="", errors="backslashreplace")


def verdict_of(comparison: Figure, points: str) -> str:
    """What to say when the pretrained network does not clearly beat the model without one; nothing when it does.

    `points` is the comparison in words.
    """
    if comparison.high < 0:
        return (
            f"the pretrained network is worse than no network here: {points}. Another network may know this kind of data (regraft models)"
        )
    if comparison.low <= 0:
        return f"the pretrained network is not clearly better than no network here: {points}"
    return ""


def _json(figures: Mapping[str, Figure]) -> dict[str, dict[str, float]]:
    return {name: figure.to_json() for name, figure in figures.items()}
