"""What to mark in a text: the model's passages, annotators' quotes, words of the policy, differences."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from ...core.display import visible_line, visible_pieces
from ...data.taxonomy import Policy, Taxonomy

Kind = Literal["evidence", "quote", "word", "differs"]
"""`evidence`: the model's passage; `quote`: an annotator's; `word`: a word of the policy's definition; `differs`: not in the
near-duplicate."""

_MOST_WORDS = 2_000
_MOST_TRIED = 20_000
_ENDING = 3
_COMPARED = 200_000
_MOST_TOKENS = 3_000
_WORD = re.compile(r"[^\W\d_]{4,}")
_COMMON = frozenset(("also", "from", "into", "only", "other", "some", "such", "than", "that", "their", "them", "these",
    "this", "those", "with", "without", "your"))  # fmt: skip
_ASCII_SMALL = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A range of characters in a text, and why it is marked."""

    start: int
    end: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece to show: its text, the kinds of its marks, whether it is a symbol for an invisible character, and whether it is
    the heading of a page or field and not the merchant's text."""

    text: str
    kinds: tuple[Kind, ...] = ()
    odd: bool = False
    heading: bool = False


def segments(
    text: str, start: int, end: int, marks: Iterable[Mark], headings: Mapping[int, str] | None = None
) -> list[Segment]:
    """`text[start:end]`, cut where marks begin or end, made safe to show, with the headings in their places."""
    headings = headings or {}
    inside = [mark for mark in marks if mark.start < end and mark.end > start]
    cuts = {start, end, *(place for place in headings if start <= place < end)}
    opens: dict[int, list[Kind]] = {}
    closes: dict[int, list[Kind]] = {}
    for mark in inside:
        first, last = max(mark.start, start), min(mark.end, end)
        cuts |= {first, last}
        opens.setdefault(first, []).append(mark.kind)
        closes.setdefault(last, []).append(mark.kind)
    active: Counter[Kind] = Counter()
    found = []
    for left, right in pairwise(sorted(cuts)):
        active.update(opens.get(left, ()))
        active.subtract(closes.get(left, ()))
        kinds = tuple(sorted(kind for kind, count in active.items() if count > 0))
        if left in headings:
            found.append(Segment(visible_line(headings[left]), heading=True))
        found += [Segment(piece, kinds, odd) for piece, odd in visible_pieces(text[left:right])]
    return found


def passages(spans: Iterable[tuple[int, int]], text: str, kind: Kind) -> list[Mark]:
    """Marks of the spans that lie inside the text."""
    return [Mark(start, end, kind) for start, end in spans if 0 <= start < end <= len(text)]


def quotes(text: str, given: Iterable[str]) -> list[Mark]:
    """The first place of each quote in the text."""
    return [Mark(at, at + len(quote), "quote") for quote in given if quote and (at := text.find(quote)) >= 0]


def policy_words(text: str, policy: Policy, taxonomy: Taxonomy) -> list[Mark]:
    """Where words of the policy's title and definition occur, with any ending; at most `_MOST_WORDS` of each.

    Words that several policies use ("sale", "online") are left out.
    """
    folded = text.lower()
    if len(folded) != len(text):  # a letter whose lower case is longer would shift all marks after it
        folded = text.translate(_ASCII_SMALL)
    return sorted(mark for stem in _stems(policy, taxonomy.policies) for mark in _places(folded, stem))


def _places(folded: str, stem: str) -> Iterator[Mark]:
    """Words that are the stem and a few more letters at most; a plain search, because texts may be huge."""
    found, at = 0, folded.find(stem)
    for _ in range(_MOST_TRIED):
        if at < 0 or found == _MOST_WORDS:
            return
        end = at + len(stem)
        while end < len(folded) and folded[end].isalpha() and end - at - len(stem) <= _ENDING:
            end += 1
        if (at == 0 or not folded[at - 1].isalnum()) and end - at - len(stem) <= _ENDING:
            found += 1
            yield Mark(at, end, "word")
        at = folded.find(stem, end)


@lru_cache(maxsize=256)
def _stems(policy: Policy, policies: tuple[Policy, ...]) -> tuple[str, ...]:
    used = Counter(word for each in policies for word in _definition(each))
    common = max(1, len(policies) // 10)
    return tuple(sorted({_stem(word) for word in _definition(policy) if used[word] <= common}))


def _stem(word: str) -> str:
    """An English word without its plural ending, so that it begins both forms."""
    for ending, left in (("ies", 0), ("xes", 1), ("ches", 2), ("sses", 2), ("ss", 2), ("s", 0)):
        if word.endswith(ending):
            return word[: len(word) - len(ending) + left]
    return word


def _definition(policy: Policy) -> set[str]:
    return set(_WORD.findall(f"{policy.title} {policy.covers}".casefold())) - _COMMON


def differences(first: str, second: str) -> tuple[list[Mark], list[Mark]]:
    """Marks of the words that occur in only one of two texts, ignoring case and white space.

    If the texts differ over more than `_MOST_TOKENS` words, all of these are marked; only the first `_COMPARED` characters are
    compared. Without these limits a hostile text could take arbitrarily long.
    """
    ours, theirs = _tokens(first[:_COMPARED]), _tokens(second[:_COMPARED])
    same = _common(ours, theirs)
    rest = _common(ours[same:][::-1], theirs[same:][::-1])
    ours, theirs = ours[same : len(ours) - rest], theirs[same : len(theirs) - rest]
    if max(len(ours), len(theirs)) > _MOST_TOKENS:
        return _stretch(ours), _stretch(theirs)
    matcher = SequenceMatcher(
        None, [token.group().casefold() for token in ours], [t.group().casefold() for t in theirs]
    )
    left, right = [], []
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        if tag != "equal":
            left += _stretch(ours[start:end])
            right += _stretch(theirs[other_start:other_end])
    return left, right


def _tokens(text: str) -> list[re.Match[str]]:
    return list(_TOKEN.finditer(text))


def _common(first: Sequence[re.Match[str]], second: Sequence[re.Match[str]]) -> int:
    pairs: Iterator[tuple[re.Match[str], re.Match[str]]] = zip(first, second, strict=False)
    for number, (ours, theirs) in enumerate(pairs):
        if ours.group().casefold() != theirs.group().casefold():
            return number
    return min(len(first), len(second))


def _stretch(tokens: Sequence[re.Match[str]]) -> list[Mark]:
    return [Mark(tokens[0].start(), tokens[-1].end(), "differs")] if tokens else []
