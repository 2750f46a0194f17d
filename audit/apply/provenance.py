"""Which labels the answers change, and for each change where it comes from."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...core.errors import AuditError
from ...data.records.record import parse_record
from ..estimation.verdicts import Cell, standing, verdicts
from ..storage.items import Answer, Cause, Item
from ..storage.store import Scan


@dataclass(frozen=True, slots=True)
class Change:
    """One cell that gets another label. `old` is None where nobody had judged it.

    `reviewers`, `answers` (their numbers in the journal) and `at` say on whose word; `item` and `cause` why the cell was
    looked at; `twin_of` is the near-duplicate whose answer settles it. `evidence`: the quotes that leave with the label.
    """

    record: str
    policy: str
    old: bool | None
    new: bool
    reviewers: tuple[str, ...]
    answers: tuple[int, ...]
    at: str
    cause: Cause | None
    item: int | None
    twin_of: str | None
    evidence: tuple[str, ...]
    tool: str

    def to_json(self) -> dict[str, Any]:
        """The line of changes.jsonl."""
        return {"record": self.record, **self.in_record(), "evidence": list(self.evidence)}

    def in_record(self) -> dict[str, Any]:
        """The entry of the record's own `audit` field, which has no quotes: they may be long."""
        entry: dict[str, Any] = {
            "policy": self.policy,
            "old": self.old,
            "new": self.new,
            "reviewers": list(self.reviewers),
            "answers": list(self.answers),
            "at": self.at,
            "cause": self.cause,
            "item": self.item,
            "tool": self.tool,
        }
        return entry | ({"twin_of": self.twin_of} if self.twin_of is not None else {})


def tool_version() -> str:
    """Name and version of this command, as provenance states them."""
    try:
        return f"label-audit {version('merchantguard')}"
    except PackageNotFoundError:
        return "label-audit"


def changes(scan: Scan, answers: Iterable[Answer], *, min_reviewers: int = 1) -> list[Change]:
    """The changes that the verdicts call for, in the order of the records and the taxonomy.

    Only what people decided changes anything. A cell changes if at least `min_reviewers` people judged it, and never if
    it is a planted item: its answer is known, a reviewer who says otherwise is mistaken.
    """
    journal = standing(answers)
    items: dict[Cell, tuple[int, Item]] = {}
    planted: set[Cell] = set()
    for number, item in scan.items():
        items.setdefault((item.record, item.policy), (number, item))
        if item.cause == "planted":
            planted.add((item.record, item.policy))
    decided = {
        cell: verdict
        for cell, verdict in verdicts(journal).items()
        if verdict.holds is not None and cell not in planted
    }
    sources = {answer.number: answer for answer in journal}
    judges = _judges(journal)
    tool = tool_version()
    result = []
    for stored, labels, unknown, evidence in _labels(scan, {record for record, _ in decided}):
        for policy in scan.taxonomy.ids:
            verdict = decided.get((stored, policy))
            old = None if policy in unknown else policy in labels
            if verdict is None or verdict.holds is None or verdict.holds == old:
                continue
            source = sources[verdict.answers[0]].record
            if len(judges[source, policy].union(verdict.reviewers)) < min_reviewers:
                continue
            listed = items.get((stored, policy)) or items.get((source, policy))
            result.append(
                Change(
                    record=stored,
                    policy=policy,
                    old=old,
                    new=verdict.holds,
                    reviewers=verdict.reviewers,
                    answers=verdict.answers,
                    at=verdict.at,
                    cause=listed[1].cause if listed else None,
                    item=listed[0] if listed else None,
                    twin_of=source if source != stored else None,
                    evidence=() if verdict.holds else tuple(evidence.get(policy, ())),
                    tool=tool,
                )
            )
    return result


def _judges(journal: Iterable[Answer]) -> Mapping[Cell, set[str]]:
    """Who judged each cell, whichever way."""
    judges: dict[Cell, set[str]] = defaultdict(set)
    for answer in journal:
        if answer.answer in ("has", "has_not"):
            judges[answer.record, answer.policy].add(answer.reviewer)
    return judges


def _labels(
    scan: Scan, wanted: set[str]
) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...], Mapping[str, tuple[str, ...]]]]:
    """Id, labels, unknown policies and evidence of the wanted records, as they were scanned, in their order.

    A record that was answered on in an earlier scan and is gone from the data has nothing left to change.
    """
    found = []
    for record_id in wanted:
        with suppress(AuditError):
            found.append(scan.record(record_id))
    for stored in sorted(found, key=lambda stored: stored.row):
        record = parse_record(stored.fields, scan.taxonomy, row_number=stored.row + 1)
        yield record.id, record.labels, record.unknown, record.evidence
