"""Everything that is measured of a model on labelled records, as one JSON-able dictionary."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.policy import Taxonomy
from . import metrics
from .bootstrap import (
    cluster_weights,
    percentile_interval,
    weighted_auroc,
    weighted_average_precision,
    weighted_share,
)
from .breakdown import (
    compliant_records,
    confusions,
    decision_counts,
    flagged_cells,
    length_band,
    reliability_bins,
    slice_rows,
    worst_errors,
)
from .calibration import Calibration
from .predictions import Predictions
from .table import format_table
from .thresholds import PolicyThreshold

__all__ = ["evaluate", "format_table", "length_band"]

CONFIDENCE = 0.95
# The calibration errors sort every cell anew for each sample; the other figures reuse one sort.
CALIBRATION_SAMPLES = 200

Floats = NDArray[np.float64]


def evaluate(
    predictions: Predictions,
    calibration: Calibration,
    thresholds: Sequence[PolicyThreshold],
    taxonomy: Taxonomy,
    *,
    any_review: float = 0.0,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure `predictions` after `calibration`, at `thresholds` (one per policy, any order).

    A record whose probability of any violation is below `any_review` is not sent to review.

    Cells that are not known count nowhere. A figure with an interval is `{"value", "low", "high"}`; None
    stands for what these records do not define (no positives, nothing flagged). Intervals are percentile
    bootstrap ones over domains. `bootstrap` 0 leaves the intervals out.

    :raises ValueError: if there is no record, or the policies of the arguments do not fit each other.
    """
    review, block = _threshold_arrays(thresholds, taxonomy)
    if not len(predictions):
        raise ValueError("there is no record to evaluate")
    if predictions.policies != len(taxonomy):
        raise ValueError(f"predictions have {predictions.policies} policies, the taxonomy {len(taxonomy)}")
    probabilities = calibration.apply(predictions.logits)
    labels, known = predictions.labels, predictions.known
    limits = metrics.review_limits(probabilities, review, any_review)
    over_review = flagged_cells(probabilities, known, limits)
    over_block = flagged_cells(probabilities, known, block)
    headline, intervals = _headline(predictions, probabilities, limits, block, bootstrap=bootstrap, seed=seed)
    per_policy = _per_policy(predictions, probabilities, limits, block, taxonomy, intervals)
    for row, threshold in zip(per_policy, review.tolist(), strict=True):
        row["review"] = {"threshold": threshold, **row["review"]}
    result = {
        "records": len(predictions),
        "policies": len(taxonomy),
        "domains": len(set(predictions.domains)),
        "violating": int(((labels > 0) & known).any(axis=1).sum()),
        "compliant": int(compliant_records(labels, known).sum()),
        "unknown_cells": int((~known).sum()),
        "bootstrap": {
            "samples": bootstrap,
            "calibration_samples": min(bootstrap, CALIBRATION_SAMPLES),
            "confidence": CONFIDENCE,
            "clusters": "domain",
            "seed": seed,
        },
        "headline": headline,
        "macro": _macro(per_policy),
        "per_policy": per_policy,
        "reliability": reliability_bins(probabilities, labels, known),
        "decisions": decision_counts(labels, known, over_review, over_block),
        "slices": {
            name: slice_rows(values, probabilities, labels, known, limits)
            for name, values in predictions.slices.items()
        },
        "confusions": confusions(labels, known, over_review),
        "errors": worst_errors(
            predictions.ids, predictions.texts, taxonomy.ids, probabilities, labels, known, limits
        ),
    }
    plain: dict[str, Any] = _plain(result)
    return plain


def _threshold_arrays(thresholds: Sequence[PolicyThreshold], taxonomy: Taxonomy) -> tuple[Floats, Floats]:
    """Review and block thresholds (K,) in the taxonomy's order; NaN where there is no block threshold."""
    by_policy = {threshold.policy: threshold for threshold in thresholds}
    if set(by_policy) != set(taxonomy.ids) or len(by_policy) != len(thresholds):
        odd = sorted(set(by_policy) ^ set(taxonomy.ids)) or ["one given twice"]
        raise ValueError(f"thresholds and taxonomy do not name the same policies: {', '.join(odd)}")
    ordered = [by_policy[policy] for policy in taxonomy.ids]
    block = [np.nan if threshold.block is None else threshold.block for threshold in ordered]
    return np.array([threshold.review for threshold in ordered]), np.array(block, dtype=np.float64)


