"""From window logits to probabilities and decisions: shared, so that scoring decides exactly as training measured."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Decision = Literal["clear", "review", "block"]

_ORDER: tuple[Decision, ...] = ("clear", "review", "block")


def pool(logits: Floats, scores: Floats | None) -> Floats:
    """Pool the logits of one text's windows (W, K) into its logits (K,).

    Without `scores` the maximum per policy; with `scores` (W, K) their softmax over windows weighs the
    logits, policy by policy.
    """
    if scores is None:
        return np.asarray(logits.max(axis=0), dtype=np.float32)
    weights = np.exp(scores - scores.max(axis=0))
    return np.asarray((weights * logits).sum(axis=0) / weights.sum(axis=0), dtype=np.float32)


def calibrate(logits: ArrayLike, scale: NDArray[np.float64], bias: NDArray[np.float64]) -> Floats:
    """Probabilities sigmoid(scale * logit + bias), float32, of logits (..., K); `scale` and `bias` are (K,)."""
    exponent = np.asarray(logits, dtype=np.float64) * scale + bias
    # exp takes no positive number here, so no logit can overflow it.
    small = np.exp(-np.abs(exponent))
    probabilities = np.where(exponent >= 0, 1.0, small) / (1.0 + small)
    return probabilities.astype(np.float32)


def any_violation(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Probability (...) that some policy is violated, of probabilities (..., K), were the policies independent.

    1 - product(1 - p), in float64. Thresholds are float32: round it to float32 before comparing the two.
    """
    # In C order a row sums in the same order as a single text: training and scoring agree to the bit.
    scores = np.minimum(np.asarray(probabilities, dtype=np.float64, order="C"), 1.0 - 1e-12)
    return np.asarray(-np.expm1(np.log1p(-scores).sum(axis=-1)))


def decide(probability: float, review: float, block: float | None) -> Decision:
    """The decision on one policy; without a certified block threshold nothing is blocked."""
    if block is not None and probability >= block:
        return "block"
    return "review" if probability >= review else "clear"


def strictest(decisions: list[Decision]) -> Decision:
    """The strictest of some decisions; "clear" when there is none."""
    return max(decisions, key=_ORDER.index, default="clear")
