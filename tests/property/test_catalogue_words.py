"""Whatever is asked of the catalogue: an answer, or an error that people are shown."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

import regraft
from regraft.errors import UsageError
from regraft.pretrained.catalogue import SORTS, Wanted, entries, number_of, search

ENTRIES = list(entries().values())
WORDS = st.one_of(st.text(max_size=12), st.sampled_from([e.name for e in ENTRIES]), st.sampled_from(["vit", "imagenet", "e5", "LAION"]))
FEW = settings(max_examples=60, deadline=None)


@FEW
@given(words=st.lists(WORDS, max_size=3))
def test_any_words_are_answered(words: list[str]):
    found = search(ENTRIES, Wanted(tuple(words)))
    assert bool(found.entries) != bool(found.said)
    assert len({e.name for e in found.entries}) == len(found.entries)
    fewer_words = {e.name for e in search(ENTRIES, Wanted(tuple(words[:-1]))).entries}
    assert {e.name for e in found.entries} <= fewer_words, "a further word never finds more"


@FEW
@given(word=WORDS, text=st.text(max_size=8), licence=st.text(max_size=8), bound=st.text(max_size=8))
def test_any_options_are_answered_or_refused(word: str, text: str, licence: str, bound: str):
    for options in ({"trained_on": text}, {"licence": licence}, {"max_params": bound}, {"max_gmacs": bound}):
        try:
            regraft.models(word, limit=3, **options)
        except UsageError as error:
            assert str(error).startswith("--"), error


@FEW
@given(value=st.floats(min_value=1e-3, max_value=1e9), suffix=st.sampled_from("kKmMgGbB"))
def test_a_suffix_multiplies(value: float, suffix: str):
    plain = number_of("n", f"{value:.4f}", "1")
    with_suffix = number_of("n", f"{value:.4f}{suffix}", "1")
    assert plain and with_suffix and abs(with_suffix / plain / {"k": 1e3, "m": 1e6}.get(suffix.lower(), 1e9) - 1) < 1e-9


@FEW
@given(sort=st.sampled_from([None, *SORTS]), order=st.randoms(use_true_random=False))
def test_an_order_does_not_depend_on_where_it_began(sort: str | None, order):
    mixed = ENTRIES[:]
    order.shuffle(mixed)
    assert search(mixed, Wanted(sort=sort)).entries == search(ENTRIES, Wanted(sort=sort)).entries
