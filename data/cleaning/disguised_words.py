"""Decoding words spelt to escape notice: letters set apart ("v a p e"), digits and signs for letters ("v4pe").

Only clear cases are changed, and only in ASCII; look-alikes of other scripts are folded before (`lookalikes.py`). Sizes, doses, model numbers, addresses, file types and short abbreviations are kept.
"""

import re

import numpy as np

from .characters import Codes, Mask, Positions, Spans
from .spelling import decode_ones, find_split_words, is_word
from .unicode_data import category

_LETTERS = str.maketrans("0345789@$!", "oeastbgasi")
# A "1" is an l before a vowel at the start, between vowels after letters that l often follows, and after a
# vowel except in "in"; otherwise it is an i.
_ONE_IS_L = re.compile(
    r"(?:(?<![a-z])|(?<=[aeiou]))1(?=[aeiouy])|(?<=[bcfgkp])1(?=[aeiou])|(?<=[aeu])1(?![aeioun])",
    re.IGNORECASE,
)
# Four or more single characters with the same separator between them.
_SET_APART = re.compile(
    r"(?<![^\W_])[A-Za-z0-9@$]([ .\-_*/|~])[A-Za-z0-9@$](?:\1[A-Za-z0-9@$]){2,}(?![^\W_])"
)
_LETTERS_SET_APART = 3
# A letter next to a digit or sign that can stand for one: other words are not looked at.
_STAND_IN = re.compile(r"[A-Za-z][01345789@$!]|[01345789@$!][A-Za-z]")
_WORD = re.compile(r"(?:[A-Za-z0-9@$]|(?<=[a-z0-9@$])!(?=[a-z0-9@$])){4,}")
_INNER = re.compile(r"(?<=[A-Za-z])[01345789@$!]{1,4}(?=[A-Za-z])")
_SIGN = re.compile(r"[@$!]")
# Digits that stand for no letter, five of them in a row, a model or a plural ("MP3s"), a number set off by "!".
_NO_LETTERS = re.compile(r"[26]|[0-9@$!]{5}|![0-9]{2}")
_NO_WORD = re.compile(r"[26]|[0-9@$!]{5}|^[A-Za-z]+[0-9]+s?$|![0-9]{2}")
# A single digit or "@", at one end: "5tier", "model5", "@live".
_ONE_AT_AN_END = re.compile(r"^(?:[0-9@][A-Za-z]+|[A-Za-z]+[0-9@!])$")
# A size, a price or a model, unless other places hold stand-ins too: "10x50mm", "US$5off", "X4070Ti".
_NUMBER = re.compile(r"^[0-9]|\$[0-9]|[0-9]{3}")
_ADDRESS = re.compile(r"@[A-Za-z0-9-]*\.[A-Za-z]")


def may_be_disguised(text: str) -> bool:
    """Whether `text` holds anything that `read_disguised` might change."""
    return bool(_STAND_IN.search(text) or _SET_APART.search(text) or find_split_words(text))


def read_disguised(codes: Codes, starts: Positions, ends: Positions) -> tuple[Spans, bool]:
    """The text with disguised words decoded, and whether there were any."""
    text = _decode(codes)
    kept = np.arange(codes.size)
    if _SET_APART.search(text):
        kept = np.flatnonzero(_without_separators(text))
        text = _decode(codes[kept])
    if broken := find_split_words(text):
        kept = np.delete(kept, broken)
        text = _decode(codes[kept])
    if kept.size == codes.size and not _STAND_IN.search(text):
        return (codes, starts, ends), False
    joined = codes[kept]
    read = _with_letters(text)
    changed = kept.size < codes.size or not np.array_equal(read, joined)
    return (read.astype(codes.dtype), starts[kept], ends[kept]), changed


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
        letters = _reading(match[0])
        if letters is not None and not _goes_on(text, match):
            codes[match.start() : match.end()] = np.frombuffer(letters.encode("utf-32-le"), "<u4")
    return codes


def _reading(word: str) -> str | None:
    """What the word stands for: a word of the list, else letter by letter; None if nothing in it stands for a letter."""
    if word.isalpha():
        return None
    letters = word.translate(_LETTERS)
    if sum(map(str.isalpha, word)) >= 2 and not _counts(word) and not _NO_LETTERS.search(word):
        listed = decode_ones(letters)
        if listed is not None:
            return listed
    return _ONE_IS_L.sub("l", letters).replace("1", "i") if _is_disguised(word) else None


def _counts(word: str) -> bool:
    """Whether the rest is a word once a digit or sign at one end is taken off."""
    return _ONE_AT_AN_END.search(word) is not None and is_word(word.strip("0123456789@!"))


def _is_disguised(word: str) -> bool:
    inner = _INNER.findall(word)
    if not inner or _NO_WORD.search(word):
        return False
    if _NUMBER.search(word) and len(inner) < 2:
        return False
    letters = sum(map(str.isalpha, word))
    # "A1B2" is a code: a disguise has more letters, or signs that codes do not use.
    return letters >= 3 or (2 * letters >= len(word) and word != word.upper()) or bool(_SIGN.search(word))


def _goes_on(text: str, match: re.Match[str]) -> bool:
    """Whether the word is part of an address, or its last character carries a mark that would join a letter."""
    if "@" in match[0] and _ADDRESS.search(text, match.start(), match.end() + 64):
        return True
    return category(text[match.end() : match.end() + 1] or " ")[0] == "M"
