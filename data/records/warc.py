"""Pages from WARC files, the archives that crawlers write (ISO 28500; WARC 1.0 and 1.1, .warc and .warc.gz).

Every record of a file ends in one outcome, and `Outcomes` counts them: nothing is dropped unseen. FastWARC reads the
records; content and transfer encodings are undone record by record, so that one that is damaged costs itself alone.
"""

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import RecordError
from ...core.extras import require
from ..cleaning.html import read_page
from ..cleaning.page_text import PageText
from ..domains import registered_domain
from .decoding import decode_text
from .schema import parse_timestamp

SUFFIXES = (".warc", ".warc.gz")
LIST_SUFFIXES = (".paths", ".paths.gz")
MOST_BYTES = 16 * 2**20
"""Of a record, and of what it holds once unpacked, no more is read; a page that goes on is cut there."""
MOST_TEXT = 5_000_000
"""Characters of a page's text; `read_page` reads no more of a page either."""

_MARKUP = ("text/html", "application/xhtml+xml")
_PLAIN = ("text/plain",)
_PAGE_TYPES = ("response", "resource", "conversion")

PAGE, CUT = "page", "page, cut"
PAGES = (PAGE, CUT)
TRUNCATED = "truncated"
REVISIT, REDIRECT, HTTP_ERROR = "revisit of an unchanged page", "redirect", "HTTP error"
OTHER_RECORD, OTHER_TYPE = "no capture of a page", "neither HTML nor text"
NO_HOST, UNREADABLE, EMPTY = "no web address", "cannot be decoded", "no visible text"
OLDER, BEYOND = "older capture of the address", "beyond the limits of a site"

Damage = Callable[[str, int, str], None]
"""Reports what is damaged: file, number of the record, reason."""


class Outcomes(Counter[str]):
    """How many records of WARC files ended in each outcome."""

    def summary(self) -> str:
        """One line, the commonest first."""
        return ", ".join(f"{count:,} {outcome}" for outcome, count in self.most_common() if count)


@dataclass(frozen=True, slots=True)
class Capture:
    """One page as a crawl has it: `domain` is its registered domain, `collected_at` ISO 8601 or None."""

    domain: str
    url: str
    text: str
    collected_at: str | None
    warc_record_id: str | None
    hidden_text: str = ""
    """What the page holds and does not show."""


def is_warc(path: Path) -> bool:
    """Whether a file's name says that it is a WARC file or a list of them."""
    return path.name.lower().endswith((*SUFFIXES, *LIST_SUFFIXES))


def expand_lists(paths: list[Path]) -> list[Path]:
    """The WARC files of `paths`, in which a list (warc.paths) stands for the files that it names, relative to itself.

    :raises RecordError: if a list cannot be read or names an address of the web: this tool does not download.
    """
    found: list[Path] = []
    for path in paths:
        if not path.name.lower().endswith(LIST_SUFFIXES):
            found.append(path)
            continue
        try:
            content = path.read_bytes()
            text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        except (OSError, EOFError, ValueError) as error:
            raise RecordError(f"{path}: cannot be read as a list of WARC files ({error})") from error
        for line in filter(None, map(str.strip, text.splitlines())):
            if "://" in line:
                raise RecordError(f"{path}: {line[:100]!r} must be downloaded first; name local files")
            found.append(path.parent / line)
    for path in found:
        if not path.is_file():
            raise RecordError(f"{path}: no such file")
    return found


def iter_captures(path: Path, outcomes: Outcomes, on_damage: Damage) -> Iterator[Capture]:
    """The pages of a WARC file; what is none is counted, and damage is reported too.

    A file whose framing is damaged is read up to there; what follows is not found again.

    :raises RecordError: if it cannot be opened.
    """
    warc = require("fastwarc.warc", "cli")
    number = 0
    try:
        with open(path, "rb") as stream:
            records = warc.ArchiveIterator(stream, parse_http=False)
            while (record := _next(records, path, number + 1, outcomes, on_damage)) is not None:
                number += 1
                outcome, capture = _read(record)
                outcomes[outcome] += 1
                if outcome in (TRUNCATED, UNREADABLE):
                    on_damage(str(path), number, outcome)
                if capture is not None:
                    yield capture
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror or error})") from error
    if number == 0:
        on_damage(str(path), 1, "holds no WARC record")


