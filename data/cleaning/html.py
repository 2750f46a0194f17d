"""Visible text of a merchant's HTML page, menus, prices, tables and footers included.

Why Resiliparse: `python bench/html_extractors.py` measured the share of visible words found (median over 240 pages):
Resiliparse as used here 1.000, selectolax 0.975 with a separator and 0.851 without one, trafilatura 0.884 to 0.907.
Article extractors (trafilatura) drop menus, prices and footers, where violations hide. selectolax is the
fastest (65 MB/s, ours 9), but with a separator it breaks words at inline tags (`va<b>pe</b>`) and without one it
joins table cells; it took 20 seconds for 100,000 nested elements, Resiliparse 0.1.

Hidden elements are kept, except for a few letters hidden inside or at a word. Style sheets and scripts that we do not have decide
what is seen: tabs, menus and age gates start hidden and appear on a click, other text appears and is then hidden. The
page alone does not tell, and for a policy check the text that a merchant hides matters at least as much.
"""

import re
from typing import Any

from ...core.extras import require
from .html_boxes import frames, separate_boxes, show_labels

# Longer pages are cut here before parsing: text of that size fills more windows than any scorer reads.
MOST_CHARACTERS = 5_000_000
_MOST_ATTRIBUTES = 1_000  # meta and placeholder texts; each is cut as well: they are lines, not documents
_MOST_ATTRIBUTE_CHARACTERS = 2_000

_DEEPEST_FRAME = 2
_DESCRIPTIONS = "meta[name=description], meta[property='og:description']"
_TEXT_AREAS = "textarea[placeholder]"  # Resiliparse gives the placeholders of all other fields in place
_SURROGATES = re.compile("[\ud800-\udfff]")


def html_to_text(html: str, *, depth: int = 0) -> str:
    """Text of a page: title, description, the body in reading order, frames with `srcdoc`, placeholders of text areas.

    Block elements and table rows get their own lines; inline tags do not split words. Script, style,
    template and comments are left out; the texts of images (`alt`), of buttons and of fields are kept. Any string
    is accepted, however malformed; text beyond `MOST_CHARACTERS` is not read. The result is not cleaned:
    see `text.clean`.

    :param depth: how many frames the page stands in; those within two are read.
    :raises MissingExtraError: if Resiliparse is not installed.
    """
    parser = require("resiliparse.parse.html", "cli")
    extractor = require("resiliparse.extract.html2text", "cli")
    html = _SURROGATES.sub("\ufffd", html[:MOST_CHARACTERS]).replace("\x00", "")
    tree = parser.HTMLTree.parse(separate_boxes(html))
    framed = (
        [html_to_text(frame, depth=depth + 1) for frame in frames(tree)] if depth < _DEEPEST_FRAME else []
    )
    show_labels(tree)
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
    parts = [*head, body, *framed, *_attributes(tree, _TEXT_AREAS, "placeholder")]
    return "\n".join(part for part in map(str.strip, parts) if part)


def _attributes(tree: Any, selector: str, name: str) -> list[str]:
    """Distinct values of an attribute, in document order."""
    if tree.document is None:
        return []
    found = tree.document.query_selector_all(selector)[:_MOST_ATTRIBUTES]
    return list(dict.fromkeys((node.getattr(name) or "")[:_MOST_ATTRIBUTE_CHARACTERS] for node in found))
