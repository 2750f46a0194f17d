"""Ranking measures under record weights, so that a thousand bootstrap samples cost one sort.

A bootstrap that draws whole clusters is the same as weighting each record by how often its cluster was
drawn. Weights are (samples, records); every measure returns one value per sample.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_CHUNK_CELLS = 4_000_000


def cluster_weights(clusters: Sequence[str], *, samples: int, seed: int) -> NDArray[np.int32]:
    """How often each record is drawn, (samples, records), when as many clusters as there are get drawn.

    :raises ValueError: if there is no record or no sample to draw.
    """
    if not len(clusters) or samples < 1:
        raise ValueError(f"{len(clusters)} records and {samples} samples: nothing to draw")
    names, numbers = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=samples)
    return np.asarray(drawn[:, numbers], dtype=np.int32)


def weighted_average_precision(scores: ArrayLike, truth: ArrayLike, weights: ArrayLike) -> Floats:
    """Average precision per sample of `scores` and `truth`, both (records,); NaN without a positive.

    Equal scores share one threshold, as in scikit-learn's `average_precision_score`.
    """
    return _in_chunks(_average_precision, np.asarray(scores), np.asarray(truth, dtype=bool), weights)


def weighted_auroc(scores: ArrayLike, truth: ArrayLike, weights: ArrayLike) -> Floats:
    """Area under the ROC curve per sample; a tie counts half; NaN unless both classes are drawn."""
    return _in_chunks(_auroc, np.asarray(scores), np.asarray(truth, dtype=bool), weights)


def weighted_share(numerator: ArrayLike, denominator: ArrayLike, weights: ArrayLike) -> Floats:
    """Weighted sum of `numerator` over that of `denominator`, both (records,); NaN where the latter is 0."""
    drawn = np.asarray(weights, dtype=np.float64)
    part = drawn @ np.asarray(numerator, dtype=np.float64)
    return _divide(part, drawn @ np.asarray(denominator, dtype=np.float64))


def percentile_interval(values: ArrayLike, *, confidence: float) -> tuple[float, float]:
    """Percentile interval of bootstrap values; samples without a value are left out; NaN if all are."""
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[~np.isnan(kept)]
    if not len(kept):
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)


def _in_chunks(
    measure: Callable[[NDArray[np.int64], Bools, NDArray[np.int32]], Floats],
    scores: NDArray[np.floating],
    truth: Bools,
    weights: ArrayLike,
) -> Floats:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True)) if len(ranked) else np.zeros(0, np.int64)
    drawn = np.asarray(weights, dtype=np.int32)
    if not len(ranked):
        return np.full(len(drawn), np.nan)
    step = max(1, _CHUNK_CELLS // len(ranked))
    parts = [
        measure(ends, truth[order], part[:, order]) for part in np.split(drawn, range(step, len(drawn), step))
    ]
    return np.concatenate(parts)


def _average_precision(ends: NDArray[np.int64], truth: Bools, weights: NDArray[np.int32]) -> Floats:
    found = np.cumsum(weights * truth, axis=1, dtype=np.int64)[:, ends]
    flagged = np.cumsum(weights, axis=1, dtype=np.int64)[:, ends]
    precision = found / np.maximum(flagged, 1)
    return _divide((np.diff(found, axis=1, prepend=0) * precision).sum(axis=1), found[:, -1])


def _auroc(ends: NDArray[np.int64], truth: Bools, weights: NDArray[np.int32]) -> Floats:
    hits = np.cumsum(weights * truth, axis=1, dtype=np.int64)[:, ends]
    alarms = np.cumsum(weights * ~truth, axis=1, dtype=np.int64)[:, ends]
    above = hits - 0.5 * np.diff(hits, axis=1, prepend=0)
    area = (np.diff(alarms, axis=1, prepend=0) * above).sum(axis=1)
    return _divide(area, hits[:, -1] * alarms[:, -1])


def _divide(part: ArrayLike, whole: ArrayLike) -> Floats:
    numerator, denominator = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
