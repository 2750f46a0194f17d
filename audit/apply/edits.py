"""Writing new labels into data files: only the rows that change are rewritten, all other bytes stay the same.

Parquet stores columns, not rows: there the label columns are rewritten, and all others keep their types.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import IO, Any

from ...core.display import safe_repr
from ...core.errors import AuditError, RecordError
from ...core.extras import require
from ...data.records.csv_split import split_rows
from ...data.records.record import Record, record_from
from ...data.records.rows import MAX_LINE_BYTES, check_path, open_rows
from ...data.records.schema import ALL_OTHERS, from_json_text, strict_json
from ...data.records.writers import csv_cell, json_line
from ...data.taxonomy import Taxonomy
from .provenance import Change, changes_by_record

AUDIT = "audit"
"""The field of a changed record that says what was changed, and who decided it."""

Rows = Mapping[int, Mapping[str, Any]]
"""Number of a row, counted as the readers do -> its new fields."""

_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Edits:
    """The changes of all files by record; `seen` collects the ids of the records found in them."""

    by_record: Mapping[str, Sequence[Change]]
    taxonomy: Taxonomy
    seen: set[str] = field(default_factory=set)

    def rows(self, path: Path) -> Rows:
        """The changed rows of a file; a new value None removes the field."""
        found = {}
        for row in open_rows(path):
            if row.fields is None or (number := str(row.fields.get("id"))) not in self.by_record:
                continue
            try:
                record = record_from(row.fields, self.taxonomy)
            except RecordError:
                continue  # a bad row is not a record; a good one may have the same id
            if record.id not in self.seen:
                self.seen.add(record.id)
                place = f"{path}, row {row.number}"
                found[row.number] = _new_fields(record, row.fields, self.by_record[number], place)
        return found


def write_edited(source: Path, target: Path, edits: Edits) -> int:
    """Write `source` with its changes to `target` and return the number of changed rows; without any nothing is written.

    :raises AuditError: if a changed row cannot be written.
    """
    rows = edits.rows(source)
    if not rows:
        return 0
    suffix = check_path(source)
    if suffix == ".parquet":
        _edit_parquet(source, target, rows)
        return len(rows)
    edit = _edit_csv if suffix.startswith(".csv") else _edit_jsonl
    packed = suffix.endswith(".gz")
    with gzip.open(source, "rb") if packed else open(source, "rb") as old, open(target, "wb") as raw:
        if not packed:
            edit(old, raw, rows, source)
        else:
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as new:
                edit(old, new, rows, source)
    return len(rows)


def new_labels(
    record: Record, changes: Sequence[Change]
) -> tuple[list[str], list[str], dict[str, tuple[str, ...]]]:
    """Labels, unknown policies and evidence of a record after its changes."""
    decided = {change.policy: change.new for change in changes}
    labels = [policy for policy in record.labels if decided.get(policy, True)]
    labels += [policy for policy, holds in decided.items() if holds and policy not in labels]
    unknown = [policy for policy in record.unknown if policy not in decided]
    evidence = {policy: quotes for policy, quotes in record.evidence.items() if policy in labels}
    return labels, unknown, evidence


def _new_fields(
    record: Record, fields: Mapping[str, Any], changes: Sequence[Change], place: str
) -> dict[str, Any]:
    labels, unknown, evidence = new_labels(record, changes)
    new: dict[str, Any] = {"labels": labels}
    if unknown or fields.get("unknown") is not None:
        new["unknown"] = unknown
    if evidence != record.evidence:
        new["evidence"] = {policy: list(quotes) for policy, quotes in evidence.items()} or None
    earlier = from_json_text(AUDIT, fields[AUDIT]) if fields.get(AUDIT) is not None else []
    if not isinstance(earlier, list):
        raise AuditError(
            f"{place}: the field `{AUDIT}` contains {safe_repr(earlier)}, not the changes of an audit; rename it in the data"
        )
    return new | {AUDIT: [*earlier, *(change.in_record() for change in changes)]}


def _edit_jsonl(old: Any, new: Any, rows: Rows, source: Path) -> None:
    for number, line in enumerate(old, start=1):
        if number not in rows:
            new.write(line)
            continue
        start = _BOM if number == 1 and line.startswith(_BOM) else b""
        fields = strict_json(line[len(start) :].decode("utf-8")) | rows[number]
        kept = {key: value for key, value in fields.items() if value is not None or key not in rows[number]}
        try:
            text = json_line(kept)
        except ValueError as error:
            raise AuditError(f"{source}, row {number}: cannot be rewritten ({error}); correct it") from error
        new.write(start + text + line[len(line.rstrip(b"\r\n")) :])


def _edit_csv(old: Any, new: Any, rows: Rows, source: Path) -> None:
    """Columns that the changes need are added on the right; other rows get empty cells there."""
    columns: list[str] = []
    added: list[str] = []
    for number, (raw, cells) in enumerate(_csv_rows(old), start=1):
        text, end = raw.rstrip(b"\r\n"), raw[len(raw.rstrip(b"\r\n")) :]
        if not columns and cells:
            columns = [cell.strip() for cell in cells]
            needed = dict.fromkeys(key for fields in rows.values() for key in fields)
            added = [key for key in needed if key not in columns]
            if "labels" in added and "unknown" not in columns:
                added = list(dict.fromkeys([*added, "unknown"]))
            new.write(text + "".join(f",{key}" for key in added).encode() + end)
        elif number in rows:
            if len(cells) != len(columns):
                raise AuditError(f"{source}, row {number}: cannot be located; is a quote left open above it?")
            _write_csv_row(new, columns, added, cells, rows[number], end)
        elif not added or len(cells) != len(columns):  # an unreadable row stays as it is
            new.write(raw)
        elif "labels" in added:  # an empty label cell would turn an unlabelled row into a compliant one
            _write_csv_row(new, columns, added, cells, {"unknown": [ALL_OTHERS]}, end)
        else:
            new.write(text + b"," * len(added) + end)


def _write_csv_row(
    new: Any,
    columns: Sequence[str],
    added: Sequence[str],
    cells: Sequence[str],
    fields: Mapping[str, Any],
    end: bytes,
) -> None:
    known = dict(zip(columns, cells, strict=True))
    row = [csv_cell(key, fields[key]) if key in fields else known.get(key, "") for key in (*columns, *added)]
    line = io.StringIO(newline="")
    csv.writer(line).writerow(row)
    new.write(line.getvalue().removesuffix("\r\n").encode("utf-8", errors="surrogateescape") + end)


def _csv_rows(stream: IO[bytes]) -> Iterator[tuple[bytes, list[str]]]:
    """The bytes of each row, including its line end, and its cells; no cells if the row is not valid."""
    first = stream.readline()
    mark = _BOM if first.startswith(_BOM) else b""
    lines = (
        (line, len(line) <= MAX_LINE_BYTES + line.endswith(b"\n"))
        for line in chain([first.removeprefix(_BOM)], stream)
    )
    for row in split_rows(lines, limit=MAX_LINE_BYTES):
        yield mark + b"".join(row.lines), row.cells or []
        mark = b""


def _edit_parquet(source: Path, target: Path, rows: Rows) -> None:
    parquet = require("pyarrow.parquet", "cli")
    with parquet.ParquetFile(source) as file:
        table = file.read()
        codec = file.metadata.row_group(0).column(0).compression
    metadata = table.schema.metadata
    for key in dict.fromkeys(key for fields in rows.values() for key in fields):
        old = table[key].to_pylist() if key in table.column_names else [None] * len(table)
        for number, fields in rows.items():
            if key in fields:
                old[number - 1] = fields[key]
        table = _with_column(table, key, old, source)
    codec = "NONE" if codec == "UNCOMPRESSED" else codec  # this codec has two names
    parquet.write_table(table.replace_schema_metadata(metadata), target, compression=codec)


def _with_column(table: Any, key: str, values: list[Any], source: Path) -> Any:
    """The table with the column: in its existing type, or if new as a list of ids or JSON text."""
    arrow = require("pyarrow", "cli")
    place = table.schema.get_field_index(key)
    kind = table.schema.field(place).type if place >= 0 else None
    if kind is None or arrow.types.is_null(kind):
        kind = arrow.list_(arrow.string()) if key in ("labels", "unknown") else arrow.string()
    if arrow.types.is_string(kind) or arrow.types.is_large_string(kind):
        values = [_table_text(key, value) for value in values]
    elif arrow.types.is_map(kind):
        values = [list(value.items()) if isinstance(value, dict) else value for value in values]
    try:
        column = arrow.array(values, type=kind)
    except arrow.ArrowException as error:
        raise AuditError(
            f"{source}: the column {safe_repr(key)} cannot store the changes ({error})"
        ) from error
    if place < 0:
        return table.append_column(key, column)
    return table.set_column(
        place, arrow.field(key, kind, metadata=table.schema.field(place).metadata), column
    )


def _table_text(key: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return ";".join(value) if key in ("labels", "unknown") else json.dumps(value, ensure_ascii=False)


def relabelled(records: Sequence[Record], changes: Sequence[Change]) -> list[Record]:
    """The records with the changes, as in the applied files but without the field `audit`."""
    by_record = changes_by_record(changes)
    result = []
    for record in records:
        labels, unknown, evidence = new_labels(record, by_record.get(record.id, ()))
        result.append(replace(record, labels=tuple(labels), unknown=tuple(unknown), evidence=evidence))
    return result
