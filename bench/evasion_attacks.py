"""What a merchant does to a page to get past a filter: one function an attack, written apart from the package's own
disguises (`data/augment.py`), with other alphabets, places and rates, so that training never met what is tested here.

An attack changes words of four letters or more: those of the passages that people quoted as evidence, all of them, and
a third of the others. It gives a text back, or a page where it hides in markup.
"""

import html
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

Attack = Callable[[str, random.Random], str]
"""One word in, what stands for it out."""

_WORD = re.compile(r"[A-Za-z]{4,}")
_ELSEWHERE = 1 / 3
EUPHEMISMS = Path(__file__).with_name("euphemisms.yaml")

_HOMOGLYPHS = {
    "a": "\u0430\u0251\uff41\U0001d41a", "c": "\u0441\u03f2\uff43", "d": "\u0501\u217e", "e": "\u0435\u212f\uff45",
    "h": "\u04bb\uff48", "i": "\u0456\u0131\uff49", "j": "\u0458\u03f3", "l": "\u04cf\u217c\uff4c", "m": "\uff4d\u217f",
    "n": "\u0578\uff4e", "o": "\u043e\u03bf\uff4f\u0585", "p": "\u0440\u2374\uff50", "q": "\u051b", "r": "\u1d26\uff52",
    "s": "\u0455\uff53", "t": "\uff54\U0001d42d", "u": "\u057d\uff55", "v": "\u03bd\u2174", "w": "\u051d\u0461",
    "x": "\u0445\u2179", "y": "\u0443\u04af", "z": "\u1d22\uff5a",
}  # fmt: skip
_UNSEEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u180e"
_MARKS = "\u0335\u0336\u0337\u0308\u0323\u0331"
_DIGITS = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7", "b": "8", "g": "9", "l": "1"}


def homoglyphs(word: str, draw: random.Random) -> str:
    """Letters of other scripts and styles that look alike, two in three."""
    return "".join(draw.choice(_HOMOGLYPHS.get(c, c)) if draw.random() < 2 / 3 else c for c in word)


def zero_width(word: str, draw: random.Random) -> str:
    """Characters that nobody sees between all letters."""
    return "".join(c + draw.choice(_UNSEEN) for c in word)


def combining_marks(word: str, draw: random.Random) -> str:
    """A stroke or dots on every letter."""
    return "".join(c + draw.choice(_MARKS) for c in word)


def leet(word: str, draw: random.Random) -> str:
    """Digits and signs for four in five of the letters that have one."""
    return "".join(draw.choice(_DIGITS.get(c.lower(), c)) if draw.random() < 0.8 else c for c in word)


def spacing(word: str, draw: random.Random) -> str:
    """Every letter apart."""
    return draw.choice((" ", " ", ".", "-", "/")).join(word)


def splitting(word: str, draw: random.Random) -> str:
    """A blank or a sign in one or two places."""
    separator = draw.choice((" ", " ", "-", "~", "/", "+", ","))
    places = sorted(draw.sample(range(1, len(word)), 1 if len(word) < 7 else 2))
    ends = zip([0, *places], [*places, len(word)], strict=True)
    return separator.join(word[start:end] for start, end in ends)


def misspelling(word: str, draw: random.Random) -> str:
    """A neighbouring key for one letter, or one letter left out."""
    rows = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    place = draw.randrange(1, len(word))
    row = next(r for r in rows if word[place].lower() in r)
    at = row.index(word[place].lower())
    near = row[at - 1] if at else row[at + 1]
    return word[:place] + ("" if draw.random() < 0.5 else near) + word[place + 1 :]


def markup(word: str, draw: random.Random) -> str:
    """Tags, comments, entities and unseen letters inside the word; for a page, not for a text."""
    place = draw.randrange(1, len(word))
    before, after = html.escape(word[:place]), html.escape(word[place:])
    ways = (
        f"{before}<b></b>{after}",
        f"{before}<!-- {draw.randrange(1000)} -->{after}",
        f"{before}&#8203;{after}",
        "".join(f"&#x{ord(c):x};" for c in word),
        f'{before}<span style="display:none">{draw.choice(("xq", "zk", "vj"))}</span>{after}',
        f'{before}<i style="font-size:0">{draw.choice("xqz")}</i>{after}',
        f"{before}&shy;{after}",
    )
    return draw.choice(ways)


CHARACTER_ATTACKS: Mapping[str, Attack] = {
    each.__name__.replace("_", " "): each
    for each in (homoglyphs, zero_width, combining_marks, leet, spacing, splitting, misspelling)
}


def attack_text(text: str, quotes: Sequence[str], attack: Attack, *, seed: str) -> str:
    """The text with its words attacked: all in the quotes, a third elsewhere."""
    draw = random.Random(seed)
    quoted = _places(text, quotes)

    def disguised(match: re.Match[str]) -> str:
        inside = any(start <= match.start() < end for start, end in quoted)
        return attack(match[0], draw) if inside or draw.random() < _ELSEWHERE else match[0]

    return _WORD.sub(disguised, text)


def attack_page(text: str, quotes: Sequence[str], *, seed: str) -> str:
    """An HTML page of the text's lines with words hidden in markup."""
    draw = random.Random(seed)
    lines = []
    for line in text.split("\n"):
        quoted = _places(line, quotes)
        parts, done = [], 0
        for match in _WORD.finditer(line):
            inside = any(start <= match.start() < end for start, end in quoted)
            if inside or draw.random() < _ELSEWHERE:
                parts += [html.escape(line[done : match.start()]), markup(match[0], draw)]
                done = match.end()
        lines.append(f"<p>{''.join(parts)}{html.escape(line[done:])}</p>")
    return f"<!doctype html><html><head><title></title></head><body>{''.join(lines)}</body></html>"


def load_euphemisms(path: Path = EUPHEMISMS) -> dict[str, list[str]]:
    """Plain term -> what is said in its place."""
    terms: dict[str, list[str]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {str(term): [str(word) for word in words] for term, words in terms.items()}


def with_euphemisms(text: str, terms: Mapping[str, Sequence[str]], *, seed: str) -> str:
    """The text with every term of the list said otherwise; the longest term wins."""
    draw = random.Random(seed)
    longest_first = sorted(terms, key=len, reverse=True)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)
    return pattern.sub(lambda match: draw.choice(terms[match[0].lower()]), text)


def _places(text: str, quotes: Sequence[str]) -> list[tuple[int, int]]:
    found = ((text.find(quote), len(quote)) for quote in quotes)
    return [(start, start + length) for start, length in found if start >= 0]
