"""Jobs that go on where they stopped, and days on which little changed."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from merchantguard.core.errors import RecordError, SettingsError
from merchantguard.serve.bulk.reuse import is_control, upper_bound
from merchantguard.serve.bulk.rows import text_hash
from merchantguard.serve.cli import score as cli


def score(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.main(parser.parse_args([*map(str, arguments), "--threads", "1"]))


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": f"r{n}", "text": text}) + "\n" for n, text in enumerate(texts)))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


TEXTS = [f"crimson offer {n}" if n % 3 else f"walrus {n} and a letter" for n in range(60)]
COMMAND = (
    "import argparse, sys; from merchantguard.serve.cli import score as cli; p = argparse.ArgumentParser(); "
    "cli.add_arguments(p); sys.exit(cli.main(p.parse_args()))"
)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_killed_job_goes_on_and_ends_alike(bundle_path: Path, tmp_path: Path, suffix: str) -> None:
    data = write(tmp_path / "in.jsonl", [f"{text} {'letter ' * 200}" for text in TEXTS * 20])
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    arguments = [str(bundle_path), str(data), "--threads", "1", "--part-rows", "20"]
    score(bundle_path, data, "--part-rows", 20, "--out", whole)
    parts = tmp_path / f"out{suffix}.parts"
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments, "--out", str(out)], stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while len(list(parts.glob("part-*.json"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    done = len(list(parts.glob("part-*.json")))
    assert 3 <= done < 60
    assert not out.exists()
    command = [sys.executable, "-c", COMMAND, *arguments, "--out", str(out)]
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert f"going on after {done * 20} rows" in again.stderr
    assert not parts.exists()
    if suffix == ".jsonl":
        assert out.read_bytes() == whole.read_bytes()
    else:
        assert pq.read_table(out).equals(pq.read_table(whole))


def test_another_job_starts_anew(bundle_path: Path, tmp_path: Path, capfd: Any) -> None:
    data = write(tmp_path / "in.jsonl", TEXTS)
    out = tmp_path / "out.jsonl"
    parts = tmp_path / "out.jsonl.parts"
    parts.mkdir()
    (parts / "job.json").write_text('{"job": {"key": "another"}, "columns": []}')
    (parts / "part-000000.json").write_text('{"rows": 7}')
    assert score(bundle_path, data, "--out", out) == 0
    assert "going on" not in capfd.readouterr().err
    assert len(read(out)) == len(TEXTS)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_did_not_change_is_copied(bundle_path: Path, tmp_path: Path, capfd: Any, suffix: str) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / "second.jsonl"
    score(bundle_path, write(tmp_path / "a.jsonl", TEXTS), "--out", first)
    changed = ["a teapot now", *TEXTS[:0:-1]]
    data = write(tmp_path / "b.jsonl", changed)
    assert score(bundle_path, data, "--previous", first, "--out", second) == 0
    score(bundle_path, data, "--out", tmp_path / "fresh.jsonl")
    rows, fresh = read(second), read(tmp_path / "fresh.jsonl")
    assert [row["copied"] for row in rows] == [False] + [True] * (len(TEXTS) - 1)
    for row, other in zip(rows, fresh, strict=True):
        assert {**row, "copied": False} == other
    assert f"{len(TEXTS) - 1} of them copied" in capfd.readouterr().err


def test_other_settings_are_not_copied(bundle_path: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", TEXTS)
    score(bundle_path, data, "--out", tmp_path / "first.jsonl")
    score(
        bundle_path, data, "--repeats", "--previous", tmp_path / "first.jsonl", "--out", tmp_path / "x.jsonl"
    )
    assert not any(row["copied"] for row in read(tmp_path / "x.jsonl"))


def test_a_new_bundle_skips_only_what_is_asked_and_states_the_loss(
    bundle_path: Path, make_bundle: Any, tmp_path: Path, capfd: Any
) -> None:
    texts = [*TEXTS, *(f"a plain letter {n}" for n in range(200))]
    data, first = write(tmp_path / "a.jsonl", texts), tmp_path / "first.parquet"
    score(bundle_path, data, "--out", first)
    newer = make_bundle(tmp_path / "newer", version="2")
    score(newer, data, "--previous", first, "--out", tmp_path / "x.jsonl")
    assert not any(row["copied"] for row in read(tmp_path / "x.jsonl"))
    out = tmp_path / "y.jsonl"
    score(newer, data, "--previous", first, "--skip-below", 0.3, "--control", 0.1, "--out", out)
    rows = read(out)
    skipped = [row for row in rows if row["copied"]]
    assert {row["bundle"] for row in skipped} == {"tiny@1"}
    assert {row["decision"] for row in skipped} == {"clear"}
    controls = [text for text in texts[60:] if is_control(text_hash(text), 0.1)]
    assert len(skipped) == 200 - len(controls)
    assert (
        f"0 of {len(controls)} controls were not clear: with 95 % confidence at most"
        in capfd.readouterr().err
    )


def test_the_bound_is_clopper_pearsons() -> None:
    scipy = pytest.importorskip("scipy.stats")
    for found, drawn in [(0, 10), (1, 59), (7, 100), (250, 5000)]:
        assert upper_bound(found, drawn, 0.95) == pytest.approx(
            scipy.beta.ppf(0.95, found + 1, drawn - found)
        )
    assert upper_bound(0, 0, 0.95) == upper_bound(3, 3, 0.95) == 1.0


def test_the_log_holds_a_decision_record_for_each_scored_row(bundle_path: Path, tmp_path: Path) -> None:
    from merchantguard.serve.decision_record import DecisionRecord, hash_text, read_entry

    data, first = write(tmp_path / "a.jsonl", TEXTS), tmp_path / "first.jsonl"
    (tmp_path / "key").write_text("a secret of the log's\n")
    log = tmp_path / "log.jsonl"
    with pytest.raises(SettingsError, match="--log-key"):
        score(bundle_path, data, "--out", first, "--log", log)
    score(bundle_path, data, "--out", first, "--log", log, "--log-key", tmp_path / "key", "--part-rows", 25)
    entries = [read_entry(row, "log") for row in read(log)]
    assert [entry.record_id for entry in entries if isinstance(entry, DecisionRecord)] == [
        f"r{n}" for n in range(len(TEXTS))
    ]
    assert read(log)[0]["text_hmac"] == hash_text(TEXTS[0], b"a secret of the log's")
    assert [row["decision"] for row in read(log)] == [row["decision"] for row in read(first)]


def test_what_is_no_earlier_result_is_named(bundle_path: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", TEXTS)
    (tmp_path / "old.jsonl").write_text('{"id": "x"}\n')
    for name, message in [
        ("missing", "holds no earlier results"),
        ("old.jsonl", "cannot be used as earlier"),
    ]:
        with pytest.raises(RecordError, match=message):
            score(bundle_path, data, "--previous", tmp_path / name)
