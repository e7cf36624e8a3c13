"""What each rung is expected to give and to cost with a network and data, before it is trained: for a plan, and for a fit that climbs.

In comes what was measured: a head, the pace of the pass, a few timed steps. Out go options of a plan and prospects of a climb. Nothing here
chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from regraft.data.base import TRAIN
from regraft.errors import RegraftError, UsageError
from regraft.events import Emit, Warned
from regraft.jobs.calibrate import (
    CUTTING,
    Known,
    Sample,
    batch_to_time,
    guessed,
    saved_of,
    seconds_to_time,
    timed,
    untimed,
    usual_settings,
)
from regraft.jobs.labelled import Labelled
from regraft.jobs.network import Given
from regraft.jobs.planned import OTHER
from regraft.jobs.remembered import old_outputs
from regraft.jobs.work import Deeper, plan_deeper
from regraft.modality import MODALITIES
from regraft.pretrained.catalogue import entry_of
from regraft.strategy.budget import LEAST_STEPS
from regraft.strategy.contrastive import contrast_for, in_smaller_steps
from regraft.strategy.cost import (
    Amount,
    Held,
    Pace,
    Range,
    contrastive_stages,
    deeper_disk,
    deeper_memory,
    deeper_stages,
    engines_memory,
    head_disk,
    head_memory,
    head_stages,
    stored_memory,
    total,
)
from regraft.strategy.gains import Expected, Gain, Grown, gain_of, on_new
from regraft.strategy.ladder import IN_WORDS, PARTS, Prospect, Standing, Way, most_promising
from regraft.strategy.outcomes import Outcome, corrected, memory_ratios, ratios, stage_of
from regraft.strategy.plan import Option
from regraft.strategy.rungs import rung_of
from regraft.strategy.settings import precision_for

LADDER = ("none", "head", "norm", "top=1", "top=2", "contrastive", "full")
"""What is planned and climbed, from the fewest changes."""

TIMED = ("full", "top=1", "norm", "top=2")
"""The rungs whose steps are timed, as long as there is time, in this order: from the first two the others can be told."""

FEW_TEXTS = (2, 100, 2000)
"""Examples a class, least and most, and of all, for which few-shot training is planned (docs/rungs.md)."""


@dataclass(frozen=True)
class Ground:
    """What predictions for one network and one data set stand on.

    `grown` is what a linear head is expected to give on all training examples, and why; `judged` what one gave on the `seen` ones, in the
    target's first metric; `near` how near the data is to what the network knows; `rungs` what was timed of each, `outcomes` what came of
    earlier predictions here.
    """

    given: Given
    labelled: Labelled
    device: str
    outcomes: Sequence[Outcome]
    amount: Amount
    pace: Pace
    held: Held
    rungs: Mapping[str, Known]
    grown: Grown
    seen: int
    judged: float
    near: str

    @property
    def metric(self) -> str:
        """The figure that predictions are of."""
        return self.labelled.target.metrics[0]

    @property
    def head(self) -> Expected:
        """What a linear head is expected to give where it is cross-validated on all training examples, on the scale of gains."""
        return self.grown.expected

    @property
    def per_class(self) -> float:
        """Training examples a class; of what has none all."""
        return self.amount.train / max(1, self.amount.outputs)

    def options(self, budget: float | None = None) -> list[Option]:
        """What a fit from its beginning could do. Of training below the head, which fits itself into a budget of seconds, the part of it
        that fits; the whole where none does.
        """
        found = [self._option(train, budget) for train in LADDER]
        return [option for option in found if option is not None]

    def prospects(self) -> list[Prospect]:
        """What a fit that has its head could train next, each with what it costs from here on."""
        return [self._prospect(train) for train in LADDER if train in self.rungs]

    def _option(self, train: str, budget: float | None) -> Option | None:
        facts, amount, pace = self.given.facts, self.amount, self.pace
        parameters = facts.parameters + (amount.width + 1) * amount.outputs
        if train == "head":
            reasons = [f"a head on {self.seen:,} examples, cross-validated: {self.metric} {self.judged:.3f}"]
            reasons += [self.grown.why] if self.grown.why else []
            memory = self._head_memory() if amount.missing else stored_memory(amount, self.held, facts.task)
            disk = head_disk(amount, parameters)
            counts = (parameters, (amount.width + 1) * amount.outputs)
            return self._put(train, None, head_stages(amount, pace), memory, disk, counts, reasons)
        if train == "none":
            return self._as_it_is(parameters)
        if train not in self.rungs:
            return None
        one = self.rungs[train].timed
        gain, head = self._gain(train), head_stages(amount, pace)
        counts = (one.body.parameters, one.body.trained)
        reasons = [gain.why, self._cost_reason(train)]

        def put(stages: Mapping[str, Range], gain: Gain) -> Option:
            return self._put(train, gain, {**head, **stages}, self._memory(train), deeper_disk(amount, one.body), counts, reasons)

        whole = put(self._stages(train), gain)
        if budget is None or whole.seconds.high <= budget:
            return whole
        for way in reversed(self._ways(train)):
            less = replace(gain, expected=way.gained(gain.expected))
            part = put(self._stages(train, way.folds, way.share), less)
            if part.seconds.high <= budget:
                folds = f"judged in {way.folds} of {amount.folds} folds"
                short = folds if way.share == 1 else f"{IN_WORDS[way.share]} of its training, {folds}"
                return replace(part, short=short, whole=whole.seconds)
        return whole

    def _ways(self, train: str) -> list[Way]:
        """The ways to train a rung, on top of the head, from the shortest to the whole schedule in as many folds as are trained at all."""
        ways = [self._way(train, share, 1) for share in PARTS if self._can_be(train, share)]
        for folds in range(2, self.amount.folds + 1):
            way = self._way(train, 1.0, folds)
            if way.seconds == ways[-1].seconds:
                break  # more are not trained anyway
            ways.append(way)
        return ways

    def _prospect(self, train: str) -> Prospect:
        gain, ways = self._gain(train), self._ways(train)
        whole = self._told(self._stages(train))
        memory = self._memory(train)
        raw = {
            "stages": {name: float(f"{r.value:.4g}") for name, r in whole.items() if name != OTHER},
            "memory": round(memory.value, 1),
            "figure": round(self.head.mean + gain.rule, 4),
        }
        memory = corrected(memory, memory_ratios(self.outcomes, deeper=True, device=self._device))
        return Prospect(train, LADDER.index(train), gain.expected, tuple(ways), memory, (gain.why, self._cost_reason(train)), raw)

    def _way(self, train: str, share: float, folds: int) -> Way:
        return Way(share, folds, total(self._corrected(self._told(self._stages(train, folds, share))).values()))

    def _can_be(self, train: str, share: float) -> bool:
        """Whether a rung can be trained with so much of its work: fewer steps, or by contrast smaller ones."""
        if train == "contrastive":
            contrast = contrast_for(self.amount.train, self.rungs[train].timed.length)
            while contrast is not None and share < 1:
                contrast, share = in_smaller_steps(contrast), 2 * share
            return contrast is not None
        steps = self.rungs[train].settings.steps(self.amount.train)
        return share * steps >= min(LEAST_STEPS, steps)

    def _gain(self, train: str) -> Gain:
        model = self.given.facts.name
        return gain_of(train, self.per_class, self.near, self.outcomes, self.metric, self.labelled.dataset.task, model=model)

    def _stages(self, train: str, most: int | None = None, share: float = 1.0) -> dict[str, Range]:
        """What a rung below the head takes on top of the head, in at most so many folds and with a share of its training."""
        one, settings = self.rungs[train].timed, self.rungs[train].settings
        if train == "contrastive":
            return contrastive_stages(self.amount, self.pace, one.body, contrast_for(self.amount.train, one.length), most, share)
        precision = precision_for(one.body.step, one.body.rounded) if one.body.step and one.body.rounded else "fp32"
        return deeper_stages(self.amount, self.pace, one.body, settings, precision, most, share)

    def _head_memory(self) -> Range:
        more = engines_memory(self.given.facts.task, self.amount, self.pace.example)
        return head_memory(self.amount, self.held, self.seen, more)

    def _memory(self, train: str) -> Range:
        return deeper_memory(self.amount, self.held, self.seen, self.rungs[train].timed.body, self.rungs[train].settings.batch)

    def _as_it_is(self, parameters: int) -> Option | None:
        """The network's own output layer, where it has one."""
        facts, target = self.given.facts, self.labelled.target
        old = None if self.given.edited is not None else old_outputs(facts, target)
        if old is None:
            return None
        outputs, named = old
        gain = self._gain("none, by name" if named else "none")
        amount = replace(self.amount, width=outputs, missing=self.amount.examples)
        memory = head_memory(amount, self.held, self.seen)
        counts = (parameters + facts.features * outputs, 0 if named else (outputs + 1) * amount.outputs)
        disk = head_disk(amount, counts[0])
        return self._put("none", gain, head_stages(amount, self.pace), memory, disk, counts, [gain.why])

    def _cost_reason(self, train: str) -> str:
        known = self.rungs[train]
        body = known.timed.body
        what = "no step was timed: seconds are from multiply-adds" if body.step is None else f"a step takes {body.step:.2g} s"
        how = "timed here" if known.measured else "the part that trains, against the whole network's multiply-adds"
        saved = f"; {body.saved:.0%} of the work runs once" if body.saved else "; nothing runs once"
        return f"{what} ({how}){saved}"

    @property
    def _device(self) -> str:
        return self.device.partition(":")[0]

    def _told(self, stages: Mapping[str, Range]) -> dict[str, Range]:
        """Stages that events tell of by their own names, and the others together."""
        told = {name: r for name, r in stages.items() if stage_of(name) or name == "training"}
        return {**told, OTHER: total(r for name, r in stages.items() if name not in told)}

    def _corrected(self, told: Mapping[str, Range]) -> dict[str, Range]:
        """After what came of earlier predictions."""
        return {name: corrected(r, ratios(self.outcomes, name, self._device)) for name, r in told.items()}

    def _put(
        self,
        train: str,
        gain: Gain | None,
        stages: Mapping[str, Range],
        memory: Range,
        disk: float,
        counts: tuple[int, int],
        reasons: Sequence[str],
    ) -> Option:
        """An option, after what came of earlier ones."""
        facts = self.given.facts
        head = on_new(self.metric, self.head, self.amount.train, self.amount.folds)
        expected = head.plus(gain.expected) if gain else head
        told = self._told(stages)
        after = self._corrected(told)
        entry = entry_of(facts)
        latency = next((k.timed.latency for k in self.rungs.values() if k.timed.latency), None)
        raw = {
            "stages": {name: float(f"{r.value:.4g}") for name, r in told.items()},
            "memory": round(memory.value, 1),
            "figure": round(self.head.mean + (gain.rule if gain else 0.0), 4),
        }
        return Option(
            model=facts.name,
            train=train,
            order=LADDER.index(train),
            figure=expected.figure(self.metric),
            seconds=total(after.values()),
            memory=corrected(memory, memory_ratios(self.outcomes, deeper=train not in ("none", "head"), device=self._device)),
            disk=disk,
            parameters=counts[0],
            trained=counts[1],
            licence=facts.licence,
            licence_kind=entry.licence_kind,
            latency=latency,
            stages=after,
            reasons=tuple(reasons),
            raw=raw,
        )


