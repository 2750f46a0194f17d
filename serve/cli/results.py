"""Writing assessments as JSONL or Parquet."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import StorageError
from ...core.extras import require
from ...core.files import atomic_path
from ...data.records.record import Record
from ..assessment import Assessment, Finding, Span
from ..bundle import BundlePolicy

SUFFIXES = (".jsonl", ".parquet")
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A window that shows a finding."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SpanRow:
    """An evidence span and the part of the record, such as a page, that it lies in."""

    start: int
    end: int
    text: str
    part: str | None
    url: str | None


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding with the policy's title and severity."""

    policy: str
    title: str
    severity: str
    probability: float
    decision: str
    spans: tuple[SpanRow, ...]
    windows: tuple[WindowRow, ...]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A record's assessment as it is written: the fields are the columns.

    Offsets count the characters of the document that was read: the record's text, or its name, description
    and pages (only the visible text of HTML) joined by line ends. Probabilities are None in a record that is cleared
    early.
    """

    id: str
    decision: str
    any_violation: float | None
    findings: tuple[FindingRow, ...]
    windows: int
    truncated: bool
    bundle: str
    cleared_early: bool
    warnings: tuple[str, ...]
    probabilities: dict[str, float | None]

    @classmethod
    def of(cls, record: Record, assessment: Assessment, policies: tuple[BundlePolicy, ...]) -> "ResultRow":
        """The row of a record; `policies` are those of the scorer."""
        by_id = {policy.id: policy for policy in policies}
        early = assessment.cleared_early
        return cls(
            id=record.id,
            decision=assessment.decision,
            any_violation=None if early else _shortest(np.float32(assessment.any_violation)),
            findings=tuple(_finding(record, each, by_id[each.policy]) for each in assessment.findings),
            windows=assessment.windows,
            truncated=assessment.truncated,
            bundle=assessment.bundle,
            cleared_early=early,
            warnings=assessment.warnings,
            probabilities={
                policy.id: None if early else _shortest(probability)
                for policy, probability in zip(policies, assessment.probabilities, strict=True)
            },
        )


WriteRow = Callable[[ResultRow], None]


@contextmanager
def result_writer(out: Path | None) -> Iterator[WriteRow]:
    """Yield a function that writes one row: to standard output as JSONL, or to a file that appears when it is complete.

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


def _finding(record: Record, finding: Finding, policy: BundlePolicy) -> FindingRow:
    return FindingRow(
        policy=finding.policy,
        title=policy.title,
        severity=policy.severity,
        probability=_shortest(np.float32(finding.probability)),
        decision=finding.decision,
        spans=tuple(_span(record, span) for span in finding.spans),
        windows=tuple(WindowRow(*window) for window in finding.windows),
    )


def _span(record: Record, span: Span) -> SpanRow:
    part = next((part for part in record.parts if part.start <= span.start < part.end), None)
    name, url = (None, None) if part is None else (part.name, part.url)
    return SpanRow(span.start, span.end, span.text, name, url)


def _shortest(probability: np.float32) -> float:
    """The shortest decimal that is this float32."""
    return float(np.format_float_positional(probability, unique=True, trim="-"))


def _write_line(write: Callable[[bytes], Any], row: ResultRow) -> None:
    line = json.dumps(asdict(row), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair has no UTF-8: it is written as JSON's escape \udXXX.
    write(line.encode("utf-8", "backslashreplace") + b"\n")


def _parquet(path: Path) -> Iterator[WriteRow]:
    pa, pq = require("pyarrow", "cli"), require("pyarrow.parquet", "cli")
    schema = _schema(pa)
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()

        def write(row: ResultRow) -> None:
            rows.append(_encodable(asdict(row)) | {"probabilities": list(row.probabilities.items())})
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
            "warnings": pa.list_(text),
            "probabilities": pa.map_(text, number),
        }
    )


def _encodable(value: Any) -> Any:
    """The value with a question mark for every half of a surrogate pair, which Parquet cannot hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value