def _headline(
    predictions: Predictions,
    probabilities: NDArray[np.float32],
    review: Floats,
    block: Floats,
    *,
    bootstrap: int,
    seed: int,
) -> tuple[dict[str, Any], list[tuple[float, float]]]:
    """The headline figures with intervals, and the interval of each policy's average precision."""
    labels, known = predictions.labels, predictions.known
    draws = max(bootstrap, 1)
    weights = cluster_weights(predictions.domains, samples=draws, seed=seed)
    if not bootstrap:
        weights = weights[:0]
    compliant = compliant_records(labels, known)
    squared = np.where(known, (probabilities.astype(np.float64) - labels) ** 2, 0.0).sum(axis=1)
    by_policy = [
        weighted_average_precision(
            probabilities[known[:, k], k], labels[known[:, k], k] > 0, weights[:, known[:, k]]
        )
        for k in range(predictions.policies)
    ]
    judged = known.any(axis=1)
    some = metrics.any_violation(np.where(known, probabilities, 0.0))
    violating = np.asarray(((labels > 0) & known).any(axis=1))

    def alarm(limits: Floats) -> Any:
        return compliant & flagged_cells(probabilities, known, limits).any(axis=1)

    figures: dict[str, tuple[float, Any]] = {
        "macro_average_precision": (
            metrics.macro_average_precision(probabilities, labels, known),
            _nan_means(np.array(by_policy)),
        ),
        "any_violation_auroc": (
            metrics.any_violation_auroc(probabilities, labels, known),
            weighted_auroc(some[judged], violating[judged], weights[:, judged]),
        ),
        "false_alarm_rate_review": (
            metrics.false_alarm_rate(probabilities, labels, known, review),
            weighted_share(alarm(review), compliant, weights),
        ),
        "false_alarm_rate_block": (
            metrics.false_alarm_rate(probabilities, labels, known, block),
            weighted_share(alarm(block), compliant, weights),
        ),
        "brier_score": (
            metrics.pooled(metrics.brier, probabilities, labels, known),
            weighted_share(squared, known.sum(axis=1), weights),
        ),
    }
    headline = {
        name: _figure(value, percentile_interval(drawn, confidence=CONFIDENCE))
        for name, (value, drawn) in figures.items()
    }
    samples = min(bootstrap, CALIBRATION_SAMPLES)
    for name in ("smooth_calibration_error", "adaptive_calibration_error"):
        measure = getattr(metrics, name)
        headline[name] = _calibration_figure(measure, predictions, probabilities, samples=samples, seed=seed)
    return headline, [percentile_interval(drawn, confidence=CONFIDENCE) for drawn in by_policy]


def _calibration_figure(
    measure: Callable[[Floats, Floats], float],
    predictions: Predictions,
    probabilities: NDArray[np.float32],
    *,
    samples: int,
    seed: int,
) -> dict[str, float]:
    """A measure of all known cells, with its interval from `samples` draws of domains."""
    labels, known = predictions.labels, predictions.known

    def statistic(rows: NDArray[np.int64]) -> float:
        return metrics.pooled(measure, probabilities[rows], labels[rows], known[rows])

    if not samples:
        return _figure(statistic(np.arange(len(predictions))), (math.nan, math.nan))
    interval = metrics.cluster_bootstrap(
        statistic, predictions.domains, samples=samples, seed=seed, level=CONFIDENCE
    )
    return _figure(interval.point, (interval.low, interval.high))


def _per_policy(
    predictions: Predictions,
    probabilities: NDArray[np.float32],
    review: Floats,
    block: Floats,
    taxonomy: Taxonomy,
    intervals: Sequence[tuple[float, float]],
) -> list[dict[str, Any]]:
    cells = (probabilities, predictions.labels, predictions.known)
    precision = metrics.average_precision(*cells)
    recall = metrics.recall_at_precision(*cells, precision=0.95)
    at_review, at_block = metrics.decide(*cells, review), metrics.decide(*cells, block)
    return [
        {
            "policy": policy.id,
            "title": policy.title,
            "severity": policy.severity,
            "support": int(at_review.positives[k]),
            "known": int(predictions.known[:, k].sum()),
            "average_precision": _figure(float(precision[k]), intervals[k]),
            "recall_at_precision_95": float(recall[k]),
            "review": _at(at_review, k),
            "block": None if np.isnan(block[k]) else {"threshold": float(block[k]), **_at(at_block, k)},
        }
        for k, policy in enumerate(taxonomy.policies)
    ]


def _at(decisions: metrics.Decisions, policy: int) -> dict[str, Any]:
    return {
        "precision": float(decisions.precision[policy]),
        "recall": float(decisions.recall[policy]),
        "f1": float(decisions.f1[policy]),
        "flagged": int(decisions.flagged[policy]),
        "found": int(decisions.found[policy]),
    }


def _macro(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the policies with a violation here; without a block threshold, recall at block is 0."""
    present = [row for row in rows if row["support"]]

    def means(at: str) -> dict[str, float]:
        blank = {"precision": math.nan, "recall": 0.0, "f1": 0.0}
        return {key: metrics.nan_mean([(row[at] or blank)[key] for row in present]) for key in blank}

    return {
        "support": sum(row["support"] for row in rows),
        "policies": len(present),
        "policies_with_block": sum(row["block"] is not None for row in rows),
        "recall_at_precision_95": metrics.nan_mean([row["recall_at_precision_95"] for row in present]),
        "review": means("review"),
        "block": means("block"),
    }


def _nan_means(values: Floats) -> Floats:
    """Mean over the policies (rows) with a value, per sample (column)."""
    present = ~np.isnan(values)
    counts = present.sum(axis=0)
    sums = np.where(present, values, 0.0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)


def _figure(value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {"value": value, "low": interval[0], "high": interval[1]}


def _plain(value: Any) -> Any:
    """The same with every NaN replaced by None, as JSON has none."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
