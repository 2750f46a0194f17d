"""From passages of windows to evidence spans of a text: which windows to search, and what of their passages to keep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..data.windows import WindowTokenizer
from .assessment import Span
from .engine.onnx_model import Floats
from .evidence import (
    EvidenceOptions,
    Range,
    Ranges,
    Search,
    find_passages,
    passages_by_attribution,
    search_passages,
)
from .preprocess import TextOutputs

RunWindows = Callable[[Sequence[Sequence[int]]], Floats]
"""Gives the logits (n, K) of n windows of token ids."""

Carrying = Mapping[int, Sequence[int]]
"""For each policy (column) the windows of a text that carry it, best first."""

Spans = dict[int, tuple[Span, ...]]
"""For each policy (column) its evidence, best first."""


class SpanFinder:
    """Finds evidence spans. It keeps no state: threads may share it."""

    def __init__(self, tokenizer: WindowTokenizer, options: EvidenceOptions) -> None:
        self._tokenizer = tokenizer
        self._options = options

    def needs_model(self, text: TextOutputs) -> bool:
        """Whether the evidence of a text takes further runs of the model."""
        return self._options.spans > 0 and text.attribution is None

    def find(
        self, texts: Sequence[TextOutputs], carrying: Sequence[Carrying], run: RunWindows
    ) -> list[Spans]:
        """The evidence of each text for the policies of `carrying`.

        With the attribution of tokens all carrying windows of a policy are searched, without it only the best one.

        :param run: scores further windows, of all texts together, where the graph gives no attribution.
        """
        if self._options.spans < 1:
            return [{} for _ in texts]
        places = [
            _Place(number, text, window, policies)
            for number, (text, windows) in enumerate(zip(texts, carrying, strict=True))
            for window, policies in _policies_by_window(text, windows).items()
        ]
        found: dict[tuple[int, int], dict[int, tuple[Span, ...]]] = {}
        for place, passages in self._passages(places, run):
            for policy, ranges in zip(place.policies, passages, strict=True):
                found.setdefault((place.number, policy), {})[place.window] = place.spans(ranges)
        return [
            {policy: self._merge(found[number, policy], text.logits[:, policy]) for policy in windows}
            for number, (text, windows) in enumerate(zip(texts, carrying, strict=True))
        ]

    def _passages(self, places: "Sequence[_Place]", run: RunWindows) -> "list[tuple[_Place, Ranges]]":
        """Passages of each place; those that take further runs of the model are searched together."""

        def score(texts: Sequence[str]) -> Floats:
            return run([windows.windows[0].ids for windows in self._tokenizer.encode_batch(texts)])

        explained = [place for place in places if place.text.attribution is not None]
        unexplained = [place for place in places if place.text.attribution is None]
        passages = [place.by_attribution(self._options) for place in explained]
        passages += find_passages([place.search(self._options) for place in unexplained], score)
        return list(zip([*explained, *unexplained], passages, strict=True))

    def _merge(self, spans: Mapping[int, tuple[Span, ...]], logits: Floats) -> tuple[Span, ...]:
        """The best span of each window, the best window first, then that window's further ones, none overlapping."""
        by_window = [spans[window] for window in sorted(spans, key=lambda row: (-logits[row], row))]
        kept: list[Span] = []
        for span in [*(each[0] for each in by_window if each), *by_window[0][1:]]:
            if all(span.end <= other.start or other.end <= span.start for other in kept):
                kept.append(span)
        return tuple(kept[: self._options.spans])


def _policies_by_window(text: TextOutputs, carrying: Carrying) -> dict[int, list[int]]:
    """The windows of a text to search, each with its policies."""
    by_window: dict[int, list[int]] = {}
    for policy, windows in carrying.items():
        for window in windows[:1] if text.attribution is None else windows:
            by_window.setdefault(window, []).append(policy)
    return by_window


@dataclass(frozen=True, slots=True)
class _Place:
    """A window of text `number` that is searched for the evidence of some policies (columns)."""

    number: int
    text: TextOutputs
    window: int
    policies: list[int]

    def by_attribution(self, options: EvidenceOptions) -> Ranges:
        """Ranges of the window's text for each policy, by what the tokens add."""
        assert self.text.attribution is not None
        window = self.text.encoded.windows.windows[self.window]
        added = self.text.attribution[self.window][: len(window.ids), self.policies]
        offsets = [(start - window.start, end - window.start) for start, end in window.offsets]
        text = self.text.encoded.window_text(self.window)
        return passages_by_attribution(text, offsets, added, options=options)

    def search(self, options: EvidenceOptions) -> Search:
        """The same by further runs of the model."""
        text, logits = self.text.encoded.window_text(self.window), self.text.logits[self.window]
        return search_passages(text, logits, self.policies, options=options)

    def spans(self, ranges: Sequence[Range]) -> tuple[Span, ...]:
        """Ranges of the window's text as spans of the caller's."""
        offset = self.text.encoded.windows.windows[self.window].start
        return tuple(self.text.encoded.span(offset + start, offset + end) for start, end in ranges)
