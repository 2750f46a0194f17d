"""The report's charts as Vega-Lite specifications (plain dicts), drawn by altair."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.extras import require
from ...core.labels import LabelMatrix
from ..evaluation.figures import Confusions, PolicyFigures, ReliabilityBin

BLUE, ORANGE, GREY = "#0b5cad", "#b45309", "#767676"
_CURVE_POINTS = 150
_CONFIG = {
    "font": "system-ui, sans-serif",
    "background": "#ffffff",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "gridColor": "#e5e5e5", "labelLimit": 190},
    "legend": {"labelFontSize": 12, "titleFontSize": 12},
}


def styled(chart: Any) -> dict[str, Any]:
    """The specification of an altair chart in the report's style."""
    spec: dict[str, Any] = chart.configure(**_CONFIG).to_dict()
    return spec


def _percent(field: str, title: str, **options: Any) -> Any:
    alt = require("altair", "train")
    axis = alt.Axis(format=".0%", tickCount=5)
    return {"shorthand": f"{field}:Q", "title": title, "axis": axis} | options


def precision_recall_points(
    probabilities: NDArray[Any], labels: LabelMatrix, policies: Sequence[str]
) -> list[dict[str, Any]]:
    """Points of each policy's precision-recall curve, thinned to at most `_CURVE_POINTS` a policy."""
    rows: list[dict[str, Any]] = []
    for column, policy in enumerate(policies):
        cells = labels.mask[:, column]
        scores, truth = probabilities[cells, column], labels.values[cells, column] > 0
        if not truth.any():
            continue
        order = np.argsort(-scores, kind="stable")
        scores, hits = scores[order], np.cumsum(truth[order])
        ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
        # Before the first violation found and after the last, points show nothing but thresholds.
        ends = ends[(hits[ends] > 0) & (np.append(0, hits[ends][:-1]) < hits[-1])]
        kept = ends[np.unique(np.linspace(0, len(ends) - 1, _CURVE_POINTS).astype(int))]
        rows += [
            {
                "policy": policy,
                "recall": round(float(hits[end] / hits[-1]), 4),
                "precision": round(float(hits[end] / (end + 1)), 4),
                "threshold": round(float(scores[end]), 4),
            }
            for end in kept
        ]
    return rows


