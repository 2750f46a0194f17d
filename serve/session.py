"""The model as the scorer sees it: padded token ids in, window logits out."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..data.errors import BundleError

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

OUTPUTS = {"max": ("logits",), "attention": ("logits", "scores")}


class Model(Protocol):
    """What scores windows; the parity gate puts the trained model in the place of the graph."""

    def run(self, input_ids: Ids, attention_mask: Ids) -> tuple[Floats, Floats | None]:
        """Window logits (B, K) and, where windows are pooled by attention, their scores (B, K)."""
        ...


class OnnxModel:
    """An ONNX graph on the CPU. `run` may be called from several threads at once."""

    def __init__(
        self,
        path: Path,
        *,
        pooling: str,
        policies: int,
        threads: int | None = None,
        provider: str = "CPUExecutionProvider",
    ) -> None:
        """Load the graph in `path`, which must give one output column per policy.

        :param threads: cores of one run; all of them when None.
        :param provider: ONNX Runtime's name of the execution provider, such as "CUDAExecutionProvider".
        :raises BundleError: if the file is no graph, or not one of this shape, or there is no such provider.
        """
        self._outputs = OUTPUTS[pooling]
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise BundleError(f"ONNX Runtime has no {provider} here; it has {', '.join(available)}")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=_options(threads), providers=[provider], enable_fallback=0
            )
            inputs = {value.name for value in self._session.get_inputs()}
            names = {value.name for value in self._session.get_outputs()}
        except Exception as error:  # ONNX Runtime's own exception classes share no base but this one
            raise BundleError(f"{path}: ONNX Runtime cannot load it ({error})") from error
        if inputs != {"input_ids", "attention_mask"}:
            raise BundleError(f"{path}: takes {sorted(inputs)}; input_ids and attention_mask are needed")
        check_outputs(path, self, names, pooling=pooling, policies=policies)

    def run(self, input_ids: Ids, attention_mask: Ids) -> tuple[Floats, Floats | None]:
        """Window logits (B, K) float32 and the scores (B, K), or None, of token ids (B, T)."""
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        results: list[Any] = self._session.run(self._outputs, feed)
        return results[0], results[1] if len(results) > 1 else None


def check_outputs(path: Path, model: Model, outputs: set[str], *, pooling: str, policies: int) -> None:
    """Run a model once and look at what comes out.

    :raises BundleError: if it does not run, or gives something else than one column per policy.
    """
    if missing := [name for name in OUTPUTS[pooling] if name not in outputs]:
        raise BundleError(f"{path}: gives {sorted(outputs)}; {missing[0]} is needed")
    token = np.ones((1, 1), dtype=np.int64)
    try:
        shapes = [result.shape for result in model.run(token, token) if result is not None]
    except Exception as error:
        raise BundleError(f"{path}: cannot be run ({error})") from error
    if wrong := [shape for shape in shapes if shape != (1, policies)]:
        raise BundleError(f"{path}: gives shape {wrong[0]} for one window of {policies} policies")


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: as many as there are cores
    options.inter_op_num_threads = 1
    # A memory plan is kept for every input shape; with texts of all lengths they only pile up.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options
