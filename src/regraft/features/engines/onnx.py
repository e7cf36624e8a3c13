"""ONNX Runtime, float32."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from regraft.features.engines.base import Engine, Run, lacking
from regraft.features.engines.graph import onnx_graph


def _missing(device: str) -> str:
    return "it runs on the CPU only" if device != "cpu" else lacking("onnx", "onnxruntime")


def _make(network: nn.Module, inputs: dict[str, Tensor], varies: bool, threads: int) -> Run:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    # a session may be used by several threads at once: each computes in its own
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx_graph(network, inputs, varies), settings, providers=["CPUExecutionProvider"])
    wanted = [i.name for i in session.get_inputs()]

    def run(tile: dict[str, Tensor]) -> np.ndarray:
        return np.asarray(session.run(None, {name: tile[name].contiguous().numpy() for name in wanted})[0])

    return run


FLOAT32 = Engine("onnx", "fp32", _make, _missing, move="pip install 'regraft[fast]'", packages=("onnxruntime",), traced=True)
