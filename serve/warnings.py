"""What a caller should know about a text before trusting its decision."""

import re
from collections.abc import Sequence
from itertools import islice

from ..core.decisions import Decision
from ..data.language import ENGLISH, language_statistics
from .preprocess import EncodedText

LANGUAGE = "language"
"""The text is in a language that the model does not read."""
THIN_PAGE = "thin page"
"""There are too few words of visible text to judge: a page may hold the rest where a crawler did not look."""
EMPTY_PAGE = "thin_page"
"""The same of a page of HTML, whose scripts or server did not give its text here: it is never clear."""
TRUNCATED = "truncated"
"""The text goes on after the last window that was read."""

_FEWEST_WORDS = 4
_WORDS_OF_A_SHELL = 40
_WORD = re.compile(r"[^\W\d_]+")
# What pages show until their scripts have run, or instead of them.
_SHELL = re.compile(
    r"\bloading\s*(?:\.|…|$)|java ?script.{0,60}\b(?:enabled?|disabled|required|off|work|run)\b"
    r"|\b(?:enable|need|needs|requires?|without|turn on)\b.{0,40}java ?script"
    r"|please wait|just a moment|checking your browser|redirect(?:ing|ed)\b|access denied|are you (?:a )?human"
    r"|not a robot|under construction|coming soon",
    re.IGNORECASE | re.MULTILINE,
)


def text_warnings(encoded: EncodedText, languages: Sequence[str]) -> tuple[str, ...]:
    """The warnings about a text.

    :param languages: those that the model reads, ISO 639; only a model that reads just English can be checked.
    """
    text = encoded.visible
    warnings = []
    if tuple(languages) == (ENGLISH,) and not language_statistics(text).is_english:
        warnings.append(LANGUAGE)
    if is_thin(text) or _has_thin_pages_only(encoded):
        warnings.append(EMPTY_PAGE if encoded.is_page else THIN_PAGE)
    if encoded.windows.truncated:
        warnings.append(TRUNCATED)
    return tuple(warnings)


def is_thin(text: str) -> bool:
    """Whether clean text has too few words to judge, or hardly more than a notice that the page is not there yet."""
    words = sum(1 for _ in islice(_WORD.finditer(text), _WORDS_OF_A_SHELL))
    return words < _FEWEST_WORDS or (words < _WORDS_OF_A_SHELL and bool(_SHELL.search(text)))


def _has_thin_pages_only(encoded: EncodedText) -> bool:
    """Whether no page of a site has words enough, however many its many pages have together."""
    return bool(encoded.pages) and all(is_thin(encoded.raw[start:end]) for start, end in encoded.pages)


def finding_decision(decision: Decision, warnings: Sequence[str]) -> Decision:
    """The decision on a policy: nothing is blocked in a text that the model does not read."""
    return "review" if decision == "block" and LANGUAGE in warnings else decision


def text_decision(decision: Decision, warnings: Sequence[str]) -> Decision:
    """The decision on a text: somebody who reads it decides on one that the model does not read or that is not there."""
    if LANGUAGE in warnings:
        return "review"
    return "review" if EMPTY_PAGE in warnings and decision == "clear" else decision
