"""The monitor's page: one HTML file that opens offline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.display import visible
from ...core.extras import require
from ...train.report.page import write_page
from .champion import Duel
from .figures import Figures


def write_monitor_page(path: Path, figures: Figures, *, title: str, duel: Duel | None = None) -> None:
    """Write the page, atomically; whatever comes from outside is escaped.

    :raises StorageError: if it cannot be written; `path` is then unchanged.
    """
    charts = [
        (f"precision-{number}", visible(f"{each.scope}, {each.process}", 120), _chart(each.points, figures))
        for number, each in enumerate(figures.precision)
        if len(each.points) > 1
    ][:30]
    context = {
        "title": visible(title, 120),
        "f": figures,
        "charts": [(name, label) for name, label, _ in charts],
        "duel": duel,
        "show": lambda text: visible(str(text), 120),
    }
    specs = {name: spec for name, _, spec in charts}
    write_page(path, "monitor.html.j2", context, specs=specs, titles={}, package=__package__)


def _chart(points: Any, figures: Figures) -> Mapping[str, Any]:
    alt = require("altair", "operate")
    rows = [
        {"audit": p.audit, "time": p.time, "precision": p.precision, "low": p.low, "high": p.high}
        for p in points
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(x=alt.X("audit:Q", title="audited blocks"))
    scale = alt.Scale(zero=False)
    band = base.mark_area(opacity=0.25, color="#0b5cad").encode(
        y=alt.Y("low:Q", title="precision", scale=scale), y2="high:Q"
    )
    line = base.mark_line(color="#0b5cad").encode(
        y="precision:Q", tooltip=["time:N", "precision:Q", "low:Q", "high:Q"]
    )
    goal = alt.Chart(alt.Data(values=[{"goal": figures.settings.target}]))
    rule = goal.mark_rule(color="#b45309", strokeDash=[4, 4]).encode(y="goal:Q")
    spec: Mapping[str, Any] = (band + line + rule).properties(width="container", height=180).to_dict()
    return spec
