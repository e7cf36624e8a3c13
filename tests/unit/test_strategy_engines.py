"""Which engine is taken, given what each was measured to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.strategy.engines import (
    CLEARLY,
    SAMPLE,
    SHORT,
    TIMED_FROM,
    Timing,
    is_short,
    objection,
    pick,
    sample_places,
    sample_size,
    seconds,
    worth_timing,
)

TORCH = Timing("torch fp32", 0.1, 40, True)
EXACT = Timing("openvino fp32", 1.2, 180, True)
ROUNDED = Timing("openvino bf16", 1.2, 380, False)
ONNX = Timing("onnx fp32", 1.0, 200, True)
COMPILED = Timing("compile bf16", 100, 400, False)
BARELY = Timing("torch bf16", 0.1, 44, False)
BROKEN = Timing("other fp32", 0.0, 0.0, True)


@pytest.mark.parametrize(
    ("others", "examples", "taken", "exact"),
    [
        ([], 1_000, "torch fp32", "torch fp32"),
        ([BROKEN], 1_000, "torch fp32", "torch fp32"),
        ([EXACT], 20, "torch fp32", "torch fp32"),  # making it costs more than it saves
        ([EXACT], 2_000, "openvino fp32", "openvino fp32"),
        ([EXACT, ONNX], 2_000, "onnx fp32", "onnx fp32"),
        ([BARELY], 10_000, "torch fp32", "torch fp32"),  # not clearly faster, and it rounds
        ([EXACT, ROUNDED], 1_000, "openvino fp32", "openvino fp32"),  # comparing costs what rounding saves
        ([EXACT, ROUNDED], 100_000, "openvino bf16", "openvino fp32"),
        ([ROUNDED], 2_000, "openvino bf16", "torch fp32"),
        ([COMPILED], 2_000, "torch fp32", "torch fp32"),  # 200 images do not pay for a minute of compiling, nor do 2,000
        ([COMPILED], 100_000, "compile bf16", "torch fp32"),
    ],
)
def test_the_engine_that_is_taken(others, examples, taken, exact):
    assert tuple(t.label for t in pick(TORCH, others, examples)) == (taken, exact)


timings = st.builds(
    Timing,
    st.sampled_from(["a", "b", "c", "d"]),
    st.floats(0, 200),
    st.floats(0, 5_000),
    st.booleans(),
)
references = st.builds(Timing, st.just("torch fp32"), st.floats(0, 5), st.floats(0.1, 5_000), st.just(True))


@given(references, st.lists(timings, max_size=6, unique_by=lambda t: t.label), st.integers(1, 10**6))
def test_what_is_taken_is_one_of_them_and_never_expected_to_take_longer(reference, others, examples):
    taken, exact = pick(reference, others, examples)
    assert taken in [reference, *others] and exact in [reference, *others] and exact.exact
    if taken is not reference:
        assert seconds(taken, exact, examples) <= CLEARLY * seconds(reference, exact, examples) * (1 + 1e-9)
    assert seconds(taken, exact, examples) <= seconds(exact, exact, examples) * (1 + 1e-9)


@given(references, st.lists(timings, max_size=6, unique_by=lambda t: t.label), st.integers(1, 10**6), st.randoms())
def test_the_order_in_which_they_were_timed_does_not_matter(reference, others, examples, random):
    shuffled = list(others)
    random.shuffle(shuffled)
    assert pick(reference, others, examples) == pick(reference, shuffled, examples)


@pytest.mark.parametrize(("examples", "size"), [(1, 1), (40, 40), (64, 64), (500, 64), (1_000, 100), (2_560, 256), (10**6, SAMPLE)])
def test_how_many_are_compared(examples, size):
    assert sample_size(examples) == size
    places = sample_places(examples)
    assert len(places) == size and places == sorted(places) and (places[0], places[-1]) == (0, examples - 1)


def test_a_short_pass_is_not_worth_looking_for_another_engine():
    assert is_short(TORCH, int(SHORT * TORCH.rate)) and not is_short(TORCH, int(SHORT * TORCH.rate) + 1)


def test_few_examples_are_not_worth_timing():
    assert not worth_timing(TIMED_FROM - 1) and worth_timing(TIMED_FROM)


@pytest.mark.parametrize(
    ("equal", "examples", "figure", "reference", "slack", "words"),
    [
        (256, 256, 0.9, 0.9, 0.004, ""),
        (255, 256, 0.9, 0.9, 0.004, ""),
        (254, 256, 0.9, 0.9, 0.004, "2 of 256 predictions differ"),
        (199, 200, 0.9, 0.9, 0.005, ""),
        (63, 64, 0.9, 0.9, 0.02, "1 of 64 predictions differ"),
        (256, 256, 0.89, 0.9, 0.004, "lower"),
        (256, 256, 0.91, 0.9, 0.004, ""),
        (256, 256, -0.32, -0.30, 0.01, "0.32 in place of 0.3"),
    ],
)
def test_when_features_are_refused(equal, examples, figure, reference, slack, words):
    found = objection(equal, examples, figure, reference, slack)
    assert words in found if words else found == ""
