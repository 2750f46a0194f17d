"""What a page that scripts will fill says in its data: names, descriptions and prices of JSON-LD, state and microdata."""

import json
from collections.abc import Iterator
from typing import Any

_FIELDS = frozenset(
    [
        "name",
        "title",
        "headline",
        "alternatename",
        "description",
        "abstract",
        "articlebody",
        "text",
        "body",
        "content",
        "summary",
        "caption",
        "category",
        "brand",
        "keywords",
        "slogan",
        "producttitle",
        "productname",
        "shortdescription",
        "longdescription",
    ]
)
_PRICES = frozenset(["price", "lowprice", "highprice", "pricecurrency"])
_MOST_SCRIPTS = 200
_MOST_VALUES = 5_000
_MOST_CHARACTERS = 200_000
_SCRIPTS = "script[type='application/ld+json' i], script#__NEXT_DATA__, script#__NUXT_DATA__, script[type='application/json' i]"


def read_data(tree: Any) -> str:
    """Distinct names, descriptions and prices in the page's data, a line each, up to 200,000 characters."""
    lines: dict[str, None] = {}
    for script in tree.document.query_selector_all(_SCRIPTS)[:_MOST_SCRIPTS]:
        try:
            content = json.loads(script.text)
        except (ValueError, RecursionError):
            continue  # a browser skips it too
        for value in _values(content):
            lines[value] = None
            if len(lines) >= _MOST_VALUES:
                break
    for node in tree.document.query_selector_all("[itemprop][content]")[:_MOST_VALUES]:
        if (node.getattr("itemprop") or "").lower() in _FIELDS | _PRICES:
            lines[" ".join((node.getattr("content") or "").split())] = None
    return "\n".join(filter(None, lines))[:_MOST_CHARACTERS]


def _values(content: Any) -> Iterator[str]:
    """Texts and prices under telling keys, in the order of the document; without recursion, however deep."""
    waiting = [("", content)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(name).lower(), each) for name, each in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(key, each) for each in reversed(value)]
        elif key in _FIELDS and isinstance(value, str) and any(map(str.isalpha, value)):
            yield " ".join(value.split())
        elif key in _PRICES and isinstance(value, str | int | float) and not isinstance(value, bool):
            yield str(value).strip()
