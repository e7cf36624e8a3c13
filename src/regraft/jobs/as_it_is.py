"""A network as it is: its own output layer stays, and its classes say the user's labels, by name or by a linear map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.errors import UsageError
from regraft.events import Emit, Said
from regraft.jobs.candidates import Candidate
from regraft.jobs.network import Edited, Given
from regraft.jobs.parts import rows_at
from regraft.jobs.validation import Validation
from regraft.pretrained import source_of
from regraft.pretrained.architectures.published import described, joined
from regraft.strategy.naming import Matched, match_names

if TYPE_CHECKING:
    from regraft.jobs.recording import Recorder

NAMES, LINEAR = "names", "linear"
"""How labels are made of old classes."""

SHOWN = 10
"""Labels that a sentence names."""


@dataclass(frozen=True)
class Kept:
    """A network with its own output layer, whose features are the scores of its `classes` (empty: nobody knows what they are called)."""

    given: Given
    classes: tuple[str, ...]


def keep_output_layer(given: Given) -> Kept:
    """The network of a fit as it was published. UsageError when it has no classes of its own, or was changed."""
    facts = given.base
    if given.edited is not None and given.edited.steps:
        raise UsageError("--train none leaves the network as it is, and the recipe changes it", move="--train head")
    old = None if given.edited is not None else source_of(facts).old(facts)
    if old is None:
        raise UsageError(
            f"{facts.name} came without an output layer of its own: what it gives are {facts.features} features",
            expected="a network that says one class of several, such as efficientnet-lite0",
            move="--train head fits an output layer to its features",
        )
    kept = replace(facts, architecture=described(old.architecture, old.outputs), features=old.outputs)
    weights = {f"network.{name}": tensor.contiguous() for name, tensor in old.build().state_dict().items()}
    return Kept(Given(facts, Edited(kept, [], [], False, None, False, [], 0, weights)), old.labels)


def as_it_is(kept: Kept, linear: Candidate, features: np.ndarray, validation: Validation, recorder: Recorder) -> tuple[Candidate, Any]:
    """(the model, what a result says of it): old classes that are called what the labels are called, as long as there is one for each label
    and `linear`, a linear map on the scores of all old classes, is not clearly better on the same held-out examples.

    `features` are the scores (usable examples, old classes).
    """
    target = validation.target
    named = target.name == "class" and bool(kept.classes)
    matched = match_names(target.outputs, kept.classes) if named else Matched(((),) * len(target.outputs), tuple(target.outputs))
    classes = {label: [kept.classes[k] for k in own] for label, own in zip(target.outputs, matched.groups, strict=True) if own}
    if not matched.complete:
        reason = _why_not(matched, named=named, classes=target.name == "class")
        found: dict[str, Any] = {"how": LINEAR, "classes": classes, "unmatched": list(matched.unmatched)}
        recorder.decide(output_map=found)
        recorder.emit(Said(f"own output layer: {reason}. A linear map on its {features.shape[1]:,} outputs is fitted"))
        return linear, found
    mapped = _mapped(linear, matched, features, validation)
    gain = validation.gain(validation.judge(linear.held_out), mapped.held_out)
    how = LINEAR if gain.low > 0 else NAMES
    found = {"how": how, "classes": classes, "unmatched": [], "gain": gain.to_json()}
    recorder.decide(output_map=found)
    _say(classes, how, target.difference(gain), recorder.emit)
    return (linear if how == LINEAR else mapped), found


def _mapped(linear: Candidate, matched: Matched, features: np.ndarray, validation: Validation) -> Candidate:
    """The old classes joined by name. It has learnt nothing from any example, so that it may say all of them."""
    from regraft.artifacts import outputs_of
    from regraft.artifacts.model import layers

    layer = layers(joined(matched.groups))
    held = outputs_of(rows_at(features, validation.parts.train), layer, validation.target)
    # the same examples as for every other model
    held[validation.folds < 0] = np.nan
    facts = linear.facts
    network = facts.architecture["network"]
    tensors = linear.tensors
    return replace(
        linear,
        held_out=held,
        how="every training example: nothing was learnt from them",
        scores=lambda positions: layer(rows_at(features, positions)),
        facts=replace(facts, architecture=described(network, facts.architecture["outputs"], matched.groups)),
        tensors=lambda: {name: tensor for name, tensor in tensors().items() if not name.startswith("head.")},
    )


def _why_not(matched: Matched, *, named: bool, classes: bool) -> str:
    if not classes:
        return "its classes say one class of several, and something else is predicted here"
    if not named:
        return "nobody knows what its classes are called"
    lacking = matched.unmatched
    shown = ", ".join(lacking[:SHOWN]) + (" ..." if len(lacking) > SHOWN else "")
    return f"no class of its own for {shown}"


def _say(classes: Mapping[str, Sequence[str]], how: str, gain: str, emit: Emit) -> None:
    shown = "; ".join(f"{label} = {' + '.join(own)}" for label, own in list(classes.items())[:SHOWN])
    more = " ..." if len(classes) > SHOWN else ""
    if how == NAMES:
        emit(Said(f"own output layer, as it is: {shown}{more}. A linear map on its outputs would not be clearly better: {gain}"))
    else:
        emit(Said(f"own output layer: {shown}{more}. A linear map on its outputs is better and taken: {gain}"))
