"""Writing results as JSON lines, Parquet (nested, and flat) or CSV (flat)."""

import csv
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ...core.errors import StorageError
from ...core.extras import require
from ...core.files import atomic_path
from ...data.records.writers import csv_cell
from ..bulk.flat import flat_schema, flatten
from ..bulk.rows import FindingRow, ResultRow, SpanRow, WindowRow, single
from ..bulk.schema import result_schema, rows_to_table

__all__ = [
    "FindingRow",
    "ResultRow",
    "SpanRow",
    "WindowRow",
    "check_out",
    "join_parts",
    "part_suffix",
    "write_lines",
    "write_part",
]

SUFFIXES = (".jsonl", ".parquet", ".csv")


def check_out(out: Path | None, *, flat: bool) -> None:
    """Check that results can be written so.

    :raises StorageError: if the suffix is not known, or flat results are asked for without tables.
    """
    if out is not None and out.suffix not in SUFFIXES:
        raise StorageError(f"{out}: results are written as {', '.join(SUFFIXES)}, by the file's suffix")
    if out is not None and out.is_dir():
        raise StorageError(f"{out}: is a folder; name a file")
    if flat and (out is None or out.suffix != ".parquet"):
        raise StorageError(
            f"--flat writes a second table beside a Parquet file: --out results.parquet, not {out or 'standard output'}"
        )


def flat_path(out: Path) -> Path:
    """The flat table beside nested results."""
    return out.with_name(f"{out.stem}.flat.parquet")


def part_suffix(out: Path) -> str:
    """The suffix of a file's parts: a CSV is made from nested tables."""
    return ".jsonl" if out.suffix == ".jsonl" else ".parquet"


def write_part(path: Path, rows: Sequence[ResultRow], columns: Sequence[str]) -> None:
    """Write rows to a part file, completely or not at all."""
    with atomic_path(path) as temporary:
        if path.suffix == ".jsonl":
            with open(temporary, "wb") as stream:
                write_lines(stream, rows)
        else:
            require("pyarrow.parquet", "cli").write_table(
                rows_to_table(rows, result_schema(columns)), temporary
            )


def write_lines(stream: IO[bytes], rows: Sequence[ResultRow]) -> None:
    """Write rows as JSON lines; half a surrogate pair, which has no UTF-8, as JSON's escape \\udXXX."""
    for row in rows:
        line = json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False)
        stream.write(line.encode("utf-8", "backslashreplace") + b"\n")


def write_stdout(rows: Sequence[ResultRow]) -> None:
    """Write rows to standard output at once: somebody may wait for them."""
    write_lines(sys.stdout.buffer, rows)
    sys.stdout.buffer.flush()


def join_parts(
    parts: Sequence[Path], out: Path, columns: Sequence[str], policies: Sequence[str], *, flat: bool
) -> list[Path]:
    """Join part files into `out`, and with `flat` into a flat table beside it; returns what was written."""
    if out.suffix == ".jsonl":
        with atomic_path(out) as temporary, open(temporary, "wb") as stream:
            for part in parts:
                with open(part, "rb") as opened:
                    shutil.copyfileobj(opened, stream)
        return [out]
    schema = result_schema(columns)
    if out.suffix == ".csv":
        _write_csv(out, parts, schema, policies)
        return [out]
    _write_parquet(out, schema, _tables(parts, schema))
    if not flat:
        return [out]
    tables = (flatten(table, policies) for table in _tables(parts, schema))
    _write_parquet(flat_path(out), flat_schema(schema, policies), tables)
    return [out, flat_path(out)]


def _tables(parts: Sequence[Path], schema: Any) -> Iterator[Any]:
    parquet = require("pyarrow.parquet", "cli")
    return (parquet.read_table(part, schema=schema) for part in parts)


def _write_parquet(path: Path, schema: Any, tables: Iterator[Any]) -> None:
    parquet = require("pyarrow.parquet", "cli")
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for table in tables:
            writer.write_table(table)


def _write_csv(path: Path, parts: Sequence[Path], schema: Any, policies: Sequence[str]) -> None:
    """A spreadsheet opens it: a cell that it would run as a formula gets an apostrophe in front."""
    names = flat_schema(schema, policies).names
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([csv_cell("", name) for name in names])
        for table in _tables(parts, schema):
            for row in flatten(table, policies).to_pylist():
                writer.writerow([csv_cell(name, _short(row[name])) for name in names])


def _short(value: Any) -> Any:
    """A probability in as few digits as tell its 32 bits; any other value as it is."""
    return single(value) if isinstance(value, float) else value
