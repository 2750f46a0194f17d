"""The journal of questions and answers: nothing that was paid for is lost, and nothing is asked twice.

One JSON line an event, written and fsynced before the work goes on: "asked" before a question leaves, "replied" with the
whole transcript, "failed" where no answer came. A last line that a crash cut off was never relied on and is removed.
What was asked and has no reply after a crash is asked again under the same key, which endpoints with idempotency keys do
not charge twice; its highest possible cost stays counted until the reply is there.
"""

import fcntl
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...core.display import safe_repr
from ...core.errors import MerchantGuardError, StorageError
from ...core.files import write_text
from ...serve.decision_record import now
from .answer import Reply
from .question import Question

JOURNAL, SECRET, LOCK = "journal.jsonl", "secret", "lock"


class JournalError(MerchantGuardError):
    """The journal is damaged, or another process writes it."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A question and its reply: what tests and later runs replay."""

    key: str
    record: str
    policy: str
    prompt: str
    build: str
    time: str
    reply: Reply
    merchant: str = ""


@dataclass(slots=True)
class Usage:
    """Questions that count: those with a reply, and those that may have one."""

    questions: int = 0
    cost: float = 0.0


@dataclass(slots=True)
class _State:
    replies: dict[str, Transcript] = field(default_factory=dict)
    asked: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: int = 0


def answer_key(question: Question, build: str) -> str:
    """Identifies a question to one model build: text, policy, prompt and build are all in it."""
    content = f"{question.case.text_hash} {question.case.policy} {question.prompt_hash} {build}"
    return hashlib.sha256(content.encode()).hexdigest()


class Journal:
    """The journal in `folder`, which one process writes at a time; threads may share it.

    :raises JournalError: if it is damaged before its last line, or in use.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = open(self.folder / LOCK, "a")  # noqa: SIM115
        except OSError as error:
            raise StorageError(
                f"{folder}: cannot be written ({error.strerror}); choose another folder"
            ) from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            raise JournalError(f"{self.folder}: another process adjudicates here; wait for it") from None
        self._path = self.folder / JOURNAL
        self._state = _State()
        self._mutex = threading.Lock()
        self._read()
        self._stream = open(self._path, "ab", buffering=0)  # noqa: SIM115
        _fsync_folder(self.folder)

    @property
    def secret(self) -> bytes:
        """What marks and codes are derived from; made once, so that a question stays the same question."""
        path = self.folder / SECRET
        if not path.exists():
            old = os.umask(0o077)
            try:
                write_text(path, secrets.token_hex(32) + "\n")
            finally:
                os.umask(old)
        return path.read_text(encoding="ascii").strip().encode("ascii")

    def reply(self, key: str) -> Reply | None:
        """The reply to a question, if there is one."""
        found = self._state.replies.get(key)
        return None if found is None else found.reply

    @property
    def open_questions(self) -> int:
        """Questions without a reply: a crash came between."""
        return len(self._state.asked)

    def asked(self, key: str, question: Question, build: str, most: float) -> None:
        """Note that a question leaves, and what it costs at most."""
        case = question.case
        event = {
            "type": "asked", "key": key, "record": case.record, "policy": case.policy, "merchant": case.merchant or "",
            "prompt": question.prompt_hash, "build": build, "most": most,
        }  # fmt: skip
        with self._mutex:
            self._append(event)

    def replied(self, key: str, reply: Reply) -> None:
        """Note the reply to a question."""
        with self._mutex:
            self._append({"type": "replied", "key": key, "reply": reply.to_dict()})

    def failed(self, key: str, reason: str) -> None:
        """Note that no answer came."""
        with self._mutex:
            self._append({"type": "failed", "key": key, "reason": reason[:500]})

    def usage(self, *, day: str | None = None, merchant: str | None = None) -> Usage:
        """What was asked and what it cost, of a day (ISO date, UTC) or a merchant."""
        used = Usage()
        for each in self._state.replies.values():
            if each.time.startswith(day or "") and merchant in (None, each.merchant):
                used.questions += 1
                used.cost += each.reply.cost
        for asked in self._state.asked.values():
            if asked["time"].startswith(day or "") and merchant in (None, asked["merchant"]):
                used.questions += 1
                used.cost += asked["most"]
        return used

    def transcripts(self) -> Iterator[Transcript]:
        """All questions with a reply, in the order of the replies."""
        yield from list(self._state.replies.values())

    def close(self) -> None:
        """Give the journal free for others."""
        self._stream.close()
        self._lock_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, event: dict[str, Any]) -> None:
        event = {"time": now(), **event}
        line = json.dumps(event, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        size = os.fstat(self._stream.fileno()).st_size
        try:
            view = memoryview(line)
            while view:
                view = view[self._stream.write(view) :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            os.ftruncate(self._stream.fileno(), size)
            raise StorageError(
                f"{self._path}: cannot be written ({error.strerror}); free some space"
            ) from error
        self._apply(event)

    def _read(self) -> None:
        if not self._path.exists():
            return
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with open(self._path, "rb+") as stream:
                stream.truncate(whole)
                os.fsync(stream.fileno())
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise JournalError(
                    f"{self._path}:{number}: is damaged ({type(error).__name__}: {safe_repr(line.decode('utf-8', 'replace'))}); "
                    "restore the file, or start another folder"
                ) from error

    def _apply(self, event: dict[str, Any]) -> None:
        kind, key = event["type"], event["key"]
        if kind == "asked":
            self._state.asked[key] = event
        elif kind == "failed":
            self._state.asked.pop(key, None)
            self._state.failures += 1
        elif kind == "replied":
            asked = self._state.asked.pop(key)
            self._state.replies[key] = Transcript(
                key, asked["record"], asked["policy"], asked["prompt"], asked["build"], event["time"],
                Reply(**event["reply"]), asked["merchant"],
            )  # fmt: skip
        else:
            raise ValueError(f"unknown type {kind!r}")


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
