"""Who races: a spec, its data, limits and names come in; the networks that race go out, and of the others why they do not.

It opens no network and times none: what it says is known from the catalogue and from which weights are here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regraft.errors import ModelError, RegraftError
from regraft.facts import ModelFacts
from regraft.jobs.frozen import choose_network
from regraft.jobs.labelled import Labelled
from regraft.pretrained import Access, all_models, fetched_models, source_of
from regraft.pretrained.catalogue import entry_of
from regraft.spec import FitSpec
from regraft.strategy.cost import Range
from regraft.strategy.plan import Limits, Option, flag, nothing_left
from regraft.strategy.race import MOST

ROUGH_MEMORY = 0.15


@dataclass(frozen=True)
class Kind:
    """A kind of reason for being out of a race. `able`: nothing speaks against it, so it may be taken where none could be looked at."""

    name: str
    able: bool = False


ABSENT, CROWDED, LIMIT, BUDGET = Kind("absent"), Kind("crowded"), Kind("limit"), Kind("budget")
"""Its weights are not here; others have higher published figures; it breaks a limit; a fit of it would break the budget."""

FAILED, TIME, BEHIND = Kind("failed"), Kind("time", able=True), Kind("behind")
"""It cannot be used or an error ended it; there was no time to look at it; others are better by more than chance allows."""

KINDS = {kind.name: kind for kind in (ABSENT, CROWDED, LIMIT, BUDGET, FAILED, TIME, BEHIND)}


@dataclass(frozen=True)
class Dropped:
    """Why a network is out: for programs, and as a sentence."""

    kind: Kind
    said: str


NO_TIME = Dropped(TIME, "no time was left to look at it")


def failed(error: Exception) -> Dropped:
    """Why a network failed, in a line."""
    return Dropped(FAILED, f"it failed: {of_error(error)}".rstrip(": "))


def of_error(error: Exception) -> str:
    """What an error says, in a line."""
    return error.found if isinstance(error, RegraftError) else f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


@dataclass(frozen=True)
class Entered:
    """Networks that race, in the order of their published figures, and those that do not, with why. `named`: a person chose them."""

    networks: tuple[ModelFacts, ...]
    out: Mapping[str, Dropped]
    named: bool


def enter(spec: FitSpec, labelled: Labelled, limits: Limits, names: Sequence[str]) -> Entered:
    """The networks that can race: named, or of the task with their weights here, as far as they keep the limits on what is known of them.
    UsageError when none does, with what to relax.
    """
    task, may = labelled.dataset.task, Access(spec.offline, spec.allow_code, spec.allow)
    out: dict[str, Dropped] = {}
    known: list[ModelFacts] = []
    for name in names:
        try:
            known.append(choose_network(name, task, may))
        except ModelError as error:
            out[name] = Dropped(FAILED, str(error))
    if not names:
        known = [facts for facts in all_models() if facts.task == task]
        out |= {f.name: Dropped(ABSENT, f"its weights are not here: {line}") for f in known if (line := source_of(f).missing(f))}
        known = [*(facts for facts in known if facts.name not in out), *fetched_models(task)]
    if not known:
        raise ModelError("no network can race", faults=[f"{name}: {why.said}" for name, why in out.items()], move="regraft models")
    stated = Limits(parameters=limits.parameters, licence=limits.licence)
    options = {facts.name: option_of(facts, labelled) for facts in known}
    broken = {name: stated.broken(option) for name, option in options.items()}
    out |= {name: Dropped(LIMIT, f"over {', '.join(map(flag, each))}") for name, each in broken.items() if each}
    if all(broken.values()):
        raise nothing_left(list(options.values()), stated)
    able = sorted((facts for facts in known if not broken[facts.name]), key=_prior)
    out |= {facts.name: Dropped(CROWDED, f"{MOST} with higher published figures race") for facts in able[MOST:] if not names}
    return Entered(tuple(able if names else able[:MOST]), out, bool(names))


def _prior(facts: ModelFacts) -> tuple[bool, float]:
    """Networks of a task by the published figure that they are compared by; those without one last."""
    figure = entry_of(facts).accuracy
    return figure is None, -(figure or 0.0)


def option_of(facts: ModelFacts, labelled: Labelled, memory: float = 0.0, latency: float | None = None) -> Option:
    """A head on a network, as limits look at it."""
    head = (facts.features + 1) * len(labelled.target.outputs)
    nothing = Range(0.0, 0.0, 0.0)
    return Option(
        model=facts.name,
        train="head",
        order=1,
        figure=nothing,
        seconds=nothing,
        memory=Range.around(memory, ROUGH_MEMORY) if memory else nothing,
        disk=0.0,
        parameters=facts.parameters + head,
        trained=head,
        licence=facts.licence,
        licence_kind=entry_of(facts).licence_kind,
        latency=latency,
    )
