"""Other names for the columns of a data file, and what an empty cell of labels means: a user's own export as it is."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from ...core.display import safe_repr
from ...core.errors import RecordError
from .record import BODY_FIELDS, FIELDS
from .rows import RawRow, open_rows

BlankLabels = Literal["compliant", "unlabelled", "reviewed"]
BLANK_LABELS: tuple[BlankLabels, ...] = get_args(BlankLabels)
_REVIEW_FIELDS = ("annotator", "labelled_at")
_OTHER_DELIMITERS = ";\t"
"""What spreadsheets put between cells instead of commas."""
_ROWS_FOR_NAMES = 1_000
"""JSON lines have no header: their keys are those of so many first lines."""


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """How rows become the fields of records.

    :param columns: the column of the file for a field of the record contract.
    :param blank: what empty labels mean: the merchant is "compliant"; nobody has looked, "unlabelled"; or "reviewed": it is
        compliant where `annotator` or `labelled_at` says that somebody has looked, and unlabelled where both are empty.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    blank: BlankLabels = "compliant"

    def __post_init__(self) -> None:
        for target, source in self.columns.items():
            if target not in FIELDS:
                raise RecordError(f"--map: {safe_repr(target)} is not a field; it may be {', '.join(FIELDS)}")
            if list(self.columns.values()).count(source) > 1:
                raise RecordError(
                    f"--map: the column {safe_repr(source)} is given to two fields; give it to one"
                )

    def apply(self, row: RawRow) -> RawRow:
        """The row with the names of the record contract.

        A column that has the name of a field which another column is mapped to, keeps its value under the name NAME_given.
        """
        if row.fields is None:
            return row
        fields = self._renamed(row.fields) if self.columns else dict(row.fields)
        if self.blank != "compliant" and "labels" in fields and _is_blank(fields["labels"]):
            looked = self.blank == "reviewed" and any(
                not _is_blank(fields.get(name)) for name in _REVIEW_FIELDS
            )
            if not looked:
                del fields["labels"]
        return replace(row, fields=fields)

    def _renamed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        targets = {source: target for target, source in self.columns.items()}
        fields = {}
        for column, value in given.items():
            name = targets.get(column, column)
            fields[f"{column}_given" if name == column and column in self.columns else name] = value
        return fields

    def check(self, path: Path, columns: Sequence[str]) -> None:
        """Check that a file has the columns that are mapped, an id and a text.

        :raises RecordError: naming the columns that are there.
        """
        listed = safe_repr(", ".join(columns), limit=300)
        for target, source in self.columns.items():
            if source not in columns:
                raise RecordError(f"{path}: has no column {safe_repr(source)} for {target}; it has {listed}")
        names = {name for name in columns if name not in self.columns.values()} | set(self.columns)
        if "id" not in names or not names & set(BODY_FIELDS):
            lacks = "id" if "id" not in names else "text (nor html, pages)"
            raise RecordError(
                f"{path}: has no column {lacks}; it has {listed}: name the right one, as in --map id=merchant_id,text=site_text"
            )


def parse_columns(text: str) -> dict[str, str]:
    """Read FIELD=COLUMN,FIELD=COLUMN; a column's name with a comma is put in double quotes: "text=Site, text".

    :raises RecordError: if it is not that.
    """
    columns: dict[str, str] = {}
    for item in next(csv.reader([text], skipinitialspace=True), []):
        target, separator, source = (part.strip() for part in item.partition("="))
        if not separator or not target or not source:
            raise RecordError(f"--map: {safe_repr(item)}: write it as FIELD=COLUMN, as in id=merchant_id")
        if target in columns:
            raise RecordError(f"--map: {target} is given twice")
        columns[target] = source
    return columns


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table, or the keys of the first lines of JSON, and what separates the cells of CSV."""

    names: tuple[str, ...]
    delimiter: str = ","
    is_table: bool = False


def read_columns(path: Path) -> Columns:
    """The columns of a data file.

    :raises RecordError: if the file as a whole cannot be used.
    """
    header: list[str] = []
    rows = open_rows(path, on_columns=header.extend)
    first = next(rows)
    if not header:
        keys = dict.fromkeys(
            key for row in (first, *islice(rows, _ROWS_FOR_NAMES)) for key in row.fields or ()
        )
        return Columns(tuple(keys))
    if len(header) > 1:
        return Columns(tuple(header), is_table=True)
    counts = {delimiter: header[0].count(delimiter) for delimiter in _OTHER_DELIMITERS}
    delimiter = max(counts, key=lambda each: counts[each])
    if not counts[delimiter]:
        return Columns(tuple(header), is_table=True)
    names = next(csv.reader(header, delimiter=delimiter))
    return Columns(tuple(name.strip() for name in names), delimiter, is_table=True)


def mapped_rows(path: Path, mapping: ColumnMapping) -> Iterator[RawRow]:
    """The rows of a file with the names of the record contract.

    :raises RecordError: if the file cannot be used, or lacks a column.
    """
    columns = read_columns(path)
    mapping.check(path, columns.names)
    rows = open_rows(
        path,
        on_columns=lambda names: None,
        delimiter=columns.delimiter,
        labels=mapping.columns.get("labels", "labels"),
    )
    return map(mapping.apply, rows)


def _is_blank(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and value.strip() in ("", "[]"))
