"""A model's decisions on labelled records: what evaluation, comparison and report start from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.decisions import Calibration, Decision, Prevalence
from ...core.labels import LabelMatrix
from ...data.taxonomy import Taxonomy
from ..calibration.cross_fitting import Folds, cross_fit
from ..calibration.platt_scaling import fit_calibration
from ..calibration.precision_threshold import BlockCertificate
from ..calibration.thresholds import PolicyThreshold, ReviewCertificate, Targets, fit_all_thresholds
from . import metrics
from .predictions import Predictions

DECISIONS: tuple[Decision, ...] = ("clear", "review", "block")

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class DecisionRule:
    """How a model's logits become decisions.

    :param thresholds: one per policy, in any order.
    :param any_review: of the probability of any violation below which a record is clear; None without such a limit.
    :param pooled: what is proven of the policies that share a block certificate; None where none does.
    """

    calibration: Calibration
    thresholds: Sequence[PolicyThreshold]
    any_review: ReviewCertificate | None = None
    pooled: BlockCertificate | None = None

    @classmethod
    def fit(cls, predictions: Predictions, targets: Targets, policies: Sequence[str]) -> "DecisionRule":
        """A calibration of records that training never saw, and certified thresholds, cross-fitted by domain."""
        logits, labels, windows = predictions.logits, predictions.labels, predictions.windows
        folds = Folds.by_cluster(predictions.domains)
        thresholds = fit_all_thresholds(
            cross_fit(logits, labels, windows, folds, prevalence=targets.prevalence),
            labels,
            policies,
            clusters=predictions.domains,
            folds=folds,
            targets=targets,
        )
        calibration = fit_calibration(logits, labels, windows, prevalence=targets.prevalence)
        return cls(calibration, thresholds.policies, thresholds.any_review, thresholds.pooled)

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
        found = self.calibration.probabilities(predictions.logits, predictions.windows)
        any_review = self.any_review.threshold if self.any_review else 0.0
        limits = metrics.review_limits(found.any_violation, review, any_review)
        # What an unlabelled policy says of a record cannot be held against the model.
        labelled = np.where(predictions.labels.mask, predictions.logits, -np.inf)
        some = self.calibration.probabilities(labelled, predictions.windows).any_violation
        return DecidedRecords(
            predictions,
            found.policies,
            some,
            review,
            block,
            limits,
            self.calibration.prevalence,
        )


@dataclass(frozen=True, slots=True, eq=False)
class DecidedRecords:
    """N records with probabilities (N, K), (N,) of any violation, both float32, and what makes decisions of them.

    `any_violation` is of the labelled policies; the limit of a record is compared with that of all of them.
    `review` and `block` are the policies' thresholds (K,), NaN where there is no block threshold; `limits` (N, K) are
    the review thresholds of the cells, infinite in a record that is clear as a whole. `prevalence` is what the
    probabilities are stated for, None where that is the share of violating records that they were calibrated on.
    """

    predictions: Predictions
    probabilities: NDArray[np.float32]
    any_violation: NDArray[np.float32]
    review: Floats
    block: Floats
    limits: Floats
    prevalence: Prevalence | None = None

    @property
    def labels(self) -> LabelMatrix:
        """The labels of the records."""
        return self.predictions.labels

    @property
    def mix(self) -> Floats:
        """(N,) weights under which the share of violating records is the stated prevalence; ones without one.

        pi / r for a violating record and (1 - pi) / (1 - r) for a compliant one, r the share of violating ones here.
        """
        labels, weights = self.labels, np.ones(len(self.predictions))
        violating, compliant = labels.violating, labels.compliant
        if self.prevalence is None or not violating.any() or not compliant.any():
            return weights
        share = violating.sum() / (violating.sum() + compliant.sum())
        weights[violating] = self.prevalence.stated / share
        weights[compliant] = (1.0 - self.prevalence.stated) / (1.0 - share)
        return weights

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
