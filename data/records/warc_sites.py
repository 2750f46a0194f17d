"""The captures of WARC files as records: one for each registered domain, of its newest pages."""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ...core.errors import RecordError
from .record import MAX_DOCUMENT_CHARACTERS, MAX_PAGES
from .warc import (
    BEYOND,
    OLDER,
    Capture,
    Damage,
    Outcomes,
    expand_lists,
    iter_captures,
)


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where a capture lies in the spool, and what orders it: its date, its depth in the site, its place."""

    date: str
    depth: int
    offset: int
    length: int
    characters: int


class Sites:
    """Groups captures by registered domain, and keeps the newest of each address.

    Texts wait in a temporary file, about as large as the visible text of the pages; memory grows by some 300 bytes a page.
    """

    def __init__(self, spool: IO[bytes], outcomes: Outcomes) -> None:
        self._spool, self._outcomes = spool, outcomes
        self._sites: dict[str, dict[bytes, _Stored]] = {}

    def __len__(self) -> int:
        return len(self._sites)

    def add(self, capture: Capture) -> None:
        """Take a capture; of two of one address the newer one stays, of two of one date the later one in the files."""
        pages = self._sites.setdefault(capture.domain, {})
        key, date = address_key(capture.url), capture.collected_at or ""
        if (known := pages.get(key)) is not None:
            self._outcomes[OLDER] += 1
            if known.date > date:
                return
        row: dict[str, str | None] = {"url": capture.url, "text": capture.text}
        if capture.hidden_text:
            row["hidden_text"] = capture.hidden_text
        row |= {"collected_at": capture.collected_at, "warc_record_id": capture.warc_record_id}
        line = json.dumps(row).encode("ascii")
        offset = self._spool.seek(0, 2)
        self._spool.write(line)
        pages[key] = _Stored(
            date, depth(capture.url), offset, len(line), len(capture.text) + len(capture.hidden_text) + 1
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """One record a domain, in the order in which they were met; pages near the root of a site come first."""
        for domain, pages in self._sites.items():
            chosen: list[_Stored] = []
            size = 0
            for page in sorted(pages.values(), key=lambda page: (page.depth, page.offset)):
                if len(chosen) == MAX_PAGES or size + page.characters + 1 > MAX_DOCUMENT_CHARACTERS:
                    self._outcomes[BEYOND] += 1
                    continue
                size += page.characters + 1
                chosen.append(page)
            dates = [page.date for page in chosen if page.date]
            yield {
                "id": domain,
                "domain": domain,
                "collected_at": max(dates, default=None),
                "pages": [self._page(page) for page in chosen],
            }

    def _page(self, page: _Stored) -> dict[str, Any]:
        self._spool.seek(page.offset)
        row: dict[str, Any] = json.loads(self._spool.read(page.length))
        return row


def site_rows(paths: Sequence[Path], outcomes: Outcomes, on_damage: Damage) -> Iterator[dict[str, Any]]:
    """The records of all the files together, as rows of the record contract; `outcomes` is complete at the end.

    :raises RecordError: if a file cannot be read, or no page is in them.
    """
    files = expand_lists(list(paths))
    with tempfile.TemporaryFile() as spool:
        sites = Sites(spool, outcomes)
        for path in files:
            for capture in iter_captures(path, outcomes, on_damage):
                sites.add(capture)
        yield from sites.rows()
        found = len(sites)
    if not found:
        names = ", ".join(map(str, paths))
        raise RecordError(f"{names}: no page is in there: {outcomes.summary() or 'no WARC record'}")


def address_key(url: str) -> bytes:
    """Equal for addresses of one page: scheme, fragment, case of the host and an empty path make no difference."""
    parts = urlsplit(url)
    address = f"{parts.netloc.lower()}{parts.path or '/'}?{parts.query}"
    return hashlib.blake2b(address.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def depth(url: str) -> int:
    """How many steps an address lies below the root of its host; a query is one more."""
    parts = urlsplit(url)
    return len([step for step in parts.path.split("/") if step]) + bool(parts.query)
