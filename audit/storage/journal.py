"""The journal of an audit: every answer of every reviewer, appended and never changed.

It is an SQLite database, not a file of lines. Reviewers in several processes write to it at once and must never see the
same item, so a lock, claims that expire and an atomic "write and number" are needed anyway; SQLite has them, tested for
twenty years against kill -9, full disks and torn pages. Write-ahead logging lets others read during a write;
`synchronous=FULL` syncs the log when an answer is committed, so an answer that `append` returned is on disk; triggers
refuse to change or delete an answer. The folder must be on a local disk: write-ahead logging shares memory between processes.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ...core.display import safe_repr
from ...core.errors import AuditError, StorageError
from .items import ANSWERS, STAGES, Answer

JOURNAL = "journal.db"
FORMAT = 1
MAX_COMMENT_CHARACTERS = 10_000
_BUSY_SECONDS = 30.0
# Identifies the file as a journal (PRAGMA application_id): "mgau".
_APPLICATION = 0x6D676175

_COLUMNS = tuple(field.name for field in fields(Answer))
_SCHEMA = f"""
CREATE TABLE answers (
  number INTEGER PRIMARY KEY AUTOINCREMENT, reviewer TEXT NOT NULL, record TEXT NOT NULL, policy TEXT NOT NULL,
  answer TEXT NOT NULL, stage TEXT NOT NULL, at TEXT NOT NULL, milliseconds INTEGER NOT NULL, tool TEXT NOT NULL,
  shown TEXT NOT NULL, comment TEXT NOT NULL, undoes INTEGER UNIQUE REFERENCES answers (number));
CREATE TRIGGER answers_stay BEFORE UPDATE ON answers
  BEGIN SELECT RAISE(ABORT, 'answers are never changed'); END;
CREATE TRIGGER answers_last BEFORE DELETE ON answers
  BEGIN SELECT RAISE(ABORT, 'answers are never deleted'); END;
CREATE TABLE claims (
  record TEXT NOT NULL, policy TEXT NOT NULL, reviewer TEXT NOT NULL, until REAL NOT NULL,
  PRIMARY KEY (record, policy)) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {FORMAT};
