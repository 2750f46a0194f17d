"""From a text's window logits to its assessment: probabilities, decisions, evidence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core import decisions as rules
from ..data.windows import WindowTokenizer
from .assessment import Assessment, Decision, Finding, Span, any_violation
from .bundle import Bundle
from .engine.onnx_model import Floats, Outputs
from .evidence import EvidenceOptions, Range, Ranges, Search, contributed_spans, find_spans, search_spans
from .preprocess import Reading

_WINDOWS_SHOWN = 3

# Window logits (n, K) of n windows of token ids.
RunWindows = Callable[[Sequence[Sequence[int]]], Floats]


@dataclass(frozen=True, slots=True)
class WindowLogits:
    """A text with what the model says of its windows: logits (W, K), and where there are some, scores (W, K) and what
    each token adds, (T, K) of each window."""

    reading: Reading
    logits: Floats
    scores: Floats | None = None
    contributions: Sequence[Floats] | None = None

    def window(self, row: int) -> str:
        """The clean text of a window."""
        window = self.reading.windows.windows[row]
        return self.reading.clean.text[window.start : window.end]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A text with its probabilities (K,) and the decision on each policy."""

    text: WindowLogits
    probabilities: Floats
    decisions: list[Decision]

    @property
    def found(self) -> list[int]:
        """Columns of the policies that are found, the most probable first."""
        order = np.argsort(-self.probabilities, kind="stable").tolist()
        return [row for row in order if self.decisions[row] != "clear"]


def by_text(readings: Sequence[Reading], outputs: Outputs) -> list[WindowLogits]:
    """What the model says of the windows of all texts, taken apart by text."""
    texts, start = [], 0
    for reading in readings:
        rows = slice(start, start + len(reading.windows.windows))
        start = rows.stop
        scores = None if outputs.scores is None else outputs.scores[rows]
        added = None if outputs.contributions is None else outputs.contributions[rows]
        texts.append(WindowLogits(reading, outputs.logits[rows], scores, added))
    return texts


