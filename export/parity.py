"""The gate of export: the graph must say what the trained model says, through the same scorer."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..core.errors import ParityError
from ..serve.assessment import Assessment
from ..serve.engine.onnx_model import Ids, Outputs
from ..serve.scorer import Scorer
from ..train.model.policy_model import PolicyModel

TOLERANCE = 1e-4

_ALONE = 8


class TorchModel:
    """The trained model in the place of the ONNX graph."""

    def __init__(self, model: PolicyModel) -> None:
        self._model = model.float().eval()

    @torch.no_grad()
    def run(self, input_ids: Ids, attention_mask: Ids) -> Outputs:
        """Logits, and scores where it has some, of windows of token ids (B, T)."""
        output = self._model(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        if isinstance(output, torch.Tensor):
            return Outputs(output.numpy())
        logits, scores = output
        return Outputs(logits.numpy(), scores.numpy())


@dataclass(frozen=True, slots=True)
class Parity:
    """What the gate measured for one graph; every number but `texts` and `windows` is of probabilities."""

    graph: str
    texts: int
    windows: int
    max_difference: float
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def parity_cases(texts: Sequence[str], *, max_windows: int, window_tokens: int) -> dict[str, list[list[str]]]:
    """The texts that both models score, by case; each inner list is scored in one go.

    Ragged batches of real texts, one text at a time, the empty text, and a text longer than is read.
    """
    # A token is seldom longer than this; the longest text must go past the last window.
    characters = 12 * max_windows * window_tokens
    joined = "\n".join(texts) or "word"
    longest = (joined + "\n") * (characters // (len(joined) + 1) + 1)
    return {
        "ragged batches": [list(texts)],
        "batch of one": [[text] for text in texts[:_ALONE]],
        "empty text": [[""]],
        "longest text": [[longest[:characters]]],
    }


def check_parity(
    trained: Scorer,
    exported: Scorer,
    cases: dict[str, list[list[str]]],
    *,
    graph: str,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Compare the two scorers on every case.

    :raises ParityError: if a probability differs by more than `tolerance`, or a decision differs.
    """
    texts = windows = 0
    largest = 0.0
    for case, batches in cases.items():
        for batch in batches:
            pairs = zip(trained.assess_many(batch), exported.assess_many(batch), strict=True)
            for expected, found in pairs:
                place = f"{graph}: {case}, text {texts}"
                largest = max(largest, _difference(expected, found, place, tolerance))
                texts += 1
                windows += found.windows
    return Parity(graph=graph, texts=texts, windows=windows, max_difference=largest, tolerance=tolerance)


def _difference(expected: Assessment, found: Assessment, place: str, tolerance: float) -> float:
    differences = np.abs(expected.probabilities.astype(np.float64) - found.probabilities)
    largest = float(differences.max())
    if not largest <= tolerance:  # not a number fails too
        raise ParityError(
            f"{place}: a probability differs from the trained model's by {largest:.2g}, more than "
            f"{tolerance:g}; no bundle is written"
        )
    if _decisions(expected) != _decisions(found):
        raise ParityError(
            f"{place}: decides {_decisions(found)}, the trained model {_decisions(expected)}; "
            "no bundle is written"
        )
    return largest


def _decisions(assessment: Assessment) -> dict[str, str]:
    return {finding.policy: finding.decision for finding in assessment.findings}
