"""A block certificate over several policies, for those that cannot have one of their own.

What is proven: of the records that these policies block together, the target's share violates some policy. A policy takes
part from its floor upwards: the lowest probability from which its own estimated precision is high enough. Floors are chosen
by labels, so a record is scored with those of the other folds, and its own label has no part in its score.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...core.labels import LabelMatrix
from .cross_fitting import Folds
from .precision_threshold import BlockCertificate, certify_block

# A policy with fewer violations among the calibration records has no estimate of its own.
FEWEST_POSITIVES = 3

Scores = NDArray[np.float32]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def policy_floors(scores: Scores, labels: LabelMatrix, *, prevalence: Floats, precision: float) -> Scores:
    """The lowest probability (K,) from which each policy's estimated precision is at least `precision`; else infinite.

    :param scores: (N, K).
    :param prevalence: of each policy, (K,): the estimate weighs violations and other records to it.
    """
    columns = [
        _floor(
            scores[labels.mask[:, k], k],
            labels.positive[labels.mask[:, k], k],
            float(prevalence[k]),
            precision,
        )
        for k in range(labels.policies)
    ]
    return np.array(columns, dtype=np.float32)


def _floor(scores: Scores, positive: Bools, prevalence: float, precision: float) -> float:
    positives = int(positive.sum())
    if positives < FEWEST_POSITIVES:
        return np.inf
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    alarms = np.arange(1, len(ranked) + 1) - hits
    right = prevalence * hits / positives
    wrong = (1.0 - prevalence) * alarms / max(len(ranked) - positives, 1)
    ends = np.append(ranked[1:] < ranked[:-1], True)
    good = np.flatnonzero(ends & (right >= precision * (right + wrong)) & (hits > 0))
    return float(ranked[good[-1]]) if len(good) else np.inf


def certify_pooled(
    scores: Scores,
    labels: LabelMatrix,
    folds: Folds,
    *,
    columns: Bools,
    prevalence: float,
    policy_prevalence: Floats,
    floor: float,
    precision_target: float,
    confidence: float,
) -> tuple[BlockCertificate, Scores]:
    """The certificate of the policies in `columns` (K,), and the block threshold of each, (K,), infinite where it has none.

    :param scores: (N, K) of records that are independent of each other.
    :param prevalence: of violating records; `policy_prevalence` (K,) of each policy.
    :param floor: the precision that each policy's own estimate must reach.
    """
    usable = LabelMatrix(labels.values, labels.mask & columns)

    def floors(rows: Bools) -> Scores:
        return policy_floors(scores[rows], usable[rows], prevalence=policy_prevalence, precision=floor)

    over = np.zeros(scores.shape, dtype=bool)
    for fold in range(folds.count):
        held = folds.numbers == fold
        # Without folds to tell apart, all records have the floors that they chose.
        over[held] = scores[held] >= floors(~held if folds.count > 1 else held)
    over &= usable.mask
    best = np.where(over, scores, np.float32(0)).max(axis=1, initial=np.float32(0))
    rows = labels.labelled
    certificate = certify_block(
        best[rows],
        labels.violating[rows],
        prevalence=prevalence,
        precision_target=precision_target,
        confidence=confidence,
    )
    certificate = replace(certificate, scope="pooled", cross_fitted=folds.count > 1)
    if certificate.threshold is None:
        return certificate, np.full(scores.shape[1], np.inf, dtype=np.float32)
    limit = np.float32(certificate.threshold)
    blocked = over & (scores >= limit)
    wrong = labels.violating & blocked.any(axis=1) & ~(blocked & labels.positive).any(axis=1)
    return replace(certificate, wrong_policy=int(wrong.sum())), np.maximum(floors(rows), limit)
