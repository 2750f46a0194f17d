"""The model as the scorer uses it: padded token ids in, window logits out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ...core.errors import BundleError
from .workers import thread_count

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

OUTPUTS = {"max": ("logits",), "attention": ("logits", "scores")}
# The name of the attribution in graphs, which is part of the bundle format; not every model can give it.
ATTRIBUTION_OUTPUT = "contributions"
_FIELDS = {"logits": "logits", "scores": "scores", ATTRIBUTION_OUTPUT: "attribution"}


@dataclass(frozen=True, slots=True)
class Outputs:
    """The model's outputs for some windows.

    :param logits: (W, K).
    :param scores: (W, K), where windows are pooled by attention.
    :param attribution: of each window (T, K), T at least its number of tokens: what each token adds to each logit;
        None where the graph does not give it.
    """

    logits: Floats
    scores: Floats | None = None
    attribution: Sequence[Floats] | None = None

    @classmethod
    def from_graph(cls, values: Mapping[str, Any]) -> "Outputs":
        """The outputs of a graph by their names there."""
        return cls(**{_FIELDS[name]: value for name, value in values.items()})


class Model(Protocol):
    """What scores windows; the parity gate puts the trained model in place of the graph."""

    def run(self, input_ids: Ids, attention_mask: Ids) -> Outputs:
        """The model's outputs for windows of token ids (B, T)."""
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

        :param threads: cores of one run; all that are usable when None or 0.
        :param provider: ONNX Runtime's name of the execution provider, such as "CUDAExecutionProvider".
        :raises BundleError: if the file is not a graph of this shape, or there is no such provider.
        :raises ValueError: if `threads` is negative.
        """
        options = _options(threads)
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise BundleError(f"ONNX Runtime has no {provider} here; it has {', '.join(available)}")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=[provider], enable_fallback=0
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
        """The graph's outputs for windows of token ids (B, T)."""
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        results: list[Any] = self._session.run(self._outputs, feed)
        return Outputs.from_graph(dict(zip(self._outputs, results, strict=True)))


def wanted_outputs(path: Path, found: set[str], *, pooling: str) -> tuple[str, ...]:
    """Which of a graph's outputs to ask for.

    :raises BundleError: if one is missing that pooling needs.
    """
    if missing := [name for name in OUTPUTS[pooling] if name not in found]:
        raise BundleError(f"{path}: gives {sorted(found)}; {missing[0]} is needed")
    return (*OUTPUTS[pooling], ATTRIBUTION_OUTPUT) if ATTRIBUTION_OUTPUT in found else OUTPUTS[pooling]


def check_outputs(path: Path, model: Model, *, policies: int) -> None:
    """Run a model once, on one window of two tokens, and check the shapes of its outputs.

    :raises BundleError: if it does not run, or does not give one column per policy.
    """
    tokens = np.ones((1, 2), dtype=np.int64)
    try:
        given = model.run(tokens, tokens)
    except Exception as error:
        raise BundleError(f"{path}: cannot be run ({error})") from error
    shapes = [np.shape(each) for each in (given.logits, given.scores) if each is not None]
    if wrong := [shape for shape in shapes if shape != (1, policies)]:
        raise BundleError(f"{path}: gives shape {wrong[0]} for one window of {policies} policies")
    if given.attribution is not None and (shape := np.shape(given.attribution)) != (1, 2, policies):
        raise BundleError(
            f"{path}: gives {ATTRIBUTION_OUTPUT} of shape {shape} for two tokens and {policies} policies"
        )


def _options(threads: int | None) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(threads)
    options.inter_op_num_threads = 1
    # A memory plan is kept for every input shape; with texts of all lengths the plans only pile up.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options
