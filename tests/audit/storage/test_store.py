"""The scan of an audit on disk."""

from datetime import datetime
from pathlib import Path

import pytest

from merchantguard.audit.storage.items import Item, Reason
from merchantguard.audit.storage.store import SCAN, Scan, ScanSummary, write_scan
from merchantguard.core.errors import AuditError
from merchantguard.data.records.record import parse_record, record_to_row
from merchantguard.data.taxonomy import load_taxonomy

ITEM = Item(
    record="b",
    policy="crimson",
    given=True,
    cause="confused_pair",
    p_label_error=0.75,
    model_probability=0.25,
    value=1.5,
    duplicate_count=2,
    other_policy="walrus",
    reasons=(Reason("margin", "another policy is likelier", 0.5),),
)


def _write(folder: Path, taxonomy_file: Path) -> None:
    taxonomy = load_taxonomy(taxonomy_file)
    records = [
        parse_record({"id": name, "text": text, "labels": []}, taxonomy, row_number=1)
        for name, text in (("a", "half a pair: \ud83d"), ("b", "<script>alert(1)</script>"))
    ]
    write_scan(
        folder,
        taxonomy=taxonomy,
        records=records,
        duplicates=[0, 0],
        items=[ITEM],
        summary=ScanSummary(seed=3),
    )


def test_a_scan_reads_back_as_it_was_written(tmp_path: Path, taxonomy_file: Path) -> None:
    _write(tmp_path, taxonomy_file)
    scan = Scan(tmp_path)
    assert scan.summary.seed == 3
    assert scan.taxonomy.ids == ("crimson", "walrus")
    assert list(scan.items()) == [(1, ITEM)]
    assert scan.item(1) == ITEM
    assert [record.id for record in scan.records()] == ["a", "b"]
    stored = scan.record("a")
    assert stored.fields["text"] == "half a pair: \ud83d"
    record = parse_record(stored.fields, scan.taxonomy, row_number=1)
    assert record_to_row(record) == stored.fields


def test_a_field_that_json_has_no_type_for_is_kept_as_text(tmp_path: Path, taxonomy_file: Path) -> None:
    taxonomy = load_taxonomy(taxonomy_file)
    row = {"id": "a", "text": "x", "labels": [], "seen": datetime(2026, 3, 1), "raw": b"1"}
    record = parse_record(row, taxonomy, row_number=1)
    write_scan(tmp_path, taxonomy=taxonomy, records=[record], duplicates=[0], items=[], summary=ScanSummary())
    assert Scan(tmp_path).record("a").fields["seen"] == "2026-03-01 00:00:00"


def test_what_is_not_there_is_said(tmp_path: Path, taxonomy_file: Path) -> None:
    with pytest.raises(AuditError, match="label-audit scan"):
        Scan(tmp_path)
    _write(tmp_path, taxonomy_file)
    scan = Scan(tmp_path)
    with pytest.raises(AuditError, match="no item 2"):
        scan.item(2)
    with pytest.raises(AuditError, match="no record 'z'"):
        scan.record("z")


def test_a_damaged_scan_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / SCAN).write_bytes(b"not a database")
    with pytest.raises(AuditError, match=SCAN):
        Scan(tmp_path)
