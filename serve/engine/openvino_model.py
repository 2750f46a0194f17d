"""The model run by OpenVINO instead of ONNX Runtime: faster in float32, and twice that in bfloat16 on CPUs that have it."""

import os
import queue
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import BundleError
from ...core.extras import require
from .onnx_model import Ids, Outputs, check_outputs, wanted_outputs
from .workers import thread_count

# The precision of everything that is not int8 in the graph already.
_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "f32", "int8+bf16": "bf16"}


class OpenVinoModel:
    """An ONNX graph compiled by OpenVINO for the CPU. `run` may be called from several threads at once.

    It does not survive a fork: its own threads stay behind in the parent.
    """

    def __init__(self, path: Path, *, pooling: str, policies: int, workers: int, precision: str) -> None:
        """Compile the graph in `path`, which must give one output column per policy.

        :param workers: how many runs at once, each on one core; 0: as many as there are usable cores.
        :param precision: "fp32" or "bf16"; for an int8 graph "int8" or "int8+bf16".
        :raises BundleError: if the file is not a graph of this shape.
        :raises MissingExtraError: if OpenVINO is not installed.
        """
        openvino = require("openvino", "openvino")
        workers = thread_count(workers)
        self._owner = os.getpid()
        settings = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "NUM_STREAMS": workers,
            "INFERENCE_NUM_THREADS": workers,
        }
        try:
            self._compiled = openvino.Core().compile_model(str(path), "CPU", settings)
            names = {name for output in self._compiled.outputs for name in output.get_names()}
        except Exception as error:  # OpenVINO raises RuntimeError and its own classes
            raise BundleError(f"{path}: OpenVINO cannot load it ({error})") from error
        self._outputs = wanted_outputs(path, names, pooling=pooling)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(workers):
            self._requests.put(self._compiled.create_infer_request())
        check_outputs(path, self, policies=policies)

    def run(self, input_ids: Ids, attention_mask: Ids) -> Outputs:
        """The graph's outputs for windows of token ids (B, T).

        :raises RuntimeError: in a process that was forked after the model was loaded.
        """
        if os.getpid() != self._owner:
            raise RuntimeError("OpenVINO does not survive a fork; load the bundle in the new process")
        request = self._requests.get()
        try:
            found = request.infer({"input_ids": input_ids, "attention_mask": attention_mask})
            # Copied: the next run of the request overwrites its memory.
            copies: dict[str, Any] = {name: np.array(found[name], np.float32) for name in self._outputs}
        finally:
            self._requests.put(request)
        return Outputs.from_graph(copies)
