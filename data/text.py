"""Cleaning merchant text, the same way in training and in serving, with a map back to what was written.

Steps: invisible and control characters out; Unicode NFKC (UAX #15); floods of combining marks capped;
letters that imitate Latin ones folded to Latin (after the idea of the confusables of UTS #39); white space
collapsed. Cleaning clean text changes nothing: each step leaves alone what the steps after it produce.

Real text in another script stays as it is: a look-alike is folded only in a word that mixes scripts, or in
a word made of look-alikes alone when the text is mostly Latin and holds little else of such scripts.
"""

import json
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

# Raised whenever the same text could come out differently; a bundle states the one it was trained with.
CLEANING_VERSION = 1

Codes = npt.NDArray[np.unsignedinteger]
Positions = npt.NDArray[np.signedinteger]
Mask = npt.NDArray[np.bool_]
Spans = tuple[Codes, Positions, Positions]

_SPACE, _NEWLINE = 0x20, 0x0A
_LINE_BREAKS = frozenset("\n\r\v\f\x85\u2028\u2029")
_DROPPED_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Me"))
# Nothing is drawn for these, though their categories are those of letters, marks and symbols.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufffc") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}
_ACCENTS_USED_AS_APOSTROPHES = frozenset("\u00b4\u0384\u1ffd")
# One character of 10 MB must not become 18: longer compatibility forms stay as they are.
_LONGEST_EXPANSION = 4
_GENERAL_MARKS_KEPT = 2  # marks of any script, the stuff of Zalgo text
_MARKS_KEPT = 6  # scripts of their own need more: Burmese stacks four, pointed Hebrew three
_CLUSTER_READ = 32  # characters of one combining sequence looked at; normalising is quadratic in them
_CLUSTERS_AT_ONCE = 1 << 16  # bounds the Python objects alive at a time

_SIMPLE, _DROPPED, _EXPANDED, _JOINING = 1, 2, 3, 4  # kinds of a code point; 0: not looked at yet
_NOT_IN_WORD, _DIGIT, _MARK, _OTHER, _LATIN = 1, 2, 3, 4, 5  # roles in a word; 0: not looked at yet
_IMITATED_BY = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "LISU", "COPTIC", "CANADIAN")
_ROLES = {"LATIN": _LATIN} | {script: _LATIN + 1 + i for i, script in enumerate(_IMITATED_BY)}
_BIT_OF_ROLE = np.array([0] * _LATIN + [1 << i for i in range(len(_ROLES))], np.uint8)
_FIRST_IMITATOR = 0x370  # no look-alike that depends on its word stands before the Greek block

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
    """Clean `raw` and keep the way back to it.

    Any `str` will do, lone surrogates included. ASCII costs a scan, or some numpy passes where it is untidy.
    """
    if raw.isascii():
        if _is_tidy_ascii(raw):
            starts = np.arange(len(raw), dtype=np.int64)
            return CleanText(raw, starts, starts + 1)
        codes: Codes = np.frombuffer(raw.encode("ascii"), np.uint8)
    else:
        codes = np.frombuffer(raw.encode("utf-32-le", "surrogatepass"), "<u4")
    spans = _collapse_white_space(*_fold_lookalikes(*_normalise(codes)))
    text = spans[0].astype("<u4").tobytes().decode("utf-32-le")
    return CleanText(text, spans[1].astype(np.int64), spans[2].astype(np.int64))


def _is_tidy_ascii(raw: str) -> bool:
    """Whether cleaning would change nothing, by scans in C: a regular expression costs ten times as much."""
    if raw != raw.strip(" \n") or not raw.replace("\n", "").isprintable():
        return False
    return not any(run in raw for run in _UNTIDY_ASCII)


@cache
def _confusables() -> dict[str, dict[str, str]]:
    """Groups `always`, `exact` and `near`: each a map from look-alike to ASCII letter."""
    content = files("merchantguard.data").joinpath("confusables.json").read_text(encoding="utf-8")
    return {
        group: {alike: letter for letter, alikes in letters.items() for alike in alikes}
        for group, letters in json.loads(content).items()
    }


def _expand(character: str) -> str:
    """What one character becomes before it meets its neighbours."""
    if character in _LINE_BREAKS:
        return "\n"
    if character in "\t\u2800":  # U+2800 is a Braille cell without a dot
        return " "
    if character in _UNSEEN or unicodedata.category(character) in _DROPPED_CATEGORIES:
        return ""
    letter = _confusables()["always"].get(character)
    if letter is not None:
        return letter
    text = unicodedata.normalize("NFKC", character)
    if text == character or len(text) > _LONGEST_EXPANSION:
        return character
    if text[0] == " ":  # a space, or an accent that stands alone: NFKC puts its mark on a space
        return "'" if character in _ACCENTS_USED_AS_APOSTROPHES else " "
    return unicodedata.normalize("NFC", "".join(map(_expand, text)))


