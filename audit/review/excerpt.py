"""The part of a text to show: all of a short text, the part around the marks of a long one."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .marking import Kind, Mark, Segment, segments

PART = 6_000
"""Characters shown at once."""
_LEAD = 600


@dataclass(frozen=True, slots=True)
class Excerpt:
    """`text[start:end]` of a text of `total` characters, ready to show."""

    segments: tuple[Segment, ...]
    start: int
    end: int
    total: int


def excerpt(
    text: str,
    marks: Sequence[Mark],
    *,
    headings: Mapping[int, str] | None = None,
    start: int | None = None,
    length: int = PART,
) -> Excerpt:
    """The part that begins at `start`, or the part around the marks.

    :param headings: heading by the index of the character that it precedes.
    """
    if start is None:
        start = _best_start(text, marks, length)
    start = min(max(start, 0), len(text))
    end = min(start + length, len(text))
    return Excerpt(tuple(segments(text, start, end, marks, headings)), start, end, len(text))


def _best_start(text: str, marks: Sequence[Mark], length: int) -> int:
    if len(text) <= length:
        return 0
    for wanted in _wanted(marks):
        if wanted:
            return _line_start(text, max(0, _densest(wanted, length - _LEAD) - _LEAD))
    return 0


def _wanted(marks: Sequence[Mark]) -> Iterator[list[Mark]]:
    """Marks to begin at, the best first. A model that finds no violation still points at some passage, and it may not have read
    to the end: its passage takes precedence over words of the policy only if it contains one."""
    of_kind: dict[Kind, list[Mark]] = {kind: [] for kind in ("quote", "differs", "evidence", "word")}
    for mark in sorted(marks):
        of_kind[mark.kind].append(mark)
    starts = [mark.start for mark in of_kind["word"]]
    yield of_kind["quote"]
    yield of_kind["differs"]
    yield [
        mark
        for mark in of_kind["evidence"]
        if bisect_left(starts, mark.end) > bisect_left(starts, mark.start)
    ]
    yield of_kind["word"]
    yield of_kind["evidence"]


def _densest(marks: Sequence[Mark], width: int) -> int:
    """Start of the mark that has the most marks within `width` characters after it; the first of several."""
    best, start, last = 0, marks[0].start, 0
    for first, mark in enumerate(marks):
        while last < len(marks) and marks[last].end <= mark.start + width:
            last += 1
        if last - first > best:
            best, start = last - first, mark.start
    return start


def _line_start(text: str, near: int) -> int:
    """A place to begin that is not inside a word, if there is one nearby."""
    for sign in ("\n", " "):
        if (at := text.rfind(sign, max(0, near - 200), near)) >= 0:
            return at + 1
    return near
