"""Writes WARC files byte by byte, as crawlers do."""

import gzip
from collections.abc import Iterable
from pathlib import Path


def capture(
    url: str,
    body: bytes,
    *,
    content_type: str | None = "text/html",
    status: str = "200 OK",
    date: str = "2026-11-01T00:00:00Z",
    kind: str = "response",
    number: int = 1,
    http: str = "",
    warc: str = "",
) -> bytes:
    """One WARC record; `http` and `warc` are further header lines, each with its end."""
    stated = f"Content-Type: {content_type}\r\n" if content_type else ""
    block = body
    if kind != "resource" and kind != "conversion":
        block = f"HTTP/1.1 {status}\r\n{stated}{http}\r\n".encode("latin-1") + body
        stated = "Content-Type: application/http; msgtype=response\r\n"
    header = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number:032x}>\r\nWARC-Date: {date}\r\n"
        f"WARC-Target-URI: {url}\r\n{stated}{warc}Content-Length: {len(block)}\r\n\r\n"
    )
    return header.encode("utf-8") + block + b"\r\n\r\n"


def write_warc(path: Path, records: Iterable[bytes]) -> Path:
    """A WARC file; with .gz each record is a member of its own, as the standard asks for."""
    packed = path.suffix == ".gz"
    path.write_bytes(b"".join(gzip.compress(record) if packed else record for record in records))
    return path
