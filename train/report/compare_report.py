"""A comparison of two runs as a table for the terminal and as one HTML file that opens offline."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.display import visible
from ...core.extras import require
from ...data.taxonomy import Taxonomy
from ..evaluation.compare import EFFECTS, ChangedRecord, Comparison, Difference
from ..evaluation.decision_rule import DECISIONS
from ..evaluation.headline import HEADLINE
from .page import write_page
from .table import new_table, number, plain_text

_SHOWN_RECORDS = 300
_TERMINAL_RECORDS = 10


def format_comparison(comparison: Comparison) -> str:
    """A comparison as plain text: figures, tests, decisions, and the records that changed most."""
    first = (
        f"A = {comparison.first}, B = {comparison.second}: {comparison.records:,} records of "
        f"{comparison.domains:,} domains, {comparison.violating:,} in violation"
    )
    tables = (_figures(comparison), _policies(comparison), _tests(comparison), _decisions(comparison))
    changed = [_changed(comparison.changed[:_TERMINAL_RECORDS])] if comparison.changed else []
    return plain_text(first, *tables, _summary(comparison.changed), *changed)


def _figures(comparison: Comparison) -> Any:
    level = f"{100 * comparison.bootstrap.confidence:g} % interval"
    table = new_table("figure", "A", "B", "B - A", level, "B is")
    for key, shown in HEADLINE.items():
        table.add_row(shown.label, *_difference(comparison.headline[key]))
    return table


def _difference(row: Difference) -> tuple[str, ...]:
    bounds = "" if row.low is None else f"{row.low:+.3f} to {row.high:+.3f}"
    return number(row.first), number(row.second), number(row.change, signed=True), bounds, row.verdict


def _policies(comparison: Comparison) -> Any:
    text = require("rich.text", "cli").Text
    table = new_table("policy", "violations", "AP A", "AP B", "B - A", "interval", "B is")
    for row in comparison.per_policy:
        if row.support:
            table.add_row(text(row.policy), str(row.support), *_difference(row.average_precision))
    return table


def _tests(comparison: Comparison) -> Any:
    table = new_table("decisions (McNemar, exact)", "records", "only A right", "only B right", "p")
    for row in comparison.mcnemar:
        counts = map(str, (row.records, row.only_first, row.only_second))
        table.add_row(f"{row.at}, {row.of} records", *counts, f"{row.p:.3g}")
    return table


def _decisions(comparison: Comparison) -> Any:
    table = new_table("A decides", *(f"B: {name}" for name in DECISIONS))
    for name, counts in zip(DECISIONS, comparison.decisions, strict=True):
        table.add_row(name, *map(str, counts))
    return table


def _summary(changed: Sequence[ChangedRecord]) -> str:
    counts = {effect: sum(row.effect == effect for row in changed) for effect in EFFECTS}
    return (
        f"{len(changed)} records changed: {counts['fixed']} decided better by B, {counts['broken']} worse, "
        f"{counts['other']} with the same decision for other policies (or not judged)"
    )


def _changed(rows: Sequence[ChangedRecord]) -> Any:
    text = require("rich.text", "cli").Text
    table = new_table("record", "effect", "decision", "labels", "moved most")
    for row in rows:
        moved = f"{row.policy} {row.probability_before:.2f} -> {row.probability_after:.2f}"
        labels = ", ".join(row.labels) or "compliant"
        decision = f"{row.before} -> {row.after}"
        table.add_row(text(visible(row.id, 40)), row.effect, decision, text(labels), text(moved))
    return table


def write_comparison(path: Path, comparison: Comparison, taxonomy: Taxonomy) -> None:
    """Write the comparison as one self-contained HTML file, atomically; merchants' text is bounded and escaped.

    :raises StorageError: if the disk is full or the place not writable; `path` is then unchanged.
    """
    changed = [
        replace(row, id=visible(row.id, 120), domain=visible(row.domain, 120), text=visible(row.text, 700))
        for row in comparison.changed[:_SHOWN_RECORDS]
    ]
    policies = [row for row in comparison.per_policy if row.support]
    figures = [(shown.label, comparison.headline[key]) for key, shown in HEADLINE.items()]
    differences = [row for _, row in figures] + [policy.average_precision for policy in policies]
    context = {
        "comparison": comparison,
        "first": visible(comparison.first, 120),
        "second": visible(comparison.second, 120),
        "changed": changed,
        "hidden": len(comparison.changed) - len(changed),
        "summary": _summary(comparison.changed),
        "figures": figures,
        "policies": policies,
        "widest": max(map(_reach, differences), default=0.0) or 1.0,
        "decision_names": DECISIONS,
    }
    titles = {policy.id: policy.title for policy in taxonomy.policies}
    write_page(path, "compare.html.j2", context, titles=titles)


def _reach(row: Difference) -> float:
    """How far from zero a difference and its interval go."""
    ends = (row.change, row.low, row.high)
    return max((abs(value) for value in ends if value is not None), default=0.0)
