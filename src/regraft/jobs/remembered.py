"""What an earlier plan found of the same data with the same network, so that the next one opens neither: without PyTorch, in a second."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.data.base import Example
from regraft.facts import ModelFacts
from regraft.jobs.calibrate import Known, read_known
from regraft.jobs.common import versions
from regraft.modality import Modality
from regraft.pretrained import source_of
from regraft.strategy.cost import Amount, Held, Pace
from regraft.strategy.learning import LearningCurve
from regraft.strategy.naming import match_names
from regraft.strategy.similarity import Similarity, similarity_of
from regraft.targets import Target
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.store import Store

LOOKED, OLD = "looked", "old_outputs"
"""The files of findings: what plans found of data, and what networks say by their own output layers."""

VERSION = 1
"""Raised when a look would find something else."""


@dataclass(frozen=True)
class Look:
    """What a look at a part of the training examples gave. `maker` is the identity of their features, `broken` how many could not be used,
    `judged` the head's figure on `seen`, `without` that of the model without a network, `constant` that of always saying the same;
    `allowed` are the seconds that it might take, `complete` says that nothing was left out for lack of them.
    """

    device: str
    engine: str
    maker: Mapping[str, Any]
    amount: Amount
    pace: Pace
    held: Held
    rungs: Mapping[str, Known]
    seen: int
    broken: int
    judged: float
    without: float | None
    constant: float
    similarity: Similarity | None
    curve: LearningCurve | None
    allowed: float
    complete: bool
    scratch: Mapping[str, Any] | None = None
    """What a short training from random weights gave, where it was asked for."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `from_json` reads."""
        plain = ("device", "engine", "seen", "broken", "judged", "without", "constant", "allowed", "complete")
        return {
            **{name: getattr(self, name) for name in plain},
            "maker": dict(self.maker),
            "scratch": dict(self.scratch) if self.scratch else None,
            "amount": vars(self.amount),
            "pace": self.pace.to_json(),
            "held": [self.held.resident, self.held.peak],
            "rungs": {name: known.to_json() for name, known in self.rungs.items()},
            "skill": self.similarity.to_json()["skill"] if self.similarity else None,
            "curve": self.curve.to_json() if self.curve else None,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Look:
        """TypeError, KeyError or ValueError for anything else."""
        pace = dict(values["pace"])
        return cls(
            device=str(values["device"]),
            engine=str(values["engine"]),
            maker=dict(values["maker"]),
            amount=Amount(**values["amount"]),
            pace=Pace(**{**pace, "measured": tuple(pace["measured"])}),
            held=Held(*map(float, values["held"])),
            rungs=read_known(values["rungs"]),
            seen=int(values["seen"]),
            broken=int(values["broken"]),
            judged=float(values["judged"]),
            without=None if values["without"] is None else float(values["without"]),
            constant=float(values["constant"]),
            similarity=similarity_of(**values["skill"]) if values["skill"] else None,
            curve=LearningCurve.from_json(values["curve"]) if values["curve"] else None,
            allowed=float(values["allowed"]),
            complete=bool(values["complete"]),
            scratch=dict(values["scratch"]) if values["scratch"] else None,
        )


def look_key(facts: ModelFacts, known: Mapping[str, Any], asked: Mapping[str, Any], threads: int) -> str:
    """The name of a look: the network, the data, what else was asked for, and what of this machine can be told without PyTorch."""
    gpus = [Path("/dev/nvidiactl").exists(), os.environ.get("CUDA_VISIBLE_DEVICES")]
    network = [facts.name, facts.identity, dict(facts.architecture), dict(facts.preprocessing), facts.tile]
    here = [versions(), os.cpu_count(), threads, gpus]
    return findings_key({"version": VERSION, "network": network, "data": known, "asked": dict(asked), "here": here})


def keep_look(key: str, look: Look) -> None:
    """Keep what was found."""
    keep_finding(LOOKED, key, look.to_json())


def earlier_look(key: str, examples: Sequence[Example], modality: Modality) -> Look | None:
    """What was found, where all that was looked at lies in the store as it was; `examples` are those that a look would begin with. None
    where nothing was found, or a file has changed since.
    """
    found = read_finding(LOOKED, key)
    try:
        look = Look.from_json(found) if isinstance(found, Mapping) else None
    except (TypeError, KeyError, ValueError):
        return None
    if look is None or not look.complete:
        return None
    held = Store().held(look.maker)
    if held is None:
        return None
    lost = 0
    for example in examples[: look.seen + look.broken]:
        try:
            lost += modality.load(example.source).identity not in held
        except Exception:  # what is wrong with an example the pass said
            lost += 1
    return look if lost <= look.broken else None


def old_outputs(facts: ModelFacts, target: Target) -> tuple[int, bool] | None:
    """(outputs of a network's own output layer, whether every label has one of its name); None where it has none. To look up what they are
    called takes seconds, as libraries of networks are imported for it.
    """
    key = findings_key({"network": [facts.name, facts.identity], "target": target.name, "labels": list(target.outputs)})
    found = read_finding(OLD, key)
    if isinstance(found, list) and len(found) == 2:
        return (int(found[0]), bool(found[1])) if found[0] else None
    old = source_of(facts).old(facts)
    named = old is not None and target.name == "class" and match_names(target.outputs, old.labels).complete
    keep_finding(OLD, key, [old.outputs if old else 0, named])
    return (old.outputs, named) if old else None
