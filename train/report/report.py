"""One HTML file that shows what a run learnt: no server, no network, nothing that could fetch anything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.display import visible
from ...data.taxonomy import Taxonomy
from ..calibration.platt_scaling import Calibration
from ..calibration.thresholds import PolicyThreshold, ReviewCertificate
from ..evaluation.predictions import Predictions
from . import charts
from .page import write_page

_SLICE_ROWS = 15
_VALUE_CHARACTERS = 300

CARDS = (
    ("macro_average_precision", "Macro average precision", False),
    ("any_violation_auroc", "AUROC, any violation", False),
    ("false_alarm_rate_review", "False alarms at review", True),
    ("false_alarm_rate_block", "False alarms at block", True),
    ("smooth_calibration_error", "Smooth calibration error", False),
    ("adaptive_calibration_error", "Adaptive calibration error", False),
    ("brier_score", "Brier score", False),
)
CONTENTS = (
    ("policies", "Policies"),
    ("curves", "Precision and recall"),
    ("calibration", "Calibration"),
    ("decisions", "Decisions"),
    ("thresholds", "Thresholds"),
    ("confusions", "Confusions"),
    ("slices", "Slices"),
    ("errors", "Worst errors"),
    ("training", "Training"),
    ("made", "How this was made"),
)


def write_report(
    path: Path,
    *,
    metrics: Mapping[str, Any],
    predictions: Predictions,
    calibration: Calibration,
    thresholds: Sequence[PolicyThreshold],
    any_review: ReviewCertificate | None = None,
    taxonomy: Taxonomy,
    log: Sequence[Mapping[str, Any]],
    title: str,
    settings: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    data: Mapping[str, str] | None = None,
    limits: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the report of `metrics` (what `evaluate` returns) as one self-contained HTML file, atomically.

    `log` is the training log: mappings with `step` and any numbers (loss, learning_rate ...). `settings`
    and `environment` may be nested; `data` maps a file to its SHA-256. Text that a merchant wrote is
    bounded, escaped, and stripped of the power to reorder or hide what stands around it.

    :raises StorageError: if the disk is full or the place not writable; `path` is then unchanged.
    """
    titles = {policy.id: policy.title for policy in taxonomy.policies}
    specs = _chart_specs(metrics, predictions, calibration, taxonomy, log, titles)
    context = {
        "title": title,
        "metrics": _shown_metrics(metrics),
        "titles": titles,
        "review": {threshold.policy: threshold.review for threshold in thresholds},
        "cards": _cards(metrics),
        "contents": [entry for entry in CONTENTS if entry[0] != "training" or "spec-training-0" in specs],
        "thresholds": _threshold_rows(thresholds, calibration, taxonomy),
        "targets": _targets(thresholds, any_review),
        "slices": [(name, _slice_rows(rows)) for name, rows in metrics["slices"].items()],
        "training": [(key, name) for key, (name, _) in specs.items() if key.startswith("spec-training")],
        "settings": _flatten(settings or {}),
        "environment": _flatten(environment or {}),
        "data": _flatten(data or {}),
        "limits": list(limits) or ["Figures are about records like the ones tested, and no others."],
        "notes": list(notes),
    }
    charted = {key: spec for key, (_, spec) in specs.items()}
    write_page(path, "report.html.j2", context, specs=charted, titles=titles)


def _chart_specs(
    metrics: Mapping[str, Any],
    predictions: Predictions,
    calibration: Calibration,
    taxonomy: Taxonomy,
    log: Sequence[Mapping[str, Any]],
    titles: Mapping[str, str],
) -> dict[str, tuple[str, Any]]:
    """Name in the page -> (title, Vega-Lite specification)."""
    probabilities = calibration.apply(predictions.logits)
    points = charts.precision_recall_points(
        probabilities, predictions.labels, predictions.known, taxonomy.ids
    )
    intervals = [
        {"title": row["title"], "support": row["support"]} | row["average_precision"]
        for row in metrics["per_policy"]
        if row["average_precision"]["value"] is not None
    ]
    specs = {
        "spec-intervals": ("Average precision", charts.interval_chart(intervals)),
        "spec-curves": ("Precision and recall", charts.precision_recall_chart(points, titles)),
        "spec-reliability": ("Reliability", charts.reliability_chart(metrics["reliability"])),
        "spec-confusions": (
            "Confusions",
            charts.confusion_chart(metrics["confusions"], taxonomy.ids, titles),
        ),
    }
    for number, (name, spec) in enumerate(charts.training_charts(log)):
        specs[f"spec-training-{number}"] = (name, spec)
    return specs


