import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merchantguard.core.errors import BundleError, RecordError, StorageError
from merchantguard.serve.cli import score as cli


def score(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.main(parser.parse_args([*map(str, arguments), "--threads", "1"]))


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def read_jsonl(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


RECORDS: list[Any] = [
    {"id": "a", "text": "We sell crimson goods. Call us."},
    {"id": "b", "text": "Call us."},
    {
        "id": "c",
        "name": "Walrus shop",
        "pages": [{"url": "https://c.example/1", "text": "The teapot is here."}],
    },
]


def test_jsonl_to_standard_output(bundle_path: Path, tmp_path: Path, capfdbinary: Any) -> None:
    assert score(bundle_path, write_jsonl(tmp_path / "in.jsonl", RECORDS)) == 0
    output, errors = capfdbinary.readouterr()
    rows = read_jsonl(output.decode())
    assert [(row["id"], row["decision"]) for row in rows] == [("a", "block"), ("b", "clear"), ("c", "block")]
    [finding] = rows[0]["findings"]
    assert finding["policy"] == "alpha"
    assert finding["title"] == "Policy alpha"
    span = finding["spans"][0]
    assert (span["start"], span["end"], span["text"]) == (0, 22, "We sell crimson goods.")
    assert set(rows[0]["probabilities"]) == {"alpha", "beta", "gamma"}
    parts = {finding["policy"]: finding["spans"][0] for finding in rows[2]["findings"]}
    assert parts["beta"]["part"] == "name"
    assert (parts["gamma"]["part"], parts["gamma"]["url"]) == ("pages[0]", "https://c.example/1")
    assert b"scored 3 (plain): 2 block, 0 review, 1 clear" in errors


def test_parquet_holds_the_same(bundle_path: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "in.jsonl", [*RECORDS, {"id": "d", "text": "crimson \ud83d half"}])
    assert score(bundle_path, data, "--out", tmp_path / "out.jsonl") == 0
    assert score(bundle_path, data, "--out", tmp_path / "out.parquet") == 0
    rows = read_jsonl((tmp_path / "out.jsonl").read_text())
    for row, other in zip(pq.read_table(tmp_path / "out.parquet").to_pylist(), rows, strict=True):
        assert (row["id"], row["decision"], row["windows"]) == (
            other["id"],
            other["decision"],
            other["windows"],
        )
        assert dict(row["probabilities"]) == pytest.approx(other["probabilities"])
        assert [f["policy"] for f in row["findings"]] == [f["policy"] for f in other["findings"]]


def test_pages_are_one_record_each(bundle_path: Path, tmp_path: Path, capfdbinary: Any) -> None:
    (tmp_path / "shop.html").write_text("<p>We sell <b>crimson</b> goods</p><script>walrus</script>")
    (tmp_path / "note.TXT").write_bytes("A walrus – caf\xe9".encode("cp1252"))
    data = write_jsonl(tmp_path / "in.jsonl", RECORDS[:1])
    assert score(bundle_path, tmp_path / "shop.html", data, tmp_path / "note.TXT") == 0
    rows = read_jsonl(capfdbinary.readouterr()[0].decode())
    assert [row["id"] for row in rows] == ["shop.html", "a", "note.TXT"]
    assert [[f["policy"] for f in row["findings"]] for row in rows] == [["alpha"], ["alpha"], ["beta"]]
    assert "café" in rows[2]["findings"][0]["spans"][0]["text"]


def test_pages_of_one_name_keep_their_paths(bundle_path: Path, tmp_path: Path, capfdbinary: Any) -> None:
    paths = [tmp_path / folder / "index.html" for folder in "xy"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("<p>teapot</p>")
    assert score(bundle_path, *paths) == 0
    assert [row["id"] for row in read_jsonl(capfdbinary.readouterr()[0].decode())] == [str(p) for p in paths]


@pytest.mark.parametrize(
    ("content", "kind", "ids"),
    [
        (b'{"id": "x", "text": "crimson"}\n{"id": "y", "text": "b"}\n', "jsonl", ["x", "y"]),
        (b"<p>crimson</p>", "html", ["stdin"]),
        (b"crimson", "text", ["stdin"]),
    ],
)
def test_standard_input(
    bundle_path: Path, monkeypatch: Any, capfdbinary: Any, content: bytes, kind: str, ids: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert score(bundle_path, "-", "--format", kind) == 0
    rows = read_jsonl(capfdbinary.readouterr()[0].decode())
    assert [row["id"] for row in rows] == ids
    assert rows[0]["findings"][0]["policy"] == "alpha"


BAD: list[Any] = [RECORDS[0], "{not json", {"id": "q"}, RECORDS[0], RECORDS[1]]


def test_bad_rows_are_kept_aside_counted_and_shown_by_the_exit_status(
    bundle_path: Path, tmp_path: Path, capfdbinary: Any
) -> None:
    data = write_jsonl(tmp_path / "in.jsonl", BAD)
    assert score(bundle_path, data, "--rejects", tmp_path / "bad.jsonl") == cli.REJECTED
    output, errors = capfdbinary.readouterr()
    assert [row["id"] for row in read_jsonl(output.decode())] == ["a", "a", "b"]
    assert b"rejected 2 bad rows" in errors
    assert [row["row"] for row in read_jsonl((tmp_path / "bad.jsonl").read_text())] == [2, 3]


def test_without_a_rejects_file_bad_rows_are_reported(
    bundle_path: Path, tmp_path: Path, capfdbinary: Any
) -> None:
    assert score(bundle_path, write_jsonl(tmp_path / "in.jsonl", BAD)) == cli.REJECTED
    assert b"in.jsonl, row 2: " in capfdbinary.readouterr()[1]


def test_strict_stops_and_leaves_no_file(bundle_path: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "in.jsonl", BAD)
    with pytest.raises(RecordError, match=r"in\.jsonl, row 2"):
        score(bundle_path, data, "--strict", "--out", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_damaged_file_leaves_the_old_results(bundle_path: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1 cut short")
    out = tmp_path / f"out{suffix}"
    out.write_text("old")
    with pytest.raises(RecordError, match=r"in\.parquet"):
        score(bundle_path, tmp_path / "in.parquet", "--out", out)
    assert out.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_work_is_named(bundle_path: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "in.jsonl", RECORDS)
    with pytest.raises(RecordError, match=r"missing\.html: no such file"):
        score(bundle_path, tmp_path / "missing.html")
    with pytest.raises(StorageError, match=r"out\.xlsx: results are written as"):
        score(bundle_path, data, "--out", tmp_path / "out.xlsx")
    broken = Path(shutil.copytree(bundle_path, tmp_path / "broken"))
    (broken / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        score(broken, data)


def test_a_closed_pipe_is_no_traceback(bundle_path: Path, tmp_path: Path) -> None:
    rows = [{"id": str(number), "text": "crimson " * 50} for number in range(600)]
    data = write_jsonl(tmp_path / "in.jsonl", rows)
    program = (
        "import argparse, sys; from merchantguard.serve.cli import score as cli; p = argparse.ArgumentParser(); "
        "cli.add_arguments(p); sys.exit(cli.main(p.parse_args()))"
    )
    command = [sys.executable, "-c", program, str(bundle_path), str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_pages_are_read_as_they_declare_and_doubt_is_said(
    bundle_path: Path, tmp_path: Path, capfdbinary: Any
) -> None:
    words = "Одноразовые вейпы и сигареты, доставка crimson"
    (tmp_path / "a.html").write_bytes(f"<meta charset=windows-1251><p>{words}</p>".encode("cp1251"))
    (tmp_path / "b.html").write_bytes(f"<meta charset=utf-8><p>{words}</p>".encode() + b"caf\xe9")
    (tmp_path / "c.txt").write_bytes(words.encode("koi8-r"))
    (tmp_path / "d.html").write_bytes(f"<p>{words}</p>".encode("utf-16"))
    assert score(bundle_path, *(tmp_path / name for name in ("a.html", "b.html", "c.txt", "d.html"))) == 0
    out, err = capfdbinary.readouterr()
    for row in read_jsonl(out.decode()):
        assert "доставка" in row["findings"][0]["spans"][0]["text"]
    assert "b.html: 1 characters are not valid utf-8" in err.decode()
    assert "c.txt: no encoding is stated and it is not UTF-8; read as koi8_r" in err.decode()
    assert "a.html" not in err.decode()
    assert "d.html" not in err.decode()


def test_the_certificate_of_a_block_is_written(bundle_path: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "in.jsonl", [{"id": "a", "text": "crimson walrus"}])
    score(bundle_path, data, "--out", tmp_path / "out.jsonl")
    [row] = read_jsonl((tmp_path / "out.jsonl").read_text())
    found = {finding["policy"]: (finding["decision"], finding["certificate"]) for finding in row["findings"]}
    assert found == {"alpha": ("block", "policy"), "beta": ("review", None)}


def test_other_columns_are_carried_and_ids_may_repeat(bundle_path: Path, tmp_path: Path) -> None:
    rows = [
        {
            "id": "a",
            "text": "crimson",
            "url": "https://a.example",
            "country": "DE",
            "decision": "theirs",
            "n": 1,
        },
        {"id": "a", "text": "nothing", "domain": "a.example", "tags": ["x", "y"]},
    ]
    data = write_jsonl(tmp_path / "in.jsonl", rows)
    for name in ("out.jsonl", "out.parquet"):
        assert score(bundle_path, data, "--out", tmp_path / name) == 0
    first, second = read_jsonl((tmp_path / "out.jsonl").read_text())
    assert (first["url"], first["country"], first["input_decision"], first["n"]) == (
        "https://a.example",
        "DE",
        "theirs",
        1,
    )
    assert first["decision"] == "block"
    assert (second["id"], second["domain"], second["tags"]) == ("a", "a.example", ["x", "y"])
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (table[0]["country"], table[0]["n"], table[1]["tags"]) == ("DE", "1", '["x", "y"]')
    score(bundle_path, data, "--out", tmp_path / "out.jsonl", "--carry", "country")
    assert "url" not in read_jsonl((tmp_path / "out.jsonl").read_text())[0]


def test_carried_values_of_any_kind_are_written(bundle_path: Path, tmp_path: Path) -> None:
    day = datetime(2026, 11, 1, tzinfo=UTC)
    columns = {"id": ["a"], "text": ["crimson"], "risk": [float("nan")], "day": [day], "raw": [b"\xff"]}
    pq.write_table(pa.table({**columns, "nested": [[{"x": float("inf")}]]}), tmp_path / "in.parquet")
    for name in ("out.jsonl", "out.parquet", "out.csv"):
        assert score(bundle_path, tmp_path / "in.parquet", "--out", tmp_path / name) == 0
    [row] = read_jsonl((tmp_path / "out.jsonl").read_text())
    assert (row["risk"], row["raw"], row["nested"]) == (None, "\\xff", [{"x": None}])
    assert row["day"] == "2026-11-01T00:00:00+00:00"


def test_flat_tables_have_one_row_a_finding(bundle_path: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "in.jsonl", [{"id": "a", "text": "crimson teapot"}, *RECORDS[1:2]])
    score(bundle_path, data, "--out", tmp_path / "out.parquet", "--flat")
    score(bundle_path, data, "--out", tmp_path / "out.csv")
    rows = pq.read_table(tmp_path / "out.flat.parquet").to_pylist()
    assert sorted((row["id"], row["finding_policy"] or "-") for row in rows) == [
        ("a", "alpha"),
        ("a", "gamma"),
        ("b", "-"),
    ]
    assert rows[0]["p_alpha"] > 0.9 > rows[0]["p_beta"]
    assert rows[0]["evidence_text"] == "crimson teapot"
    assert not any(isinstance(value, list | dict) for row in rows for value in row.values())
    with open(tmp_path / "out.csv", newline="") as stream:
        cells = list(csv.DictReader(stream))
    assert [cell["finding_policy"] for cell in cells] == [row["finding_policy"] or "" for row in rows]
    assert float(cells[0]["p_alpha"]) == pytest.approx(rows[0]["p_alpha"], abs=1e-7)
    with pytest.raises(StorageError, match="--flat"):
        score(bundle_path, data, "--out", tmp_path / "out.csv", "--flat")


def test_a_folder_is_an_input(bundle_path: Path, tmp_path: Path, capfdbinary: Any) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write_jsonl(tmp_path / "in" / "b.jsonl", RECORDS[:1])
    (tmp_path / "in" / "deep" / "a.html").write_text("<p>walrus</p>")
    (tmp_path / "in" / "_SUCCESS").write_text("")
    (tmp_path / "in" / "notes.pdf").write_bytes(b"%PDF")
    assert score(bundle_path, tmp_path / "in") == 0
    assert [row["id"] for row in read_jsonl(capfdbinary.readouterr()[0].decode())] == ["a", "a.html"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="no file in this folder can be read"):
        score(bundle_path, tmp_path / "empty")


def test_a_crawl_says_what_became_of_each_capture(
    bundle_path: Path, tmp_path: Path, capfdbinary: Any
) -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>We sell crimson goods.</p>"
    moved = b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n"
    records = [
        (
            f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{number:032x}>\r\nWARC-Date: 2026-11-01T00:00:00Z"
            f"\r\nWARC-Target-URI: https://www.shop.example.com/{number}\r\nContent-Type: application/http; msgtype=response"
            f"\r\nContent-Length: {len(block)}\r\n\r\n"
        ).encode()
        + block
        + b"\r\n\r\n"
        for number, block in enumerate([body, moved])
    ]
    (tmp_path / "crawl.warc").write_bytes(b"".join(records))
    assert score(bundle_path, tmp_path / "crawl.warc") == 0
    output, errors = capfdbinary.readouterr()
    [row] = read_jsonl(output.decode())
    assert (row["id"], row["domain"], row["decision"]) == ("example.com", "example.com", "block")
    span = row["findings"][0]["spans"][0]
    assert (span["url"], span["collected_at"]) == (
        "https://www.shop.example.com/0",
        "2026-11-01T00:00:00+00:00",
    )
    assert span["warc_record_id"] == f"<urn:uuid:{0:032x}>"
    assert b"captures: 1 page, 1 redirect" in errors
