"""The cluster bootstrap: how much a figure would vary with other merchants of the same kind.

Whole clusters (domains) are drawn with replacement, as many as there are: the records of one domain are not independent,
and drawing single records would give intervals that are too narrow. There are two ways to it. A ranking measure or a
share takes weights, (samples, records), so that a thousand samples cost one sort. Any other statistic takes the row
numbers of one sample at a time.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]

_CHUNK_CELLS = 4_000_000


def cluster_weights(clusters: Sequence[str], *, samples: int, seed: int) -> NDArray[np.int32]:
    """How often each record is drawn in each sample, (samples, records).

    :raises ValueError: if there is no record or no sample to draw.
    """
    if not len(clusters) or samples < 1:
        raise ValueError(f"{len(clusters)} records and {samples} samples: nothing to draw")
    names, numbers = _number_clusters(clusters)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=samples)
    return np.asarray(drawn[:, numbers], dtype=np.int32)


def cluster_samples(
    statistic: Callable[[Rows], float], clusters: Sequence[str], *, samples: int, seed: int
) -> Floats:
    """The statistic in each sample, (samples,); it gets row numbers, each as often as its cluster is drawn.

    :raises ValueError: if there are samples to draw but no record.
    """
    if not samples:
        return np.zeros(0)
    if not len(clusters):
        raise ValueError(f"0 records and {samples} samples: nothing to draw")
    _, numbers = _number_clusters(clusters)
    order = np.argsort(numbers, kind="stable")
    sizes = np.bincount(numbers)
    starts = np.cumsum(sizes) - sizes
    draws = np.random.default_rng(seed).integers(len(sizes), size=(samples, len(sizes)))
    return np.array([statistic(_slices(order, starts[draw], sizes[draw])) for draw in draws], np.float64)


def cluster_interval(
    statistic: Callable[[Rows], float],
    clusters: Sequence[str],
    *,
    samples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic of row numbers.

    For the difference of two models let `statistic` return it: both models are then measured in the same draws.

    :raises ValueError: if there is no record.
    """
    drawn = cluster_samples(statistic, clusters, samples=samples, seed=seed)
    return percentile_interval(drawn, confidence=confidence)


def percentile_interval(values: ArrayLike, *, confidence: float) -> tuple[float, float]:
    """Percentile interval of bootstrap values; samples without a value are left out; NaN if all are."""
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    if not len(kept):
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


def weighted_average_precision(scores: ArrayLike, truth: ArrayLike, weights: ArrayLike) -> Floats:
    """Average precision per sample of `scores` and `truth`, both (records,); NaN without a positive.

    Equal scores share one threshold, as in scikit-learn's `average_precision_score`, whose checks would take most of a
    bootstrap's time.
    """
    return _in_chunks(_average_precision, np.asarray(scores), np.asarray(truth, dtype=bool), weights)


def weighted_auroc(scores: ArrayLike, truth: ArrayLike, weights: ArrayLike) -> Floats:
    """Area under the ROC curve per sample; a tie counts half; NaN unless both classes are drawn."""
    return _in_chunks(_auroc, np.asarray(scores), np.asarray(truth, dtype=bool), weights)


def weighted_share(numerator: ArrayLike, denominator: ArrayLike, weights: ArrayLike) -> Floats:
    """Weighted sum of `numerator` over that of `denominator`, both (records,); NaN where the latter is 0."""
    drawn = np.asarray(weights, dtype=np.float64)
    part = drawn @ np.asarray(numerator, dtype=np.float64)
    return ratio(part, drawn @ np.asarray(denominator, dtype=np.float64))


def ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """`part` over `whole`, elementwise; NaN where `whole` is 0."""
    numerator, denominator = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _number_clusters(clusters: Sequence[str]) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """The clusters' names, sorted, and the place among them of each record's cluster."""
    names, numbers = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    return names, numbers


def _slices(order: Rows, starts: Rows, sizes: Rows) -> Rows:
    """The slices order[start : start + size], one behind the other."""
    shift = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    rows: Rows = order[np.arange(sizes.sum()) + shift]
    return rows


def _in_chunks(
    measure: Callable[[NDArray[np.int64], Bools, NDArray[np.int32]], Floats],
    scores: NDArray[np.floating],
    truth: Bools,
    weights: ArrayLike,
) -> Floats:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    drawn = np.asarray(weights, dtype=np.int32)
    if not len(ranked):
        return np.full(len(drawn), np.nan)
    ends = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))
    step = max(1, _CHUNK_CELLS // len(ranked))
    parts = [
        measure(ends, truth[order], part[:, order]) for part in np.split(drawn, range(step, len(drawn), step))
    ]
    return np.concatenate(parts)


def _average_precision(ends: NDArray[np.int64], truth: Bools, weights: NDArray[np.int32]) -> Floats:
    found = np.cumsum(weights * truth, axis=1, dtype=np.int64)[:, ends]
    flagged = np.cumsum(weights, axis=1, dtype=np.int64)[:, ends]
    precision = found / np.maximum(flagged, 1)
    return ratio((np.diff(found, axis=1, prepend=0) * precision).sum(axis=1), found[:, -1])


def _auroc(ends: NDArray[np.int64], truth: Bools, weights: NDArray[np.int32]) -> Floats:
    hits = np.cumsum(weights * truth, axis=1, dtype=np.int64)[:, ends]
    alarms = np.cumsum(weights * ~truth, axis=1, dtype=np.int64)[:, ends]
    above = hits - 0.5 * np.diff(hits, axis=1, prepend=0)
    area = (np.diff(alarms, axis=1, prepend=0) * above).sum(axis=1)
    return ratio(area, hits[:, -1] * alarms[:, -1])
