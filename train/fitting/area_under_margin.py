"""The area under the margin: what the course of training says about each label."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...core.labels import LabelMatrix


class AreaUnderMargin:
    """Signed margin of the logit towards the given label, averaged over every time that a cell is trained on.

    A wrong label contradicts what the other records teach, so its margin stays low or grows late (Pleiss et al., Identifying
    Mislabeled Data using the Area Under the Margin Ranking, 2020; here per policy, with zero as the competing logit). A
    record may be trained on in several windows: those in which a cell is labelled count.

    :param shape: (N, K) of the first N texts that are trained on; later texts are ignored.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._sums, self._times = np.zeros(shape), np.zeros(shape, dtype=np.int64)

    def __call__(self, texts: NDArray[np.int64], labels: LabelMatrix, logits: Tensor) -> None:
        """Add a batch before its step: numbers (R,), labels and logits (R, K) of rows of these texts."""
        kept = np.asarray(texts) < len(self._sums)
        signs = np.where(labels.values > 0, 1.0, -1.0) * labels.mask
        values = logits.detach().float().cpu().numpy()
        np.add.at(self._sums, texts[kept], (signs * values)[kept])
        np.add.at(self._times, texts[kept], labels.mask[kept])

    def averages(self) -> NDArray[np.float64]:
        """Average margins (N, K); NaN for cells that were never trained on."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(self._times > 0, self._sums / self._times, np.nan))