def precision_recall_chart(points: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> dict[str, Any]:
    """Every policy's curve in grey; the one chosen from the list in colour."""
    alt = require("altair", "train")
    shown = [dict(point, policy=titles[point["policy"]]) for point in points]
    names = sorted({str(point["policy"]) for point in shown})
    menu = alt.binding_select(options=[None, *names], labels=["All policies", *names], name="Policy: ")
    chosen = alt.selection_point(fields=["policy"], bind=menu, name="policy", empty=True)
    base = alt.Chart(alt.Data(values=shown)).encode(
        x=alt.X(**_percent("recall", "Recall", scale=alt.Scale(domain=[0, 1]))),
        y=alt.Y(**_percent("precision", "Precision", scale=alt.Scale(domain=[0, 1]))),
        detail="policy:N",
        order="recall:Q",
        tooltip=[
            alt.Tooltip("policy:N", title="Policy"),
            alt.Tooltip("recall:Q", format=".1%", title="Recall"),
            alt.Tooltip("precision:Q", format=".1%", title="Precision"),
            alt.Tooltip("threshold:Q", format=".3f", title="Probability at or above"),
        ],
    )
    context = base.mark_line(color="#d4d4d4", strokeWidth=1, interpolate="step-before")
    curves = base.mark_line(color=BLUE, strokeWidth=2, interpolate="step-before", opacity=0.55)
    # Invisible and wide, so that the pointer need not hit the line of a curve.
    targets = base.mark_point(filled=True, color=BLUE, size=80, opacity=0)
    front = (curves + targets).transform_filter(chosen)
    return styled((context + front).add_params(chosen).properties(width="container", height=340))


def trade_off_points(any_violation: NDArray[Any], labels: LabelMatrix) -> list[dict[str, Any]]:
    """Share of ordinary records to review against share of violating ones found, at most `_CURVE_POINTS`."""
    ordinary, violating = any_violation[labels.compliant], any_violation[labels.violating]
    if not len(ordinary) or not len(violating):
        return []
    limits = np.unique(ordinary)[::-1]
    reviewed = 1.0 - np.searchsorted(np.sort(ordinary), limits, side="left") / len(ordinary)
    found = 1.0 - np.searchsorted(np.sort(violating), limits, side="left") / len(violating)
    # Most points where the budgets are.
    kept = np.unique(np.searchsorted(reviewed, np.geomspace(reviewed[0], 1.0, _CURVE_POINTS) - 1e-9))
    return [
        {
            "reviewed": round(float(reviewed[place]), 5),
            "found": round(float(found[place]), 4),
            "limit": round(float(limits[place]), 5),
        }
        for place in kept
    ]


def trade_off_chart(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Violations found against ordinary records to review, which grow by factors."""
    alt = require("altair", "train")
    base = alt.Chart(alt.Data(values=[dict(point) for point in points])).encode(
        x=alt.X(
            "reviewed:Q",
            title="Ordinary records to review",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(format=".1%", tickCount=5),
        ),
        y=alt.Y(**_percent("found", "Violating records found", scale=alt.Scale(domain=[0, 1]))),
        tooltip=[
            alt.Tooltip("reviewed:Q", format=".2%", title="Ordinary records to review"),
            alt.Tooltip("found:Q", format=".1%", title="Violating records found"),
            alt.Tooltip("limit:Q", format=".4f", title="Any violation at or above"),
        ],
    )
    line = base.mark_line(color=BLUE, strokeWidth=2, interpolate="step-after")
    targets = base.mark_point(filled=True, color=BLUE, size=80, opacity=0)
    return styled((line + targets).properties(width="container", height=260))


def reliability_chart(bins: Sequence[ReliabilityBin]) -> dict[str, Any]:
    """Observed share against predicted probability, with intervals, over the count of cells per bin."""
    alt = require("altair", "train")
    data = alt.Data(values=[asdict(entry) for entry in bins])
    x = alt.X(**_percent("predicted", "Mean predicted probability", scale=alt.Scale(domain=[0, 1])))
    tooltip = [
        alt.Tooltip("predicted:Q", format=".1%", title="Predicted"),
        alt.Tooltip("observed:Q", format=".1%", title="Observed"),
        alt.Tooltip("low:Q", format=".1%", title="Interval from"),
        alt.Tooltip("high:Q", format=".1%", title="to"),
        alt.Tooltip("cells:Q", format=",", title="Cells"),
    ]
    diagonal = alt.Chart(alt.Data(values=[{"predicted": 0, "observed": 0}, {"predicted": 1, "observed": 1}]))
    ideal = diagonal.mark_line(color=GREY, strokeDash=[4, 4]).encode(x=x, y="observed:Q")
    intervals = alt.Chart(data).mark_rule(color=BLUE, strokeWidth=2)
    bars = intervals.encode(x=x, y=alt.Y(**_percent("low", "Observed share")), y2="high:Q", tooltip=tooltip)
    points = alt.Chart(data).mark_point(color=BLUE, filled=True, size=60, opacity=1)
    dots = points.encode(x=x, y=alt.Y(**_percent("observed", "Observed share")), tooltip=tooltip)
    return styled((ideal + bars + dots).properties(width="container", height=340))


def interval_chart(policies: Sequence[PolicyFigures]) -> dict[str, Any]:
    """Average precision with its interval, of the policies that have one."""
    alt = require("altair", "train")
    rows = [
        {"title": policy.title, "support": policy.support} | asdict(policy.average_precision)
        for policy in policies
        if policy.average_precision.value is not None
    ]
    data = alt.Data(values=rows)
    axis = alt.Axis(labelLimit=280)
    y = alt.Y("title:N", sort=alt.SortField("value", order="descending"), title=None, axis=axis)
    tooltip = [
        alt.Tooltip("title:N", title="Policy"),
        alt.Tooltip("value:Q", format=".3f", title="Average precision"),
        alt.Tooltip("low:Q", format=".3f", title="Interval from"),
        alt.Tooltip("high:Q", format=".3f", title="to"),
        alt.Tooltip("support:Q", title="Violations"),
    ]
    scale = alt.Scale(domain=[0, 1])
    rule = alt.Chart(data).mark_rule(color=BLUE, strokeWidth=2)
    lines = rule.encode(
        y=y, x=alt.X("low:Q", title="Average precision", scale=scale, axis=alt.Axis(tickCount=5)), x2="high:Q"
    )
    point = alt.Chart(data).mark_point(color=BLUE, filled=True, size=60, opacity=1)
    dots = point.encode(y=y, x=alt.X("value:Q", scale=scale), tooltip=tooltip)
    height = 22 * max(len(rows), 1)
    return styled((lines + dots).properties(width="container", height=height))


def confusion_chart(
    confusion: Confusions, policies: Sequence[str], titles: Mapping[str, str]
) -> dict[str, Any]:
    """Heat map: the share of a row's records that are flagged for the column's policy."""
    alt = require("altair", "train")
    names = [titles[policy] for policy in policies]
    values: list[dict[str, Any]] = [
        {"truth": names[i], "flagged": names[j], "share": share, "records": confusion.records[i][j]}
        for i, row in enumerate(confusion.share)
        for j, share in enumerate(row)
        if share is not None and i != j
    ]
    most = max((value["share"] for value in values), default=0.0)
    colour = alt.Scale(range=["#f3f5f7", "#08306b"], domain=[0, max(most, 0.1)])
    chart = alt.Chart(alt.Data(values=values)).mark_rect(stroke="#f2f2f2")
    encoded = chart.encode(
        x=alt.X(
            "flagged:N",
            sort=names,
            title=None,
            axis=alt.Axis(labelAngle=-60, orient="top", labelLimit=340),
        ),
        y=alt.Y("truth:N", sort=names, title=None, axis=alt.Axis(labelLimit=340)),
        color=alt.Color(
            "share:Q", scale=colour, title="Share", legend=alt.Legend(format=".0%", orient="bottom")
        ),
        tooltip=[
            alt.Tooltip("truth:N", title="Violates"),
            alt.Tooltip("flagged:N", title="Flagged for"),
            alt.Tooltip("share:Q", format=".1%", title="Share"),
            alt.Tooltip("records:Q", title="Records"),
        ],
    )
    return styled(encoded.properties(width={"step": 22}, height={"step": 22}))


def training_charts(log: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """One line chart (title, specification) per number of the log that was recorded at least twice."""
    alt = require("altair", "train")
    numbers = {
        key: None
        for entry in log
        for key, value in entry.items()
        if key not in ("step", "epoch") and isinstance(value, int | float) and not isinstance(value, bool)
    }
    charts = []
    for key in numbers:
        rows = [
            {"step": entry["step"], "value": entry[key]}
            for entry in log
            if "step" in entry and isinstance(entry.get(key), int | float) and np.isfinite(entry[key])
        ]
        if len(rows) < 2:
            continue
        line = alt.Chart(alt.Data(values=rows)).mark_line(color=BLUE, point=len(rows) < 60)
        encoded = line.encode(
            x=alt.X("step:Q", title="Step"),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(format="~g")),
            tooltip=[
                alt.Tooltip("step:Q", title="Step"),
                alt.Tooltip("value:Q", format=".4g", title="Value"),
            ],
        )
        charts.append((key.replace("_", " "), styled(encoded.properties(width="container", height=180))))
    return charts
