"""Which further pages to read for a policy, and the case with them."""

import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urldefrag, urljoin, urlsplit

from ....core.extras import require
from ....data.cleaning.html import html_to_text
from ....data.taxonomy import Policy
from ..case import Case
from .fetch import FetchedPage, Fetcher
from .guard import LookupRefused

_WORD = re.compile(r"[a-z]{3,}")
# Pages where a merchant says what it sells, when no link has a word of the policy.
_GENERAL = frozenset(
    [
        "shop",
        "store",
        "product",
        "products",
        "catalog",
        "collection",
        "service",
        "services",
        "pricing",
        "terms",
        "about",
        "faq",
        "menu",
    ]
)
_EMPTY = frozenset(
    [
        "and",
        "the",
        "for",
        "with",
        "not",
        "without",
        "other",
        "their",
        "from",
        "sale",
        "sales",
        "items",
        "goods",
        "services",
        "service",
        "any",
        "all",
    ]
)
_MOST_LINKS = 2_000


def policy_words(policy: Policy) -> frozenset[str]:
    """Words of a policy's title and of what it covers, as stems of at most six letters."""
    words = _WORD.findall(f"{policy.title} {policy.covers}".lower())
    return frozenset(word[:6] for word in words if word not in _EMPTY)


def links(page: FetchedPage) -> list[tuple[str, str]]:
    """The links of a page as address and words, in order."""
    if not page.is_html:
        return []
    tree = require("resiliparse.parse.html", "cli").HTMLTree.parse(page.content)
    if tree.body is None:
        return []
    found: dict[str, str] = {}
    for node in tree.body.query_selector_all("a[href]")[:_MOST_LINKS]:
        url = urldefrag(urljoin(page.url, (node.getattr("href") or "").strip()))[0]
        if url.startswith(("http://", "https://")):
            found.setdefault(url, " ".join(str(node.text).split())[:200])
    return list(found.items())


def ranked(found: list[tuple[str, str]], policy: Policy) -> list[str]:
    """Addresses by how many of the policy's words their link has, then by pages that say what is sold."""
    wanted = policy_words(policy)

    def score(link: tuple[str, str]) -> tuple[int, int]:
        words = _WORD.findall(f"{link[1]} {urlsplit(link[0]).path}".lower())
        return sum(word[:6] in wanted for word in words), sum(word in _GENERAL for word in words)

    scored = [(score(link), link[0]) for link in found]
    return [
        url for value, url in sorted(scored, key=lambda pair: (-pair[0][0], -pair[0][1])) if value != (0, 0)
    ]


def further_pages(start: str, policy: Policy, fetcher: Fetcher, *, most: int) -> Iterator[FetchedPage]:
    """The first page and the pages that its links for the policy lead to, at most `most` in all.

    What may not be fetched is left out; so is a first page that may not be.
    """
    try:
        first = fetcher.fetch(start)
    except LookupRefused:
        return
    yield first
    seen, count = {start, first.url}, 1
    for url in ranked(links(first), policy):
        if count >= most:
            return
        if url in seen:
            continue
        seen.add(url)
        try:
            page = fetcher.fetch(url)
        except LookupRefused:
            continue
        count += 1
        yield page


def extended(case: Case, pages: list[FetchedPage]) -> Case | None:
    """The case with the text of further pages behind its own; None where they add nothing."""
    texts = [html_to_text(page.content) if page.is_html else page.content for page in pages]
    new = [text.strip() for text in texts if text.strip() and text.strip() not in case.text]
    return replace(case, text="\n".join([case.text, *new]), parts=()) if new else None
