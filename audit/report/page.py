"""The audit report: one HTML file that opens offline, in the style of a run's report."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.display import visible
from ...data.taxonomy import Taxonomy
from ...train.report.page import write_page
from ..apply.provenance import Change
from ..estimation.agreement import Agreement
from ..estimation.intervals import Interval
from ..storage.items import Answer
from ..storage.store import Scan
from .charts import count_chart, grid_chart, share_chart
from .tables import Reliability, Tables

_SHOWN_CHANGES = 100
_SHOWN_ANNOTATORS = 30
_LEAST_CELLS = 5
CAUSE_TITLES = {
    "wrong_positive": "Wrong positive",
    "missing_positive": "Missing positive",
    "confused_pair": "Confused pair",
    "contradicting_duplicates": "Contradicting near-duplicates",
    "annotator_disagreement": "Disagreement of annotators",
    "annotator_drift": "Drift of an annotator",
    "control": "Random control",
    "planted": "Planted",
    "none": "Near-duplicate",
}


class _Titles(dict[str, str]):
    """Titles by policy; one that only answers to an earlier scan know goes by its id."""

    def __missing__(self, policy: str) -> str:
        return policy


def write_audit_page(
    path: Path,
    scan: Scan,
    answers: Sequence[Answer],
    tables: Tables,
    *,
    title: str,
    retraining: Mapping[str, Any] | None = None,
) -> None:
    """Write the report; what merchants, annotators and reviewers wrote is bounded, escaped and cannot hide or reorder text.

    :param retraining: what `retrain` gave, if it was asked for.
    :raises StorageError: if the disk is full or the place not writable; `path` is then unchanged.
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
        "cards": _cards(tables),
        "causes": CAUSE_TITLES,
        "queues": [(CAUSE_TITLES[queue.cause], queue) for queue in estimates.queues],
        "reviewers": [(visible(row.reviewer, 60), row) for row in estimates.reviewers],
        "pace": [(visible(row.reviewer, 60), row) for row in tables.pace],
        "agreements": _agreements(tables, titles),
        "reliability": _worst_reliability(tables.reliability, titles),
        "annotators": len({row.annotator for row in tables.reliability}),
        "errors": _errors(tables.changes, titles),
        "swaps": [
            {"gone": titles[a], "new": titles[b], "count": count}
            for (a, b), count in sorted(tables.swaps.items(), key=lambda pair: -pair[1])
        ],
        "annotator_factors": _annotator_factors(scan),
        "changes": [
            _shown_change(change, scan, answers, titles) for change in tables.changes[:_SHOWN_CHANGES]
        ],
        "hidden_changes": max(len(tables.changes) - _SHOWN_CHANGES, 0),
        "disputed": [(visible(record, 120), titles[policy]) for record, policy in tables.disputed],
        "retraining": retraining,
        "data": [(visible(name, 300), digest) for name, digest in scan.about.get("files", {}).items()],
    }
    write_page(path, "audit_report.html.j2", context, specs=specs, titles=titles, package=__package__)


def _cards(tables: Tables) -> list[dict[str, str]]:
    estimates = tables.estimates
    left = estimates.remaining
    cards = [
        {"name": "Cells decided", "value": f"{estimates.decided:,}", "interval": ""},
        {"name": "Wrong labels among them", "value": f"{estimates.wrong:,}", "interval": ""},
        {
            "name": "Errors left, by p_label_error",
            "value": f"{estimates.expected_left:,.0f}" if left else "–",
            "interval": "as far as borne out",
        },
        {
            "name": "Errors left, by controls",
            "value": f"{left.left.point:,.0f}" if left else "–",
            "interval": f"{left.left.low:,.0f} to {left.left.high:,.0f}" if left else "answer controls first",
        },
        _alpha_card("Agreement of reviewers (alpha)", tables.reviewers),
        _alpha_card("Labels and reviewers (alpha)", tables.with_labels),
        {
            "name": "Disputed",
            "value": f"{len(tables.disputed):,}",
            "interval": "wait for adjudication" if tables.disputed else "",
        },
    ]
    return cards


def _alpha_card(name: str, found: Agreement) -> dict[str, str]:
    alpha = found.alpha
    if math.isnan(alpha.point):
        return {"name": name, "value": "–", "interval": f"{found.cells} cells"}
    return {"name": name, "value": f"{alpha.point:.2f}", "interval": f"{alpha.low:.2f} to {alpha.high:.2f}"}


