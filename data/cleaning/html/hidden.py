"""Text that a page holds and does not show: taken out of the page, to be read apart from what a visitor sees.

Scripts may show it later (tabs, menus, age gates), or it stands there for search engines and filters only. In both cases
it is read, but it neither joins the words of the page nor makes a large page of a small one.
"""

import re
from functools import lru_cache
from typing import Any

_MOST_NODES = 20_000
_MOST_CHARACTERS = 200_000
_FEWEST_LETTERS = 4
"""Fewer letters in a hidden line are an icon's name, or letters set into a word to break it."""

_LONGEST_REMEMBERED = 500
"""Characters of a style that is looked up again: pages repeat a few short ones, and memory stays small."""

_CANDIDATES = "[hidden], [style], dialog:not([open]), [type=hidden]"
_VALUE = re.compile(r"(?:^|;)\s*([a-z-]+)\s*:\s*([^;]*)", re.IGNORECASE)
_NOTHING = re.compile(r"0*\.?0+(?:px|em|rem|pt|%|vw|vh)?\s*$")
_FAR_OUT = re.compile(r"-\s*\d{3,}(?:\.\d+)?(?:px|em|rem|pt|vw|vh|%)")
_NO_CLIP = re.compile(r"(?:auto|none|inherit|initial)?\s*$")


def is_hidden_style(style: str) -> bool:
    """Whether the declarations of a `style` attribute keep an element from being seen; the last of each kind counts."""
    return _is_known_style(style) if len(style) <= _LONGEST_REMEMBERED else _hides(style)


@lru_cache(maxsize=4_096)
def _is_known_style(style: str) -> bool:
    return _hides(style)


def _hides(style: str) -> bool:
    given = {match[1].lower(): match[2].strip().lower() for match in _VALUE.finditer(style)}

    def value(name: str) -> str:
        return given.get(name, "").partition("!")[0].strip()

    if value("display") == "none" or value("visibility") in ("hidden", "collapse"):
        return True
    if any(_NOTHING.match(value(name)) for name in ("opacity", "font-size")):
        return True
    if value("position") in ("absolute", "fixed"):
        if any(_FAR_OUT.match(value(name)) for name in ("left", "top", "right")):
            return True
        if value("clip").startswith("rect(") and not re.search(r"[2-9]|1\d", value("clip")):
            return True
    if _FAR_OUT.match(value("text-indent")):
        return True
    if value("overflow") == "hidden" and any(_NOTHING.match(value(name)) for name in ("width", "height")):
        return True
    colour = value("color")
    return bool(colour) and colour in (value("background"), value("background-color"))


def take_hidden(tree: Any) -> str:
    """Take the outermost hidden elements out of the page; returns their markup, each in a block of its own."""
    if tree.document is None:
        return ""
    taken: list[str] = []
    size = 0
    within = 0
    for node in tree.document.query_selector_all(_CANDIDATES)[:_MOST_NODES]:
        if (
            within
        ):  # in document order the elements within one that was taken out, which go with it, follow it
            within -= 1
            continue
        if (node.tag or "").lower() in ("html", "body", "head", "template") or not _is_hidden(node):
            continue
        parent = node.parent
        if parent is None:
            continue
        within = len(node.query_selector_all(_CANDIDATES))
        if size < _MOST_CHARACTERS:
            markup = node.html
            taken.append(f"<div>{_shown(markup)}</div>")
            size += len(markup)
        parent.remove_child(node)
    return "".join(taken)


def _is_hidden(node: Any) -> bool:
    style = node.getattr("style")
    if node.hasattr("hidden") or (node.tag or "").lower() == "dialog":
        return not (style and re.search(r"display\s*:\s*(?!none)", style, re.IGNORECASE))
    return bool(style) and is_hidden_style(style)


def _shown(markup: str) -> str:
    return re.sub(r"\sstyle=\"[^\"]*\"", "", markup)


def distinct_lines(text: str) -> str:
    """The lines of hidden text that hold words, each once, up to a bound."""
    lines = (line.strip() for line in text.splitlines())
    kept = dict.fromkeys(line for line in lines if sum(map(str.isalnum, line)) >= _FEWEST_LETTERS)
    return "\n".join(kept)[:_MOST_CHARACTERS]
