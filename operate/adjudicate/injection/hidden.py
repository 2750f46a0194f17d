"""Text of a page that its own style hides from visitors."""

import re
from collections.abc import Mapping
from typing import Any

from ....core.extras import require

_MOST = 5_000_000
_HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|opacity\s*:\s*0(?:\.0+)?\s*(?:;|$)|font-size\s*:\s*[01](?:px|pt|em|rem)?\s*(?:;|$)"
    r"|text-indent\s*:\s*-\d{3,}|(?:left|top)\s*:\s*-\d{3,}px|clip\s*:\s*rect\(0",
    re.IGNORECASE,
)
_COLOUR = re.compile(r"(?<![-\w])color\s*:\s*([^;]+)", re.IGNORECASE)
_GROUND = re.compile(r"background(?:-color)?\s*:\s*([^;]+)", re.IGNORECASE)
_WHITE = frozenset(
    {"white", "#fff", "#ffffff", "rgb(255,255,255)", "rgba(255,255,255,1)", "transparent", "rgba(0,0,0,0)"}
)
_NAMES = {"white": "#ffffff", "#fff": "#ffffff", "rgb(255,255,255)": "#ffffff"}


def hidden_text(html: str) -> str:
    """The text of elements that an inline style or the attribute `hidden` hides, and of comments, one a line.

    Text in the colour of its ground is hidden too; where no ground is given it is taken to be white. Style sheets are
    not read: what they hide is seen as visible text.
    """
    parser = require("resiliparse.parse.html", "cli")
    tree = parser.HTMLTree.parse(html[:_MOST].replace("\x00", ""))
    found: list[str] = []
    if tree.body is not None:
        for node in tree.body.query_selector_all("[style], [hidden], font[color]"):
            if _is_hidden(node) and (text := " ".join(str(node.text).split())):
                found.append(text)
    found += [" ".join(text.split()) for text in re.findall(r"<!--(.*?)-->", html[:_MOST], re.DOTALL)]
    return "\n".join(dict.fromkeys(text for text in found if text))


def hidden_of_row(fields: Mapping[str, Any]) -> str:
    """The hidden text of a record's row: of its `html`, or of all its pages."""
    pages = fields.get("pages")
    given = (
        [fields.get("html"), *(page.get("html") for page in pages if isinstance(page, dict))]
        if isinstance(pages, list)
        else [fields.get("html")]
    )
    return "\n".join(text for html in given if isinstance(html, str) and (text := hidden_text(html)))


def _is_hidden(node: Any) -> bool:
    style = node.getattr("style") or ""
    if node.hasattr("hidden") or _HIDING.search(style):
        return True
    colour, ground = _COLOUR.search(style), _GROUND.search(style)
    own = _plain(colour[1]) if colour else _plain(node.getattr("color") or "")
    if not own:
        return False
    return own == _plain(ground[1]) if ground else own in _WHITE


def _plain(colour: str) -> str:
    value = colour.lower().replace("!important", "").replace(" ", "")
    return _NAMES.get(value, value)