def _agreements(tables: Tables, titles: Mapping[str, str]) -> list[tuple[str, Agreement]]:
    rows = [
        ("Reviewers, cells that two or more judged", tables.reviewers),
        ("Given labels and reviewers, on cells met as controls", tables.with_labels),
        ("Annotators, on near-duplicates that several labelled", tables.annotators),
    ]
    by_policy = sorted(tables.reviewers_by_policy.items(), key=lambda pair: -pair[1].cells)
    rows += [
        (f"Reviewers: {titles[policy]}", found) for policy, found in by_policy if found.cells >= _LEAST_CELLS
    ]
    return [row for row in rows if row[1].cells]


def _worst_reliability(
    rows: Sequence[Reliability], titles: Mapping[str, str]
) -> list[tuple[str, str, Reliability]]:
    """Cells of the annotator x policy table, least surely right first; those with nothing wrong are left out."""
    found = [row for row in rows if row.right.point < 1.0]
    found.sort(key=lambda row: (row.right.high, row.right.point))
    return [(visible(row.annotator, 60), titles[row.policy], row) for row in found[:_SHOWN_ANNOTATORS]]


def _errors(changes: Sequence[Change], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Per policy: labels taken away and added, most first."""
    taken = Counter(change.policy for change in changes if not change.new)
    added = Counter(change.policy for change in changes if change.new)
    return [
        {"title": titles[policy], "taken": taken[policy], "added": added[policy]}
        for policy, _ in (taken + added).most_common()
    ]


def _annotator_factors(scan: Scan) -> list[tuple[str, float]]:
    """How many times as often as the average each annotator errs, as the scan's model saw it; the worst first."""
    factors = scan.about.get("annotators") or {}
    ranked = sorted(factors.items(), key=lambda pair: -pair[1])
    return [
        (visible(name or "(nobody named)", 60), float(factor)) for name, factor in ranked[:_SHOWN_ANNOTATORS]
    ]


def _shown_change(
    change: Change, scan: Scan, answers: Sequence[Answer], titles: Mapping[str, str]
) -> dict[str, Any]:
    fields = scan.record(change.record).fields
    pages = fields.get("pages") or [{"text": fields.get("text") or ""}]
    text = "\n".join(
        part
        for part in (fields.get("name"), fields.get("description"), *(page.get("text") for page in pages))
        if part
    )
    comments = [answer.comment for answer in answers if answer.number in change.answers and answer.comment]
    return {
        "record": visible(change.record, 120),
        "policy": titles[change.policy],
        "old": {True: "has it", False: "has it not", None: "nobody judged"}[change.old],
        "new": "has it" if change.new else "has it not",
        "cause": CAUSE_TITLES[change.cause or "none"],
        "reviewers": ", ".join(visible(name, 60) for name in change.reviewers),
        "at": change.at[:16].replace("T", " "),
        "duplicate_of": visible(change.duplicate_of, 120) if change.duplicate_of else "",
        "comments": [visible(comment, 300) for comment in comments],
        "text": visible(text, 700),
    }


def _specs(tables: Tables, titles: Mapping[str, str]) -> dict[str, Any]:
    """Charts by their name in the page; those without data are left out."""
    queues = [
        {"title": CAUSE_TITLES[queue.cause], "of": queue.decided} | _share(queue.precision)
        for queue in tables.estimates.queues
        if queue.decided
    ]
    reviewers = [
        {"title": visible(row.reviewer, 40), "of": row.planted} | _share(row.accuracy)
        for row in tables.estimates.reviewers
        if row.planted
    ]
    errors = [
        {"title": titles[policy], "cause": CAUSE_TITLES[cause], "count": count}
        for (policy, cause), count in tables.errors.items()
    ]
    grid = _grid(tables.reliability, titles)
    swaps = [
        {"row": titles[a], "column": titles[b], "count": count, "cells": count}
        for (a, b), count in tables.swaps.items()
    ]
    specs: dict[str, Any] = {}
    if queues:
        specs["spec-queues"] = share_chart(queues, "Wrong labels among those decided")
    if reviewers:
        specs["spec-reviewers"] = share_chart(reviewers, "Right answers on planted items")
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
    """What the report calls itself."""
    return f"Label audit of {records:,} records, {len(taxonomy)} policies"
