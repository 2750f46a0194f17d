"""Out-of-fold probabilities from a linear model that trains in a second, so that every ranker can be tried on many seeds.

Features: TF-IDF of words and word pairs reduced to 300 numbers (latent semantic analysis) beside the frozen encoder's
vector, as the package's own model has an n-gram branch beside its encoder. One logistic regression a policy.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from baselines import EmbeddingFeatures
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from merchantguard.audit.ranking.neighbours import neighbour_vectors
from merchantguard.core.labels import LabelMatrix
from merchantguard.data.cleaning.text import clean
from merchantguard.data.splitting.stratify import assign_groups
from merchantguard.train.calibration.platt_scaling import fit_calibration

from .cases import Case

Floats = NDArray[np.float64]
STRENGTH = 10.0
"""Inverse regularisation, as scikit-learn's C."""


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Probabilities (N, K) of models that did not see the record, calibrated on other folds; area under the margin (N, K)
    of models that did; fold (N,) of each record."""

    probabilities: Floats
    aum: Floats
    folds: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The encoder's vectors (N, 384) float32, those that `label-audit scan` seeks neighbours by, and what the linear model
    reads, (N, D), of which the last is 1."""

    vectors: NDArray[np.float32]
    neighbour_vectors: NDArray[np.float32]
    features: Floats

    def rows(self, keep: NDArray[np.bool_]) -> "Inputs":
        """Those of some rows."""
        return Inputs(self.vectors[keep], self.neighbour_vectors[keep], self.features[keep])


def inputs_of(case: Case, cache: Path | None) -> Inputs:
    """Features of a case's texts, learnt without labels; both parts have rows of one length.

    :param cache: folder that keeps the encoder's vectors, by a digest of the texts.
    """
    texts = [clean(text).text for text in case.texts]
    topics = topics_of(texts)
    vectors = _vectors(texts, cache)
    features = np.hstack([topics, 5.0 * vectors, np.ones((len(topics), 1))])
    return Inputs(vectors, neighbour_vectors(texts, vectors), features)


def topics_of(texts: Sequence[str], *, components: int = 300) -> Floats:
    """TF-IDF of words and word pairs reduced to rows (N, 300) of length 5, learnt without labels.

    Rows of length 1 would need coefficients that the regularisation forbids.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit_transform(texts)
    reducer = TruncatedSVD(min(components, counts.shape[1] - 1), random_state=0)
    return np.asarray(5.0 * normalize(reducer.fit_transform(counts)))


def _vectors(texts: list[str], cache: Path | None) -> NDArray[np.float32]:
    if cache is None:
        return EmbeddingFeatures().transform(texts)
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:16]
    path = cache / f"{digest}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, EmbeddingFeatures().transform(texts))
    vectors: NDArray[np.float32] = np.load(path, allow_pickle=False)
    return vectors


def out_of_fold(
    case: Case, features: Floats, *, seed: int, folds: int = 5, calibrate: bool = True
) -> OutOfFold:
    """Train on all folds but one, score that one; in turn.

    :param calibrate: False: bare probabilities, and no margins.
    """
    count = int(case.groups.max()) + 1
    strata = np.zeros((count, case.given.shape[1] + 1), dtype=np.int64)
    np.add.at(strata, case.groups, np.column_stack([case.given, ~case.given.any(axis=1)]))
    sizes = np.bincount(case.groups, minlength=count)
    fold = assign_groups(sizes, strata, np.full(folds, 1 / folds), seed=seed)[case.groups]
    logits = np.zeros(case.given.shape)
    aum = np.zeros(case.given.shape)
    for number in range(folds):
        seen = fold != number
        weights = fit_logistic(features[seen], case.given[seen])
        logits[~seen] = features[~seen] @ weights
        if calibrate:
            aum[seen] += area_under_margin(features[seen], case.given[seen], seed=seed) / (folds - 1)
    if not calibrate:
        return OutOfFold(expit(logits), aum, fold)
    return OutOfFold(calibrated(logits, case.given, fold), aum, fold)


def calibrated(logits: Floats, labels: NDArray[np.bool_], folds: NDArray[np.int64]) -> Floats:
    """Probabilities (N, K), each fold calibrated on the others."""
    probabilities = np.zeros(logits.shape)
    for number in range(int(folds.max()) + 1):
        held = folds == number
        everything = LabelMatrix(labels[~held], np.ones_like(labels[~held]))
        calibration = fit_calibration(logits[~held], everything)
        probabilities[held] = calibration.apply(logits[held])
    return probabilities


def fit_logistic(features: Floats, labels: NDArray[np.bool_]) -> Floats:
    """Weights (D, K) of one regularised logistic regression a policy, all in one minimisation; the last feature is 1."""
    targets = labels.astype(float)
    shape = (features.shape[1], targets.shape[1])
    penalty = np.full((shape[0], 1), 1.0 / STRENGTH)
    penalty[-1] = 0.0

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        margins = features @ weights
        value = (
            np.logaddexp(0.0, margins).sum() - (margins * targets).sum() + 0.5 * (penalty * weights**2).sum()
        )
        return float(value), (features.T @ (expit(margins) - targets) + penalty * weights).ravel()

    fitted = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 60})
    return np.asarray(fitted.x.reshape(shape))


def area_under_margin(
    features: Floats, labels: NDArray[np.bool_], *, seed: int, epochs: int = 12, rate: float = 0.02
) -> Floats:
    """Signed margin (N, K) of the logit towards the given label, averaged over epochs of SGD (Pleiss et al. 2020)."""
    draw = np.random.default_rng(seed)
    weights = np.zeros((features.shape[1], labels.shape[1]))
    sign = np.where(labels, 1.0, -1.0)
    total = np.zeros(labels.shape)
    for _ in range(epochs):
        for batch in np.array_split(draw.permutation(len(features)), max(1, len(features) // 32)):
            slope = expit(features[batch] @ weights) - labels[batch]
            weights -= rate * features[batch].T @ slope
        total += sign * (features @ weights)
    return total / epochs
