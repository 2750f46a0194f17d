"""Rules of the style sheets that stand in a page, written into the `style` of the elements that they apply to.

Only what decides whether and where text is seen is looked at, of rules whose selectors need no state of the page.
"""

import re
from collections.abc import Iterator
from typing import Any

_MOST_RULES = 400
_MOST_TESTS = 40_000_000
"""Elements times simple selectors: a page of millions of elements gets fewer rules, so that time stays linear in its size."""
_MOST_CHANGES = 100_000
"""Styles written in all: real pages need some hundred."""

_TELLING = re.compile(
    r"(?<![\w-])(?:display|visibility|opacity|font-size|position|left|right|top|text-indent|clip|clip-path)\s*:[^;{}]{1,80}",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_BLOCK = re.compile(r"\{([^{}]*)\}")
_LONGEST_SELECTORS = 2_000
_FOR_SCREENS = re.compile(r"@media\s+(?:only\s+)?(?:all|screen)\s*$", re.IGNORECASE)
_ID, _CLASS = re.compile(r"#[\w-]+"), re.compile(r"\.[\w-]+|\[[^\]]*\]")
_TAG = re.compile(r"(?:^|[\s>+~])[a-zA-Z][\w-]*")
# The parser walks over all siblings of an element for these.
_SIBLINGS = re.compile(r"~(?!=)|:nth-")
_STATE = re.compile(r":(?!not\(|is\(|where\(|first-child|last-child|nth-child|root)|\\")


def inline_rules(tree: Any) -> None:
    """Put the declarations of the page's own rules before each element's `style`, the weakest first.

    A value marked `!important` counts as one without the mark, except that it stands at the end.
    """
    rules = sorted(_rules(tree), key=lambda rule: rule[0], reverse=True)
    left, changes = _MOST_TESTS, 0
    elements = max(len(tree.document.query_selector_all("*")), 1) if rules else 1
    for (important, _, _), selector, declarations in rules[:_MOST_RULES]:
        cost = elements * (elements if _SIBLINGS.search(selector) else 1 + selector.count(" "))
        if cost > left:
            continue
        left -= cost
        found = _matching(tree, selector)
        changes += len(found)
        if changes > _MOST_CHANGES:
            return
        for node in found[:]:
            own = (node.getattr("style") or "")[:4_000]
            node.setattr("style", f"{own};{declarations}" if important else f"{declarations};{own}")


def _matching(tree: Any, selector: str) -> Any:
    """The parser's collection: making a list of it costs more than finding it."""
    try:
        return tree.document.query_selector_all(selector)
    except ValueError:  # a selector that the parser does not know applies to nothing, as in a browser
        return []


def _rules(tree: Any) -> Iterator[tuple[tuple[bool, tuple[int, int, int], int], str, str]]:
    """Precedence, selector and telling declarations of each rule."""
    number = 0
    for style in tree.document.query_selector_all("style")[:200]:
        if (style.getattr("media") or "all").strip().lower() not in ("", "all", "screen"):
            continue
        for selectors, body in _blocks(_without_other_media(_COMMENT.sub("", style.text))):
            declarations = [match[0] for match in _TELLING.finditer(body)]
            for selector in map(str.strip, selectors.split(",")) if declarations else ():
                number += 1
                if not selector or selector[0] == "@" or _STATE.search(selector):
                    continue
                for important in (False, True):
                    chosen = [each for each in declarations if ("!important" in each.lower()) == important]
                    if chosen:
                        text = ";".join(
                            re.sub(r"!\s*important", "", each, flags=re.IGNORECASE) for each in chosen
                        )
                        yield (important, _specificity(selector), number), selector, text


def _blocks(css: str) -> Iterator[tuple[str, str]]:
    """Selectors and declarations of each innermost block, in time linear in the length however the text is broken."""
    for block in _BLOCK.finditer(css):
        before = css[max(block.start() - _LONGEST_SELECTORS, 0) : block.start()]
        if selectors := re.split("[{};]", before)[-1]:
            yield selectors, block[1]


def _specificity(selector: str) -> tuple[int, int, int]:
    return len(_ID.findall(selector)), len(_CLASS.findall(selector)), len(_TAG.findall(selector))


def _without_other_media(css: str) -> str:
    """The rules for screens of any size: blocks of other conditions are left out with all that is in them."""
    kept: list[str] = []
    depth = skipped = last = 0
    for match in re.finditer(r"[{}]", css):
        piece = css[last : match.start()]
        last = match.end()
        if match[0] == "{":
            condition = piece.rpartition(";")[2].strip()
            depth += 1
            if not skipped and condition.startswith("@") and not _FOR_SCREENS.match(condition):
                skipped = depth
            elif not skipped:
                kept.append("" if condition.startswith("@") else piece + "{")
        else:
            if not skipped:
                kept.append(piece + "}")
            if skipped == depth:
                skipped = 0
            depth = max(depth - 1, 0)
    return "".join(kept)
