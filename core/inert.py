"""Merchant text made safe to look at: what would act on a screen unseen becomes a symbol that is seen."""

import re
import unicodedata
from collections.abc import Iterator

_NAMES = {
    "\u00ad": "SHY", "\u061c": "ALM", "\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ", "\u200e": "LRM",
    "\u200f": "RLM", "\u2028": "LS", "\u2029": "PS", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF",
    "\u202d": "LRO", "\u202e": "RLO", "\u2060": "WJ", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI",
    "\u2069": "PDI", "\ufeff": "BOM", "\ufe0f": "VS16",
}  # fmt: skip
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_MARKS_KEPT = 3
# Joiners and variation selectors belong in emoji and in some scripts; after a Latin letter they only hide.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
    "|(?:(?<=[\x00-\u024f])|^)[\u200c\u200d\ufe0f]"
    f"|(?<=[{_MARKS}]{{{_MARKS_KEPT}}})[{_MARKS}]+"
)


def inert(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of `text` in order, each with whether it is a symbol that stands for something unseen.

    Control, bidi and invisible characters, half surrogate pairs and floods of combining marks come out as
    symbols. Line breaks and tabs stay. Markup stays too: whoever renders escapes it.
    """
    text = text.replace("\r\n", "\n")
    end = 0
    for match in _ODD.finditer(text):
        if match.start() > end:
            yield text[end : match.start()], False
        yield _symbol(match.group()), True
        end = match.end()
    if end < len(text):
        yield text[end:], False


def visible(text: str) -> str:
    """The text on one line, with the symbols in it: for names, ids and comments."""
    return " ".join("".join(piece for piece, _ in inert(text)).split())


def _symbol(odd: str) -> str:
    code = ord(odd[0])
    if unicodedata.category(odd[0]) in ("Mn", "Me") and odd[0] not in _NAMES and not 0xFE00 <= code <= 0xFE0F:
        return f"⟨+{len(odd)} marks⟩" if len(odd) > 1 else "⟨+1 mark⟩"
    return f"⟨{_NAMES.get(odd, f'U+{code:04X}')}⟩"
