"""The decision log: entries come back, damage is named, and a kill loses or doubles nothing that was acknowledged."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.cli import main
from merchantguard.core.errors import RecordError, StorageError
from merchantguard.operate.log import (
    LogError,
    LogFull,
    LogOptions,
    LogWriter,
    head,
    histories,
    log_key,
    read_log,
    verify,
)
from merchantguard.serve.bulk.decision_table import decision_table, decisions_of
from merchantguard.serve.decision_record import (
    DecisionEvent,
    DecisionRecord,
    hash_text,
    now,
    read_entry,
    uuid7,
)

MakeRecord = Callable[..., DecisionRecord]


def event_of(record: DecisionRecord) -> DecisionEvent:
    return DecisionEvent(
        uuid7(),
        record.decision_id,
        now(),
        "review",
        "label-audit",
        "ann",
        True,
        {"alpha": False, "beta": None},
    )


def test_entries_come_back_from_segments_of_every_compression(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    for compression in ("zstd", "gzip", "none"):
        folder = tmp_path / compression
        records = [make_record(request_id=str(n)) for n in range(30)]
        options = LogOptions(segment_bytes=4000, compression=compression)
        with LogWriter(folder, options) as log:
            for record in records[:20]:
                log.append(record).result(timeout=10)
        with LogWriter(folder, options) as log:
            for record in records[20:]:
                log.append(record)
            event = event_of(records[3])
            log.append(event)
        assert list(read_log(folder)) == [*records, event]
        assert len(list(folder.glob("0*"))) > 3
        found = verify(folder)
        assert (found.lines, found.faults) == (31, ())
        assert [len(each.events) for each in histories(folder)][:5] == [0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda lines: [*lines[:4], lines[4].replace(b"0.75", b"0.15", 1), *lines[5:]], "line 5 was changed"),
        (
            lambda lines: [*lines[:4], *lines[5:]],
            "line 5 has number 6 where 5 was expected: lines 5 to 5 are missing",
        ),
        (lambda lines: [*lines[:-1], lines[-1][:40]], "line 9 is cut off"),
        (lambda lines: [*lines[:4], b"{}\n", *lines[5:]], "line 5 has no chain"),
        (lambda lines: [*lines[:4], b"nothing\n", *lines[5:]], "line 5 is no JSON"),
    ],
)
def test_damage_is_named_with_its_line(
    damage: Callable[[list[bytes]], list[bytes]],
    named: str,
    make_record: MakeRecord,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with LogWriter(tmp_path) as log:
        for _ in range(9):
            log.append(make_record())
    assert main(["log", "verify", str(tmp_path)]) == 0
    path = tmp_path / "000001.jsonl"
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    assert main(["log", "verify", str(tmp_path)]) == 1
    assert named in capsys.readouterr().out


def test_a_compressed_segment_that_is_cut_off_is_named(make_record: MakeRecord, tmp_path: Path) -> None:
    with LogWriter(tmp_path, LogOptions(segment_bytes=3000, compression="gzip")) as log:
        for _ in range(9):
            log.append(make_record()).result(timeout=10)
    first = tmp_path / "000001.jsonl.gz"
    first.write_bytes(first.read_bytes()[:-30])
    assert any("000001.jsonl.gz" in fault for fault in verify(tmp_path).faults)
    first.write_bytes(gzip.compress(b""))
    assert "are missing" in verify(tmp_path).faults[0]


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_lines_cut_from_the_end_show_against_a_kept_head(
    compression: Any, make_record: MakeRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, kept = tmp_path / "log", tmp_path / "head.json"
    with LogWriter(folder, LogOptions(segment_bytes=2000, compression=compression)) as log:
        for _ in range(9):
            log.append(make_record()).result(timeout=10)
        assert main(["log", "head", str(folder)]) == 0  # while it is written
    kept.write_text(capsys.readouterr().out)
    found = json.loads(kept.read_text())
    assert found == {"seq": 9, "chain": verify(folder).chain}
    verifying = ["log", "verify", str(folder)]
    for known in (["--head", str(kept)], ["--expect-chain", found["chain"]]):
        assert main([*verifying, *known]) == 0
    with LogWriter(folder) as log:
        log.append(make_record())
    assert main([*verifying, "--head", str(kept)]) == 0  # it has grown since

    last = max(folder.glob("0*"))
    last.write_bytes(b"")
    before = max(path for path in folder.glob("0*") if path != last)
    before.unlink()
    capsys.readouterr()
    assert main(verifying) == 0
    assert main([*verifying, "--head", str(kept)]) == 1
    assert "to 9 were cut from the end" in capsys.readouterr().out
    assert main([*verifying, "--expect-chain", found["chain"]]) == 1
    assert "cut from the end, or written anew" in capsys.readouterr().out


def test_a_log_written_anew_shows_against_a_kept_head(make_record: MakeRecord, tmp_path: Path) -> None:
    for name in ("first", "again"):
        with LogWriter(tmp_path / name) as log:
            [log.append(make_record()) for _ in range(4)]
    assert verify(tmp_path / "first", head(tmp_path / "again")).faults[0].endswith("written anew up to there")
    assert verify(tmp_path / "first", head(tmp_path / "first")).faults == ()


@pytest.mark.parametrize("content", ["", "[]", '{"seq": "x", "chain": ""}', '{"seq": 1, "chain": "abc"}'])
def test_what_is_no_head_is_refused(
    content: str, make_record: MakeRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LogWriter(tmp_path / "log") as log:
        log.append(make_record())
    (tmp_path / "head.json").write_text(content)
    assert main(["log", "verify", str(tmp_path / "log"), "--head", str(tmp_path / "head.json")]) == 2
    assert "head.json" in capsys.readouterr().err


def test_one_process_writes_a_log_at_a_time(tmp_path: Path) -> None:
    with LogWriter(tmp_path), pytest.raises(LogError, match="another process writes this log"):
        LogWriter(tmp_path)
    LogWriter(tmp_path).close()


def test_a_full_queue_fails_or_counts_but_is_never_silent(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        gate.wait(10)
        fsync(descriptor)

    for policy in ("fail", "drop"):
        gate.clear()
        log = LogWriter(tmp_path / policy, LogOptions(queue_entries=2, when_full=policy))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", slow)
            first = log.append(make_record())
            while log.waiting:
                time.sleep(0.001)
            waiting = [log.append(make_record()) for _ in range(2)]
            if policy == "fail":
                with pytest.raises(LogFull, match="2 decisions wait"):
                    log.append(make_record())
            else:
                assert log.append(make_record()).done()
            gate.set()
            [each.result(timeout=10) for each in (first, *waiting)]
            log.close()
        lines = (tmp_path / policy / "000001.jsonl").read_text().splitlines()
        assert log.dropped == (policy == "drop")
        assert [json.loads(line).get("count") for line in lines].count(1) == (policy == "drop")
        assert len(list(read_log(tmp_path / policy))) == 3


def test_whoever_no_longer_waits_does_not_stop_the_log(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, fsync = threading.Event(), os.fsync
    with LogWriter(tmp_path) as log, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: (gate.wait(10), fsync(descriptor)))
        gone = log.append(make_record())
        assert gone.cancel()
        gate.set()
        log.append(make_record()).result(timeout=10)
        assert log.alive
    assert len(list(read_log(tmp_path))) == 2


def test_a_reader_follows_a_segment_that_is_compressed_meanwhile(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    options = LogOptions(segment_bytes=2000)
    with LogWriter(tmp_path, options) as log:
        log.append(make_record()).result(timeout=10)
        reading = read_log(tmp_path)
        path = tmp_path / "000001.jsonl"
        from merchantguard.operate.log.segments import compress, read_lines

        compress(path, "zstd")
        assert [line.fault for line in read_lines(path)] == [None]
        assert len(list(reading)) == 1


def test_a_full_disk_fails_the_entries_and_leaves_whole_lines(
    make_record: MakeRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogWriter(tmp_path)
    log.append(make_record()).result(timeout=10)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageError, match="not logged"):
            log.append(make_record()).result(timeout=10)
    log.append(make_record()).result(timeout=10)
    log.close()
    assert verify(tmp_path).faults == ()
    assert len(list(read_log(tmp_path))) == 2


WRITER = """
import sys
from pathlib import Path
from merchantguard.operate.log import LogOptions, LogWriter
from merchantguard.serve.decision_record import DecisionRecord, read_entry
import json
record = json.loads(Path(sys.argv[2]).read_text())
log = LogWriter(sys.argv[1], LogOptions(segment_bytes=6000))
number = int(sys.argv[3])
while True:
    futures = []
    for _ in range(5):
        number += 1
        futures.append((number, log.append(read_entry(record | {"request_id": str(number)}, ""))))
    for each, future in futures:
        future.result()
        sys.stdout.write(f"{each}\\n")
        sys.stdout.flush()
