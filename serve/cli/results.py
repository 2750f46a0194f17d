"""Writing assessments as JSONL or Parquet."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import StorageError
from ...core.extras import require
from ...core.files import atomic_path
from ...data.records.record import Record
from ..assessment import Assessment, Finding, Span
from ..bundle import BundlePolicy

Row = dict[str, Any]
WriteRow = Callable[[Row], None]

SUFFIXES = (".jsonl", ".parquet")
_ROWS_AT_ONCE = 1000


def assessment_row(record: Record, assessment: Assessment, policies: tuple[BundlePolicy, ...]) -> Row:
    """An assessment of a record as plain values.

    Offsets count the characters of the document that was read: the record's text, or its name, description
    and pages (of HTML what is visible) joined by line ends. Each span says in which of these parts it lies.
    """
    known = {policy.id: policy for policy in policies}
    early = assessment.cleared_early
    return {
        "id": record.id,
        "decision": assessment.decision,
        "any_violation": None if early else _shortest(np.float32(assessment.any_violation)),
        "findings": [_finding(record, finding, known[finding.policy]) for finding in assessment.findings],
        "windows": assessment.windows,
        "truncated": assessment.truncated,
        "bundle": assessment.bundle,
        "cleared_early": early,
        "probabilities": {
            policy.id: None if early else _shortest(probability)
            for policy, probability in zip(policies, assessment.probabilities, strict=True)
        },
    }


@contextmanager
def result_writer(out: Path | None) -> Iterator[WriteRow]:
    """Yield a function that writes one row: to standard output as JSONL, or to a file that appears whole.

    :raises StorageError: if the file's suffix is not known or it cannot be written.
    """
    if out is None:
        yield lambda row: _write_line(sys.stdout.buffer.write, row)
        sys.stdout.buffer.flush()
    elif out.suffix == ".jsonl":
        with atomic_path(out) as temporary, open(temporary, "wb") as stream:
            yield lambda row: _write_line(stream.write, row)
    elif out.suffix == ".parquet":
        with atomic_path(out) as temporary:
            yield from _parquet(temporary)
    else:
        raise StorageError(f"{out}: results are written as {' or '.join(SUFFIXES)}, by the file's suffix")


def _finding(record: Record, finding: Finding, policy: BundlePolicy) -> Row:
    return {
        "policy": finding.policy,
        "title": policy.title,
        "severity": policy.severity,
        "probability": _shortest(np.float32(finding.probability)),
        "decision": finding.decision,
        "spans": [_span(record, span) for span in finding.spans],
        "windows": [{"start": start, "end": end} for start, end in finding.windows],
    }


def _span(record: Record, span: Span) -> Row:
    row: Row = {"start": span.start, "end": span.end, "text": span.text, "part": None, "url": None}
    for part in record.parts:
        if part.start <= span.start < part.end:
            row.update(part=part.name, url=part.url)
    return row


def _shortest(probability: np.float32) -> float:
    """The shortest decimal that is this float32."""
    return float(np.format_float_positional(probability, unique=True, trim="-"))


def _write_line(write: Callable[[bytes], Any], row: Row) -> None:
    line = json.dumps(row, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair has no UTF-8; as \udXXX it is what JSON escapes it to.
    write(line.encode("utf-8", "backslashreplace") + b"\n")


def _parquet(path: Path) -> Iterator[WriteRow]:
    pa, pq = require("pyarrow", "cli"), require("pyarrow.parquet", "cli")
    schema = _schema(pa)
    rows: list[Row] = []
    with pq.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()

        def write(row: Row) -> None:
            rows.append(_encodable({**row, "probabilities": list(row["probabilities"].items())}))
            if len(rows) == _ROWS_AT_ONCE:
                flush()

        yield write
        flush()


def _schema(pa: Any) -> Any:
    text, count, number = pa.string(), pa.int64(), pa.float32()
    passage = {"start": count, "end": count}
    span = pa.struct({**passage, "text": text, "part": text, "url": text})
    finding = pa.struct(
        {
            **dict.fromkeys(("policy", "title", "severity"), text),
            "probability": number,
            "decision": text,
            "spans": pa.list_(span),
            "windows": pa.list_(pa.struct(passage)),
        }
    )
    return pa.schema(
        {
            "id": text,
            "decision": text,
            "any_violation": number,
            "findings": pa.list_(finding),
            "windows": count,
            "truncated": pa.bool_(),
            "bundle": text,
            "cleared_early": pa.bool_(),
            "probabilities": pa.map_(text, number),
        }
    )


def _encodable(value: Any) -> Any:
    """The same value with every half of a surrogate pair, which Parquet cannot hold, as a question mark."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value
