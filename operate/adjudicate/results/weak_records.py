"""Proven answers as weak training records, and as answers of one more annotator for label-audit.

They are soft and weighted, and marked by their source: training takes them by `data.weak`; calibration, certification and
audits never see them.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ....data.records.record import Record, record_to_row
from ....data.records.writers import write_records
from ..verdicts import Row

_CLIP = 0.02
WITHOUT_PROBABILITY = 0.85
"""Target of a proven answer without a probability: right as often as a fair annotator."""


def weak_rows(rows: Iterable[Row], records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    """A training record for each record with proven answers: every other policy is unknown.

    `weak` holds, per policy, the soft target and its weight. The weight is the target's distance from a coin's; answers in
    texts with signs of an injection are left out.
    """
    by_record: dict[str, list[Row]] = {}
    for row in rows:
        if row.verdict != "cannot tell" and not row.injection and not row.faults and row.record in records:
            by_record.setdefault(row.record, []).append(row)
    for name, answers in by_record.items():
        record = records[name]
        base = record_to_row(record)
        for field in ("labels", "unknown", "evidence", "annotator", "labelled_at"):
            base.pop(field, None)
        weak = {row.policy: _soft(row) for row in answers}
        quotes = {
            row.policy: [record.text[start:end] for start, end in row.quotes]
            for row in answers
            if row.verdict == "violates"
        }
        yield base | {
            "id": f"weak:{answers[0].build}:{name}",
            "labels": [],
            "unknown": ["*"],
            "label_source": f"llm:{answers[0].build}",
            "weak": weak,
            "weak_quotes": quotes,
        }


def _soft(row: Row) -> dict[str, float]:
    p = row.probability
    if p is None:
        p = WITHOUT_PROBABILITY if row.verdict == "violates" else 1.0 - WITHOUT_PROBABILITY
    # A probability on the other side of its verdict says that the model does not know.
    p = max(p, 0.5) if row.verdict == "violates" else min(p, 0.5)
    target = min(max(p, _CLIP), 1.0 - _CLIP)
    return {"target": round(target, 4), "weight": round(abs(2.0 * target - 1.0), 4)}


def annotator_table(rows: Iterable[Row], path: Path) -> int:
    """Write the answers as a table (CSV) that `label-audit import --from csv` reads; returns how many.

    The model is a reviewer like any other: label-audit's agreement and noise model say what its answers are worth.
    """
    answers = {"violates": "has", "compliant": "has_not", "cannot tell": "cannot_tell"}
    table = [
        {
            "record": row.record,
            "policy": row.policy,
            "answer": answers[row.verdict],
            "comment": f"prompt {row.prompt[:12]}",
            "reviewer": f"llm:{row.build}"[:100],
        }
        for row in rows
    ]
    write_records(table, path)
    return len(table)
