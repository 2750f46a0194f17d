"""Cleaning merchant text, the same way in training and in serving, with a map back to the original.

Steps: invisible and control characters removed; Unicode NFKC (UAX #15); floods of combining marks capped;
letters that imitate Latin ones folded to Latin (after the idea of the confusables of UTS #39); disguised words decoded
("v4pe", "v a p e", "va-pe"); white space collapsed. Cleaning clean text changes nothing: the steps are repeated until no word
changes any more.

Real text in another script is kept: a look-alike is folded only in a word that mixes scripts, or in
a word that is all look-alikes when the text is mostly Latin and holds little else of such scripts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .characters import NEWLINE, SPACE, Codes, Positions, Spans
from .disguised_words import may_be_disguised, read_disguised
from .lookalikes import fold_lookalikes
from .normalise import normalise

# Raised whenever the result for some text changes; a bundle states the version it was trained with.
CLEANING_VERSION = 3
# Each round decodes words that the one before could not; people do not write text that needs more.
_ROUNDS = 8

_UNTIDY_ASCII = ("  ", " \n", "\n ", "\n\n\n")


@dataclass(frozen=True, slots=True, eq=False)
class CleanText:
    """Clean text, and for each of its characters the span of the original that it came from.

    `starts` and `ends` are int64 of shape (len(text),): indices into the original string, neither ever
    decreasing. Characters that came out of one combining sequence share its span.
    """

    text: str
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Span of the original string that the clean characters `start` to `end` (exclusive) came from.

        :raises ValueError: if the span is empty or reaches outside the clean text.
        """
        if not 0 <= start < end <= len(self.text):
            raise ValueError(
                f"span ({start}, {end}) must satisfy 0 <= start < end <= {len(self.text)}, the clean text's length"
            )
        return int(self.starts[start]), int(self.ends[end - 1])


def clean(raw: str) -> CleanText:
    """Clean `raw` and keep the map back to it.

    Any `str` is accepted, lone surrogates included. Tidy ASCII costs one scan, untidy ASCII some numpy passes.
    """
    if raw.isascii():
        if _is_tidy_ascii(raw):
            starts = np.arange(len(raw), dtype=np.int64)
            return CleanText(raw, starts, starts + 1)
        codes: Codes = np.frombuffer(raw.encode("ascii"), np.uint8)
    else:
        codes = np.frombuffer(raw.encode("utf-32-le", "surrogatepass"), "<u4")
    spans = _read_letters(normalise(codes))
    text = spans[0].astype("<u4").tobytes().decode("utf-32-le")
    return CleanText(text, spans[1].astype(np.int64), spans[2].astype(np.int64))


def clean_parts(raw: str, hidden_from: int | None) -> tuple[CleanText, int | None]:
    """Clean what is seen and what is hidden from `hidden_from` on apart, so that neither changes the words of the other.

    :returns: both as one text with a line break between, and where in it the hidden text begins; None without any.
    """
    if hidden_from is None:
        return clean(raw), None
    seen, hidden = clean(raw[:hidden_from]), clean(raw[hidden_from:])
    if not hidden.text:
        return seen, None
    if not seen.text:
        return CleanText(hidden.text, hidden.starts + hidden_from, hidden.ends + hidden_from), 0
    between = np.array([max(hidden_from - 1, int(seen.ends[-1]))], np.int64)
    return CleanText(
        f"{seen.text}\n{hidden.text}",
        np.concatenate([seen.starts, between, hidden.starts + hidden_from]),
        np.concatenate([seen.ends, between + 1, hidden.ends + hidden_from]),
    ), len(seen.text) + 1


def _read_letters(spans: Spans) -> Spans:
    """Fold look-alikes, decode disguised words, collapse white space; again as long as a word changed, since the new
    word may affect its neighbours."""
    for _ in range(_ROUNDS):
        near, some_near = read_disguised(*fold_lookalikes(*spans))
        # Only after this are wide gaps between letters single spaces.
        spans = _collapse_white_space(*near)
        if not some_near and spans[0].size == near[0].size and np.array_equal(spans[0], near[0]):
            break
        spans, some_far = read_disguised(*spans)
        if not some_near and not some_far:
            break
    return spans


def _is_tidy_ascii(raw: str) -> bool:
    """Whether cleaning would change nothing, by scans in C: regular expressions cost ten times as much."""
    if raw != raw.strip(" \n") or not raw.replace("\n", "").isprintable():
        return False
    return not any(run in raw for run in _UNTIDY_ASCII) and not may_be_disguised(raw)


def _collapse_white_space(codes: Codes, starts: Positions, ends: Positions) -> Spans:
    """Runs of spaces become one, runs with line breaks one or two line breaks; the ends are trimmed."""
    white = np.zeros(codes.size + 2, np.bool_)
    np.logical_or(codes == SPACE, codes == NEWLINE, out=white[1:-1])
    edges = np.flatnonzero(white[1:] != white[:-1])
    if not edges.size:
        return codes, starts, ends
    first, after = edges[::2], edges[1::2]
    breaks = _breaks(codes, first, after)
    sizes = np.ones(codes.size, np.int8)
    sizes[white[1:-1]] = 0
    sizes[first] = np.minimum(np.maximum(breaks, 1), 2)
    if first[0] == 0:
        sizes[0] = 0
    if after[-1] == codes.size:
        sizes[first[-1]] = 0
    codes, ends = codes.copy(), ends.copy()
    codes[first] = np.where(breaks > 0, NEWLINE, SPACE)
    ends[first] = ends[after - 1]
    kept = np.repeat(np.arange(codes.size), sizes)
    return codes[kept], starts[kept], ends[kept]


def _breaks(codes: Codes, first: Positions, after: Positions) -> npt.NDArray[np.int64]:
    """Line breaks in each run."""
    counted = np.zeros(codes.size + 1, np.int64)
    np.cumsum(codes == NEWLINE, out=counted[1:])
    return counted[after] - counted[first]
