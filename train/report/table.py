"""The figures of an evaluation as a table for the terminal."""

import io
from collections.abc import Mapping
from typing import Any

from ...core.extras import require

HEADLINE = (
    ("macro_average_precision", "macro average precision"),
    ("any_violation_auroc", "AUROC, any violation"),
    ("false_alarm_rate_review", "false-alarm rate at review"),
    ("false_alarm_rate_block", "false-alarm rate at block"),
    ("smooth_calibration_error", "smooth calibration error"),
    ("adaptive_calibration_error", "adaptive calibration error"),
    ("brier_score", "Brier score"),
)
WIDTH = 110


def format_table(metrics: Mapping[str, Any]) -> str:
    """What `evaluate` returned as plain text: the headline figures, then one row per policy."""
    console_module = require("rich.console", "cli")
    stream = io.StringIO()
    console = console_module.Console(file=stream, width=WIDTH, no_color=True, highlight=False, markup=False)
    console.print(
        f"{metrics['records']:,} records of {metrics['domains']:,} domains, {metrics['violating']:,} in violation"
    )
    console.print(_headline_table(metrics))
    console.print(_policy_table(metrics))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _headline_table(metrics: Mapping[str, Any]) -> Any:
    table = new_table("figure", "value", f"{100 * metrics['bootstrap']['confidence']:g} % interval")
    for key, name in HEADLINE:
        figure = metrics["headline"][key]
        bounds = "" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
        table.add_row(name, _number(figure["value"]), bounds)
    return table


def _policy_table(metrics: Mapping[str, Any]) -> Any:
    text = require("rich.text", "cli").Text
    table = new_table(
        "policy", "violations", "AP", "recall@95%P", "review P", "review R", "review F1", "block P", "block R"
    )
    for row in metrics["per_policy"]:
        review, block = row["review"], row["block"] or {"precision": None, "recall": None}
        table.add_row(
            text(row["policy"]),
            str(row["support"]),
            _number(row["average_precision"]["value"]),
            _number(row["recall_at_precision_95"]),
            *(_number(review[key]) for key in ("precision", "recall", "f1")),
            *(_number(block[key]) for key in ("precision", "recall")),
        )
    macro = metrics["macro"]
    table.add_section()
    table.add_row(
        "mean",
        str(macro["support"]),
        _number(metrics["headline"]["macro_average_precision"]["value"]),
        _number(macro["recall_at_precision_95"]),
        *(_number(macro["review"][key]) for key in ("precision", "recall", "f1")),
        *(_number(macro["block"][key]) for key in ("precision", "recall")),
    )
    return table


def new_table(first: str, *others: str) -> Any:
    """A table for the terminal: the first column to the left, numbers to the right."""
    table_module, box = require("rich.table", "cli"), require("rich.box", "cli")
    table = table_module.Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
