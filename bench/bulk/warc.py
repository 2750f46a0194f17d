"""What becomes of every record of a generated crawl, and how fast it is read.

    python -m bulk.warc --captures 2000

Redirects, errors, images, packed and chunked bodies, six charsets, duplicates of one address, revisits, a record of 50 MB and
one that is cut off; each kind's number is known, so the outcomes can be compared with it.
"""

import argparse
import gzip
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from guard import guarded

from merchantguard.data.records import warc
from merchantguard.data.records.warc import Outcomes
from merchantguard.data.records.warc_sites import site_rows

_TEXT = "Чай, кофе и посуда с доставкой по городу. "
_CHARSETS = ("utf-8", "windows-1251", "koi8-r", "iso-8859-5", "utf-16", "cp866")


def record(
    url: str, body: bytes, *, status: str = "200 OK", kind: str = "response", lines: str = "", number: int = 0
) -> bytes:
    """One WARC record."""
    block = f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body
    day = 1 + number % 28
    header = (
        f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number:032x}>\r\nWARC-Date: 2026-11-{day:02}T00:00:00Z\r\n"
        f"WARC-Target-URI: {url}\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return header.encode() + block + b"\r\n\r\n"


def crawl(count: int, seed: int) -> tuple[list[bytes], Counter[str]]:
    """Records, and how many must end in each outcome."""
    draw = random.Random(seed)
    records: list[bytes] = []
    expected: Counter[str] = Counter()
    html = "Content-Type: text/html\r\n"
    for number in range(count - 2):
        url = f"https://www.shop{number % 97}.com/{number}"
        page = f"<html><title>Shop</title><p>{_TEXT * draw.randint(1, 40)}</p></html>"
        kind = draw.random()
        if kind < 0.1:
            records.append(record(url, b"", status="301 Moved", lines="Location: /\r\n", number=number))
            expected[warc.REDIRECT] += 1
        elif kind < 0.15:
            records.append(record(url, page.encode(), status="404 Not Found", lines=html, number=number))
            expected[warc.HTTP_ERROR] += 1
        elif kind < 0.2:
            records.append(record(url, b"\x89PNG", lines="Content-Type: image/png\r\n", number=number))
            expected[warc.OTHER_TYPE] += 1
        elif kind < 0.23:
            records.append(record(url, b"", kind="revisit", number=number))
            expected[warc.REVISIT] += 1
        else:
            url = f"{url}?same" if kind < 0.9 else f"https://www.shop{number % 97}.com/same"
            records.append(_page(draw, url, page, number))
            expected[warc.PAGE] += 1
    big = b"<p>big</p>" + b"<p>tea and coffee</p>" * (50 * 2**20 // 21)
    records.append(record("https://www.shop1.com/big", big, lines=html, number=count - 2))
    expected[warc.CUT] += 1
    records.append(
        record("https://www.shop2.com/last", b"<p>The end is near</p>", lines=html, number=count - 1)[:-15]
    )
    expected[warc.TRUNCATED] += 1
    return records, expected


def _page(draw: random.Random, url: str, page: str, number: int) -> bytes:
    charset = draw.choice(_CHARSETS)
    body, lines = page.encode(charset), f"Content-Type: text/html; charset={charset}\r\n"
    packing = draw.random()
    if packing < 0.2:
        return record(url, gzip.compress(body), lines=f"{lines}Content-Encoding: gzip\r\n", number=number)
    if packing < 0.3:
        chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        return record(url, chunked, lines=f"{lines}Transfer-Encoding: chunked\r\n", number=number)
    return record(url, body, lines=lines, number=number)


def main() -> int:
    """Write the crawl, read it, print the outcomes; 1 if one is not as expected."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captures", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    records, expected = crawl(args.captures, args.seed)
    outcomes, damage = Outcomes(), list[str]()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "crawl.warc.gz"
        path.write_bytes(b"".join(gzip.compress(each, 1) for each in records))
        began = time.perf_counter()
        rows = list(
            site_rows([path], outcomes, lambda file, number, reason: damage.append(f"{number}: {reason}"))
        )
        seconds = time.perf_counter() - began
        size = path.stat().st_size
    older = outcomes.pop(warc.OLDER, 0)
    bad = sum(_TEXT.split(",")[0] not in page["text"] for row in rows for page in row["pages"]) - 2
    print("| outcome | expected | found |\n|---|---|---|")
    for outcome in sorted(set(expected) | set(outcomes)):
        print(f"| {outcome} | {expected[outcome]:,} | {outcomes[outcome]:,} |")
    print(f"| all | {expected.total():,} | {outcomes.total():,} |")
    pages = sum(len(row["pages"]) for row in rows)
    print(
        f"\n{len(rows)} sites of {pages:,} pages, {older:,} older captures left out, {bad} pages read in a wrong charset; ",
        end="",
    )
    print(
        f"{seconds:.1f} s, {len(records) / seconds:,.0f} records/s, {size / seconds / 1e6:.1f} MB/s packed; damage: {damage}"
    )
    return 0 if Counter(outcomes) == expected and not bad else 1


if __name__ == "__main__":
    sys.exit(guarded(main))
