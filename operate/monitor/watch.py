"""The figures in Prometheus's text format, for node_exporter's textfile collector or any scraper."""

from .figures import Figures


def prometheus_text(figures: Figures) -> str:
    """Gauges by scope; a refused estimate is left out rather than exported as 0."""
    rows: dict[str, list[tuple[dict[str, str], float]]] = {
        "decisions": [({}, figures.decisions)],
        "audits_overdue": [({}, figures.overdue)],
        "drifts": [({}, len(figures.warnings.drifts))],
    }
    for each in figures.precision:
        if each.process == figures.process:
            label = {"scope": each.scope}
            rows.setdefault("precision_audits", []).append((label, each.audits))
            rows.setdefault("precision_low", []).append((label, each.low))
            rows.setdefault("precision_high", []).append((label, each.high))
            rows.setdefault("precision_alarm", []).append((label, float(each.alarm)))
            rows.setdefault("precision_certified", []).append((label, float(each.certified)))
    for figure in figures.estimates:
        if figure.estimate is not None:
            label = {"scope": figure.policy, "figure": figure.name}
            rows.setdefault("estimate", []).append((label, figure.estimate.value))
            rows.setdefault("estimate_low", []).append((label, figure.estimate.low))
            rows.setdefault("estimate_high", []).append((label, figure.estimate.high))
            rows.setdefault("estimate_effective", []).append((label, figure.estimate.support.effective))
    lines = []
    for name, values in rows.items():
        full = f"merchantguard_monitor_{name}"
        lines.append(f"# TYPE {full} gauge")
        lines += [f"{full}{_labels(labels)} {float(value):.10g}" for labels, value in values]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    parts = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(parts) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
