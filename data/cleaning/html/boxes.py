"""What a page shows beside its text nodes, and where its words end: prepared before the text is extracted.

Some of it is done on the markup, since that is fast, some on the parsed tree, since only it knows which element ends where.
"""

import re
from typing import Any

_MOST_NODES = 10_000
_MOST_FRAMES = 100
_MOST_TEXT = 20_000_000
"""Characters looked at for labels in all: each of nested elements repeats the text of those in it."""
_LONGEST_LABEL = 2_000
_LETTERS_AT_AN_EDGE = 3
"""Longer hidden texts beside a word are texts of their own: kept, but apart from it."""

# Resiliparse writes these inline without a gap; a browser draws them as boxes of their own.
# Links that touch are a menu whose style sheet separates them.
# Each alternative begins with "<", so that the search skips from tag to tag.
_BOXES = re.compile(
    r"<(?=/?(?:button|canvas|desc|iframe|img|input|label|object|optgroup|option|select|summary|svg|text"
    r"|textarea|title|video)\b|(?<=</a><)a\b)",
    re.IGNORECASE,
)
_IMAGE = re.compile(r"(<img\b[^<>]*>)", re.IGNORECASE)
_SHADOW_ROOT = re.compile(r"<template(?=\s[^<>]*\bshadowroot(?:mode)?\b)", re.IGNORECASE)
# Letters hidden in or at a visible word: `va<span style="display:none">x</span>pe`.
_HIDDEN = re.compile(
    r"<(span|i|b|em|strong|font|small|sub|sup|s|u)\b[^<>]{0,200}?"
    r"(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|\shidden\b)"
    r"[^<>]{0,200}>([^<>]{0,40})</\1\s*>",
    re.IGNORECASE,
)
_DISPLAY = re.compile(r"display\s*:\s*(inline-)?(block|flex|grid|table|list-item|flow-root)", re.IGNORECASE)


def separate_boxes(html: str) -> str:
    """Markup in which images, fields, inline SVG and hidden letters neither glue nor change the words beside them.

    Declarative shadow roots become part of the page, as a browser shows them.
    """
    html = _HIDDEN.sub(_without_hidden, html)
    html = _IMAGE.sub(r"\1 ", _BOXES.sub(" <", html))
    return _SHADOW_ROOT.sub("<div", html)


def _without_hidden(match: re.Match[str]) -> str:
    page = match.string
    before = match.start() > 0 and page[match.start() - 1].isalnum()
    after = match.end() < len(page) and page[match.end()].isalnum()
    if (before and after) or ((before or after) and len(match[2].strip()) <= _LETTERS_AT_AN_EDGE):
        return ""
    return f" {match[0]} " if before or after else match[0]


def show_labels(tree: Any) -> None:
    """Put names that are on the screen or read aloud, but not text, into the tree, and gaps between styled boxes."""
    document = tree.document
    if document is None:
        return
    for node in document.query_selector_all("optgroup[label]")[:_MOST_NODES]:
        _insert_before(tree, node, node.getattr("label"))
    for node in document.query_selector_all("input[type=image][alt]")[:_MOST_NODES]:
        _insert_before(tree, node, node.getattr("alt"))
    left = _MOST_TEXT
    for node in document.query_selector_all("a[aria-label], button[aria-label], svg[aria-label]")[
        :_MOST_NODES
    ]:
        text = node.text
        left -= len(text)
        if not text.strip() and not node.query_selector("img[alt]"):
            _insert_before(tree, node, node.getattr("aria-label"))
        if left < 0:
            break
    for node in document.query_selector_all("[style*=display i]")[:_MOST_NODES]:
        if found := _DISPLAY.search(node.getattr("style") or ""):
            _separate(tree, node, children=found[2].lower() in ("flex", "grid"))


def frames(tree: Any) -> list[str]:
    """The documents that frames hold in `srcdoc`, in order."""
    if tree.document is None:
        return []
    # A slice of the nodes takes linear time, iterating over them quadratic.
    found = tree.document.query_selector_all("iframe[srcdoc]")[:_MOST_FRAMES]
    return [node.getattr("srcdoc") or "" for node in found]


def _insert_before(tree: Any, node: Any, text: str | None) -> None:
    if text and text.strip() and node.parent is not None:
        node.parent.insert_before(tree.create_text_node(f" {text[:_LONGEST_LABEL]} "), node)


def _separate(tree: Any, node: Any, *, children: bool) -> None:
    if node.parent is not None:
        node.parent.insert_before(tree.create_text_node(" "), node)
        if node.next is not None:
            node.parent.insert_before(tree.create_text_node(" "), node.next)
        else:
            node.parent.append_child(tree.create_text_node(" "))
    if children:
        child = node.first_child
        while child is not None:
            node.insert_before(tree.create_text_node(" "), child)
            child = child.next
