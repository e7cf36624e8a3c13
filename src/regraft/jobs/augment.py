"""Views of training examples in a fit: by which augmentations, how many, and what their features are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from regraft.deadline import OutOfTime
from regraft.errors import UsageError
from regraft.events import Said, Warned
from regraft.facts import Figure
from regraft.jobs.frozen_pass import FrozenPass
from regraft.jobs.pacing import finishing
from regraft.jobs.parts import rows_at
from regraft.jobs.validation import Validation
from regraft.jobs.work import Deeper
from regraft.modality import Augmentation, Modality, Views, augmentations_of
from regraft.spec import FRESH, MOST_VIEWS, FitSpec, refuse
from regraft.strategy.augment import asked_for, harmful, tried_places
from regraft.strategy.budget import views_within
from regraft.strategy.rungs import AS_IT_IS, CONTRASTIVE, rung_of
from regraft.targets import Target

if TYPE_CHECKING:
    from regraft.training.probe import Probe


@dataclass(frozen=True)
class Augmenting:
    """Views as they were asked for: by which augmentations and how many, the plain one among them; 0: another one in every epoch.
    `checked`: whether an augmentation that can change what an example is has to be tried first.
    """

    kinds: tuple[Augmentation, ...]
    count: int
    checked: bool
    seed: int

    @property
    def extra(self) -> int:
        """How many more views of a training example go through the frozen part at once."""
        return max(0, self.count - 1)


@dataclass(frozen=True)
class Seen:
    """The views of a fit: how they are made and how many there are of each training example, the plain one among them; 0: another one in
    every epoch. `features` (count - 1, training examples, d) are those of all but the plain one.
    """

    views: Views
    count: int
    features: np.ndarray

    def rows(self, plain: np.ndarray) -> np.ndarray:
        """Features (count x n, d) of all views, those of the examples as they are, `plain` (n, d), first."""
        return np.concatenate([plain, *self.features])


def plan_views(spec: FitSpec, modality: Modality, deeper: Deeper | None) -> Augmenting | None:
    """What was asked for; None when examples are only seen as they are. UsageError for what cannot be had."""
    views = spec.views or (deeper.rung if deeper else rung_of(spec.train)).views or "1"
    if views == "1":
        if spec.augment not in ("auto", "none"):
            alone = f"--augment {spec.augment} changes nothing while there is only the plain view"
            raise UsageError(alone, expected=f"--views 2 to {MOST_VIEWS}, or {FRESH}", move="--views 4")
        return None
    if spec.augment == "none":
        raise UsageError(f"{views} views with --augment none would all be the same", move="--views 1")
    known = augmentations_of(modality.name)
    names, faults = asked_for(spec.augment, known, modality.nouns)
    refuse(faults)
    if views == FRESH and (deeper is None or deeper.on_features):
        raise UsageError(
            f"--views {FRESH} shows the network another view in every epoch, and a head alone is trained on what the network gave once",
            expected="a number of views, or a rung that trains below the head",
            move="--views 4, or --train top",
        )
    rung = rung_of(spec.train).name
    if rung in (AS_IT_IS, CONTRASTIVE):
        raise UsageError(f"--train {rung} reads the examples as they are", expected="--views 1", move="leave --views away")
    count = 0 if views == FRESH else int(views)
    return Augmenting(tuple(known[name] for name in names), count, spec.augment == "auto", spec.seed)


def see(asked: Augmenting, network: FrozenPass, probe: Probe, validation: Validation, features: np.ndarray) -> Seen | None:
    """The views of the training examples through the network. `probe` was fitted on the `features` of all usable examples. None when no
    augmentation is left.
    """
    recorder, modality = network.recorder, network.frozen.modality
    kinds: list[Augmentation] = []
    tried: dict[str, dict[str, object]] = {}
    for kind in asked.kinds:
        if asked.checked and kind.for_certain is not None:
            change, examples = _change(replace(kind, amounts=kind.for_certain), asked.seed, network, probe, validation, features)
            refused = harmful(change)
            tried[kind.name] = {"examples": examples, "change": change.to_json(), "used": not refused}
            recorder.emit(Said(_said(kind, change, examples, refused, validation.target, modality.nouns)))
            if refused:
                continue
        kinds.append(kind)
    views = Views(tuple(kinds), asked.seed)
    count = _views_in_time(asked, network, views, validation) if asked.count and kinds else asked.count
    recorder.decide(views={"count": count or FRESH, **views.to_json(), **({"tried": tried} if tried else {})})
    if not kinds:
        recorder.emit(Warned("no augmentation is left: examples are seen as they are"))
        return None
    if asked.count and count < 2:
        recorder.emit(Warned("examples are seen as they are: the budget leaves no time for views of them"))
        return None
    asked = replace(asked, count=count)
    numbers = range(1, asked.count)
    found = (
        network.of_views(validation.parts.examples, views, numbers, "augmented views") if asked.count else np.zeros((0, 0, 0), np.float32)
    )
    return Seen(views, asked.count, found)


def see_in_time(
    asked: Augmenting, network: FrozenPass, probe: Probe, validation: Validation, features: np.ndarray, keep: Callable[[], None]
) -> Seen | None:
    """The same; with a budget `keep` first puts a head on plain examples in safety, and what does not fit is left out and said."""
    recorder, deadline = network.recorder, network.recorder.deadline
    if not deadline.bound:
        return see(asked, network, probe, validation, features)
    keep()
    try:
        if recorder.held_decision("views_end"):
            raise OutOfTime("")
        deadline.ring_at(finishing(recorder), "")
        return see(asked, network, probe, validation, features)
    except OutOfTime:
        recorder.anew("views")
        recorder.decide(views_end="the time was over", views={"count": 1})
        deadline.more["views"] = "views of the examples"
        recorder.emit(Warned("examples are seen as they are: views of them did not fit into the budget"))
        return None
    finally:
        deadline.silence()


def _views_in_time(asked: Augmenting, network: FrozenPass, views: Views, validation: Validation) -> int:
    """How many of the views that were asked for fit into half of the time that is left; one of a few examples is timed."""
    recorder, examples = network.recorder, validation.parts.examples
    deadline = recorder.deadline
    held = recorder.held_decision("views")
    if held is not None or not deadline.bound:
        return held["count"] if held else asked.count
    some = examples[: 2 * network.frozen.tile]
    network.of_views(some, views, [1], "a view tried")
    begun = deadline.spent
    network.of_views(some, views, [2], "a view tried")
    count = views_within(deadline.left / 2, (deadline.spent - begun) / len(some), len(examples), asked.count)
    if count < asked.count:
        deadline.more["views"] = f"{asked.count} views of each example ({count} were used)"
    return count


def _change(
    kind: Augmentation, seed: int, network: FrozenPass, probe: Probe, validation: Validation, features: np.ndarray
) -> tuple[Figure, int]:
    """What held-out decisions change, and of how many examples, when these are changed by an augmentation: by the models without each fold,
    which have not seen the examples.
    """
    from regraft.artifacts import linear

    parts, target = validation.parts, validation.target
    judged = np.flatnonzero(validation.folds >= 0)
    places = judged[tried_places(len(judged))]
    (changed,) = network.of_views([parts.examples[k] for k in places], Views((kind,), seed), [1], f"{kind.name} tried")
    plain = rows_at(features, parts.train[places])
    layers = [linear(*layer) for layer in probe.fold_layers]

    def held(rows: np.ndarray) -> np.ndarray:
        scores = np.stack([layers[validation.folds[k]](row[None])[0] for row, k in zip(rows, places, strict=True)])
        out = np.full((len(parts.y), scores.shape[1]), np.nan)
        out[places] = target.link(scores)
        return out

    return validation.gain(validation.judge(held(changed), places), held(plain)), len(places)


def _said(kind: Augmentation, change: Figure, examples: int, refused: bool, target: Target, nouns: str) -> str:
    verdict = "it changes what they are and is left out" if refused else "it is used"
    return f"{kind.name} tried on {examples:,} {nouns} by models that had not seen them: {target.difference(change)}; {verdict}"


def views_said(seen: Seen, gain: Figure, target: Target) -> Said | Warned:
    """What a head that learnt from all views gains over one that learnt from the examples as they are."""
    names = ", ".join(kind.name for kind in seen.views.kinds)
    text = f"{seen.count} views of each training example ({names}): {target.difference(gain)} against the plain one alone"
    return Warned(f"{text}: it is worse") if gain.high < 0 else Said(text)
