"""What the number of labelled records allows: training, calibration, certificates; and what is missing.

The best case is computed: a model that makes no mistake on the calibration records. Then the violating records show a
recall of at least e^(1/n) with error e, and the ordinary ones a false-alarm rate of at most 1 - e^(1/n) (Clopper and
Pearson 1934, without a mistake); precision at the stated prevalence follows, as `train.calibration` certifies it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

FRACTIONS = {"train": 0.74, "validation": 0.06, "calibration": 0.1, "test": 0.1}
"""The shares of the splits that `merchantguard train` makes by default."""
RARE = 20
"""Records of a policy below which a model learns its examples rather than the policy; measured figures are in docs/results."""
_RECALL_ERROR = 0.1  # as in train.calibration.precision_threshold


@dataclass(frozen=True, slots=True)
class Goals:
    """What certificates are to promise."""

    precision: float = 0.95
    recall: float = 0.95
    confidence: float = 0.95
    prevalence: float = 0.02


@dataclass(frozen=True, slots=True)
class PolicyAllowance:
    """One policy: its records, the groups of one domain or text that they make, how many each split gets at best, and
    whether certificates of its own are possible.

    :param needed_for_block: ordinary records in all that a block certificate of its own needs in the best case; 0 if no
        violating record is left for calibration.
    """

    policy: str
    records: int
    groups: int
    splits: Mapping[str, int]
    review_certificate: bool
    block_certificate: bool
    needed_for_block: int
    warning: str


def positives_for_recall(goals: Goals) -> int:
    """Violating calibration records from which on a recall can be certified: target^n must not exceed 1 - confidence."""
    return math.ceil(math.log(1.0 - goals.confidence) / math.log(goals.recall))


def best_precision(violating: int, ordinary: int, prevalence: float, goals: Goals) -> float:
    """The highest precision that can be certified, by calibration records that are all decided rightly."""
    if not violating or not ordinary:
        return 0.0
    error = 1.0 - goals.confidence
    recall = (_RECALL_ERROR * error) ** (1.0 / violating)
    alarms = 1.0 - ((1.0 - _RECALL_ERROR) * error) ** (1.0 / ordinary)
    blocked = prevalence * recall
    return blocked / (blocked + (1.0 - prevalence) * alarms)


def ordinary_for_precision(violating: int, prevalence: float, goals: Goals) -> int:
    """Ordinary calibration records that a block certificate needs in the best case; 0 violating ones allow none."""
    if not violating:
        return 0
    error = 1.0 - goals.confidence
    recall = (_RECALL_ERROR * error) ** (1.0 / violating)
    alarms = prevalence * recall * (1.0 - goals.precision) / (goals.precision * (1.0 - prevalence))
    return math.ceil(math.log((1.0 - _RECALL_ERROR) * error) / math.log1p(-min(alarms, 0.999)))


def expected_splits(records: int, groups: int) -> dict[str, int]:
    """Records of a policy in each split: its share, but at least one where there is a group for it, training first."""
    counts = {split: round(records * fraction) for split, fraction in FRACTIONS.items()}
    order = ("train", "calibration", "test", "validation")
    for place, split in enumerate(order):
        if groups <= place:
            counts[split] = 0
        elif not counts[split]:
            counts[split] = 1
    counts["train"] = max(0, records - sum(counts[split] for split in order[1:]))
    return counts


def allow_policy(
    policy: str, *, records: int, groups: int, violating: int, ordinary: int, goals: Goals
) -> PolicyAllowance:
    """What one policy's records allow.

    :param violating: records of all policies together.
    :param ordinary: labelled records that violate no policy.
    """
    splits = expected_splits(records, groups)
    prevalence = goals.prevalence * records / violating if violating else 0.0
    others = round(FRACTIONS["calibration"] * (ordinary + violating - records))
    positives = splits["calibration"]
    enough = bool(positives) and best_precision(positives, others, prevalence, goals) >= goals.precision
    needed = ordinary_for_precision(positives, prevalence, goals)
    return PolicyAllowance(
        policy,
        records,
        groups,
        splits,
        review_certificate=positives >= positives_for_recall(goals),
        block_certificate=enough,
        needed_for_block=math.ceil(needed / FRACTIONS["calibration"]),
        warning=_warning(records, groups),
    )


def _warning(records: int, groups: int) -> str:
    if not records:
        return "no record"
    if groups < len(FRACTIONS):
        return f"rare: {groups} group{'s' * (groups > 1)}, not one for each split"
    if records < RARE:
        return f"rare: fewer than {RARE} records"
    return ""
