"""Disguised copies of training passages: words broken, misspelt or spelt phonetically, as merchants write to get past a filter.

Cleaning undoes some disguises (`cleaning/text.py`); training on copies covers the rest. Compliant passages are copied as
well as violating ones: a broken word must not be a sign of a violation by itself.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..records.record import Record

_WORD = re.compile(r"[A-Za-z]{4,}")
_SEPARATORS = (" ", "-", ".", "*", "_", "'")
_BY_EAR = (
    ("ph", "f"),
    ("ck", "k"),
    ("c", "k"),
    ("s", "z"),
    ("ee", "ea"),
    ("y", "i"),
    ("i", "y"),
    ("er", "a"),
)
_VOWEL = re.compile(r"[aeiouAEIOU]")
_NEAR = {
    "a": "4@*",
    "e": "3*",
    "i": "1!*",
    "o": "0*",
    "s": "5$z",
    "t": "7+",
    "u": "*v",
    "l": "1|",
    "b": "8",
    "g": "9",
}


def _broken(word: str, draw: random.Random) -> str:
    place = draw.randint(1, len(word) - 1)
    return word[:place] + draw.choice(_SEPARATORS) + word[place:]


def _set_apart(word: str, draw: random.Random) -> str:
    """Letters set apart except for the first few: cleaning reads words whose letters are all set apart."""
    place = draw.randint(1, len(word) - 1)
    separator = draw.choice(_SEPARATORS)
    return separator.join([*word[:place], word[place:]])


def _misspelt(word: str, draw: random.Random) -> str:
    place = draw.randint(1, len(word) - 2)
    kind = draw.randrange(3)
    if kind == 0:
        return word[:place] + word[place + 1 :]
    if kind == 1:
        return word[:place] + word[place] + word[place:]
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _by_ear(word: str, draw: random.Random) -> str:
    fitting = [pair for pair in _BY_EAR if pair[0] in word]
    if not fitting:
        return _misspelt(word, draw)
    return word.replace(*draw.choice(fitting), 1)


def _without_vowels(word: str, draw: random.Random) -> str:
    return word[0] + _VOWEL.sub(draw.choice(("", "", "*")), word[1:])


def _with_signs(word: str, draw: random.Random) -> str:
    return "".join(draw.choice(_NEAR.get(c.lower(), c)) if draw.random() < 0.6 else c for c in word)


DISGUISES: tuple[Callable[[str, random.Random], str], ...] = (
    _broken,
    _set_apart,
    _misspelt,
    _by_ear,
    _without_vowels,
    _with_signs,
)


def disguise(text: str, draw: random.Random, *, share: float) -> str:
    """`text` with about `share` of its words of four letters or more disguised, all in one of the ways."""
    way = draw.choice(DISGUISES)
    return _WORD.sub(lambda word: way(word[0], draw) if draw.random() < share else word[0], text)


def disguised_copies(
    records: Sequence[Record], *, per_record: int, seed: int, share: float = 0.5
) -> list[Record]:
    """`per_record` copies of each record with disguised words, its labels kept; the same for the same seed."""
    made = []
    for record in records:
        # Seeded by the record too: its copies do not depend on the other records.
        draw = random.Random(f"{seed} {record.id}")
        for number in range(per_record):
            text = disguise(record.text, draw, share=share)
            made.append(replace(record, id=f"{record.id}#disguised-{number}", text=text, parts=()))
    return made
