"""Two certified thresholds per policy: one to block violations, one to send possible ones to a person.

A certificate states what is proven about a threshold, and on how many cells. `precision_threshold.py` finds the block
threshold of one policy, `pooled.py` that of the others together. The review threshold is a one-sided tolerance limit of the
positives' probabilities (Wilks 1941).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...core.decisions import Probabilities
from ...core.errors import RunError
from ...core.labels import LabelMatrix
from .cross_fitting import Folds
from .pooled import certify_pooled
from .precision_threshold import BlockCertificate, allowed_errors, certify_block, lower_bound, upper_bound

Floats = NDArray[np.float64]

# Without a single violation of any policy: review what is a violation one time in twenty.
NO_POSITIVES_REVIEW = 0.05

# Under a review budget a record goes to review by the limit of any violation. A policy with less than a quarter of that
# limit is no finding: on validation records the same ones go to review, a reviewer sees 1.5 findings a record in place of
# 2.7, and a hundredth of the violated policies is no longer named.
_SHARE_OF_LIMIT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What thresholds must reach.

    :param prevalence: of violating records, for which precision is certified; None is that of the calibration records.
    :param policy_floor: of the estimated precision of each policy in a pooled block certificate.
    :param review_budget: the share of ordinary records that may go to review; None limits by recall instead.
    """

    precision_target: float = 0.95
    recall_target: float = 0.95
    confidence: float = 0.95
    prevalence: float | None = None
    policy_floor: float = 0.8
    review_budget: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0.0 < value < 1.0:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1")


@dataclass(frozen=True, slots=True)
class ReviewCertificate:
    """What is proven about a review threshold: `found` of the policy's `positives` reach it.

    `recall_lower` is the one-sided Clopper-Pearson bound at `confidence`. The limit of any violation also says how many
    of the `ordinary` records reach it, with an upper bound; with a `budget` it is chosen, and certified, by that share.
    """

    threshold: float
    recall_target: float
    confidence: float
    positives: int
    found: int
    recall_lower: float
    certified: bool
    reason: str
    cross_fitted: bool = False
    budget: float | None = None
    ordinary: int = 0
    reviewed: int = 0
    reviewed_upper: float = 1.0


@dataclass(frozen=True, slots=True)
class PolicyThreshold:
    """A policy's thresholds: probabilities of at least `review` go to a person, of at least `block` are blocked."""

    policy: str
    review: float
    block: float | None
    block_certificate: BlockCertificate
    review_certificate: ReviewCertificate

    def to_json(self) -> dict[str, Any]:
        """Nested dicts of JSON values, exact: `from_json` gives back an equal object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PolicyThreshold":
        """Read what `to_json` wrote.

        :raises RunError: if fields are missing or unexpected.
        """
        try:
            certificates = {
                "block_certificate": BlockCertificate(**value["block_certificate"]),
                "review_certificate": ReviewCertificate(**value["review_certificate"]),
            }
            return cls(**{**value, **certificates})
        except (KeyError, TypeError) as error:
            raise RunError(f"the thresholds cannot be read ({error}); calibrate the run again") from error


@dataclass(frozen=True, slots=True)
class Thresholds:
    """All thresholds of a run; `pooled` is the certificate that policies share, None where each has its own."""

    policies: tuple[PolicyThreshold, ...]
    any_review: ReviewCertificate
    pooled: BlockCertificate | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of a run's thresholds.json."""
        return {
            "any_violation": asdict(self.any_review),
            "pooled": None if self.pooled is None else asdict(self.pooled),
            "policies": [each.to_json() for each in self.policies],
        }

    @classmethod
    def from_json(cls, value: Any) -> "Thresholds":
        """Read what `to_json` wrote.

        :raises RunError: if it is not that.
        """
        try:
            pooled = value["pooled"]
            return cls(
                tuple(PolicyThreshold.from_json(each) for each in value["policies"]),
                ReviewCertificate(**value["any_violation"]),
                None if pooled is None else BlockCertificate(**pooled),
            )
        except (KeyError, TypeError) as error:
            raise RunError(f"the thresholds cannot be read ({error}); calibrate the run again") from error


