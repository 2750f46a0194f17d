"""Rows from data files, one by one and in bounded memory; `record` interprets them."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ...core.display import safe_repr
from ...core.errors import RecordError
from ...core.extras import require
from .csv_split import split_rows
from .record import BODY_FIELDS
from .schema import strict_json
from .warc import LIST_SUFFIXES as WARC_LISTS
from .warc import SUFFIXES as WARC_SUFFIXES

SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
READ_ONLY_SUFFIXES = (*WARC_SUFFIXES, *WARC_LISTS)
"""Crawls are read, not written."""
MAX_LINE_BYTES = 64 * 2**20
"""A longer line of JSON or row of CSV is refused, and never held in memory as a whole."""

PARQUET_BATCH_ROWS = 64
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet would run a cell that begins with one of these; in CSV an apostrophe is put before it."""

_RAW_BYTES = 40_000
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it is in the file: its fields, or the reason why it cannot be read.

    `number` counts as a person would: lines of JSONL, rows of a spreadsheet (the header is row 1), rows of
    a Parquet table from 1.
    """

    number: int
    fields: Mapping[str, Any] | None
    raw: bytes | str | Mapping[str, Any]
    reason: str = ""

    def raw_text(self, limit: int) -> str:
        """Return the row as text, cut to `limit` characters, for a person to look at."""
        if isinstance(self.raw, Mapping):
            return json.dumps(dict(self.raw), ensure_ascii=False, default=str)[:limit]
        if isinstance(self.raw, bytes):
            return self.raw[: 4 * limit].decode("utf-8", errors="backslashreplace")[:limit]
        return self.raw[:limit]


def check_path(path: Path) -> str:
    """Return the suffix of `path`, which decides how it is read.

    :raises RecordError: if there is no such file, it is empty, or no kind of file has such a suffix.
    """
    known = (*SUFFIXES, *READ_ONLY_SUFFIXES)
    suffix = next((suffix for suffix in known if path.name.lower().endswith(suffix)), None)
    if path.is_dir():
        raise RecordError(f"{path}: is a folder; give the data files in it")
    if suffix is None:
        raise RecordError(f"{path}: unknown kind of file; rename or convert it to one of {', '.join(known)}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if size == 0:
        raise RecordError(f"{path}: is empty; give a file with at least one record")
    return suffix


OnColumns = Callable[[list[str]], None]
"""Is given the column names of a table before its first row."""


def open_rows(
    path: Path,
    *,
    body: bool = True,
    on_columns: OnColumns | None = None,
    delimiter: str = ",",
    labels: str = "labels",
) -> Iterator[RawRow]:
    """Yield the rows of a data file; a row that cannot be read comes with the reason.

    :param body: False: the rows are not records but refer to them, and need only an id.
    :param on_columns: takes the place of the check that a table has the columns of a record.
    :param delimiter: between the cells of CSV.
    :param labels: the column of CSV whose empty cells are empty lists.
    :raises RecordError: if the file as a whole cannot be used: damaged, truncated, without rows or without
        the columns that a record needs; or a crawl, whose files are read together by `warc_sites`.
    """
    suffix = check_path(path)
    if suffix in READ_ONLY_SUFFIXES:
        raise RecordError(f"{path}: a crawl has no rows to refer to; give one of {', '.join(SUFFIXES)}")
    empty = True

    def check(columns: list[str]) -> None:
        _check_columns(columns, name=str(path), body=body)

    checked = on_columns or check
    csv = partial(csv_rows, on_columns=checked, delimiter=delimiter, labels=labels)
    table = suffix == ".parquet"
    try:
        for row in _parquet_rows(path, checked) if table else _stream_rows(path, suffix, csv):
            empty = False
            yield row
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RecordError(f"{path}: damaged or truncated ({error}); download or write it again") from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror or error})") from error
    if empty:
        raise RecordError(f"{path}: holds no rows; give a file with at least one record")


def _stream_rows(path: Path, suffix: str, csv: Callable[..., Iterator[RawRow]]) -> Iterator[RawRow]:
    with gzip.open(path, "rb") if suffix.endswith(".gz") else open(path, "rb") as stream:
        if suffix.startswith(".csv"):
            yield from csv(stream, name=str(path))
        else:
            yield from jsonl_rows(stream, name=str(path))


def jsonl_rows(stream: BinaryIO | gzip.GzipFile, *, name: str) -> Iterator[RawRow]:
    """Yield the rows of JSON lines; blank lines are skipped.

    :raises RecordError: if the text is UTF-16.
    """
    for number, (line, whole) in enumerate(_lines(stream, name=name), start=1):
        if not whole:
            yield RawRow(number, None, line, f"the line is longer than {MAX_LINE_BYTES:,} bytes")
        elif line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: bytes) -> RawRow:
    if b"\0" in line:
        return RawRow(number, None, line, "the line holds a NUL byte")
    if line.startswith(_UTF8_BOM):
        return RawRow(number, None, line, "the line begins with a byte-order mark; remove it")
    try:
        value = strict_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return RawRow(number, None, line, f"not valid UTF-8 at byte {error.start + 1}")
    except ValueError as error:
        return RawRow(number, None, line, f"not valid JSON: {error}")
    if not isinstance(value, dict):
        return RawRow(number, None, line, f"{safe_repr(value)} is not a JSON object")
    return RawRow(number, value, line)


def _lines(stream: BinaryIO | gzip.GzipFile, *, name: str) -> Iterator[tuple[bytes, bool]]:
    """Yield each line and whether it is whole; of a line that is too long, only the beginning."""
    first = True
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if first:
            if line.startswith(_UTF16_BOMS):
                raise RecordError(f"{name}: is UTF-16; save it as UTF-8")
            line = line.removeprefix(_UTF8_BOM)  # Windows editors put one at the start of a file
            first = False
        whole = len(line) <= MAX_LINE_BYTES or line.endswith(b"\n")
        if not whole:
            while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            line = line[:10_000]
        yield line, whole


def csv_rows(
    stream: BinaryIO | gzip.GzipFile,
    *,
    name: str,
    on_columns: OnColumns,
    delimiter: str = ",",
    labels: str = "labels",
) -> Iterator[RawRow]:
    """Yield the rows of comma-separated text with a header; an empty cell is an absent field.

    An empty cell of `labels` is an empty list, since a table has no other way to write one: mark an
    unlabelled row with "*" in the column `unknown`. An apostrophe before one of `FORMULA_STARTS` at
    the start of a cell is removed, since `write_records` puts it there. A quote that is never closed costs
    its row, not those after it: see `csv_split`.

    :raises RecordError: whatever `on_columns` raises.
    """
    header: list[str] | None = None
    rows = split_rows(_lines(stream, name=name), limit=MAX_LINE_BYTES, delimiter=delimiter)
    for number, row in enumerate(rows, start=1):
        raw = b"".join(row.lines)[:_RAW_BYTES].decode("utf-8", errors="surrogateescape")
        if row.cells is None:
            yield RawRow(number, None, _escaped(raw), row.reason)
        elif header is None:
            header = [cell.strip() for cell in row.cells]
            on_columns(header)
        elif row.cells:
            yield _csv_row(number, row.cells, header=header, raw=raw, labels=labels)


def _csv_row(number: int, cells: list[str], *, header: list[str], raw: str, labels: str) -> RawRow:
    if len(cells) != len(header):
        return RawRow(number, None, raw, f"{len(cells)} cells, but the header has {len(header)}")
    if not _encodes(cells):
        return RawRow(number, None, _escaped(raw), "not valid UTF-8")
    if any("\0" in cell for cell in cells):
        return RawRow(number, None, raw, "the row holds a NUL byte")
    fields = {
        column: _without_apostrophe(cell)
        for column, cell in zip(header, cells, strict=True)
        if column and (cell or column == labels)
    }
    return RawRow(number, fields, raw)


def _encodes(cells: list[str]) -> bool:
    """Whether all bytes were UTF-8; others have become lone surrogates."""
    try:
        for cell in cells:
            cell.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _escaped(raw: str) -> str:
    return raw.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")


def _without_apostrophe(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA_STARTS) else cell


def _check_columns(columns: list[str], *, name: str, body: bool) -> None:
    listed = safe_repr(", ".join(columns), limit=200)
    if len(set(columns)) < len(columns):
        raise RecordError(f"{name}: a column name is given twice among {listed}; rename one")
    needs = (("id", ("id",)), (", ".join(BODY_FIELDS), BODY_FIELDS))
    for needed, candidates in needs if body else needs[:1]:
        if not any(column in candidates for column in columns):
            hint = " (is it comma-separated?)" if len(columns) == 1 else ""
            some = "has no column" if len(candidates) == 1 else "has none of the columns"
            raise RecordError(
                f"{name}: {some} {needed}{hint}; it has {listed}: rename or add one, or let `merchantguard check FILE "
                f"--map {candidates[0]}=COLUMN --to records.jsonl` do it"
            )


def _parquet_rows(path: Path, on_columns: OnColumns) -> Iterator[RawRow]:
    parquet = require("pyarrow.parquet", "cli")
    arrow = require("pyarrow", "cli")
    try:
        with parquet.ParquetFile(path) as file:
            on_columns(list(file.schema_arrow.names))
            number = 1
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                yield from _batch_rows(batch, first=number)
                number += batch.num_rows
    except (arrow.ArrowException, OSError) as error:
        raise RecordError(
            f"{path}: damaged or truncated ({safe_repr(str(error), limit=200)}); download or write it again"
        ) from error


def _batch_rows(batch: Any, *, first: int) -> Iterator[RawRow]:
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # one bad cell spoils the batch: find its row
        for offset in range(batch.num_rows):
            try:
                row = batch.slice(offset, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                yield RawRow(first + offset, None, "", f"a cell cannot be read: {error}")
            else:
                yield RawRow(first + offset, row, row)
        return
    for offset, row in enumerate(rows):
        yield RawRow(first + offset, row, row)
