"""Rows and records to data files that the readers can read back, written completely or not at all."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import IO, Any

from ...core.errors import RecordError
from ...core.extras import require
from ...core.files import atomic_path
from .record import Record, record_to_row
from .rows import FORMULA_STARTS, SUFFIXES
from .schema import ALL_OTHERS

_ID_LISTS = ("labels", "unknown")
_ALWAYS_JSON = ("evidence", "pages")


def write_records(records: Iterable[Record | Mapping[str, Any]], path: Path) -> int:
    """Write records, or rows of any fields, in the format that the suffix of `path` names.

    JSON lines are streamed. CSV and Parquet need all rows in memory to know their columns; nested values other
    than lists of labels become JSON text, and half surrogate pairs (in CSV also NUL), which they cannot hold, "?".

    :return: the number of rows.
    :raises RecordError: if the suffix is not one of `SUFFIXES`.
    :raises StorageError: if the file cannot be written.
    """
    path = Path(path)
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise RecordError(f"{path}: unknown kind of file; use one of {', '.join(SUFFIXES)}")
    rows = (record_to_row(record) if isinstance(record, Record) else record for record in records)
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            return _write_parquet(list(rows), temporary)
        with open(temporary, "wb") as raw:
            if not suffix.endswith(".gz"):
                return _write_text(rows, raw, table=suffix.startswith(".csv"))
            # Without a name and a time, equal rows give equal bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                return _write_text(rows, packed, table=suffix.startswith(".csv"))


def _write_text(rows: Iterable[Mapping[str, Any]], stream: Any, *, table: bool) -> int:
    return _write_csv(list(rows), stream) if table else _write_jsonl(rows, stream)


def _write_jsonl(rows: Iterable[Mapping[str, Any]], stream: IO[bytes]) -> int:
    count = 0
    for row in rows:
        stream.write(json_line(row) + b"\n")
        count += 1
    return count


def json_line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of JSON, without its end.

    :raises ValueError: if a number is not finite.
    """
    try:
        return _json(dict(row)).encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair: JSON can hold it only as an escape
        return _json(dict(row), ascii_only=True).encode("ascii")


def _write_csv(rows: Sequence[Mapping[str, Any]], stream: Any) -> int:
    rows, columns = _with_columns(rows)
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow([_defused(_storable(column, nul="?")) for column in columns])
    for row in rows:
        writer.writerow([csv_cell(column, row.get(column)) for column in columns])
    text.detach()
    return len(rows)


def _with_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows and the union of their fields, in order of appearance.

    A row without labels among others that have some gets "*" as unknown: its empty cell would otherwise
    be read as an empty list, that is, as compliant.
    """
    plain = [dict(row) for row in rows]
    if any(row.get("labels") is not None for row in plain):
        for row in plain:
            if row.get("labels") is None:
                row["unknown"] = [ALL_OTHERS]
    return plain, list(dict.fromkeys(column for row in plain for column in row))


def csv_cell(column: str, value: Any) -> str:
    """Return a cell's text; one that a spreadsheet would run as a formula gets an apostrophe in front."""
    value = _storable(value, nul="?")
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    if column in _ID_LISTS and isinstance(value, list | tuple):
        plain = not any(item != item.strip() or set(item) & set(";|[") for item in value)
        value = ";".join(value) if plain else _json(list(value))
    return _defused(value if isinstance(value, str) else _json(value))


def _defused(cell: str) -> str:
    return f"'{cell}" if cell.lstrip("'").startswith(FORMULA_STARTS) else cell


def _write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> int:
    parquet = require("pyarrow.parquet", "cli")
    arrow = require("pyarrow", "cli")
    plain, columns = _with_columns(rows)
    arrays = {column: _array(arrow, column, [row.get(column) for row in plain]) for column in columns}
    parquet.write_table(arrow.table(arrays), path)
    return len(rows)


def _array(arrow: Any, column: str, values: list[Any]) -> Any:
    values = [_storable(value) for value in values]
    if column in _ID_LISTS:
        return arrow.array(values, type=arrow.list_(arrow.string()))
    nested = column in _ALWAYS_JSON or any(isinstance(value, dict | list | tuple) for value in values)
    if not nested:
        try:
            return arrow.array(values)
        except (arrow.ArrowException, OverflowError):  # numbers and text in one column
            pass
    texts = [value if value is None or isinstance(value, str) else _json(value) for value in values]
    return arrow.array(texts, type=arrow.string())


def _storable(value: Any, *, nul: str = "\0") -> Any:
    """Return the value with "?" for each half of a surrogate pair, and `nul` for NUL, at any depth."""
    if isinstance(value, str):
        return value.encode("utf-8", errors="replace").decode("utf-8").replace("\0", nul)
    if isinstance(value, Mapping):
        return {_storable(key, nul=nul): _storable(item, nul=nul) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item, nul=nul) for item in value]
    return value


def _json(value: Any, *, ascii_only: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """Return numpy's scalars and arrays, dates and bytes as values that JSON has."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
