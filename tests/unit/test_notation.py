"""Layers written as text: nothing in it executes, and what is printed can be read again."""

from __future__ import annotations

import builtins
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.anatomy.notation import KINDS, LARGEST, LONGEST, SIZES, make, read
from regraft.errors import UsageError

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "os.system('true')",
        "Linear(__import__('os').getpid())",
        "Linear(256).weight",
        "nn.Linear(256)",
        "torch.nn.Linear(256)",
        "(lambda: 1)()",
        "Linear((lambda: 1)())",
        "[Linear(3) for _ in (1,)]",
        "Linear(open('x'))",
        "Linear('256')",
        "Linear(b'256')",
        "Linear(None)",
        "Linear([2])",
        "Linear(f'{1}')",
        "Linear(10**9)",
        "Linear(10**10**10)",
        "Linear(2*128)",
        "Linear(1j)",
        "Linear(...)",
        "Linear(x := 3)",
        "Linear(*(3,))",
        "Linear(**{'out_features': 3})",
        "Linear(3)(4)",
        "Linear(3); Linear(4)",
        "Linear(3) if 1 else 2",
        "Sequential()",
        "Sequential(Linear)",
        "Sequential([Linear(3)])",
        "Sequential(layers=Linear(3))",
        "Sequential(*Linear(3))",
        "lambda: 0",
        "eval",
        "",
        " ",
        "3",
        "Linear(",
        "Linear)",
        "Linear(3",
        "\0",
        "\ud800",
        "Linear(\n3\n",
        "#",
        "Linear()",
        "Linear(3, True, 5)",
        "Linear(3, out_features=4)",
        "Linear(3, bias=True, bias=False)",
        "Linear(in_features=3, out_features=4)",
        "Linear(-~3)",
        "Linear(--3)",
        "Dropout(p='x')",
        "Dropout(True)",
        "Conv2d(True)",
        "Linear(3, bias=1)",
        "Embedding(3, 4)",
        "linear(3)",
    ],
)
def test_what_is_no_layer_is_refused_and_nothing_runs(text: str, monkeypatch: pytest.MonkeyPatch):
    called: list[Any] = []
    monkeypatch.setattr(builtins, "eval", lambda *a: called.append(a))
    monkeypatch.setattr(builtins, "exec", lambda *a: called.append(a))
    monkeypatch.setattr(os, "system", lambda *a: called.append(a))
    with pytest.raises(UsageError):
        read(text)
    assert not called


def test_long_deep_and_huge_texts_are_refused():
    for text in (
        "Linear(" + "9" * 1900 + ")",
        f"Linear({LARGEST + 1})",
        f"Linear(-{LARGEST + 1})",
        "LeakyReLU(1e999)",
        "(" * 900 + ")" * 900,
        "-" * 1900 + "1",
        "Linear(" + "-" * 1900 + "1)",
        "Sequential(" * 150 + ")" * 150,
        "x" * (LONGEST + 1),
        "Sequential(" * 10**5,
    ):
        with pytest.raises(UsageError):
            read(text)
    deep = "Sequential(" * 100 + "ReLU()" + ")" * 100
    assert str(read(deep)) == deep


def test_sizes_that_memory_does_not_hold_are_refused_before_they_are_made():
    came = (2, 512)
    with pytest.raises(UsageError, match="weights"):
        make(read("Linear(16777216)"), came)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regraft.anatomy.notation.WEIGHTS", 2000)
        make(read("Linear(3)"), came)
        with pytest.raises(UsageError, match="weights"):
            make(read("Sequential(Linear(3), Linear(300))"), came)
    with pytest.raises(UsageError, match="weights"):
        make(read("Conv2d(64, 9999)"), (2, 64, 8, 8))
    with pytest.raises(UsageError, match="numbers"):
        make(read("AdaptiveAvgPool2d(1000000)"), (2, 3, 8, 8))


