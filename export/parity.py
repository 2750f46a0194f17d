"""The gate of export: a graph must give what the trained model gives, through the same scorer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..core.errors import ParityError
from ..serve.assessment import Assessment
from ..serve.engine.batching import pad_windows
from ..serve.engine.onnx_model import Floats, Ids, Model, Outputs
from ..serve.preprocess import encode_texts
from ..serve.scorer import Scorer
from ..train.model.policy_model import PolicyModel
from .attribution import Explained, has_attribution

TOLERANCE = 1e-4
"""Largest difference of a probability."""

ATTRIBUTION_TOLERANCE = 1e-3
"""Largest difference of what a token adds to a logit."""

_ALONE = 8
_ATTRIBUTED_WINDOWS = 16
_WINDOWS_AT_ONCE = 8


class TorchModel:
    """The trained model in place of the ONNX graph."""

    def __init__(self, model: PolicyModel) -> None:
        self._model = model.float().eval()
        self._explained = Explained(self._model).eval() if has_attribution(self._model) else None

    @torch.no_grad()
    def run(self, input_ids: Ids, attention_mask: Ids) -> Outputs:
        """Logits, and scores where it has some, of windows of token ids (B, T)."""
        output = self._model(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        if isinstance(output, torch.Tensor):
            return Outputs(output.numpy())
        logits, scores = output
        return Outputs(logits.numpy(), scores.numpy())

    @torch.no_grad()
    def attribution(self, input_ids: Ids, attention_mask: Ids) -> Floats | None:
        """What each token adds to each logit, (B, T, K); None where the model cannot say it."""
        if self._explained is None:
            return None
        outputs = self._explained(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        return np.asarray(outputs[-1].numpy(), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Parity:
    """What the gate measured for one graph.

    :param max_difference: of a probability.
    :param max_attribution_difference: of what a token adds to a logit; None where the graph does not give it.
    """

    graph: str
    texts: int
    windows: int
    max_difference: float
    tolerance: float
    max_attribution_difference: float | None = None
    attribution_tolerance: float = ATTRIBUTION_TOLERANCE


@dataclass(frozen=True, slots=True, eq=False)
class AttributedBatch:
    """Token ids and mask (B, T) of windows, and what each token adds by the trained model, (B, T, K) or None."""

    input_ids: Ids
    attention_mask: Ids
    attribution: Floats | None


@dataclass(frozen=True)
class ParityCheck:
    """Compares graphs with the trained model on the same texts.

    :param trained: scores by `model`.
    """

    trained: Scorer
    model: TorchModel
    texts: Sequence[str]
    tolerance: float = TOLERANCE

    def run(self, exported: Scorer, model: Model, *, graph: str) -> Parity:
        """Compare a graph with the trained model.

        :param exported: scores by `model`.
        :raises ParityError: if a probability or an attribution differs by more than its tolerance, or a decision differs.
        """
        bundle = self.trained.bundle
        cases = parity_cases(self.texts, max_windows=bundle.max_windows, window_tokens=bundle.window_tokens)
        texts, windows, largest = compare_scores(
            self.trained, exported, cases, graph=graph, tolerance=self.tolerance
        )
        attribution = compare_attribution(self._attribution, model, graph=graph)
        return Parity(graph, texts, windows, largest, self.tolerance, attribution)

    @cached_property
    def _attribution(self) -> list[AttributedBatch]:
        """The trained model's attribution of windows spread over the texts, with padding."""
        return [AttributedBatch(*inputs, self.model.attribution(*inputs)) for inputs in self._batches()]

    def _batches(self) -> Iterator[tuple[Ids, Ids]]:
        tokenizer = self.trained.tokenizer
        windows = [ids for encoded in encode_texts(self.texts, tokenizer) for ids in encoded.ids]
        chosen = windows[:: max(1, len(windows) // _ATTRIBUTED_WINDOWS)]
        for start in range(0, len(chosen), _WINDOWS_AT_ONCE):
            batch = chosen[start : start + _WINDOWS_AT_ONCE]
            yield pad_windows(batch, tokenizer.pad_id, tokenizer.window_tokens)


def parity_cases(texts: Sequence[str], *, max_windows: int, window_tokens: int) -> dict[str, list[list[str]]]:
    """The texts that both models score, by case; each inner list is scored together.

    Ragged batches of real texts, one text at a time, the empty text, and a text longer than the windows.
    """
    # Few tokens are longer than this; the longest text must go past the last window.
    characters = 12 * max_windows * window_tokens
    joined = "\n".join(texts) or "word"
    longest = (joined + "\n") * (characters // (len(joined) + 1) + 1)
    return {
        "ragged batches": [list(texts)],
        "batch of one": [[text] for text in texts[:_ALONE]],
        "empty text": [[""]],
        "longest text": [[longest[:characters]]],
    }


def compare_scores(
    trained: Scorer,
    exported: Scorer,
    cases: dict[str, list[list[str]]],
    *,
    graph: str,
    tolerance: float = TOLERANCE,
) -> tuple[int, int, float]:
    """Compare two scorers on every case: numbers of texts and of windows, and the largest difference of a probability.

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
    return texts, windows, largest


def compare_attribution(batches: Sequence[AttributedBatch], exported: Model, *, graph: str) -> float | None:
    """The largest difference of what a token adds; None where neither the trained model nor the graph gives it.

    :raises ParityError: if it is above `ATTRIBUTION_TOLERANCE`, or only one of the two gives attribution.
    """
    largest: float | None = None
    for batch in batches:
        expected = batch.attribution
        found = exported.run(batch.input_ids, batch.attention_mask).attribution
        if expected is None and found is None:
            continue
        if expected is None or found is None:
            raise ParityError(
                f"{graph}: only the {'trained model' if found is None else 'graph'} gives attribution"
            )
        difference = float(np.abs(expected.astype(np.float64) - np.asarray(found)).max())
        if not difference <= ATTRIBUTION_TOLERANCE:  # not a number fails too
            raise ParityError(
                f"{graph}: the attribution of a token differs from the trained model's by {difference:.2g}, more than "
                f"{ATTRIBUTION_TOLERANCE:g}; no bundle is written"
            )
        largest = max(difference, largest or 0.0)
    return largest


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
