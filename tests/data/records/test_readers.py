"""Readers against bad files and bad rows; writers against what the readers take back."""

import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merchantguard.core.errors import RecordError, StorageError
from merchantguard.core.files import sha256_file
from merchantguard.data.records import rows as rows_module
from merchantguard.data.records.readers import (
    RowFault,
    iter_records,
    iter_stream,
    read_records,
    write_records,
)
from merchantguard.data.records.record import record_from
from merchantguard.data.shipped import corpus_paths
from merchantguard.data.taxonomy import load_taxonomy

SUFFIXES = ("jsonl", "ndjson", "jsonl.gz", "csv", "csv.gz", "parquet")


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def line(record_id: str, text: str = "tea", **fields: object) -> bytes:
    return json.dumps({"id": record_id, "text": text, **fields}).encode() + b"\n"


def reasons(path: Path) -> dict[int, str]:
    return {fault.row: fault.reason for fault in read_records([path], None).faults}


def test_shipped_corpus_has_no_fault():
    result = read_records(corpus_paths(), load_taxonomy(), strict=True)
    assert len(result.records) == 1302
    assert sum(bool(record.labels) for record in result.records) == 760
    assert all(set(record.evidence) == set(record.labels) for record in result.records)
    assert result.files == {str(path): sha256_file(path) for path in corpus_paths()}


def test_bad_lines_are_named_counted_and_set_aside(tmp_path):
    bad = {
        2: (b"{not json\n", "not valid JSON"),
        3: (b"[1, 2]\n", "[1, 2] is not a JSON object"),
        4: (b'{"id": "x", "id": "y", "text": "t"}\n', "the key 'id' is given twice"),
        5: (b"\xef\xbb\xbf" + line("bom"), "byte-order mark"),
        6: (b'{"id": "n", "text": "a\0b"}\n', "NUL byte"),
        7: (b'{"id": "u", "text": "\xff\xfe"}\n', "not valid UTF-8 at byte 22"),
        8: (line("one"), "id: 'one' was already the id of an earlier row"),
        9: (b'{"text": "t"}\n', "`id` is missing"),
        10: (b'{"id": "t"}\n', "one of `text`, `html` or `pages`"),
        11: (b'{"id": "v", "text": "t", "score": NaN}\n', "NaN is not JSON"),
        12: (b'{"id": "d", "text": ' + b"[" * 100_000 + b"\n", "not valid JSON: nested too deeply"),
        13: (b'{"id": "i", "text": "t", "n": ' + b"9" * 5000 + b"}\n", "not valid JSON"),
    }
    content = line("one") + b"".join(raw for raw, _ in bad.values()) + b"\n" + line("last").strip()
    path = write(tmp_path / "a.jsonl", content)
    rejects = tmp_path / "out" / "rejects.jsonl"
    result = read_records([path], None, rejects=rejects)
    assert [record.id for record in result.records] == ["one", "last"]
    assert [fault.row for fault in result.faults] == list(bad)
    for fault, (_, reason) in zip(result.faults, bad.values(), strict=True):
        assert reason in fault.reason
    kept = [json.loads(text) for text in rejects.read_text().splitlines()]
    assert [RowFault(row["file"], row["row"], row["reason"]) for row in kept] == result.faults
    assert kept[0]["raw"] == "{not json\n"
    assert max(len(row["raw"]) for row in kept) == 2000


def test_strict_stops_at_the_first_bad_row_and_writes_nothing(tmp_path):
    path = write(tmp_path / "a.jsonl", line("one") + b"{}\n" + line("three"))
    with pytest.raises(RecordError, match=r"a\.jsonl, row 2: the field `id` is missing"):
        read_records([path], None, strict=True, rejects=tmp_path / "rejects.jsonl")
    assert list(tmp_path.iterdir()) == [path]


