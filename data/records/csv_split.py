"""Rows of comma-separated text, split so that a quote that is never closed costs its own row and not those after it."""

import csv
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_LOOK_AHEAD_LINES = 1_000
_TELLING_LINES = 3
"""So many lines in a row with the header's number of cells are rows, not a text that happens to hold commas."""


@dataclass(frozen=True, slots=True)
class CsvRow:
    """A row's lines as they are in the file and its cells; without cells, why it cannot be read."""

    lines: tuple[bytes, ...]
    cells: list[str] | None
    reason: str = ""


class _LongCells:
    """A context in which `csv` reads cells of up to `limit`.

    The limit on a cell is one for the whole process: it is set back when no row is being read, in any thread.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._readers = self._before = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._before = csv.field_size_limit()
                csv.field_size_limit(max(self._before, self._limit))
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                csv.field_size_limit(self._before)


long_cells = _LongCells(64 * 2**20)


class RowTooLong(Exception):
    """A row of CSV passed the limit."""


class _Feed:
    """Lines for `csv.reader`: those of the row at hand are kept, so that they can be read again."""

    def __init__(self, lines: Iterable[tuple[bytes, bool]], limit: int, delimiter: bytes) -> None:
        self._lines = iter(lines)
        self._delimiter = delimiter
        self._again: deque[tuple[bytes, bool]] = deque()
        self._limit = limit
        self._size = 0
        self._number = 0
        self._clear_until = 0
        self.taken: list[tuple[bytes, bool]] = []

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line, whole = self._again.popleft() if self._again else next(self._lines)
        self._number += 1
        self._size += len(line)
        self.taken.append((line, whole))
        if not whole or self._size > self._limit:
            raise RowTooLong
        return line.decode("utf-8", errors="surrogateescape")

    def next_row(self) -> None:
        """Forget the lines of the last row."""
        self._size = 0
        self.taken = []

    def give_back(self) -> None:
        """Only the first line belonged to the row: the others are read again."""
        self._again.extendleft(reversed(self.taken[1:]))
        self._number -= len(self.taken) - 1
        self.taken = self.taken[:1]

    def take_rest_of_cell(self, width: int) -> None:
        """After a row that is broken: take the lines that may belong to its text.

        If the next line with an odd number of quotes closes one, those before it lie inside the text of the broken
        row, unless each is a row by itself. If it opens one, or there is none, they are rows.
        """
        if self._number < self._clear_until:
            return
        count = rows = 0
        for count, line in enumerate(self._ahead(), start=1):
            if line.count(b'"') % 2:
                if not _opens(line, self._delimiter) and not rows == count - 1 >= _TELLING_LINES:
                    self.taken += [self._again.popleft() for _ in range(count)]
                    self._number += count
                    return
                break
            rows += line.count(self._delimiter) == width - 1 or b'"' in line
        self._clear_until = self._number + count

    def _ahead(self) -> Iterator[bytes]:
        for position in range(_LOOK_AHEAD_LINES):
            if position == len(self._again):
                following = next(self._lines, None)
                if following is None:
                    return
                self._again.append(following)
            yield self._again[position][0]


def _opens(line: bytes, delimiter: bytes) -> bool:
    """Whether the last quote of a line stands at the start of a cell."""
    before = line[: line.rindex(b'"')].rstrip(b'"')
    return not before or before.endswith(delimiter)


def split_rows(lines: Iterable[tuple[bytes, bool]], *, limit: int, delimiter: str = ",") -> Iterator[CsvRow]:
    """Yield the rows, blank ones with no cells included; a broken one has one line, or all that may lie in its text.

    :param lines: each line with its end, and whether it is whole.
    :param limit: bytes of a row; beyond, it counts as broken.
    """
    feed = _Feed(lines, limit, delimiter.encode())
    reader = csv.reader(feed, strict=True, delimiter=delimiter)
    width = 0
    while True:
        feed.next_row()
        try:
            with long_cells:
                cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, RowTooLong) as error:
            reason = _reason(error, feed.taken, limit)
            feed.give_back()
            feed.take_rest_of_cell(width)
            yield CsvRow(tuple(line for line, _ in feed.taken), None, reason)
            reader = csv.reader(feed, strict=True, delimiter=delimiter)
        else:
            width = width or len(cells)
            yield CsvRow(tuple(line for line, _ in feed.taken), cells)


def _reason(error: Exception, taken: list[tuple[bytes, bool]], limit: int) -> str:
    if isinstance(error, RowTooLong):
        open_quote = " (is a quote left open in it?)" if len(taken) > 1 else ""
        return f"the row is longer than {limit:,} bytes{open_quote}"
    open_quote = "; a quote that opens in this row is not closed in it" if len(taken) > 1 else ""
    return f"not valid CSV: {error}{open_quote}"
