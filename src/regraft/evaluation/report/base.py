"""What every section of a report is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from regraft.errors import printable
from regraft.evaluation.names import first_key
from regraft.modality.base import Sketch


@dataclass(frozen=True)
class Judged:
    """A training example that a model judged without having seen it. `cells` are those of `out_of_fold.csv` by their names; `off` is how
    wrong it was, 0 for right.
    """

    name: str
    cells: Mapping[str, str]
    off: float


@dataclass(frozen=True)
class Shown:
    """One of those with what it looks like, where it could be read."""

    judged: Judged
    sketch: Sketch | None


@dataclass(frozen=True)
class Report:
    """What a page tells. `result` is run.json, `decisions` decisions.json, `manifest` that of the bundle; `judged` the training examples
    that were held out, `wrong` those that were judged worst; `nouns` and `without_network` are the modality's words.
    """

    result: Mapping[str, Any]
    decisions: Mapping[str, Any]
    manifest: Mapping[str, Any]
    nouns: str
    without_network: str
    judged: Sequence[Judged] = ()
    wrong: Sequence[Shown] = ()
    unseen: str = ""
    """Why examples could not be looked at, where that is so."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    curve: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The learning curve as `inspect` has it; empty where it was not looked at."""
    profile: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The depths of the network as `profile` has them; empty where they were not looked at."""

    @property
    def key(self) -> str:
        """The figure that stands for all."""
        return first_key(self.result["estimate"])


@dataclass(frozen=True)
class Section:
    """A part of the page. `body` gives HTML, empty where there is nothing to say."""

    title: str
    body: Callable[[Report], str]


def text(value: object, most: int = 0) -> str:
    """Anything as text of a page: what it holds means nothing there. `most` characters, where given."""
    plain = printable(str(value))
    return escape(plain if not most or len(plain) <= most else f"{plain[: most - 1]}…")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = (), kind: str = "") -> str:
    """A table of cells that are HTML already; columns `right` stand to the right."""
    side = lambda i: ' class="n"' if i in right else ""
    above = "".join(f"<th{side(i)}>{cell}</th>" for i, cell in enumerate(head))
    body = "".join(f"<tr>{''.join(f'<td{side(i)}>{cell}</td>' for i, cell in enumerate(row))}</tr>" for row in rows)
    opened = f'<table class="{kind}">' if kind else "<table>"
    return f'<div class="wide">{opened}<thead><tr>{above}</tr></thead><tbody>{body}</tbody></table></div>'


def bar(value: float, low: float, high: float, most: float, kind: str = "") -> str:
    """A figure from 0 to `most` as a bar with its interval."""
    across = lambda x: f"{100 * min(1.0, max(0.0, x / most)) if most else 0:.2f}"
    return (
        f'<svg class="bar {kind}" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="12"/><rect class="fill" width="{across(value)}" height="12"/>'
        f'<line class="span" x1="{across(low)}" x2="{across(high)}" y1="6" y2="6"/></svg>'
    )
