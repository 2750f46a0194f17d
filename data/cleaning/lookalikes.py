"""Folding letters that imitate Latin ones, after the idea of the confusables of UTS #39."""

import numpy as np
import numpy.typing as npt

from .characters import DIGIT, LATIN, MARK, OTHER, ROLES, Codes, Mask, Positions, Spans, characters

_BIT_OF_ROLE = np.array([0] * LATIN + [1 << i for i in range(len(ROLES))], np.uint8)
_FIRST_IMITATOR = 0x370  # look-alikes that depend on their word start at the Greek block


def fold_lookalikes(codes: Codes, starts: Positions, ends: Positions) -> Spans:
    """Replace letters that imitate Latin ones, in the words where they do."""
    if not codes.size or codes.max() < _FIRST_IMITATOR:
        return codes, starts, ends
    table = characters()
    roles = table.roles(codes)
    exact = table.exact[codes]
    alike = np.where(exact, exact, table.near[codes])
    if not alike.any():
        return codes, starts, ends
    in_word = roles >= DIGIT
    word_starts = in_word.copy()
    word_starts[1:] &= ~in_word[:-1]
    first = np.flatnonzero(word_starts[in_word])
    chosen = _words_to_fold(roles[in_word], exact[in_word] > 0, alike[in_word] > 0, first)
    folded = np.zeros(codes.size, np.bool_)
    folded[in_word] = np.repeat(chosen, np.diff(first, append=np.count_nonzero(in_word)))
    folded &= alike > 0
    codes = np.where(folded, alike, codes)
    return _drop_marks_of(folded, roles == MARK, codes, starts, ends)


def _words_to_fold(roles: npt.NDArray[np.uint8], exact: Mask, alike: Mask, first: Positions) -> Mask:
    """Choose words from the letters of all words; `first` is where each word begins. Shape (words,)."""

    def total(mask: Mask) -> npt.NDArray[np.int64]:
        return np.add.reduceat(mask, first, dtype=np.int64)

    letters, latin, foreign = total(roles >= OTHER), total(roles == LATIN), total(roles > LATIN)
    exacts, alikes = total(exact), total(alike)
    scripts = np.bitwise_or.reduceat(_BIT_OF_ROLE[roles], first)
    # A disguised word may hold a few letters without a look-alike; with many it is a compound such as USB + noun.
    mixed = (scripts & (scripts - 1) > 0) & (alikes > 0) & (4 * (foreign - alikes) <= letters)
    whole = ~mixed & (exacts == letters) & (letters > 0)
    # A single Greek letter is a unit or a part of a chemical's name.
    whole &= (letters > 1) | (total(roles == ROLES["GREEK"]) == 0)
    imitations = int(letters[whole].sum())
    honest = int(foreign[~mixed].sum()) - imitations
    mostly_latin = 2 * int(latin.sum() + alikes[mixed].sum()) > int(letters.sum())
    return mixed | whole if mostly_latin and imitations > honest else mixed


def _drop_marks_of(folded: Mask, marks: Mask, codes: Codes, starts: Positions, ends: Positions) -> Spans:
    """Drop marks on a folded letter: they belong to the disguise, and might compose with the new letter."""
    if not marks.any():
        return codes, starts, ends
    base = np.maximum.accumulate(np.where(marks, 0, np.arange(marks.size)))
    keep = ~(marks & folded[base])
    return codes[keep], starts[keep], ends[keep]