def test_ids_are_unique_across_files(tmp_path):
    first, second = write(tmp_path / "a.jsonl", line("x")), write(tmp_path / "b.jsonl", line("x") + line("y"))
    result = read_records([first, second], None)
    assert [record.id for record in result.records] == ["x", "y"]
    assert [(fault.file, fault.row) for fault in result.faults] == [(str(second), 1)]


def test_a_byte_order_mark_at_the_start_is_no_fault(tmp_path):
    assert not reasons(write(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + line("x")))
    assert not reasons(write(tmp_path / "a.csv", b"\xef\xbb\xbfid,text\r\nx,tea\r\n"))


def test_over_long_lines_are_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "MAX_LINE_BYTES", 1 << 16)
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(line("x"))
        for _ in range(400):
            stream.write(b"y" * 100_000)
        stream.write(b"\n" + line("z"))
    tracemalloc.start()
    result = read_records([path], None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [record.id for record in result.records] == ["x", "z"]
    assert [(fault.row, fault.reason) for fault in result.faults] == [
        (2, "the line is longer than 65,536 bytes")
    ]
    assert peak < 4e6


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_and_empty_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with pytest.raises(RecordError, match="cannot be read"):
        read_records([path], None)
    write(path, b"")
    with pytest.raises(RecordError, match="is empty"):
        read_records([path], None)
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordError, match="is a folder"):
        read_records([path], None)


@pytest.mark.parametrize("suffix", ["jsonl.gz", "csv.gz", "parquet"])
def test_truncated_files(tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    write_records(({"id": str(n), "text": f"tea number {n}" * (n % 7 + 1)} for n in range(500)), whole)
    content = whole.read_bytes()
    for share in (0.01, 0.5, 0.99):
        path = write(tmp_path / f"cut.{suffix}", content[: int(len(content) * share)])
        rejects = tmp_path / "rejects.jsonl"
        with pytest.raises(RecordError, match=r"cut\..*damaged or truncated.*write it again"):
            read_records([path], None, rejects=rejects)
        assert not rejects.exists()


@pytest.mark.parametrize("suffix", ["jsonl.gz", "csv.gz", "parquet"])
def test_files_that_are_something_else(tmp_path, suffix):
    path = write(tmp_path / f"a.{suffix}", b"this is plain text, whatever it is called\n" * 5)
    with pytest.raises(RecordError, match="damaged or truncated"):
        read_records([path], None)


def test_parquet_with_a_damaged_page(tmp_path):
    path = tmp_path / "a.parquet"
    write_records(({"id": str(n), "text": f"tea {n}" * 50} for n in range(2000)), path)
    content = bytearray(path.read_bytes())
    content[2000:4000] = b"\xff" * 2000
    with pytest.raises(RecordError, match="damaged or truncated"):
        read_records([write(path, bytes(content))], None)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"x", "unknown kind of file"),
        ("a.json", b"{}", "unknown kind of file"),
        ("a.jsonl", "\n\n \n", "holds no rows"),
        ("a.jsonl", "{}\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("a.csv", "id,text\r\n", "holds no rows"),
        ("a.csv", "id,body\r\n1,x\r\n", "has none of the columns text, html, pages; it has 'id, body'"),
        ("a.csv", "key,text\r\n1,x\r\n", "has no column id"),
        ("a.csv", "id;text\r\n1;x\r\n", "is it comma-separated?"),
        ("a.csv", "id,text,text\r\n1,x,y\r\n", "a column name is given twice"),
    ],
)
def test_unusable_files(tmp_path, name, content, expected):
    with pytest.raises(RecordError) as caught:
        read_records([write(tmp_path / name, content)], None)
    assert expected in str(caught.value)
    assert name in str(caught.value)


def test_parquet_columns_and_cells(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["x"], "body": ["y"]}), path)
    with pytest.raises(RecordError, match="has none of the columns text, html, pages"):
        read_records([path], None)
    broken = pa.array([b"fine", b"\xff\xfe", b"well"]).view(pa.string())
    pq.write_table(pa.table({"id": ["x", "y", "z"], "text": broken}), path)
    assert list(reasons(path)) == [2]
    assert "cannot be read" in reasons(path)[2]


