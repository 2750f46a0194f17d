"""The result of one record as it is written to files and tables."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any, Self

import numpy as np

from ...data.records.record import Record
from ..assessment import Assessment, Finding, Span
from ..bundle import BundlePolicy
from .identity import ScoredBy


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A window that shows a finding."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SpanRow:
    """An evidence span and the part of the record, such as a page, that it lies in; of a crawl's page also its capture."""

    start: int
    end: int
    text: str
    part: str | None = None
    url: str | None = None
    collected_at: str | None = None
    warc_record_id: str | None = None

    @classmethod
    def of(cls, record: Record, start: int, end: int, text: str) -> Self:
        """The span of a record's text."""
        part = next((part for part in record.parts if part.start <= start < part.end), None)
        if part is None:
            return cls(start, end, text)
        return cls(start, end, text, part.name, part.url, part.collected_at, part.warc_record_id)


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding with the policy's title and severity, and what a certificate of its block is about."""

    policy: str
    title: str
    severity: str
    probability: float
    decision: str
    certificate: str | None
    spans: tuple[SpanRow, ...]
    windows: tuple[WindowRow, ...]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A record's assessment as it is written: the fields are the columns.

    Offsets count the characters of the document that was read: the record's text, or its name, description
    and pages (only the visible text of HTML) joined by line ends. Probabilities are None in a record that is cleared
    early.

    :param carried: the record's other fields, each a column of its own.
    :param copied: whether the row comes from earlier results instead of the model.
    :param text_hash: SHA-256 of the text that was read, hexadecimal.
    """

    id: str
    carried: dict[str, Any]
    decision: str
    any_violation: float | None
    findings: tuple[FindingRow, ...]
    windows: int
    truncated: bool
    bundle: str
    cleared_early: bool
    warnings: tuple[str, ...]
    probabilities: dict[str, float | None]
    bundle_digest: str = ""
    variant: str = ""
    scored_with: str = ""
    text_hash: str = ""
    copied: bool = False

    @classmethod
    def of(
        cls,
        record: Record,
        assessment: Assessment,
        policies: Sequence[BundlePolicy],
        by: ScoredBy,
        carried: Mapping[str, Any] | None = None,
    ) -> Self:
        """The row of a record; `policies` are those of the scorer."""
        by_id = {policy.id: policy for policy in policies}
        early = assessment.cleared_early
        return cls(
            id=record.id,
            carried=dict(carried or {}),
            decision=assessment.decision,
            any_violation=None if early else _shortest(np.float32(assessment.any_violation)),
            findings=tuple(_finding(record, each, by_id[each.policy]) for each in assessment.findings),
            windows=assessment.windows,
            truncated=assessment.truncated,
            bundle=by.bundle,
            cleared_early=early,
            warnings=assessment.warnings,
            probabilities={
                policy.id: None if early else _shortest(probability)
                for policy, probability in zip(policies, assessment.probabilities, strict=True)
            },
            bundle_digest=by.digest,
            variant=by.variant,
            scored_with=by.key,
            text_hash=text_hash(record.text),
        )

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Read a row of earlier results; columns that are not of results are left out.

        :raises KeyError: if a column is missing.
        """
        plain = {name: row[name] for name in _PLAIN}
        plain["any_violation"] = single(row["any_violation"])
        return cls(
            carried={},
            findings=tuple(_finding_from(finding) for finding in row["findings"]),
            warnings=tuple(row["warnings"]),
            probabilities={policy: single(value) for policy, value in dict(row["probabilities"]).items()},
            **plain,
        )

    def copied_for(self, record: Record, carried: Mapping[str, Any]) -> "ResultRow":
        """The row for a record of the same text: its own id, fields and pages."""
        findings = tuple(
            replace(
                finding,
                spans=tuple(SpanRow.of(record, span.start, span.end, span.text) for span in finding.spans),
            )
            for finding in self.findings
        )
        return replace(self, id=record.id, carried=dict(carried), findings=findings, copied=True)

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, the carried fields after the id."""
        # Not `asdict`, which copies every value of every row: most rows have no findings.
        row = {name: getattr(self, name) for name in RESULT_COLUMNS}
        row["findings"] = [asdict(finding) for finding in self.findings]
        return {"id": row.pop("id"), **self.carried, **row}


RESULT_COLUMNS = tuple(name for name in ResultRow.__dataclass_fields__ if name != "carried")
_PLAIN = tuple(name for name in RESULT_COLUMNS if name not in ("findings", "warnings", "probabilities"))


def text_hash(text: str) -> str:
    """SHA-256 of a text in UTF-8, hexadecimal: what Spark's sha2(text, 256) gives."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def carried_name(name: str) -> str:
    """The column of a carried field: its name, with "input_" before it where results have a column of that name."""
    return f"input_{name}" if name in RESULT_COLUMNS else name


def plain_value(value: Any) -> Any:
    """A carried value as JSON has it: dates and other kinds as text, numbers that are not finite as null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def cell_text(value: Any) -> str | None:
    """A carried value as text, for tables: other values than text as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _finding(record: Record, finding: Finding, policy: BundlePolicy) -> FindingRow:
    return FindingRow(
        policy=finding.policy,
        title=policy.title,
        severity=policy.severity,
        probability=_shortest(np.float32(finding.probability)),
        decision=finding.decision,
        certificate=finding.certificate,
        spans=tuple(_span(record, span) for span in finding.spans),
        windows=tuple(WindowRow(*window) for window in finding.windows),
    )


def _span(record: Record, span: Span) -> SpanRow:
    return SpanRow.of(record, span.start, span.end, span.text)


def _finding_from(row: Mapping[str, Any]) -> FindingRow:
    return FindingRow(
        **{name: row[name] for name in ("policy", "title", "severity", "decision", "certificate")},
        probability=_shortest(np.float32(row["probability"])),
        spans=tuple(SpanRow(**span) for span in row["spans"]),
        windows=tuple(WindowRow(**window) for window in row["windows"]),
    )


def single(value: float | None) -> float | None:
    """A probability as it was before a table kept it in 32 bits."""
    return None if value is None else _shortest(np.float32(value))


def _shortest(probability: np.float32) -> float:
    """The shortest decimal that is this float32."""
    return float(np.format_float_positional(probability, unique=True, trim="-"))
