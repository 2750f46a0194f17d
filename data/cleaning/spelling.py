"""Joining broken words with the help of a word list: "fent anyl", "gam-bling", "p1ll5".

Pieces with the same separator between them become a word if the list (`words.txt`, made by `word_list.py`) has the word
and lacks one of the pieces, or if nobody writes that separator between two words. What the list lacks is kept as
written: names, and most words of other languages.
"""

import itertools
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

# Words of one to three letters, of English and related languages: "de al" does not become "deal".
_SHORT = (
    "a i o u y am an as at be by do go he if in is it me my no of oh ok on or so to uk up us we tv vs ad id mr ms pm "
    "pc cd al au ce da de del di du dos das den der des die ein el em en es et eu il im ist ja je la las le les lo los "
    "lui ma mi mit na ne nel nos ou par per por que qui se ses si sin son su sur te tu um un una und une vi von zu"
)
# What may come before and after a piece; an apostrophe, a digit, a sign for a letter or a mark belongs to the word.
_EDGE = r"\s\"#%&()*+,\-./:;<=>?\[\]^_`{|}~\u2010-\u2015\u201c-\u201f\u2022\u2026"
_PIECE = re.compile(rf"(?<![^{_EDGE}])[^\W\d_]+(?![^{_EDGE}!]|![^\W_])")
_SEPARATORS = frozenset(" -~/+,.*_|")
# Nobody writes one of these between two words that would join into another word.
_NEVER_BETWEEN_WORDS = frozenset("~+*_|,/")
_MOST_PIECES = 4
_SHORTEST, _LONGEST = 4, 24
# Millions of pieces are junk, not a merchant's text: they must not take minutes.
_MOST_PIECES_READ = 100_000
_MOST_ONES = 3


@cache
def known_words() -> frozenset[str]:
    """All words of the list, lower case."""
    content = files(__package__).joinpath("words.txt").read_text(encoding="ascii")
    return frozenset([*content.split(), *_SHORT.split()])


def is_word(word: str) -> bool:
    """Whether the list has the word, in any case."""
    return word.lower() in known_words()


def find_split_words(text: str) -> list[int]:
    """Positions of the characters of `text` that split a word; where candidate words overlap, the longest is taken."""
    pieces = [match.span() for match in itertools.islice(_PIECE.finditer(text), _MOST_PIECES_READ)]
    known = known_words()
    strange = [text[start:end].lower() not in known for start, end in pieces]
    firsts = {
        first
        for number, (_, end) in enumerate(pieces[:-1])
        if strange[number] or strange[number + 1] or text[end] in _NEVER_BETWEEN_WORDS
        for first in range(max(0, number - _MOST_PIECES + 2), number + 1)
    }
    found = [word for first in firsts for word in _words_from(text, pieces, strange, first)]
    positions: list[int] = []
    taken: set[int] = set()

    def worth(word: tuple[int, int]) -> tuple[int, bool, int]:
        start, end = pieces[word[0]][0], pieces[word[1]][1]
        return start - end, text[pieces[word[0]][1]] == " ", start

    for first, last in sorted(found, key=worth):
        if taken.isdisjoint(range(first, last + 1)):
            taken.update(range(first, last + 1))
            positions += [pieces[number][1] for number in range(first, last)]
    return positions


def _words_from(
    text: str, pieces: list[tuple[int, int]], strange: list[bool], first: int
) -> Iterator[tuple[int, int]]:
    """First and last piece of each broken word that begins with piece `first`."""
    start, end = pieces[first]
    separator = text[end]
    if separator not in _SEPARATORS:
        return
    joined, odd = text[start:end], strange[first] or separator in _NEVER_BETWEEN_WORDS
    for last in range(first + 1, min(first + _MOST_PIECES, len(pieces))):
        begin = pieces[last][0]
        if begin != end + 1 or text[end] != separator:
            return
        end = pieces[last][1]
        joined += text[begin:end]
        odd |= strange[last]
        if len(joined) > _LONGEST:
            return
        if odd and len(joined) >= _SHORTEST and is_word(joined):
            yield first, last


def decode_ones(word: str) -> str | None:
    """The word of the list that `word`, which may hold the digit 1 for i or l, stands for; None if there is none."""
    parts = word.split("1")
    if len(parts) - 1 > _MOST_ONES:
        return None
    for letters in itertools.product("il", repeat=len(parts) - 1):
        reading = parts[0] + "".join(map("".join, zip(letters, parts[1:], strict=True)))
        if is_word(reading):
            return reading
    return None
