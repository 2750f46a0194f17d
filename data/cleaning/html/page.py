"""Visible text of a merchant's HTML page, menus, prices, tables and footers included.

Why Resiliparse: `python bench/html_extractors.py` measured the share of visible words found (median over 240 pages):
Resiliparse as used here 1.000, selectolax 0.975 with a separator and 0.851 without one, trafilatura 0.884 to 0.907.
Article extractors (trafilatura) drop menus, prices and footers, where violations hide. selectolax is the
fastest (65 MB/s, ours 9), but with a separator it breaks words at inline tags (`va<b>pe</b>`) and without one it
joins table cells; it took 20 seconds for 100,000 nested elements, Resiliparse 0.1.

Visible and hidden text are distinguished, as far as the page alone tells: what attributes and the rules of style sheets in
it hide is read as a part of its own. Style sheets and scripts that we do not have may show it, or hide more; for a policy
check the text that a merchant hides matters at least as much.
"""

import re
from typing import Any

from ....core.extras import require
from ..page_text import PageText
from .boxes import frames, separate_boxes, show_labels
from .data import read_data
from .hidden import distinct_lines, take_hidden
from .styles import inline_rules

# Of the text, not of the markup: style sheets, scripts and data URIs cost a page nothing of what is read of it.
MOST_CHARACTERS = 5_000_000
MOST_MARKUP = 64 * 2**20
_MOST_ATTRIBUTES = 1_000  # meta and placeholder texts; each is cut as well: they are lines, not documents
_MOST_ATTRIBUTE_CHARACTERS = 2_000

_DEEPEST_FRAME = 2
_FEW_WORDS = 40
"""A page with fewer visible words may wait for its scripts: its data is read too."""
_HEAD = "meta[property='og:title'], meta[name=description], meta[property='og:description']"
_TEXT_AREAS = "textarea[placeholder]"  # Resiliparse gives the placeholders of all other fields in place
_SURROGATES = re.compile("[\ud800-\udfff]")


def html_to_text(html: str) -> str:
    """All text of a page, the hidden after the visible; see `read_page`."""
    page = read_page(html)
    return "\n".join(filter(None, (page.visible, page.hidden)))


def read_page(html: str, *, depth: int = 0) -> PageText:
    """Text of a page: title, description, the body in reading order, frames with `srcdoc`, placeholders of text areas.

    Block elements and table rows get their own lines; inline tags do not split words. Script, style,
    template and comments are left out; the texts of images (`alt`), of buttons and of fields are kept. Of a page that
    shows hardly any words, the names, descriptions and prices in its data (JSON-LD, state, microdata) are read too. Any
    string is accepted, however malformed. The result is not cleaned: see `text.clean`.

    :param depth: how many frames the page stands in; those within two are read.
    :raises MissingExtraError: if Resiliparse is not installed.
    """
    tree = _parse(html)
    if tree.document is None:
        return PageText("", truncated=len(html) > MOST_MARKUP)
    framed = [read_page(frame, depth=depth + 1) for frame in frames(tree)] if depth < _DEEPEST_FRAME else []
    inline_rules(tree)
    markup = take_hidden(tree)
    hidden = [_body(_parse(markup))] if markup else []
    show_labels(tree)
    body = _body(tree)
    head = list(dict.fromkeys([tree.title or "", *_attributes(tree, _HEAD, "content")]))
    parts = [
        *head,
        body,
        *(frame.visible for frame in framed),
        *_attributes(tree, _TEXT_AREAS, "placeholder"),
    ]
    visible = "\n".join(part for part in map(str.strip, parts) if part)
    if not depth and len(visible.split(maxsplit=_FEW_WORDS)) < _FEW_WORDS:
        visible = "\n".join(filter(None, (visible, read_data(tree))))
    return PageText(
        visible[:MOST_CHARACTERS],
        distinct_lines("\n".join([*hidden, *(frame.hidden for frame in framed)])),
        len(visible) > MOST_CHARACTERS or len(html) > MOST_MARKUP or any(frame.truncated for frame in framed),
    )


def _parse(html: str) -> Any:
    parser = require("resiliparse.parse.html", "cli")
    html = html[:MOST_MARKUP].replace("\x00", "")
    if not html.isascii():
        html = _SURROGATES.sub("\ufffd", html)
    return parser.HTMLTree.parse(separate_boxes(html))


def _body(tree: Any) -> str:
    extractor = require("resiliparse.extract.html2text", "cli")
    text: str = extractor.extract_plain_text(
        tree,
        preserve_formatting=True,
        main_content=False,
        list_bullets=False,
        alt_texts=True,
        form_fields=True,
        noscript=True,
    )
    return text


def _attributes(tree: Any, selector: str, name: str) -> list[str]:
    """Distinct values of an attribute, in document order."""
    if tree.document is None:
        return []
    found = tree.document.query_selector_all(selector)[:_MOST_ATTRIBUTES]
    return list(dict.fromkeys((node.getattr(name) or "")[:_MOST_ATTRIBUTE_CHARACTERS] for node in found))
