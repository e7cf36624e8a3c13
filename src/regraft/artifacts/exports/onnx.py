"""ONNX: one file for ONNX Runtime, OpenVINO and others, written by PyTorch's own exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regraft.artifacts.exports.base import SCORES, Export, Runner
from regraft.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKAGES = ("onnx", "onnxscript", "onnxruntime")

LARGEST = 2**31 - 1
"""Bytes of one file: its format cannot say more."""


def write(
    network: nn.Module, inputs: Mapping[str, Tensor], free: Mapping[str, Mapping[int, str]], notes: Mapping[str, str], path: Path
) -> dict[str, int | str]:
    """The graph with its weights inside; gives the opset. ModelError when the exporter cannot follow the network."""
    _needed()
    size = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    if size > LARGEST:
        raise ModelError(f"the network has {size >> 20:,} MB of weights, more than the 2,048 MB that one ONNX file can hold")
    import torch

    logger = logging.getLogger("torch.onnx")
    level, disabled = logger.level, logger.disabled
    try:
        # the exporter tells its story on the screen and by warnings; what matters of it is in what it raises
        logger.disabled = True
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _by_place(network, list(inputs)),
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes=(tuple(dict.fromkeys(free[name], torch.export.Dim.DYNAMIC) for name in inputs),),
                input_names=list(inputs),
                output_names=[SCORES],
                verbose=False,
            )
            assert program is not None
            model = program.model_proto
    except Exception as error:
        # whatever a network makes the exporter raise
        raise ModelError(
            f"PyTorch's ONNX exporter cannot follow this network ({_reason(error)})",
            expected="a network whose way does not depend on the values that pass",
            move="regraft.open_run(RUN).network() in Python gives the plain torch module, for other exporters",
        ) from None
    finally:
        logger.level, logger.disabled = level, disabled
    _bare(model)
    _name_sizes(model, free)
    for name, text in notes.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, text
    path.write_bytes(model.SerializeToString(deterministic=True))
    return {"opset": next(entry.version for entry in model.opset_import if not entry.domain)}


def _by_place(network: nn.Module, names: list[str]) -> nn.Module:
    """The same network with its inputs by their places: the exporter knows no `**inputs`, and other networks name more than they need."""
    from torch import nn

    class ByPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *values: Tensor) -> Tensor:
            return self.network(**dict(zip(names, values, strict=True)))

    return ByPlace().eval()


def _needed() -> None:
    import importlib.util

    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if lacking:
        raise MissingExtra(f"writing ONNX needs {', '.join(lacking)}", move="pip install 'regraft[onnx]'")


def _reason(error: Exception) -> str:
    """What went wrong in the first place, in one line: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:300]


def _bare(model: Any) -> None:
    """Without where in the code each part comes from: that names places on this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *model.functions):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.metadata_props[:]


def _name_sizes(model: Any, free: Mapping[str, Mapping[int, str]]) -> None:
    """Call the sizes that the user of the file chooses by their names; the exporter numbers them."""
    inputs = {i.name: i.type.tensor_type.shape.dim for i in model.graph.input}
    if lost := [name for name in free if name not in inputs]:
        raise ModelError(f"PyTorch's ONNX exporter left the input {', '.join(lost)} out: the network makes no use of it")
    names = {inputs[name][axis].dim_param: called for name, axes in free.items() for axis, called in axes.items()}
    # sizes inside are computed from them, under their old names
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in names:
                size.dim_param = names[size.dim_param]


def runner(path: Path) -> Runner:
    """The file in ONNX Runtime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # the library has a class of its own for each fault
        raise ModelError(f"ONNX Runtime cannot open what was written ({_reason(error)})") from None

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        try:
            return np.asarray(session.run([SCORES], dict(inputs))[0])
        except Exception as error:
            raise ModelError(f"ONNX Runtime cannot run what was written ({_reason(error)})") from None

    return run


EXPORT = Export("onnx", "one .onnx file for ONNX Runtime, OpenVINO and others", ".onnx", PACKAGES, write, runner)
