"""The block threshold: the lowest whose precision is proven, at a stated prevalence.

Precision = pi R / (pi R + (1 - pi) F), with pi the prevalence, R the share of the violations that is blocked and F that
of the ordinary records. Records that violate and ordinary ones are two samples, so their shares are bounded apart, by exact
bounds (Clopper and Pearson 1934), and the precision holds for any share of violations among the calibration records.
Candidates are tested in a fixed sequence (Bauer 1991; Angelopoulos et al. 2021, "Learn then Test").
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betaincinv, gammaincinv, pdtr, pdtrik
from scipy.stats import beta, binom

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Of the error that the confidence leaves, the share for R; ordinary records are the scarcer ones by far.
RECALL_ERROR = 0.1


@dataclass(frozen=True, slots=True)
class BlockCertificate:
    """What is proven about a block threshold: `found` of the `violating` records and `false_alarms` of the `ordinary`.

    `scope` "policy": about one policy, whose violations are the violating records and all others the ordinary ones.
    `scope` "pooled": about the blocks of several policies together, right where the record violates any policy; it is
    not proven of each. `wrong_policy` of the found are then blocked for policies that they do not violate.

    `precision_lower` bounds the precision at `prevalence`, one-sided with `confidence`, for these numbers; only if
    `certified` does it account for the search. `reason` explains the outcome in words.
    """

    threshold: float | None
    precision_target: float
    confidence: float
    prevalence: float
    violating: int
    found: int
    ordinary: int
    false_alarms: int
    precision_lower: float
    certified: bool
    reason: str
    scope: Literal["policy", "pooled"] = "policy"
    cross_fitted: bool = False
    wrong_policy: int = 0


def lower_bound(successes: int, trials: int, confidence: float) -> float:
    """One-sided Clopper-Pearson lower bound of a share; 0 without trials."""
    if successes == 0:
        return 0.0
    return float(beta.ppf(1.0 - confidence, successes, trials - successes + 1))


def upper_bound(successes: int, trials: int, confidence: float) -> float:
    """One-sided Clopper-Pearson upper bound of a share; 1 without trials."""
    return 1.0 - lower_bound(trials - successes, trials, confidence)


@lru_cache(maxsize=32)
def allowed_errors(trials: int, target: float, confidence: float) -> Ints:
    """For 0 to `trials` flagged cells: the most errors that still certify `target`; -1 where none do."""
    flagged = np.arange(trials + 1)
    errors = binom.ppf(1.0 - confidence, flagged, 1.0 - target)
    # ppf is the smallest count that reaches the level; a test must not exceed it.
    errors -= bdtr(errors, flagged, 1.0 - target) > 1.0 - confidence
    errors[0] = -1
    table: Ints = np.maximum(errors, -1).astype(np.int64)
    table.setflags(write=False)
    return table


@dataclass(frozen=True, slots=True)
class PrecisionTest:
    """A test whether the precision at a threshold reaches a target, by counts of two samples."""

    violating: int
    ordinary: int
    prevalence: float
    target: float
    confidence: float

    @property
    def _level(self) -> float:
        return (1.0 - RECALL_ERROR) * (1.0 - self.confidence)

    def allowed_share(self, found: Any) -> Floats:
        """The share of ordinary records that may be blocked where `found` violations are, by the lower bound of R."""
        hits = np.clip(np.asarray(found, dtype=np.float64), 0.0, self.violating)
        error = RECALL_ERROR * (1.0 - self.confidence)
        recall = np.where(
            hits > 0, betaincinv(np.maximum(hits, 1e-9), self.violating - hits + 1.0, error), 0.0
        )
        odds = self.prevalence / (1.0 - self.prevalence) * (1.0 - self.target) / self.target
        return np.asarray(np.minimum(recall * odds, 1.0))

    def passes(self, found: Any, false_alarms: Any) -> NDArray[np.bool_]:
        """Whether these counts prove the target."""
        allowed = self.allowed_share(found)
        few = bdtr(np.asarray(false_alarms, dtype=np.float64), self.ordinary, allowed) <= self._level
        return np.asarray((few | (allowed >= 1.0)) & (allowed > 0.0))

    def power(self, found: Floats, false_alarms: Floats) -> Floats:
        """Probability that the test passes where so many violations and false alarms are expected (Poisson)."""
        mean = np.maximum(self.ordinary * self.allowed_share(found), 1e-12)
        possible = np.exp(-mean) <= self._level
        most = np.floor(pdtrik(self._level, np.where(possible, mean, 50.0)))
        return np.where(possible, pdtr(np.maximum(most, 0.0), np.maximum(false_alarms, 1e-12)), 0.0)

    def needed(self, found: Any, false_alarms: Any) -> Floats:
        """How many ordinary records would pass with so many false alarms (Poisson, a little too many)."""
        allowed = self.allowed_share(found)
        mean = gammaincinv(np.asarray(false_alarms, dtype=np.float64) + 1.0, 1.0 - self._level)
        return np.asarray(np.divide(mean, allowed, out=np.full(np.shape(mean), np.inf), where=allowed > 0))

    def precision_lower(self, found: int, false_alarms: int) -> float:
        """Lower bound of the precision."""
        recall = lower_bound(found, self.violating, 1.0 - RECALL_ERROR * (1.0 - self.confidence))
        alarms = upper_bound(false_alarms, self.ordinary, 1.0 - self._level)
        hits = self.prevalence * recall
        return hits / (hits + (1.0 - self.prevalence) * alarms) if hits else 0.0


def certify_block(
    scores: NDArray[np.float32],
    positive: NDArray[np.bool_],
    *,
    prevalence: float,
    precision_target: float,
    confidence: float,
) -> BlockCertificate:
    """The lowest threshold whose precision is proven to reach the target; `scores`, `positive` are (N,).

    Every distinct score is a candidate, from high to low. The search starts where the test would most likely pass if the
    probabilities are right, whatever the labels are (a search from the top may stop at an early error). From there every
    candidate is tested at the full level until one fails. A certificate is wrong only if the first candidate below the
    target passes its test, whose probability is 1 - confidence at most, provided that precision falls with the threshold.

    :param prevalence: the share of positives that the precision is stated for; that of `positive` does not matter.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    ends = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True)) if len(ranked) else np.zeros(0, np.int64)
    ends = ends[ranked[ends] > 0]
    test = PrecisionTest(
        int(positive.sum()), int((~positive).sum()), prevalence, precision_target, confidence
    )
    if not len(ends) or not test.violating or prevalence <= 0:
        kind = "no violation" if not test.violating else "no record that could be blocked"
        return _certificate(test, 0, 0, None, f"{kind} among the calibration records")
    found, alarms = hits[ends], ends + 1 - hits[ends]
    start = _start(ranked, ends, test)
    passed = test.passes(found[start:], alarms[start:])
    steps = len(passed) if passed.all() else int(np.argmin(passed))
    last = start + steps - 1 if steps else start
    right, wrong = int(found[last]), int(alarms[last])
    if steps:
        reason = (
            f"{right:,} of {test.violating:,} found, {wrong:,} of {test.ordinary:,} ordinary records blocked"
        )
        return _certificate(test, right, wrong, _between(ranked, int(ends[last]) + 1), reason)
    return _certificate(test, right, wrong, None, _missing(test, right, wrong))


