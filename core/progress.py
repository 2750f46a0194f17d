"""Progress of long work on standard error: a bar on a terminal, a line every half minute in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Protocol, TextIO

SECONDS = 30.0
"""Time between two lines where there is no terminal."""


class Update(Protocol):
    """Reports progress."""

    def __call__(self, done: int, status: str = "") -> None:
        """Report that `done` units are finished in all, with a few words on where the work is."""


@contextmanager
def progress(
    description: str,
    *,
    total: int | None = None,
    done: int = 0,
    shown: bool = True,
    keep: bool = False,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Update]:
    """Show the progress of the work in the block, which calls what this yields.

    :param total: units of work in all, None if it is not known.
    :param done: units that an earlier, interrupted run finished.
    :param shown: False shows nothing, e.g. in all processes but one.
    :param keep: leave the finished bar on the terminal.
    :param stream: where to; standard error by default.
    :param clock: seconds since any fixed time.
    """
    stream = stream or sys.stderr
    if not shown:
        yield _ignore
    elif stream.isatty() and find_spec("rich"):
        with _bar(description, total, done, keep, stream) as update:
            yield update
    else:
        yield _Lines(description, total, done, stream, clock)


class _Lines:
    """Writes a line at most every `SECONDS`."""

    def __init__(
        self, description: str, total: int | None, done: int, stream: TextIO, clock: Callable[[], float]
    ) -> None:
        self._description, self._total, self._first = description, total, done
        self._stream, self._clock = stream, clock
        self._began = self._last = clock()

    def __call__(self, done: int, status: str = "") -> None:
        now = self._clock()
        if now - self._last < SECONDS:
            return
        self._last = now
        line = f"{self._description}: {', '.join(self._parts(done, status, now - self._began))}"
        print(line, file=self._stream, flush=True)

    def _parts(self, done: int, status: str, seconds: float) -> Iterator[str]:
        yield f"{done:,}" if self._total is None else f"{done:,}/{self._total:,}"
        if status:
            yield status
        if self._total is None:
            yield f"{_duration(seconds)} so far"
        elif done > self._first:
            yield f"{_duration(seconds * (self._total - done) / (done - self._first))} left"


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


@contextmanager
def _bar(description: str, total: int | None, done: int, keep: bool, stream: TextIO) -> Iterator[Update]:
    # rich comes with an extra, and takes a while to import: only a terminal needs it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    count = TextColumn("{task.completed:,}" if total is None else "{task.completed:,}/{task.total:,}")
    clock = TimeElapsedColumn() if total is None else TimeRemainingColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), count, clock)
    with Progress(*columns, console=Console(file=stream), transient=not keep) as bar:
        task = bar.add_task(description, total=total, completed=done)
        yield lambda done, status="": bar.update(
            task, completed=done, description=f"{description}: {status}" if status else description
        )


def _ignore(done: int, status: str = "") -> None:
    """Show nothing."""
