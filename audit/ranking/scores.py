"""What one ranker by itself says of every cell: higher is more suspicious, NaN where nobody has judged the cell."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.extras import require

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Labels and out-of-fold opinions of N records and K policies, each array (N, K).

    `given`: the label in the data; `known`: False where nobody has judged the cell; `probabilities`: of the policy, in
    [0, 1], by a model that did not see the record in training.

    :raises ValueError: if shapes differ or a probability is not in [0, 1].
    """

    given: Bools
    known: Bools
    probabilities: Floats

    def __post_init__(self) -> None:
        if not self.given.shape == self.known.shape == self.probabilities.shape or self.given.ndim != 2:
            raise ValueError(
                f"given {self.given.shape}, known {self.known.shape} and probabilities {self.probabilities.shape} "
                "must all be (N, K)"
            )
        if not ((self.probabilities >= 0) & (self.probabilities <= 1)).all():
            raise ValueError("probabilities must lie in [0, 1]")

    @property
    def log_odds(self) -> Floats:
        """Log-odds (N, K) of the probabilities, which are kept a millionth away from 0 and 1."""
        return log_odds(self.probabilities)


def log_odds(probabilities: Floats, *, margin: float = 1e-6) -> Floats:
    """Logarithm of p / (1 - p), with p kept `margin` away from 0 and 1."""
    inside = np.clip(probabilities, margin, 1.0 - margin)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def self_confidence(cells: Cells, *, adjusted: bool = False) -> Floats:
    """1 minus cleanlab's label quality (N, K), policy by policy: the model's probability of the given label.

    :param adjusted: subtract what the model gives to that label on average (`adjust_pred_probs`): a policy that is told apart
        badly, or is rare, then no longer fills the head of the ranking (Northcutt, Jiang and Chuang 2021).
    :raises MissingExtraError: if cleanlab is not installed.
    """
    rank = require("cleanlab.rank", "audit")
    scores = np.full(cells.given.shape, np.nan)
    for column in range(cells.given.shape[1]):
        rows = np.flatnonzero(cells.known[:, column])
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


def normalized_margin(cells: Cells) -> Floats:
    """How far another label of the record stands above the given one, (N, K).

    Of a given positive: the best policy that is not given, minus this one; of a given negative: this policy minus the
    weakest that is given, or minus its complement where none is.
    """
    p = np.where(cells.known, cells.probabilities, np.nan)
    rival = np.where(cells.known & ~cells.given, cells.probabilities, -np.inf).max(axis=1, keepdims=True)
    weakest = np.where(cells.known & cells.given, cells.probabilities, np.inf).min(axis=1, keepdims=True)
    rival = np.where(np.isfinite(rival), rival, 1.0 - p)
    weakest = np.where(np.isfinite(weakest), weakest, 1.0 - p)
    return np.where(cells.given, rival - p, p - weakest)
