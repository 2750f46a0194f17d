"""Simple rankers, each by itself: a higher score is a likelier label error, NaN in unlabelled cells."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.extras import require

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Labels and out-of-fold probabilities of N records and K policies, each array (N, K).

    `given`: the label in the data; `mask`: False where a cell is unlabelled; `probabilities`: of the policy, in [0, 1], by a
    model that did not see the record in training.

    :raises ValueError: if shapes differ or a probability is not in [0, 1].
    """

    given: Bools
    mask: Bools
    probabilities: Floats

    def __post_init__(self) -> None:
        if not self.given.shape == self.mask.shape == self.probabilities.shape or self.given.ndim != 2:
            raise ValueError(
                f"given {self.given.shape}, mask {self.mask.shape} and probabilities {self.probabilities.shape} "
                "must all be (N, K)"
            )
        if not ((self.probabilities >= 0) & (self.probabilities <= 1)).all():
            raise ValueError("probabilities must lie in [0, 1]")


def log_odds(probabilities: Floats, *, margin: float = 1e-6) -> Floats:
    """Logarithm of p / (1 - p), with p kept `margin` away from 0 and 1."""
    inside = np.clip(probabilities, margin, 1.0 - margin)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def self_confidence(cells: Cells, *, adjusted: bool = False) -> Floats:
    """1 minus cleanlab's label quality (N, K), policy by policy: the model's probability of the given label.

    :param adjusted: subtract the mean probability that the model gives to that label (`adjust_pred_probs`): a policy that the
        model recognises badly, or a rare one, then no longer fills the top of the ranking (Northcutt, Jiang and Chuang 2021).
    :raises MissingExtraError: if cleanlab is not installed.
    """
    rank = require("cleanlab.rank", "audit")
    scores = np.full(cells.given.shape, np.nan)
    for column in range(cells.given.shape[1]):
        rows = np.flatnonzero(cells.mask[:, column])
        if len(rows) == 0:
            continue
        p = cells.probabilities[rows, column]
        labels = cells.given[rows, column].astype(int)
        both = 0 < labels.sum() < len(labels)
        quality = rank.get_label_quality_scores(
            labels, np.stack([1.0 - p, p], axis=1), adjust_pred_probs=adjusted and both
        )
        scores[rows, column] = 1.0 - quality
    return scores
