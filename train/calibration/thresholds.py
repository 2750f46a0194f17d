"""Two certified thresholds per policy: one to block violations, one to send possible ones to a person.

A certificate states what is proven about a threshold, and on how many cells. `precision_threshold.py` finds the block
threshold. The review threshold is a one-sided tolerance limit of the positives' probabilities (Wilks 1941).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...core.decisions import any_violation
from ...core.errors import RunError
from ...core.labels import LabelMatrix
from .precision_threshold import BlockCertificate, allowed_errors, certify_block, lower_bound

Floats = NDArray[np.float64]

# Without a single violation of any policy: review what is a violation one time in twenty.
NO_POSITIVES_REVIEW = 0.05


@dataclass(frozen=True, slots=True)
class ReviewCertificate:
    """What is proven about a review threshold: `found` of the policy's `positives` reach it.

    `recall_lower` is the one-sided Clopper-Pearson bound at `confidence`.
    """

    threshold: float
    recall_target: float
    confidence: float
    positives: int
    found: int
    recall_lower: float
    certified: bool
    reason: str


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


def thresholds_to_json(
    thresholds: Sequence[PolicyThreshold], any_review: ReviewCertificate
) -> dict[str, Any]:
    """The content of a run's thresholds.json."""
    return {"any_violation": asdict(any_review), "policies": [each.to_json() for each in thresholds]}


def thresholds_from_json(value: Any) -> tuple[tuple[PolicyThreshold, ...], ReviewCertificate]:
    """Read what `thresholds_to_json` returned.

    :raises RunError: if it is not that.
    """
    try:
        any_review = ReviewCertificate(**value["any_violation"])
        return tuple(PolicyThreshold.from_json(each) for each in value["policies"]), any_review
    except (KeyError, TypeError) as error:
        raise RunError(f"the thresholds cannot be read ({error}); calibrate the run again") from error


def fit_thresholds(
    probabilities: ArrayLike,
    labels: LabelMatrix,
    policies: Sequence[str],
    *,
    precision_target: float = 0.95,
    recall_target: float = 0.95,
    confidence: float = 0.95,
    clusters: Sequence[str] | None = None,
) -> tuple[PolicyThreshold, ...]:
    """Choose and certify the thresholds of every policy on records that training never saw.

    The certificates are about one policy at a time and take records to be independent.

    :param probabilities: (N, K).
    :param policies: the K ids.
    :param clusters: N names, where several records come from one source (a domain). For each policy the first labelled
        record of a cluster then stands for it, and the certificates are about such records.
    :raises ValueError: if shapes differ, a target is not inside (0, 1), or a labelled cell holds a probability outside
        [0, 1] or a label that is neither 0 nor 1.
    """
    for name, value in (
        ("precision_target", precision_target),
        ("recall_target", recall_target),
        ("confidence", confidence),
    ):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} is {value}; it must lie between 0 and 1")
    scores, truth, mask = _check_cells(probabilities, labels, policies)
    if clusters is not None:
        mask = _one_per_cluster(mask, clusters)
    pooled = scores[mask & truth]
    result = []
    for column, policy in enumerate(policies):
        chosen = mask[:, column]
        values, positive = scores[chosen, column], truth[chosen, column]
        block = certify_block(values, positive, precision_target=precision_target, confidence=confidence)
        review = choose_review(values[positive], pooled, recall_target=recall_target, confidence=confidence)
        if block.threshold is not None and review.threshold > block.threshold:
            # A lower review threshold finds no fewer violations: the certificate stays true.
            review = _review(block.threshold, values[positive], review, reason=f"{review.reason}; as block")
        result.append(PolicyThreshold(policy, review.threshold, block.threshold, block, review))
    return tuple(result)


def fit_any_review(
    probabilities: ArrayLike,
    labels: LabelMatrix,
    *,
    recall_target: float = 0.95,
    confidence: float = 0.95,
    clusters: Sequence[str] | None = None,
) -> ReviewCertificate:
    """The limit on the probability of any violation: below it a record is clear, whatever its single probabilities.

    With K policies a compliant record has K chances to reach a review threshold. One limit on all of them together finds
    the target's share of the violating records at half the false alarms, and few records are needed to certify it.
    Arguments as in `fit_thresholds`.
    """
    scores, _, _ = _check_cells(probabilities, labels)
    some = any_violation(scores).astype(np.float32)
    has_labels = labels.labelled[:, None]
    if clusters is not None:
        has_labels = _one_per_cluster(has_labels, clusters)
    positives = some[has_labels[:, 0] & labels.violating]
    return choose_review(positives, positives, recall_target=recall_target, confidence=confidence)


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
