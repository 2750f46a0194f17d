"""The scan of an audit on disk: records and ranked cells in one SQLite file that is written once and then only read.

Answers are kept in another file (`journal.py`): a new scan may replace this one, but no answer is ever replaced.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ...core.display import safe_repr
from ...core.errors import AuditError
from ...core.files import atomic_path
from ...data.records.record import Record, record_to_row
from ...data.taxonomy import Taxonomy
from .items import Item, Reason

SCAN = "scan.db"
FORMAT = 1

_SCHEMA = """
CREATE TABLE summary (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, duplicates INTEGER NOT NULL, fields TEXT NOT NULL);
CREATE INDEX records_duplicates ON records (duplicates);
CREATE TABLE items (
  number INTEGER PRIMARY KEY, record TEXT NOT NULL, policy TEXT NOT NULL, given INTEGER NOT NULL, cause TEXT NOT NULL,
  p_label_error REAL NOT NULL, model_probability REAL NOT NULL, value REAL NOT NULL, duplicate_count INTEGER NOT NULL,
  other_policy TEXT, other_record TEXT, reasons TEXT NOT NULL, inclusion_probability REAL NOT NULL, gold_answer INTEGER);
CREATE INDEX items_value ON items (cause, value DESC, number);
CREATE INDEX items_cell ON items (record, policy);
"""
_COLUMNS = tuple(column.name for column in fields(Item))


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """Where a scan comes from and its overall figures.

    `files`: path -> SHA-256 of the data; `rejected`: bad rows among them. `probabilities` and `gold`: path -> SHA-256 of these
    files, if they were used; `folds` and `settings`: of the models, if they were trained for the scan. `wrong_positive_rate`:
    estimated share of the given positives that are wrong. `annotator_factors`: errors of each annotator over the average.
    """

    version: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    rejected: int = 0
    records: int = 0
    seed: int = 0
    probabilities: Mapping[str, str] | None = None
    gold: Mapping[str, str] | None = None
    folds: int | None = None
    settings: Mapping[str, Any] | None = None
    labelled_cells: int = 0
    wrong_positive_rate: float | None = None
    annotator_factors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it was scanned: its row in the data (from 0), the number of its near-duplicate group, and its fields."""

    row: int
    id: str
    duplicates: int
    fields: dict[str, Any]


def write_scan(
    folder: Path,
    *,
    taxonomy: Taxonomy,
    records: Sequence[Record],
    duplicates: Sequence[int],
    items: Iterable[Item],
    summary: ScanSummary,
) -> None:
    """Write the scan, completely or not at all; items are numbered from 1 in the order given.

    :param duplicates: near-duplicate group of each record.
    :raises StorageError: if it cannot be written.
    """
    marks = ", ".join("?" * (len(_COLUMNS) + 1))
    with atomic_path(Path(folder) / SCAN) as temporary, closing(sqlite3.connect(temporary)) as database:
        database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
        facts = {"format": FORMAT, "taxonomy": taxonomy.to_json(), **asdict(summary)}
        database.executemany(
            "INSERT INTO summary VALUES (?, ?)", ((key, json.dumps(value)) for key, value in facts.items())
        )
        database.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", _record_rows(records, duplicates))
        database.executemany(
            f"INSERT INTO items VALUES ({marks})",
            ((number, *_values(item)) for number, item in enumerate(items, start=1)),
        )
        database.commit()


def _record_rows(records: Sequence[Record], duplicates: Sequence[int]) -> Iterator[tuple[int, str, int, str]]:
    for row, (record, group) in enumerate(zip(records, duplicates, strict=True)):
        # ASCII escapes keep lone surrogates, which SQLite's UTF-8 cannot. Extra fields of Parquet may be dates and the like.
        yield row, record.id, int(group), json.dumps(record_to_row(record), default=str)


def _values(item: Item) -> list[Any]:
    values = asdict(item) | {"reasons": json.dumps([asdict(reason) for reason in item.reasons])}
    return [values[column] for column in _COLUMNS]


class Scan:
    """A scan opened for reading. Each object serves one thread."""

    def __init__(self, folder: Path) -> None:
        """Open the scan in `folder`.

        :raises AuditError: if there is none, or it is damaged or of another format.
        """
        self.path = Path(folder) / SCAN
        if not self.path.is_file():
            raise AuditError(
                f"{folder}: contains no audit; make one with `label-audit scan DATA --out {folder}`"
            )
        self.database = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows = self.database.execute("SELECT key, value FROM summary").fetchall()
            facts: dict[str, Any] = {key: json.loads(value) for key, value in rows}
        except (sqlite3.DatabaseError, ValueError) as error:
            raise AuditError(f"{self.path}: is damaged ({error}); scan again") from error
        if facts.get("format") != FORMAT:
            raise AuditError(
                f"{self.path}: has format {safe_repr(facts.get('format'))}, this version reads {FORMAT}; scan again"
            )
        self.taxonomy = Taxonomy.from_json(facts["taxonomy"])
        self.summary = ScanSummary(**{each.name: facts[each.name] for each in fields(ScanSummary)})

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def item(self, number: int) -> Item:
        """The item with that number.

        :raises AuditError: if there is none.
        """
        row = self.database.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM items WHERE number = ?", (number,)
        ).fetchone()
        if row is None:
            raise AuditError(f"{self.path}: has no item {number}")
        return _item(row)

    def items(self) -> Iterator[tuple[int, Item]]:
        """All items with their numbers, in order."""
        rows = self.database.execute(f"SELECT number, {', '.join(_COLUMNS)} FROM items ORDER BY number")
        return ((row[0], _item(row[1:])) for row in rows)

    def record(self, record_id: str) -> StoredRecord:
        """The record with that id.

        :raises AuditError: if there is none.
        """
        row = self.database.execute(
            "SELECT row, id, duplicates, fields FROM records WHERE id = ?", (record_id,)
        ).fetchone()
        if row is None:
            raise AuditError(f"{self.path}: has no record {safe_repr(record_id)}")
        return StoredRecord(row[0], row[1], row[2], json.loads(row[3]))

    def group(self, number: int) -> list[str]:
        """Ids of the records of a near-duplicate group, in the order of the data."""
        rows = self.database.execute("SELECT id FROM records WHERE duplicates = ? ORDER BY row", (number,))
        return [row[0] for row in rows]

    def records(self) -> Iterator[StoredRecord]:
        """All records in the order of the data."""
        rows = self.database.execute("SELECT row, id, duplicates, fields FROM records ORDER BY row")
        return (StoredRecord(row[0], row[1], row[2], json.loads(row[3])) for row in rows)


def _item(row: Sequence[Any]) -> Item:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["given"] = bool(values["given"])
    gold = values["gold_answer"]
    values["gold_answer"] = None if gold is None else bool(gold)
    values["reasons"] = tuple(Reason(**reason) for reason in json.loads(values["reasons"]))
    return Item(**values)
