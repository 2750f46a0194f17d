"""The language of records, told where training and checks of data have the libraries for it."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from ..core.extras import require
from .cleaning.text import clean
from .language import ENGLISH, language_statistics

_CHARACTERS_READ = 4_000
_FEWEST_WORDS = 5


def tell_languages(texts: Sequence[str]) -> tuple[str, ...]:
    """The ISO 639 code of each text's language; "" where a text is too short to tell.

    What the statistics that scoring uses take for English is "en"; py3langid, which takes product names for other
    languages, is asked about the rest only.
    """
    return tuple(language_of(clean(text).text) for text in texts)


def language_of(clean_text: str) -> str:
    """The ISO 639 code of a clean text's language; "" where it is too short to tell."""
    statistics = language_statistics(clean_text)
    if statistics.is_english:
        return ENGLISH
    if statistics.words < _FEWEST_WORDS and not statistics.other_letters:
        return ""
    return str(_identifier().classify(clean_text[:_CHARACTERS_READ])[0])


@cache
def _identifier() -> Any:
    return require("py3langid", "train")
