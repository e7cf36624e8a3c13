"""fit: a data set in, a run out."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from regraft.data.base import TEST, TRAIN, Example
from regraft.errors import DataError, ModelError
from regraft.evaluation.classes import mean_interval
from regraft.events import Done, Emit, Event, Measured, Progress, Said, Started, Warned, silent
from regraft.facts import Figure, LeftOut, ModelFacts
from regraft.jobs.common import (
    Messages,
    check_losses,
    choose_device,
    computing_threads,
    core_count,
    patterns,
    peak_memory_mb,
    say_notes,
    versions,
)
from regraft.jobs.deeper import Deeper, Trained, Work, plan_deeper, train_deeper
from regraft.jobs.engines import choose_engine, compare_predictions, reference_engine, wanted_engine
from regraft.jobs.frozen import frozen_pretrained
from regraft.jobs.labelled import Labelled, named_data, open_labelled, same_value
from regraft.jobs.network import Edited, given_network, named_model, written_steps
from regraft.jobs.run import Run
from regraft.modality import MODALITIES, Modality
from regraft.pretrained import Access, source_of
from regraft.spec import FitSpec, one_of, refuse
from regraft.strategy.engines import sample_size
from regraft.strategy.rules import fold_count, is_nested, strengths_for
from regraft.targets import Target
from regraft.workspace.files import write_json, written_aside
from regraft.workspace.runs import BUNDLE, RunFolder, new_run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.anatomy import Net
    from regraft.features import Extracted
    from regraft.features.engines import Engine
    from regraft.training.probe import Probe

BASELINE_STRENGTHS = slice(1, None, 2)
"""Every second strength for the model without a network: half as many cost half."""


def fit(
    data: Any,
    *,
    task: str | None = None,
    input: str | None = None,
    label: str | None = None,
    target: str | None = None,
    separator: str | None = None,
    group: str | None = None,
    split: str | None = None,
    weight: str | None = None,
    test: Any = None,
    metric: str | None = None,
    model: str | nn.Module | Net | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    recipe: str | os.PathLike[str] | None = None,
    remove: Sequence[str] = (),
    replace: Sequence[str] = (),
    insert: Sequence[str] = (),
    resize_input: int | None = None,
    lora: str | None = None,
    rank: int | None = None,
    offline: bool = False,
    allow_code: bool = False,
    allow: str | Sequence[str] = (),
    train: str = "head",
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    strict: bool = False,
    allow_outside: bool = False,
    balance: bool = False,
    store: bool = True,
    on_event: Emit = silent,
) -> Run:
    """Fit a model to labelled data and return its run.

    `data` is a path (see `FitSpec.data`), a pandas DataFrame, or a list of (input, label) with paths, PIL images, uint8 arrays
    (height, width, 3), sounds as (samples, rate), or strings. `test` is the same kind of thing, or a fraction. `model` is a name, a
    network that `load` gave, or a torch module of your own that gives features (n, d) and whose class can be imported; `preprocessing`
    then says how its inputs are prepared: size, crop_pct, interpolation, mean, std for images (ImageNet's at 224 pixels when not given),
    window_seconds for sounds. The other arguments are those of the command line; `on_event` is called with each event.

    Raises UsageError for what cannot be meant, DataError for data that cannot be used, ModelError and MissingExtra when the
    network cannot be had, RunError when the folder is taken.
    """
    start = time.perf_counter()
    source, data_text, test_text = named_data(data, test)
    spec = FitSpec(
        data=data_text,
        task=task,
        input=input,
        label=label,
        target=target,
        separator=separator,
        group=group,
        split=split,
        weight=weight,
        test=test_text,
        metric=metric,
        model=named_model(model),
        recipe=None if recipe is None else os.fspath(recipe),
        remove=(remove,) if isinstance(remove, str) else tuple(remove),
        replace=(replace,) if isinstance(replace, str) else tuple(replace),
        insert=(insert,) if isinstance(insert, str) else tuple(insert),
        resize_input=resize_input,
        lora=lora,
        rank=rank,
        offline=offline,
        allow_code=allow_code,
        allow=patterns(allow),
        train=train,
        device=device,
        engine=engine,
        precision=precision,
        threads=threads,
        out=None if out is None else os.fspath(out),
        seed=seed,
        strict=strict,
        allow_outside=allow_outside,
        balance=balance,
        store=store,
    )
    labelled = open_labelled(spec, source, test)
    _check_options(spec, labelled.target)
    modality = MODALITIES[labelled.dataset.task]
    may = Access(spec.offline, spec.allow_code, spec.allow)
    place = choose_device(spec.device)
    named = wanted_engine(spec.engine, spec.precision, place)
    steps = written_steps(spec.recipe, spec.remove, spec.replace, spec.insert, spec.resize_input, spec.lora, spec.rank)
    given = given_network(model, labelled.dataset.task, preprocessing, steps, may)
    deeper = plan_deeper(given.base, given.edited, spec.train, len(labelled.target.outputs))
    folder = new_run(spec.out, _name_of(source) if isinstance(source, Path) else "data", spec.to_json())
    try:
        return _Fit(spec, labelled, modality, given.facts, given.edited, deeper, named, place, folder, on_event, start)()
    finally:
        folder.close()


def _check_options(spec: FitSpec, target: Target) -> None:
    """Options that fit one kind of target only, once it is known."""
    faults = one_of(f"--metric for the target {target.name}", spec.metric, target.metrics)
    if spec.balance and target.name != "class":
        faults.append(f"--balance gives classes equal weight; the target here is {target.name} ({target.about})")
    refuse(faults)


@dataclass
class _Fit:
    """One fit on its way."""

    spec: FitSpec
    labelled: Labelled
    modality: Modality
    facts: ModelFacts
    edited: Edited | None
    deeper: Deeper | None
    named: Engine | None
    """The engine that was asked for."""
    device: str
    folder: RunFolder
    listener: Emit
    start: float

    def emit(self, event: Event) -> None:
        self.folder.log(event)
        self.listener(event)
        if isinstance(event, Measured):
            self.costs[event.name] = {"predicted": event.predicted, "measured": round(event.value, 3), "unit": event.unit}

    @property
    def rung(self) -> str:
        """What is trained: as it was asked for, or as the recipe says."""
        return self.deeper.rung.name if self.deeper else self.spec.train

    def __call__(self) -> Run:
        self.costs: dict[str, Any] = {}
        self.trained: Trained | None = None
        self.listener = self.messages = Messages(self.listener)
        spec, modality, facts = self.spec, self.modality, self.facts
        self.dataset, self.target = self.labelled.dataset, self.labelled.target
        self.metric = spec.metric or self.target.metrics[0]
        self._say_what_was_found()
        threads = spec.threads or core_count()
        device = self.device
        self.folder.decide(
            task=self.dataset.task,
            target=self.target.name,
            labels=self.target.outputs,
            model=facts.name,
            **({"repository": facts.repository, "revision": facts.revision} if facts.repository else {}),
            train=self.rung,
            **({"recipe": self.edited.steps, "patch": self.edited.patch} if self.edited and self.edited.steps else {}),
            device=device,
            threads=threads,
            **self.dataset.decisions,
        )
        with computing_threads(threads):
            parts = [self.labelled.part(TRAIN), self.labelled.part(TEST)]
            examples, values = [e for part, _ in parts for e in part], [v for _, own in parts for v in own]
            extracted, backbone = self._features(examples, device, threads)
            self.examples = [examples[i] for i in extracted.kept]
            left_out = [*self.dataset.left_out, *extracted.left_out]
            check_losses(left_out, len(extracted.kept), modality, strict=spec.strict, emit=self.emit)
            say_notes(extracted.notes, len(extracted.kept), self.emit)
            parts = self._divide(examples, values, extracted)
            try:
                result = self._train_and_judge(parts, extracted)
                self._keep(result, backbone)
            finally:
                if self.trained:
                    self.trained.close()
        self._finish(result, left_out, parts)
        return Run(self.folder.path)

    def _say_what_was_found(self) -> None:
        train, test = len(self.dataset.part(TRAIN)), len(self.dataset.part(TEST))
        noun = self.modality.nouns if train != 1 else self.modality.noun
        counted = f"{train:,} {noun} {self.target.described(self.labelled.train_cells)} to train on"
        self.emit(Said(counted + (f", {test:,} to test on" if test else "")))
        if self.labelled.how:
            self.emit(Said(self.labelled.how))
        for said in self.dataset.said:
            self.emit(Said(said))
        for said in self.target.remarks(self.labelled.train_cells, balanced=self.spec.balance):
            self.emit(Warned(said))
        if said := self.labelled.stranger_remark():
            self.emit(Warned(said))
        if self.facts.repository:
            self.emit(Said(f"weights: {self.facts.file} of {self.facts.repository} on the hub, at revision {self.facts.revision[:12]}"))
        chosen = "" if self.spec.model else " (the default; see regraft models)"
        self.emit(Said(f"network: {self.facts.name}{chosen}, licence {self.facts.licence}, trained on {self.facts.trained_on}"))
        if said := self.facts.differences():
            self.emit(Warned(said))
        if self.edited and self.edited.steps:
            self.emit(Said("\n  ".join(["changed:", *self.edited.patch])))
            if self.edited.new_weights and (not self.deeper or self.deeper.on_features):
                self.emit(Warned(f"{self.edited.new_weights:,} new weights stay random: only the head is trained (--train head)"))

    def _features(self, examples: Sequence[Example], device: str, threads: int) -> tuple[Extracted, dict[str, Tensor]]:
        held = self.edited.weights if self.edited else self.deeper.backbone if self.deeper else None
        backbone = dict(held) if held is not None else source_of(self.facts).weights(self.facts)
        self.frozen = frozen_pretrained(self.facts, lambda: backbone)
        self.threads = threads
        self.chosen = choose_engine(self.frozen, examples, self.named, self.spec.precision, device, threads)
        if said := self.chosen.sentence(self.modality.nouns):
            self.emit(Said(said))
        try:
            return self._run(examples, "features", summaries=True), backbone
        except ModelError as error:
            if self.named is not None or self.chosen.engine is reference_engine():
                raise
            self._take_instead(reference_engine(), error.found)
            return self._run(examples, "features", summaries=True), backbone

    def _run(self, examples: Sequence[Example], stage: str, *, summaries: bool) -> Extracted:
        """Features of the examples in the chosen engine, which is written down first."""
        engine = self.chosen.engine
        self.folder.decide(engine=self.chosen.to_json(), features=self.frozen.maker(self.device, engine))
        return self.frozen.run(
            examples, self.device, self.threads, engine, keep=self.spec.store, summaries=summaries, emit=self.emit, stage=stage
        )

    def _take_instead(self, engine: Engine, reason: str) -> None:
        """Another engine than the chosen one, and why."""
        self.emit(Warned(f"engine: {self.chosen.engine.label} is not used: {reason}. {engine.label} runs in its place"))
        refused = {**self.chosen.left_out, self.chosen.engine.label: reason}
        self.chosen = replace(self.chosen, engine=engine, left_out=refused)

    def _divide(self, examples: Sequence[Example], values: Sequence[Any], extracted: Extracted) -> _Parts:
        kept = [examples[i] for i in extracted.kept]
        train = np.array([k for k, e in enumerate(kept) if e.part == TRAIN], np.int64)
        test = np.array([k for k, e in enumerate(kept) if e.part == TEST], np.int64)
        y = self.target.array([values[extracted.kept[k]] for k in train])
        y_test = self.target.array([values[extracted.kept[k]] for k in test])
        if not len(train):
            raise DataError("no usable training example is left", move="mend the examples above")
        self.target.check(y)
        ids = [extracted.identities[k] for k in train]
        self._say_duplicates(ids, y, [extracted.identities[k] for k in test], [kept[k] for k in train])
        seen = set(ids)
        fresh = np.array([extracted.identities[k] not in seen for k in test], bool)
        weights = np.array([kept[k].weight for k in train])
        if not weights.any():
            raise DataError("every training example has the weight 0", expected="at least one above 0", move="--weight COLUMN")
        return _Parts([kept[k] for k in train], train, test, y, y_test, ids, fresh, weights / weights.mean())

    def _say_duplicates(self, ids: Sequence[bytes], y: np.ndarray, test_ids: Sequence[bytes], train: Sequence[Example]) -> None:
        groups: dict[bytes, list[int]] = defaultdict(list)
        for k, identity in enumerate(ids):
            groups[identity].append(k)
        twice = [members for members in groups.values() if len(members) > 1]
        if twice:
            disputed = [m for m in twice if not same_value(y, m)]
            self.emit(Said(f"{sum(len(m) - 1 for m in twice):,} exact duplicates in the training part; they always share a fold"))
            if disputed:
                shown = "; ".join(", ".join(f"{train[k].name} ({train[k].label})" for k in m[:3]) for m in disputed[:3])
                self.emit(Warned(f"{len(disputed):,} groups of the same content have different labels: {shown}"))
        shared = sum(identity in groups for identity in test_ids)
        if shared:
            of = f"{shared:,} of {len(test_ids):,} test examples"
            self.emit(Warned(f"{of} also stand in the training part; the test figures are given without them too"))
        both = {e.group for e in self.dataset.part(TRAIN)} & {e.group for e in self.dataset.part(TEST)} - {None}
        if both:
            shown = ", ".join(str(g) for g in sorted(both, key=str)[:5])
            self.emit(Warned(f"{len(both):,} groups stand in both parts ({shown}): the test figures may flatter"))

    def _folds(self, parts: _Parts) -> tuple[np.ndarray, dict[int, int]]:
        """Fold numbers of the training examples, and of each stratum how many of its examples can stand apart.

        DataError when nothing can be held out.
        """
        from regraft.training.head import assign_folds, bound_together

        groups = [e.group for e in parts.examples]
        names = bound_together(parts.identities, groups if any(g is not None for g in groups) else None)
        strata = self.target.strata(parts.y)
        held: dict[int, set[bytes]] = defaultdict(set)
        for own, name in zip(strata, names, strict=True):
            for s in own:
                held[s].add(name)
        apart = {s: len(own) for s, own in held.items()}
        folds = assign_folds(strata, names, fold_count(list(apart.values())), self.spec.seed)
        if folds.max() < 1:
            what = "group" if any(groups) else "content"
            raise DataError(f"there is one {what} only, so nothing can be held out", expected=f"at least two different {what}s of a class")
        if folds.max() < 2:
            self.emit(Warned("two folds only: the strength is chosen on the folds that judge it, which flatters the estimate a little"))
        return folds, apart

    def _train_and_judge(self, parts: _Parts, extracted: Extracted) -> _Result:
        from regraft.features.memory import give_back

        target, y = self.target, parts.y
        folds, apart = self._folds(parts)
        view, columns = target.judgeable(apart)
        if said := target.unjudged(columns):
            self.emit(Warned(said))
        strengths = strengths_for(target.loss)
        nested = is_nested(int((folds >= 0).sum()), int(folds.max()) + 1)
        probe = lambda: self._probe("output layer", _rows_at(extracted.features, parts.train), parts, folds, strengths, nested=nested)
        ours = probe()
        if objection := self._objection(ours, parts, folds, extracted.features):
            self._take_instead(self.chosen.exact or reference_engine(), objection)
            again = self._run(self.examples, "features again", summaries=False)
            if len(again.kept) != len(self.examples):
                raise ModelError("the network's features of some examples are numbers in one engine only", move="--engine torch")
            extracted.features = again.features
            ours = probe()
        # what only the pass needs holds memory
        self.frozen.let_go()
        give_back()
        learnt = self.modality.learn_vectoriser([extracted.summaries[k] for k in parts.train])
        bare_rows = self.modality.vectorise(learnt, [extracted.summaries[k] for k in parts.train])
        bare_test = self.modality.vectorise(learnt, [extracted.summaries[k] for k in parts.test]) if len(parts.test) else bare_rows[:0]
        # of 100,000 images they take 300 MB, and the rows made of them as much again
        extracted.summaries.clear()
        # not nested: a third of the work, and if anything it flatters what we compare with
        theirs = self._probe("without the network", bare_rows, parts, folds, strengths[BASELINE_STRENGTHS], nested=False, careful=False)
        out_of_fold = ours.out_of_fold
        if self.deeper:
            out_of_fold = self._train_deeper(self.deeper, ours, parts, extracted.features, folds)
        judged = np.flatnonzero(np.isfinite(out_of_fold).all(1))
        shipped = target.settle(y, out_of_fold, columns)
        truth, held, bare_held, head_held = y[judged], out_of_fold[judged], theirs.out_of_fold[judged], ours.out_of_fold[judged]
        if view is not target:
            truth, held, bare_held, head_held = truth[:, columns], held[:, columns], bare_held[:, columns], head_held[:, columns]
        decided = view.decide_out_of_fold(truth, held, folds[judged])
        bare_decided = view.decide_out_of_fold(truth, bare_held, folds[judged])
        gained = view.gains(target.compared, truth, decided)
        gains = gained - view.gains(target.compared, truth, bare_decided)
        over_head = None
        if self.deeper:
            head_decided = view.decide_out_of_fold(truth, head_held, folds[judged])
            over_head = mean_interval(gained - view.gains(target.compared, truth, head_decided))
        bare_metrics = _json(view.figures(truth, bare_held, bare_decided))
        result = _Result(
            ours,
            theirs,
            learnt,
            folds,
            out_of_fold,
            judged,
            shipped,
            target.settle(y, theirs.out_of_fold, columns),
            view,
            columns,
            decided,
            estimate=view.figures(truth, held, decided),
            baseline={"constant": view.constant(truth), "without_network": {"metrics": bare_metrics}},
            comparison=mean_interval(gains),
            over_head=over_head,
            details=(shipped if view is target else view).details(truth, held, decided),
        )
        if len(parts.test):
            result.test = self._test(parts, result, self._scores(result, extracted.features, parts.test), bare_test)
        return result

    def _train_deeper(
        self,
        deeper: Deeper,
        start: Probe,
        parts: _Parts,
        features: np.ndarray,
        folds: np.ndarray,
    ) -> np.ndarray:
        """Train below the linear layer, which is `start`; outputs (n, outputs) of examples that were held out, NaN for others."""
        from regraft.training.losses import LOSSES

        work = Work(
            features=features,
            examples=self.examples,
            train=parts.train,
            values=parts.y,
            weights=self._weights(parts),
            folds=folds,
            loss=LOSSES[self.target.loss],
            starts=[*start.fold_layers, (start.weight, start.bias)],
            seed=self.spec.seed,
            device=self.device,
            workers=max(2, self.threads),
            folder=self.folder.path,
            decide=self.folder.decide,
            emit=self.emit,
            keep=self.spec.store,
        )
        self.trained = train_deeper(deeper, work)
        held = self.trained.tuned.held_out
        out = np.full(held.shape, np.nan, np.float32)
        there = np.isfinite(held).all(1)
        out[there] = self.target.link(held[there])
        return out

    def _scores(self, result: _Result, features: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Scores (examples, outputs) float64 of the model that ships."""
        if self.trained:
            return self.trained.scores(positions)
        from regraft.artifacts import linear

        return linear(result.ours.weight, result.ours.bias)(_rows_at(features, positions))

    def _weights(self, parts: _Parts) -> np.ndarray:
        """What each training example counts."""
        from regraft.training.head import class_weights

        return parts.weights * class_weights(parts.y, len(self.target.outputs)) if self.spec.balance else parts.weights

    def _objection(self, ours: Probe, parts: _Parts, folds: np.ndarray, features: np.ndarray) -> str:
        """What speaks against the features of an engine that rounds: some training examples go through an exact one too, and models
        that did not see them predict from both. Empty when they agree, or when the engine was asked for.
        """
        from regraft.artifacts import linear, outputs_of

        engine, target = self.chosen.engine, self.target
        if engine.exact:
            return ""
        judged = np.flatnonzero(folds >= 0)
        exact = self.chosen.exact or reference_engine()
        places = judged[np.unique(np.linspace(0, len(judged) - 1, sample_size(len(judged))).astype(int))]
        sample = [parts.examples[k] for k in places]
        plain = self.frozen.run(
            sample, self.device, self.threads, exact, keep=self.spec.store, summaries=False, emit=self.emit, stage="comparison"
        )
        places = places[plain.kept]
        say = lambda rows: np.concatenate(
            [outputs_of(row[None], linear(*ours.fold_layers[folds[k]]), target) for row, k in zip(rows, places, strict=True)]
        )
        rows = features[parts.train[places]]
        found = compare_predictions(
            exact, target, self.metric, parts.y[places], say(rows), say(plain.features), float(parts.y.astype(np.float64).std())
        )
        self.folder.decide(agreement=found.to_json())
        self.emit(found.said())
        return found.objection if self.chosen.free else ""

    def _probe(
        self,
        stage: str,
        rows: np.ndarray,
        parts: _Parts,
        folds: np.ndarray,
        strengths: Sequence[float],
        *,
        nested: bool,
        careful: bool = True,
    ) -> Probe:
        from regraft.training.losses import LOSSES
        from regraft.training.probe import fit_probe

        begun = time.perf_counter()
        self.emit(Started(stage, 0, "fits"))
        target, outputs = self.target, len(self.target.outputs)
        weights = self._weights(parts)
        found = fit_probe(
            rows,
            parts.y,
            folds,
            outputs,
            strengths,
            score=lambda truth, plain: target.score(self.metric, truth, plain),
            gains=lambda truth, plain: target.gains(self.metric, truth, plain),
            loss=LOSSES[target.loss],
            weights=None if (weights == 1).all() else weights,
            nested=nested,
            careful=careful,
            watch=lambda done, total: self.emit(Progress(stage, done, total)),
        )
        self.emit(Done(stage, time.perf_counter() - begun, f"strength {found.strength:.2g}, {int(folds.max()) + 1} folds"))
        return found

    def _test(self, parts: _Parts, result: _Result, scores: np.ndarray, bare_rows: np.ndarray) -> dict[str, Any]:
        """The figures of the test part, which nothing before has looked at."""
        from regraft.artifacts import as_they_are, linear, outputs_of

        shipped, y = result.target, parts.y_test
        outputs = outputs_of(scores, as_they_are, shipped)
        bare = outputs_of(bare_rows, linear(result.theirs.weight, result.theirs.bias), result.bare_target)
        decided = shipped.decide(outputs)
        found = {
            "metrics": _json(shipped.figures(y, outputs, decided)),
            "baseline": {
                "constant": shipped.constant(y),
                "without_network": {"metrics": _json(shipped.figures(y, bare, result.bare_target.decide(bare)))},
            },
            **shipped.details(y, outputs, decided),
            "n": len(parts.test),
        }
        fresh = parts.fresh
        if not fresh.all() and fresh.any():
            metrics = _json(shipped.figures(y[fresh], outputs[fresh], decided[fresh]))
            found["without_duplicates"] = {"metrics": metrics, "n": int(fresh.sum())}
        return found

    def _keep(self, result: _Result, backbone: dict[str, Tensor]) -> None:
        import torch

        from regraft.artifacts import FEATURES, SCORES, save_bundle
        from regraft.pretrained.architectures import architecture_of

        ours, trained = result.ours, self.trained
        self.folder.decide(
            strength=ours.strength,
            strengths=list(ours.strengths),
            scores=[round(s, 6) for s in ours.scores],
            losses=[round(s, 6) for s in ours.losses],
            fold_strengths=list(ours.fold_strengths),
            strengths_tried_on=ours.tried_on,
            metric=self.metric,
            folds=int(result.folds.max()) + 1,
        )
        if trained:
            tensors = trained.tensors()
        else:
            head = architecture_of(self.facts.architecture).head(self.facts.architecture)
            tensors = {**backbone, f"{head}.weight": torch.from_numpy(ours.weight), f"{head}.bias": torch.from_numpy(ours.bias)}
        judged_whole = trained is not None and not trained.deeper.on_features
        save_bundle(
            self.folder.path / BUNDLE,
            facts=trained.deeper.facts if trained else self.facts,
            tensors=tensors,
            files=source_of(self.facts).files(self.facts),
            features=ours.weight.shape[1],
            averaged=SCORES if judged_whole else FEATURES,
            target=result.target,
            rung=self.rung,
            # what was trained below the head was trained and judged in torch
            engine=reference_engine() if judged_whole else self.chosen.engine,
            versions=versions(),
        )
        with written_aside(self.folder.path / "without_network.npz") as aside, open(aside, "wb") as file:
            np.savez_compressed(file, weight=result.theirs.weight, bias=result.theirs.bias)
        write_json(self.folder.path / "without_network.json", {"vectoriser": dict(result.learnt), "target": result.bare_target.to_json()})

    def _finish(self, result: _Result, left_out: Sequence[LeftOut], parts: _Parts) -> None:
        self._write_out_of_fold(result, parts)
        verdict = verdict_of(result.comparison, self.target.difference(result.comparison))
        if verdict:
            self.emit(Warned(verdict))
        if said := against_head(result.over_head, self.target):
            self.emit(Warned(said))
        seconds = time.perf_counter() - self.start
        self.emit(Measured("seconds", seconds, None, "s"))
        self.folder.finish(
            {
                "format": 1,
                "run": str(self.folder.path),
                "data": self.spec.data,
                "task": self.facts.task,
                "target": self.target.name,
                "labels": self.target.outputs,
                "model": self.facts.name,
                **({"recipe": self.edited.steps} if self.edited and self.edited.steps else {}),
                "licence": self.facts.licence,
                "train": self.rung,
                "metric": self.metric,
                "n": len(parts.y),
                "estimate": _json(result.estimate),
                "estimate_how": self._how(result),
                "baseline": result.baseline,
                "better_than_no_network": {self.target.compared: result.comparison.to_json()},
                **({"better_than_head": {self.target.compared: result.over_head.to_json()}} if result.over_head else {}),
                **result.details,
                **({"test": result.test} if result.test else {}),
                "seconds": round(seconds, 2),
                "peak_memory_mb": peak_memory_mb(),
                "costs": self.costs,
                "left_out": [item.to_json() for item in left_out],
                **self.messages.to_json(),
            }
        )

    def _how(self, result: _Result) -> str:
        """How the estimate was made."""
        folds = int(result.folds.max()) + 1
        if not self.trained:
            return _how(folds, int((result.folds >= 0).sum()), len(result.folds), result.ours.tried_on)
        trained = self.trained.tuned.folds
        if trained == folds:
            return f"{folds}-fold cross-validation of the whole training"
        return f"{trained} of {folds} folds held out: {len(result.judged):,} examples; training in all folds would take too long"

    def _write_out_of_fold(self, result: _Result, parts: _Parts) -> None:
        import csv

        target, held, y = result.view, result.out_of_fold, parts.y
        if target is not self.target:
            held, y = held[:, result.columns], y[:, result.columns]
        with written_aside(self.folder.path / "out_of_fold.npy") as aside, open(aside, "wb") as file:
            np.save(file, target.readable(held), allow_pickle=False)
        places = {int(k): i for i, k in enumerate(result.judged)}
        with written_aside(self.folder.path / "out_of_fold.csv") as aside, _text_file(aside) as file:
            writer = csv.writer(file)
            writer.writerow(["name", "fold", *target.cell_names])
            for k, example in enumerate(parts.examples):
                decided = result.decided[places[k]] if k in places else None
                fold = int(result.folds[k]) if k in places else -1
                writer.writerow([example.name, fold, *target.cells(held[k], decided, y[k])])


def _text_file(path: Path) -> TextIO:
    """A text file to write; what is no text (a lone surrogate) is spelt out."""
    return open(path, "w", encoding="utf-8", newline="", errors="backslashreplace")


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
    weights: np.ndarray
    """Of the training examples; their mean is one."""


@dataclass
class _Result:
    """What training and judging gave."""

    ours: Probe
    theirs: Probe
    learnt: Mapping[str, Any]
    folds: np.ndarray
    out_of_fold: np.ndarray
    """Outputs of every training example by a model that had not seen it; NaN where there is none."""
    judged: np.ndarray
    """Where there is one."""
    target: Target
    bare_target: Target
    view: Target
    """What cross-validation judged of the target, and which columns of it."""
    columns: Any
    decided: np.ndarray
    estimate: dict[str, Figure]
    baseline: dict[str, Any]
    comparison: Figure
    over_head: Figure | None
    """What deeper training gained over the output layer alone, on the same examples."""
    details: dict[str, Any]
    test: dict[str, Any] | None = None


def _rows_at(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The rows at some places: a view where they follow each other, because a copy of 100,000 rows of features takes half a GB."""
    if len(places) and (np.diff(places) == 1).all():
        return rows[places[0] : places[-1] + 1]
    return rows[places]


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


def against_head(gain: Figure | None, target: Target) -> str:
    """What to say when deeper training does not clearly beat the output layer alone; nothing when it does."""
    if gain is None or gain.low > 0:
        return ""
    worse = "worse than" if gain.high < 0 else "not clearly better than"
    return f"what was trained is {worse} a linear output layer alone (--train head): {target.difference(gain)}"


def _name_of(source: Path) -> str:
    """What a run of this data is called."""
    whole = source.resolve()
    return whole.name if whole.is_dir() else whole.stem


def _how(folds: int, examples: int, trained: int, tried_on: int) -> str:
    """How the estimate was made."""
    if is_nested(examples, folds):
        return f"{folds}-fold cross-validation, nested for the choice of the strength"
    how = f"{folds}-fold cross-validation, not nested: " + ("too few groups" if folds < 3 else "with so many examples it changes nothing")
    return how if tried_on == trained else f"{how}; all strengths were tried on {tried_on:,} examples, the best and weaker ones on all"


def _json(figures: Mapping[str, Figure]) -> dict[str, dict[str, float]]:
    return {name: figure.to_json() for name, figure in figures.items()}
