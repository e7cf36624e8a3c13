"""A plan and the fit that follows it: what data it was made for, what it says in place of options, and what became of its predictions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regraft.errors import UsageError
from regraft.jobs.common import peak_memory_mb
from regraft.jobs.labelled import Labelled
from regraft.jobs.recording import Recorder
from regraft.spec import FitSpec
from regraft.strategy.gains import scaled
from regraft.strategy.outcomes import Outcome, stage_of
from regraft.strategy.plan import Option, Plan
from regraft.workspace.checkpoints import differences
from regraft.workspace.files import read_json
from regraft.workspace.findings import findings_key, keep_finding, read_finding
from regraft.workspace.outcomes import keep_outcome, read_outcomes

PLANNED = "plans"
"""The file of findings: what plans expected of fits that may come."""

PREDICTED = "predicted"
"""The decision that holds what a fit is expected to take and to give."""

OTHER = "other"
"""What of a fit's seconds no event tells: its beginning, the search for the cut, judging the test part, writing."""

OF_PLAN = ("task", "input", "label", "target", "separator", "group", "split", "weight", "test", "metric")
"""Options that a fit takes from its plan where they are not given again."""


def known_of(labelled: Labelled) -> dict[str, Any]:
    """What tells one data set from another before anything is read: counts, labels, and a hash of names and labels."""
    digest = hashlib.sha256()
    for example in sorted(labelled.dataset.examples, key=lambda e: (e.part, e.name)):
        digest.update(f"{example.part}\0{example.name}\0{example.label}\n".encode("utf-8", "surrogatepass"))
    counts = {part: len(labelled.dataset.part(part)) for part in ("train", "test")}
    target = labelled.target
    return {"task": labelled.dataset.task, "target": target.name, "labels": list(target.outputs), **counts, "examples": digest.hexdigest()}


def read_plan(plan: Any) -> Plan:
    """A plan as `fit` takes it: a Plan, its plain data, or the path of its JSON. UsageError when it is none."""
    if isinstance(plan, Plan):
        return plan
    if isinstance(plan, Mapping):
        return Plan.from_json(plan)
    path = Path(os.fspath(plan))
    try:
        return Plan.from_json(read_json(path))
    except UsageError as error:
        raise UsageError(f"{path}: {error.found}", expected=error.expected, move=error.move) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"the plan {path} cannot be read: {reason}", move="regraft plan DATA --out plan.json") from None


@dataclass(frozen=True)
class Followed:
    """A plan that a fit follows."""

    plan: Plan

    def check(self, labelled: Labelled) -> None:
        """UsageError when the plan was made for other data."""
        now = known_of(labelled)
        if found := differences(dict(self.plan.known), now):
            move = "make a plan for this data: regraft plan DATA --out plan.json"
            raise UsageError(f"the plan was made for other data ({self.plan.data})", faults=found, move=move)


