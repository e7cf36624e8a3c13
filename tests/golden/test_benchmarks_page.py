"""docs/benchmarks.md is what the committed cells say, and the figures in it are computed as they are described."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rungs():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import rungs

        yield rungs
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_the_page_is_written_from_the_cells(rungs):
    assert rungs.PAGE.read_text(encoding="utf-8") == rungs.page(rungs.read(rungs.RESULTS)), "python benchmarks/rungs.py --table"


def test_every_cell_says_which_examples_it_has_right(rungs):
    found = rungs.read(rungs.RESULTS)
    assert len(found) > 20
    for name, one in found.items():
        if "failed" not in one:
            right = rungs.unpacked(one["right"])
            assert len(right) == one["n_test"] and round(sum(right) / len(right), 4) == one["accuracy"], name


def test_sides_of_a_subset_had_the_same_examples(rungs):
    subsets = {}
    for name, one in rungs.read(rungs.RESULTS).items():
        subsets.setdefault(name.rsplit(" / ", 1)[0].replace(", voices", ""), set()).add((one["subset"], one["n"], one["n_test"]))
    assert all(len(told) == 1 for told in subsets.values())


def test_the_difference_is_paired_by_example_over_common_seeds(rungs):
    same = [1, 0, 1, 1]
    assert rungs.difference({0: same}, {0: same, 1: [0, 0, 0, 0]}) == (0, 0, 0)
    mean, low, high = rungs.difference({0: [1, 1, 1, 1], 1: [1, 1, 0, 0]}, {0: [0, 1, 1, 1], 1: [1, 1, 0, 0]})
    assert mean == 0.125
    assert low == pytest.approx(0.125 - 1.96 * 0.25 / 2) and high == pytest.approx(0.125 + 1.96 * 0.25 / 2)
    assert rungs.difference({0: same}, {1: same}) is None


def test_the_rung_is_chosen_by_held_out_examples_not_by_the_test_part(rungs):
    def cell(held, right):
        return {"held_out": held, "right": rungs.bits(right), "accuracy": sum(right) / len(right), "cpu_seconds": 1, "seconds": 1}

    cells = {"regraft head": cell("0110", [1, 1, 1]), "regraft top=1": cell("-11-", [1, 1, 1]), "regraft full": cell("1110", [0, 0, 0])}
    assert rungs.chosen({rungs.key(side, "trec6", 200, 0): one for side, one in cells.items()}, "trec6", 200) == {0: "full"}
    del cells["regraft full"]
    assert rungs.chosen({rungs.key(side, "trec6", 200, 0): one for side, one in cells.items()}, "trec6", 200) == {0: "head"}


def test_bits_come_back(rungs):
    assert rungs.unpacked(rungs.bits([False, True, True, False, False])) == [0, 1, 1, 0, 0]


def test_a_draw_has_so_many_of_each_class(rungs):
    from subsets import as_they_come, each

    rows = [(f"{label}{i}", label) for label, count in (("a", 9), ("b", 40), ("c", 40)) for i in range(count)]
    taken = each(rows, 23, 0)
    assert len(set(taken)) == 23 and sorted(sum(label == own for _, own in taken) for label in "abc") == [7, 8, 8]
    assert taken == each(rows, 23, 0) != each(rows, 23, 1)
    drawn = as_they_come(rows, 60, 0)
    assert len(set(drawn)) == 60 and sum(label == "a" for _, label in drawn) >= 5


def test_the_committed_file_is_json(rungs):
    assert set(json.loads(rungs.RESULTS.read_text())) == {"cells"}
