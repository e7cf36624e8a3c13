"""The benchmark of decisions: what its committed cells say is what regraft has, and a replayed chooser is judged as it is described."""

import sys
from pathlib import Path

import numpy as np
import pytest

from regraft.strategy.gains import SHIFTS

ROOT = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def replay():
    paths = [str(ROOT / "judgement"), str(ROOT)]
    sys.path[:0] = paths
    try:
        import replay

        yield replay
    finally:
        for path in paths:
            sys.path.remove(path)


@pytest.fixture(scope="module")
def committed(replay):
    import decisions

    return replay.Cells(replay.read(decisions.RESULTS))


def test_the_constants_are_what_the_cells_say(replay, committed):
    assert replay.fitted_shifts(list(replay.residuals(committed))) == SHIFTS


def test_constants_for_a_set_do_not_see_it(replay, committed):
    rows = list(replay.residuals(committed))
    without = replay.Cells({k: c for k, c in committed.found.items() if not k.startswith("trec6 / ")})
    assert committed.others("trec6") == replay.fitted_shifts(list(replay.residuals(without)))
    assert committed.others("trec6") != replay.fitted_shifts(rows)


def test_every_cell_says_which_examples_it_has_right(replay, committed):
    for name, one in committed.found.items():
        if "failed" not in one and "right" in one:
            assert round(float(np.mean(replay.unpacked(one["right"]))), 4) == one["accuracy"], name


def test_a_chooser_gives_up_what_the_best_has_more_on_the_other_half(replay):
    """hymenoptera with ten examples: `full` has all right and `head` half; the head gives up 50 points."""
    bits = lambda right: f"{int('1' + ''.join(map(str, right)), 2):x}"
    fit = lambda right, held, **more: {
        "right": bits(right), "accuracy": 0.0, "held_out": held, "estimate": 0.5, "seconds": 20.0, "peak_mb": 1.0, "short": [], **more
    }  # fmt: skip
    half, every = [0, 1] * 10, [1] * 20
    key = lambda what: f"hymenoptera / 10 / 0 / efficientnet-lite0 / {what}"
    found = {key("head in 2m"): fit(half, "01" * 5), key("full in 2m"): fit(every, "1" * 10, seconds=90.0)}
    given_up, without = replay.regrets(replay.Cells(found), 120.0)
    place = ("hymenoptera", 10)
    assert given_up["always head"][place] == pytest.approx(50, abs=5) and given_up["always full"][place] == 0
    assert given_up[replay.FLOOR][place] == 0 and given_up["by chance"][place] == pytest.approx(given_up["always head"][place] / 2)
    # what has no cell is counted apart, and never guessed
    assert without[replay.OURS][place] == "no probes" and without[replay.USUAL][place] == "no plan"
    assert without["largest network, head"][place] == "not measured"
    # in thirty seconds there is nothing to choose from; a fit whose steps were cut says nothing of ten minutes
    assert not replay.regrets(replay.Cells(found), 30.0)[0]
    found[key("full in 2m")]["short"] = ["all 80 steps of training (about 37 were made)"]
    assert not replay.regrets(replay.Cells(found), 600.0)[0]
    found[key("full in 2m")]["short"] = ["5 folds trained (of which 1 was)"]
    assert replay.regrets(replay.Cells(found), 600.0)[0]["always full"][place] == 0


def test_gains_are_paired_by_held_out_example(replay):
    mean, low, high, count = replay.paired_gain("11-0", "10-1")
    assert mean == 0 and low < 0 < high and count == 3
    assert replay.paired_gain("1---", "0---") == (0.0, -1.0, 1.0, 1)
