"""Out-of-fold predictions in minutes: one logistic regression a policy on the frozen encoder's vectors and on n-grams.

It replaces the fine-tuned models of `out_of_fold` where those take too long. What it reads is computed once for all folds; the
phrasebook of the settings is learnt from in every fold, as the fine-tuned models do.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AuditError
from ...core.extras import require
from ...core.labels import LabelMatrix
from ...core.progress import progress
from ...data.cleaning.text import clean
from ...data.records.record import Record, label_matrix
from ...data.shipped import collection_records
from ...data.taxonomy import Taxonomy
from ..settings import Settings
from .out_of_fold import OutOfFold, assign_folds, cross_calibrated, encoder_vectors

Floats = NDArray[np.float64]

STRENGTH = 10.0
"""Inverse regularisation, as scikit-learn's C."""
PHRASE_WEIGHT = 0.3
"""What a text of the phrasebook counts beside a record: it is short and typical, so many of them say little more than one record."""
MOST_PHRASES = 1_500
_COMPONENTS = 300
_LENGTH = 5.0
"""Length of each part of a row: rows of length 1 would need coefficients that the regularisation forbids."""
_EPOCHS, _RATE, _BATCH = 12, 0.02, 32


def linear_out_of_fold(
    records: Sequence[Record], taxonomy: Taxonomy, settings: Settings, folder: Path, *, folds: int = 5
) -> tuple[OutOfFold, NDArray[np.float32]]:
    """Probabilities, margins and folds as `out_of_fold` gives them, and the encoder's vectors (N, H) of the records.

    :param folder: a folder for temporary files; it is deleted at the end.
    :raises AuditError: if there are fewer groups of records than folds, or no record has a label.
    """
    labels = label_matrix(records, taxonomy)
    if not labels.positive.any():
        raise AuditError(
            f"none of the {len(records)} records has a label: there is nothing to learn from them"
        )
    numbers = assign_folds(records, labels, folds=folds, seed=settings.seed)
    phrases = _phrases(settings, taxonomy)
    everything = [*records, *phrases]
    vectors = encoder_vectors(everything, settings, folder)
    features = _features([clean(record.text).text for record in everything], vectors)
    known = label_matrix(everything, taxonomy)
    weights = np.where(np.arange(len(everything)) < len(records), 1.0, PHRASE_WEIGHT)
    shape = labels.values.shape
    logits, margins = np.zeros(shape), np.zeros(shape)
    with progress("logistic regressions", total=folds) as update:
        for fold in range(folds):
            held = numbers == fold
            seen = np.concatenate([~held, np.ones(len(phrases), dtype=bool)])
            fitted = fit_logistic(features[seen], known[seen], weights[seen])
            logits[held] = features[: len(records)][held] @ fitted
            margins[~held] += area_under_margin(
                features[: len(records)][~held], labels[~held], seed=settings.seed
            ) / (folds - 1)
            update(fold + 1)
    probabilities = cross_calibrated(logits, labels, numbers)
    margins[~labels.mask] = np.nan
    return OutOfFold(probabilities, margins, numbers), vectors[: len(records)]


def _phrases(settings: Settings, taxonomy: Taxonomy) -> list[Record]:
    """At most `MOST_PHRASES` texts of the phrasebook, drawn by the seed."""
    found = collection_records(settings.data.phrasebook, "phrasebook", taxonomy)
    if len(found) <= MOST_PHRASES:
        return found
    drawn = np.random.default_rng(settings.seed).choice(len(found), MOST_PHRASES, replace=False)
    return [found[number] for number in sorted(drawn.tolist())]


def _features(texts: Sequence[str], vectors: NDArray[np.float32]) -> Floats:
    """Rows (N, D): topics of words and word pairs, the encoder's vector, and a 1."""
    parts = [_LENGTH * vectors.astype(np.float64), np.ones((len(texts), 1))]
    topics = _topics(texts)
    return np.hstack(parts if topics is None else [topics, *parts])


def _topics(texts: Sequence[str]) -> Floats | None:
    """TF-IDF of words and word pairs reduced by latent semantic analysis; None if hardly any word occurs twice."""
    text = require("sklearn.feature_extraction.text", "audit")
    decomposition = require("sklearn.decomposition", "audit")
    vectorizer = text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, max_features=100_000)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # no word occurs twice
        return None
    size = min(_COMPONENTS, counts.shape[1] - 1, len(texts) - 1)
    if size < 2:
        return None
    topics = decomposition.TruncatedSVD(size, n_iter=2, random_state=0).fit_transform(counts)
    norms = np.maximum(np.linalg.norm(topics, axis=1, keepdims=True), 1e-12)
    return np.asarray(_LENGTH * topics / norms)


def fit_logistic(features: Floats, labels: LabelMatrix, weights: Floats) -> Floats:
    """Coefficients (D, K) of one regularised logistic regression a policy, all in one minimisation; the last feature is 1.

    :param weights: what each row counts, (N,); unlabelled cells count nothing.
    """
    optimize = require("scipy.optimize", "audit")
    special = require("scipy.special", "audit")
    targets = labels.values.astype(np.float64)
    counted = labels.mask * weights[:, None]
    shape = (features.shape[1], targets.shape[1])
    penalty = np.full((shape[0], 1), 1.0 / STRENGTH)
    penalty[-1] = 0.0

    def loss(flat: Floats) -> tuple[float, Floats]:
        coefficients = flat.reshape(shape)
        scores = features @ coefficients
        value = (counted * (np.logaddexp(0.0, scores) - scores * targets)).sum()
        value += 0.5 * (penalty * coefficients**2).sum()
        slope = features.T @ (counted * (special.expit(scores) - targets)) + penalty * coefficients
        return float(value), slope.ravel()

    start = np.zeros(shape[0] * shape[1])
    fitted = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
    return np.asarray(fitted.x.reshape(shape))


def area_under_margin(features: Floats, labels: LabelMatrix, *, seed: int) -> Floats:
    """Signed margin (N, K) of the logit towards the given label, averaged over epochs of plain SGD (Pleiss et al. 2020)."""
    special = require("scipy.special", "audit")
    draw = np.random.default_rng(seed)
    targets = labels.values.astype(np.float64)
    coefficients = np.zeros((features.shape[1], targets.shape[1]))
    sign = np.where(targets > 0, 1.0, -1.0)
    total = np.zeros(targets.shape)
    for _ in range(_EPOCHS):
        for batch in np.array_split(draw.permutation(len(features)), max(1, len(features) // _BATCH)):
            slope = (special.expit(features[batch] @ coefficients) - targets[batch]) * labels.mask[batch]
            coefficients -= _RATE * features[batch].T @ slope
        total += sign * (features @ coefficients)
    return np.asarray(total / _EPOCHS)
