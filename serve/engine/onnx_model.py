"""The model as the scorer sees it: padded token ids in, window logits out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ...core.errors import BundleError

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

OUTPUTS = {"max": ("logits",), "attention": ("logits", "scores")}
# Of graphs that can say it, one more.
CONTRIBUTIONS = "contributions"


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the model says of some windows.

    :param logits: (W, K).
    :param scores: (W, K), where windows are pooled by attention.
    :param contributions: of each window (T, K), T at least its number of tokens: what each token adds to each logit;
        None where the graph cannot say it.
    """

    logits: Floats
    scores: Floats | None = None
    contributions: Sequence[Floats] | None = None


class Model(Protocol):
    """What scores windows; the parity gate puts the trained model in the place of the graph."""

    def run(self, input_ids: Ids, attention_mask: Ids) -> Outputs:
        """What the model says of windows of token ids (B, T)."""
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
        self._outputs = wanted_outputs(path, names, pooling=pooling)
        check_outputs(path, self, policies=policies)

    def run(self, input_ids: Ids, attention_mask: Ids) -> Outputs:
        """What the graph says of windows of token ids (B, T)."""
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        results: list[Any] = self._session.run(self._outputs, feed)
        return Outputs(**dict(zip(self._outputs, results, strict=True)))


def wanted_outputs(path: Path, found: set[str], *, pooling: str) -> tuple[str, ...]:
    """Which of a graph's outputs to ask for.

    :raises BundleError: if one is missing that windows cannot be pooled without.
    """
    if missing := [name for name in OUTPUTS[pooling] if name not in found]:
        raise BundleError(f"{path}: gives {sorted(found)}; {missing[0]} is needed")
    return (*OUTPUTS[pooling], CONTRIBUTIONS) if CONTRIBUTIONS in found else OUTPUTS[pooling]


def check_outputs(path: Path, model: Model, *, policies: int) -> None:
    """Run a model once, on one window of two tokens, and look at what comes out.

    :raises BundleError: if it does not run, or gives something else than one column per policy.
    """
    tokens = np.ones((1, 2), dtype=np.int64)
    try:
        given = model.run(tokens, tokens)
    except Exception as error:
        raise BundleError(f"{path}: cannot be run ({error})") from error
    shapes = [np.shape(each) for each in (given.logits, given.scores) if each is not None]
    if wrong := [shape for shape in shapes if shape != (1, policies)]:
        raise BundleError(f"{path}: gives shape {wrong[0]} for one window of {policies} policies")
    if given.contributions is not None and (shape := np.shape(given.contributions)) != (1, 2, policies):
        raise BundleError(
            f"{path}: gives contributions of shape {shape} for two tokens and {policies} policies"
        )


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: as many as there are cores
    options.inter_op_num_threads = 1
    # A memory plan is kept for every input shape; with texts of all lengths they only pile up.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options
