"""Which labels are taken as what, and what a person hears of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import DataError
from regraft.targets import Found, Target, Wanted, find_target
from regraft.targets.base import Unusable
from regraft.targets.labels import SEPARATORS, items_of
from regraft.targets.number import is_measured

PRICES = [f"{k * 1.37 + 0.1:.2f}" for k in range(100)]

WHOLE_LISTS = [json.dumps(v) for v in (["a", "b"], ["a"], [], ["b", "c"], ["c"])] * 4

LABELS: dict[str, tuple[list[str], str, str | None]] = {
    "words": (["ant", "bee"] * 10, "class", None),
    "one word": (["ant"] * 10, "class", None),
    "yes and no": (["0", "1"] * 10, "class", None),
    "digits": ([str(k % 10) for k in range(200)], "class", None),
    "digits as fractions": ([f"{k % 10}.0" for k in range(200)], "class", None),
    "stars with halves": ([str(k % 10 / 2) for k in range(200)], "class", None),
    "a hundred classes by number": ([str(k % 100) for k in range(1000)], "class", None),
    "a few years": ([str(2000 + k % 20) for k in range(200)], "class", None),
    "prices": (PRICES, "number", None),
    "prices, some of them missing": (PRICES[:95] + ["n/a"] * 5, "number", None),
    "prices, too many missing": (PRICES[:94] + ["n/a"] * 6, "class", None),
    "negative and scientific": ([f"{k - 50}e-3" for k in range(100)], "number", None),
    "fractions and not-a-number": (PRICES + ["nan", "inf"], "number", None),
    "many whole numbers": ([str(k * 7) for k in range(150)], "number", None),
    "whole numbers of which few differ": ([str(k % 50) for k in range(400)], "class", None),
    "names of files": ([f"img_{k}" for k in range(150)], "class", None),
    "ids in hexadecimal": ([f"{k * 7919:08x}x" for k in range(150)], "class", None),
    "numbers with underscores": ([f"{k}_{k}" for k in range(150)], "class", None),
    "words and numbers": (["ant", "3", "4.5"] * 10, "class", None),
    "JSON lists": (WHOLE_LISTS, "multilabel", None),
    "JSON lists of numbers": (["[1, 2]", "[2]", "[1]", "[]"] * 4, "multilabel", None),
    "lists as Python prints them": ([str(["a", "it's"]), str(["a"]), str(['say "hi"', "b"]), "[]"] * 4, "multilabel", None),
    "lists and a broken one": (["[1, 2]", "[2]"] * 10 + ["[1, "], "multilabel", None),
    "lists and an unreadable one": (["[1, 2]", "[2]"] * 10 + ["[{}]"], "multilabel", None),
    "names in brackets": (["[pos]", "[neg]"] * 10, "class", None),
    "a name in brackets beside names with commas": (["[unknown]", "Paris, FR", "Rome, IT", "Oslo, NO"] * 5, "class", None),
    "a;b with atoms that recur": (["a;b", "a", "b", "b;c", "c"] * 4, "multilabel", ";"),
    "a|b": (["a|b", "a", "b", "b|c", "c"] * 4, "multilabel", "|"),
    "a, b": (["a, b", "a", "b", "b, c", "c"] * 4, "multilabel", ","),
    "bars win over commas": (["a, x|b", "a, x", "b", "b|c", "c"] * 4, "multilabel", "|"),
    "places": (["New York, NY", "Los Angeles, CA", "Chicago, IL", "Houston, TX"] * 5, "class", None),
    "two places of a state": (["Dallas, TX", "Houston, TX", "Chicago, IL", "Boston, MA"] * 5, "class", None),
    "sentences": (["well, no", "yes, sir", "maybe"] * 5, "class", None),
    "one name with a semicolon": (["a;b", "c", "d"] * 5, "class", None),
    "a name in brackets beside lists with a separator": (["[none]", "a;b", "a", "b", "b;c", "c"] * 4, "multilabel", ";"),
}


@pytest.mark.parametrize(("cells", "kind", "separator"), LABELS.values(), ids=LABELS.keys())
def test_what_labels_look_like(cells: list[str], kind: str, separator: str | None):
    for own in (cells, cells[::-1]):
        found = find_target(own, Wanted())
        assert (found.kind.name, found.wanted.separator) == (kind, separator)
        assert found.wanted.name == kind
        assert bool(found.said) == (kind != "class" or all(c.replace(".", "").isdigit() for c in set(cells)) and len(set(cells)) > 2)
        if found.said:
            assert found.said.startswith("target: ") and ("--target" in found.said or separator)


def learnt(found: Found, cells: list[str]) -> Target:
    return found.kind.learn(cells, found.wanted)


@pytest.mark.parametrize(("cells", "kind"), [(v[0], v[1]) for v in LABELS.values()], ids=LABELS.keys())
def test_what_was_found_can_be_learnt_or_says_why_not(cells: list[str], kind: str):
    try:
        target = learnt(find_target(cells, Wanted()), cells)
    except DataError:
        assert kind == "class" and len(set(cells)) in (1, len(cells))
        return
    assert target.name == kind
    broken = 0
    for cell in cells:
        try:
            target.encode(cell)
        except Unusable:
            broken += 1
    assert broken <= 0.06 * len(cells) or any(c.startswith("[none") for c in cells)


# ---------------------------------------------------------------- what was asked for


def test_a_target_that_was_asked_for_is_taken():
    for cells in (PRICES, [str(k % 10) for k in range(50)], WHOLE_LISTS):
        for name in ("class", "multilabel", "number"):
            found = find_target(cells, Wanted(name))
            assert (found.kind.name, found.said) == (name, "")


def test_digits_as_numbers_keep_their_values():
    cells = [str(k % 10) for k in range(50)]
    target = learnt(find_target(cells, Wanted("number", column="digit")), cells)
    assert target.outputs == ["digit"] and target.encode("7") == 7.0


def test_lists_as_classes_are_taken_whole():
    target = learnt(find_target(WHOLE_LISTS, Wanted("class")), WHOLE_LISTS)
    assert sorted(target.outputs) == sorted(set(WHOLE_LISTS))


def test_words_as_numbers_are_refused():
    with pytest.raises(DataError, match="no example has a finite number"):
        learnt(find_target(["a", "b"], Wanted("number")), ["a", "b"])


@pytest.mark.parametrize("separator", [";", "|", ",", " ", " and ", "\t", "::"])
def test_a_separator_that_was_given_parts_labels_whatever_they_look_like(separator: str):
    cells = [separator.join(own) for own in (("New York", "NY"), ("Paris",), ("New York",), ("Paris", "NY"))]
    found = find_target(cells, Wanted(separator=separator))
    assert (found.kind.name, found.wanted.separator) == ("multilabel", separator)
    target = learnt(found, cells)
    if separator != " ":
        assert target.outputs == ["NY", "New York", "Paris"]
        assert [target.encode(c).sum() for c in cells] == [2, 1, 1, 2]


def test_multilabel_without_a_separator_looks_for_one_and_may_find_none():
    for cells, separator in ((["a;b", "c;d"], ";"), (["a, b;c"], ";"), (["a, b"], ","), (["a b", "c"], None), (['["a;b"]', "[1,2]"], None)):
        assert find_target(cells, Wanted("multilabel")).wanted.separator == separator
    assert find_target(["a;b,c", "d"], Wanted("multilabel", ",")).wanted.separator == ","


# ---------------------------------------------------------------- what is said and named


@pytest.mark.parametrize("name", ["class", "multilabel"])
def test_labels_that_differ_in_case_or_white_space_are_said_and_kept_apart(name: str):
    cells = ["New York", "new york", "NEW YORK ", "Rome", "Straße", "STRASSE"] * 3
    target = learnt(find_target(cells, Wanted(name)), cells)
    assert {"New York", "new york", "Rome", "Straße", "STRASSE"} <= set(target.outputs)
    (said,) = [s for s in target.remarks(cells, balanced=False) if "kept apart" in s]
    assert (
        "'New York' (3)" in said and "'new york' (3)" in said and "'Straße' (3)" in said and "'STRASSE' (3)" in said and "Rome" not in said
    )


def test_white_space_inside_a_label_of_several_is_one_space():
    assert items_of(" a  b ;a b;\tc\n", ";") == ("a b", "c")


def test_a_few_labels_that_are_no_numbers_are_named():
    cells = PRICES[:95] + ["n/a", "", "inf", "-", "nan"]
    target = learnt(find_target(cells[:96], Wanted()), cells)
    reasons = []
    for cell in cells[95:]:
        with pytest.raises(Unusable) as reason:
            target.encode(cell)
        reasons.append(str(reason.value))
    assert [words in reason for words, reason in zip(("'n/a'", "missing", "finite", "'-'", "finite"), reasons, strict=True)] == [True] * 5


def test_nothing_but_numbers_that_are_not_finite_is_not_measured():
    for cells in ([], ["nan"] * 50, ["inf", "-inf"] * 50, [""] * 50):
        assert not is_measured(cells)


def test_equal_numbers_written_in_several_ways_count_once():
    assert not is_measured([form for k in range(10) for form in (f"{k}", f"{k}.0", f"{k}e0", f" {k}", f"+{k}")])


# ---------------------------------------------------------------- cells of any text

TEXT = st.text(max_size=60)
LISTLIKE = st.text("[]'\"\\, ab1{}:.eE-\n\t", max_size=40).map(lambda s: f"[{s}]")
SEPARATOR = st.one_of(st.none(), st.sampled_from(SEPARATORS), st.text(min_size=1, max_size=3))
JSON_LISTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=4), max_leaves=8
).map(json.dumps)


@settings(max_examples=400, deadline=None)
@given(st.one_of(TEXT, LISTLIKE, JSON_LISTS), SEPARATOR)
def test_any_cell_gives_labels_or_says_why_not(cell: str, separator: str | None):
    try:
        items = items_of(cell, separator)
    except Unusable:
        assert cell.strip().startswith("[") and cell.strip().endswith("]")
        return
    assert len(set(items)) == len(items)
    assert all(isinstance(item, str) and item and " ".join(item.split()) == item for item in items)


HURTFUL = ["[" * 100_000 + "]" * 100_000, "[" + "9" * 10_000 + "]", "['" + "\\" * 50_000 + "]", "[1e999, NaN]", "[']", "[]"]


@pytest.mark.parametrize("cell", HURTFUL, ids=range(len(HURTFUL)))
def test_cells_made_to_hurt(cell: str):
    try:
        assert len(items_of(cell, ";")) <= 2
    except Unusable as reason:
        assert len(str(reason)) < 200


def test_a_cell_with_too_many_labels_says_so():
    for cell in (";".join(map(str, range(10_001))), json.dumps(list(range(10_001)))):
        with pytest.raises(Unusable, match="10,001 labels"):
            items_of(cell, ";")
    assert find_target([";".join(map(str, range(10_001))), "a;b", "a", "b"], Wanted()).kind.name in ("class", "multilabel")


NAME = st.text(min_size=1, max_size=8).map(lambda s: " ".join(s.split())).filter(bool)
NAMES = st.lists(NAME, min_size=1, max_size=6, unique=True)


@settings(max_examples=300, deadline=None)
@given(NAMES, st.sampled_from([*SEPARATORS, " / ", "::"]))
def test_joined_labels_come_back(names: list[str], separator: str):
    clean = [n for n in names if not set(n) & {*separator.strip(), *"[]"}]
    if clean:
        assert items_of(separator.join(clean), separator) == tuple(clean)


@settings(max_examples=300, deadline=None)
@given(NAMES)
def test_lists_come_back(names: list[str]):
    assert items_of(json.dumps(names), ";") == tuple(names)
    assert items_of(json.dumps(names, ensure_ascii=False), None) == tuple(names)
    printable = [n for n in names if n.isprintable()]
    assert items_of(str(printable), None) == tuple(printable)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(TEXT, LISTLIKE, NAMES.map(";".join), st.floats().map(str)), max_size=30))
def test_any_labels_are_some_target(cells: list[str]):
    for wanted in (Wanted(), Wanted("class"), Wanted("multilabel"), Wanted("number"), Wanted(separator=";")):
        found = find_target(cells, wanted)
        try:
            target = learnt(found, cells)
        except DataError:
            continue
        assert target.outputs and len(set(target.outputs)) == len(target.outputs)
        target.described(cells)
        target.strangers(cells)
        for cell in cells:
            try:
                target.encode(cell)
            except Unusable as reason:
                assert str(reason)
