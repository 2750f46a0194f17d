"""The headline figures of an evaluation, each with its bootstrap samples, so that intervals and paired differences of
two models come from the same draws of domains."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .bootstrap import (
    cluster_samples,
    cluster_weights,
    weighted_auroc,
    weighted_average_precision,
    weighted_share,
)
from .decision_rule import DecidedRecords

# The calibration errors sort all cells again for each sample; the other figures reuse one sort.
CALIBRATION_SAMPLES = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Headline:
    """How a headline figure is shown: its name, whether more is better, whether it is a share to print in per cent."""

    label: str
    higher_is_better: bool = False
    is_share: bool = False


HEADLINE = {
    "macro_average_precision": Headline("macro average precision", higher_is_better=True),
    "any_violation_auroc": Headline("AUROC, any violation", higher_is_better=True),
    "false_alarm_rate_review": Headline("false-alarm rate at review", is_share=True),
    "false_alarm_rate_block": Headline("false-alarm rate at block", is_share=True),
    "smooth_calibration_error": Headline("smooth calibration error"),
    "adaptive_calibration_error": Headline("adaptive calibration error"),
    "brier_score": Headline("Brier score"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """A figure and its value in every bootstrap sample, float64 (samples,); NaN where it is not defined."""

    value: float
    samples: Floats


def headline(
    decided: DecidedRecords, *, bootstrap: int, seed: int
) -> tuple[dict[str, Sampled], list[Sampled]]:
    """The headline figures, and each policy's average precision.

    The draws depend on the domains and the seed alone: for two models on the same records, sample i of both is of the
    same domains. `bootstrap` 0 leaves the samples out.
    """
    probabilities, labels = decided.probabilities, decided.labels
    weights = cluster_weights(decided.predictions.domains, samples=max(bootstrap, 1), seed=seed)[:bootstrap]
    by_policy = _by_policy(decided, weights)
    some, has_labels, mix = decided.any_violation, labels.labelled, decided.mix
    squared = np.where(labels.mask, (probabilities.astype(np.float64) - labels.values) ** 2, 0.0).sum(axis=1)
    cells = labels.mask.sum(axis=1)
    figures = {
        "macro_average_precision": Sampled(
            metrics.nan_mean([policy.value for policy in by_policy]),
            _nan_means(np.array([policy.samples for policy in by_policy])),
        ),
        "any_violation_auroc": Sampled(
            metrics.any_violation_auroc(some, labels),
            weighted_auroc(some[has_labels], labels.violating[has_labels], weights[:, has_labels]),
        ),
        "false_alarm_rate_review": _false_alarms(decided, decided.limits, weights),
        "false_alarm_rate_block": _false_alarms(decided, decided.block, weights),
        "brier_score": Sampled(
            float(weighted_share(squared * mix, cells * mix, np.ones((1, len(mix))))[0]),
            weighted_share(squared * mix, cells * mix, weights),
        ),
    }
    samples = min(bootstrap, CALIBRATION_SAMPLES)
    smooth, adaptive = metrics.smooth_calibration_error, metrics.adaptive_calibration_error
    figures["smooth_calibration_error"] = _calibration_error(smooth, decided, samples=samples, seed=seed)
    figures["adaptive_calibration_error"] = _calibration_error(adaptive, decided, samples=samples, seed=seed)
    return figures, by_policy


def _by_policy(decided: DecidedRecords, weights: NDArray[np.int32]) -> list[Sampled]:
    """Average precision of each policy; `weights` is (samples, N)."""
    labels = decided.labels
    values = metrics.average_precision(decided.probabilities, labels)
    result = []
    for k, value in enumerate(values):
        rows = labels.mask[:, k]
        scores, truth = decided.probabilities[rows, k], labels.values[rows, k] > 0
        result.append(Sampled(float(value), weighted_average_precision(scores, truth, weights[:, rows])))
    return result


def _false_alarms(decided: DecidedRecords, limits: Floats, weights: NDArray[np.int32]) -> Sampled:
    """Share of the compliant records that pass `limits`, which broadcast to (N, K)."""
    labels, compliant = decided.labels, decided.labels.compliant
    alarms = compliant & metrics.flag_cells(decided.probabilities, labels, limits).any(axis=1)
    return Sampled(
        metrics.false_alarm_rate(decided.probabilities, labels, limits),
        weighted_share(alarms, compliant, weights),
    )


def _calibration_error(
    measure: Callable[[Floats, Floats], float], decided: DecidedRecords, *, samples: int, seed: int
) -> Sampled:
    """A measure of all labelled cells at the stated prevalence, in `samples` draws of domains."""
    mix, generator = decided.mix, np.random.default_rng(seed)

    def statistic(rows: NDArray[np.int64]) -> float:
        if decided.prevalence is not None:
            rows = draw_by_weight(rows, mix[rows], generator)
        return metrics.micro(measure, decided.probabilities[rows], decided.labels[rows])

    value = statistic(np.arange(len(mix)))
    drawn = cluster_samples(statistic, decided.predictions.domains, samples=samples, seed=seed)
    return Sampled(value, drawn)


def draw_by_weight(
    rows: NDArray[np.int64], weights: Floats, generator: np.random.Generator
) -> NDArray[np.int64]:
    """As many rows, each drawn about as often as its weight says (systematic sampling, which adds the least noise)."""
    edges = np.cumsum(weights)
    places = (np.arange(len(rows)) + generator.random()) * (edges[-1] / max(len(rows), 1))
    return np.asarray(rows[np.minimum(np.searchsorted(edges, places), len(rows) - 1)])


def _nan_means(values: Floats) -> Floats:
    """Mean over the policies (rows) with a value, per sample (column)."""
    present = ~np.isnan(values)
    counts = present.sum(axis=0)
    sums = np.where(present, values, 0.0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