def calibrated(
    deeper: dict[str, Deeper],
    sample: Sample,
    before: Mapping[str, Known],
    pace: Pace,
    left: Callable[[], float],
    examples: int,
    emit: Emit,
    *,
    bound: bool,
    order: Sequence[str] = TIMED,
) -> tuple[dict[str, Known], bool]:
    """(what is known of every rung, timed as far as there is time `left`, in this order, or from `before`; whether those that the others
    are told from were timed). Without a bound those two are timed in any case. A rung that cannot be trained is taken out of `deeper`.
    """
    settings = {rung: usual_settings(one, examples) for rung, one in deeper.items()}
    times = {rung: k.timed for rung, k in before.items() if k.measured and rung in TIMED and rung in deeper}
    few = len(sample.examples)
    # where something is known already, the rungs that the others are told from are enough
    for number, rung in enumerate(r for r in (order[:2] if times else order) if r in deeper and r not in times):
        batch = min(batch_to_time(pace.example, max(0.0, left()), 32), settings[rung].batch)
        cost = CUTTING * bool(number) + seconds_to_time(pace.example, batch, few)
        if cost > left() and (bound or rung not in TIMED[:2]):
            break
        try:
            times[rung] = timed(deeper[rung], sample, settings[rung], examples, batch, rounded=left() > 12 * batch * pace.example)
        except Exception as error:  # a network may do anything in training: the other rungs can still be planned
            said = error.found if isinstance(error, RegraftError) else next(iter(str(error).splitlines()), type(error).__name__)
            emit(Warned(f"--train {rung} is left out: {said}"))
            del deeper[rung]
    complete = all(rung in times or rung not in deeper for rung in TIMED[:2])
    if "full" not in deeper:
        return {rung: Known(one, True, settings[rung]) for rung, one in times.items()}, complete
    whole = times.get("full") or untimed(deeper["full"], pace.example)
    found: dict[str, Known] = {}
    for rung, one in deeper.items():
        name = "full" if rung == "contrastive" else rung
        told = times.get(name) or (whole if name == "full" else guessed(one, whole, saved_of(one)))
        found[rung] = Known(told, name in times, settings[rung])
    return found, complete


