"""Finding entries: pure, over any list of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from regraft.errors import UsageError, nearest
from regraft.pretrained.catalogue.base import Entry, squash
from regraft.spec import TASKS, one_of, refuse

Key = Callable[[Entry], "float | str | None"]

SORTS: dict[str, Key] = {
    "accuracy": lambda e: None if e.accuracy is None else -e.accuracy,
    "params": lambda e: e.parameters,
    "gmacs": lambda e: e.gmacs,
    "features": lambda e: e.features,
    "results": lambda e: -len(e.transfer) or None,
    "name": lambda e: e.name.casefold(),
}
"""Name of an order -> what is compared; None comes last."""

SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}


@dataclass(frozen=True)
class Wanted:
    """What entries must be. All words must stand in the name, the family, the domain or what it was trained on."""

    words: tuple[str, ...] = ()
    task: str | None = None
    max_params: float | None = None
    max_gmacs: float | None = None
    trained_on: str | None = None
    licence: str | None = None
    here: bool = False
    sort: str | None = None

    @property
    def is_nothing(self) -> bool:
        """Nothing was asked for."""
        return self == Wanted()


@dataclass(frozen=True)
class Found:
    """What a search found.

    `unknown` counts the entries that fit but for a bound on a number nobody published: `parameters`, `gmacs`. `said` tells why
    nothing was found.
    """

    entries: tuple[Entry, ...]
    unknown: dict[str, int]
    said: str = ""


def number_of(option: str, value: float | str | None, example: str) -> float | None:
    """30M, 1.5G, 300k, 1B or a plain number, more than zero; `option` is what a message calls it."""
    if value is None:
        return None
    match = re.fullmatch(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?|\.[0-9]+)\s*([kmgb]?)\s*", str(value), re.IGNORECASE)
    try:
        # a float may be written as 3e7
        number = float(match[1].replace(",", "").replace("_", "")) * SUFFIXES[match[2].lower()] if match else float(value)
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise UsageError(f"{option} {value}: expected a number above 0, such as {example}")
    return number


def check(wanted: Wanted, entries: Iterable[Entry]) -> None:
    """Raise one UsageError for everything that cannot be meant."""
    licences = sorted({e.licence.casefold() for e in entries})
    kinds = sorted({e.licence_kind for e in entries})
    faults = one_of("--task", wanted.task, TASKS) + one_of("--sort", wanted.sort, tuple(SORTS))
    if wanted.licence is not None and wanted.licence.casefold() not in (*kinds, *licences):
        hint = nearest(wanted.licence.casefold(), [*kinds, *licences])
        faults.append(f"--licence {wanted.licence}: expected {', '.join(kinds)}, or a licence such as mit. {hint}".rstrip(". "))
    if wanted.trained_on is not None and not squash(wanted.trained_on):
        faults.append("--trained-on is empty: expected a part of the name of a data set, such as laion")
    refuse(faults)


def has(text: str, word: str) -> bool:
    """Whether `word` stands in `text`, whatever the case and the signs between letters."""
    bare = squash(word)
    return word.casefold() in text.casefold() or (bool(bare) and bare in squash(text))


def _says(entry: Entry, word: str) -> bool:
    return any(has(text, word) for text in (entry.name, entry.family, entry.trained_on, entry.domain))


def _fits(entry: Entry, wanted: Wanted, here: Collection[str]) -> bool:
    """Everything but the words and the bounds on numbers."""
    kinds = (entry.licence_kind, entry.licence.casefold())
    return (
        wanted.task in (None, entry.task)
        and (wanted.trained_on is None or has(entry.trained_on, wanted.trained_on))
        and (wanted.licence is None or wanted.licence.casefold() in kinds)
        and (not wanted.here or entry.name in here)
    )


def search(entries: Sequence[Entry], wanted: Wanted, here: Collection[str] = ()) -> Found:
    """The entries that fit, in the order asked for; `here` are names of networks whose weights are installed.

    With no order given: what is here first, then by accuracy. Orders by a figure go task by task, and what has none comes last.
    """
    check(wanted, entries)
    said = [e for e in entries if all(_says(e, word) for word in wanted.words)]
    fit = [e for e in said if _fits(e, wanted, here)]
    bounds = [("parameters", wanted.max_params), ("gmacs", wanted.max_gmacs)]
    bounds = [(name, bound) for name, bound in bounds if bound is not None]
    within = [e for e in fit if all(getattr(e, name) is None or getattr(e, name) <= bound for name, bound in bounds)]
    unknown = {name: sum(getattr(e, name) is None for e in within) for name, _ in bounds}
    whole = [e for e in within if all(getattr(e, name) is not None for name, _ in bounds)]
    return Found(tuple(ordered(whole, wanted.sort, here)), unknown, "" if whole else _why(entries, said, wanted))


def ordered(entries: Iterable[Entry], sort: str | None, here: Collection[str] = ()) -> list[Entry]:
    """Entries in an order; equal ones by name."""
    key = SORTS[sort or "accuracy"]
    tasks = sort in (None, "accuracy", "gmacs", "features")

    def place(entry: Entry) -> tuple[object, ...]:
        value = key(entry)
        first = sort is None and entry.name not in here
        return first, TASKS.index(entry.task) if tasks else 0, value is None, 0 if value is None else value, entry.name

    return sorted(entries, key=place)


def exactly(entries: Iterable[Entry], word: str) -> Entry | None:
    """The entry whose name is `word`, whatever the case; the part before the colon may be left away."""
    bare = word.casefold()
    for entry in entries:
        name = entry.name.casefold()
        if bare in (name, name.split(":", 1)[1]):
            return entry
    return None


def _why(entries: Sequence[Entry], said: Sequence[Entry], wanted: Wanted) -> str:
    """Why nothing was found, and what is near."""
    if said:
        if not wanted.words:
            return "no network fits all that was asked for"
        fit = "1 network fits" if len(said) == 1 else f"{len(said):,} networks fit"
        return f"no network fits all that was asked for; {fit} the words alone"
    none = [word for word in wanted.words if not any(_says(e, word) for e in entries)]
    if not none:
        return f"no network has all of {', '.join(map(repr, wanted.words))}"
    texts = [f"{e.name} {e.family} {e.trained_on}".casefold() for e in entries]
    known = {part for text in texts for part in re.split(r"[\s:/._+>,()-]+", text) if len(part) > 2}
    known |= {e.family.casefold() for e in entries if e.family} | {e.name.split(":", 1)[1] for e in entries}
    lines = []
    for word in none:
        hint = nearest(word.casefold(), sorted(known))
        lines.append(f"no network has {word!r} in its name or training data" + (f"; {hint}" if hint else ""))
    return "\n".join(lines)


def with_bounds(wanted: Wanted, max_params: float | str | None, max_gmacs: float | str | None) -> Wanted:
    """The same with bounds as people write them."""
    params = number_of("--max-params", max_params, "30M, 1.5G or 300k")
    return replace(wanted, max_params=params, max_gmacs=number_of("--max-gmacs", max_gmacs, "5 or 0.5"))