def test_parquet_with_native_lists_maps_and_structs(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "id": pa.array([1, 2]),
            "pages": [
                [{"url": "/", "text": "fine tea", "html": None}],
                [{"url": None, "text": "salt", "html": None}],
            ],
            "labels": pa.array([["tea"], None], type=pa.list_(pa.string())),
            "evidence": pa.array(
                [[("tea", ["fine"])], None], type=pa.map_(pa.string(), pa.list_(pa.string()))
            ),
            "collected_at": pa.array([0, None], type=pa.timestamp("s")),
        }
    )
    pq.write_table(table, path)
    first, second = read_records([path], None, strict=True).records
    assert (first.id, first.text, first.labels, first.evidence) == (
        "1",
        "fine tea",
        ("tea",),
        {"tea": ("fine",)},
    )
    assert first.collected_at == "1970-01-01T00:00:00"
    assert second.unknown == ("*",)


def test_bad_csv_rows(tmp_path):
    content = (
        b'id,text,labels\r\na,"tea, fine\nand good",\r\nb,tea\r\nc,tea,,\r\n\r\n'
        b'd,"te"a,\r\ne,\xff,\r\nf,a\0b,\r\ng,,\r\nh,tea,x;y\r\n'
    )
    path = write(tmp_path / "a.csv", content)
    result = read_records([path], None)
    assert [(record.id, record.text, record.labels) for record in result.records] == [
        ("a", "tea, fine\nand good", ()),
        ("h", "tea", ("x", "y")),
    ]
    found = reasons(path)
    assert list(found) == [3, 4, 6, 7, 8, 9]
    for row, reason in {3: "2 cells", 4: "4 cells", 6: "not valid CSV", 7: "UTF-8", 8: "NUL"}.items():
        assert reason in found[row]


def test_an_open_quote_in_csv_cannot_exhaust_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "MAX_LINE_BYTES", 5000)
    rows = "".join(f"{n},tea\r\n" for n in range(2000))
    path = write(tmp_path / "a.csv", f'id,text\r\nx,"never closed\r\n{rows}')
    result = read_records([path], None)
    assert result.faults[0].row == 3 - 1
    assert "longer than 5,000 bytes" in result.faults[0].reason
    assert result.records[-1].id == "1999"


def test_long_csv_cell(tmp_path):
    text = "tea " * 100_000
    path = write(tmp_path / "a.csv", f"id,text\r\nx,{text}\r\ny,tea\r\n")
    before = csv.field_size_limit()
    assert read_records([path], None, strict=True).records[0].text == text
    first, second = (iter_records([path], None, on_fault=lambda *_: None) for _ in range(2))
    # Two readers take turns; neither is finished.
    assert [next(first).text, next(second).text, next(second).id] == [text, text, "y"]
    assert csv.field_size_limit() == before


def test_same_file_twice_and_no_file(tmp_path):
    path = write(tmp_path / "a.jsonl", line("x"))
    with pytest.raises(RecordError, match="is given twice"):
        read_records([path, tmp_path / "." / "a.jsonl"], None)
    with pytest.raises(RecordError, match="no data file"):
        read_records([], None)


def test_iter_records_is_lazy_and_checks_all_paths_first(tmp_path):
    path = write(tmp_path / "a.jsonl", line("x") + b"bad\n" + line("y"))
    seen: list[tuple[RowFault, str]] = []
    records = iter_records([path], None, on_fault=lambda fault, raw: seen.append((fault, raw)))
    assert next(records).id == "x"
    assert not seen
    assert [record.id for record in records] == ["y"]
    assert [(fault.row, raw) for fault, raw in seen] == [(2, "bad\n")]
    with pytest.raises(RecordError, match="cannot be read"):
        iter_records([path, tmp_path / "none.jsonl"], None, on_fault=lambda fault, raw: None)


