"""The decision log as a table: the same records as Arrow columns, for Parquet, DuckDB and Spark."""

from collections.abc import Iterable

import pyarrow as pa

from ..decision_record import SCHEMA_VERSION, DecisionRecord

_TEXT, _NUMBER = pa.string(), pa.float64()

DECISIONS = pa.schema(
    [
        pa.field("schema", pa.int32(), nullable=False),
        pa.field("decision_id", _TEXT, nullable=False),
        pa.field("time", _TEXT, nullable=False),
        ("request_id", _TEXT),
        ("merchant_id", _TEXT),
        ("record_id", _TEXT),
        ("bundle", _TEXT),
        ("bundle_version", _TEXT),
        ("bundle_digest", _TEXT),
        ("variant", _TEXT),
        ("cleaning_version", _TEXT),
        ("text_hmac", _TEXT),
        ("text_length", pa.int64()),
        ("windows", pa.int32()),
        ("truncated", pa.bool_()),
        ("probabilities", pa.map_(_TEXT, _NUMBER)),
        ("any_violation", _NUMBER),
        ("thresholds", pa.map_(_TEXT, pa.struct([("review", _NUMBER), ("block", _NUMBER)]))),
        ("any_review", _NUMBER),
        ("decision", _TEXT),
        (
            "findings",
            pa.list_(
                pa.struct(
                    [
                        ("policy", _TEXT),
                        ("probability", _NUMBER),
                        ("decision", _TEXT),
                        ("certificate", _TEXT),
                        ("spans", pa.list_(pa.list_(pa.int64()))),
                    ]
                )
            ),
        ),
        ("warnings", pa.list_(_TEXT)),
        ("action", _TEXT),
        ("rule", _TEXT),
        ("rule_version", _TEXT),
        ("selection", pa.map_(_TEXT, _NUMBER)),
        ("selected", pa.list_(_TEXT)),
        ("queue_seconds", _NUMBER),
        ("model_seconds", _NUMBER),
        ("text", _TEXT),
    ]
)
"""Columns of a table of decisions, in their order."""

_MAPS = ("probabilities", "thresholds", "selection")


def decision_table(records: Iterable[DecisionRecord]) -> pa.RecordBatch:
    """Decision records as one batch of the schema `DECISIONS`."""
    rows = [record.to_dict() for record in records]
    for row in rows:
        row |= {name: list(row[name].items()) for name in _MAPS}
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in DECISIONS]
    return pa.RecordBatch.from_arrays(columns, schema=DECISIONS)


def decisions_of(table: pa.RecordBatch | pa.Table) -> list[DecisionRecord]:
    """The decision records of a table that `decision_table` made."""
    records = []
    for row in table.to_pylist():
        row |= {name: dict(row[name] or ()) for name in _MAPS}
        records.append(DecisionRecord.from_dict({**row, "schema": SCHEMA_VERSION, "type": "decision"}))
    return records
