"""models: the pretrained networks there are, and what is known of those that others published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from regraft.errors import RegraftError, UsageError
from regraft.facts import ModelFacts
from regraft.pretrained import SOURCES, all_models, find_model, source_of
from regraft.pretrained.catalogue import Entry, Wanted, entries, entry_of, exactly, search
from regraft.pretrained.catalogue.search import with_bounds


@dataclass(frozen=True)
class Listing:
    """What `regraft models` answers.

    rows       the networks, as `models` returns them
    more       how many others fit, beyond the limit
    others     how many the catalogue knows that were not asked for; only when nothing was
    unknown    how many fit but for a bound on a number nobody published
    said       why there are no rows
    whole      one network was named: it is to be shown whole
    """

    rows: list[dict[str, Any]]
    more: int = 0
    others: int = 0
    unknown: dict[str, int] | None = None
    said: str = ""
    whole: bool = False


def models(
    words: str | Sequence[str] = (),
    *,
    task: str | None = None,
    max_params: float | str | None = None,
    max_gmacs: float | str | None = None,
    trained_on: str | None = None,
    licence: str | None = None,
    here: bool = False,
    sort: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """The pretrained networks that fit; with nothing asked for, those that regraft can open now.

    All `words` must stand in the name, family, domain or training data; the name of a network finds it alone. `max_params` may be
    written 30M. `licence` is a kind (permissive, ...) or a licence. `sort`: accuracy, params, gmacs, features, results or name.
    In what is returned `openable` says whether regraft can open such a network, `here` whether its weights are installed.
    """
    wanted = Wanted(_words(words), task, None, None, trained_on, licence, here, sort)
    return listing(wanted, max_params=max_params, max_gmacs=max_gmacs, limit=limit).rows


def listing(
    wanted: Wanted, *, max_params: float | str | None = None, max_gmacs: float | str | None = None, limit: int | None = None
) -> Listing:
    """The same with what is to be said beside the rows."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: expected at least 1")
    wanted = with_bounds(wanted, max_params, max_gmacs)
    opened = {facts.name: facts for facts in all_models()}
    mine = [entry_of(facts) for facts in opened.values()]
    same = {entry.same_as: entry.name for entry in mine if entry.same_as}
    others = (replace(e, same_as=same[e.name]) if e.name in same else e for e in entries().values())
    known = [*mine, *(e for e in others if e.name not in opened)]
    if wanted.is_nothing:
        rows = [_row(entry, opened.get(entry.name)) for entry in mine[:limit]]
        return Listing(rows, more=len(mine) - len(rows), others=len(known) - len(mine))
    if len(wanted.words) == 1 and wanted == Wanted(wanted.words) and (one := exactly(known, wanted.words[0])):
        return Listing([_row(one, opened.get(one.name) or _facts(one.name))], whole=True)
    present = {facts.name for facts in opened.values() if not source_of(facts).missing(facts)}
    found = search(known, wanted, present)
    rows = [_row(entry, opened.get(entry.name)) for entry in found.entries[:limit]]
    return Listing(rows, more=len(found.entries) - len(rows), unknown=found.unknown, said=found.said)


def _words(words: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(words.split() if isinstance(words, str) else (part for word in words for part in word.split()))


def _openable(name: str) -> bool:
    """Whether a source opens names that begin like this one."""
    return name.split(":", 1)[0] in SOURCES


def _facts(name: str) -> ModelFacts | None:
    """The facts of a network that its source finds by name without listing it."""
    if not _openable(name):
        return None
    try:
        return find_model(name)
    except RegraftError:
        return None


def _row(entry: Entry, facts: ModelFacts | None) -> dict[str, Any]:
    row = {**entry.to_json(), "openable": _openable(entry.name), "here": False, "install": ""}
    if facts is None:
        return row
    line = source_of(facts).missing(facts)
    return {**row, **facts.to_json(), "here": not line, "install": line}
