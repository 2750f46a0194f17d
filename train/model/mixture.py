"""How the scores of the encoder and the n-gram branch become one logit per policy, and how the weights are fitted."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import bisect, minimize
from scipy.special import expit
from torch import Tensor, nn

from ...core.labels import LabelMatrix

Floats = NDArray[np.float64]

# Where fitting starts and what it is regularised towards, for scores scaled to a spread of 1: weights that did well on
# out-of-distribution merchants. A hundred validation records move them little, or the n-grams, which are at their best
# on the corpus's own words, would take over; thousands of records move them freely.
_PRIOR = np.array([1.5, 1.3])
_PRIOR_VARIANCE = 0.02
_LEAST_SPREAD = 0.2


class Mixture(nn.Module):
    """Policy logits as a weighted sum of both parts' scores: neither can veto what the other is sure of."""

    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(_PRIOR, dtype=torch.float32))

    def forward(self, encoder: Tensor, ngrams: Tensor) -> Tensor:
        """Logits from the scores of encoder and n-gram branch, (..., K) each; linear, so it also maps attributions."""
        return self.weights[0] * encoder + self.weights[1] * ngrams


def _spread(scores: Floats) -> float:
    """Standard deviation of the scores around their policy's mean, with a lower limit: scores that are hardly trained
    would otherwise be scaled up to rounding errors."""
    return max(float((scores - scores.mean(axis=0)).std()), _LEAST_SPREAD)


def fit_mixture(encoder: np.ndarray, ngrams: np.ndarray, labels: LabelMatrix) -> Mixture:
    """Fit the weights by penalised likelihood on records that neither part was trained on (stacked
    generalisation, Wolpert 1992); calibration, which follows, has data of its own.

    :param encoder: record scores (N, K); `ngrams` likewise.
    :param labels: of the N records, for K policies.
    """
    parts = np.stack([encoder, ngrams]).astype(np.float64)
    scale = np.array([_spread(part) for part in parts])
    truth, cells = labels.values >= 0.5, labels.mask

    def logits(weights: Floats) -> Floats:
        return np.asarray(np.tensordot(weights / scale, parts, axes=1))

    def penalised(parameters: Floats) -> float:
        biased = logits(parameters[:-1]) + parameters[-1]
        losses = np.logaddexp(0.0, biased) - truth * biased
        away = ((parameters[:-1] - _PRIOR) ** 2).sum() / _PRIOR_VARIANCE
        return float(losses[cells].sum() + 0.5 * away)

    start = np.append(_PRIOR, _common_bias(logits(_PRIOR)[cells], truth[cells]))
    bounds = [(0.0, None), (0.0, None), (None, None)]
    found = minimize(penalised, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    mixture = Mixture()
    mixture.weights.copy_(torch.from_numpy(found.x[:-1] / scale))
    return mixture


def _common_bias(logits: Floats, truth: NDArray[np.bool_]) -> float:
    """The bias, in [-100, 100], at which the mean probability of the cells (C,) is their share of positives; 0 where
    there is none. Fitting starts from it."""

    def excess(bias: float) -> float:
        return float(expit(logits + bias).mean() - truth.mean())

    if not len(logits) or not excess(-100.0) < 0.0 < excess(100.0):
        return 0.0
    return float(bisect(excess, -100.0, 100.0, xtol=1e-15, rtol=4 * np.finfo(float).eps))
