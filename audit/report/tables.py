"""The results of an audit as plain tables, from which its report is made."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..apply.provenance import Change, changes
from ..estimation.agreement import Agreement, agreement, by_policy
from ..estimation.estimates import Estimates, Estimator
from ..estimation.intervals import Interval, share_interval
from ..estimation.outcomes import latest_answers, outcomes, standing_answers
from ..estimation.stopping import StopRule
from ..storage.items import Answer, Cell, Item
from ..storage.store import Scan

_UNNAMED = ""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Reviewed labels of one annotator for one policy: the number `decided`, and the share that was right."""

    annotator: str
    policy: str
    decided: int
    right: Interval


@dataclass(frozen=True, slots=True)
class Pace:
    """A reviewer's day: number of answers, and the median seconds from showing to answering."""

    reviewer: str
    day: str
    answers: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables. `swaps`: (policy removed, policy added) in one record -> how often. `duplicate_groups`: groups of more than one
    record; `contradictions`: number of decided items and of all items whose near-duplicates have another label;
    `by_duplicate`: changes of cells whose exact duplicate was answered."""

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
    by_duplicate: int
    disputed: tuple[Cell, ...]


def audit_tables(scan: Scan, answers: Sequence[Answer], rule: StopRule | None = None) -> Tables:
    """All tables of a scan and its answers."""
    items = [item for _, item in scan.items()]
    found = changes(scan, answers)
    votes = _votes(answers)
    by_cell = outcomes(answers)
    decided = {cell: outcome.holds for cell, outcome in by_cell.items() if outcome.holds is not None}
    data = _Data(scan)
    contradicting = {item.cell for item in items if item.cause == "contradicting_duplicates"}
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
        by_duplicate=sum(change.duplicate_of is not None for change in found),
        disputed=tuple(cell for cell, outcome in by_cell.items() if outcome.disputed),
    )


class _Data:
    """What the tables need of the scanned records: near-duplicate group, annotator and labels."""

    def __init__(self, scan: Scan) -> None:
        self.groups: dict[str, int] = {}
        self.annotator: dict[str, str] = {}
        self.labels: dict[str, frozenset[str]] = {}
        self.unknown: dict[str, frozenset[str]] = {}
        self.policies = scan.taxonomy.ids
        for stored in scan.records():
            self.groups[stored.id] = stored.duplicates
            self.annotator[stored.id] = str(stored.fields.get("annotator") or _UNNAMED)
            self.labels[stored.id] = frozenset(stored.fields.get("labels") or ())
            self.unknown[stored.id] = frozenset(stored.fields.get("unknown") or ())

    def annotators_votes(self) -> Iterable[list[bool]]:
        """For each group of near-duplicates and each policy, the labels by different annotators."""
        members: dict[int, dict[str, str]] = defaultdict(dict)
        for record, group in self.groups.items():
            if self.annotator[record] != _UNNAMED:
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
    """The latest vote of each reviewer on each cell, without adjudications, which are not independent."""
    by_cell: dict[Cell, list[Answer]] = defaultdict(list)
    for answer in standing_answers(answers):
        by_cell[answer.cell].append(answer)
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
    """Label and outcome of each cell that was reviewed as a control. Cells reviewed as suspects are the most doubtful ones and not
    representative of the rest."""
    first: dict[Cell, object] = {}
    for answer in standing_answers(answers):
        first.setdefault(answer.cell, answer.shown.get("cause", "control"))
    return [
        [item.given, bool(decided[item.cell])]
        for item in items
        if item.cause == "control" and item.cell in decided and first.get(item.cell) == "control"
    ]


def _reliability(
    data: _Data, decided: Mapping[Cell, bool | None], items: Iterable[Item]
) -> tuple[Reliability, ...]:
    gold = {item.cell for item in items if item.cause == "gold"}
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for (record, policy), holds in decided.items():
        annotator = data.annotator.get(record, _UNNAMED)
        if annotator == _UNNAMED or (record, policy) in gold or policy in data.unknown[record]:
            continue
        count = counts[annotator, policy]
        count[0] += 1
        count[1] += holds == (policy in data.labels[record])
    return tuple(
        Reliability(annotator, policy, total, share_interval(right, total))
        for (annotator, policy), (total, right) in sorted(counts.items())
    )


def _swaps(found: Iterable[Change]) -> dict[tuple[str, str], int]:
    removed: dict[str, list[str]] = defaultdict(list)
    added: dict[str, list[str]] = defaultdict(list)
    for change in found:
        (added if change.new else removed)[change.record].append(change.policy)
    return Counter((old, new) for record, gone in removed.items() for old in gone for new in added[record])


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
    """Records that the audit touched: one of their cells has an outcome."""
    return {record for record, _ in outcomes(answers)}
