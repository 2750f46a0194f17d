"""From the model's outputs for a text to its assessment: probabilities, decisions, evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core import decisions as rules
from ..core.decisions import Decision
from ..data.windows import WindowTokenizer
from .assessment import Assessment, Finding, Span
from .bundle import Bundle
from .engine.onnx_model import Floats
from .evidence import EvidenceOptions
from .preprocess import EncodedText, TextOutputs
from .spans import Carrying, RunWindows, SpanFinder, Spans
from .warnings import finding_decision, text_decision, text_warnings

_WINDOWS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A text with its probabilities, (K,) and of any violation, the decision on each policy, and warnings about it."""

    outputs: TextOutputs
    probabilities: Floats
    any_violation: float
    decisions: list[Decision]
    warnings: tuple[str, ...]

    @property
    def found(self) -> list[int]:
        """Columns of the policies that are found, the most probable first."""
        order = np.argsort(-self.probabilities, kind="stable").tolist()
        return [row for row in order if self.decisions[row] != "clear"]


class Postprocessor:
    """Applies the calibration and thresholds of a bundle. It keeps no state: threads may share it."""

    def __init__(self, bundle: Bundle, tokenizer: WindowTokenizer, evidence: EvidenceOptions) -> None:
        self._bundle = bundle
        self._finder = SpanFinder(tokenizer, evidence)

    def score(self, outputs: TextOutputs) -> ScoredText:
        """Probabilities of a text and the decision on each policy."""
        found = self._bundle.decide(outputs.pooled, len(outputs.logits))
        warnings = text_warnings(outputs.encoded, self._bundle.languages)
        decisions = [finding_decision(decision, warnings) for decision in found.decisions]
        return ScoredText(outputs, found.probabilities, float(found.any_violation), decisions, warnings)

    def needs_model(self, scored: ScoredText) -> bool:
        """Whether `assess` runs the model again: it does where a finding's evidence has to be searched for."""
        return bool(scored.found) and self._finder.needs_model(scored.outputs)

    def assess(self, texts: Sequence[ScoredText], run: RunWindows) -> list[Assessment]:
        """The assessments of scored texts.

        :param run: scores further windows, of all the texts together, where evidence has to be searched for.
        """
        carrying = [{policy: self._carrying(text, policy) for policy in text.found} for text in texts]
        spans = self._finder.find([text.outputs for text in texts], carrying, run)
        return [self._assessment(*parts) for parts in zip(texts, carrying, spans, strict=True)]

    def evidence_for(self, outputs: TextOutputs, policy: int, run: RunWindows) -> tuple[Span, ...]:
        """The passages of a text that speak most for a policy (column), best first, whatever its probability."""
        carrying = {policy: _best_windows(outputs.logits, policy)}
        return self._finder.find([outputs], [carrying], run)[0].get(policy, ())

    def clear_early(self, encoded: EncodedText) -> Assessment:
        """The assessment of a text that a cascade's first stage cleared."""
        unknown = np.full(len(self._bundle.policies), np.nan, dtype=np.float32)
        unknown.setflags(write=False)
        return Assessment(
            decision="clear",
            probabilities=unknown,
            any_violation=float("nan"),
            findings=(),
            windows=len(encoded.windows.windows),
            truncated=encoded.windows.truncated,
            bundle=self._bundle.label,
            cleared_early=True,
            warnings=text_warnings(encoded, self._bundle.languages),
        )

    def _assessment(self, scored: ScoredText, carrying: Carrying, spans: Spans) -> Assessment:
        encoded = scored.outputs.encoded
        return Assessment(
            decision=text_decision(rules.strictest(scored.decisions), scored.warnings),
            probabilities=scored.probabilities,
            any_violation=scored.any_violation,
            findings=tuple(
                Finding(
                    policy=self._bundle.policies[policy].id,
                    probability=float(scored.probabilities[policy]),
                    decision=scored.decisions[policy],
                    certificate=(
                        self._bundle.policies[policy].block_scope
                        if scored.decisions[policy] == "block"
                        else None
                    ),
                    spans=spans.get(policy, ()),
                    windows=_window_ranges(encoded, carrying[policy]),
                )
                for policy in scored.found
            ),
            windows=len(encoded.windows.windows),
            truncated=encoded.windows.truncated,
            bundle=self._bundle.label,
            warnings=scored.warnings,
        )

    def _carrying(self, scored: ScoredText, policy: int) -> list[int]:
        """The best window for a policy, and the next ones that pass its review threshold on their own."""
        logits, review = scored.outputs.logits, self._bundle.policies[policy].review
        order = _best_windows(logits, policy)
        alone = self._bundle.calibration.apply(logits)[:, policy]
        return [row for row in order if row == order[0] or alone[row] >= review]


def _best_windows(logits: Floats, policy: int) -> list[int]:
    """The windows with the highest logits (W, K) of a policy, the best first."""
    order: list[int] = np.argsort(-logits[:, policy], kind="stable")[:_WINDOWS_SHOWN].tolist()
    return order


def _window_ranges(encoded: EncodedText, rows: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Where windows lie in the caller's text; those without text are left out."""
    windows = [encoded.windows.windows[row] for row in rows]
    return tuple(
        encoded.clean.original_span(window.start, window.end)
        for window in windows
        if window.start < window.end
    )
