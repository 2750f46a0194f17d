"""Everything that is measured of a model on labelled records, as one JSON-able dictionary."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.taxonomy import Taxonomy
from ..calibration.platt_scaling import Calibration
from ..calibration.thresholds import PolicyThreshold
from ..report.table import format_table
from . import metrics
from .bootstrap import percentile_interval
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
from .headline import CALIBRATION_SAMPLES, headline
from .predictions import Predictions

__all__ = ["evaluate", "format_table", "length_band", "threshold_arrays"]

CONFIDENCE = 0.95

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
    review, block = threshold_arrays(thresholds, taxonomy)
    if not len(predictions):
        raise ValueError("there is no record to evaluate")
    if predictions.policies != len(taxonomy):
        raise ValueError(f"predictions have {predictions.policies} policies, the taxonomy {len(taxonomy)}")
    probabilities = calibration.apply(predictions.logits)
    labels, known = predictions.labels, predictions.known
    limits = metrics.review_limits(probabilities, review, any_review)
    over_review = flagged_cells(probabilities, known, limits)
    over_block = flagged_cells(probabilities, known, block)
    figures, by_policy = headline(predictions, probabilities, limits, block, bootstrap=bootstrap, seed=seed)
    intervals = [percentile_interval(drawn, confidence=CONFIDENCE) for drawn in by_policy]
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
        "headline": {
            name: _figure(figure.value, percentile_interval(figure.samples, confidence=CONFIDENCE))
            for name, figure in figures.items()
        },
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


def threshold_arrays(thresholds: Sequence[PolicyThreshold], taxonomy: Taxonomy) -> tuple[Floats, Floats]:
    """Review and block thresholds (K,) in the taxonomy's order; NaN where there is no block threshold."""
    by_policy = {threshold.policy: threshold for threshold in thresholds}
    if set(by_policy) != set(taxonomy.ids) or len(by_policy) != len(thresholds):
        odd = sorted(set(by_policy) ^ set(taxonomy.ids)) or ["one given twice"]
        raise ValueError(f"thresholds and taxonomy do not name the same policies: {', '.join(odd)}")
    ordered = [by_policy[policy] for policy in taxonomy.ids]
    block = [np.nan if threshold.block is None else threshold.block for threshold in ordered]
    return np.array([threshold.review for threshold in ordered]), np.array(block, dtype=np.float64)


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
