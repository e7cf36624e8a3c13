"""catalogue: what is known of published networks, here or not: trained on what, how good, how large, under which licence.

In: the files beside this one, and what a person looks for.     Out: entries with their sources, found and sorted.
Never: opens a network or a connection, says that something is here, or measures anything itself.
Invariant: nothing is read before it is asked for, and no network's library is imported.

`docs/carry_catalogue.py` writes the files. Nobody read these cells in a file, they rest on memory: how the names of timm's weights
were taken apart into data sets and supervision; sizes whose `amount_is_nominal`; supervision and domain of sounds; licence and
limit of tokens of some raw language models. Means over the MAEB tasks were computed here from published scores.
"""

from __future__ import annotations

from regraft.pretrained.catalogue.base import HEADLINES, VALUE_NAMES, Entry, Transfer, ordered_right
from regraft.pretrained.catalogue.read import entries, entry_of, gathered, source_line
from regraft.pretrained.catalogue.search import SORTS, Found, Wanted, exactly, number_of, search

__all__ = [
    "HEADLINES",
    "SORTS",
    "VALUE_NAMES",
    "Entry",
    "Found",
    "Transfer",
    "Wanted",
    "entries",
    "entry_of",
    "exactly",
    "gathered",
    "number_of",
    "ordered_right",
    "search",
    "source_line",
]
