"""Visible text of a merchant's HTML page, menus, prices, tables and footers included.

Why Resiliparse: `python bench/html_extractors.py` measured the share of visible words found (median over 240 pages):
Resiliparse as used here 1.000, selectolax 0.975 with a separator and 0.851 without one, trafilatura 0.884 to 0.907.
Article extractors (trafilatura) drop menus, prices and footers, where violations hide. selectolax is the
fastest (65 MB/s, ours 9), but with a separator it breaks words at inline tags (`va<b>pe</b>`) and without one it
joins table cells; it took 20 seconds for 100,000 nested elements, Resiliparse 0.1.

Hidden elements are kept, except for a few letters hidden inside a word. Style sheets and scripts that we do not have decide
what is seen: tabs, menus and age gates start hidden and appear on a click, other text appears and is then hidden. The
page alone does not tell, and for a policy check the text that a merchant hides matters at least as much.
"""

import re
from typing import Any

from ...core.extras import require

# Longer pages are cut here before parsing: text of that size fills more windows than any scorer reads.
MOST_CHARACTERS = 5_000_000
_MOST_ATTRIBUTES = 1_000  # meta and placeholder texts; each is cut as well: they are lines, not documents
_MOST_ATTRIBUTE_CHARACTERS = 2_000

# Resiliparse writes these inline without a gap; a browser draws them as boxes of their own.
# Links that touch are a menu whose style sheet separates them.
_BOXES = re.compile(
    r"(?<=</a>)<(?=a\b)|<(?=/?(?:button|canvas|iframe|img|input|label|object|optgroup|option|select|summary|textarea|video)\b)",
    re.IGNORECASE,
)
# Letters hidden in the middle of a visible word: `va<span style="display:none">x</span>pe`.
_HIDDEN_IN_WORD = re.compile(
    r"(?<=\w)<(span|i|b|em|strong|font|small|sub|sup|s|u)\b[^<>]{0,200}?"
    r"(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|\shidden\b)"
    r"[^<>]{0,200}>[^<>]{0,40}</\1\s*>(?=\w)",
    re.IGNORECASE,
)
_DESCRIPTIONS = "meta[name=description], meta[property='og:description']"
_TEXT_AREAS = "textarea[placeholder]"  # Resiliparse gives the placeholders of all other fields in place
_SURROGATES = re.compile("[\ud800-\udfff]")


def html_to_text(html: str) -> str:
    """Text of a page: title, description, the body in reading order, placeholders of text areas.

    Block elements and table rows get their own lines; inline tags do not split words. Script, style,
    template and comments are left out; the texts of images (`alt`), of buttons and of fields are kept. Any string
    is accepted, however malformed; text beyond `MOST_CHARACTERS` is not read. The result is not cleaned:
    see `text.clean`.

    :raises MissingExtraError: if Resiliparse is not installed.
    """
    parser = require("resiliparse.parse.html", "cli")
    extractor = require("resiliparse.extract.html2text", "cli")
    html = _SURROGATES.sub("\ufffd", html[:MOST_CHARACTERS]).replace("\x00", "")
    tree = parser.HTMLTree.parse(_BOXES.sub(" <", _HIDDEN_IN_WORD.sub("", html)))
    body = extractor.extract_plain_text(
        tree,
        preserve_formatting=True,
        main_content=False,
        list_bullets=False,
        alt_texts=True,
        form_fields=True,
        noscript=True,
    )
    head = [tree.title or "", *_attributes(tree, _DESCRIPTIONS, "content")]
    parts = [*head, body, *_attributes(tree, _TEXT_AREAS, "placeholder")]
    return "\n".join(part for part in map(str.strip, parts) if part)


def _attributes(tree: Any, selector: str, name: str) -> list[str]:
    """Distinct values of an attribute, in document order."""
    if tree.document is None:
        return []
    found = tree.document.query_selector_all(selector)[:_MOST_ATTRIBUTES]
    return list(dict.fromkeys((node.getattr(name) or "")[:_MOST_ATTRIBUTE_CHARACTERS] for node in found))
