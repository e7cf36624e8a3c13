"""fit: a data set in, a run out."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data import Dataset, open_data
from regraft.data.base import TEST, TRAIN, Example
from regraft.data.open import check_labels, refuse_unless_table, set_aside
from regraft.errors import DataError, UsageError
from regraft.events import Done, Emit, Event, Measured, Progress, Said, Started, Warned, silent
from regraft.facts import Figure, LeftOut, ModelFacts
from regraft.jobs.common import (
    Messages,
    as_source,
    asked,
    check_losses,
    choose_device,
    computing_threads,
    core_count,
    peak_memory_mb,
    say_notes,
    versions,
)
from regraft.jobs.frozen import choose_network, frozen_pretrained
from regraft.jobs.run import Run
from regraft.modality import MODALITIES, Modality
from regraft.pretrained import source_of
from regraft.spec import FitSpec
from regraft.strategy.rules import fold_count, weak_spots
from regraft.workspace.files import write_json
from regraft.workspace.runs import BUNDLE, RunFolder, new_run

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.features import Extracted
    from regraft.training.probe import Probe

BASELINE_STRENGTHS = slice(1, None, 2)
"""Every second strength for the model without a network: half as many cost half."""


def fit(
    data: Any,
    *,
    task: str | None = None,
    input: str | None = None,
    label: str | None = None,
    group: str | None = None,
    test: Any = None,
    metric: str = "accuracy",
    model: str | None = None,
    train: str = "head",
    device: str = "auto",
    threads: int | None = None,
    out: str | None = None,
    seed: int = 0,
    strict: bool = False,
    balance: bool = False,
    store: bool = True,
    on_event: Emit = silent,
) -> Run:
    """Fit a model to labelled data and return its run.

    `data` is a path (see `FitSpec.data`), a pandas DataFrame, or a list of (input, label) with paths, PIL images, uint8 arrays
    (height, width, 3), sounds as (samples, rate), or strings. `test` is the same kind of thing, or a fraction. The other
    arguments are those of the command line; `on_event` is called with each event.

    Raises UsageError for what cannot be meant, DataError for data that cannot be used, ModelError and MissingExtra when the
    network cannot be had, RunError when the folder is taken.
    """
    start = time.perf_counter()
    source = as_source(data)
    named = isinstance(source, Path)
    test_text = None if test is None else str(test) if isinstance(test, (str, Path, int, float)) else "in memory"
    spec = FitSpec(
        str(source) if named else "in memory",
        task,
        input,
        label,
        group,
        test_text,
        metric,
        model,
        train,
        device,
        threads,
        out,
        seed,
        strict,
        balance,
        store,
    )
    dataset = _open(spec, source, test, asked)
    labels = check_labels(dataset)
    modality = MODALITIES[dataset.task]
    facts = choose_network(spec.model, dataset.task)
    folder = new_run(spec.out, _name_of(source) if named else "data", spec.to_json())
    try:
        return _Fit(spec, dataset, labels, modality, facts, folder, on_event, start)()
    finally:
        folder.close()


def _open(spec: FitSpec, source: Any, test: Any, ask: Any) -> Dataset:
    fraction = spec.test_fraction
    other = None if test is None or fraction is not None else as_source(test)
    dataset = open_data(source, ask(spec.task, spec.input, spec.label, group=spec.group), test=other)
    refuse_unless_table(spec.input, "--input", dataset)
    refuse_unless_table(spec.label, "--label", dataset)
    refuse_unless_table(spec.group, "--group", dataset)
    if fraction is not None:
        if dataset.part(TEST):
            raise UsageError(
                f"--test {spec.test}: the data has a test part of its own", move="leave --test away, or name a folder or table"
            )
        set_aside(dataset, fraction, spec.seed)
    return dataset


@dataclass
class _Fit:
    """One fit on its way."""

    spec: FitSpec
    dataset: Dataset
    labels: list[str]
    modality: Modality
    facts: ModelFacts
    folder: RunFolder
    listener: Emit
    start: float

    def emit(self, event: Event) -> None:
        self.folder.log(event)
        self.listener(event)
        if isinstance(event, Measured):
            self.costs[event.name] = {"predicted": event.predicted, "measured": round(event.value, 3), "unit": event.unit}

    def __call__(self) -> Run:
        self.costs: dict[str, Any] = {}
        self.listener = self.messages = Messages(self.listener)
        spec, modality, facts = self.spec, self.modality, self.facts
        self._say_what_was_found()
        threads = spec.threads or core_count()
        device = choose_device(spec.device)
        self.folder.decide(
            task=self.dataset.task,
            labels=self.labels,
            model=facts.name,
            train=spec.train,
            device=device,
            threads=threads,
            **self.dataset.decisions,
        )
        with computing_threads(threads):
            examples = [*self.dataset.part(TRAIN), *self.dataset.part(TEST)]
            extracted, backbone = self._features(examples, device, threads)
            left_out = [*self.dataset.left_out, *extracted.left_out]
            check_losses(left_out, len(extracted.kept), modality, strict=spec.strict, emit=self.emit)
            say_notes(extracted.notes, len(extracted.kept), self.emit)
            parts = self._divide(examples, extracted)
            result = self._train_and_judge(parts, extracted)
            self._keep(result, backbone)
        self._finish(result, left_out, parts)
        return Run(self.folder.path)

    def _say_what_was_found(self) -> None:
        train, test = len(self.dataset.part(TRAIN)), len(self.dataset.part(TEST))
        counted = f"{train:,} {self.modality.nouns if train != 1 else self.modality.noun} of {len(self.labels)} classes to train on"
        self.emit(Said(counted + (f", {test:,} to test on" if test else "")))
        for said in self.dataset.said:
            self.emit(Said(said))
        sizes = dict(Counter(e.label for e in self.dataset.part(TRAIN) if e.label is not None))
        for said in weak_spots(sizes, balanced=self.spec.balance):
            self.emit(Warned(said))
        chosen = "" if self.spec.model else " (the default; see regraft models)"
        self.emit(Said(f"network: {self.facts.name}{chosen}, licence {self.facts.licence}, trained on {self.facts.trained_on}"))

    def _features(self, examples: Sequence[Example], device: str, threads: int) -> tuple[Extracted, dict[str, Tensor]]:
        backbone = source_of(self.facts).weights(self.facts)
        frozen = frozen_pretrained(self.facts, lambda: backbone)
        self.folder.decide(features=frozen.maker(device, threads))
        return frozen.run(examples, device, threads, keep=self.spec.store, summaries=True, emit=self.emit), backbone

    def _divide(self, examples: Sequence[Example], extracted: Extracted) -> _Parts:
        numbers = {label: i for i, label in enumerate(self.labels)}
        kept = [examples[i] for i in extracted.kept]
        train = np.array([k for k, e in enumerate(kept) if e.part == TRAIN], np.int64)
        test = np.array([k for k, e in enumerate(kept) if e.part == TEST and e.label in numbers], np.int64)
        strangers = Counter(e.label for e in kept if e.part == TEST and e.label not in numbers)
        if strangers:
            shown = ", ".join(f"{label} ({n})" for label, n in list(strangers.items())[:5])
            self.emit(Warned(f"test examples of classes that do not occur in training are not judged: {shown}"))
        survivors = Counter(kept[k].label for k in train)
        gone = [label for label in self.labels if not survivors[label]]
        if gone:
            raise DataError(f"no usable example is left of: {', '.join(gone[:10])}", move="mend the examples above, or remove the class")
        if max(survivors.values()) < 2:
            raise DataError("one usable example a class is left", expected="at least two of some class")
        y = np.array([numbers[kept[k].label] for k in train], np.int64)  # type: ignore[index]
        y_test = np.array([numbers[kept[k].label] for k in test], np.int64)  # type: ignore[index]
        ids = [extracted.identities[k] for k in train]
        self._say_duplicates(ids, y, [extracted.identities[k] for k in test], [kept[k].name for k in train])
        seen = set(ids)
        fresh = np.array([extracted.identities[k] not in seen for k in test], bool)
        return _Parts([kept[k] for k in train], train, test, y, y_test, ids, fresh)

    def _say_duplicates(self, ids: Sequence[bytes], y: np.ndarray, test_ids: Sequence[bytes], names: Sequence[str]) -> None:
        groups: dict[bytes, list[int]] = defaultdict(list)
        for k, identity in enumerate(ids):
            groups[identity].append(k)
        twice = [members for members in groups.values() if len(members) > 1]
        if twice:
            disputed = [m for m in twice if len(set(y[m].tolist())) > 1]
            self.emit(Said(f"{sum(len(m) - 1 for m in twice):,} exact duplicates in the training part; they always share a fold"))
            if disputed:
                shown = "; ".join(", ".join(f"{names[k]} ({self.labels[y[k]]})" for k in m[:3]) for m in disputed[:3])
                self.emit(Warned(f"{len(disputed):,} groups of the same content have different labels: {shown}"))
        shared = sum(identity in groups for identity in test_ids)
        if shared:
            of = f"{shared:,} of {len(test_ids):,} test examples"
            self.emit(Warned(f"{of} also stand in the training part; the test figures are given without them too"))
        both = {e.group for e in self.dataset.part(TRAIN)} & {e.group for e in self.dataset.part(TEST)} - {None}
        if both:
            shown = ", ".join(str(g) for g in sorted(both, key=str)[:5])
            self.emit(Warned(f"{len(both):,} groups stand in both parts ({shown}): the test figures may flatter"))

    def _folds(self, parts: _Parts, classes: int) -> np.ndarray:
        """Fold numbers of the training examples; DataError when nothing can be held out."""
        from regraft.training.head import assign_folds, bound_together

        groups = [e.group for e in parts.examples]
        names = bound_together(parts.identities, groups if any(g is not None for g in groups) else None)
        apart = [len({names[k] for k in np.flatnonzero(parts.y == c)}) for c in range(classes)]
        folds = assign_folds(parts.y, names, fold_count(apart), self.spec.seed)
        if folds.max() < 1:
            what = "group" if any(groups) else "content"
            raise DataError(f"there is one {what} only, so nothing can be held out", expected=f"at least two different {what}s of a class")
        if folds.max() < 2:
            self.emit(Warned("two folds only: the strength is chosen on the folds that judge it, which flatters the estimate a little"))
        return folds

    def _train_and_judge(self, parts: _Parts, extracted: Extracted) -> _Result:
        from regraft.artifacts import log_probabilities
        from regraft.evaluation.metrics import SCORES, confusion_json, figures, paired_difference
        from regraft.strategy.rules import STRENGTHS
        from regraft.training.head import fit_head

        classes, y = len(self.labels), parts.y
        folds = self._folds(parts, classes)
        judged = np.flatnonzero(folds >= 0)
        nested = int(folds.max()) >= 2
        score = lambda truth, predicted: SCORES[self.spec.metric](truth, predicted, classes)

        def probe(stage: str, rows: np.ndarray, strengths: Sequence[float], *, nested: bool) -> Probe:
            begun = time.perf_counter()
            self.emit(Started(stage, 0, "fits"))
            found = fit_head(
                rows,
                y,
                folds,
                classes,
                strengths,
                score=score,
                balance=self.spec.balance,
                nested=nested,
                watch=lambda done, total: self.emit(Progress(stage, done, total)),
            )
            self.emit(Done(stage, time.perf_counter() - begun, f"strength {found.strength:.2g}, {int(folds.max()) + 1} folds"))
            return found

        ours = probe("output layer", extracted.features[parts.train], STRENGTHS, nested=nested)
        learnt = self.modality.learn_vectoriser([extracted.summaries[k] for k in parts.train])
        bare_rows = self.modality.vectorise(learnt, [extracted.summaries[k] for k in parts.train])
        # not nested: a third of the work, and if anything it flatters what we compare with
        theirs = probe("without the network", bare_rows, STRENGTHS[BASELINE_STRENGTHS], nested=False)
        truth = y[judged]
        estimate = figures(truth, ours.out_of_fold[judged])
        majority = int(np.bincount(y, minlength=classes).argmax())
        comparison = paired_difference(truth, ours.out_of_fold[judged].argmax(1), theirs.out_of_fold[judged].argmax(1))
        result = _Result(
            ours, theirs, learnt, folds, estimate, _baselines(truth, theirs.out_of_fold[judged], majority, self.labels), comparison
        )
        result.counts = np.bincount(y, minlength=classes).tolist()
        result.confusion = confusion_json(truth, ours.out_of_fold[judged].argmax(1), self.labels)
        if len(parts.test):
            logs = log_probabilities(extracted.features[parts.test], ours.weight, ours.bias)
            bare = log_probabilities(
                self.modality.vectorise(learnt, [extracted.summaries[k] for k in parts.test]), theirs.weight, theirs.bias
            )
            result.test = {
                "metrics": _json(figures(parts.y_test, logs)),
                "baseline": _baselines(parts.y_test, bare, majority, self.labels),
                "confusion": confusion_json(parts.y_test, logs.argmax(1), self.labels),
                "n": len(parts.test),
            }
            if not parts.fresh.all() and parts.fresh.any():
                result.test["without_duplicates"] = {
                    "metrics": _json(figures(parts.y_test[parts.fresh], logs[parts.fresh])),
                    "n": int(parts.fresh.sum()),
                }
        return result

    def _keep(self, result: _Result, backbone: dict[str, Tensor]) -> None:
        from regraft.artifacts import save_bundle

        ours = result.ours
        self.folder.decide(
            strength=ours.strength,
            strengths=list(ours.strengths),
            scores=[round(s, 6) for s in ours.scores],
            losses=[round(s, 6) for s in ours.losses],
            fold_strengths=list(ours.fold_strengths),
            metric=self.spec.metric,
            folds=int(result.folds.max()) + 1,
        )
        save_bundle(
            self.folder.path / BUNDLE,
            facts=self.facts,
            backbone=backbone,
            files=source_of(self.facts).files(self.facts),
            weight=ours.weight,
            bias=ours.bias,
            labels=self.labels,
            counts=result.counts,
            rung=self.spec.train,
            versions=versions(),
        )
        np.savez_compressed(self.folder.path / "without_network.npz", weight=result.theirs.weight, bias=result.theirs.bias)
        write_json(self.folder.path / "without_network.json", dict(result.learnt))

    def _finish(self, result: _Result, left_out: Sequence[LeftOut], parts: _Parts) -> None:
        self._write_out_of_fold(result, parts)
        verdict = verdict_of(result.comparison)
        if verdict:
            self.emit(Warned(verdict))
        seconds = time.perf_counter() - self.start
        self.emit(Measured("seconds", seconds, None, "s"))
        self.folder.finish(
            {
                "format": 1,
                "run": str(self.folder.path),
                "data": self.spec.data,
                "task": self.facts.task,
                "labels": self.labels,
                "model": self.facts.name,
                "licence": self.facts.licence,
                "train": self.spec.train,
                "metric": self.spec.metric,
                "n": len(parts.y),
                "estimate": _json(result.estimate),
                "estimate_how": _how(int(result.folds.max()) + 1),
                "baseline": result.baseline,
                "better_than_no_network": {"accuracy": result.comparison.to_json()},
                "confusion": result.confusion,
                **({"test": result.test} if result.test else {}),
                "seconds": round(seconds, 2),
                "peak_memory_mb": peak_memory_mb(),
                "costs": self.costs,
                "left_out": [item.to_json() for item in left_out],
                **self.messages.to_json(),
            }
        )

    def _write_out_of_fold(self, result: _Result, parts: _Parts) -> None:
        import csv

        from regraft.workspace.files import written_aside

        chances = np.exp(result.ours.out_of_fold)
        with written_aside(self.folder.path / "out_of_fold.npy") as aside, open(aside, "wb") as file:
            np.save(file, chances, allow_pickle=False)
        with written_aside(self.folder.path / "out_of_fold.csv") as aside, open(aside, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "label", "fold", "predicted", "probability", "probability_of_label"])
            for k, example in enumerate(parts.examples):
                row, fold = chances[k], int(result.folds[k])
                said = [self.labels[int(row.argmax())], f"{row.max():.6f}", f"{row[parts.y[k]]:.6f}"] if fold >= 0 else ["", "", ""]
                writer.writerow([example.name, self.labels[parts.y[k]], fold, *said])


@dataclass
class _Parts:
    """The usable examples of both parts; `train` and `test` are positions among the extracted rows."""

    examples: list[Example]
    train: np.ndarray
    test: np.ndarray
    y: np.ndarray
    y_test: np.ndarray
    identities: list[bytes]
    fresh: np.ndarray


@dataclass
class _Result:
    """What training and judging gave."""

    ours: Probe
    theirs: Probe
    learnt: Mapping[str, Any]
    folds: np.ndarray
    estimate: dict[str, Figure]
    baseline: dict[str, Any]
    comparison: Figure
    test: dict[str, Any] | None = None
    confusion: dict[str, Any] | None = None
    counts: Sequence[int] = ()


def verdict_of(comparison: Figure) -> str:
    """What to say when the pretrained network does not clearly beat the model without one; nothing when it does."""
    points = f"{comparison.value * 100:+.1f} points of accuracy ({comparison.low * 100:+.1f} to {comparison.high * 100:+.1f})"
    if comparison.high < 0:
        return (
            f"the pretrained network is worse than no network here: {points}. Another network may know this kind of data (regraft models)"
        )
    if comparison.low <= 0:
        return f"the pretrained network is not clearly better than no network here: {points}"
    return ""


def _name_of(source: Path) -> str:
    """What a run of this data is called."""
    whole = source.resolve()
    return whole.name if whole.is_dir() else whole.stem


def _how(folds: int) -> str:
    """How the estimate was made."""
    return f"{folds}-fold cross-validation" + (", nested for the choice of the strength" if folds >= 3 else ", not nested: too few groups")


def _json(figures: Mapping[str, Figure]) -> dict[str, dict[str, float]]:
    return {name: figure.to_json() for name, figure in figures.items()}


def _baselines(truth: np.ndarray, bare: np.ndarray, majority: int, labels: Sequence[str]) -> dict[str, Any]:
    """The majority class and the model without a network, judged on the same examples."""
    from regraft.evaluation.metrics import figures, wilson

    right = float((truth == majority).sum())
    return {
        "majority": {"label": labels[majority], "metrics": {"accuracy": wilson(right, len(truth)).to_json()}},
        "without_network": {"metrics": _json(figures(truth, bare))},
    }
