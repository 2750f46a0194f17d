"""Hostile text made safe to show: what would act on a screen, or hide there, becomes visible."""

import re
import reprlib
from collections.abc import Iterator

from .invisible import INVISIBLE

_NAMES = {
    "\u00ad": "SHY", "\u034f": "CGJ", "\u061c": "ALM", "\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ",
    "\u200e": "LRM", "\u200f": "RLM", "\u2028": "LS", "\u2029": "PS", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF",
    "\u202d": "LRO", "\u202e": "RLO", "\u2060": "WJ", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI",
    "\u2069": "PDI", "\ufeff": "BOM", "\ufe0f": "VS16",
}  # fmt: skip
# Joiners and variation selector 16 belong in emoji and in some scripts; after a Latin letter they only hide.
_JOINERS = "\u200c\u200d\ufe0f"
_ACTING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
# Combining marks of any script, and of scripts that stack them and need a few more.
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_SCRIPT_MARKS = (
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8"
    "\u06ea-\u06ed\u0730-\u074a\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u0f71-\u0f7e\u0f80-\u0f84"
    "\u0f8d-\u0fbc"
)
_MARKS_KEPT, _SCRIPT_MARKS_KEPT = 3, 4
_UNSAFE = re.compile(
    f"(?![{_JOINERS}])[{_ACTING}{INVISIBLE}]|(?<![^\x00-\u024f])[{_JOINERS}]"
    f"|(?P<flood>(?<=[{_MARKS}]{{{_MARKS_KEPT}}})[{_MARKS}]+"
    f"|(?<=[{_MARKS}{_SCRIPT_MARKS}]{{{_SCRIPT_MARKS_KEPT}}})[{_MARKS}{_SCRIPT_MARKS}]+)"
)


def safe_repr(value: object, *, limit: int = 60) -> str:
    """Return `value` in Python's notation, at most about `limit` characters long.

    Control, bidi and other unprintable characters come out escaped, so that hostile text can neither
    forge lines of a log nor steer a terminal.
    """
    if isinstance(value, str):
        if len(value) <= limit:
            return repr(value)
        return f"{value[:limit]!r}... ({len(value):,} characters)"
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = limit
    text = shortener.repr(value)
    return text if len(text) <= 2 * limit else text[: 2 * limit] + "..."


def visible_pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of `text` in order, each with whether it is a symbol such as ⟨RLO⟩ for something invisible.

    Control, bidi and invisible characters, half surrogate pairs and floods of combining marks come out as
    symbols. Line breaks and tabs stay. Markup stays too: whoever renders escapes it.
    """
    text = text.replace("\r\n", "\n")
    end = 0
    for match in _UNSAFE.finditer(text):
        if match.start() > end:
            yield text[end : match.start()], False
        yield _symbol(match), True
        end = match.end()
    if end < len(text):
        yield text[end:], False


def visible(text: str, limit: int | None = None) -> str:
    """The text with the symbols in it, cut to its first `limit` characters."""
    cut = text if limit is None or len(text) <= limit else text[:limit] + "…"
    return "".join(piece for piece, _ in visible_pieces(cut))


def visible_line(text: str) -> str:
    """The text on one line, with the symbols in it: for names, ids and comments."""
    return " ".join(visible(text).split())


def _symbol(match: re.Match[str]) -> str:
    found = match[0]
    if match.lastgroup == "flood":
        return f"⟨+{len(found)} mark{'s' * (len(found) > 1)}⟩"
    return f"⟨{_NAMES.get(found, f'U+{ord(found):04X}')}⟩"
