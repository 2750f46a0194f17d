"""Reading words that are spelt to escape notice: letters set apart ("v a p e"), digits and signs for letters ("v4pe").

Only what can hardly be meant otherwise is changed, and only in ASCII; look-alikes of other scripts are folded before
(`lookalikes.py`). Sizes, doses, model numbers, addresses, file types and short abbreviations stay as they are.
"""

import re
import unicodedata

import numpy as np

from .characters import Codes, Mask, Positions, Spans

_LETTERS = str.maketrans("013457@$!", "oieastasi")
# Four or more single characters with one and the same separator between them.
_SET_APART = re.compile(
    r"(?<![^\W_])[A-Za-z0-9@$]([ .\-_*/|~])[A-Za-z0-9@$](?:\1[A-Za-z0-9@$]){2,}(?![^\W_])"
)
_LETTERS_SET_APART = 3
# A letter, one or two stand-ins, a letter: what a word must hold to be looked at.
_STAND_IN = re.compile(r"[A-Za-z](?:[013457@$]{1,2}|(?<=[a-z])!(?=[a-z]))[A-Za-z]")
_WORD = re.compile(r"(?:[A-Za-z0-9@$]|(?<=[a-z])!(?=[a-z])){4,}")
_INNER = re.compile(r"(?<=[A-Za-z])[013457@$!]{1,2}(?=[A-Za-z])")
_NO_WORD = re.compile(r"[2689]|\$[0-9]|[0-9@$]{3}|^[A-Za-z]+[0-9]+s?$")
_ADDRESS = re.compile(r"@[A-Za-z0-9-]*\.[A-Za-z]")


def may_be_disguised(text: str) -> bool:
    """Whether `read_disguised` has anything to look at in `text`: two scans."""
    return bool(_STAND_IN.search(text) or _SET_APART.search(text))


def read_disguised(codes: Codes, starts: Positions, ends: Positions) -> tuple[Spans, bool]:
    """The text with such words as they are read, and whether any was there."""
    text = _decode(codes)
    if not may_be_disguised(text):
        return (codes, starts, ends), False
    keep = _without_separators(text)
    joined = codes[keep]
    read = _with_letters(_decode(joined))
    changed = not keep.all() or not np.array_equal(read, joined)
    return (read.astype(codes.dtype), starts[keep], ends[keep]), changed


def _decode(codes: Codes) -> str:
    return codes.astype("<u4").tobytes().decode("utf-32-le")


def _without_separators(text: str) -> Mask:
    keep = np.ones(len(text), np.bool_)
    for match in _SET_APART.finditer(text):
        if sum(map(str.isalpha, match[0][::2])) >= _LETTERS_SET_APART:
            keep[match.start() + 1 : match.end() : 2] = False
    return keep


def _with_letters(text: str) -> Codes:
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    if not _STAND_IN.search(text):
        return codes
    codes = codes.copy()
    for match in _WORD.finditer(text):
        if _is_disguised(match[0]) and not _goes_on(text, match):
            letters = match[0].translate(_LETTERS)
            codes[match.start() : match.end()] = np.frombuffer(letters.encode("utf-32-le"), "<u4")
    return codes


def _is_disguised(word: str) -> bool:
    inner = len(_INNER.findall(word))
    if not inner or _NO_WORD.search(word):
        return False
    # "10x50mm" starts with a number; "5t3r01d" has stand-ins in several places.
    if word[0].isdigit() and inner < 2:
        return False
    letters = sum(map(str.isalpha, word))
    return letters >= 3 or 2 * letters >= len(word)


def _goes_on(text: str, match: re.Match[str]) -> bool:
    """Whether the word is part of an address, or its last character carries a mark that would join a letter."""
    if "@" in match[0] and _ADDRESS.search(text, match.start(), match.end() + 64):
        return True
    return unicodedata.category(text[match.end() : match.end() + 1] or " ")[0] == "M"