def _next(records: Any, path: Path, number: int, outcomes: Outcomes, on_damage: Damage) -> Any | None:
    """The next record; None at the end, or where the file is damaged."""
    try:
        record = next(records)
    except StopIteration:
        return None
    except OSError as error:  # FastWARC raises it for damage of any kind
        reason = f"damaged ({error}); the rest of the file is not read"
    else:
        # Where compressed bytes end early there is a record without a header.
        if len(record.headers):
            return record
        reason = "the file ends within a record"
    outcomes[TRUNCATED] += 1
    on_damage(str(path), number, reason)
    return None


def _read(record: Any) -> tuple[str, Capture | None]:
    """The outcome of a record, and its page if it is one."""
    kind = (record.headers.get("WARC-Type") or "").strip().lower()
    if kind == "revisit":
        return REVISIT, None
    url = (record.headers.get("WARC-Target-URI") or "").strip("<> ")
    if kind not in _PAGE_TYPES:
        return OTHER_RECORD, None
    if not url.lower().startswith(("http://", "https://")) or (domain := registered_domain(url)) is None:
        return NO_HOST, None
    try:
        block = record.reader.read(MOST_BYTES)
    except OSError:
        return TRUNCATED, None
    length = record.content_length
    short = len(block) < min(length, MOST_BYTES)
    found = _http(block) if record.is_http else _Payload(200, record.headers.get("Content-Type"), block)
    outcome, text = found.page()
    if text is None:
        return (TRUNCATED if short and outcome == EMPTY else outcome), None
    if short:
        outcome = TRUNCATED
    elif (
        length > MOST_BYTES
        or len(text.visible) > MOST_TEXT
        or text.truncated
        or record.headers.get("WARC-Truncated")
    ):
        outcome = CUT
    date = _date(record.headers.get("WARC-Date"))
    return outcome, Capture(domain, url, text.visible[:MOST_TEXT], date, record.record_id, text.hidden)


@dataclass(frozen=True, slots=True)
class _Payload:
    """What a server sent; `body` None where it cannot be unpacked."""

    status: int | None
    content_type: str | None
    body: bytes | None

    def page(self) -> tuple[str, PageText | None]:
        """The outcome, and the text if there is a page."""
        if self.status is None or 300 <= self.status < 400:
            return (UNREADABLE if self.status is None else REDIRECT), None
        if not 200 <= self.status < 300:
            return HTTP_ERROR, None
        kind, _, parameters = (self.content_type or "").partition(";")
        kind = kind.strip().lower()
        if self.body is None or (not kind and b"\0" in self.body[:1000]):
            return UNREADABLE, None
        markup = kind in _MARKUP or (not kind and self.body.lstrip()[:1] == b"<")
        if kind and kind not in (*_MARKUP, *_PLAIN):
            return OTHER_TYPE, None
        _, stated, charset = parameters.lower().partition("charset=")
        charset = charset.split(";")[0].strip(" \"'") if stated else ""
        text = decode_text(self.body, markup=markup, charset=charset or None).text
        page = read_page(text) if markup else PageText(text)
        return (PAGE, page) if f"{page.visible}{page.hidden}".strip() else (EMPTY, None)


def _http(block: bytes) -> _Payload:
    """The status, type and unpacked body of an HTTP response."""
    for decode in ("all", "none"):
        record = _http_record(block)
        try:
            record.parse_http(auto_decode=decode)
            body = record.reader.read(MOST_BYTES)
        except OSError:
            # Some crawlers store the body unpacked and keep the header that says how it was packed.
            continue
        packed = decode == "none" and b"\0" in body
        headers = record.http_headers
        return _Payload(headers.status_code, headers.get("Content-Type"), None if packed else body)
    return _Payload(None, None, None)


def _http_record(block: bytes) -> Any:
    warc = require("fastwarc.warc", "cli")
    record = warc.WarcRecord()
    record.init_headers(warc.WarcRecordType.response, content_length=len(block))
    record.is_http = True
    record.set_bytes_content(block)
    return record


def _date(value: str | None) -> str | None:
    try:
        return None if value is None else parse_timestamp(value).isoformat()
    except ValueError:
        return None
