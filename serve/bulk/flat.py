"""Results as a flat table for BI tools: one row a finding, one column a policy's probability, no nesting."""

from collections.abc import Sequence
from typing import Any

from ...core.extras import require

PROBABILITY = "p_"
"""Before a policy's id in the name of its column."""
_FINDING = ("policy", "title", "severity", "probability", "decision", "certificate")
_SPAN = ("start", "end", "text", "part", "url", "collected_at", "warc_record_id")


def flat_schema(nested: Any, policies: Sequence[str]) -> Any:
    """The flat schema for results of schema `nested` on these policies."""
    pa = require("pyarrow", "cli")
    kinds = nested.field("findings").type.value_type
    span = kinds.field("spans").type.value_type
    plain = [field for field in nested if field.name not in ("findings", "probabilities", "warnings")]
    return pa.schema(
        [
            *plain,
            pa.field("warnings", pa.string()),
            *(pa.field(f"finding_{name}", kinds.field(name).type) for name in _FINDING),
            *(pa.field(f"evidence_{name}", span.field(name).type) for name in _SPAN),
            *(pa.field(PROBABILITY + policy, pa.float32()) for policy in policies),
        ]
    )


def flatten(table: Any, policies: Sequence[str]) -> Any:
    """One row a finding, with its best evidence; a record without findings has one row with none."""
    pa = require("pyarrow", "cli")
    schema = flat_schema(table.schema, policies)
    return pa.Table.from_pylist([flat for row in table.to_pylist() for flat in _flat(row)], schema=schema)


def _flat(row: dict[str, Any]) -> list[dict[str, Any]]:
    probabilities = row.pop("probabilities") or []
    row |= {PROBABILITY + policy: value for policy, value in probabilities}
    row["warnings"] = None if row["warnings"] is None else "; ".join(row["warnings"])
    return [row | _cells(finding) for finding in row.pop("findings") or [{}]]


def _cells(finding: dict[str, Any]) -> dict[str, Any]:
    best = (finding.get("spans") or [{}])[0]
    cells = {f"finding_{name}": finding.get(name) for name in _FINDING}
    return cells | {f"evidence_{name}": best.get(name) for name in _SPAN}
