"""The audit report's charts as Vega-Lite specifications, drawn by altair."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...core.extras import require
from ...train.report.charts import BLUE, styled

_SCALE = ["#f3f5f7", "#08306b"]


def share_chart(rows: Sequence[Mapping[str, Any]], axis: str) -> dict[str, Any]:
    """One share per row with its interval; `rows` have title, value, low, high and `of`, the total."""
    alt = require("altair", "train")
    data = alt.Data(values=[dict(row) for row in rows])
    y = alt.Y("title:N", sort=None, title=None, axis=alt.Axis(labelLimit=280))
    x = alt.X("low:Q", title=axis, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%", tickCount=5))
    tooltip = [
        alt.Tooltip("title:N", title=" "),
        alt.Tooltip("value:Q", format=".1%", title="Share"),
        alt.Tooltip("low:Q", format=".1%", title="Interval from"),
        alt.Tooltip("high:Q", format=".1%", title="to"),
        alt.Tooltip("of:Q", format=",", title="Of"),
    ]
    lines = alt.Chart(data).mark_rule(color=BLUE, strokeWidth=2).encode(y=y, x=x, x2="high:Q")
    points = alt.Chart(data).mark_point(color=BLUE, filled=True, size=60, opacity=1)
    dots = points.encode(y=y, x="value:Q", tooltip=tooltip)
    return styled((lines + dots).properties(width="container", height=24 * max(len(rows), 1)))


def count_chart(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Bars of errors per policy, stacked by queue; `rows` have title, cause and count."""
    alt = require("altair", "train")
    bars = alt.Chart(alt.Data(values=[dict(row) for row in rows])).mark_bar()
    encoded = bars.encode(
        y=alt.Y("title:N", sort="-x", title=None, axis=alt.Axis(labelLimit=280)),
        x=alt.X("sum(count):Q", title="Labels changed", axis=alt.Axis(tickMinStep=1, format=",d")),
        color=alt.Color("cause:N", title="Queue", scale=alt.Scale(scheme="tableau10")),
        tooltip=[
            alt.Tooltip("title:N", title="Policy"),
            alt.Tooltip("cause:N", title="Queue"),
            alt.Tooltip("count:Q", format=",", title="Changed"),
        ],
    )
    policies = len({row["title"] for row in rows})
    return styled(encoded.properties(width="container", height=24 * max(policies, 1)))


def grid_chart(rows: Sequence[Mapping[str, Any]], *, value: str, legend: str, share: bool) -> dict[str, Any]:
    """Heat map; `rows` have row, column, the value, and `cells`, the number it is based on."""
    alt = require("altair", "train")
    style = ".0%" if share else ",d"
    most = max((float(row[value]) for row in rows), default=0.0)
    colour = alt.Scale(range=_SCALE, domain=[0, 1.0 if share else max(most, 1.0)])
    chart = alt.Chart(alt.Data(values=[dict(row) for row in rows])).mark_rect(stroke="#f2f2f2")
    encoded = chart.encode(
        x=alt.X("column:N", title=None, axis=alt.Axis(labelAngle=-60, orient="top", labelLimit=340)),
        y=alt.Y("row:N", title=None, axis=alt.Axis(labelLimit=340)),
        color=alt.Color(
            f"{value}:Q", scale=colour, title=legend, legend=alt.Legend(format=style, orient="bottom")
        ),
        tooltip=[
            alt.Tooltip("row:N", title=" "),
            alt.Tooltip("column:N", title=" "),
            alt.Tooltip(f"{value}:Q", format=style, title=legend),
            alt.Tooltip("cells:Q", format=",", title="Cells"),
        ],
    )
    return styled(encoded.properties(width={"step": 22}, height={"step": 22}))
