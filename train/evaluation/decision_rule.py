"""A model's decisions on labelled records: what evaluation, comparison and report start from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.labels import LabelMatrix
from ...data.taxonomy import Taxonomy
from ..calibration.platt_scaling import Calibration
from ..calibration.thresholds import PolicyThreshold, ReviewCertificate
from . import metrics
from .predictions import Predictions

DECISIONS = ("clear", "review", "block")

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class DecisionRule:
    """How a model's logits become decisions.

    :param thresholds: one per policy, in any order.
    :param any_review: of the probability of any violation below which a record is clear; None without such a limit.
    """

    calibration: Calibration
    thresholds: Sequence[PolicyThreshold]
    any_review: ReviewCertificate | None = None

    def threshold_arrays(self, taxonomy: Taxonomy) -> tuple[Floats, Floats]:
        """Review and block thresholds (K,) in the taxonomy's order; NaN where there is no block threshold.

        :raises ValueError: if thresholds and taxonomy do not name the same policies.
        """
        by_policy = {threshold.policy: threshold for threshold in self.thresholds}
        if set(by_policy) != set(taxonomy.ids) or len(by_policy) != len(self.thresholds):
            odd = sorted(set(by_policy) ^ set(taxonomy.ids)) or ["one given twice"]
            raise ValueError(f"thresholds and taxonomy do not name the same policies: {', '.join(odd)}")
        ordered = [by_policy[policy] for policy in taxonomy.ids]
        block = [np.nan if threshold.block is None else threshold.block for threshold in ordered]
        return np.array([threshold.review for threshold in ordered]), np.array(block, dtype=np.float64)

    def decide(self, predictions: Predictions, taxonomy: Taxonomy) -> "DecidedRecords":
        """The decisions on `predictions`.

        :raises ValueError: if the policies of the three do not fit each other.
        """
        review, block = self.threshold_arrays(taxonomy)
        if predictions.policies != len(taxonomy):
            raise ValueError(
                f"predictions have {predictions.policies} policies, the taxonomy {len(taxonomy)}"
            )
        probabilities = self.calibration.apply(predictions.logits)
        any_review = self.any_review.threshold if self.any_review else 0.0
        limits = metrics.review_limits(probabilities, review, any_review)
        return DecidedRecords(predictions, probabilities, review, block, limits)


@dataclass(frozen=True, slots=True, eq=False)
class DecidedRecords:
    """N records with probabilities (N, K) float32 and what makes decisions of them.

    `review` and `block` are the policies' thresholds (K,), NaN where there is no block threshold; `limits` (N, K) are
    the review thresholds of the cells, infinite in a record that is clear as a whole.
    """

    predictions: Predictions
    probabilities: NDArray[np.float32]
    review: Floats
    block: Floats
    limits: Floats

    @property
    def labels(self) -> LabelMatrix:
        """The labels of the records."""
        return self.predictions.labels

    @property
    def over_review(self) -> Bools:
        """(N, K) labelled cells at or over the review threshold."""
        return metrics.flag_cells(self.probabilities, self.labels, self.limits)

    @property
    def over_block(self) -> Bools:
        """(N, K) labelled cells at or over the block threshold."""
        return metrics.flag_cells(self.probabilities, self.labels, self.block)

    @property
    def decisions(self) -> NDArray[np.int64]:
        """(N,) each record's decision, as an index of DECISIONS."""
        reviewed = np.where(self.over_review.any(axis=1), 1, 0)
        return np.where(self.over_block.any(axis=1), 2, reviewed)