def fit_all_thresholds(
    probabilities: Probabilities,
    labels: LabelMatrix,
    policies: Sequence[str],
    *,
    clusters: Sequence[str],
    folds: Folds,
    targets: Targets,
) -> Thresholds:
    """The thresholds of every policy, a pooled one for those that have no block certificate of their own, and the limit
    of any violation.

    :param probabilities: stated for `targets.prevalence`; out of fold where there are several folds.
    :param clusters: N names, as in `fit_thresholds`.
    """
    cross_fitted = folds.count > 1
    any_review = fit_any_review(probabilities.any_violation, labels, targets=targets, clusters=clusters)
    least = 0.0 if targets.review_budget is None else any_review.threshold * _SHARE_OF_LIMIT
    own = fit_thresholds(
        probabilities.policies, labels, policies, targets=targets, clusters=clusters, least_review=least
    )
    own = tuple(_cross_fitted(each) for each in own) if cross_fitted else own
    any_review = replace(any_review, cross_fitted=cross_fitted)
    columns = np.array([each.block is None for each in own])
    rows = np.flatnonzero(_one_per_cluster(labels.labelled[:, None], clusters)[:, 0])
    chosen = labels[rows]
    if not columns.any():
        return Thresholds(own, any_review)
    pooled, blocks = certify_pooled(
        probabilities.policies[rows],
        chosen,
        folds[rows],
        columns=columns,
        prevalence=_prevalence(chosen, targets),
        policy_prevalence=_policy_prevalence(chosen, chosen.mask, targets),
        floor=targets.policy_floor,
        precision_target=targets.precision_target,
        confidence=targets.confidence,
    )
    shared = [
        _with_pooled(each, pooled, float(block)) if column and np.isfinite(block) else each
        for each, block, column in zip(own, blocks, columns, strict=True)
    ]
    return Thresholds(tuple(shared), any_review, pooled)


def _cross_fitted(threshold: PolicyThreshold) -> PolicyThreshold:
    return replace(
        threshold,
        block_certificate=replace(threshold.block_certificate, cross_fitted=True),
        review_certificate=replace(threshold.review_certificate, cross_fitted=True),
    )


def _with_pooled(own: PolicyThreshold, pooled: BlockCertificate, block: float) -> PolicyThreshold:
    """A policy that blocks by the pooled certificate."""
    reason = f"pooled with other policies: {pooled.reason}; alone: {own.block_certificate.reason}"
    review = own.review_certificate
    if own.review > block:
        # A lower review threshold finds no fewer violations: the certificate stays true.
        review = replace(review, threshold=block, reason=f"{review.reason}; as block")
    certificate = replace(pooled, threshold=block, reason=reason)
    return PolicyThreshold(own.policy, review.threshold, block, certificate, review)


def _prevalence(labels: LabelMatrix, targets: Targets) -> float:
    if targets.prevalence is not None:
        return targets.prevalence
    return float(labels.violating.sum() / max(labels.labelled.sum(), 1))


def _policy_prevalence(labels: LabelMatrix, mask: NDArray[np.bool_], targets: Targets) -> Floats:
    """Prevalence (K,) of each policy: that of violating records times the policy's share of the violations here."""
    violating = labels.violating[:, None] & mask
    shares = (labels.positive & mask).sum(axis=0) / np.maximum(violating.sum(axis=0), 1)
    if targets.prevalence is not None:
        return np.asarray(targets.prevalence * shares)
    return np.asarray(shares * violating.sum(axis=0) / np.maximum(mask.sum(axis=0), 1))


