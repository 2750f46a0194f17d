"""The writer of the decision log: a bounded queue, one thread, one fsync a batch."""

import fcntl
import logging
import os
import queue
import secrets
import threading
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from ...core.errors import MerchantGuardError, StorageError
from ...core.files import write_text
from ...serve.decision_record import SCHEMA_VERSION, DecisionEvent, DecisionRecord, now
from .segments import START, LogError, compress, encode_line, head, segments

Entry = DecisionRecord | DecisionEvent

_LOGGER = logging.getLogger(__name__)
_BATCH = 512
_KEY_VARIABLE = "MERCHANTGUARD_LOG_KEY"


class LogFull(MerchantGuardError):
    """The log's queue is full: the decision is not logged and must not be given out."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How a log is written.

    :param segment_bytes: a segment is closed and compressed when it is this long.
    :param compression: of closed segments: zstd, gzip or none.
    :param queue_entries: most entries that wait for the disk.
    :param when_full: "fail" refuses an entry with `LogFull`; "drop" counts it and goes on, and the log says how many.
    """

    segment_bytes: int = 64 << 20
    compression: Literal["zstd", "gzip", "none"] = "zstd"
    queue_entries: int = 10_000
    when_full: Literal["fail", "drop"] = "fail"


class LogWriter:
    """Appends entries to the log in `folder`, which one process writes at a time.

    A future of `append` is done when its entry is on the disk. A last line that a crash cut off was never
    acknowledged and is removed when the log is opened again.

    :raises LogError: if another process writes this log, or its last segment is damaged.
    """

    def __init__(self, folder: Path | str, options: LogOptions | None = None) -> None:
        self.folder = Path(folder)
        self.options = options or LogOptions()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = _lock(self.folder)
        self.dropped = 0
        self._dropped_lock = threading.Lock()
        self._unreported = 0
        self._path, self._seq, self._chain = _last_place(self.folder)
        self._size = self._path.stat().st_size if self._path.exists() else 0
        self._stream = open(self._path, "ab", buffering=0)  # noqa: SIM115
        self._queue: queue.Queue[tuple[dict[str, Any], Future[None]] | None] = queue.Queue(
            self.options.queue_entries
        )
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="merchantguard-log", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread that writes lives."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Entries that wait for the disk."""
        return self._queue.qsize()

    def append(self, entry: Entry) -> "Future[None]":
        """Queue an entry; the future is done when it is on the disk, or has the error that prevented it.

        :raises LogFull: if the queue is full and `when_full` is "fail"; with "drop" the future is done at once and
            `dropped` is one more.
        :raises LogError: after `close`.
        """
        if self._closed:
            raise LogError(f"{self.folder}: the log is closed")
        future: Future[None] = Future()
        try:
            self._queue.put_nowait((entry.to_dict(), future))
        except queue.Full:
            if self.options.when_full == "fail":
                raise LogFull(
                    f"{self.folder}: {self.options.queue_entries} decisions wait for the disk; try again later"
                ) from None
            with self._dropped_lock:
                self.dropped += 1
                self._unreported += 1
            future.set_result(None)
        return future

    def close(self) -> None:
        """Write what waits and give the log free for others."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        while not self._queue.empty():  # what came between the two lines above is not written, and says so
            if (late := self._queue.get_nowait()) is not None:
                _settle(late[1], LogError(f"{self.folder}: the log is closed"))
        self._stream.close()
        self._lock_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- the thread -------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            batch, last = self._next_batch()
            if batch or self._unreported:
                self._write(batch)
            if last:
                return

    def _next_batch(self) -> tuple[list[tuple[dict[str, Any], "Future[None]"]], bool]:
        """What waits, at least one entry; and whether the log is to be closed."""
        batch: list[tuple[dict[str, Any], Future[None]]] = []
        entry = self._queue.get()
        while entry is not None:
            batch.append(entry)
            if len(batch) == _BATCH:
                return batch, False
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write(self, batch: "list[tuple[dict[str, Any], Future[None]]]") -> None:
        with self._dropped_lock:
            dropped, self._unreported = self._unreported, 0
        entries = [entry for entry, _ in batch]
        if dropped:
            note = {"schema": SCHEMA_VERSION, "type": "dropped", "time": now(), "count": dropped}
            entries.append(note)
        try:
            self._write_lines(entries)
        except Exception as error:  # noqa: BLE001 - whoever waits is told, and the thread lives on
            with self._dropped_lock:
                self._unreported += dropped
            fault = StorageError(f"{self._path}: the decision is not logged ({error})")
            for _, future in batch:
                _settle(future, fault)
            return
        for _, future in batch:
            _settle(future)
        if self._size >= self.options.segment_bytes:
            self._rotate()

    def _write_lines(self, entries: list[dict[str, Any]]) -> None:
        """Write and fsync lines, all or none of them."""
        seq, chain, lines = self._seq, self._chain, []
        for entry in entries:
            seq += 1
            line, chain = encode_line(entry, seq, chain)
            lines.append(line)
        content = b"".join(lines)
        try:
            view = memoryview(content)
            while view:
                view = view[self._stream.write(view) :]
            os.fsync(self._stream.fileno())
        except OSError:
            os.ftruncate(self._stream.fileno(), self._size)
            raise
        self._seq, self._chain = seq, chain
        self._size += len(content)

    def _rotate(self) -> None:
        """Go on in a new segment and compress the full one; where the disk refuses, this one goes on."""
        full, following = self._path, _segment(self.folder, int(self._path.name.partition(".")[0]) + 1)
        try:
            stream = open(following, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            _LOGGER.warning("%s: no new segment (%s); %s goes on", self.folder, error, full.name)
            return
        self._stream.close()
        self._path, self._stream, self._size = following, stream, 0
        _fsync_folder(self.folder)
        try:
            compress(full, self.options.compression)
        except StorageError as error:
            _LOGGER.warning("%s stays uncompressed: %s", full, error)


def _settle(future: "Future[None]", error: Exception | None = None) -> None:
    try:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
    except InvalidStateError:
        # Whoever waited has gone: a request that was cancelled cancels its future. The entry is on the disk all the same.
        _LOGGER.debug("nobody waits for this entry any more")


def log_key(folder: Path) -> bytes:
    """The secret of the hashes of texts: the variable MERCHANTGUARD_LOG_KEY, else the log's own file `hmac.key`, which is
    made when it is missing. Who may not try texts out must not read it."""
    if given := os.environ.get(_KEY_VARIABLE):
        return given.encode("utf-8")
    path = folder / "hmac.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        old = os.umask(0o077)
        try:
            write_text(path, secrets.token_hex(32) + "\n")
        finally:
            os.umask(old)
    return path.read_text(encoding="ascii").strip().encode("ascii")


def _lock(folder: Path) -> Any:
    stream = open(folder / "lock", "a")  # noqa: SIM115
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise LogError(f"{folder}: another process writes this log; give each its own folder") from None
    return stream


def _segment(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.jsonl"


def _last_place(folder: Path) -> tuple[Path, int, str]:
    """The segment to go on with, and the number and chain of the last line before it goes on."""
    try:
        found = segments(folder)
    except LogError:
        return _segment(folder, 1), 0, START
    _remove_replaced(folder)
    found = segments(folder)
    last = found[-1]
    if last.suffix == ".jsonl":
        _cut_torn_line(last)
    end = head(folder)
    seq, chain = end.seq or 0, end.chain
    if last.suffix == ".jsonl":
        return last, seq, chain
    return _segment(folder, int(last.name.partition(".")[0]) + 1), seq, chain


def _remove_replaced(folder: Path) -> None:
    """Remove a plain segment that stands beside its compressed form: a crash came between the two."""
    for path in folder.glob("[0-9]*.jsonl"):
        if any(path.with_name(path.name + suffix).exists() for suffix in (".zst", ".gz")):
            path.unlink()


def _cut_torn_line(path: Path) -> None:
    """Remove a last line without its end, which was never acknowledged."""
    with open(path, "rb+") as stream:
        content_end = stream.seek(0, os.SEEK_END)
        position = content_end
        tail = b""
        while position and b"\n" not in tail:
            step = min(1 << 16, position)
            position -= step
            stream.seek(position)
            tail = stream.read(step) + tail
        keep = position + tail.rfind(b"\n") + 1
        if keep != content_end:
            stream.truncate(keep)
            os.fsync(stream.fileno())


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