"""

T = TypeVar("T")


class Journal:
    """The answers so far, and which cells reviewers are looking at. Threads and processes may share one journal."""

    def __init__(self, folder: Path) -> None:
        """Open the journal in `folder`; it is created if it does not exist.

        :raises AuditError: if it is damaged or of another format.
        :raises StorageError: if it cannot be opened for writing.
        """
        self.path = Path(folder) / JOURNAL
        self._lock = threading.Lock()
        with self._explained():
            self.database = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self.database.close()
                raise

    def _prepare(self) -> None:
        self._with_retries(lambda: self.database.execute("PRAGMA journal_mode=WAL"))
        self.database.execute("PRAGMA foreign_keys=ON")
        with self._transaction():
            if self._pragma("user_version") == 0 and not self._pragma("schema_version"):
                for statement in _statements(_SCHEMA):
                    self.database.execute(statement)
        found = self._pragma("application_id"), self._pragma("user_version")
        if found != (_APPLICATION, FORMAT):
            raise AuditError(
                f"{self.path}: is not a journal of format {FORMAT} (found {found[1]}); move it away"
            )
        if (damage := self._pragma("quick_check")) != "ok":
            raise AuditError(f"{self.path}: is damaged ({safe_repr(damage)}); restore it from a copy")

    def _pragma(self, name: str) -> Any:
        return self.database.execute(f"PRAGMA {name}").fetchone()[0]

    def _with_retries(self, act: Callable[[], T]) -> T:
        """Retry what SQLite does not wait for by itself: turning write-ahead logging on while another process does the same."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                return act()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self.database.close()

    def append(self, answer: Answer) -> Answer:
        """Write an answer and return it with its number; it is on disk when this returns.

        An "undo" must name an answer of the same reviewer and cell that has not been undone.

        :raises AuditError: if a field is not usable.
        :raises StorageError: if the disk is full or not writable; earlier answers are unharmed.
        """
        row = _row(answer)
        marks = ", ".join("?" * len(row))
        with self._lock, self._explained(), self._transaction():
            if answer.answer == "undo":
                self._check_undo(answer)
            cursor = self.database.execute(
                f"INSERT INTO answers ({', '.join(row)}) VALUES ({marks})", list(row.values())
            )
            if answer.answer not in ("comment", "undo"):
                self.database.execute(
                    "DELETE FROM claims WHERE record = ? AND policy = ? AND reviewer = ?",
                    (answer.record, answer.policy, answer.reviewer),
                )
        return replace(answer, number=int(cursor.lastrowid or 0))

    def _check_undo(self, undo: Answer) -> None:
        found = self.database.execute(
            "SELECT reviewer, record, policy, answer FROM answers WHERE number = ?", (undo.undoes,)
        ).fetchone()
        if found is None or found[:3] != (undo.reviewer, undo.record, undo.policy) or found[3] == "undo":
            raise AuditError(
                f"undoes: {undo.undoes} is not an answer of {safe_repr(undo.reviewer)} on this cell"
            )
        if self.database.execute("SELECT 1 FROM answers WHERE undoes = ?", (undo.undoes,)).fetchone():
            raise AuditError(f"undoes: answer {undo.undoes} is already undone")

    def answers(self, after: int = 0) -> list[Answer]:
        """The answers with a number above `after`, in the order of writing."""
        with self._lock, self._explained():
            rows = self.database.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM answers WHERE number > ? ORDER BY number", (after,)
            ).fetchall()
            return [_answer(row) for row in rows]

    def claim(
        self, record: str, policy: str, reviewer: str, *, seconds: float, seen: int | None = None
    ) -> bool:
        """Reserve a cell for one reviewer for some time. Claiming it again extends the time.

        :param seen: number of the last answer that the caller has read.
        :return: False if another reviewer has the cell, or has answered on it after `seen`.
        """
        now = time.time()
        with self._lock, self._explained(), self._transaction(durable=False):
            if seen is not None and self._answered_after(seen, record, policy):
                return False
            self.database.execute(
                "INSERT INTO claims VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET reviewer = excluded.reviewer, "
                "until = excluded.until WHERE reviewer = excluded.reviewer OR until < ?",
                (record, policy, reviewer, now + seconds, now),
            )
            holder = self.database.execute(
                "SELECT reviewer FROM claims WHERE record = ? AND policy = ?", (record, policy)
            ).fetchone()
        return bool(holder[0] == reviewer)

    def _answered_after(self, number: int, record: str, policy: str) -> bool:
        found = self.database.execute(
            "SELECT 1 FROM answers WHERE number > ? AND record = ? AND policy = ?", (number, record, policy)
        )
        return found.fetchone() is not None

    def release(self, reviewer: str) -> None:
        """Release everything that a reviewer has claimed."""
        with self._lock, self._explained(), self._transaction(durable=False):
            self.database.execute("DELETE FROM claims WHERE reviewer = ?", (reviewer,))

    def claimed_by_others(self, reviewer: str) -> set[tuple[str, str]]:
        """Cells that other reviewers are looking at now."""
        with self._lock, self._explained():
            return set(
                self.database.execute(
                    "SELECT record, policy FROM claims WHERE reviewer != ? AND until >= ?",
                    (reviewer, time.time()),
                )
            )

    @contextmanager
    def _transaction(self, *, durable: bool = True) -> Iterator[None]:
        # Losing a claim in a power cut does no harm, but a sync of the disk would slow every screen down.
        self.database.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.database.execute("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into this package's."""
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(error, self.path) from error


def _explain(error: sqlite3.Error, path: Path) -> AuditError | StorageError:
    # The low byte is the kind of error; the rest of an extended code says where it happened.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageError(
            f"{path}: no space left on the disk; this answer was not written, all earlier ones were"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return AuditError(f"{path}: is damaged ({error}); restore it from a copy")
    if code == sqlite3.SQLITE_BUSY:
        return StorageError(f"{path}: another process has kept it locked for {_BUSY_SECONDS:.0f} seconds")
    if code == sqlite3.SQLITE_CONSTRAINT:
        return AuditError(f"{path}: refused ({error})")
    return StorageError(
        f"{path}: cannot be read or written ({error}); is the disk full or the folder read-only?"
    )


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would end the current transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _row(answer: Answer) -> dict[str, Any]:
    if answer.answer not in ANSWERS or answer.stage not in STAGES:
        raise AuditError(f"{safe_repr(answer.answer)} in stage {safe_repr(answer.stage)} is not an answer")
    if (answer.answer == "undo") != (answer.undoes is not None):
        raise AuditError('undoes: belongs to the answer "undo" and to no other')
    if len(answer.comment) > MAX_COMMENT_CHARACTERS:
        raise AuditError(
            f"comment: {len(answer.comment):,} characters; at most {MAX_COMMENT_CHARACTERS:,} are allowed"
        )
    row = asdict(answer) | {"shown": json.dumps(answer.shown, allow_nan=False)}
    del row["number"]
    for field, value in row.items():
        # SQLite's UTF-8 cannot store lone surrogates.
        if (
            isinstance(value, str)
            and not value.isascii()
            and value != value.encode("utf-8", "replace").decode()
        ):
            raise AuditError(f"{field}: {safe_repr(value)} contains a lone surrogate")
    return row


def _answer(row: tuple[Any, ...]) -> Answer:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Answer(**values | {"shown": json.loads(values["shown"])})
