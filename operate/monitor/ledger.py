"""The decision log as the monitor needs it: each decision with its stratum, its probability, and what the audit said."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ...core.errors import RecordError
from ...serve.decision_record import DecisionEvent, DecisionRecord
from ..log import History
from .sample import AUDIT, STRATA, stratum_of

DUE_DAYS = 7.0
"""An audit without an answer after so many days is overdue."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision for the monitor.

    :param process: what decided: the bundle and its thresholds; another one starts new processes.
    :param audit: the probability of the audit's coin; 0 where none was tossed.
    :param audited: whether the coin chose it.
    :param labels: per policy what blind audits said in time; empty where there is none.
    :param overdue: chosen, due, and without any answer in time; "cannot tell" is an answer.
    :param pending: chosen and not due yet, without a label.
    :param open: chosen and not due yet, so that labels may still come.
    """

    record: DecisionRecord
    process: str
    stratum: str
    audit: float
    audited: bool
    labels: Mapping[str, bool]
    overdue: bool
    pending: bool
    open: bool = False
    events: tuple[DecisionEvent, ...] = field(default=(), repr=False)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Policies that block."""
        return tuple(each.policy for each in self.record.findings if each.decision == "block")

    def right(self, policy: str | None) -> bool | None:
        """Whether the block for a policy (None: for any) was right; None where the labels do not say."""
        if policy is not None:
            return self.labels.get(policy)
        return self._any(self.blocks)

    def violates(self, policy: str | None) -> bool | None:
        """Whether the merchant violates a policy (None: any); None where the labels do not say."""
        if policy is not None:
            return self.labels.get(policy)
        return self._any(tuple(self.record.thresholds))

    def _any(self, policies: Sequence[str]) -> bool | None:
        """True by one violated policy of all, False only if all of `policies` have a label."""
        if any(self.labels.values()):
            return True
        return False if self.labels and all(name in self.labels for name in policies) else None


def process_of(record: DecisionRecord) -> str:
    """Names what decided: bundle, version, and a hash of digest, thresholds and policies."""
    rules = sorted((policy, *pair) for policy, pair in record.thresholds.items())
    content = json.dumps([record.bundle_digest, rules, record.any_review])
    return f"{record.bundle} {record.bundle_version} {hashlib.sha256(content.encode()).hexdigest()[:8]}"


def ledger(found: Iterable[History], *, now: str | None = None, due_days: float = DUE_DAYS) -> list[Entry]:
    """The decisions of a log in their order.

    Only blind reviews count: a reviewer who saw the decision tends to agree with it. Several reviewers: the majority of those
    who could tell; a tie counts as no answer until another looks.

    :param now: time at which it is looked at (ISO 8601); the log's last entry by default.
    """
    known = sorted(found, key=lambda history: (history.decision.time, history.decision.decision_id))
    if not known:
        return []
    at = _time(now or max(max([h.decision.time, *(e.time for e in h.events)]) for h in known))
    thresholds: dict[tuple[str, int], str] = {}
    entries = []
    for history in known:
        record = history.decision
        key = record.bundle_digest, hash((tuple(sorted(record.thresholds.items())), record.any_review))
        process = thresholds.get(key) or thresholds.setdefault(key, process_of(record))
        entries.append(_entry(history, process, at, timedelta(days=due_days)))
    return entries


def _entry(history: History, process: str, at: datetime, due: timedelta) -> Entry:
    record = history.decision
    audited = AUDIT in record.selected
    until = _time(record.time) + due if audited else None
    reviews = [
        event
        for event in history.events
        if audited and event.kind == "review" and event.blind is True and _time(event.time) <= at
    ]
    in_time = [event for event in reviews if until is not None and _time(event.time) <= until]
    labels = majority(in_time)
    passed = until is not None and at > until
    return Entry(
        record=record,
        process=process,
        stratum=stratum_of(record),
        audit=float(record.selection.get(AUDIT, 0.0)),
        audited=audited,
        labels=labels,
        overdue=audited and passed and not in_time,
        pending=audited and not passed and not labels,
        open=audited and not passed,
        events=history.events,
    )


def majority(reviews: Sequence[DecisionEvent]) -> dict[str, bool]:
    """The label of each policy by most of those who could tell; the last answer of each reviewer counts."""
    answers: dict[str, dict[str, bool]] = {}
    for event in sorted(reviews, key=lambda event: event.time):
        for policy, value in event.labels.items():
            if value is not None:
                answers.setdefault(policy, {})[event.actor] = value
    result = {}
    for policy, votes in answers.items():
        yes = sum(votes.values())
        if 2 * yes != len(votes):
            result[policy] = 2 * yes > len(votes)
    return result


def audited_blocks(entries: Sequence[Entry], policy: str | None) -> list[tuple[Entry, bool | None]]:
    """Audited blocks in the order of the decisions, up to the first whose answer may still come.

    That order, and not the answers' own, keeps easy cases that are answered fast from running ahead of the hard ones. An
    answer "cannot tell", a tie, a review of other policies only, and an overdue audit give None; `evidence_of` says what they
    count for.

    :param policy: None takes every block and asks whether any policy is violated.
    """
    found: list[tuple[Entry, bool | None]] = []
    for entry in entries:
        if not entry.audited or entry.record.decision != "block":
            continue
        if policy is not None and policy not in entry.blocks:
            continue
        right = entry.right(policy)
        if right is None and entry.open:
            break
        found.append((entry, right))
    return found


def evidence_of(blocks: Sequence[tuple[Entry, bool | None]]) -> list[bool | None]:
    """What e-processes take: labels, and None for overdue audits, which count against any claim.

    Blocks that somebody looked at without a label ("cannot tell", a tie, other policies only) are left out: precision is of
    what can be told, and the page shows how many were not.
    """
    return [right for entry, right in blocks if right is not None or entry.overdue]


def stratum_number(entry: Entry) -> int:
    """The stratum by its number, as the estimates need it."""
    return STRATA.index(entry.stratum)  # type: ignore[arg-type]


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise RecordError(f"time {text!r} is not ISO 8601") from None
    if found.tzinfo is None:
        raise RecordError(f"time {text!r} has no time zone; UTC ends in +00:00")
    return found
