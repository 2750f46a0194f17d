"""Records from data files; every row that breaks the contract is named, counted and set aside."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from ...core.display import safe_repr
from ...core.errors import RecordError
from ...core.files import atomic_path, sha256_file
from ..taxonomy import Taxonomy
from .mapping import ColumnMapping, mapped_rows
from .record import Record, record_from
from .rows import RawRow, check_path, jsonl_rows, open_rows
from .warc import Outcomes, is_warc
from .warc_sites import site_rows
from .writers import write_records

__all__ = [
    "RecordSet",
    "RowFault",
    "iter_records",
    "iter_stream",
    "read_records",
    "rejects_file",
    "write_records",
]

MAX_RAW_CHARACTERS = 2_000
"""How much of a bad row goes into the rejects file."""


@dataclass(frozen=True, slots=True)
class RowFault:
    """A row that cannot be used, and why."""

    file: str
    row: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}: {self.reason}"


OnFault = Callable[[RowFault, str], None]
"""Handles a bad row, given the fault and the row's first `MAX_RAW_CHARACTERS` characters."""


@dataclass(slots=True)
class RecordSet:
    """The result of reading: good records, faults of the others, and SHA-256 per file."""

    records: list[Record] = field(default_factory=list)
    faults: list[RowFault] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


def read_records(
    paths: Sequence[Path],
    taxonomy: Taxonomy | None,
    *,
    strict: bool = False,
    rejects: Path | None = None,
    mapping: ColumnMapping | None = None,
) -> RecordSet:
    """Read whole files into memory.

    :param strict: stop at the first bad row instead of going on without it.
    :param rejects: a JSONL file that gets file, row, reason and raw row of each bad row; it is written
        even if there is none, so that it always describes the last reading.
    :param mapping: other names for the columns of tables and lines of JSON.
    :raises RecordError: if a file cannot be used, or, when strict, at the first bad row.
    """
    result = RecordSet()
    with rejects_file(rejects) if rejects is not None else nullcontext(_ignore) as keep:

        def on_fault(fault: RowFault, raw: str) -> None:
            if strict:
                raise RecordError(str(fault))
            result.faults.append(fault)
            keep(fault, raw)

        result.records.extend(iter_records(paths, taxonomy, on_fault=on_fault, mapping=mapping))
    result.files = {str(path): sha256_file(path) for path in paths}
    return result


def iter_records(
    paths: Sequence[Path],
    taxonomy: Taxonomy | None,
    *,
    on_fault: OnFault,
    unique_ids: bool = True,
    outcomes: Outcomes | None = None,
    mapping: ColumnMapping | None = None,
) -> Iterator[Record]:
    """Yield the good records of the files in order; memory grows by 16 bytes of hash for each id.

    WARC files that follow one another are read together: a record is a registered domain with its newest pages.

    :param unique_ids: a row whose id an earlier one had is bad; False: it is as good as any.
    :param outcomes: counts what became of each record of WARC files.
    :param mapping: other names for the columns of tables and lines of JSON.
    :raises RecordError: at once if a file is missing, empty, of an unknown kind or given twice; while
        reading if one is damaged.
    """
    if not paths:
        raise RecordError("no data file is given; name at least one")
    first_names: dict[Path, Path] = {}
    for path in map(Path, paths):
        check_path(path)
        if (resolved := path.resolve()) in first_names:
            raise RecordError(f"{path}: is given twice (also as {first_names[resolved]}); name it once")
        first_names[resolved] = path
    seen = set[bytes]() if unique_ids else None
    counted = Outcomes() if outcomes is None else outcomes
    files = list(first_names.values())
    return _iter_files(files, taxonomy, on_fault=on_fault, seen=seen, outcomes=counted, mapping=mapping)


def iter_stream(
    stream: BinaryIO,
    taxonomy: Taxonomy | None,
    *,
    name: str = "<stdin>",
    on_fault: OnFault,
    unique_ids: bool = True,
) -> Iterator[Record]:
    """Yield the good records of a stream of JSON lines, as `iter_records` does for files."""
    seen = set[bytes]() if unique_ids else None
    return _good_records(name, jsonl_rows(stream, name=name), taxonomy, on_fault=on_fault, seen=seen)


@contextmanager
def rejects_file(path: Path) -> Iterator[OnFault]:
    """Yield a function that writes a bad row to a JSONL file; the file appears once all rows are written.

    :raises StorageError: if it cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", errors="replace") as stream:

        def keep(fault: RowFault, raw: str) -> None:
            stream.write(json.dumps({**asdict(fault), "raw": raw}, ensure_ascii=False) + "\n")

        yield keep
        stream.flush()


def _ignore(fault: RowFault, raw: str) -> None:
    """Write nothing: the caller has the bad row in the list of faults."""


def _iter_files(
    paths: Sequence[Path],
    taxonomy: Taxonomy | None,
    *,
    on_fault: OnFault,
    seen: set[bytes] | None,
    outcomes: Outcomes,
    mapping: ColumnMapping | None,
) -> Iterator[Record]:
    for crawl, group in groupby(paths, key=is_warc):
        if crawl:
            rows = _crawl_rows(list(group), outcomes, on_fault)
            yield from _good_records("crawl", rows, taxonomy, on_fault=on_fault, seen=seen)
            continue
        for path in group:
            rows = open_rows(path) if mapping is None else mapped_rows(path, mapping)
            yield from _good_records(str(path), rows, taxonomy, on_fault=on_fault, seen=seen)


def _crawl_rows(paths: Sequence[Path], outcomes: Outcomes, on_fault: OnFault) -> Iterator[RawRow]:
    def on_damage(file: str, number: int, reason: str) -> None:
        on_fault(RowFault(file, number, reason), "")

    for number, fields in enumerate(site_rows(paths, outcomes, on_damage), start=1):
        yield RawRow(number, fields, fields)


def _good_records(
    name: str,
    rows: Iterator[RawRow],
    taxonomy: Taxonomy | None,
    *,
    on_fault: OnFault,
    seen: set[bytes] | None,
) -> Iterator[Record]:
    for row in rows:
        try:
            record = _checked(row, taxonomy, seen=seen)
        except RecordError as error:
            on_fault(RowFault(name, row.number, str(error)), row.raw_text(MAX_RAW_CHARACTERS))
        else:
            yield record


def _checked(row: RawRow, taxonomy: Taxonomy | None, *, seen: set[bytes] | None) -> Record:
    """Build the record and note its id.

    :raises RecordError: with the reason why the row cannot be used.
    """
    if row.fields is None:
        raise RecordError(row.reason)
    record = record_from(row.fields, taxonomy)
    if seen is None:
        return record
    key = hashlib.blake2b(record.id.encode("utf-8"), digest_size=16).digest()
    if key in seen:
        raise RecordError(f"id: {safe_repr(record.id)} was already the id of an earlier row")
    seen.add(key)
    return record
