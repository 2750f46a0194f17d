"""The labels of a record's nearest neighbours, computed in blocks so that memory grows with the records, not with their pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.extras import require

NEIGHBOURS = 20
MOST_REFERENCES = 20_000
"""Neighbours are searched among at most so many records, drawn at random if there are more: time then grows with the records,
not with their square."""

_BLOCK_CELLS = 8_000_000
"""Similarities that are in memory at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The `k` nearest other records of each of N: rows int64 (N, k), cosine similarities float32 (N, k), nearest first."""

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]

    def shares(self, given: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Weighted share (N, K) of the labelled neighbours that have the label; weights are squared similarities.

        One more neighbour is added that has the policy's overall rate.
        """
        rate = (given & mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)
        hits = np.tile(rate, (len(self.rows), 1))
        total = np.ones(hits.shape)
        for column in range(self.rows.shape[1]):
            others = self.rows[:, column]
            weight = self.similarities[:, column : column + 1] ** 2 * mask[others]
            hits += weight * given[others]
            total += weight
        return hits / total


def nearest(
    vectors: Any,
    groups: NDArray[np.int64],
    *,
    k: int = NEIGHBOURS,
    references: int = MOST_REFERENCES,
    seed: int = 0,
) -> Neighbours:
    """The `k` nearest records by cosine, none from the record's own group: a copy would only repeat its label.

    :param vectors: (N, D) dense or scipy sparse, rows of length 1.
    :param groups: near-duplicate group of each record, int64 (N,) from 0.
    :param references: most records to search among; drawn by `seed` if there are more.
    """
    count = vectors.shape[0]
    drawn = np.arange(count)
    if count > references:
        drawn = np.sort(np.random.default_rng(seed).choice(count, references, replace=False))
    k = max(1, min(k, len(drawn) - 1))
    rows = np.zeros((count, k), dtype=np.int64)
    similarities = np.zeros((count, k), dtype=np.float32)
    others = vectors[drawn].T
    columns_of = _members(groups[drawn])
    step = max(1, _BLOCK_CELLS // len(drawn))
    for start in range(0, count, step):
        block = slice(start, min(start + step, count))
        product = vectors[block] @ others
        scores = np.asarray(product.toarray() if hasattr(product, "toarray") else product, dtype=np.float32)
        for place, group in enumerate(groups[block].tolist()):
            scores[place, columns_of.get(group, _NONE)] = -1.0
        best = np.argpartition(scores, -k, axis=1)[:, -k:] if k < len(drawn) else _all(scores)
        values = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        rows[block] = drawn[np.take_along_axis(best, order, axis=1)]
        similarities[block] = np.maximum(np.take_along_axis(values, order, axis=1), 0.0)
    return Neighbours(rows, similarities)


_NONE = np.zeros(0, dtype=np.int64)


def _members(groups: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Positions of each group."""
    order = np.argsort(groups, kind="stable")
    numbers, starts = np.unique(groups[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


def _all(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.tile(np.arange(scores.shape[1]), (len(scores), 1))


def neighbour_vectors(
    texts: Sequence[str], encoded: NDArray[np.float32] | None = None, *, topics: int = 200
) -> NDArray[np.float32]:
    """Vectors (N, D) of length 1 for the neighbour search: latent semantic analysis of the words, next to the encoder's vectors.

    :param encoded: an encoder's vectors (N, H) of length 1, if there are any.
    """
    counts = _word_counts(texts)
    parts = [] if encoded is None else [encoded]
    if counts is not None:
        decomposition = require("sklearn.decomposition", "audit")
        size = min(topics, counts.shape[1] - 1, len(texts) - 1)
        with np.errstate(invalid="ignore"):  # identical texts have no variance to explain
            parts.append(decomposition.TruncatedSVD(size, n_iter=2, random_state=0).fit_transform(counts))
    if not parts:  # hardly any words: every record is as near as any other
        parts = [np.ones((len(texts), 1), dtype=np.float32)]
    unit = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in parts]
    return np.hstack(unit).astype(np.float32) / np.float32(np.sqrt(len(unit)))


def _word_counts(texts: Sequence[str]) -> Any:
    """TF-IDF of words, scipy sparse (N, F); None if fewer than three words occur in two texts."""
    text = require("sklearn.feature_extraction.text", "audit")
    vectorizer = text.TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=50_000, dtype=np.float32)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # no word occurs twice
        return None
    return counts if counts.shape[1] > 2 and len(texts) > 2 else None
