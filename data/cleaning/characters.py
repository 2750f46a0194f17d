"""What cleaning knows about single characters: what is drawn for them, and which letters they resemble."""

import json
import re
import unicodedata
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from ...core.invisible import INVISIBLE
from .unicode_data import category, name

Codes = npt.NDArray[np.unsignedinteger]
Positions = npt.NDArray[np.signedinteger]
Mask = npt.NDArray[np.bool_]
Spans = tuple[Codes, Positions, Positions]
"""Code points, and for each where it begins and ends in the original; all of shape (characters,)."""

SPACE, NEWLINE = 0x20, 0x0A
_LINE_BREAKS = frozenset("\n\r\v\f\x85\u2028\u2029")
_DROPPED_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Me"))
# Their categories do not give them all away: some are letters, marks and symbols.
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_ACCENTS_USED_AS_APOSTROPHES = frozenset("\u00b4\u0384\u1ffd")
# One character of 10 MB must not become 18: longer compatibility forms are kept as written.
_LONGEST_EXPANSION = 4

SIMPLE, DROPPED, EXPANDED, JOINING = 1, 2, 3, 4  # kinds of a code point; 0: not computed yet
NOT_IN_WORD, DIGIT, MARK, OTHER, LATIN = 1, 2, 3, 4, 5  # roles in a word; 0: not computed yet
_IMITATED_BY = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "LISU", "COPTIC", "CANADIAN")
ROLES = {"LATIN": LATIN} | {script: LATIN + 1 + i for i, script in enumerate(_IMITATED_BY)}


@cache
def _confusables() -> dict[str, dict[str, str]]:
    """Groups `always`, `exact` and `near`: each a map from look-alike to ASCII letter."""
    content = files(__package__).joinpath("confusables.json").read_text(encoding="utf-8")
    return {
        group: {alike: letter for letter, alikes in letters.items() for alike in alikes}
        for group, letters in json.loads(content).items()
    }


def expand(character: str) -> str:
    """What one character becomes, apart from its neighbours."""
    if character in _LINE_BREAKS:
        return "\n"
    if character in "\t\u2800":  # U+2800 is a Braille cell without a dot
        return " "
    if _INVISIBLE.match(character) or category(character) in _DROPPED_CATEGORIES:
        return ""
    letter = _confusables()["always"].get(character)
    if letter is not None:
        return letter
    text = unicodedata.normalize("NFKC", character)
    if text == character or len(text) > _LONGEST_EXPANSION:
        return character
    if text[0] == " ":  # a space, or an accent that stands alone: NFKC puts its mark on a space
        return "'" if character in _ACCENTS_USED_AS_APOSTROPHES else " "
    return unicodedata.normalize("NFC", "".join(map(expand, text)))


def _joins_backwards(character: str) -> bool:
    """Whether the character may compose with, or be drawn on, the one before it."""
    first = unicodedata.normalize("NFD", character)[0]
    return (
        category(first)[0] == "M"
        or "\u1161" <= first <= "\u1175"  # Hangul vowels
        or "\u11a8" <= first <= "\u11c2"  # Hangul finals
        or "\U00016d63" <= first <= "\U00016d6a"  # Kirat Rai vowels, which are letters that compose
    )


class _Characters:
    """Properties of code points, computed at first use.

    Two threads may compute the same one at once: they write equal values, and the kind or role, which says that the
    others are there, last.
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
        text = expand(chr(code))
        if not text:
            kind = DROPPED
        elif _joins_backwards(text[0]):
            kind = JOINING
        elif len(text) > 1:
            kind = EXPANDED
        else:
            kind = SIMPLE
            self.single[code] = ord(text)
        self.kind[code] = kind

    def _learn_role(self, code: int) -> None:
        character = chr(code)
        role = {"M": MARK, "N": DIGIT, "L": OTHER}.get(category(character)[0], NOT_IN_WORD)
        if role == OTHER:
            role = ROLES.get(name(character).partition(" ")[0], OTHER)
        if role > LATIN:
            base = unicodedata.normalize("NFD", character)[0]
            self.exact[code] = ord(_confusables()["exact"].get(base, "\0"))
            self.near[code] = ord(_confusables()["near"].get(base, "\0"))
        self.role[code] = role


def _distinct(codes: Codes) -> list[int]:
    seen = np.zeros(0x110000, np.bool_)
    seen[codes] = True
    return np.flatnonzero(seen).tolist()


@cache
def characters() -> _Characters:
    return _Characters()
