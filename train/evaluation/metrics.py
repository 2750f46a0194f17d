"""What is measured of a model: ranking, decisions at thresholds, calibration; and how sure the figures are.

Every function takes probabilities, labels (0 or 1) and `known` of shape (records, policies); a cell
that nobody has judged counts nowhere. A figure without a meaning (no positives, nothing flagged) is NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy
from sklearn.metrics import precision_recall_curve, roc_auc_score

from ...core.decisions import any_violation
from ...core.extras import require

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# Calibration errors, Brier and log loss take 1-D probabilities and labels of known cells.
CellMeasure = Callable[[Floats, Floats], float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the ends of its confidence interval; NaN where it has no meaning."""

    point: float
    low: float
    high: float


def average_precision(probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike) -> Floats:
    """Average precision per policy, shape (K,); NaN where no known cell is positive."""
    return _per_policy(_average_precision, probabilities, labels, known)


def macro_average_precision(probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike) -> float:
    """Mean of average precision over the policies that have a positive; NaN if none has."""
    return nan_mean(average_precision(probabilities, labels, known))


def any_violation_auroc(probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike) -> float:
    """Area under the ROC curve of "violates any policy", scored by 1 - product(1 - p) over the known policies.

    That is the probability of some violation were the policies independent: three doubts weigh more than one. A record counts as compliant only if every known label says so; a record without a known cell is
    left out. NaN unless there are records of both kinds.
    """
    scores, truth, mask = _arrays(probabilities, labels, known)
    heard = np.asarray(mask.any(axis=1))
    violates = np.asarray((truth & mask)[heard].any(axis=1))
    if violates.all() or not violates.any():
        return float("nan")
    return float(roc_auc_score(violates, any_violation(np.where(mask, scores, 0.0))[heard]))


def review_limits(probabilities: ArrayLike, review: ArrayLike, any_review: float) -> Floats:
    """The review threshold of each cell, (N, K), from those of the policies (K,): out of reach in the records whose
    probability of any violation is below `any_review`, which are clear as a whole."""
    # float32 like the thresholds: the record that set the limit must reach it.
    some = any_violation(probabilities).astype(np.float32) >= np.float32(any_review)
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
        return _ratio(self.found, self.flagged)

    @property
    def recall(self) -> Floats:
        """Share of the violations that are flagged, (K,); NaN without violations."""
        return _ratio(self.found, self.positives)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall, (K,); NaN where nothing is flagged nor positive."""
        return _ratio(2 * self.found, self.flagged + self.positives)

    @property
    def micro_f1(self) -> float:
        """F1 of all cells together."""
        return float(_ratio(2 * self.found.sum(), self.flagged.sum() + self.positives.sum()))


def decide(probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike, thresholds: ArrayLike) -> Decisions:
    """Count known cells at or over `thresholds`: one number, or (K,) where NaN or infinity flags nothing."""
    scores, truth, mask = _arrays(probabilities, labels, known)
    flagged = mask & _reaches(scores, thresholds)
    positive = mask & truth
    return Decisions((flagged & positive).sum(axis=0), flagged.sum(axis=0), positive.sum(axis=0))


def recall_at_precision(
    probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike, *, precision: float = 0.95
) -> Floats:
    """Highest recall per policy, (K,), among thresholds of at least this precision; 0 where none has it."""
    return _per_policy(partial(_recall_at_precision, precision=precision), probabilities, labels, known)


def false_alarm_rate(
    probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike, thresholds: ArrayLike
) -> float:
    """Share of compliant records with a probability at or over its policy's threshold.

    Compliant: at least one known label and no positive one. Only known cells can raise the alarm, since
    one that nobody has judged may be right to.
    """
    scores, truth, mask = _arrays(probabilities, labels, known)
    compliant = mask.any(axis=1) & ~(truth & mask).any(axis=1)
    if not compliant.any():
        return float("nan")
    return float((mask & _reaches(scores, thresholds))[compliant].any(axis=1).mean())


def pooled(measure: CellMeasure, probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike) -> float:
    """`measure` over all known cells together; NaN if there are none."""
    scores, truth, mask = _arrays(probabilities, labels, known)
    return measure(scores[mask], truth[mask].astype(np.float64)) if mask.any() else float("nan")


def per_policy(measure: CellMeasure, probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike) -> Floats:
    """`measure` over each policy's known cells, shape (K,); NaN where a policy has none."""
    return _per_policy(measure, probabilities, labels, known)


def brier(probabilities: Floats, labels: Floats) -> float:
    """Mean squared difference of probability and label (Brier 1950)."""
    return float(np.mean((probabilities - labels) ** 2))


def log_loss(probabilities: Floats, labels: Floats) -> float:
    """Mean negative log-likelihood, with probabilities kept 1e-7 from 0 and 1."""
    inside = np.clip(probabilities, 1e-7, 1.0 - 1e-7)
    return float(-np.mean(xlogy(labels, inside) + xlogy(1.0 - labels, 1.0 - inside)))


