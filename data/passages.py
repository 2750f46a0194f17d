"""Cutting a text into passages: the units of evidence, and short training texts from compliant records."""

import re
from itertools import pairwise

# Where a passage ends: at a line break, after a sentence, or at the separators of menus and lists.
_ENDS = re.compile(r"\n+|[.!?][\"'”’»)\]]{0,3}(?=\s)|[。！？]|\s[|•·](?=\s)")
_CLAUSE = re.compile(r"[;,:|](?=\s)|\s[-–—](?=\s)")
_SPACE = re.compile(r"\s")


def split_passages(
    text: str, *, shortest: int = 12, longest: int = 300, most: int = 64
) -> list[tuple[int, int]]:
    """Character ranges (start, end) of the sentences, lines and list entries of `text`, in order.

    They do not overlap and have no white space at their ends. One of fewer than `shortest` characters is
    joined to the next one on its line; one of more than `longest` is cut at a clause, else at white space, else
    anywhere. A text that would give more than `most` gets longer ones. The time is linear in the length.
    """
    longest = max(longest, -(-2 * len(text) // most))
    cuts = [0, *(match.end() for match in _ENDS.finditer(text)), len(text)]
    pieces: list[tuple[int, int]] = []
    for start, end in pairwise(cuts):
        pieces.extend(_cut_long(text, *_trim(text, start, end), longest))
    pieces = [piece for piece in pieces if piece[0] < piece[1]]
    joined = _join_short(text, pieces, shortest, longest)
    while len(joined) > most:
        shortest *= 2
        joined = _join_short(text, joined, shortest, max(longest, 2 * shortest), across_lines=True)
    return joined


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _cut_long(text: str, start: int, end: int, longest: int) -> list[tuple[int, int]]:
    pieces = []
    while end - start > longest:
        limit = start + longest
        cut = _last_end(_CLAUSE, text, start, limit) or _last_end(_SPACE, text, start, limit) or limit
        pieces.append(_trim(text, start, cut))
        start = _trim(text, cut, end)[0]
    pieces.append((start, end))
    return pieces


def _last_end(pattern: re.Pattern[str], text: str, start: int, limit: int) -> int | None:
    # In the second half only: a cut near the start would leave a fragment.
    ends = [match.end() for match in pattern.finditer(text, (start + limit) // 2, limit)]
    return ends[-1] if ends else None


def _join_short(
    text: str, pieces: list[tuple[int, int]], shortest: int, longest: int, *, across_lines: bool = False
) -> list[tuple[int, int]]:
    joined = pieces[:1]
    for start, end in pieces[1:]:
        before, after = joined[-1]
        short = after - before < shortest and end - before <= longest
        if short and (across_lines or "\n" not in text[after:start]):
            joined[-1] = (before, end)
        else:
            joined.append((start, end))
    return joined
