"""Tables for the terminal, and the figures of an evaluation as such."""

import io
from collections.abc import Iterable
from typing import Any

from ...core.extras import require
from ..evaluation.figures import Evaluation
from ..evaluation.headline import HEADLINE

_WIDTH = 110


def format_table(evaluation: Evaluation) -> str:
    """An evaluation as plain text: the headline figures, then one row per policy."""
    first = f"{evaluation.records:,} records of {evaluation.domains:,} domains, {evaluation.violating:,} in violation"
    return plain_text(first, _headline_table(evaluation), _policy_table(evaluation))


def plain_text(*parts: Any) -> str:
    """Lines and tables one below the other, without colour."""
    stream = io.StringIO()
    console = require("rich.console", "cli").Console(
        file=stream, width=_WIDTH, no_color=True, highlight=False, markup=False
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def new_table(first: str, *others: str) -> Any:
    """A table for the terminal: the first column to the left, numbers to the right."""
    table_module, box = require("rich.table", "cli"), require("rich.box", "cli")
    table = table_module.Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def number(value: float | None, *, signed: bool = False) -> str:
    """Three decimals, or "-" where there is no value."""
    return "-" if value is None else f"{value:{'+' if signed else ''}.3f}"


def _headline_table(evaluation: Evaluation) -> Any:
    table = new_table("figure", "value", f"{100 * evaluation.bootstrap.confidence:g} % interval")
    for key, shown in HEADLINE.items():
        figure = evaluation.headline[key]
        bounds = "" if figure.low is None else f"{figure.low:.3f} to {figure.high:.3f}"
        table.add_row(shown.label, number(figure.value), bounds)
    return table


def _policy_table(evaluation: Evaluation) -> Any:
    text = require("rich.text", "cli").Text
    table = new_table(
        "policy", "violations", "AP", "recall@95%P", "review P", "review R", "review F1", "block P", "block R"
    )
    for row in evaluation.per_policy:
        review, block = row.review, row.block
        table.add_row(
            text(row.policy),
            str(row.support),
            number(row.average_precision.value),
            number(row.recall_at_precision_95),
            *_numbers((review.precision, review.recall, review.f1)),
            *_numbers((block.precision, block.recall) if block else (None, None)),
        )
    macro = evaluation.macro
    table.add_section()
    table.add_row(
        "mean",
        str(macro.support),
        number(evaluation.headline["macro_average_precision"].value),
        number(macro.recall_at_precision_95),
        *_numbers((macro.review.precision, macro.review.recall, macro.review.f1)),
        *_numbers((macro.block.precision, macro.block.recall)),
    )
    return table


def _numbers(values: Iterable[float | None]) -> list[str]:
    return [number(value) for value in values]