def follow(plan: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What `fit` is called with when it follows a plan: network, rung and settings are the plan's, and options about the data that are not
    given again. UsageError where both say something.
    """
    read = read_plan(plan)
    chosen = read.chosen
    faults: list[str] = []
    if arguments["model"] is not None and arguments["model"] != chosen.model:
        faults.append(f"--model {arguments['model']}, and the plan takes {chosen.model}")
    if arguments["train"] not in (None, chosen.train):
        faults.append(f"--train {arguments['train']}, and the plan takes {chosen.train}")
    if faults:
        move = "leave one of the two away; chosen in the plan's JSON may name any of its options"
        raise UsageError("a plan and options say different things", faults=faults, move=move)
    held = {name: read.asked.get(name) for name in OF_PLAN if arguments.get(name) is None and read.asked.get(name) is not None}
    settings = {**chosen.settings, **_named(arguments["settings"])}
    if arguments.get("budget") is None and read.limits.budget is not None:
        held["budget"] = read.limits.budget
    return {**arguments, **held, "model": chosen.model, "train": chosen.train, "settings": settings, "plan": Followed(read)}


def _named(settings: Any) -> Mapping[str, Any]:
    from regraft.spec import refuse
    from regraft.strategy.settings import named_values

    if isinstance(settings, Mapping):
        return settings
    found, faults = named_values(list(settings))
    refuse(faults)
    return found


def plan_key(known: Mapping[str, Any], model: str, train: str, device: str, threads: int) -> str:
    """The name of what a plan expected of one fit."""
    return findings_key({"known": known, "model": model, "train": train, "device": device, "threads": threads})


def keep_expectations(plan: Plan, device: str, threads: int) -> None:
    """Keep what a plan expects of each option, for a fit that comes without it."""
    for option in plan.options:
        keep_finding(PLANNED, plan_key(plan.known, option.model, option.train, device, threads), expectation(plan.metric, option))


def expectation(metric: str, option: Option) -> dict[str, Any]:
    """What is expected of a fit, for its decisions."""
    ranges = {"seconds": option.seconds, "peak_memory_mb": option.memory, metric: option.figure}
    return {**{name: r.to_json() for name, r in ranges.items()}, "raw": dict(option.raw), "metric": metric}


@dataclass
class Expected:
    """What a fit was expected to take and to give, and what it did; empty where nobody planned it."""

    values: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(
        cls, spec: FitSpec, labelled: Labelled, followed: Followed | None, model: str, device: str, threads: int, recorder: Recorder
    ) -> Expected:
        """From the plan that is followed, from an earlier one for the same fit on this machine, or from before an interruption; written
        down as a decision.
        """
        held = recorder.held_decision(PREDICTED)
        if held is None and followed is not None:
            held = expectation(followed.plan.metric, followed.plan.chosen)
        elif held is None and _as_planned(spec):
            held = read_finding(PLANNED, plan_key(known_of(labelled), model, spec.train, device, threads))
        if not isinstance(held, Mapping):
            return cls()
        recorder.decide(**{PREDICTED: held})
        return cls(held)

    def value(self, name: str) -> float | None:
        """What was predicted, in the middle."""
        try:
            return float(self.values[name]["value"])
        except (KeyError, TypeError, ValueError):
            return None

    def keep(self, spec: FitSpec, model: str, device: str, seconds: float, figure: float, recorder: Recorder) -> None:
        """Add what came of it to the local record, where a whole fit can be compared."""
        raw = self.values.get("raw")
        if not isinstance(raw, Mapping) or not recorder.uninterrupted or recorder.deadline.more:
            return  # of a run that went on, or that a budget cut short, nothing can be compared
        measured: dict[str, float] = {}
        for name, spent in recorder.stages.items():
            if stage := stage_of(name):
                measured[stage] = measured.get(stage, 0.0) + spent
        measured[OTHER] = max(0.0, seconds - sum(measured.values()))
        try:
            stages = {name: (float(raw["stages"][name]), value) for name, value in measured.items() if name in raw["stages"]}
            memory = peak_memory_mb()
            pair = (float(raw["memory"]), memory) if memory is not None else None
            scale = (float(raw["figure"]), scaled(str(self.values["metric"]), figure))
        except (KeyError, TypeError, ValueError):
            return  # an edited plan may say anything
        keep_outcome(Outcome(spec.train, model, device.partition(":")[0], stages, pair, scale).to_json())


def _as_planned(spec: FitSpec) -> bool:
    """Whether nothing was asked for that a plan knows nothing of."""
    changed = spec.changes_network or spec.views or spec.settings
    return not changed and spec.engine == "auto" and spec.precision == "auto"


def earlier_outcomes() -> tuple[list[Outcome], int]:
    """(what came of earlier predictions on this machine, how many lines of the record could not be used)."""
    lines, bad = read_outcomes()
    found: list[Outcome] = []
    for line in lines:
        try:
            found.append(Outcome.from_json(line))
        except (TypeError, KeyError, ValueError):
            bad += 1
    return found, bad
