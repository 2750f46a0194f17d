"""Spark in one session: slow to start, so each test shows several things."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merchantguard.core.errors import RecordError, SettingsError
from merchantguard.serve import Scorer

pytest.importorskip("pyspark")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

TEXTS = ["We sell crimson goods.", "A walrus.", "Call us.", "The teapot is made by hand.", None, ""]


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    from merchantguard.serve.bulk.spark import session

    settings = {"spark_ui_enabled": "false", "spark_sql_shuffle_partitions": "4", "spark_driver_memory": "1g"}
    opened = session("local[2,4]", **settings)
    opened.sparkContext.setLogLevel("ERROR")
    yield opened
    opened.stop()


def rows(texts: list[str | None], count: int) -> list[tuple[str, str | None, float]]:
    return [(f"m{n}", texts[n % len(texts)], float(n)) for n in range(count)]


def test_the_same_answers_errors_and_columns_and_few_loads(
    spark: Any, bundle_path: Path, scorer: Scorer
) -> None:
    from merchantguard.serve.bulk import spark as bulk

    df = spark.createDataFrame(rows(TEXTS, 96), "merchant_id string, site_text string, amount double")
    scored = bulk.score_dataframe(
        df.repartition(16), bundle_path, text="site_text", id="merchant_id", log_key=b"0123456789abcdef"
    )

    def with_loads(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            count = batch.num_rows
            yield pa.RecordBatch.from_pydict({"pid": [os.getpid()] * count, "loads": [bulk.loads()] * count})

    found = {row["merchant_id"]: row.asDict() for row in scored.collect()}
    assert len(found) == 96
    for name, text, amount in rows(TEXTS, 96):
        row = found[name]
        assert row["amount"] == amount
        if not text:
            assert row["error"]
            assert row["decision"] is None
            continue
        alone = scorer.assess(text)
        assert row["decision"] == alone.decision
        expected = dict(zip([p.id for p in scorer.policies], alone.probabilities.tolist(), strict=True))
        assert row["probabilities"] == pytest.approx(expected, abs=1e-5)
        assert json.loads(row["decision_record"])["record_id"] == name
    processes = {
        row["pid"]: row["loads"]
        for row in scored.select("merchant_id").mapInArrow(with_loads, "pid long, loads long").collect()
    }
    assert max(processes.values()) == 1
    assert len(processes) <= 4
    with pytest.raises(RecordError, match="no column 'text'"):
        bulk.score_dataframe(df, bundle_path)


def test_earlier_results_are_copied(spark: Any, bundle_path: Path, tmp_path: Path) -> None:
    from merchantguard.serve.bulk.spark import score_dataframe

    texts = [f"crimson offer {n}" for n in range(50)]
    columns = "id string, text string, amount double"
    score_dataframe(spark.createDataFrame(rows([*texts], 50), columns), bundle_path).write.parquet(
        str(tmp_path / "one")
    )
    texts[7] = "A walrus."
    second = spark.createDataFrame(rows([*texts], 50), columns)
    previous = spark.read.parquet(str(tmp_path / "one"))
    found = score_dataframe(second, bundle_path, previous=previous).collect()
    assert len(found) == 50
    assert [row["id"] for row in found if not row["copied"]] == ["m7"]
    fresh = {row["id"]: row for row in score_dataframe(second, bundle_path).collect()}
    for row in found:
        assert row["findings"] == fresh[row["id"]]["findings"]
        assert row["probabilities"] == pytest.approx(fresh[row["id"]]["probabilities"])


def test_a_killed_worker_loses_and_doubles_nothing(spark: Any, bundle_path: Path, tmp_path: Path) -> None:
    from merchantguard.serve.bulk.spark import score_dataframe

    texts: list[str | None] = [f"crimson offer {n} " + "letter " * 400 for n in range(2000)]
    df = spark.createDataFrame(rows(texts, 2000), "id string, text string, amount double").repartition(8)
    out = tmp_path / "out"
    scored = score_dataframe(df, bundle_path)
    writing = threading.Thread(target=lambda: scored.write.parquet(str(out)))
    before = {pid: _cpu_seconds(pid) for pid in _workers()}
    writing.start()
    killed = 0
    deadline = time.monotonic() + 300
    while writing.is_alive() and killed < 2 and time.monotonic() < deadline:
        for pid in set(_workers()):
            # One that has worked for a while is in the middle of its rows.
            if killed < 2 and _cpu_seconds(pid) - before.get(pid, 0.0) > 0.7:
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.05)
    writing.join()
    assert killed
    ids = [row["id"] for row in spark.read.parquet(str(out)).select("id").collect()]
    assert sorted(ids) == sorted(f"m{n}" for n in range(2000))


def _workers() -> list[int]:
    """Python workers below this process: children of the daemon that Spark's JVM started."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], check=True, capture_output=True, text=True).stdout
    lines = [line.split(None, 2) for line in listed.splitlines()[1:]]
    parents = {int(pid): int(parent) for pid, parent, *_ in lines}
    daemons = {int(pid) for pid, _, *command in lines if command and "pyspark.daemon" in command[0]}
    mine = {pid for pid in daemons if _descends(pid, parents)}
    return [pid for pid in mine if parents[pid] in mine]


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == os.getpid():
            return True
    return False


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_folder_that_fills_and_a_crawl(spark: Any, bundle_path: Path, tmp_path: Path) -> None:
    from merchantguard.serve.bulk.spark import read_warc, score_dataframe, score_folder

    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for day in range(3):
        table = pa.table({"id": [f"d{day}-{n}" for n in range(5)], "text": [f"walrus {n}" for n in range(5)]})
        pq.write_table(table, folder / f"{day}.parquet")
        score_folder(spark, folder, out, tmp_path / "checkpoint", bundle_path)
    found = [row["id"] for row in spark.read.parquet(str(out)).collect()]
    assert sorted(found) == sorted(f"d{day}-{n}" for day in range(3) for n in range(5))

    def page(url: str, text: str, date: str) -> bytes:
        return (
            f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Record-ID: <urn:uuid:{len(text):032x}>\r\nWARC-Date: {date}\r\n"
            f"WARC-Target-URI: {url}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n{text}\r\n\r\n"
        ).encode()

    old, new = "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"
    (tmp_path / "a.warc").write_bytes(
        page("https://www.tea.example.com/", "Call us.", old) + page("https://other.de/x", "nothing", old)
    )
    (tmp_path / "b.warc").write_bytes(
        page("https://www.tea.example.com/", "A walrus.", new)
        + page("https://tea.example.com/deep/x", "teapot", old)
    )
    sites, outcomes = read_warc(spark, [tmp_path / "a.warc", tmp_path / "b.warc"])
    assert {row["outcome"]: row["count"] for row in outcomes.collect()} == {"page": 4}
    scored = {row["id"]: row for row in score_dataframe(sites, bundle_path, text="pages").collect()}
    assert set(scored) == {"example.com", "other.de"}
    spans = {each["policy"]: each["spans"][0] for each in scored["example.com"]["findings"]}
    assert spans["beta"]["collected_at"].startswith("2026-11-02")
    assert spans["gamma"]["url"] == "https://tea.example.com/deep/x"


