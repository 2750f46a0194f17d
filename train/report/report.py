"""The report of a run: one HTML file that needs no server and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...core.decisions import Calibration
from ...core.display import visible
from ...data.behaviour import Behaviour
from ...data.taxonomy import Taxonomy
from ..calibration.thresholds import PolicyThreshold, ReviewCertificate
from ..evaluation.breakdown import REVIEW_BUDGETS
from ..evaluation.decision_rule import DecisionRule
from ..evaluation.figures import ErrorRow, Evaluation, SliceRow
from ..evaluation.headline import HEADLINE
from ..evaluation.predictions import Predictions
from . import charts
from .certificates import block_sentence, pooled_sentence
from .page import write_page

_SLICE_ROWS = 15
_VALUE_CHARACTERS = 300
_NO_LIMITS = ("The figures hold for records like the ones tested, and for no others.",)

CONTENTS = (
    ("policies", "Policies"),
    ("curves", "Precision and recall"),
    ("calibration", "Calibration"),
    ("decisions", "Decisions"),
    ("thresholds", "Thresholds"),
    ("confusions", "Confusions"),
    ("slices", "Slices"),
    ("errors", "Worst errors"),
    ("behaviour", "Behaviour tests"),
    ("training", "Training"),
    ("made", "How this was made"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunReport:
    """What a report shows.

    :param evaluation: what `evaluate` measured of `predictions` under `rule`.
    :param log: the training log: mappings with `step` and any numbers (loss, learning_rate ...).
    :param settings: how the run was made, and `environment` where; both may be nested.
    :param data: file or part of the data -> its SHA-256.
    :param limits: sentences on what the figures do not show.
    :param behaviour: the behaviour tests; None where they are left out.
    """

    title: str
    evaluation: Evaluation
    predictions: Predictions
    rule: DecisionRule
    taxonomy: Taxonomy
    log: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = _NO_LIMITS
    behaviour: Behaviour | None = None


def write_report(path: Path, report: RunReport) -> None:
    """Write the report as one self-contained HTML file, atomically.

    Text that a merchant wrote is bounded and escaped, and cannot reorder or hide the text around it.

    :raises StorageError: if the disk is full or the place not writable; `path` is then unchanged.
    """
    titles = {policy.id: policy.title for policy in report.taxonomy.policies}
    specs = _chart_specs(report, titles)
    evaluation, rule = report.evaluation, report.rule
    context = {
        "title": report.title,
        "metrics": evaluation,
        "titles": titles,
        "review": {threshold.policy: threshold.review for threshold in rule.thresholds},
        "cards": _cards(evaluation),
        "contents": [entry for entry in CONTENTS if entry[0] not in _empty_parts(report, specs)],
        "thresholds": _threshold_rows(rule.thresholds, rule.calibration, report.taxonomy),
        "targets": _targets(rule.thresholds, rule.any_review),
        "blocks": block_sentence(rule),
        "pooled": None if rule.pooled is None else pooled_sentence(rule.pooled),
        "budgets": list(zip(REVIEW_BUDGETS, evaluation.trade_off, strict=False)),
        "slices": [(name, _slice_rows(rows)) for name, rows in evaluation.slices.items()],
        "false_alarms": _error_rows(evaluation.errors.false_alarms),
        "misses": _error_rows(evaluation.errors.misses),
        "training": [(key, name) for key, (name, _) in specs.items() if key.startswith("spec-training")],
        "settings": _flatten(report.settings),
        "environment": _flatten(report.environment),
        "data": _flatten(report.data),
        "limits": report.limits,
        "behaviour": _behaviour_rows(report.behaviour),
    }
    charted = {key: spec for key, (_, spec) in specs.items()}
    write_page(path, "report.html.j2", context, specs=charted, titles=titles)


def _chart_specs(report: RunReport, titles: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    """Name in the page -> (title, Vega-Lite specification)."""
    evaluation, policies = report.evaluation, report.taxonomy.ids
    decided = report.rule.decide(report.predictions, report.taxonomy)
    points = charts.precision_recall_points(decided.probabilities, decided.labels, policies)
    reviews = charts.trade_off_points(decided.any_violation, decided.labels)
    specs = {
        "spec-intervals": ("Average precision", charts.interval_chart(evaluation.per_policy)),
        "spec-curves": ("Precision and recall", charts.precision_recall_chart(points, titles)),
        "spec-reviews": ("Reviews", charts.trade_off_chart(reviews)),
        "spec-reliability": ("Reliability", charts.reliability_chart(evaluation.reliability)),
        "spec-confusions": ("Confusions", charts.confusion_chart(evaluation.confusions, policies, titles)),
    }
    for place, (name, spec) in enumerate(charts.training_charts(report.log)):
        specs[f"spec-training-{place}"] = (name, spec)
    return specs


def _cards(evaluation: Evaluation) -> list[dict[str, str]]:
    cards = []
    for key, headline in HEADLINE.items():
        figure, is_share = evaluation.headline[key], headline.is_share
        bounds = (
            "" if figure.low is None else f"{_card(figure.low, is_share)} to {_card(figure.high, is_share)}"
        )
        name = headline.label[0].upper() + headline.label[1:]
        cards.append({"name": name, "value": _card(figure.value, is_share), "interval": bounds})
    return cards


def _card(value: float | None, is_share: bool) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if is_share else f"{value:.3f}"


def _error_rows(rows: Sequence[ErrorRow]) -> list[ErrorRow]:
    """The errors with what merchants wrote made visible and bounded."""
    return [replace(row, id=visible(row.id, 120), text=visible(row.text, 700)) for row in rows]


def _empty_parts(report: RunReport, specs: Mapping[str, Any]) -> set[str]:
    """The parts of the page that there is nothing to show in."""
    shown = {"training": "spec-training-0" in specs, "behaviour": report.behaviour is not None}
    return {part for part, there in shown.items() if not there}


def _behaviour_rows(behaviour: Behaviour | None) -> list[tuple[str, ...]]:
    """Rows of the table of behaviour tests: names come from the texts' files, which a user may have written."""
    rows = () if behaviour is None else behaviour.rows()
    return [
        tuple(visible(each, _VALUE_CHARACTERS) for each in (row.test, row.figure, row.detail)) for row in rows
    ]


def _slice_rows(rows: Sequence[SliceRow]) -> dict[str, Any]:
    largest = sorted(rows, key=lambda row: -row.records)[:_SLICE_ROWS]
    kept = [replace(row, value=visible(row.value, 60)) for row in rows if row in largest]
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
    name = "Certified" if certificate.certified else "Not certified"
    if getattr(certificate, "scope", "policy") == "pooled":
        name = "Pooled"
    return {"name": name, "text": bound + certificate.reason}


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
    if any_review.budget is not None:
        budget = f"set so that {100 * any_review.budget:g}\u00a0% of ordinary records go to review"
        why = f"{budget}: {any_review.reason}"
    else:
        why = f"{certificate['name'].lower()}: {certificate['text']}"
    return f"A record whose probability of any violation is below {any_review.threshold:.4f} is clear as a whole ({why})."


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
