"""OpenVINO: the fastest engine on most processors with the x86 instruction set."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
from torch import Tensor, nn

from regraft.features.engines.base import Engine, Run, lacking, without_bfloat16
from regraft.features.engines.graph import onnx_graph


@functools.cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def _missing(device: str, precision: str) -> str:
    if device != "cpu":
        return "it runs on the CPU only"
    # (asking OpenVINO itself would import it in every fit)
    return lacking("onnx", "openvino") or (without_bfloat16() if precision == "bf16" else "")


def _make(precision: str, network: nn.Module, inputs: dict[str, Tensor], varies: bool, threads: int) -> Run:
    core = _core()
    model = core.read_model(onnx_graph(network, inputs, varies))
    # one stream for each thread that calls, each on one core: what a tile gives does not depend on how many there are
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision]})
    own = threading.local()

    def run(tile: dict[str, Tensor]) -> np.ndarray:
        request = getattr(own, "request", None)
        if request is None:
            request = own.request = compiled.create_infer_request()
        found = request.infer([v.contiguous().numpy() for v in tile.values()], share_inputs=True)
        return np.array(found[0], np.float32)

    return run


def _engine(precision: str) -> Engine:
    return Engine(
        "openvino",
        precision,
        lambda *a: _make(precision, *a),
        lambda device: _missing(device, precision),
        move="pip install 'regraft[fast]'",
        packages=("openvino",),
        traced=True,
    )


FLOAT32, BFLOAT16 = _engine("fp32"), _engine("bf16")
