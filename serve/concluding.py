"""From a text's window logits to its assessment: probabilities, decisions, evidence."""

from collections.abc import Callable, Sequence

import numpy as np

from ..data.windows import WindowTokenizer
from . import decision as rules
from .assessment import Assessment, Decision, Finding, Span, any_violation
from .bundle import Bundle
from .evidence import EvidenceOptions, find_spans
from .reading import Reading
from .session import Floats

_WINDOWS_SHOWN = 3

# Window logits (n, K) of n windows of token ids.
RunWindows = Callable[[Sequence[Sequence[int]]], Floats]


class Concluder:
    """Draws conclusions by a bundle's calibration and thresholds. It keeps no state: threads may share it."""

    def __init__(self, bundle: Bundle, tokenizer: WindowTokenizer, evidence: EvidenceOptions) -> None:
        self.bundle = bundle
        self._tokenizer = tokenizer
        self._evidence = evidence
        self._scale, self._bias = bundle.calibration()

    def conclude(
        self, reading: Reading, logits: Floats, scores: Floats | None, run: RunWindows
    ) -> Assessment:
        """The assessment of one text from the logits (W, K) and scores of its windows.

        :param run: scores further windows, where a finding wants evidence.
        """
        probabilities, decisions = self.decide(logits, scores)
        order = np.argsort(-probabilities, kind="stable").tolist()
        found = [row for row in order if decisions[row] != "clear"]
        spans = self._find_spans(reading, logits, found, run)
        return Assessment(
            decision=rules.strictest(decisions),
            probabilities=probabilities,
            findings=tuple(
                Finding(
                    policy=self.bundle.policies[row].id,
                    probability=float(probabilities[row]),
                    decision=decisions[row],
                    spans=spans[row],
                    windows=self._carrying_windows(reading, logits, row),
                )
                for row in found
            ),
            windows=len(reading.windows.windows),
            truncated=reading.windows.truncated,
            bundle=self.bundle.label,
        )

    def clear_early(self, reading: Reading) -> Assessment:
        """The assessment of a text that a first stage cleared."""
        unknown = np.full(len(self.bundle.policies), np.nan, dtype=np.float32)
        unknown.setflags(write=False)
        return Assessment(
            decision="clear",
            probabilities=unknown,
            findings=(),
            windows=len(reading.windows.windows),
            truncated=reading.windows.truncated,
            bundle=self.bundle.label,
            cleared_early=True,
        )

    def wants_evidence(self, logits: Floats, scores: Floats | None) -> bool:
        """Whether concluding will run the model again: only where something is found."""
        return self._evidence.spans > 0 and rules.strictest(self.decide(logits, scores)[1]) != "clear"

    def decide(self, logits: Floats, scores: Floats | None) -> tuple[Floats, list[Decision]]:
        """Probabilities (K,) of a text and the decision on each policy."""
        probabilities = rules.calibrate(rules.pool(logits, scores), self._scale, self._bias)
        # Texts that come again share one assessment, so nobody may write into it.
        probabilities.setflags(write=False)
        decisions = [
            rules.decide(float(probability), policy.review, policy.block)
            for probability, policy in zip(probabilities, self.bundle.policies, strict=True)
        ]
        if any_violation(probabilities) < self.bundle.any_review:
            decisions = ["clear" if decision == "review" else decision for decision in decisions]
        return probabilities, decisions

    def _carrying_windows(self, reading: Reading, logits: Floats, policy: int) -> tuple[tuple[int, int], ...]:
        """The best window for a policy, and the next ones that pass its review threshold by themselves."""
        order = np.argsort(-logits[:, policy], kind="stable")[:_WINDOWS_SHOWN]
        alone = rules.calibrate(logits, self._scale, self._bias)[:, policy]
        kept = [row for row in order if row == order[0] or alone[row] >= self.bundle.policies[policy].review]
        windows = [reading.windows.windows[row] for row in kept]
        return tuple(
            reading.clean.original_span(window.start, window.end)
            for window in windows
            if window.start < window.end
        )

    def _find_spans(
        self, reading: Reading, logits: Floats, found: Sequence[int], run: RunWindows
    ) -> dict[int, tuple[Span, ...]]:
        """Evidence spans of each found policy, in its best window."""

        def score(texts: Sequence[str]) -> Floats:
            return run([each.windows[0].ids for each in self._tokenizer.encode_batch(texts)])

        if self._evidence.spans < 1:
            return dict.fromkeys(found, ())
        by_window: dict[int, list[int]] = {}
        for policy in found:
            by_window.setdefault(int(logits[:, policy].argmax()), []).append(policy)
        spans: dict[int, tuple[Span, ...]] = {}
        for row, policies in by_window.items():
            window = reading.windows.windows[row]
            text = reading.clean.text[window.start : window.end]
            ranges = find_spans(text, logits[row], policies, score=score, options=self._evidence)
            for policy, passages in zip(policies, ranges, strict=True):
                spans[policy] = tuple(
                    reading.span(window.start + start, window.start + end) for start, end in passages
                )
        return spans
