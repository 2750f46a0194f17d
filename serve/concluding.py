"""From a text's window logits to its assessment: probabilities, decisions, evidence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.windows import WindowTokenizer
from . import decision as rules
from .assessment import Assessment, Decision, Finding, Span, any_violation
from .bundle import Bundle
from .evidence import EvidenceOptions, find_spans, search_spans
from .reading import Reading
from .session import Floats

_WINDOWS_SHOWN = 3

# Window logits (n, K) of n windows of token ids.
RunWindows = Callable[[Sequence[Sequence[int]]], Floats]


@dataclass(frozen=True, slots=True)
class WindowLogits:
    """A text with the logits (W, K) of its windows, and their scores (W, K) where windows are pooled by attention."""

    reading: Reading
    logits: Floats
    scores: Floats | None

    def window(self, row: int) -> str:
        """The clean text of a window."""
        window = self.reading.windows.windows[row]
        return self.reading.clean.text[window.start : window.end]


def by_text(readings: Sequence[Reading], logits: Floats, scores: Floats | None) -> list[WindowLogits]:
    """The logits (W, K) and scores of the windows of all texts, taken apart by text; at least one text."""
    ends = np.cumsum([len(reading.windows.windows) for reading in readings])[:-1]
    parts = [None] * len(readings) if scores is None else np.split(scores, ends)
    return [WindowLogits(*each) for each in zip(readings, np.split(logits, ends), parts, strict=True)]


class Concluder:
    """Draws conclusions by a bundle's calibration and thresholds. It keeps no state: threads may share it."""

    def __init__(self, bundle: Bundle, tokenizer: WindowTokenizer, evidence: EvidenceOptions) -> None:
        self.bundle = bundle
        self._tokenizer = tokenizer
        self._evidence = evidence
        self._scale, self._bias = bundle.calibration()

    def conclude(self, texts: Sequence[WindowLogits], run: RunWindows) -> list[Assessment]:
        """The assessments of texts from the logits and scores of their windows.

        :param run: scores further windows, where findings want evidence: of all the texts together.
        """
        verdicts = [self.decide(text.logits, text.scores) for text in texts]
        found = [
            [row for row in np.argsort(-probabilities, kind="stable").tolist() if decisions[row] != "clear"]
            for probabilities, decisions in verdicts
        ]
        spans = self._find_spans(texts, found, run)
        return [self._assessment(*parts) for parts in zip(texts, verdicts, found, spans, strict=True)]

    def _assessment(
        self,
        text: WindowLogits,
        verdict: tuple[Floats, list[Decision]],
        found: Sequence[int],
        spans: Mapping[int, tuple[Span, ...]],
    ) -> Assessment:
        probabilities, decisions = verdict
        return Assessment(
            decision=rules.strictest(decisions),
            probabilities=probabilities,
            findings=tuple(
                Finding(
                    policy=self.bundle.policies[row].id,
                    probability=float(probabilities[row]),
                    decision=decisions[row],
                    spans=spans[row],
                    windows=self._carrying_windows(text.reading, text.logits, row),
                )
                for row in found
            ),
            windows=len(text.reading.windows.windows),
            truncated=text.reading.windows.truncated,
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
        self, texts: Sequence[WindowLogits], found: Sequence[Sequence[int]], run: RunWindows
    ) -> list[dict[int, tuple[Span, ...]]]:
        """For each text the evidence spans of its found policies, each in that policy's best window."""

        def score(passages: Sequence[str]) -> Floats:
            return run([each.windows[0].ids for each in self._tokenizer.encode_batch(passages)])

        spans: list[dict[int, tuple[Span, ...]]] = [dict.fromkeys(policies, ()) for policies in found]
        if self._evidence.spans < 1:
            return spans
        places = [
            (number, row, policies)
            for number, text in enumerate(texts)
            for row, policies in _by_best_window(text.logits, found[number]).items()
        ]
        searches = [
            search_spans(
                texts[number].window(row), texts[number].logits[row], policies, options=self._evidence
            )
            for number, row, policies in places
        ]
        for (number, row, policies), ranges in zip(places, find_spans(searches, score), strict=True):
            reading = texts[number].reading
            offset = reading.windows.windows[row].start
            for policy, passages in zip(policies, ranges, strict=True):
                spans[number][policy] = tuple(
                    reading.span(offset + start, offset + end) for start, end in passages
                )
        return spans


def _by_best_window(logits: Floats, policies: Sequence[int]) -> dict[int, list[int]]:
    """The policies by the window that shows each most."""
    by_window: dict[int, list[int]] = {}
    for policy in policies:
        by_window.setdefault(int(logits[:, policy].argmax()), []).append(policy)
    return by_window