def _cards(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    cards = []
    for key, name, share in CARDS:
        figure = metrics["headline"].get(key)
        if figure is None:
            continue

        def shown(value: float | None, share: bool = share) -> str:
            if value is None:
                return "–"
            return f"{100 * value:.1f} %" if share else f"{value:.3f}"

        bounds = f"{shown(figure['low'])} to {shown(figure['high'])}" if figure["low"] is not None else ""
        cards.append({"name": name, "value": shown(figure["value"]), "interval": bounds})
    return cards


def _shown_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics with what merchants wrote made visible and bounded."""
    errors = {
        kind: [
            dict(entry, id=visible(entry["id"], 120), text=visible(entry["text"], 700)) for entry in entries
        ]
        for kind, entries in metrics["errors"].items()
    }
    return {**metrics, "errors": errors}


def _slice_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    largest = sorted(rows, key=lambda row: -row["records"])[:_SLICE_ROWS]
    kept = [dict(row, value=visible(row["value"], 60)) for row in rows if row in largest]
    return {"shown": kept, "hidden": len(rows) - len(kept)}


def _threshold_rows(
    thresholds: Sequence[PolicyThreshold], calibration: Calibration, taxonomy: Taxonomy
) -> list[dict[str, Any]]:
    rows = []
    for threshold in thresholds:
        column = taxonomy.index(threshold.policy)
        block, review = threshold.block_certificate, threshold.review_certificate
        rows.append(
            {
                "title": taxonomy.policies[column].title,
                "review": threshold.review,
                "block": threshold.block,
                "review_certificate": _certificate(review, "recall", review.recall_lower),
                "block_certificate": _certificate(block, "precision", block.precision_lower),
                "scale": float(calibration.scale[column]),
                "bias": float(calibration.bias[column]),
            }
        )
    return rows


def _certificate(certificate: Any, what: str, lower: float) -> dict[str, Any]:
    """Without a certificate the bound is left out: it is not what kept the threshold from one."""
    bound = f"{what} at least {100 * lower:.1f} %: " if certificate.certified else ""
    return {"certified": certificate.certified, "text": bound + certificate.reason}


def _targets(thresholds: Sequence[PolicyThreshold], any_review: ReviewCertificate | None) -> str:
    """The targets, which are the same for every policy, and the limit that a record meets as a whole."""
    block, review = thresholds[0].block_certificate, thresholds[0].review_certificate
    whole = "" if any_review is None else f" {_whole_record(any_review)}"
    return (
        f"Block: precision at least {100 * block.precision_target:g}\u00a0% with confidence "
        f"{100 * block.confidence:g}\u00a0%. Review: recall at least {100 * review.recall_target:g}\u00a0% with "
        f"confidence {100 * review.confidence:g}\u00a0%.{whole}"
    )


def _whole_record(any_review: ReviewCertificate) -> str:
    certificate = _certificate(any_review, "recall", any_review.recall_lower)
    return (
        f"A record whose probability of any violation is below {any_review.threshold:.4f} is clear as a whole "
        f"({'certified' if any_review.certified else 'not certified'}: {certificate['text']})."
    )


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, value) pairs of bounded text."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            pairs += _flatten(value, f"{name}.")
        else:
            pairs.append((visible(name, _VALUE_CHARACTERS), visible(str(value), _VALUE_CHARACTERS)))
    return pairs