def _start(ranked: NDArray[np.float32], ends: Ints, test: PrecisionTest) -> int:
    """The first candidate to test, chosen by the scores alone."""
    p = np.clip(ranked.astype(np.float64), 1e-12, 1.0 - 1e-7)
    # What the probabilities say of these records, of which not the stated share is positive.
    weight = max(test.ordinary, 1) * test.prevalence / (test.violating * (1.0 - test.prevalence))
    expected = p / (p + weight * (1.0 - p))
    found, alarms = np.cumsum(expected)[ends], np.cumsum(1.0 - expected)[ends]
    power = test.power(found, alarms)
    if power.max() < 0.01:
        return int(np.argmin(test.needed(found, alarms)))
    # The earliest of the nearly best, so that slightly overconfident probabilities do no harm.
    return int(np.argmax(power >= 0.99 * power.max()))


def _certificate(
    test: PrecisionTest, found: int, false_alarms: int, threshold: float | None, reason: str
) -> BlockCertificate:
    return BlockCertificate(
        threshold=threshold,
        precision_target=test.target,
        confidence=test.confidence,
        prevalence=test.prevalence,
        violating=test.violating,
        found=found,
        ordinary=test.ordinary,
        false_alarms=false_alarms,
        precision_lower=test.precision_lower(found, false_alarms),
        certified=threshold is not None,
        reason=reason,
    )


def _missing(test: PrecisionTest, found: int, false_alarms: int) -> str:
    """What a certificate would need."""
    counts = f"{found:,} of {test.violating:,} found, {false_alarms:,} of {test.ordinary:,} ordinary records blocked"
    more = float(test.needed(found, false_alarms)) - test.ordinary
    if not np.isfinite(more):
        return f"{counts}: too few violations are found"
    step = 10 ** max(len(f"{max(more, 1):.0f}") - 2, 0)
    rounded = int(np.ceil(max(more, 1) / step) * step)
    return f"{counts}: {rounded:,} ordinary calibration records more without a false alarm are needed"


def _between(ranked: NDArray[np.float32], count: int) -> float:
    """A float32 threshold that the first `count` of the descending scores reach and the next one does not.

    Half-way to the next score, so that the rounding of another runtime does not move a record across.
    """
    lowest = ranked[count - 1]
    if count == len(ranked):
        return float(lowest)
    middle = np.float32((float(lowest) + float(ranked[count])) / 2.0)
    return float(middle if middle > ranked[count] else lowest)