def fit_thresholds(
    probabilities: ArrayLike,
    labels: LabelMatrix,
    policies: Sequence[str],
    *,
    targets: Targets | None = None,
    clusters: Sequence[str] | None = None,
    least_review: float = 0.0,
) -> tuple[PolicyThreshold, ...]:
    """Choose and certify the thresholds of every policy on records that training never saw.

    The certificates are about one policy at a time and take records to be independent. The prevalence of a policy is that
    of violating records times its share of the violations here. Its false-alarm rate is that of all records that do not
    violate it; among them records that violate another policy are more frequent here than at a low prevalence, and
    they are more often mistaken, so the bound errs on the safe side.

    :param probabilities: (N, K).
    :param policies: the K ids.
    :param clusters: N names, where several records come from one source (a domain). For each policy the first labelled
        record of a cluster then stands for it, and the certificates are about such records.
    :param least_review: lower limit of the review thresholds.
    :raises ValueError: if shapes differ, or a labelled cell holds a probability outside [0, 1] or a label that is neither
        0 nor 1.
    """
    targets = targets or Targets()
    scores, truth, mask = _check_cells(probabilities, labels, policies)
    if clusters is not None:
        mask = _one_per_cluster(mask, clusters)
    pooled = scores[mask & truth]
    prevalence = _policy_prevalence(labels, mask, targets)
    precision, recall, confidence = targets.precision_target, targets.recall_target, targets.confidence
    result = []
    for column, policy in enumerate(policies):
        chosen = mask[:, column]
        values, positive = scores[chosen, column], truth[chosen, column]
        block = certify_block(
            values,
            positive,
            prevalence=min(float(prevalence[column]), 1.0 - 1e-9),
            precision_target=precision,
            confidence=confidence,
        )
        review = choose_review(values[positive], pooled, recall_target=recall, confidence=confidence)
        if review.threshold < least_review:
            reason = "raised to a quarter of the limit of any violation, which the review budget sets"
            review = _review(least_review, values[positive], review, certified=False, reason=reason)
        if block.threshold is not None and review.threshold > block.threshold:
            # A lower review threshold finds no fewer violations: the certificate stays true.
            review = _review(block.threshold, values[positive], review, reason=f"{review.reason}; as block")
        result.append(PolicyThreshold(policy, review.threshold, block.threshold, block, review))
    return tuple(result)


def fit_any_review(
    any_violation: ArrayLike,
    labels: LabelMatrix,
    *,
    targets: Targets | None = None,
    clusters: Sequence[str] | None = None,
) -> ReviewCertificate:
    """The limit on the probability of any violation: below it a record is clear, whatever its single probabilities.

    With K policies a compliant record has K chances to reach a review threshold. One limit on all of them together finds
    the target's share of the violating records at half the false alarms, and few records are needed to certify it.

    :param any_violation: (N,) probabilities. Other arguments as in `fit_thresholds`.
    """
    targets = targets or Targets()
    some = np.asarray(any_violation, dtype=np.float32)
    has_labels = labels.labelled
    if some.shape != has_labels.shape:
        raise ValueError(f"probabilities {some.shape} must hold one number per record, {has_labels.shape}")
    if clusters is not None:
        has_labels = _one_per_cluster(has_labels[:, None], clusters)[:, 0]
    positives, ordinary = some[has_labels & labels.violating], some[has_labels & labels.compliant]
    certificate = choose_review(
        positives, positives, recall_target=targets.recall_target, confidence=targets.confidence
    )
    if targets.review_budget is not None and len(ordinary):
        limit = _budget_limit(ordinary, targets.review_budget)
        certificate = _review(limit, positives, certificate, certified=False, reason="")
    reviewed = int((ordinary >= np.float32(certificate.threshold)).sum())
    upper = upper_bound(reviewed, len(ordinary), targets.confidence)
    certificate = replace(certificate, ordinary=len(ordinary), reviewed=reviewed, reviewed_upper=upper)
    if targets.review_budget is None or not len(ordinary):
        return certificate
    return replace(
        certificate,
        budget=targets.review_budget,
        certified=upper <= targets.review_budget,
        reason=f"{reviewed:,} of {len(ordinary):,} ordinary records reach it, at most {100 * upper:.2g} % of such records; "
        f"{certificate.found:,} of {certificate.positives:,} violating ones are found",
    )


def _budget_limit(ordinary: NDArray[np.float32], budget: float) -> float:
    """The (1 - budget) quantile of the ordinary records' probabilities: at most that share of them reaches it."""
    ranked = -np.sort(-ordinary)
    # Rounded before the floor: 100 * 0.07 is 7, not 7.0000000000000001.
    most = int(np.floor(np.round(budget * len(ranked), 9)))
    below, above = ranked[most], ranked[most - 1] if most else np.float32(1)
    middle = np.float32((float(below) + float(above)) / 2.0)
    return float(min(middle if middle > below else np.nextafter(below, np.float32(2)), np.float32(1)))


