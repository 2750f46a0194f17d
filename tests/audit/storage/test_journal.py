"""The journal: nothing that was acknowledged is lost, whoever writes and whatever happens to the process or the disk."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from merchantguard.audit.storage.items import Answer
from merchantguard.audit.storage.journal import JOURNAL, Journal
from merchantguard.core.errors import AuditError, StorageError

ANSWER = Answer(
    reviewer="ada",
    record="r1",
    policy="crimson",
    answer="has",
    stage="first",
    at="2026-11-26T09:00:00+00:00",
    milliseconds=1200,
    tool="merchantguard 0.1.0",
    shown={"item": 7, "blind": True, "exact_duplicates": ["r2"]},
    comment="“=cmd” \u202e <b>",
)

# Appends answers and prints the number of each once it is on disk.
WRITER = """
import sys
from pathlib import Path
from merchantguard.audit.storage.items import Answer
from merchantguard.audit.storage.journal import Journal
folder, reviewer, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
journal = Journal(folder)
for turn in range(count):
    answer = Answer(reviewer, f"r{turn}", "crimson", "has", "first", "now", 1, "test", {}, comment="x" * 2000)
    print(journal.append(answer).number, flush=True)
"""


def _writer(folder: Path, reviewer: str, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), reviewer, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_answers_come_back_as_they_were_given_with_their_numbers(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = journal.append(ANSWER)
    second = journal.append(replace(ANSWER, answer="undo", undoes=1, comment=""))
    assert first == replace(ANSWER, number=1)
    assert Journal(tmp_path).answers() == [first, second]
    assert journal.answers(after=1) == [second]


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(ANSWER)
    undo = replace(ANSWER, answer="undo", undoes=1)
    for bad, message in (
        (replace(ANSWER, answer="maybe"), "'maybe'"),
        (replace(ANSWER, stage="third"), "'third'"),
        (replace(ANSWER, undoes=1), "undoes"),
        (replace(undo, undoes=9), "9 is not an answer"),
        (replace(undo, reviewer="bob"), "not an answer of 'bob'"),
        (replace(undo, record="r2"), "not an answer"),
        (replace(ANSWER, comment="x" * 10_001), "10,001 characters"),
        (replace(ANSWER, comment="half \ud83d"), "surrogate"),
    ):
        with pytest.raises(AuditError, match=message):
            journal.append(bad)
    journal.append(undo)
    with pytest.raises(AuditError, match="already undone"):
        journal.append(undo)
    with pytest.raises(AuditError, match="2 is not an answer"):
        journal.append(replace(undo, undoes=2))
    assert len(journal.answers()) == 2


def test_written_answers_can_be_neither_changed_nor_deleted(tmp_path: Path) -> None:
    Journal(tmp_path).append(ANSWER)
    database = sqlite3.connect(tmp_path / JOURNAL)
    for statement in ("UPDATE answers SET answer = 'has_not'", "DELETE FROM answers"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            database.execute(statement)


def test_two_processes_write_at_once_and_no_answer_is_lost(tmp_path: Path) -> None:
    writers = [_writer(tmp_path, name, 60) for name in ("ada", "bob")]
    numbers = [int(line) for writer in writers for line in writer.communicate()[0].split()]
    assert [writer.returncode for writer in writers] == [0, 0]
    answers = Journal(tmp_path).answers()
    assert sorted(numbers) == [answer.number for answer in answers] == list(range(1, 121))
    for name in ("ada", "bob"):
        own = [answer.record for answer in answers if answer.reviewer == name]
        assert own == [f"r{turn}" for turn in range(60)]


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    writer = _writer(tmp_path, "ada", 100_000)
    assert writer.stdout is not None
    numbers_read = [int(writer.stdout.readline()) for _ in range(25)]
    writer.send_signal(signal.SIGKILL)
    numbers_read += [int(line) for line in writer.communicate()[0].splitlines()]
    numbers = [answer.number for answer in Journal(tmp_path).answers()]
    assert numbers[: len(numbers_read)] == numbers_read
    # At most the answer whose acknowledgement the kill cut off is there besides.
    assert len(numbers) <= len(numbers_read) + 1
    assert Journal(tmp_path).append(ANSWER).number == len(numbers) + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting needs root on Linux")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(journal: Journal) -> int:
    """Write until the disk is full, and count what was acknowledged."""
    for written in range(2_000):
        answer = replace(ANSWER, record=f"r{written}", comment="x" * 5_000)
        try:
            journal.append(answer)
        except StorageError:
            break
    with pytest.raises(StorageError, match=rf"{JOURNAL}.*disk"):
        journal.append(answer)
    return written


def test_a_full_disk_is_said_and_loses_nothing(small_disk: Path) -> None:
    journal = Journal(small_disk)
    written = _fill(journal)
    assert written > 10
    assert len(journal.answers()) == written
    journal.close()
    assert [answer.record for answer in Journal(small_disk).answers()] == [
        f"r{turn}" for turn in range(written)
    ]


def test_a_database_that_may_not_grow_is_said_and_goes_on_when_it_may(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.database.execute("PRAGMA max_page_count = 60")
    written = _fill(journal)
    journal.database.execute("PRAGMA max_page_count = 100000")
    assert journal.append(ANSWER).number == written + 1
    assert len(Journal(tmp_path).answers()) == written + 1


def _overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 4] = os.urandom(4096 * 2)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b"not a database at all, but a text" * 99),
        lambda path: os.truncate(path, path.stat().st_size - 5000),
        _overwrite,
    ],
    ids=["other file", "torn end", "overwritten"],
)
def test_a_damaged_journal_is_named(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    journal = Journal(tmp_path)
    for turn in range(40):
        journal.append(replace(ANSWER, record=f"r{turn}", comment="x" * 900))
    journal.close()
    harm(tmp_path / JOURNAL)
    with pytest.raises(AuditError, match=JOURNAL):
        Journal(tmp_path).answers()


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / JOURNAL) as database:
        database.execute("CREATE TABLE answers (number INTEGER)")
    with pytest.raises(AuditError, match="not a journal of format 1"):
        Journal(tmp_path)
    with pytest.raises(StorageError, match="nowhere"):
        Journal(tmp_path / "nowhere")


def test_a_cell_is_looked_at_by_one_reviewer_until_the_claim_runs_out(tmp_path: Path) -> None:
    one, other = Journal(tmp_path), Journal(tmp_path)
    assert one.claim("r1", "crimson", "ada", seconds=60)
    assert not other.claim("r1", "crimson", "bob", seconds=60)
    assert other.claimed_by_others("bob") == {("r1", "crimson")}
    assert one.claimed_by_others("ada") == set()
    assert one.claim("r1", "crimson", "ada", seconds=-1)
    assert other.claim("r1", "crimson", "bob", seconds=60)
    one.append(replace(ANSWER, reviewer="bob"))
    assert one.claim("r1", "crimson", "ada", seconds=60)
    # An answer that the claimer has not read yet: he must look again.
    assert not other.claim("r1", "crimson", "cem", seconds=60, seen=0)
    one.release("ada")
    assert other.claimed_by_others("bob") == set()
