"""The trials of a search as a table for the terminal and as one HTML page with its charts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.extras import require
from ..report.charts import BLUE, GREY, styled
from ..report.page import write_page
from ..report.table import new_table, plain_text
from .search import Trial


def _ordered(trials: Sequence[Trial]) -> list[Trial]:
    return sorted(
        trials, key=lambda trial: (-(trial.figure if trial.figure is not None else -1.0), trial.number)
    )


def format_trials(trials: Sequence[Trial]) -> str:
    """The trials as a table: best first, then those without a figure."""
    names = sorted({name for trial in trials for name in trial.values})
    table = new_table("trial", "state", "validation AP", "evaluations", *names)
    for trial in _ordered(trials):
        values = [_value(trial.values.get(name)) for name in names]
        figure = "-" if trial.figure is None else f"{trial.figure:.4f}"
        table.add_row(str(trial.number), trial.state, figure, str(trial.evaluations), *values)
    return plain_text(table)


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_search(
    path: Path, trials: Sequence[Trial], *, title: str, errors: Mapping[int, str], best: str
) -> None:
    """Write the trials as one self-contained HTML file, atomically.

    :param best: the best settings as YAML.
    """
    names = sorted({name for trial in trials for name in trial.values})
    ended = [trial for trial in trials if trial.figure is not None]
    specs = {"spec-history": _history(ended)} if ended else {}
    specs |= {f"spec-{place}": _against(name, ended) for place, name in enumerate(names)} if ended else {}
    rows = [
        {
            "number": trial.number,
            "state": trial.state,
            "figure": trial.figure,
            "evaluations": trial.evaluations,
            "cells": [_value(trial.values.get(name)) for name in names],
        }
        for trial in _ordered(trials)
    ]
    context = {
        "title": title,
        "rows": rows,
        "names": names,
        "charts": [(f"spec-{place}", name) for place, name in enumerate(names)] if ended else [],
        "history": "spec-history" if ended else "",
        "errors": sorted(errors.items()),
        "best": best,
    }
    write_page(path, "search.html.j2", context, specs=specs, titles={}, package=__package__)


def _history(ended: Sequence[Trial]) -> dict[str, Any]:
    """Figures by trial, and the best so far as a line."""
    alt = require("altair", "train")
    best, rows = 0.0, []
    for trial in sorted(ended, key=lambda t: t.number):
        best = max(best, trial.figure or 0.0)
        rows.append({"trial": trial.number, "figure": trial.figure, "best": best})
    chart = alt.Chart(alt.Data(values=rows)).encode(x=alt.X("trial:Q", title="Trial"))
    scale = alt.Scale(zero=False)
    points = chart.mark_point(color=BLUE, filled=True, opacity=1).encode(
        y=alt.Y("figure:Q", title="Validation macro average precision", scale=scale),
        tooltip=["trial:Q", alt.Tooltip("figure:Q", format=".4f")],
    )
    line = chart.mark_line(color=GREY, interpolate="step-after").encode(y=alt.Y("best:Q", scale=scale))
    return styled((line + points).properties(width="container", height=260))


def _against(name: str, ended: Sequence[Trial]) -> dict[str, Any]:
    """Figures against one setting: a scatter, on a log scale where values span a factor of ten."""
    alt = require("altair", "train")
    values = [trial.values[name] for trial in ended]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    wide = numeric and min(values) > 0 and max(values) >= 10 * min(values)
    rows = [
        {"value": trial.values[name] if numeric else _value(trial.values[name]), "figure": trial.figure}
        for trial in ended
    ]
    scale = alt.Scale(type="log") if wide else alt.Scale(zero=False) if numeric else alt.Undefined
    x = alt.X(f"value:{'Q' if numeric else 'N'}", title=name, scale=scale)
    chart = alt.Chart(alt.Data(values=rows)).mark_point(color=BLUE, filled=True, opacity=0.8)
    y = alt.Y("figure:Q", title=None, scale=alt.Scale(zero=False))
    return styled(chart.encode(x=x, y=y).properties(width="container", height=180))
