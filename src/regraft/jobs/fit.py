"""fit: a data set in, a run out."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.data.base import TEST, TRAIN, Example
from regraft.deadline import UNWINDING, Deadline, OutOfTime, too_little
from regraft.errors import Interrupted, RegraftError, WriteError
from regraft.events import Emit, Said, Warned, silent
from regraft.facts import Figure, LeftOut, ModelFacts
from regraft.jobs.as_it_is import Kept, as_it_is, keep_output_layer
from regraft.jobs.augment import Augmenting, plan_views
from regraft.jobs.candidates import Candidate, tempered, trained_candidate
from regraft.jobs.climb import Climb
from regraft.jobs.common import check_losses, choose_device, computing_threads, core_count, say_notes, versions
from regraft.jobs.contrastive import TunedEncoder, check_contrastive, train_contrastive
from regraft.jobs.deeper import Trained, train_deeper
from regraft.jobs.engines import wanted_engine
from regraft.jobs.expecting import Expecting
from regraft.jobs.frozen_pass import FrozenPass
from regraft.jobs.labelled import Labelled, asked_spec, open_labelled
from regraft.jobs.linear import Linear
from regraft.jobs.near import find_near
from regraft.jobs.network import Edited, Given, given_network, named_model, written_steps
from regraft.jobs.pacing import finishing
from regraft.jobs.parts import Parts, both_parts, divide
from regraft.jobs.planned import Expected, Followed, follow
from regraft.jobs.recording import DATA, Recorder, replayed
from regraft.jobs.report import write_report
from regraft.jobs.rounds import rounds_for, study_in_time
from regraft.jobs.run import Run
from regraft.jobs.rungs import asked_settings, setting_values, written_rung
from regraft.jobs.ship import Bare, PassedOver, Shipping
from regraft.jobs.tracking import loaded, tracked
from regraft.jobs.validation import Validation
from regraft.jobs.work import Deeper, Work, plan_deeper
from regraft.modality import MODALITIES, Modality
from regraft.pretrained import Access, source_of
from regraft.spec import AUTO as ANY_NETWORK
from regraft.spec import FitSpec, one_of, refuse, written_limits
from regraft.strategy.race import WORTH_RACING
from regraft.strategy.rungs import AS_IT_IS, AUTO, CONTRASTIVE, Rung, rung_of
from regraft.targets import Target
from regraft.workspace.runs import BUNDLE, RunFolder, new_run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.anatomy import Net
    from regraft.features.engines import Engine
    from regraft.strategy.plan import Plan

REPORTING = 1.5
"""Seconds that the page of a run takes at most; where a budget has less left, it is not written (`regraft report` does)."""


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
    max_params: str | float | None = None,
    licence: str | None = None,
    max_memory: str | float | None = None,
    max_latency: str | float | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    recipe: str | os.PathLike[str] | None = None,
    remove: Sequence[str] = (),
    replace: Sequence[str] = (),
    insert: Sequence[str] = (),
    resize_input: int | None = None,
    at: str | None = None,
    lora: str | None = None,
    rank: int | None = None,
    offline: bool = False,
    allow_code: bool = False,
    allow: str | Sequence[str] = (),
    train: str | os.PathLike[str] | Rung | Mapping[str, Any] | None = None,
    augment: str = "auto",
    views: int | str | None = None,
    settings: Mapping[str, Any] | Sequence[str] = (),
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    strict: bool = False,
    allow_outside: bool = False,
    budget: str | float | Deadline | None = None,
    balance: bool = False,
    store: bool = True,
    track: str | Sequence[str] = (),
    replay: str | os.PathLike[str] | None = None,
    plan: Plan | Followed | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    on_event: Emit = silent,
) -> Run:
    """Fit a model to labelled data and return its run.

    `data` is a path (see `FitSpec.data`), a pandas DataFrame, or a list of (input, label) with paths, PIL images, uint8 arrays
    (height, width, 3), sounds as (samples, rate), or strings. `test` is the same kind of thing, or a fraction. `model` is a name, a
    network that `load` gave, or a torch module of your own that gives features (n, d) and whose class can be imported; `preprocessing`
    then says how its inputs are prepared: size, crop_pct, interpolation, mean, std for images (ImageNet's at 224 pixels when not given),
    window_seconds for sounds. With `model="auto"` the networks that are here race (see `race`), within the limits `max_params`,
    `licence`, `max_memory` and `max_latency`; that is meant where neither `model` nor `train` nor a change is given and `budget` is a
    minute or more. `train` is a name, the path of a YAML file, or a `Rung`; without it the ladder is climbed
    where there is a budget ("auto"), else the head is fitted. `settings` is a mapping such as {"lr": 1e-3}. `replay` names a run of the
    same data and spec whose decisions are used. `plan` is what `regraft.plan` gave for this data, or the path of its JSON: network, rung
    and settings are then its own, and its budget where no other is given. `budget` is counted from the call, or is a `Deadline` of one's
    own. `track` names trackers, such as "mlflow" or ["mlflow:sqlite:///runs.db", "tensorboard"]. The other arguments are those of the
    command line; `on_event` is called with each event.

    Raises UsageError for what cannot be meant, DataError for data that cannot be used, ModelError and MissingExtra when the
    network cannot be had, RunError when the folder is taken, Interrupted after Ctrl-C: `resume` goes on.
    """
    if plan is not None and not isinstance(plan, Followed):
        return fit(**follow(plan, {**locals()}))
    start, deadline = time.perf_counter(), Deadline.of(budget)
    changes = (recipe, *remove, *replace, *insert, resize_input, at, lora)
    if model is None and train in (None, AUTO) and not any(changes) and preprocessing is None and deadline.seconds is not None:
        model = ANY_NETWORK if deadline.seconds >= WORTH_RACING else None
    source, spec = asked_spec(
        locals(),
        model=named_model(model),
        **written_limits(max_params, licence, max_memory, max_latency),
        recipe=None if recipe is None else os.fspath(recipe),
        remove=(remove,) if isinstance(remove, str) else tuple(remove),
        replace=(replace,) if isinstance(replace, str) else tuple(replace),
        insert=(insert,) if isinstance(insert, str) else tuple(insert),
        resize_input=resize_input,
        at=at,
        lora=lora,
        rank=rank,
        train=written_rung((AUTO if budget is not None else "head") if train is None else train),
        augment=augment,
        views=None if views is None else str(views),
        settings=asked_settings(settings),
        out=None if out is None else os.fspath(out),
        budget=deadline.asked,
        track=(track,) if isinstance(track, str) else tuple(track),
    )
    given = Arguments(source, test, model, preprocessing, plan)
    held = None if replay is None else replayed(Path(replay), spec)
    deadline.hush(held)
    return fitted(spec, given, lambda: Recorder(_new_folder(spec, given, held), on_event, None, held, deadline), start, deadline)


@dataclass(frozen=True)
class Arguments:
    """What a fit is called with that a spec can only name."""

    data: Any
    test: Any
    model: str | nn.Module | Net | None
    preprocessing: Mapping[str, Any] | None
    plan: Followed | None = None

    @property
    def objects(self) -> list[str]:
        """The arguments that lie in memory, so that the spec cannot hold them."""
        named = (str, Path, int, float, type(None))
        return [name for name in ("data", "test", "model", "preprocessing") if not isinstance(getattr(self, name), named)]


def _new_folder(spec: FitSpec, given: Arguments, replay: Mapping[str, Any] | None) -> RunFolder:
    return new_run(spec.out, _name_of(given.data) if isinstance(given.data, Path) else "data", spec.to_json(), given.objects, replay)


def fitted(spec: FitSpec, given: Arguments, recorder_of: Callable[[], Recorder], start: float, deadline: Deadline) -> Run:
    """Fit what was asked for to what was given; `recorder_of` opens the run's folder, once it is clear that the fit can begin."""
    try:
        return _fitted(spec, given, recorder_of, start, deadline)
    except OutOfTime:
        raise too_little(deadline) from None
    finally:
        deadline.silence()


def _fitted(spec: FitSpec, given: Arguments, recorder_of: Callable[[], Recorder], start: float, deadline: Deadline) -> Run:
    labelled = open_labelled(spec, given.data, given.test)
    if given.plan is not None:
        given.plan.check(labelled)
    _check_options(spec, labelled.target)
    modality = MODALITIES[labelled.dataset.task]
    may = Access(spec.offline, spec.allow_code, spec.allow)
    place = choose_device(spec.device)
    deadline.feel()
    deadline.ring_at(UNWINDING * deadline.slowness, "")
    named = wanted_engine(spec.engine, spec.precision, place)
    if given.model == ANY_NETWORK:
        from regraft.jobs.race import raced

        name, recorder = raced(spec, labelled, recorder_of, start)
        given, recorder_of = Arguments(given.data, given.test, name, given.preprocessing, given.plan), lambda: recorder
    steps = written_steps(spec.recipe, spec.remove, spec.replace, spec.insert, spec.resize_input, spec.lora, spec.rank, spec.at)
    network = given_network(given.model, labelled.dataset.task, given.preprocessing, steps, may)
    # a climb begins with the head; where a recipe says itself what trains, there is nothing to choose
    train = "head" if spec.train == AUTO else spec.train
    kept = keep_output_layer(network) if rung_of(train).name == AS_IT_IS else None
    network = kept.given if kept else network
    deeper = plan_deeper(network.base, network.edited, train, setting_values(spec.settings), labelled.target, modality)
    if deeper is not None and deeper.rung.name == CONTRASTIVE:
        check_contrastive(deeper, labelled.target)
    augmenting = plan_views(spec if train == spec.train else replace(spec, train=train), modality, deeper)
    trackers = loaded(spec)
    recorder = recorder_of()
    path = recorder.path
    try:
        fit = _Fit(spec, labelled, modality, network, deeper, kept, augmenting, named, place, recorder, start, given.plan)
        with tracked(trackers, spec, recorder):
            run = fit()
            if not deadline.bound or deadline.left > REPORTING * deadline.slowness:
                _leave_page(run, labelled.part(TRAIN)[0], recorder)
            return run
    except KeyboardInterrupt:
        raise Interrupted(str(path), best=(path / BUNDLE).is_dir()) from None
    except WriteError as error:
        raise WriteError(error.found, expected=error.expected, move=f"{error.move}; then: regraft resume {path}") from None
    finally:
        recorder.folder.close()


def _leave_page(run: Run, examples: Sequence[Example], recorder: Recorder) -> None:
    """Write the page of a run that is whole already: whatever stands in its way is said, and takes nothing from the run."""
    try:
        write_report(run.path, examples)
    except Exception as error:  # a full disk, or a fault of the page
        found = error.found if isinstance(error, RegraftError) else f"{type(error).__name__}: {error}"
        recorder.emit(Warned(f"the page of the run was not written: {found}. The run is whole; regraft report {run.path} tries again"))


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
    given: Given
    deeper: Deeper | None
    kept: Kept | None
    augmenting: Augmenting | None
    named: Engine | None
    """The engine that was asked for."""
    device: str
    recorder: Recorder
    start: float
    plan: Followed | None = None
    over_head: Figure | None = None
    """What the model that ships gains over the linear head, where it is another one."""

    @property
    def facts(self) -> ModelFacts:
        """The network's, after changes."""
        return self.given.facts

    @property
    def edited(self) -> Edited | None:
        """How the network was changed."""
        return self.given.edited

    @property
    def climbs(self) -> bool:
        """Whether what is trained is chosen on the way."""
        return self.spec.train == AUTO and self.deeper is None

    @property
    def rung(self) -> str:
        """What is trained: as it was asked for, or as the recipe says."""
        return AUTO if self.climbs else self.deeper.rung.name if self.deeper else rung_of(self.spec.train).name

    def __call__(self) -> Run:
        self.emit, self.decide = self.recorder.emit, self.recorder.decide
        spec, facts = self.spec, self.facts
        self.dataset, self.target = self.labelled.dataset, self.labelled.target
        self.threads = spec.threads or self.recorder.held_decision("threads") or core_count()
        self._say_what_was_found()
        self.decide(
            task=self.dataset.task,
            target=self.target.name,
            labels=self.target.outputs,
            model=facts.name,
            **({"repository": facts.repository, "revision": facts.revision} if facts.repository else {}),
            train=self.rung,
            **({"recipe": self.edited.steps, "patch": self.edited.patch} if self.edited and self.edited.steps else {}),
            device=self.device,
            threads=self.threads,
            versions=versions(),
            **self.dataset.decisions,
        )
        expected = Expected.of(spec, self.labelled, self.plan, facts.name, self.device, self.threads, self.recorder)
        self.ship = Shipping(spec, facts, self.edited, self.target, expected, self.device, self.recorder, self.start)
        with computing_threads(self.threads):
            return self._compute()

    def _compute(self) -> Run:
        spec = self.spec
        examples, values = both_parts(self.labelled)
        backbone = self._backbone()
        more = len(self.labelled.part(TRAIN)[0]) * self.augmenting.extra if self.augmenting else 0
        network = FrozenPass.over(
            examples, self.facts, backbone, self.named, spec.precision, self.device, self.threads, spec.store, self.recorder, more
        )
        metric = spec.metric or self.target.metrics[0]
        network.try_before(self.labelled, metric, spec.seed, balance=spec.balance)
        below = self.deeper is not None and not self.deeper.on_features
        rounds = rounds_for(self.recorder, self.labelled, examples, values, spec.seed, self.facts, self.threads, deeper=below)
        extracted = network(examples, rounds)
        left_out = [*self.dataset.left_out, *extracted.left_out]
        check_losses(left_out, len(extracted.kept), self.modality, strict=spec.strict, emit=self.emit)
        say_notes(extracted.notes, len(extracted.kept), self.emit)
        usable = [examples[i] for i in extracted.kept]
        held = self.recorder.held_decision("near_duplicates")
        near = find_near(usable, extracted, self.modality, self.emit, held, self.recorder.deadline)
        self.decide(near_duplicates=near.to_json())
        parts = near.bind(divide(self.labelled, examples, values, extracted, self.emit), usable, extracted.identities, self.emit)
        validation = Validation.of(self.target, metric, parts, spec.seed, balance=spec.balance, emit=self.emit, device=self.device)
        self.decide(**{DATA: _known_by(parts, validation, extracted.identities, len(left_out))})
        validation, strengths = study_in_time(self.recorder, validation, extracted.features)
        rung = self.rung if self.deeper is None and not self.climbs else "head"
        linear = Linear(
            rung, self.facts, backbone, self.modality, network, usable, extracted, validation, strengths, self.augmenting, self.recorder
        )
        linear.fit()
        head, validation = linear.head(), linear.validation
        if self.kept is not None:
            bare = linear.without_network()
            model, output_map = as_it_is(self.kept, head, extracted.features, validation, self.recorder)
            return self.ship(model, None, bare, validation, left_out, more={"output_map": output_map})
        if self.deeper is not None or self.climbs or self.recorder.deadline.bound:
            linear.keep()
        bare = linear.without_network()
        if self.climbs:
            return self._climb(linear, head, bare, left_out)
        if self.deeper is None:
            return self.ship(tempered(head, validation, self.decide, self.emit), None, bare, validation, left_out)
        deadline = self.recorder.deadline
        try:
            if held := self.recorder.held_decision("below_head"):
                raise OutOfTime(held["reason"])
            deadline.ring_at(finishing(self.recorder), "")
            return self._below_head(self.deeper, linear, head, bare, left_out)
        except OutOfTime as late:
            deadline.silence()
            reason = late.reason or f"the time was over at: {self.recorder.stage or 'preparing it'}"
            return self._head_in_time(self.deeper.rung.name, reason, head, bare, validation, left_out)

    def _climb(self, linear: Linear, head: Candidate, bare: Bare, left_out: Sequence[LeftOut]) -> Run:
        """Train what is worth it, from the head on, and ship the best."""
        extracted, network, validation = linear.extracted, linear.network, linear.validation
        expecting = Expecting(
            self.given,
            self.spec,
            self.labelled,
            linear.usable,
            extracted.features,
            validation,
            linear.probe,
            bare.probe.out_of_fold,
            network.frozen,
            network.chosen.engine,
            network.chosen.plain,
            extracted.computed,
            extracted.seconds,
            linear.seen,
            self.device,
            self.threads,
            self.recorder,
        )
        found = Climb(expecting, head, lambda deeper, recorder: self._train_deeper(deeper, linear, recorder))()
        self.recorder.deadline.silence()
        chosen = tempered(head, validation, self.decide, self.emit) if found.candidate is head else found.candidate
        return self.ship(chosen, None, bare, validation, left_out, found.over_head, found.result)

    def _below_head(self, deeper: Deeper, linear: Linear, head: Candidate, bare: Bare, left_out: Sequence[LeftOut]) -> Run:
        validation = linear.validation
        trained = self._train_deeper(deeper, linear, self.recorder)
        try:
            if isinstance(trained, TunedEncoder):
                candidate = trained.candidate(validation)
            else:
                candidate = trained_candidate(trained, validation, head.engine, head.features)
            chosen, passed_over = self._choose(candidate, head, validation, own_head=not deeper.whole.plain)
            if passed_over:
                # what is left to do with the head takes no time, and must not be done twice
                self.recorder.deadline.silence()
            chosen = tempered(chosen, validation, self.decide, self.emit)
            return self.ship(chosen, passed_over, bare, validation, left_out, self.over_head)
        finally:
            trained.close()

    def _head_in_time(
        self, rung: str, reason: str, head: Candidate, bare: Bare, validation: Validation, left_out: Sequence[LeftOut]
    ) -> Run:
        """The linear head ships, because what was asked for does not fit into the budget."""
        self.recorder.anew("ships", "temperature", "wise")
        self.decide(below_head={"trained": False, "reason": reason})
        self.over_head, deadline = None, self.recorder.deadline
        deadline.more["rung"] = f"--train {rung}"
        self.emit(Warned(f"nothing below the head is trained within the budget of {deadline.text}: {reason}. The linear head is kept"))
        head = tempered(head, validation, self.decide, self.emit)
        return self.ship(head, PassedOver(rung, f"it did not fit into the budget: {reason}"), bare, validation, left_out)

    def _choose(
        self, candidate: Candidate, head: Candidate, validation: Validation, *, own_head: bool
    ) -> tuple[Candidate, PassedOver | None]:
        """What ships: what was trained, but for the linear head where that is clearly better on the same held-out examples. A head of
        one's own ships in any case: it was asked for as a network, not as a way to train one.
        """
        gain = validation.gain(validation.judge(candidate.held_out), head.held_out)
        reason = "" if own_head else head_stays(gain, self.target, better=self.recorder.deadline.bound)
        self.decide(ships=head.rung if reason else candidate.rung)
        if not reason:
            self.over_head = gain
            if said := against_head(gain, self.target):
                self.emit(Warned(said))
            return candidate, None
        self.emit(Warned(f"the linear head is kept (--train head): {reason}"))
        return head, PassedOver(candidate.rung, reason, gain)

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

    def _backbone(self) -> Mapping[str, Tensor]:
        """The network's weights without its output layer."""
        if self.edited:
            return self.edited.weights
        return self.deeper.backbone if self.deeper else source_of(self.facts).weights(self.facts)

    def _train_deeper(self, deeper: Deeper, linear: Linear, recorder: Recorder) -> Trained | TunedEncoder:
        """Train below the linear layer, from its solution on, and record it."""
        from regraft.training.losses import LOSSES

        validation, start = linear.validation, linear.probe
        parts = validation.parts
        work = Work(
            features=linear.extracted.features,
            examples=linear.usable,
            train=parts.train,
            values=parts.y,
            weights=validation.weights,
            folds=validation.folds,
            loss=LOSSES[self.target.loss],
            starts=[*start.fold_layers, (start.weight, start.bias)],
            validation=validation,
            head_held_out=start.out_of_fold,
            seed=self.spec.seed,
            device=self.device,
            workers=max(2, self.threads),
            recorder=recorder,
            keep=self.spec.store,
            engine=linear.network.chosen.plain,
            seen=linear.seen,
        )
        if deeper.rung.name == CONTRASTIVE:
            return train_contrastive(deeper, work, start, self.spec.precision)
        return train_deeper(deeper, work)


def against_head(gain: Figure, target: Target) -> str:
    """What to say when deeper training does not clearly beat the output layer alone; nothing when it does."""
    if gain.low > 0:
        return ""
    worse = "worse than" if gain.high < 0 else "not clearly better than"
    return f"what was trained is {worse} a linear output layer alone (--train head): {target.difference(gain)}"


def head_stays(gain: Figure, target: Target, *, better: bool = False) -> str:
    """Why the linear head ships in place of what was trained below it: that is clearly worse. Empty when it is not. With `better`, being
    worse in the mean is enough: under a budget a bundle is replaced only by a better one.
    """
    worse = (gain.value if better else gain.high) < 0
    return f"what was trained is worse on the same held-out examples: {target.difference(gain)}" if worse else ""


def _known_by(parts: Parts, validation: Validation, contents: Sequence[bytes], left_out: int) -> dict[str, Any]:
    """What tells one data set from another: counts, and a hash of contents, values, folds and weights in their order."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    for array in (parts.y, parts.y_test, validation.folds, validation.weights):
        digest.update(str((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes())
    return {"train": len(parts.train), "test": len(parts.test), "left_out": left_out, "sha256": digest.hexdigest()}


def _name_of(source: Path) -> str:
    """What a run of this data is called."""
    whole = source.resolve()
    return whole.name if whole.is_dir() else whole.stem