def adaptive_calibration_error(probabilities: Floats, labels: Floats, *, bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass (Nguyen & O'Connor 2015, "adaptive ECE").

    Equal probabilities are never parted: they share the mean of their labels, so the order of the cells
    has no say.
    """
    values, place, count = np.unique(probabilities, return_inverse=True, return_counts=True)
    shared = np.bincount(place, weights=labels) / count
    gap = np.repeat(values - shared, count)
    edges = np.linspace(0, len(gap), min(bins, len(gap)) + 1).astype(np.int64)
    return float(np.abs(np.add.reduceat(gap, edges[:-1])).sum() / len(gap))


def smooth_calibration_error(probabilities: Floats, labels: Floats) -> float:
    """Smooth calibration error, smECE (Błasiok & Nakkiran 2023), by Apple's relplot.

    Its time grows with the cells (0.08 s for 100,000): bootstrap it pooled, not per policy.
    """
    relplot = require("relplot", "train")
    return float(relplot.smECE(np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)))


def cluster_bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    clusters: Sequence[str],
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a statistic, by drawing whole clusters (domains) with replacement.

    `statistic` gets row numbers, a row as often as its cluster was drawn; the point is that of all rows in
    order. Rows of one domain are not independent: drawing rows one by one would give intervals that
    are too narrow. Draws for which the statistic is NaN are left out (one without positives, say). For the
    difference of two models return it from `statistic`: both then see the same draws (`paired`).

    :raises ValueError: if `clusters` is empty, `samples` is not positive or `level` not inside (0, 1).
    """
    if not len(clusters) or samples < 1 or not 0.0 < level < 1.0:
        raise ValueError(f"{len(clusters)} clusters, {samples} samples, level {level}: nothing to draw")
    point = statistic(np.arange(len(clusters)))
    values = cluster_samples(statistic, clusters, samples=samples, seed=seed)
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(point, float("nan"), float("nan"))
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(point, float(low), float(high))


def cluster_samples(
    statistic: Callable[[NDArray[np.int64]], float], clusters: Sequence[str], *, samples: int, seed: int
) -> Floats:
    """The statistic of each of `samples` draws of whole clusters, float64 (samples,)."""
    if not samples:
        return np.zeros(0)
    return np.array([statistic(rows) for rows in _draw_clusters(clusters, samples, seed)], dtype=np.float64)


def paired(
    first: Callable[[NDArray[np.int64]], float], second: Callable[[NDArray[np.int64]], float]
) -> Callable[[NDArray[np.int64]], float]:
    """The statistic first - second on the same rows, for `cluster_bootstrap`."""
    return lambda rows: first(rows) - second(rows)


def nan_mean(values: ArrayLike) -> float:
    """Mean of what is not NaN; NaN, without a warning, if all is."""
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if len(array) else float("nan")


def _draw_clusters(clusters: Sequence[str], samples: int, seed: int) -> "list[NDArray[np.int64]]":
    numbers = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1]
    order = np.argsort(numbers, kind="stable")
    sizes = np.bincount(numbers)
    starts = np.cumsum(sizes) - sizes
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(sizes), size=(samples, len(sizes)))
    return [_rows(order, starts[draw], sizes[draw]) for draw in draws]


def _rows(order: NDArray[np.int64], starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The slices order[start : start + size], one behind the other."""
    shift = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    rows: NDArray[np.int64] = order[np.arange(sizes.sum()) + shift]
    return rows


def _arrays(probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike) -> tuple[Floats, Bools, Bools]:
    scores, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels) == 1
    mask = np.asarray(known, dtype=bool)
    if scores.ndim != 2 or not scores.shape == truth.shape == mask.shape:
        raise ValueError(
            f"probabilities {scores.shape}, labels {truth.shape} and known {mask.shape} must all be (N, K)"
        )
    return scores, truth, mask


def _per_policy(
    measure: CellMeasure, probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike
) -> Floats:
    scores, truth, mask = _arrays(probabilities, labels, known)
    result = np.full(scores.shape[1], np.nan)
    for column in np.flatnonzero(mask.any(axis=0)):
        rows = mask[:, column]
        result[column] = measure(scores[rows, column], truth[rows, column].astype(np.float64))
    return result


def _average_precision(scores: Floats, truth: Floats) -> float:
    """As scikit-learn's `average_precision_score`, without the checks that take most of a bootstrap."""
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    found = np.cumsum(truth[order])[ends]
    gained = np.diff(found, prepend=0.0)
    return float((gained * found / (ends + 1)).sum() / found[-1])


def _recall_at_precision(scores: Floats, truth: Floats, *, precision: float) -> float:
    if not truth.any():
        return float("nan")
    precisions, recalls, _ = precision_recall_curve(truth, scores)
    return float(recalls[precisions >= precision].max())  # the curve ends at precision 1, recall 0


def _reaches(scores: Floats, thresholds: ArrayLike) -> Bools:
    # float32 like the scorer: a threshold that is one of the probabilities must be reached by it.
    limits = np.asarray(thresholds, dtype=np.float32)
    result: Bools = scores.astype(np.float32) >= limits
    return result


def _ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    numerator, denominator = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
