"""Which labels the answers change, and where each change comes from."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...core.errors import AuditError
from ...data.records.record import parse_record
from .. import tool_version
from ..estimation.outcomes import outcomes, standing_answers
from ..storage.items import Answer, Cause, Cell, Item
from ..storage.store import Scan


@dataclass(frozen=True, slots=True)
class Change:
    """One cell that gets another label. `old` is None if the cell was unlabelled.

    `reviewers`, `answers` (their numbers in the journal) and `at` say who decided it and when; `item` and `cause` why the cell
    was reviewed; `duplicate_of` is the exact duplicate that was answered instead. `evidence`: the quotes that are removed with
    the label. `comments`: what reviewers wrote on the cell.
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
    duplicate_of: str | None
    evidence: tuple[str, ...]
    tool: str
    comments: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The line of changes.jsonl."""
        return {"record": self.record, **self.in_record(), "evidence": list(self.evidence)}

    def in_record(self) -> dict[str, Any]:
        """The entry of the record's own `audit` field, without quotes, which may be long."""
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
        if self.comments:
            entry["comments"] = list(self.comments)
        return entry | ({"duplicate_of": self.duplicate_of} if self.duplicate_of is not None else {})


def changes_by_record(changes: Iterable[Change]) -> dict[str, list[Change]]:
    """The changes grouped by record, in their order."""
    grouped: dict[str, list[Change]] = {}
    for change in changes:
        grouped.setdefault(change.record, []).append(change)
    return grouped


def changes(scan: Scan, answers: Iterable[Answer], *, min_reviewers: int = 1) -> list[Change]:
    """The changes that follow from the outcomes, in the order of the records and the taxonomy.

    Only reviewers' decisions change anything. A cell changes only with votes from at least `min_reviewers` reviewers, and never if
    it is a gold item: its answer is known, so a reviewer who disagrees is wrong.
    """
    journal = standing_answers(answers)
    items: dict[Cell, tuple[int, Item]] = {}
    gold: set[Cell] = set()
    for number, item in scan.items():
        items.setdefault(item.cell, (number, item))
        if item.cause == "gold":
            gold.add(item.cell)
    decided = {
        cell: outcome
        for cell, outcome in outcomes(journal).items()
        if outcome.holds is not None and cell not in gold
    }
    sources = {answer.number: answer for answer in journal}
    voters = _voters(journal)
    comments = _comments(journal)
    tool = tool_version()
    result = []
    for stored, labels, unknown, evidence in _labels(scan, {record for record, _ in decided}):
        for policy in scan.taxonomy.ids:
            outcome = decided.get((stored, policy))
            old = None if policy in unknown else policy in labels
            if outcome is None or outcome.holds is None or outcome.holds == old:
                continue
            source = sources[outcome.answers[0]].record
            if len(voters[source, policy].union(outcome.reviewers)) < min_reviewers:
                continue
            listed = items.get((stored, policy)) or items.get((source, policy))
            result.append(
                Change(
                    record=stored,
                    policy=policy,
                    old=old,
                    new=outcome.holds,
                    reviewers=outcome.reviewers,
                    answers=outcome.answers,
                    at=outcome.at,
                    cause=listed[1].cause if listed else None,
                    item=listed[0] if listed else None,
                    duplicate_of=source if source != stored else None,
                    evidence=() if outcome.holds else tuple(evidence.get(policy, ())),
                    tool=tool,
                    comments=tuple(comments[source, policy]),
                )
            )
    return result


def _voters(journal: Iterable[Answer]) -> Mapping[Cell, set[str]]:
    """Who voted on each cell, whichever way."""
    voters: dict[Cell, set[str]] = defaultdict(set)
    for answer in journal:
        if answer.answer in ("has", "has_not"):
            voters[answer.cell].add(answer.reviewer)
    return voters


def _comments(journal: Iterable[Answer]) -> Mapping[Cell, list[str]]:
    """What was written on each cell, with an answer or by itself, in the order of writing."""
    comments: dict[Cell, list[str]] = defaultdict(list)
    for answer in journal:
        if answer.comment:
            comments[answer.cell].append(answer.comment)
    return comments


def _labels(
    scan: Scan, wanted: set[str]
) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...], Mapping[str, tuple[str, ...]]]]:
    """Id, labels, unknown policies and evidence of the wanted records, as they were scanned, in their order.

    A record with answers from an earlier scan that is no longer in the data is left out.
    """
    found = []
    for record_id in wanted:
        with suppress(AuditError):
            found.append(scan.record(record_id))
    for stored in sorted(found, key=lambda stored: stored.row):
        record = parse_record(stored.fields, scan.taxonomy, row_number=stored.row + 1)
        yield record.id, record.labels, record.unknown, record.evidence
