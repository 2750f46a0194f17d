"""Figures of a multi-label classifier: ranking, decisions at thresholds, calibration.

Probabilities are (N, K), N records and K policies. Unlabelled cells count nowhere. A figure that these records do not
define (no positives, nothing flagged) is NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import precision_recall_curve, roc_auc_score

from ...core.extras import require
from ...core.labels import LabelMatrix
from .bootstrap import ratio, weighted_average_precision

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
CellMeasure = Callable[[Floats, Floats], float]
"""A figure of probabilities and labels (0 or 1), both (cells,)."""


def average_precision(probabilities: ArrayLike, labels: LabelMatrix) -> Floats:
    """Average precision per policy, (K,); NaN where no labelled cell is positive."""
    return _per_policy(_average_precision, probabilities, labels)


def macro_average_precision(probabilities: ArrayLike, labels: LabelMatrix) -> float:
    """Mean of average precision over the policies that have a positive; NaN if none has."""
    return nan_mean(average_precision(probabilities, labels))


def any_violation_auroc(scores: ArrayLike, labels: LabelMatrix) -> float:
    """Area under the ROC curve of "violates any policy" by scores (N,), such as the probability of any violation.

    A record is compliant if none of its labelled cells is positive; a record without a labelled cell is left out. NaN
    unless there are records of both kinds.
    """
    has_labels = labels.labelled
    violates = labels.violating[has_labels]
    if violates.all() or not violates.any():
        return float("nan")
    return float(roc_auc_score(violates, np.asarray(scores)[has_labels]))


def review_limits(any_violation: ArrayLike, review: ArrayLike, any_review: float) -> Floats:
    """The review threshold of each cell, (N, K), from those of the policies (K,).

    A record whose probability of any violation (N,) is below `any_review` is clear as a whole: its thresholds are
    infinite.
    """
    # float32 like the thresholds: the record that set the limit must reach it.
    some = np.asarray(any_violation, dtype=np.float32) >= np.float32(any_review)
    limits: Floats = np.where(some[:, None], np.asarray(review, dtype=np.float64), np.inf)
    return limits


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """Counts at one threshold per policy, each (K,), and what follows from them."""

    found: NDArray[np.int64]
    flagged: NDArray[np.int64]
    positives: NDArray[np.int64]

    @property
    def precision(self) -> Floats:
        """Share of the flagged cells that are violations, (K,); NaN where nothing is flagged."""
        return ratio(self.found, self.flagged)

    @property
    def recall(self) -> Floats:
        """Share of the violations that are flagged, (K,); NaN without violations."""
        return ratio(self.found, self.positives)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall, (K,); NaN where nothing is flagged nor positive."""
        return ratio(2 * self.found, self.flagged + self.positives)

    @property
    def micro_f1(self) -> float:
        """F1 of all cells together."""
        return float(ratio(2 * self.found.sum(), self.flagged.sum() + self.positives.sum()))


def decide(probabilities: ArrayLike, labels: LabelMatrix, thresholds: ArrayLike) -> Decisions:
    """Count labelled cells at or over `thresholds`: one number, (K,) or (N, K); NaN or infinity flags nothing."""
    flagged, positive = flag_cells(_scores(probabilities, labels), labels, thresholds), labels.positive
    return Decisions((flagged & positive).sum(axis=0), flagged.sum(axis=0), positive.sum(axis=0))


def flag_cells(probabilities: ArrayLike, labels: LabelMatrix, thresholds: ArrayLike) -> Bools:
    """Labelled cells at or over their threshold, (N, K); a threshold of NaN or infinity flags nothing."""
    # float32 like the scorer: a threshold that is one of the probabilities must be reached by it.
    over = np.asarray(probabilities).astype(np.float32) >= np.asarray(thresholds, dtype=np.float32)
    return np.asarray(over & labels.mask)


def recall_at_precision(probabilities: ArrayLike, labels: LabelMatrix, *, precision: float = 0.95) -> Floats:
    """Highest recall per policy, (K,), among thresholds of at least this precision; 0 where none has it."""
    return _per_policy(partial(_recall_at_precision, precision=precision), probabilities, labels)


def false_alarm_rate(probabilities: ArrayLike, labels: LabelMatrix, thresholds: ArrayLike) -> float:
    """Share of compliant records with a probability at or over its policy's threshold.

    A compliant record has a labelled cell and no positive one. Only labelled cells raise an alarm: in an unlabelled
    cell it may be right.
    """
    compliant = labels.compliant
    if not compliant.any():
        return float("nan")
    flagged = flag_cells(_scores(probabilities, labels), labels, thresholds)
    return float(flagged[compliant].any(axis=1).mean())


def micro(measure: CellMeasure, probabilities: ArrayLike, labels: LabelMatrix) -> float:
    """`measure` over all labelled cells together; NaN if there are none."""
    scores, mask = _scores(probabilities, labels), labels.mask
    return measure(scores[mask], _truth(labels)[mask]) if mask.any() else float("nan")


def brier(probabilities: Floats, labels: Floats) -> float:
    """Mean squared difference of probability and label (Brier 1950)."""
    return float(np.mean((probabilities - labels) ** 2))


def adaptive_calibration_error(probabilities: Floats, labels: Floats, *, bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass (Nguyen & O'Connor 2015, "adaptive ECE").

    Equal probabilities share the mean of their labels, so that the order of the cells does not matter where a bin ends
    among them.
    """
    values, place, count = np.unique(probabilities, return_inverse=True, return_counts=True)
    shared = np.bincount(place, weights=labels) / count
    gap = np.repeat(values - shared, count)
    edges = np.linspace(0, len(gap), min(bins, len(gap)) + 1).astype(np.int64)
    return float(np.abs(np.add.reduceat(gap, edges[:-1])).sum() / len(gap))


def smooth_calibration_error(probabilities: Floats, labels: Floats) -> float:
    """Smooth calibration error, smECE (Błasiok & Nakkiran 2023), by Apple's relplot; 0.08 s for 100,000 cells."""
    relplot = require("relplot", "train")
    return float(relplot.smECE(np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)))


def nan_mean(values: ArrayLike) -> float:
    """Mean of what is not NaN; NaN, without a warning, if all is."""
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if len(array) else float("nan")


def _scores(probabilities: ArrayLike, labels: LabelMatrix) -> Floats:
    """Probabilities as float64.

    :raises ValueError: if they are not of the labels' shape.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.shape != labels.mask.shape:
        raise ValueError(f"probabilities {scores.shape} and labels {labels.mask.shape} must both be (N, K)")
    return scores


def _truth(labels: LabelMatrix) -> Floats:
    return (labels.values > 0).astype(np.float64)


def _per_policy(measure: CellMeasure, probabilities: ArrayLike, labels: LabelMatrix) -> Floats:
    """`measure` over each policy's labelled cells, (K,); NaN where a policy has none."""
    scores, truth, mask = _scores(probabilities, labels), _truth(labels), labels.mask
    result = np.full(scores.shape[1], np.nan)
    for column in np.flatnonzero(mask.any(axis=0)):
        rows = mask[:, column]
        result[column] = measure(scores[rows, column], truth[rows, column])
    return result


def _average_precision(scores: Floats, truth: Floats) -> float:
    return float(weighted_average_precision(scores, truth, np.ones((1, len(scores)), dtype=np.int32))[0])


def _recall_at_precision(scores: Floats, truth: Floats, *, precision: float) -> float:
    if not truth.any():
        return float("nan")
    precisions, recalls, _ = precision_recall_curve(truth, scores)
    return float(recalls[precisions >= precision].max())  # the curve ends at precision 1, recall 0
