"""Cheap statistics that tell English text from other text, without a library: enough to know what a model cannot read.

A text is taken for English unless more than a quarter of its letters belong to another script, or fewer than half of its
distinct words are in the word list of cleaning. Four words count as known beforehand, so that a few names are no
foreign language; one fewer for each common word of other languages. The limits were chosen on pages of real websites (`bench/languages.py`).
"""

import re
from dataclasses import dataclass

from .cleaning.spelling import known_words

ENGLISH = "en"

# More says nothing new, and a huge text must not cost anything here.
_CHARACTERS_READ = 100_000
_MOST_OTHER_LETTERS = 0.25
_FEWEST_OTHER_LETTERS = 3
_LEAST_KNOWN = 0.5
_KNOWN_BEFOREHAND = 4
_LATIN_ABOVE_ASCII = re.compile("[\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]+")
_ABOVE_ASCII = re.compile("[^\x00-\x7f]+")
_WORD = re.compile(r"\w+")
_SHORTEST_WORD = 2
_LONGEST_CODE = 4
# Common words of other languages that the word list has too, since broken words must not be joined across them.
_OTHER = (
    "al alla alle alles att au auch aus aux avec bei ce chez como con da dans das de del dem den der des di die dla dos du "
    "een ein el elle em en es est et eu fra fur gli het ich ihr ihre ikke il ist ja je jest la las le les lo los lui ma mais "
    "mas med met mi mit na nach ne nel nella nicht nie non nos notre nous och oder oraz os ou par para per piu por pour que "
    "qui se ses si sie sin sobre son sont su sul sur te til todo todos tous tout toute toutes tu uber um un una und une van "
    "vi von voor vos votre vous wir y zu zum zur"
)
_OTHER_LANGUAGES = frozenset(_OTHER.split())


@dataclass(frozen=True, slots=True)
class LanguageStatistics:
    """Counts of a text: letters, and those outside the Latin script; distinct words, those that the word list has, and those
    that are common in another language."""

    letters: int
    other_letters: int
    words: int
    known: int
    other_words: int

    @property
    def is_english(self) -> bool:
        """Whether the text may be English; a text too short to tell may be."""
        if self.other_letters >= _FEWEST_OTHER_LETTERS and self.other_share > _MOST_OTHER_LETTERS:
            return False
        return self.known_share >= _LEAST_KNOWN

    @property
    def other_share(self) -> float:
        """Share of letters outside the Latin script."""
        return self.other_letters / max(1, self.letters)

    @property
    def known_share(self) -> float:
        """Share of known words, with those that count beforehand; 1 without any word."""
        beforehand = max(0, _KNOWN_BEFOREHAND - self.other_words)
        return (self.known + beforehand) / (self.words + beforehand) if self.words else 1.0


def language_statistics(text: str) -> LanguageStatistics:
    """Count the letters and words of clean text."""
    text = text[:_CHARACTERS_READ]
    known, loud = known_words(), text.isupper()
    words = {word.lower() for word in set(_WORD.findall(text)) if _is_counted(word, loud)}
    return LanguageStatistics(
        letters=sum(map(str.isalpha, text)),
        other_letters=_other_letters(text),
        words=len(words),
        known=sum(word in known and word not in _OTHER_LANGUAGES for word in words),
        other_words=sum(word in _OTHER_LANGUAGES for word in words),
    )


def _is_counted(word: str, loud: bool) -> bool:
    """Whether a run of letters, digits and low lines is a word: sizes, model numbers and short codes are none."""
    if len(word) < _SHORTEST_WORD or not word.isalpha():
        return False
    # Short words in capitals are names and codes, unless all of the text is in capitals.
    return loud or len(word) > _LONGEST_CODE or not word.isupper()


def _other_letters(text: str) -> int:
    """Letters outside the Latin script."""
    if text.isascii():
        return 0
    above = "".join(_ABOVE_ASCII.findall(text))
    return sum(map(str.isalpha, _LATIN_ABOVE_ASCII.sub("", above)))
