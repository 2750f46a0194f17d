"""The block threshold: the lowest whose precision is proven.

Exact binomial tests in a fixed sequence prove it (Bauer 1991; Angelopoulos et al. 2021, "Learn then Test").
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr
from scipy.stats import beta, binom

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BlockCertificate:
    """What is proven about a block threshold: `correct` of `flagged` cells were violations.

    `precision_lower` is the one-sided Clopper-Pearson bound at `confidence` for these two numbers; only if `certified`
    does it account for the search. `reason` explains the outcome in words.
    """

    threshold: float | None
    precision_target: float
    confidence: float
    flagged: int
    correct: int
    precision_lower: float
    certified: bool
    reason: str


def lower_bound(successes: int, trials: int, confidence: float) -> float:
    """One-sided Clopper-Pearson lower bound of a share; 0 without trials."""
    if successes == 0:
        return 0.0
    return float(beta.ppf(1.0 - confidence, successes, trials - successes + 1))


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


def certify_block(
    scores: NDArray[np.float32], positive: NDArray[np.bool_], *, precision_target: float, confidence: float
) -> BlockCertificate:
    """The lowest threshold whose precision is proven to reach the target; `scores`, `positive` are (N,).

    Every distinct score is a candidate, from high to low. The search starts where the test would most likely pass if the
    probabilities are right, whatever the labels are (a search from the top may stop at an early error, which costs up to
    a tenth of the recall). From there every candidate is tested at the full level until one fails. A certificate is
    wrong only if the first candidate below the target passes its test, whose probability is 1 - confidence at most,
    provided that precision falls with the threshold.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, correct = scores[order], np.cumsum(positive[order])
    ends = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True)) if len(ranked) else np.zeros(0, np.int64)
    flagged = ends + 1
    allowed = allowed_errors(len(scores), precision_target, confidence)[flagged]
    usable = allowed >= 0
    ends, flagged, allowed = ends[usable], flagged[usable], allowed[usable]
    if not len(ends):
        return _too_few(positive, precision_target, confidence)
    expected = np.cumsum(ranked, dtype=np.float64)[ends] / flagged
    power = bdtr(allowed, flagged, 1.0 - np.clip(expected, 0.0, 1.0))
    # The earliest of the nearly best, so that slightly overconfident probabilities do no harm.
    start = int(np.argmax(power >= 0.99 * power.max()))
    passed = flagged[start:] - correct[ends[start:]] <= allowed[start:]
    steps = len(passed) if passed.all() else int(np.argmin(passed))
    last = start + steps - 1 if steps else start
    number, right = int(flagged[last]), int(correct[ends[last]])
    return BlockCertificate(
        threshold=_between(ranked, number) if steps else None,
        precision_target=precision_target,
        confidence=confidence,
        flagged=number,
        correct=right,
        precision_lower=lower_bound(right, number, confidence),
        certified=steps > 0,
        reason=f"{number} flagged, {right} right"
        + ("" if steps else f": {number - allowed[start]} right are needed"),
    )


def _too_few(positive: NDArray[np.bool_], target: float, confidence: float) -> BlockCertificate:
    """The certificate of a policy that flags too few cells for any test to pass."""
    flagged, right = len(positive), int(positive.sum())
    needed = int(np.ceil(np.log1p(-confidence) / np.log(target)))
    rightly = "all right" if right == flagged else f"{right} right"
    return BlockCertificate(
        threshold=None,
        precision_target=target,
        confidence=confidence,
        flagged=flagged,
        correct=right,
        precision_lower=lower_bound(right, flagged, confidence),
        certified=False,
        reason=f"{flagged} flagged, {rightly}: at least {needed} without error are needed",
    )


def _between(ranked: NDArray[np.float32], count: int) -> float:
    """A float32 threshold that the first `count` of the descending scores reach and the next one does not.

    Half-way to the next score, so that the rounding of another runtime does not move a record across.
    """
    lowest = ranked[count - 1]
    if count == len(ranked):
        return float(lowest)
    middle = np.float32((float(lowest) + float(ranked[count])) / 2.0)
    return float(middle if middle > ranked[count] else lowest)