@pytest.mark.parametrize(
    ("text", "came"),
    [
        ("Linear(0)", (2, 8)),
        ("Linear(-1)", (2, 8)),
        ("Linear(2.5)", (2, 8)),
        ("Dropout(2)", (2, 8)),
        ("Dropout(-0.1)", (2, 8)),
        ("Conv2d(8)", (2, 8)),
        ("Conv2d(8, 3, 0)", (2, 4, 8, 8)),
        ("Conv2d(8, 0)", (2, 4, 8, 8)),
        ("Conv2d(8, 2.5)", (2, 4, 8, 8)),
        ("Conv2d(8, groups=0)", (2, 4, 8, 8)),
        ("Conv2d(8, groups=3)", (2, 4, 8, 8)),
        ("Conv2d(8, 9, padding=0)", (2, 4, 8, 8)),
        ("GroupNorm(3)", (2, 4, 8, 8)),
        ("GroupNorm(0)", (2, 4, 8, 8)),
        ("BatchNorm2d", (2, 8)),
        ("AvgPool2d(9)", (2, 4, 8, 8)),
        ("AvgPool2d(0)", (2, 4, 8, 8)),
        ("AdaptiveAvgPool2d(0)", (2, 4, 8, 8)),
        ("Flatten(0)", (2, 4, 8, 8)),
        ("Flatten(-9)", (2, 4, 8, 8)),
        ("Linear(3)", (2,)),
        ("Sequential(Linear(3), Conv2d(3))", (2, 8)),
    ],
)
def test_layers_that_cannot_be_made_or_take_nothing_of_that_shape(text: str, came: tuple[int, ...]):
    with pytest.raises(UsageError, match=text.split("(")[0] if "Sequential" not in text else "Conv2d"):
        make(read(text), came)


def test_what_pytorch_would_take_for_two_sizes_is_not_taken_for_something_else():
    with pytest.raises(UsageError, match="sizes of inputs are left away") as caught:
        read("Linear(512, 10)")
    assert "Linear(out_features, bias=True)" in str(caught.value)
    assert make(read("Linear(10, False)"), (2, 512)).bias is None


def test_advice_of_a_message_works():
    with pytest.raises(UsageError, match="did you mean 'Linear'") as caught:
        read("Linaer(3)")
    name = str(caught.value).split("did you mean '")[1].split("'")[0]
    assert read(f"{name}(3)").kind == "Linear"
    with pytest.raises(UsageError, match="needs out_features"):
        read("Linear")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("Linear(256)", "Linear(out_features=256)"),
        ("ReLU", "ReLU()"),
        (" ReLU() ", "ReLU()"),
        ("Conv2d(64, 5)", "Conv2d(out_channels=64, kernel_size=5)"),
        ("Conv2d(64, stride=2, bias=False)", "Conv2d(out_channels=64, stride=2, bias=False)"),
        ("Dropout(1e-05)", "Dropout(p=1e-05)"),
        ("Dropout(0.5)", "Dropout()"),
        ("LeakyReLU(-0.5)", "LeakyReLU(negative_slope=-0.5)"),
        ("Sequential(Linear(0x10), Sequential(ReLU))", "Sequential(Linear(out_features=16), Sequential(ReLU()))"),
    ],
)
def test_what_is_printed_is_read_as_the_same(text: str, printed: str):
    assert str(read(text)) == printed and read(printed) == read(text)


def _value(kind: str, name: str) -> st.SearchStrategy[Any]:
    if isinstance(KINDS[kind].usual.get(name), bool):
        return st.booleans()
    if name in (*SIZES, "padding"):
        return st.integers(1, LARGEST)
    return st.one_of(st.integers(-LARGEST, LARGEST), st.floats(-1e6, 1e6))


@st.composite
def texts(draw: Any, depth: int = 3) -> str:
    if depth and draw(st.integers(0, 3)) == 0:
        return f"Sequential({', '.join(draw(st.lists(texts(depth - 1), min_size=1, max_size=3)))})"
    kind = draw(st.sampled_from(sorted(KINDS)))
    record = KINDS[kind]
    used = [a for a in record.arguments if a not in record.usual or draw(st.booleans())]
    return f"{kind}({', '.join(f'{a}={draw(_value(kind, a))!r}' for a in used)})"


@given(texts())
@settings(max_examples=150, deadline=None)
def test_reading_what_was_printed_gives_the_same(text: str):
    if len(text) > LONGEST:
        return
    written = read(text)
    if len(str(written)) <= LONGEST:
        assert read(str(written)) == written and str(read(str(written))) == str(written)


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_layer_or_a_message(text: str):
    try:
        written = read(text)
    except UsageError:
        return
    assert read(str(written)) == written


def test_sizes_are_filled_in_from_what_comes():
    layer = make(read("Sequential(Conv2d(8, 3, 2), BatchNorm2d, ReLU, AdaptiveAvgPool2d(1), Flatten, Linear(5))"), (2, 3, 16, 16))
    assert layer(torch.randn(2, 3, 16, 16)).shape == (2, 5) and layer.training
    assert make(read("LayerNorm"), (2, 7, 12)).normalized_shape == (12,)
    assert make(read("Conv1d(4)"), (2, 3, 9))(torch.randn(2, 3, 9)).shape == (2, 4, 9)
