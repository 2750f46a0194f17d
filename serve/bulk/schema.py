"""The Arrow schema of results, stated once, and tables brought to it by the names of their columns."""

from collections.abc import Sequence
from typing import Any

from ...core.errors import RecordError
from ...core.extras import require
from .rows import ResultRow, cell_text


def result_schema(carried: Sequence[str] = ()) -> Any:
    """The schema of results; carried fields are text."""
    pa = require("pyarrow", "cli")
    return pa.schema(
        [pa.field("id", pa.string()), *(pa.field(name, pa.string()) for name in carried), *result_fields()]
    )


def result_fields() -> list[Any]:
    """The fields that scoring adds to a row."""
    pa = require("pyarrow", "cli")
    text, count, number, flag = pa.string(), pa.int64(), pa.float32(), pa.bool_()
    passage = {"start": count, "end": count}
    span = pa.struct(
        {**passage, **dict.fromkeys(("text", "part", "url", "collected_at", "warc_record_id"), text)}
    )
    finding = pa.struct(
        {
            **dict.fromkeys(("policy", "title", "severity"), text),
            "probability": number,
            "decision": text,
            "certificate": text,
            "spans": pa.list_(span),
            "windows": pa.list_(pa.struct(passage)),
        }
    )
    fields = {
        "decision": text,
        "any_violation": number,
        "findings": pa.list_(finding),
        "windows": count,
        "truncated": flag,
        "bundle": text,
        "cleared_early": flag,
        "warnings": pa.list_(text),
        "probabilities": pa.map_(text, number),
        "bundle_digest": text,
        "variant": text,
        "scored_with": text,
        "text_hash": text,
        "copied": flag,
    }
    return [pa.field(name, kind) for name, kind in fields.items()]


def conform(table: Any, schema: Any) -> Any:
    """A record batch or table with the schema's columns, found by name and cast, in its order.

    Engines such as Spark match columns by their position: two of one type in another order would swap silently.

    :raises RecordError: if a column is missing, or cannot be cast.
    """
    pa = require("pyarrow", "cli")
    names = table.schema.names
    if missing := [name for name in schema.names if name not in names]:
        raise RecordError(f"results lack the columns {', '.join(missing)}; they have {', '.join(names)}")
    try:
        arrays = [table.column(name).cast(schema.field(name).type) for name in schema.names]
    except pa.ArrowException as error:
        raise RecordError(f"results do not fit their schema ({error})") from error
    return type(table).from_arrays(arrays, schema=schema)


def rows_to_table(rows: Sequence[ResultRow], schema: Any) -> Any:
    """Results as an Arrow table; half a surrogate pair, which Arrow cannot hold, becomes a question mark."""
    pa = require("pyarrow", "cli")
    return pa.Table.from_pylist([_plain(row) for row in rows], schema=schema)


def _plain(row: ResultRow) -> dict[str, Any]:
    values = row.to_dict() | {name: cell_text(value) for name, value in row.carried.items()}
    return encodable(values) | {"probabilities": list(row.probabilities.items())}


def encodable(value: Any) -> Any:
    """The value with a question mark for every half of a surrogate pair."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {key: encodable(item) for key, item in value.items()}
    return [encodable(item) for item in value] if isinstance(value, list | tuple) else value