def _check_cells(
    probabilities: ArrayLike, labels: LabelMatrix, policies: Sequence[str] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    # The scorer compares float32 probabilities: thresholds chosen in another precision could separate ties.
    scores, truth, mask = np.asarray(probabilities, dtype=np.float32), labels.values, labels.mask
    if scores.shape != mask.shape:
        raise ValueError(f"probabilities {scores.shape} and labels {mask.shape} must both be (N, K)")
    policies = [str(column) for column in range(scores.shape[1])] if policies is None else policies
    if len(policies) != scores.shape[1]:
        raise ValueError(
            f"{len(policies)} policies are named, the probabilities have {scores.shape[1]} columns"
        )
    broken = np.argwhere(mask & ~((scores >= 0.0) & (scores <= 1.0)))
    if len(broken):
        row, column = broken[0]
        raise ValueError(
            f"record {row}, policy {policies[column]!r}: {scores[row, column]} is not a probability "
            f"({len(broken)} such cells)"
        )
    if not np.isin(truth[mask], (0, 1)).all():
        raise ValueError("the label of a labelled cell is neither 0 nor 1")
    return scores, truth == 1, mask


def _one_per_cluster(mask: NDArray[np.bool_], clusters: Sequence[str]) -> NDArray[np.bool_]:
    """Keep, per policy, the first labelled record of each cluster: a choice that no label influences."""
    if len(clusters) != len(mask):
        raise ValueError(f"{len(clusters)} clusters are named for {len(mask)} records")
    numbers = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)[1]
    kept = np.zeros_like(mask)
    for column in range(mask.shape[1]):
        rows = np.flatnonzero(mask[:, column])
        kept[rows[np.unique(numbers[rows], return_index=True)[1]], column] = True
    return kept


def choose_review(
    positives: NDArray[np.float32], pooled: NDArray[np.float32], *, recall_target: float, confidence: float
) -> ReviewCertificate:
    """The largest threshold whose recall is proven to reach the target, else one that all policies share.

    With too few violations to prove anything (under 59 at 0.95 and 0.95) the policy gets the split-conformal limit of
    all policies' violations (Vovk 2005): a new violation reaches it with at least the target's probability, on average
    over the policies. Calibrated probabilities allow policies to share a threshold. The policy's own lowest probability
    would be worse: in a simulation with 8 violations a policy (20 policies, 200 records) it finds 87 % of new
    violations, and for half of the policies less than 90 %. A tolerance limit of all policies' violations would prove
    nothing for one policy, and cause more false alarms.

    :param positives: probabilities of the policy's violations.
    :param pooled: probabilities of all policies' violations.
    """
    own = _tolerance_limit(positives, recall_target, confidence)
    empty = ReviewCertificate(NO_POSITIVES_REVIEW, recall_target, confidence, 0, 0, 0.0, False, "")
    if own is not None:
        return _review(own, positives, empty, certified=True)
    needed = int(np.ceil(np.log1p(-confidence) / np.log(recall_target)))
    few = f"{len(positives)} positives, at least {needed} are needed: "
    if len(pooled):
        # Rounded before the floor: 20 * (1 - 0.95) is 1, not 0.9999.
        rank = int(np.floor(np.round((len(pooled) + 1) * (1.0 - recall_target), 9)))
        shared = float(np.sort(pooled)[max(rank - 1, 0)])
        reason = f"{few}conformal limit of all policies' {len(pooled)} positives"
        return _review(shared, positives, empty, reason=reason)
    return _review(NO_POSITIVES_REVIEW, positives, empty, reason=f"{few}no policy has any; the default")


def _tolerance_limit(positives: NDArray[np.float32], target: float, confidence: float) -> float | None:
    """The largest of the probabilities that a share `target` of all violations reaches, at `confidence`."""
    missed = int(allowed_errors(len(positives), target, confidence)[-1])
    return None if missed < 0 else float(np.sort(positives)[missed])


def _review(
    threshold: float,
    positives: NDArray[np.float32],
    base: ReviewCertificate,
    *,
    certified: bool | None = None,
    reason: str | None = None,
) -> ReviewCertificate:
    found = int((positives >= np.float32(threshold)).sum())
    return ReviewCertificate(
        threshold=threshold,
        recall_target=base.recall_target,
        confidence=base.confidence,
        positives=len(positives),
        found=found,
        recall_lower=lower_bound(found, len(positives), base.confidence),
        certified=base.certified if certified is None else certified,
        reason=f"{found} of {len(positives)} positives found" if reason is None else reason,
    )
