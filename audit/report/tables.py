"""What an audit has shown, as plain tables: the material of its report."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..apply.provenance import Change, changes
from ..estimation.agreement import Agreement, agreement, by_policy
from ..estimation.estimates import Estimates, Estimator
from ..estimation.intervals import Interval, share_interval
from ..estimation.stopping import StopRule
from ..estimation.verdicts import Cell, latest_answers, standing, verdicts
from ..storage.items import Answer, Item
from ..storage.store import Scan

_NOBODY = ""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Labels of one annotator for one policy that were looked at: `decided`, and the share that was right."""

    annotator: str
    policy: str
    decided: int
    right: Interval


@dataclass(frozen=True, slots=True)
class Pace:
    """A reviewer's day: answers, and the median seconds between showing and answering."""

    reviewer: str
    day: str
    answers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables. `swaps`: (policy taken away, policy given) of one record -> how often. `duplicate_groups`: groups of more
    than one record; `contradictions`: decided and all items whose near-duplicates carry another label."""

    estimates: Estimates
    changes: tuple[Change, ...]
    reviewers: Agreement
    reviewers_by_policy: Mapping[str, Agreement]
    with_labels: Agreement
    annotators: Agreement
    reliability: tuple[Reliability, ...]
    errors: Mapping[tuple[str, str], int]
    swaps: Mapping[tuple[str, str], int]
    pace: tuple[Pace, ...]
    records: int
    duplicate_groups: int
    duplicate_records: int
    contradictions: tuple[int, int]
    by_twin: int
    disputed: tuple[Cell, ...]


def audit_tables(scan: Scan, answers: Sequence[Answer], rule: StopRule | None = None) -> Tables:
    """Read scan and answers once and count everything."""
    items = [item for _, item in scan.items()]
    found = changes(scan, answers)
    votes = _votes(answers)
    decisions = verdicts(answers)
    decided = {cell: verdict.holds for cell, verdict in decisions.items() if verdict.holds is not None}
    data = _Data(scan)
    contradicting = {(i.record, i.policy) for i in items if i.cause == "contradicting_duplicates"}
    sizes = Counter(data.groups.values())
    return Tables(
        estimates=Estimator(items).estimate(answers, rule),
        changes=tuple(found),
        reviewers=agreement(votes.values()),
        reviewers_by_policy={policy: agreement(cells) for policy, cells in by_policy(votes).items()},
        with_labels=agreement(_controls_with_labels(items, decided, answers)),
        annotators=agreement(data.annotators_votes()),
        reliability=_reliability(data, decided, items),
        errors=Counter((change.policy, change.cause or "none") for change in found),
        swaps=_swaps(found),
        pace=_pace(answers),
        records=len(data.groups),
        duplicate_groups=sum(size > 1 for size in sizes.values()),
        duplicate_records=sum(size for size in sizes.values() if size > 1),
        contradictions=(len(contradicting & decided.keys()), len(contradicting)),
        by_twin=sum(change.twin_of is not None for change in found),
        disputed=tuple(cell for cell, verdict in decisions.items() if verdict.disputed),
    )


class _Data:
    """Of the scanned records what the tables need: near-duplicate group, annotator and labels."""

    def __init__(self, scan: Scan) -> None:
        self.groups: dict[str, int] = {}
        self.annotator: dict[str, str] = {}
        self.labels: dict[str, frozenset[str]] = {}
        self.unknown: dict[str, frozenset[str]] = {}
        self.policies = scan.taxonomy.ids
        for stored in scan.records():
            self.groups[stored.id] = stored.duplicates
            self.annotator[stored.id] = str(stored.fields.get("annotator") or _NOBODY)
            self.labels[stored.id] = frozenset(stored.fields.get("labels") or ())
            self.unknown[stored.id] = frozenset(stored.fields.get("unknown") or ())

    def annotators_votes(self) -> Iterable[list[bool]]:
        """Labels that different annotators gave to near-duplicates, policy by policy."""
        members: dict[int, dict[str, str]] = defaultdict(dict)
        for record, group in self.groups.items():
            if self.annotator[record] != _NOBODY:
                members[group].setdefault(self.annotator[record], record)
        for records in members.values():
            if len(records) > 1:
                for policy in self.policies:
                    yield [
                        policy in self.labels[record]
                        for record in records.values()
                        if policy not in self.unknown[record]
                    ]


def _votes(answers: Sequence[Answer]) -> dict[Cell, list[bool]]:
    """Of each cell the latest opinion of each reviewer; who adjudicates has seen the others' and is left out."""
    by_cell: dict[Cell, list[Answer]] = defaultdict(list)
    for answer in standing(answers):
        by_cell[answer.record, answer.policy].append(answer)
    votes = {}
    for cell, given in by_cell.items():
        own = {
            answer.reviewer: answer.answer == "has"
            for (stage, _), answer in latest_answers(given).items()
            if stage != "adjudication" and answer.answer in ("has", "has_not")
        }
        votes[cell] = list(own.values())
    return votes


def _controls_with_labels(
    items: Iterable[Item], decided: Mapping[Cell, bool | None], answers: Sequence[Answer]
) -> list[list[bool]]:
    """Label and verdict of each cell that was met as a control: those met as suspects are the worst there are, and say
    nothing of the rest."""
    met: dict[Cell, object] = {}
    for answer in standing(answers):
        met.setdefault((answer.record, answer.policy), answer.shown.get("cause", "control"))
    return [
        [item.given, bool(decided[cell])]
        for item in items
        if item.cause == "control"
        and (cell := (item.record, item.policy)) in decided
        and met.get(cell) == "control"
    ]


def _reliability(
    data: _Data, decided: Mapping[Cell, bool | None], items: Iterable[Item]
) -> tuple[Reliability, ...]:
    planted = {(item.record, item.policy) for item in items if item.cause == "planted"}
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for (record, policy), holds in decided.items():
        annotator = data.annotator.get(record, _NOBODY)
        if annotator == _NOBODY or (record, policy) in planted or policy in data.unknown[record]:
            continue
        count = counts[annotator, policy]
        count[0] += 1
        count[1] += holds == (policy in data.labels[record])
    return tuple(
        Reliability(annotator, policy, total, share_interval(right, total))
        for (annotator, policy), (total, right) in sorted(counts.items())
    )


def _swaps(found: Iterable[Change]) -> dict[tuple[str, str], int]:
    taken: dict[str, list[str]] = defaultdict(list)
    given: dict[str, list[str]] = defaultdict(list)
    for change in found:
        (given if change.new else taken)[change.record].append(change.policy)
    return Counter((a, b) for record, gone in taken.items() for a in gone for b in given[record])


def _pace(answers: Sequence[Answer]) -> tuple[Pace, ...]:
    times: dict[tuple[str, str], list[int]] = defaultdict(list)
    for answer in answers:
        if answer.answer not in ("undo", "comment"):
            times[answer.reviewer, answer.at[:10]].append(answer.milliseconds)
    return tuple(
        Pace(reviewer, day, len(taken), sorted(taken)[len(taken) // 2] / 1000.0)
        for (reviewer, day), taken in sorted(times.items())
    )


def touched_records(answers: Sequence[Answer]) -> set[str]:
    """Records that the audit touched: somebody's word stands on one of their cells."""
    return {record for record, _ in verdicts(answers)}
