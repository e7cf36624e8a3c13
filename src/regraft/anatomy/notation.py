"""Layers written as text: `Linear(256)`, `Sequential(Linear(256), ReLU(), Dropout(0.2))`. Nothing in the text is ever executed.

Sizes of inputs are left away: they are filled in from what comes to the layer.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from regraft.anatomy.trace import Shape
from regraft.errors import UsageError, nearest

LONGEST = 2000
"""Characters of one layer's text at most."""

LARGEST = 1 << 24
"""The largest number that a layer may be given: a wider one would ask for more memory than there is."""

WEIGHTS = 1 << 28
"""Parameters of a new layer, with all that it holds, at most (1 GB in float32)."""

SIZES = ("out_features", "out_channels", "kernel_size", "stride", "groups", "num_groups", "output_size")
"""Arguments that are whole numbers of at least 1."""

VALUES = 1 << 30
"""Numbers that a new layer may give at most (4 GB in float32)."""


@dataclass(frozen=True)
class Kind:
    """How a layer is written: names of its arguments in order, those with usual values, and how it is made for an input shape."""

    arguments: tuple[str, ...]
    usual: Mapping[str, Any]
    make: Callable[..., nn.Module]
    weights: Callable[[Shape, Mapping[str, Any]], int] = lambda came, given: 0


def _features(came: Shape) -> int:
    return came[-1]


def _channels(came: Shape, dimensions: int, kind: str) -> int:
    if len(came) != dimensions + 2:
        raise UsageError(f"{kind} takes (n, channels{', size' * dimensions}), and here comes {_shown(came)}")
    return came[1]


def _shown(came: Shape) -> str:
    return "(" + ", ".join(["n", *map(str, came[1:])]) + ")"


def _conv(kind: str, dimensions: int) -> Kind:
    def make(came: Shape, **given: Any) -> nn.Module:
        size = given.pop("kernel_size")
        given["padding"] = size // 2 if given["padding"] is None else given["padding"]
        return getattr(nn, kind)(_channels(came, dimensions, kind), given.pop("out_channels"), size, **given)

    usual = {"kernel_size": 3, "stride": 1, "padding": None, "groups": 1, "bias": True}
    weights = lambda came, given: came[1] * given["out_channels"] * given["kernel_size"] ** dimensions if len(came) > 1 else 0
    return Kind(("out_channels", "kernel_size", "stride", "padding", "groups", "bias"), usual, make, weights)


def _plain(kind: str, *arguments: str, **usual: Any) -> Kind:
    return Kind(arguments, usual, lambda came, **given: getattr(nn, kind)(**given))


KINDS: dict[str, Kind] = {
    "Linear": Kind(
        ("out_features", "bias"),
        {"bias": True},
        lambda came, out_features, bias: nn.Linear(_features(came), out_features, bias=bias),
        lambda came, given: came[-1] * given["out_features"],
    ),
    "Conv1d": _conv("Conv1d", 1),
    "Conv2d": _conv("Conv2d", 2),
    "BatchNorm1d": Kind((), {}, lambda came: nn.BatchNorm1d(came[1])),
    "BatchNorm2d": Kind((), {}, lambda came: nn.BatchNorm2d(_channels(came, 2, "BatchNorm2d"))),
    "LayerNorm": Kind((), {}, lambda came: nn.LayerNorm(_features(came))),
    "GroupNorm": Kind(("num_groups",), {}, lambda came, num_groups: nn.GroupNorm(num_groups, came[1])),
    "Dropout": _plain("Dropout", "p", p=0.5),
    "Dropout2d": _plain("Dropout2d", "p", p=0.5),
    "ReLU": _plain("ReLU"),
    "LeakyReLU": _plain("LeakyReLU", "negative_slope", negative_slope=0.01),
    "GELU": _plain("GELU"),
    "SiLU": _plain("SiLU"),
    "Hardswish": _plain("Hardswish"),
    "Tanh": _plain("Tanh"),
    "Sigmoid": _plain("Sigmoid"),
    "Identity": _plain("Identity"),
    "Flatten": _plain("Flatten", "start_dim", start_dim=1),
    "AdaptiveAvgPool2d": _plain("AdaptiveAvgPool2d", "output_size"),
    "AdaptiveMaxPool2d": _plain("AdaptiveMaxPool2d", "output_size"),
    "AvgPool2d": _plain("AvgPool2d", "kernel_size"),
    "MaxPool2d": _plain("MaxPool2d", "kernel_size"),
}
"""Layers that can be written. Outsiders' layers are given as modules, in Python."""


@dataclass(frozen=True)
class Written:
    """A layer read from text."""

    kind: str
    given: Mapping[str, Any]
    layers: tuple[Written, ...] = ()

    def __str__(self) -> str:
        if self.kind == "Sequential":
            return f"Sequential({', '.join(map(str, self.layers))})"
        usual = KINDS[self.kind].usual
        return f"{self.kind}({', '.join(f'{k}={v!r}' for k, v in self.given.items() if usual.get(k, _none) != v)})"


_none = object()


