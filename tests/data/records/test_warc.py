import gzip
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merchantguard.core.errors import RecordError
from merchantguard.data.records import warc
from merchantguard.data.records.readers import RowFault, iter_records
from merchantguard.data.records.record import record_to_row
from merchantguard.data.records.warc import Outcomes, iter_captures

# Tests are imported one by one, without their folders.
_spec = importlib.util.spec_from_file_location("warc_files", Path(__file__).with_name("warc_files.py"))
assert _spec is not None
assert _spec.loader is not None
_files = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_files)
capture, write_warc = _files.capture, _files.write_warc


def read(*paths: Path) -> tuple[list[Any], Outcomes, list[RowFault]]:
    outcomes, faults = Outcomes(), list[RowFault]()
    records = list(
        iter_records(list(paths), None, on_fault=lambda fault, raw: faults.append(fault), outcomes=outcomes)
    )
    return records, outcomes, faults


@pytest.mark.parametrize("name", ["crawl.warc", "crawl.warc.gz"])
def test_a_registered_domain_is_a_record_of_its_newest_pages(tmp_path: Path, name: str) -> None:
    path = write_warc(
        tmp_path / name,
        [
            capture("https://shop.example.co.uk/tea/green", b"<p>Green tea</p>", number=1),
            capture("https://www.example.co.uk/", b"<p>Old home</p>", number=2),
            capture("https://other.myshopify.com/", b"<p>Other</p>", number=3),
            capture(
                "http://www.example.co.uk/#top", b"<p>New home</p>", date="2026-11-03T00:00:00Z", number=4
            ),
            capture(
                "https://www.example.co.uk/", b"<p>Older home</p>", date="2026-10-01T00:00:00Z", number=5
            ),
        ],
    )
    records, outcomes, faults = read(path)
    assert [record.id for record in records] == ["example.co.uk", "other.myshopify.com"]
    first = records[0]
    assert first.text == "New home\nGreen tea"
    assert first.domain == "example.co.uk"
    assert first.collected_at == "2026-11-03T00:00:00+00:00"
    home = first.parts[0]
    assert (home.url, home.collected_at) == ("http://www.example.co.uk/#top", "2026-11-03T00:00:00+00:00")
    assert home.warc_record_id == f"<urn:uuid:{4:032x}>"
    assert outcomes == {warc.PAGE: 5, warc.OLDER: 2}
    assert not faults
    assert record_to_row(first)["pages"][0]["warc_record_id"] == home.warc_record_id


def test_every_outcome_is_counted(tmp_path: Path) -> None:
    records = [
        capture("http://a.com/", b"<p>page</p>"),
        capture("http://a.com/r", b"", status="301 Moved", http="Location: /\r\n"),
        capture("http://a.com/missing", b"<p>not here</p>", status="404 Not Found"),
        capture("http://a.com/i.png", b"\x89PNG", content_type="image/png"),
        capture("http://a.com/empty", b"<script>x</script>"),
        capture("http://a.com/", b"", kind="revisit"),
        capture("http://a.com/", b"x", kind="request"),
        capture("dns:a.com", b"1.2.3.4", kind="resource", content_type="text/dns"),
        capture("http://a.com/bin", b"\0\1\2\0", content_type=None),
        capture("http://a.com/wet", b"wet text", kind="conversion", content_type="text/plain"),
        capture("http://a.com/cut", b"<p>cut</p>", warc="WARC-Truncated: length\r\n"),
        capture("http://a.com/last", b"<p>whole text</p>")[:-12],
    ]
    _, outcomes, faults = read(write_warc(tmp_path / "a.warc", records))
    assert outcomes == {
        warc.PAGE: 2,
        warc.REDIRECT: 1,
        warc.HTTP_ERROR: 1,
        warc.OTHER_TYPE: 1,
        warc.EMPTY: 1,
        warc.REVISIT: 1,
        warc.OTHER_RECORD: 1,
        warc.NO_HOST: 1,
        warc.UNREADABLE: 1,
        warc.CUT: 1,
        warc.TRUNCATED: 1,
    }
    assert outcomes.total() == len(records)
    assert [(fault.row, fault.reason) for fault in faults] == [(9, warc.UNREADABLE), (12, warc.TRUNCATED)]


