"""Changes to a text that must not change its decision: letter case, typing errors, currency signs, text in front of it."""

import random
import re
from collections.abc import Callable, Mapping, Sequence

_WORD = re.compile(r"[A-Za-z]{5,}")
_TYPOS = 2
_NEXT_CURRENCY = str.maketrans("$£€", "€$£")


def with_typos(text: str) -> str:
    """The text with typing errors in up to two of its words of five letters or more, always the same ones.

    Two inner letters change places, one is left out, or one is typed twice: the most common slips.
    """
    chance = random.Random(text.encode("utf-8", "surrogatepass"))
    words = list(_WORD.finditer(text))
    for match in sorted(chance.sample(words, min(_TYPOS, len(words))), key=lambda m: -m.start()):
        text = text[: match.start()] + _mistyped(match[0], chance) + text[match.end() :]
    return text


def _mistyped(word: str, chance: random.Random) -> str:
    place = chance.randrange(1, len(word) - 2)
    first, second = word[place], word[place + 1]
    middle = chance.choice((second + first, first, first + first + second))
    return word[:place] + middle + word[place + 2 :]


def with_other_currency(text: str) -> str:
    """The text with another sign in place of each $, £ and €."""
    return text.translate(_NEXT_CURRENCY)


VARIATIONS: Mapping[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "lower case": str.lower,
    "typing errors": with_typos,
    "other currency": with_other_currency,
}


def diluted(offer: str, sentences: Sequence[str]) -> str:
    """The offer after other sentences, as one paragraph."""
    return " ".join(_as_sentence(text) for text in (*sentences, offer))


def _as_sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