def test_stream_of_lines(tmp_path):
    path = write(tmp_path / "a.jsonl", line("x") + line("x"))
    faults: list[RowFault] = []
    with open(path, "rb") as stream:
        records = list(iter_stream(stream, None, on_fault=lambda fault, raw: faults.append(fault)))
    assert [record.id for record in records] == ["x"]
    assert [(fault.file, fault.row) for fault in faults] == [("<stdin>", 2)]


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30).filter(
    lambda text: text.strip()
) | st.sampled_from(
    ["=1+1", "'=x", "''-x", "'tis", "\ttea", "\rtea", "a\r\nb", 'say "x", y', "[1", "'", "+", "-3", "@a"]
)
IDS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    texts=st.dictionaries(IDS, TEXTS, min_size=1, max_size=4),
    labels=st.none() | st.lists(IDS.filter(lambda name: name != "*"), unique=True, max_size=2),
    suffix=st.sampled_from(SUFFIXES),
)
def test_what_is_written_reads_back(tmp_path, texts, labels, suffix):
    records = []
    for number, (record_id, text) in enumerate(texts.items()):
        some = labels if number else None  # unlabelled rows beside labelled ones
        row = {
            "id": record_id,
            "text": text,
            "name": text,
            "labels": some,
            "note": text,
            "domain": "a.example",
        }
        if some:
            row["evidence"] = {policy: [text] for policy in some}
        records.append(record_from(row, None))
    path = tmp_path / f"a.{suffix}"
    assert write_records(records, path) == len(records)
    assert read_records([path], None, strict=True).records == records


def test_csv_cells_that_a_spreadsheet_would_run_are_defused(tmp_path):
    path = tmp_path / "a.csv"
    texts = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "plain"]
    write_records([{"id": str(n), "text": text, "score": -0.5} for n, text in enumerate(texts)], path)
    with open(path, encoding="utf-8", newline="") as stream:
        cells = [row["text"] for row in csv.DictReader(stream)]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    records = read_records([path], None, strict=True).records
    assert [record.text for record in records] == texts
    assert records[0].extra == {"score": "-0.5"}


def test_csv_row_without_labels_does_not_become_compliant(tmp_path):
    path = tmp_path / "a.csv"
    write_records([{"id": "a", "text": "x", "labels": []}, {"id": "b", "text": "y"}], path)
    first, second = read_records([path], None, strict=True).records
    assert (first.unknown, second.unknown) == ((), ("*",))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_format_cannot_hold_does_not_stop_its_writer(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    row = {"id": "a", "text": "x\ud800y\0z", "labels": ["tea"], "evidence": {"tea": ["\ud800y\0z"]}}
    write_records([row], path)
    (record,) = read_records([path], None, strict=True).records
    expected = {"csv": "x?y?z", "parquet": "x?y\0z"}.get(suffix.removesuffix(".gz"), "x\ud800y\0z")
    assert record.text == expected
    assert record.evidence == {"tea": (expected[1:],)}


def test_writing_is_atomic_and_repeatable(tmp_path):
    def failing():
        yield {"id": "a", "text": "x"}
        raise RuntimeError("stop")

    path = write(tmp_path / "a.jsonl.gz", b"before")
    with pytest.raises(RuntimeError, match="stop"):
        write_records(failing(), path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    contents = []
    for name in ("b.jsonl.gz", "c.jsonl.gz"):
        write_records([{"id": "a", "text": "x"}], tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]


def test_writer_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(RecordError, match="unknown kind of file"):
        write_records([], tmp_path / "a.xlsx")
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        write_records([], tmp_path / "a.jsonl")


def test_reading_holds_little_memory(tmp_path):
    for suffix in ("jsonl", "csv", "parquet"):
        path = tmp_path / f"a.{suffix}"
        write_records(({"id": str(n), "text": f"tea {n} " * 250} for n in range(4000)), path)
        tracemalloc.start()
        count = sum(1 for _ in iter_records([path], None, on_fault=lambda fault, raw: None))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 4000
        assert peak < 3e6, suffix  # the texts are 8 MB