class Concluder:
    """Draws conclusions by a bundle's calibration and thresholds. It keeps no state: threads may share it."""

    def __init__(self, bundle: Bundle, tokenizer: WindowTokenizer, evidence: EvidenceOptions) -> None:
        self.bundle = bundle
        self._tokenizer = tokenizer
        self._evidence = evidence
        self._scale, self._bias = bundle.calibration()

    def judge(self, text: WindowLogits) -> Verdict:
        """Probabilities of a text and the decision on each policy."""
        return Verdict(text, *self.decide(text.logits, text.scores))

    def decide(self, logits: Floats, scores: Floats | None) -> tuple[Floats, list[Decision]]:
        """Probabilities (K,) and decisions from the logits (W, K) and scores of a text's windows."""
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

    def runs_again(self, verdict: Verdict) -> bool:
        """Whether concluding will run the model again: where something is found and its tokens say nothing."""
        return self._evidence.spans > 0 and verdict.text.contributions is None and bool(verdict.found)

    def conclude(self, verdicts: Sequence[Verdict], run: RunWindows) -> list[Assessment]:
        """The assessments of texts.

        :param run: scores further windows, where findings want evidence: of all the texts together.
        """
        spans = self._find_spans(verdicts, run)
        return [self._assessment(*parts) for parts in zip(verdicts, spans, strict=True)]

    def _assessment(self, verdict: Verdict, spans: Mapping[int, tuple[Span, ...]]) -> Assessment:
        windows = verdict.text.reading.windows
        return Assessment(
            decision=rules.strictest(verdict.decisions),
            probabilities=verdict.probabilities,
            findings=tuple(
                Finding(
                    policy=self.bundle.policies[row].id,
                    probability=float(verdict.probabilities[row]),
                    decision=verdict.decisions[row],
                    spans=spans.get(row, ()),
                    windows=self._carrying_windows(verdict.text.reading, verdict.text.logits, row),
                )
                for row in verdict.found
            ),
            windows=len(windows.windows),
            truncated=windows.truncated,
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

    def _carrying(self, logits: Floats, policy: int) -> list[int]:
        """The best window for a policy, and the next ones that pass its review threshold by themselves."""
        order = np.argsort(-logits[:, policy], kind="stable")[:_WINDOWS_SHOWN].tolist()
        alone = rules.calibrate(logits, self._scale, self._bias)[:, policy]
        return [row for row in order if row == order[0] or alone[row] >= self.bundle.policies[policy].review]

    def _carrying_windows(self, reading: Reading, logits: Floats, policy: int) -> tuple[tuple[int, int], ...]:
        """Where in the caller's text those windows stand."""
        windows = [reading.windows.windows[row] for row in self._carrying(logits, policy)]
        return tuple(
            reading.clean.original_span(window.start, window.end)
            for window in windows
            if window.start < window.end
        )

    def _find_spans(self, verdicts: Sequence[Verdict], run: RunWindows) -> list[dict[int, tuple[Span, ...]]]:
        """For each text the evidence spans of its found policies: of the best window, and where they cost nothing of the
        next ones that show the policy too."""
        if self._evidence.spans < 1:
            return [{} for _ in verdicts]
        places = [
            _Place(number, verdict.text, window, policies)
            for number, verdict in enumerate(verdicts)
            for window, policies in self._windows_to_search(verdict).items()
        ]
        told = [place for place in places if place.text.contributions is not None]
        sought = [place for place in places if place.text.contributions is None]
        ranges = [place.contributed(self._evidence) for place in told] + self._search(sought, run)
        found: dict[tuple[int, int], dict[int, tuple[Span, ...]]] = {}
        for place, of_place in zip([*told, *sought], ranges, strict=True):
            for policy, each in zip(place.policies, of_place, strict=True):
                found.setdefault((place.number, policy), {})[place.window] = place.spans(each)
        return [
            {
                policy: self._merge(found[number, policy], verdict.text.logits[:, policy])
                for policy in verdict.found
            }
            for number, verdict in enumerate(verdicts)
        ]

    def _windows_to_search(self, verdict: Verdict) -> dict[int, list[int]]:
        """The windows in which evidence is looked for, each with its policies."""
        by_window: dict[int, list[int]] = {}
        for policy in verdict.found:
            windows = self._carrying(verdict.text.logits, policy)
            for window in windows[:1] if verdict.text.contributions is None else windows:
                by_window.setdefault(window, []).append(policy)
        return by_window

    def _merge(self, spans: Mapping[int, tuple[Span, ...]], logits: Floats) -> tuple[Span, ...]:
        """The best span of each window, the best window first, then the further ones of that; none overlaps another."""
        by_window = [spans[window] for window in sorted(spans, key=lambda row: (-logits[row], row))]
        kept: list[Span] = []
        for span in [*(each[0] for each in by_window if each), *by_window[0][1:]]:
            if all(span.end <= other.start or other.end <= span.start for other in kept):
                kept.append(span)
        return tuple(kept[: self._evidence.spans])

    def _search(self, places: "Sequence[_Place]", run: RunWindows) -> list[Ranges]:
        """Ranges for each place, by further runs of the model, of all places together."""

        def score(passages: Sequence[str]) -> Floats:
            return run([each.windows[0].ids for each in self._tokenizer.encode_batch(passages)])

        return find_spans([place.search(self._evidence) for place in places], score)


@dataclass(frozen=True, slots=True)
class _Place:
    """A window of text `number` in which evidence of some policies (columns) is looked for."""

    number: int
    text: WindowLogits
    window: int
    policies: list[int]

    def contributed(self, options: EvidenceOptions) -> Ranges:
        """By what the tokens add."""
        assert self.text.contributions is not None
        window = self.text.reading.windows.windows[self.window]
        added = self.text.contributions[self.window][: len(window.ids), self.policies]
        offsets = [(start - window.start, end - window.start) for start, end in window.offsets]
        return contributed_spans(self.text.window(self.window), offsets, added, options=options)

    def search(self, options: EvidenceOptions) -> Search:
        """By further runs of the model."""
        logits = self.text.logits[self.window]
        return search_spans(self.text.window(self.window), logits, self.policies, options=options)

    def spans(self, ranges: Sequence[Range]) -> tuple[Span, ...]:
        """Ranges of the window's text as spans of the caller's."""
        offset = self.text.reading.windows.windows[self.window].start
        return tuple(self.text.reading.span(offset + start, offset + end) for start, end in ranges)
