"""The audit report: one HTML file that opens offline, in the style of a run's report."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.display import visible
from ...data.taxonomy import Taxonomy
from ...train.report.page import write_page
from ..apply.provenance import Change
from ..estimation.agreement import Agreement
from ..estimation.intervals import Interval
from ..estimation.outcomes import standing_answers
from ..storage.items import QUEUE_NAMES, Answer
from ..storage.store import Scan
from .charts import count_chart, grid_chart, share_chart
from .tables import Reliability, Tables

if TYPE_CHECKING:  # it imports torch
    from .retrain import RetrainComparison

_SHOWN_CHANGES = 100
_SHOWN_ANNOTATORS = 30
_LEAST_CELLS = 5
_SHOWN_COMMENTS = 200
ADDED, SAME_TEXT = "Added by a reviewer", "Same text as a checked record"
CAUSE_TITLES: dict[str, str] = {str(cause): name for cause, name in QUEUE_NAMES.items()}
CAUSE_TITLES["none"] = "In no queue"


@dataclass(frozen=True, slots=True)
class Headline:
    """A figure at the top of the page, with its interval or a remark."""

    name: str
    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class PolicyErrors:
    """Labels of a policy that were removed and added."""

    title: str
    removed: int
    added: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """Records where one policy was removed and another added."""

    removed: str
    added: str
    count: int


@dataclass(frozen=True, slots=True)
class ShownChange:
    """A changed cell as the page lists it: everything cut to a length and safe to show."""

    record: str
    policy: str
    old: str
    new: str
    cause: str
    reviewers: str
    at: str
    duplicate_of: str
    comments: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class ShownComment:
    """What a reviewer wrote on a cell, cut to a length and safe to show."""

    record: str
    policy: str
    reviewer: str
    comment: str


class _Titles(dict[str, str]):
    """Titles by policy; a policy that only occurs in answers to an earlier scan is shown by its id."""

    def __missing__(self, policy: str) -> str:
        return policy


def write_audit_page(
    path: Path,
    scan: Scan,
    answers: Sequence[Answer],
    tables: Tables,
    *,
    title: str,
    retraining: "RetrainComparison | None" = None,
) -> None:
    """Write the report; text by merchants, annotators and reviewers is cut, escaped and cannot hide or reorder other text.

    :param retraining: the result of `retrain`, if it was run.
    :raises StorageError: if the disk is full or not writable; `path` is then unchanged.
    """
    titles = _Titles((policy.id, policy.title) for policy in scan.taxonomy.policies)
    estimates = tables.estimates
    specs = _specs(tables, titles)
    context = {
        "title": title,
        "level": "90 %",
        "answers": len(answers),
        "tables": tables,
        "estimates": estimates,
        "headlines": _headlines(tables),
        "causes": CAUSE_TITLES,
        "queues": [(CAUSE_TITLES[queue.cause], queue) for queue in estimates.queues],
        "reviewers": [(visible(row.reviewer, 60), row) for row in estimates.reviewers],
        "pace": [(visible(row.reviewer, 60), row) for row in tables.pace],
        "agreements": _agreements(tables, titles),
        "reliability": _worst_reliability(tables.reliability, titles),
        "annotators": len({row.annotator for row in tables.reliability}),
        "errors": _errors(tables.changes, titles),
        "swaps": [
            Confusion(titles[old], titles[new], count)
            for (old, new), count in sorted(tables.swaps.items(), key=lambda pair: -pair[1])
        ],
        "annotator_factors": _annotator_factors(scan),
        "changes": [_shown_change(change, scan, titles) for change in tables.changes[:_SHOWN_CHANGES]],
        "comments": _comments(answers, titles),
        "hidden_changes": max(len(tables.changes) - _SHOWN_CHANGES, 0),
        "disputed": [(visible(record, 120), titles[policy]) for record, policy in tables.disputed],
        "retraining": retraining,
        "data": [(visible(name, 300), digest) for name, digest in scan.summary.files.items()],
    }
    write_page(path, "audit_report.html.j2", context, specs=specs, titles=titles, package=__package__)


def _headlines(tables: Tables) -> list[Headline]:
    estimates = tables.estimates
    remaining = estimates.remaining
    left = remaining.left if remaining else None
    return [
        Headline("Labels checked", f"{estimates.decided:,}"),
        Headline("Wrong among them", f"{estimates.wrong:,}"),
        Headline(
            "Probably still wrong",
            f"about {estimates.expected_left:,.0f}" if left else "–",
            f"random checks allow {left.low:,.0f} to {left.high:,.0f}"
            if left
            else "no random checks are answered yet",
        ),
        _alpha_headline("Reviewers agree with each other (alpha)", tables.reviewers),
        _alpha_headline("Reviewers agree with the labels (alpha)", tables.with_labels),
        Headline("Disputed", f"{len(tables.disputed):,}", "wait for adjudication" if tables.disputed else ""),
    ]


def _alpha_headline(name: str, found: Agreement) -> Headline:
    alpha = found.alpha
    if found.cells < _LEAST_CELLS:
        return Headline(name, "–", f"needs {_LEAST_CELLS} labels with two votes, has {found.cells}")
    if math.isnan(alpha.point):
        return Headline(name, "–", f"all votes on {found.cells} labels are the same")
    return Headline(name, f"{alpha.point:.2f}", f"{alpha.low:.2f} to {alpha.high:.2f}")


def _agreements(tables: Tables, titles: Mapping[str, str]) -> list[tuple[str, Agreement]]:
    rows = [
        ("Reviewers, on labels with two or more votes", tables.reviewers),
        ("Current labels and reviewers, on random checks", tables.with_labels),
        ("Annotators, on near-duplicates that several labelled", tables.annotators),
    ]
    by_policy = sorted(tables.reviewers_by_policy.items(), key=lambda pair: -pair[1].cells)
    rows += [(f"Reviewers: {titles[policy]}", found) for policy, found in by_policy]
    return [row for row in rows if row[1].cells >= _LEAST_CELLS]


def _worst_reliability(
    rows: Sequence[Reliability], titles: Mapping[str, str]
) -> list[tuple[str, str, Reliability]]:
    """Cells of the annotator x policy table with a wrong label, the least reliable first."""
    found = [row for row in rows if row.right.point < 1.0]
    found.sort(key=lambda row: (row.right.high, row.right.point))
    return [(visible(row.annotator, 60), titles[row.policy], row) for row in found[:_SHOWN_ANNOTATORS]]


def _errors(changes: Sequence[Change], titles: Mapping[str, str]) -> list[PolicyErrors]:
    """Labels removed and added for each policy, the most first."""
    removed = Counter(change.policy for change in changes if not change.new)
    added = Counter(change.policy for change in changes if change.new)
    return [
        PolicyErrors(titles[policy], removed[policy], added[policy])
        for policy, _ in (removed + added).most_common()
    ]


def _annotator_factors(scan: Scan) -> list[tuple[str, float]]:
    """Errors of each annotator over the average, as the scan estimated them; the most first."""
    ranked = sorted(scan.summary.annotator_factors.items(), key=lambda pair: -pair[1])
    return [(visible(name or "(unnamed)", 60), float(factor)) for name, factor in ranked[:_SHOWN_ANNOTATORS]]


def _comments(answers: Sequence[Answer], titles: Mapping[str, str]) -> list[ShownComment]:
    """What reviewers wrote, on every cell whether its label changed or not; the latest first."""
    written = [answer for answer in standing_answers(answers) if answer.comment]
    return [
        ShownComment(
            visible(answer.record, 120),
            titles[answer.policy],
            visible(answer.reviewer, 60),
            visible(answer.comment, 300),
        )
        for answer in written[::-1][:_SHOWN_COMMENTS]
    ]


def _shown_change(change: Change, scan: Scan, titles: Mapping[str, str]) -> ShownChange:
    fields = scan.record(change.record).fields
    pages = fields.get("pages") or [{"text": fields.get("text") or ""}]
    text = "\n".join(
        part
        for part in (fields.get("name"), fields.get("description"), *(page.get("text") for page in pages))
        if part
    )
    return ShownChange(
        record=visible(change.record, 120),
        policy=titles[change.policy],
        old={True: "violates", False: "does not violate", None: "unlabelled"}[change.old],
        new="violates" if change.new else "does not violate",
        cause=CAUSE_TITLES[change.cause] if change.cause else SAME_TEXT if change.duplicate_of else ADDED,
        reviewers=", ".join(visible(name, 60) for name in change.reviewers),
        at=change.at[:16].replace("T", " "),
        duplicate_of=visible(change.duplicate_of, 120) if change.duplicate_of else "",
        comments=tuple(visible(comment, 300) for comment in change.comments),
        text=visible(text, 700),
    )


def _specs(tables: Tables, titles: Mapping[str, str]) -> dict[str, Any]:
    """Charts by their name on the page; those without data are left out."""
    queues = [
        {"title": CAUSE_TITLES[queue.cause], "of": queue.decided} | _share(queue.precision)
        for queue in tables.estimates.queues
        if queue.decided
    ]
    reviewers = [
        {"title": visible(row.reviewer, 40), "of": row.gold} | _share(row.accuracy)
        for row in tables.estimates.reviewers
        if row.gold
    ]
    errors = [
        {"title": titles[policy], "cause": CAUSE_TITLES[cause], "count": count}
        for (policy, cause), count in tables.errors.items()
    ]
    grid = _grid(tables.reliability, titles)
    swaps = [
        {"row": titles[old], "column": titles[new], "count": count, "cells": count}
        for (old, new), count in tables.swaps.items()
    ]
    specs: dict[str, Any] = {}
    if queues:
        specs["spec-queues"] = share_chart(queues, "Share of checked labels that were wrong")
    if reviewers:
        specs["spec-reviewers"] = share_chart(reviewers, "Share of correct answers where the answer is known")
    if errors:
        specs["spec-errors"] = count_chart(errors)
    if grid:
        specs["spec-reliability"] = grid_chart(grid, value="wrong", legend="Wrong", share=True)
    if swaps:
        specs["spec-swaps"] = grid_chart(swaps, value="count", legend="Records", share=False)
    return specs


def _grid(rows: Sequence[Reliability], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The annotators with the most decided cells, by policy."""
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row.annotator] += row.decided
    kept = {annotator for annotator, _ in totals.most_common(_SHOWN_ANNOTATORS)}
    return [
        {
            "row": visible(row.annotator, 40),
            "column": titles[row.policy],
            "wrong": 1.0 - row.right.point,
            "cells": row.decided,
        }
        for row in rows
        if row.annotator in kept
    ]


def _share(interval: Interval) -> dict[str, float]:
    return {"value": interval.point, "low": interval.low, "high": interval.high}


def page_title(taxonomy: Taxonomy, records: int) -> str:
    """The title of the report."""
    return f"Label audit of {records:,} records, {len(taxonomy)} policies"