def read(text: str) -> Written:
    """A layer's text, checked; UsageError says what is wrong with it. Only names of known layers, numbers and truth values occur."""
    if len(text) > LONGEST:
        raise UsageError(f"a layer of {len(text):,} characters", expected=f"at most {LONGEST:,}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UsageError(f"{text!r} is not a layer", expected="such as Linear(256) or Sequential(Linear(256), ReLU())") from None
    return _read(tree, text)


def _read(node: ast.expr, text: str) -> Written:
    if isinstance(node, ast.Name):
        node = ast.Call(node, [], [])
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise UsageError(f"{text!r} is not a layer", expected="such as Linear(256) or Sequential(Linear(256), ReLU())")
    kind = node.func.id
    if kind == "Sequential":
        if node.keywords or not node.args:
            raise UsageError(f"{text!r}: Sequential holds layers", expected="Sequential(Linear(256), ReLU())")
        return Written(kind, {}, tuple(_read(a, text) for a in node.args))
    if kind not in KINDS:
        expected = f"one of Sequential, {', '.join(KINDS)}"
        raise UsageError(f"{text!r}: there is no layer {kind}. {nearest(kind, ['Sequential', *KINDS])}".rstrip(), expected=expected)
    record = KINDS[kind]
    given = dict(zip(record.arguments, (_value(a, text) for a in node.args), strict=False))
    if len(node.args) > len(record.arguments):
        raise UsageError(f"{text!r}: {kind} takes {len(record.arguments)} values at most", expected=_form(kind))
    for keyword in node.keywords:
        if keyword.arg not in record.arguments or keyword.arg in given:
            raise UsageError(f"{text!r}: {kind} takes no {keyword.arg}, or has it twice", expected=_form(kind))
        given[keyword.arg] = _value(keyword.value, text)
    missing = [a for a in record.arguments if a not in given and a not in record.usual]
    if missing:
        raise UsageError(f"{text!r}: {kind} needs {', '.join(missing)}", expected=_form(kind))
    for name, value in given.items():
        if isinstance(record.usual.get(name), bool) != isinstance(value, bool):
            wanted = "True or False" if isinstance(record.usual.get(name), bool) else "a number"
            what = f"{text!r}: {name} of {kind} is {value!r}" + (" (sizes of inputs are left away)" if kind == "Linear" else "")
            raise UsageError(what, expected=f"{wanted}: {_form(kind)}")
        least = 1 if name in SIZES else 0 if name == "padding" else None
        if least is not None and (not isinstance(value, int) or value < least):
            raise UsageError(f"{text!r}: {name} of {kind} is {value!r}", expected=f"a whole number of at least {least}")
    return Written(kind, {a: given.get(a, record.usual.get(a)) for a in record.arguments})


def _form(kind: str) -> str:
    record = KINDS[kind]
    return f"{kind}({', '.join(f'{a}={record.usual[a]}' if a in record.usual else a for a in record.arguments)})"


def _value(node: ast.expr, text: str) -> Any:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inner = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    if not isinstance(inner, ast.Constant) or not isinstance(inner.value, (int, float, bool)):
        raise UsageError(f"{text!r}: a layer's values are numbers, True or False")
    value = -inner.value if negative else inner.value
    if abs(value) > LARGEST:
        raise UsageError(f"{text!r}: {value} is larger than a layer may be given ({LARGEST:,})")
    return value


def make(written: Written, came: Shape) -> nn.Module:
    """The layer with random weights for inputs of shape `came` (batch first). UsageError when it cannot take them."""
    return _make(written, came, 0)


def _make(written: Written, came: Shape, before: int) -> nn.Module:
    """The same; `before`: weights of the layers around it that are made already."""
    if written.kind == "Sequential":
        layers: list[nn.Module] = []
        for inner in written.layers:
            layer = _make(inner, came, before)
            before += sum(p.numel() for p in layer.parameters())
            came = _through(layer, came, inner)
            layers.append(layer)
        return nn.Sequential(*layers)
    record = KINDS[written.kind]
    if len(came) < 2:
        raise UsageError(f"{written} cannot take {_shown(came)}")
    try:
        size = before + record.weights(came, written.given)
        if size > WEIGHTS:
            raise UsageError(f"with {written} there would be {size:,} new weights", expected=f"at most {WEIGHTS:,}")
        layer = record.make(came, **written.given)
    except UsageError:
        raise
    except Exception as error:  # PyTorch's layers raise what they like for sizes that do not go together
        raise UsageError(f"{written} cannot be made for {_shown(came)}: {error}") from None
    _through(layer, came, written)
    return layer


def _through(layer: nn.Module, came: Shape, written: Written) -> Shape:
    """The shape that a layer gives for a shape."""
    try:
        with torch.no_grad():
            state = {k: v.to("meta") for k, v in [*layer.named_parameters(), *layer.named_buffers()]}
            training = layer.training
            layer.eval()
            out = torch.func.functional_call(layer, state, (torch.zeros(came, device="meta"),))
            layer.train(training)
    except Exception as error:
        raise UsageError(f"{written} cannot take {_shown(came)}: {' '.join(str(error).split())[:200]}") from None
    if out.numel() > VALUES:
        raise UsageError(f"{written} would give {out.numel():,} numbers for {_shown(came)}", expected=f"at most {VALUES:,}")
    if 0 in out.shape:
        raise UsageError(f"{written} gives nothing for {_shown(came)}", expected="sizes of at least 1")
    if out.shape[:1] != tuple(came[:1]):
        raise UsageError(f"{written} mixes the examples of a batch", expected="a layer that keeps the first dimension")
    return tuple(out.shape)
