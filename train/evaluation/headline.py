"""The headline figures of an evaluation, each with its bootstrap samples, so that intervals and paired differences of
two models come from the same draws of domains."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.decisions import any_violation
from . import metrics
from .bootstrap import cluster_weights, weighted_auroc, weighted_average_precision, weighted_share
from .breakdown import compliant_records, flagged_cells
from .predictions import Predictions

# The calibration errors sort every cell anew for each sample; the other figures reuse one sort.
CALIBRATION_SAMPLES = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """A figure and its value in every bootstrap sample, float64 (samples,); NaN where it is not defined."""

    value: float
    samples: Floats


def headline(
    predictions: Predictions,
    probabilities: NDArray[np.float32],
    review: Floats,
    block: Floats,
    *,
    bootstrap: int,
    seed: int,
) -> tuple[dict[str, Sampled], list[Floats]]:
    """The headline figures, and the samples of each policy's average precision.

    The draws depend on the domains and the seed alone: for two models on the same records, sample i of both is of the
    same domains. `review` and `block` are limits that broadcast to (N, K); `bootstrap` 0 leaves the samples out.
    """
    labels, known = predictions.labels, predictions.known
    weights = cluster_weights(predictions.domains, samples=max(bootstrap, 1), seed=seed)
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
    some = any_violation(np.where(known, probabilities, 0.0))
    violating = np.asarray(((labels > 0) & known).any(axis=1))

    def alarm(limits: Floats) -> Any:
        return compliant & flagged_cells(probabilities, known, limits).any(axis=1)

    figures = {
        "macro_average_precision": Sampled(
            metrics.macro_average_precision(probabilities, labels, known), _nan_means(np.array(by_policy))
        ),
        "any_violation_auroc": Sampled(
            metrics.any_violation_auroc(probabilities, labels, known),
            weighted_auroc(some[judged], violating[judged], weights[:, judged]),
        ),
        "false_alarm_rate_review": Sampled(
            metrics.false_alarm_rate(probabilities, labels, known, review),
            weighted_share(alarm(review), compliant, weights),
        ),
        "false_alarm_rate_block": Sampled(
            metrics.false_alarm_rate(probabilities, labels, known, block),
            weighted_share(alarm(block), compliant, weights),
        ),
        "brier_score": Sampled(
            metrics.pooled(metrics.brier, probabilities, labels, known),
            weighted_share(squared, known.sum(axis=1), weights),
        ),
    }
    samples = min(bootstrap, CALIBRATION_SAMPLES)
    for name in ("smooth_calibration_error", "adaptive_calibration_error"):
        measure = getattr(metrics, name)
        figures[name] = _calibration_figure(measure, predictions, probabilities, samples=samples, seed=seed)
    return figures, by_policy


def _calibration_figure(
    measure: Callable[[Floats, Floats], float],
    predictions: Predictions,
    probabilities: NDArray[np.float32],
    *,
    samples: int,
    seed: int,
) -> Sampled:
    """A measure of all known cells, in `samples` draws of domains."""
    labels, known = predictions.labels, predictions.known

    def statistic(rows: NDArray[np.int64]) -> float:
        return metrics.pooled(measure, probabilities[rows], labels[rows], known[rows])

    drawn = metrics.cluster_samples(statistic, predictions.domains, samples=samples, seed=seed)
    return Sampled(statistic(np.arange(len(predictions))), drawn)


def _nan_means(values: Floats) -> Floats:
    """Mean over the policies (rows) with a value, per sample (column)."""
    present = ~np.isnan(values)
    counts = present.sum(axis=0)
    sums = np.where(present, values, 0.0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