def _joins_backwards(character: str) -> bool:
    """Whether the character may compose with, or be drawn on, the one before it."""
    first = unicodedata.normalize("NFD", character)[0]
    return (
        unicodedata.category(first)[0] == "M"
        or "\u1161" <= first <= "\u1175"  # Hangul vowels
        or "\u11a8" <= first <= "\u11c2"  # Hangul finals
        or "\U00016d63" <= first <= "\U00016d6a"  # Kirat Rai vowels, which are letters that compose
    )


class _Characters:
    """Properties of code points, worked out when first met.

    Threads may work out the same one at once: they write the same values, and the one that says "known" last.
    """

    def __init__(self) -> None:
        self.kind = np.zeros(0x110000, np.uint8)
        self.single = np.zeros(0x110000, np.uint32)
        self.role = np.zeros(0x110000, np.uint8)
        self.exact = np.zeros(0x110000, np.uint8)
        self.near = np.zeros(0x110000, np.uint8)

    def kinds(self, codes: Codes) -> npt.NDArray[np.uint8]:
        """Kind of each code; `single` is filled for those that are simple."""
        found = self.kind[codes]
        if found.size and not found.min():
            for code in _distinct(codes[found == 0]):
                self._learn_kind(code)
            found = self.kind[codes]
        return found

    def roles(self, codes: Codes) -> npt.NDArray[np.uint8]:
        """Role in a word of each code; `exact` and `near` are filled for letters of look-alike scripts."""
        found = self.role[codes]
        if found.size and not found.min():
            for code in _distinct(codes[found == 0]):
                self._learn_role(code)
            found = self.role[codes]
        return found

    def _learn_kind(self, code: int) -> None:
        text = _expand(chr(code))
        if not text:
            kind = _DROPPED
        elif _joins_backwards(text[0]):
            kind = _JOINING
        elif len(text) > 1:
            kind = _EXPANDED
        else:
            kind = _SIMPLE
            self.single[code] = ord(text)
        self.kind[code] = kind

    def _learn_role(self, code: int) -> None:
        character = chr(code)
        category = unicodedata.category(character)
        role = {"M": _MARK, "N": _DIGIT, "L": _OTHER}.get(category[0], _NOT_IN_WORD)
        if role == _OTHER:
            role = _ROLES.get(unicodedata.name(character, "").partition(" ")[0], _OTHER)
        if role > _LATIN:
            base = unicodedata.normalize("NFD", character)[0]
            self.exact[code] = ord(_confusables()["exact"].get(base, "\0"))
            self.near[code] = ord(_confusables()["near"].get(base, "\0"))
        self.role[code] = role


def _distinct(codes: Codes) -> list[int]:
    seen = np.zeros(0x110000, np.bool_)
    seen[codes] = True
    return np.flatnonzero(seen).tolist()


@cache
def _characters() -> _Characters:
    return _Characters()


def _normalise(codes: Codes) -> Spans:
    """Drop what is not seen, apply NFKC, cap marks."""
    kinds = _characters().kinds(codes)
    keep = kinds != _DROPPED
    keep[:-1] &= (codes[:-1] != 0x0D) | (codes[1:] != _NEWLINE)
    starts: Positions = np.flatnonzero(keep).astype(np.int32 if codes.size < 2**31 - 1 else np.int64)
    codes, kinds = codes[keep], kinds[keep]
    if not codes.size or kinds.max() == _SIMPLE:
        return _characters().single[codes], starts, starts + 1
    return _compose(codes, kinds, starts)


def _compose(codes: Codes, kinds: npt.NDArray[np.uint8], positions: Positions) -> Spans:
    """Normalise combining sequences in Python, the characters that stand alone in numpy."""
    heads = kinds != _JOINING
    heads[0] = True
    first = np.flatnonzero(heads)
    after = np.append(first[1:], codes.size)
    alone = (after - first == 1) & (kinds[first] == _SIMPLE)
    text = codes.tobytes().decode("utf-32-le")
    composed, lengths = _compose_clusters(text, first[~alone], after[~alone])
    sizes = np.ones(first.size, np.int32)
    sizes[~alone] = lengths
    from_one = np.repeat(alone, sizes)
    out = np.empty(from_one.size, np.uint32)
    out[from_one] = _characters().single[codes[first[alone]]]
    out[~from_one] = np.frombuffer(composed.encode("utf-32-le"), "<u4")
    return out, np.repeat(positions[first], sizes), np.repeat(positions[after - 1] + 1, sizes)


def _compose_clusters(text: str, first: Positions, after: Positions) -> tuple[str, npt.NDArray[np.int32]]:
    """Compose the given spans of `text`; returns the results end to end, and the length of each."""
    lengths = np.empty(first.size, np.int32)
    parts = []
    for at in range(0, first.size, _CLUSTERS_AT_ONCE):
        here = slice(at, at + _CLUSTERS_AT_ONCE)
        ends = np.minimum(after[here], first[here] + _CLUSTER_READ).tolist()
        composed = [_compose_cluster(text[a:b]) for a, b in zip(first[here].tolist(), ends, strict=True)]
        lengths[here] = list(map(len, composed))
        parts.append("".join(composed))
    return "".join(parts), lengths