def test_the_command(spark: Any, bundle_path: Path, tmp_path: Path) -> None:
    import argparse

    from merchantguard.serve.cli import score as cli

    pq.write_table(
        pa.table({"merchant_id": ["a", "b"], "site_text": ["crimson", None]}), tmp_path / "in.parquet"
    )
    (tmp_path / "key").write_text("0123456789abcdef")
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    given = [
        "--engine",
        "spark",
        str(bundle_path),
        str(tmp_path / "in.parquet"),
        "--out",
        str(tmp_path / "out"),
    ]
    given += [
        "--text",
        "site_text",
        "--id",
        "merchant_id",
        "--log",
        str(tmp_path / "log"),
        "--log-key",
        str(tmp_path / "key"),
    ]
    assert cli.main(parser.parse_args(given)) == cli.REJECTED
    found = {row["merchant_id"]: row for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert (found["a"]["decision"], found["b"]["error"]) == ("block", "the text is null")
    [line] = [line for path in (tmp_path / "log").glob("part-*") for line in path.read_text().splitlines()]
    assert json.loads(line)["merchant_id"] == "a"
    with pytest.raises(SettingsError, match="--flat is not for Spark"):
        cli.main(parser.parse_args([*given, "--flat"]))


def test_batches_that_are_too_large_are_refused(spark: Any, bundle_path: Path) -> None:
    from merchantguard.serve.bulk.spark import BATCH_BYTES, score_dataframe

    before = spark.conf.get(BATCH_BYTES)
    spark.conf.set(BATCH_BYTES, "100m")
    try:
        with pytest.raises(SettingsError, match="set 4m to 16m"):
            score_dataframe(spark.createDataFrame([("x",)], "text string"), bundle_path)
    finally:
        spark.conf.set(BATCH_BYTES, before)