"""


def test_a_kill_loses_and_doubles_no_acknowledged_decision(make_record: MakeRecord, tmp_path: Path) -> None:
    template = tmp_path / "record.json"
    template.write_text(json.dumps(make_record().to_dict()))
    acknowledged: list[int] = []
    draw = random.Random(0)
    for attempt in range(6):
        command = [
            sys.executable,
            "-c",
            WRITER,
            str(tmp_path / "log"),
            str(template),
            str(1_000_000 * attempt),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            acknowledged.append(int(process.stdout.readline()))
            time.sleep(draw.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    LogWriter(tmp_path / "log").close()
    logged = [int(entry.request_id or 0) for entry in read_log(tmp_path / "log")]  # type: ignore[union-attr]
    assert verify(tmp_path / "log").faults == ()
    assert len(logged) == len(set(logged))
    assert set(acknowledged) <= set(logged)


def test_the_key_is_the_logs_own_or_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = log_key(tmp_path)
    assert key == log_key(tmp_path)
    assert (tmp_path / "hmac.key").stat().st_mode & 0o077 == 0
    assert hash_text("lone \ud800", key) != hash_text("lone \ud800", b"another")
    monkeypatch.setenv("MERCHANTGUARD_LOG_KEY", "given")
    assert log_key(tmp_path) == b"given"


def test_export_and_show(make_record: MakeRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [make_record(request_id=f"r{n}", merchant_id="m1" if n else None) for n in range(3)]
    with LogWriter(tmp_path / "log") as log:
        for record in records:
            log.append(record)
        log.append(event_of(records[1]))
    out, events = tmp_path / "decisions.parquet", tmp_path / "events.jsonl"
    assert main(["log", "export", str(tmp_path / "log"), str(out), "--events", str(events)]) == 0
    assert decisions_of(pq.read_table(out)) == records
    assert json.loads(events.read_text())["actor"] == "ann"
    capsys.readouterr()
    assert main(["log", "show", str(tmp_path / "log"), "--request-id", "r1"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["type"] for each in shown] == ["decision", "event"]
    assert main(["log", "show", str(tmp_path / "log"), "--merchant-id", "nobody"]) == 1
    assert main(["log", "show", str(tmp_path / "empty")]) == 2


@given(
    st.dictionaries(st.text(max_size=8), st.floats(0, 1), max_size=4),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=3),
    st.text(max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_every_record_survives_json_and_arrow(
    make_record: MakeRecord, probabilities: dict[str, float], spans: list[tuple[int, int]], text: str
) -> None:
    from merchantguard.serve.decision_record import LoggedFinding

    record = make_record(
        probabilities=probabilities,
        findings=(LoggedFinding("a", 0.5, "review", "pooled", tuple(spans)),),
        text=text,
    )
    assert read_entry(json.loads(json.dumps(record.to_dict())), "here") == record
    assert decisions_of(decision_table([record])) == [record]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("windows", -1, "here: windows is -1; it must be a whole number, 0 or more"),
        (
            "probabilities",
            {"alpha": "high"},
            "here: probabilities: alpha is 'high'; it must be a finite number",
        ),
        ("decision", "maybe", "decision is 'maybe'; it must be one of clear, review, block"),
        ("schema", 99, "schema is 99; it must be 1"),
        ("time", None, "time is None; it must be a string"),
        ("thresholds", {"alpha": 3}, "thresholds.alpha"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object, message: str, make_record: MakeRecord) -> None:
    with pytest.raises(RecordError, match=message.replace("(", r"\(")):
        read_entry(make_record().to_dict() | {field: value}, "here")


def test_identifiers_sort_by_time_and_are_version_7() -> None:
    first = uuid7()
    time.sleep(0.002)
    second = uuid7()
    assert first < second
    assert first[14] == "7"
    assert first[19] in "89ab"
