"""A comparison of two runs as a table for the terminal and as one HTML file that opens offline."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.display import visible
from ...core.extras import require
from ...data.taxonomy import Taxonomy
from ..evaluation.compare import DECISIONS
from .page import write_page
from .table import HEADLINE, WIDTH, new_table

_SHOWN_RECORDS = 300
_TERMINAL_RECORDS = 10


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """What `compare` returned as plain text: figures, tests, decisions, and the records that changed most."""
    console_module = require("rich.console", "cli")
    stream = io.StringIO()
    console = console_module.Console(file=stream, width=WIDTH, no_color=True, highlight=False, markup=False)
    console.print(
        f"A = {comparison['first']}, B = {comparison['second']}: {comparison['records']:,} records of "
        f"{comparison['domains']:,} domains, {comparison['violating']:,} in violation"
    )
    for table in (_figures(comparison), _policies(comparison), _tests(comparison), _decisions(comparison)):
        console.print(table)
    console.print(_summary(comparison["changed"]))
    if comparison["changed"]:
        console.print(_changed(comparison["changed"][:_TERMINAL_RECORDS]))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _figures(comparison: Mapping[str, Any]) -> Any:
    level = f"{100 * comparison['bootstrap']['confidence']:g} % interval"
    table = new_table("figure", "A", "B", "B - A", level, "B is")
    for key, name in HEADLINE:
        table.add_row(name, *_difference(comparison["headline"][key]))
    return table


def _difference(row: Mapping[str, Any]) -> tuple[str, ...]:
    bounds = "" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
    return (
        *(_number(row[key]) for key in ("first", "second")),
        _number(row["change"], signed=True),
        bounds,
        row["verdict"],
    )


def _policies(comparison: Mapping[str, Any]) -> Any:
    text = require("rich.text", "cli").Text
    table = new_table("policy", "violations", "AP A", "AP B", "B - A", "interval", "B is")
    for row in comparison["per_policy"]:
        if row["support"]:
            table.add_row(text(row["policy"]), str(row["support"]), *_difference(row["average_precision"]))
    return table


def _tests(comparison: Mapping[str, Any]) -> Any:
    table = new_table("decisions (McNemar, exact)", "records", "only A right", "only B right", "p")
    for row in comparison["mcnemar"]:
        table.add_row(
            f"{row['at']}, {row['of']} records",
            *(str(row[key]) for key in ("records", "only_first", "only_second")),
            f"{row['p']:.3g}",
        )
    return table


def _decisions(comparison: Mapping[str, Any]) -> Any:
    table = new_table("A decides", *(f"B: {name}" for name in DECISIONS))
    for name, counts in zip(DECISIONS, comparison["decisions"], strict=True):
        table.add_row(name, *map(str, counts))
    return table


def _summary(changed: Sequence[Mapping[str, Any]]) -> str:
    counts = {
        effect: sum(row["effect"] == effect for row in changed) for effect in ("mended", "broken", "other")
    }
    return (
        f"{len(changed)} records changed: {counts['mended']} decided better by B, {counts['broken']} worse, "
        f"{counts['other']} with the same decision for other policies (or not judged)"
    )


def _changed(rows: Sequence[Mapping[str, Any]]) -> Any:
    text = require("rich.text", "cli").Text
    table = new_table("record", "effect", "decision", "labels", "moved most")
    for row in rows:
        moved = f"{row['policy']} {row['probability_before']:.2f} -> {row['probability_after']:.2f}"
        decision = f"{row['before']} -> {row['after']}"
        labels = ", ".join(row["labels"]) or "compliant"
        table.add_row(text(visible(row["id"], 40)), row["effect"], decision, text(labels), text(moved))
    return table


def write_comparison(path: Path, comparison: Mapping[str, Any], taxonomy: Taxonomy) -> None:
    """Write the comparison as one self-contained HTML file, atomically; merchants' text is bounded and escaped.

    :raises StorageError: if the disk is full or the place not writable; `path` is then unchanged.
    """
    changed = [
        dict(
            row,
            id=visible(row["id"], 120),
            domain=visible(row["domain"], 120),
            text=visible(row["text"], 700),
        )
        for row in comparison["changed"][:_SHOWN_RECORDS]
    ]
    figures = [{"name": name, **comparison["headline"][key]} for key, name in HEADLINE]
    policies = [row for row in comparison["per_policy"] if row["support"]]
    widest = max(
        (_reach(row) for row in [*figures, *(p["average_precision"] for p in policies)]), default=0.0
    )
    context = {
        **comparison,
        "first": visible(comparison["first"], 120),
        "second": visible(comparison["second"], 120),
        "changed": changed,
        "hidden": len(comparison["changed"]) - len(changed),
        "summary": _summary(comparison["changed"]),
        "figures": figures,
        "policies": policies,
        "widest": widest or 1.0,
        "decision_names": DECISIONS,
    }
    titles = {policy.id: policy.title for policy in taxonomy.policies}
    write_page(path, "compare.html.j2", context, titles=titles)


def _reach(row: Mapping[str, Any]) -> float:
    """How far from zero a difference and its interval go."""
    return max((abs(row[key]) for key in ("change", "low", "high") if row[key] is not None), default=0.0)


def _number(value: float | None, *, signed: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if signed else ''}.3f}"