@lru_cache(maxsize=1 << 16)
def _compose_cluster(cluster: str) -> str:
    """Compose one character and those that join it; marks beyond the cap, or with nothing below, are dropped."""
    text = unicodedata.normalize("NFC", "".join(map(_expand, cluster)))
    kept: list[str] = []
    general = marks = _MARKS_KEPT
    for character in text:
        if unicodedata.category(character)[0] != "M":
            general = marks = _MARKS_KEPT if character in " \n" else 0
            kept.append(character)
            continue
        marks += 1
        general += unicodedata.name(character, "").startswith("COMBINING")
        # Once over the cap nothing more is taken: a gap could let the marks after it compose.
        if general > _GENERAL_MARKS_KEPT or marks > _MARKS_KEPT:
            general = marks = _MARKS_KEPT
            continue
        kept.append(character)
    return "".join(kept)


def _fold_lookalikes(codes: Codes, starts: Positions, ends: Positions) -> Spans:
    """Turn letters that imitate Latin ones into those, in the words where they do."""
    if not codes.size or codes.max() < _FIRST_IMITATOR:
        return codes, starts, ends
    table = _characters()
    roles = table.roles(codes)
    exact = table.exact[codes]
    alike = np.where(exact, exact, table.near[codes])
    if not alike.any():
        return codes, starts, ends
    in_word = roles >= _DIGIT
    word_starts = in_word.copy()
    word_starts[1:] &= ~in_word[:-1]
    first = np.flatnonzero(word_starts[in_word])
    chosen = _words_to_fold(roles[in_word], exact[in_word] > 0, alike[in_word] > 0, first)
    folded = np.zeros(codes.size, np.bool_)
    folded[in_word] = np.repeat(chosen, np.diff(first, append=np.count_nonzero(in_word)))
    folded &= alike > 0
    codes = np.where(folded, alike, codes)
    return _drop_marks_of(folded, roles == _MARK, codes, starts, ends)


def _words_to_fold(roles: npt.NDArray[np.uint8], exact: Mask, alike: Mask, first: Positions) -> Mask:
    """Choose words from the letters of all words; `first` is where each word begins. Shape (words,)."""

    def total(mask: Mask) -> npt.NDArray[np.int64]:
        return np.add.reduceat(mask, first, dtype=np.int64)

    letters, latin, foreign = total(roles >= _OTHER), total(roles == _LATIN), total(roles > _LATIN)
    exacts, alikes = total(exact), total(alike)
    scripts = np.bitwise_or.reduceat(_BIT_OF_ROLE[roles], first)
    # A few letters without a look-alike do not save a disguised word; many are a compound such as USB + noun.
    mixed = (scripts & (scripts - 1) > 0) & (alikes > 0) & (4 * (foreign - alikes) <= letters)
    whole = ~mixed & (exacts == letters) & (letters > 0)
    # A Greek letter by itself is a unit or a part of a chemical's name.
    whole &= (letters > 1) | (total(roles == _ROLES["GREEK"]) == 0)
    imitations = int(letters[whole].sum())
    honest = int(foreign[~mixed].sum()) - imitations
    mostly_latin = 2 * int(latin.sum() + alikes[mixed].sum()) > int(letters.sum())
    return mixed | whole if mostly_latin and imitations > honest else mixed


def _drop_marks_of(folded: Mask, marks: Mask, codes: Codes, starts: Positions, ends: Positions) -> Spans:
    """Drop marks that stand on a folded letter: they belong to the disguise, and might compose with the new one."""
    if not marks.any():
        return codes, starts, ends
    base = np.maximum.accumulate(np.where(marks, 0, np.arange(marks.size)))
    keep = ~(marks & folded[base])
    return codes[keep], starts[keep], ends[keep]


def _collapse_white_space(codes: Codes, starts: Positions, ends: Positions) -> Spans:
    """Runs of spaces become one, runs with line breaks one or two line breaks; the ends are trimmed."""
    white = np.zeros(codes.size + 2, np.bool_)
    np.logical_or(codes == _SPACE, codes == _NEWLINE, out=white[1:-1])
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
    codes[first] = np.where(breaks > 0, _NEWLINE, _SPACE)
    ends[first] = ends[after - 1]
    kept = np.repeat(np.arange(codes.size), sizes)
    return codes[kept], starts[kept], ends[kept]


def _breaks(codes: Codes, first: Positions, after: Positions) -> npt.NDArray[np.int64]:
    """Line breaks in each run."""
    counted = np.zeros(codes.size + 1, np.int64)
    np.cumsum(codes == _NEWLINE, out=counted[1:])
    return counted[after] - counted[first]
