"""What the features of a finished run say besides, for its page: the learning curve, and what each depth of the network is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from regraft.data.base import TRAIN, Example
from regraft.errors import RegraftError, UsageError
from regraft.events import Done, Emit, Event, Progress, Said, Started, Warned, silent
from regraft.jobs.common import choose_device, computing_threads, core_count
from regraft.jobs.depths import DeepNetwork
from regraft.jobs.engines import held_engine, reference_engine
from regraft.jobs.evidence import ERROR_NAMES
from regraft.jobs.frozen import Frozen, frozen_pretrained
from regraft.jobs.growing import Seen
from regraft.jobs.labelled import Labelled
from regraft.jobs.near import Near
from regraft.jobs.network import given_network, written_steps
from regraft.jobs.parts import divide, nested, rows_at
from regraft.jobs.profile import compared, figures_of, judged_at, without_network
from regraft.jobs.validation import Validation
from regraft.modality import MODALITIES
from regraft.pretrained import Access, source_of
from regraft.spec import FitSpec
from regraft.strategy.cost import probe_seconds
from regraft.strategy.rules import strengths_for
from regraft.workspace.store import Spaces, Store

MOST, DEEP = 2000, 500
"""Training examples that a learning curve and a depth profile are made from, at most."""

FEW = 60
"""Examples of which the features of all depths are needed, at least."""

PATIENCE = 20.0
"""Seconds of fits that are made without being asked for."""

FITS = 6
"""A learning curve costs about as much as so many heads."""


class Missing(UsageError):
    """A section that needs more than the store holds."""


@dataclass(frozen=True)
class LookingBack:
    """A run looked at again; `recipe` are the changes that its network has gone through. With `full` what is missing is made: the network
    runs again. Without it nothing does.
    """

    spec: FitSpec
    labelled: Labelled
    decisions: Mapping[str, Any]
    recipe: Sequence[Any]
    full: bool
    emit: Emit

    def __call__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(the learning curve, the depth profile), as plain data; empty where one cannot be made, which is said."""
        with computing_threads(self.threads):
            return self._part("learning curve", self.curve), self._part("depth profile", self.profile)

    @property
    def threads(self) -> int:
        """For computing."""
        return self.spec.threads or core_count()

    def _part(self, name: str, make: Any) -> dict[str, Any]:
        try:
            return make()
        except Missing as error:
            self.emit(Said(f"no {name} on the page: {error.found}; --full makes it"))
        except RegraftError as error:
            self.emit(Warned(f"no {name} on the page: {error.found}"))
        return {}

    def _given(self) -> Any:
        spec = self.spec
        steps = written_steps(spec.recipe, spec.remove, spec.replace, spec.insert, spec.resize_input, spec.lora, spec.rank, spec.at)
        if steps and not self.full:
            raise Missing("the network was changed and would have to be opened")
        if self.recipe and not steps:
            raise UsageError("the run's network was changed in memory, before it was given")
        may = Access(spec.offline or not self.full, spec.allow_code, spec.allow)
        return given_network(spec.model or self.decisions.get("model"), self.labelled.dataset.task, None, steps, may)

    def _chosen(self) -> list[int]:
        """Places among the training examples, of each label about the same part."""
        return nested(self.labelled, self.spec.seed)[:MOST]

    def _stored(self, makers: Sequence[Mapping[str, Any]], examples: Sequence[Example]) -> list[int]:
        """Which of the examples have features of all these makers."""
        spaces = [Store().held(maker) for maker in makers]
        modality, found = MODALITIES[self.labelled.dataset.task], list[int]()
        if any(space is None for space in spaces):
            return found
        for k, example in enumerate(examples):
            with suppress(Exception):  # an example that is broken now as it was then, or gone, is not there
                identity = modality.load(example.source).identity
                if all(space is not None and identity in space for space in spaces):
                    found.append(k)
        return found

    def _validated(self, frozen: Frozen, engine: Any, places: Sequence[int], stage: str, into: Spaces | None = None) -> Any:
        """(the pass, its validation) over training examples; near-duplicates share a fold, as in the run."""
        train, values = self.labelled.part(TRAIN)
        examples = [train[k] for k in places]
        device = choose_device(self.spec.device)
        extracted = frozen.run(
            examples, device, self.threads, engine, keep=True, summaries=True, emit=_quieter(self.emit), stage=stage, into=into
        )
        frozen.let_go()
        parts = divide(self.labelled, examples, [values[k] for k in places], extracted, silent)
        groups = tuple(tuple(map(bytes.fromhex, group)) for group in self.decisions.get("near_duplicates") or ())
        parts = Near(groups).bind(parts, [examples[k] for k in extracted.kept], extracted.identities, silent)
        metric = self.spec.metric or self.labelled.target.metrics[0]
        return extracted, Validation.of(self.labelled.target, metric, parts, self.spec.seed, balance=self.spec.balance, emit=silent)

    def curve(self) -> dict[str, Any]:
        """The learning curve of a linear layer on the run's features."""
        given, target = self._given(), self.labelled.target
        facts = given.facts
        frozen = frozen_pretrained(facts, lambda: given.edited.weights if given.edited else source_of(facts).weights(facts))
        device, places = choose_device(self.spec.device), self._chosen()
        engine = held_engine(self.decisions["engine"], device).engine if self.decisions.get("engine") else reference_engine()
        train = self.labelled.part(TRAIN)[0]
        there = self._stored([frozen.maker(device, engine)], [train[k] for k in places])
        if not self.full:
            if len(there) < 0.9 * len(places):
                raise Missing(f"the features of {len(there):,} of {len(places):,} training examples are in the store")
            if (seconds := FITS * probe_seconds(len(there), facts.features, len(target.outputs), nested=False)) > PATIENCE:
                raise Missing(f"its fits would take about {seconds:.0f} s")
            places = [places[k] for k in there]
        extracted, validation = self._validated(frozen, engine, places, "features")
        rows = rows_at(extracted.features, validation.parts.train)
        probe = validation.probe("learning curve", rows, strengths_for(target.loss), silent, nested=False)
        found = Seen(validation, rows, probe).curve().to_json()
        nouns = MODALITIES[self.labelled.dataset.task].nouns
        return {**found, "error_name": ERROR_NAMES[target.name], "nouns": nouns}

    def profile(self) -> dict[str, Any]:
        """What a linear head is worth at each depth."""
        given = self._given()
        deep = DeepNetwork.of(given) if self.full else DeepNetwork.known(given)
        if deep is None:
            raise Missing("the depths of the network were not looked for yet")
        if len(deep.places) < 2:
            raise UsageError("the network has one depth only")
        device, engine = choose_device(self.spec.device), reference_engine()
        train, places = self.labelled.part(TRAIN)[0], self._chosen()
        if not self.full:
            makers = [frozen_pretrained(deep.facts(p), dict).maker(device, engine) for p in deep.places]
            there = self._stored(makers, [train[k] for k in places])
            if len(there) < min(FEW, len(places)):
                raise Missing("the features of its earlier depths are not in the store")
            places = [places[k] for k in there]
        spaces = deep.spaces(device, engine, keep=True)
        extracted, validation = self._validated(deep.frozen(), engine, places[:DEEP], "depths", spaces)
        judged, strengths = judged_at(validation, deep, spaces.spaces, extracted, silent)
        bare = without_network(validation, extracted, MODALITIES[self.labelled.dataset.task], silent)
        figures = figures_of(validation, validation.judge(bare, judged[-1].places))
        found = compared(validation, deep, judged, strengths)
        return {**found, "model": given.facts.name, "n": len(validation.folds), "baseline": {"without_network": {"metrics": figures}}}


def _quieter(emit: Emit) -> Emit:
    """How far it is, and warnings."""

    def heard(event: Event) -> None:
        if isinstance(event, (Started, Progress, Warned)) or isinstance(event, Done) and event.seconds > 5:
            emit(event)

    return heard