def hopeless(prospects: Sequence[Prospect], metric: str, judged: float) -> bool:
    """Whether none of what was not looked at is expected to be worth any time, over a head that gave `judged`."""
    return most_promising(prospects, Standing(metric, judged)) is None


def unlooked(labelled: Labelled, model: str, examples: int, near: str, outcomes: Sequence[Outcome]) -> list[Prospect]:
    """What rungs are expected to gain over a head on so many examples, by the rules alone: what each takes is not known."""
    each, metric, task = examples / max(1, len(labelled.target.outputs)), labelled.target.metrics[0], labelled.dataset.task
    names = [train for train in LADDER[2:] if train != "contrastive" or few_texts(labelled)]
    gains = {train: gain_of(train, each, near, outcomes, metric, task, model=model) for train in names}
    return [Prospect(t, LADDER.index(t), g.expected, (), Range(0.0, 0.0, 0.0), (g.why,)) for t, g in gains.items()]


def rungs_of(given: Given, labelled: Labelled) -> dict[str, Deeper]:
    """The networks of the rungs below the head, ready to train, which share their layers; those that mean nothing here are not there."""
    whole = plan_deeper(given.base, given.edited, "full", {}, labelled.target, MODALITIES[labelled.dataset.task])
    assert whole is not None
    found: dict[str, Deeper] = {}
    for train in LADDER[2:]:
        if train == "contrastive" and not few_texts(labelled):
            continue
        rung = rung_of(train)
        try:
            net = whole.whole.net.train_only(rung.trains, "head")
        except UsageError:
            continue  # a network without normalisation, or of fewer blocks
        found[train] = replace(whole, rung=rung, whole=replace(whole.whole, net=net))
    return found


def few_texts(labelled: Labelled) -> bool:
    """Whether few-shot training means something here."""
    least, most, every = FEW_TEXTS
    train = len(labelled.part(TRAIN)[0])
    each = train / max(1, len(labelled.target.outputs))
    return labelled.dataset.task == "text" and labelled.target.name == "class" and least <= each <= most and train <= every
