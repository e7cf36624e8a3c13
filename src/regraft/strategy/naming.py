"""Which of a network's old classes mean a user's labels, by their names alone."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

_WORDNET = re.compile(r"\s*\(n\d{8}\)$")
"""What timm's lists put behind a name that two classes have."""


@dataclass(frozen=True)
class Matched:
    """`groups` are the old classes (their numbers) of each label, in the order of the labels; `unmatched` the labels without any.

    A label whose name another label has too, as far as names are compared, has none.
    """

    groups: tuple[tuple[int, ...], ...]
    unmatched: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every label has a class."""
        return not self.unmatched


def compared(name: str) -> str:
    """A name as it is compared: without case, with single spaces for white space and underscores, without a plural's s."""
    plain = " ".join(name.replace("_", " ").split()).casefold()
    return plain[:-1] if plain.endswith("s") and not plain.endswith("ss") and len(plain) > 1 else plain


def match_names(labels: Sequence[str], classes: Sequence[str]) -> Matched:
    """The old classes that are called what a label is called; of one with synonyms ("ant, emmet, pismire") any will do."""
    called: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(classes):
        for meaning in dict.fromkeys(compared(part) for part in _WORDNET.sub("", name).split(",")):
            called[meaning].append(number)
    times = Counter(map(compared, labels))
    groups = tuple(tuple(called.get(compared(label), ())) if times[compared(label)] == 1 else () for label in labels)
    return Matched(groups, tuple(label for label, group in zip(labels, groups, strict=True) if not group))
