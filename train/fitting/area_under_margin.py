"""The area under the margin: what the course of training says about each label."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class AreaUnderMargin:
    """Signed margin of the logit towards the given label, averaged over every time that a cell is trained on.

    A wrong label contradicts what the other records teach, so its margin stays low or grows late (Pleiss et al., Identifying
    Mislabeled Data using the Area Under the Margin Ranking, 2020; here per policy, with zero as the competing logit).

    :param labels: the given labels (N, K) of the first N rows of the training table; later rows are ignored.
    """

    def __init__(self, labels: NDArray[np.bool_]) -> None:
        self._signs = np.where(labels, 1.0, -1.0)
        self._sums = np.zeros(labels.shape)
        self._times = np.zeros(len(labels), dtype=np.int64)

    def __call__(self, rows: Sequence[int], logits: Tensor) -> None:
        """Add a batch before its step: logits (R, K or more) of rows of the table."""
        numbers = np.asarray(rows)
        kept = numbers < len(self._signs)
        numbers = numbers[kept]
        values = logits.detach().float().cpu().numpy()[kept, : self._signs.shape[1]]
        self._sums[numbers] += self._signs[numbers] * values
        self._times[numbers] += 1

    def averages(self) -> NDArray[np.float64]:
        """Average margins (N, K); NaN for rows that were never trained on."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(self._times[:, None] > 0, self._sums / self._times[:, None], np.nan))