def test_encodings_by_header_declaration_and_content(tmp_path: Path) -> None:
    import brotli

    russian = "Чай и кофе с доставкой по городу"
    pages = [
        capture("http://a.com/", russian.encode("cp1251"), content_type="text/html; charset=windows-1251"),
        capture("http://b.com/", f"<meta charset=koi8-r><p>{russian}".encode("koi8-r")),
        capture("http://c.com/", russian.encode(), content_type="text/plain"),
        capture("http://d.com/", gzip.compress(russian.encode()), http="Content-Encoding: gzip\r\n"),
        capture("http://e.com/", brotli.compress(russian.encode()), http="Content-Encoding: br\r\n"),
        # Unpacked by the crawler, which kept the header.
        capture("http://f.com/", russian.encode(), http="Content-Encoding: gzip\r\n"),
        capture("http://g.com/", b"5\r\nhello\r\n0\r\n\r\n", http="Transfer-Encoding: chunked\r\n"),
    ]
    records, _, faults = read(write_warc(tmp_path / "a.warc.gz", pages))
    assert [record.text for record in records] == [russian] * 6 + ["hello"]
    assert not faults


def test_a_large_record_is_cut_and_the_next_one_read(tmp_path: Path) -> None:
    big = b"<p>begin</p>" + b"<p>tea</p>" * (warc.MOST_BYTES // 9)
    bomb = gzip.compress(b"<p>begin</p>" + b" " * (40 * 2**20) + b"<p>never read</p>")
    path = write_warc(
        tmp_path / "a.warc.gz",
        [
            capture("http://a.com/", big),
            capture("http://b.com/", bomb, http="Content-Encoding: gzip\r\n"),
            capture("http://c.com/", b"<p>next</p>"),
        ],
    )
    records, outcomes, _ = read(path)
    assert [record.text[:5] for record in records] == ["begin", "begin", "next"]
    assert "never" not in records[1].text
    assert outcomes[warc.CUT] >= 1
    assert outcomes.total() == 3


def test_what_follows_damage_is_reported_as_unread(tmp_path: Path) -> None:
    page = capture("http://a.com/", b"<p>page</p>")
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(page) + b"\0damage" + gzip.compress(page))
    records, outcomes, faults = read(path)
    assert len(records) == 1
    assert outcomes == {warc.PAGE: 1, warc.TRUNCATED: 1}
    assert "the rest of the file is not read" in faults[0].reason
    path.write_bytes(b"hello")
    with pytest.raises(RecordError, match=r"no page is in there"):
        read(path)


def test_a_list_of_files_and_what_it_may_not_name(tmp_path: Path) -> None:
    for name in "ab":
        write_warc(tmp_path / f"{name}.warc", [capture(f"http://x.com/{name}", f"page {name}".encode())])
    listed = tmp_path / "warc.paths"
    listed.write_text("a.warc\n\nb.warc\n")
    [record], _, _ = read(listed)
    assert record.text == "page a\npage b"
    listed.write_text("https://data.example.com/a.warc.gz\n")
    with pytest.raises(RecordError, match="must be downloaded first"):
        read(listed)
    listed.write_text("missing.warc\n")
    with pytest.raises(RecordError, match=r"missing\.warc: no such file"):
        read(listed)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damage_anywhere_ends_in_a_count_and_no_crash(data: st.DataObject, tmp_path_factory: Any) -> None:
    pages = [capture(f"http://a.com/{n}", b"<p>page</p>") for n in range(3)]
    content = bytearray(b"".join(gzip.compress(page) for page in pages))
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    path = tmp_path_factory.mktemp("warc") / "a.warc.gz"
    path.write_bytes(bytes(content))
    outcomes, damage = Outcomes(), list[str]()
    captures = list(iter_captures(path, outcomes, lambda file, number, reason: damage.append(reason)))
    assert len(captures) <= 3
    assert outcomes.total() >= len(captures)
