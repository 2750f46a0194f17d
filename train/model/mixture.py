"""How the scores of the encoder and the n-gram branch become one logit per policy, and how the weights are fitted."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import bisect, minimize
from scipy.special import expit
from torch import Tensor, nn

from ...core.labels import LabelMatrix

Floats = NDArray[np.float64]

NAMES = ("encoder", "ngrams", "gate_encoder", "gate_ngrams", "gate_bias")
# Where fitting starts and what it is regularised towards, for scores scaled to a spread of 1: weights that did well on
# out-of-distribution merchants. A hundred validation records move them little, or the n-grams, which are at their best
# on the corpus's own words, would take over; thousands of records move them freely.
_PRIOR = np.array([1.5, 1.0, 1.0, 1.0, 0.0])
_PRIOR_VARIANCE = 0.02
_LEAST_SPREAD = 0.2
# Not fitted: the few texts that would determine them are too few (measured: bench/README.md).
# How much of the strongest policies' score the others lose: helps on texts of one policy, costs on texts of several.
COMPETITION = 0.3
# How much further an open gate lifts the policies: a sure violation should rank above a possible one.
LIFT = 0.5
_BOUNDS = [(0.0, None), (0.0, None), (0.0, None), (0.0, None), (None, None)]


def _weighted_sums(
    weights: Tensor, encoder: Tensor, ngrams: Tensor | None, *, gated: bool, biased: bool
) -> tuple[Tensor, Tensor | None]:
    """The linear part: weighted sums (..., K) for the policies, and (..., 1) for the gate or None without one."""
    by_encoder, by_ngrams, gate_encoder, gate_ngrams, gate_bias = weights.unbind()[: len(NAMES)]
    policies = by_encoder * encoder if ngrams is None else by_encoder * encoder + by_ngrams * ngrams
    if not gated:
        return policies, None
    gate = gate_encoder * encoder[..., -1:]
    if biased:
        gate = gate + gate_bias
    if ngrams is not None:
        gate = gate + gate_ngrams * ngrams[..., -1:]
    return policies[..., :-1], gate


def mixture_logits(weights: Tensor, encoder: Tensor, ngrams: Tensor | None, *, gated: bool) -> Tensor:
    """Policy logits (B, K) from the scores of both parts: a weighted sum, some competition, and with a gate

        logit_k = c_k - competition * logsumexp(c) + log sigmoid(g) + lift * softplus(g)
        g = gate_encoder * a_e + gate_ngrams * a_n + gate_bias

    where c is the weighted sum for the policies, and a_e and a_n are the two parts' scores of "some violation".

    :param weights: (7,) those of `NAMES`, then competition and lift.
    :param encoder: scores of the encoder (B, K), or (B, K + 1) when gated, with "some violation" last.
    :param ngrams: scores of the n-gram branch, of the same shape; None without that branch.
    """
    competition, lift = weights[len(NAMES)], weights[len(NAMES) + 1]
    policies, gate = _weighted_sums(weights, encoder, ngrams, gated=gated, biased=True)
    logits = policies - competition * torch.logsumexp(policies, dim=1, keepdim=True)
    if gate is None:
        return logits
    # Spelt out: exporters turn logsigmoid into log(sigmoid), which is minus infinity far below zero.
    rest = torch.log1p(torch.exp(-gate.abs()))
    return logits + (gate.clamp(max=0.0) - rest) + lift * (gate.clamp(min=0.0) + rest)


class Mixture(nn.Module):
    """The formula of `mixture_logits` with its weights.

    The gate learns what separates compliant merchants from others ("we ask for a licence", "we do not sell") from the
    violations of all policies together, instead of the few violations of each.

    :param gated: whether the scores have a last column for "some violation".
    """

    weights: Tensor

    def __init__(self, *, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.register_buffer("weights", torch.tensor([*_PRIOR, COMPETITION, LIFT], dtype=torch.float32))

    def forward(self, encoder: Tensor, ngrams: Tensor | None) -> Tensor:
        """Logits (B, K) from the scores of encoder and n-gram branch, each (B, K), or (B, K + 1) when gated."""
        return mixture_logits(self.weights, encoder, ngrams, gated=self.gated)

    def attribution(self, encoder: tuple[Tensor, Tensor], ngrams: tuple[Tensor, Tensor] | None) -> Tensor:
        """What each token adds to the logits, (B, T, K), by the tangent of the formula without the competition.

        :param encoder: the encoder's scores (B, K) or (B, K + 1), and what each token adds to them, (B, T, ...).
        :param ngrams: the same of the n-gram branch; None without that branch.
        """
        scores, added = zip(encoder, ngrams or (None, None), strict=True)
        _, gate = _weighted_sums(self.weights, *scores, gated=self.gated, biased=True)
        policies, gate_added = _weighted_sums(self.weights, *added, gated=self.gated, biased=False)
        if gate is None or gate_added is None:
            return policies
        # The derivative of log sigmoid(g) + lift * softplus(g).
        slope = torch.sigmoid(-gate) + self.weights[-1] * torch.sigmoid(gate)
        return policies + slope.unsqueeze(1) * gate_added


def with_any_violation(labels: LabelMatrix) -> LabelMatrix:
    """Labels (N, K + 1) with a last column for "some violation", labelled where a positive is or where every cell is."""
    some = (labels.values * labels.mask).max(axis=1, keepdims=True)
    labelled = (some > 0.5) | labels.mask.all(axis=1, keepdims=True)
    return LabelMatrix(np.hstack([labels.values, some]), np.hstack([labels.mask, labelled]))


def _spread(scores: Floats) -> float:
    """Standard deviation of the scores around their policy's mean, with a lower limit: scores that are hardly trained
    would otherwise be scaled up to rounding errors."""
    return max(float((scores - scores.mean(axis=0)).std()), _LEAST_SPREAD)


def fit_mixture(
    encoder: np.ndarray, ngrams: np.ndarray | None, labels: LabelMatrix, *, gated: bool
) -> Mixture:
    """Fit the weights by penalised likelihood on records that neither part was trained on (stacked
    generalisation, Wolpert 1992); calibration, which follows, has data of its own.

    :param encoder: record scores (N, K), or (N, K + 1) when gated; `ngrams` likewise, or None without that branch.
    :param labels: of the N records, for K policies.
    """
    encoder = encoder.astype(np.float64)
    branch = np.zeros_like(encoder) if ngrams is None else ngrams.astype(np.float64)
    scale, prior = _scale_and_prior(encoder, branch, labels.policies, gated=gated)
    truth, cells = labels.values >= 0.5, labels.mask
    scores = torch.from_numpy(encoder), torch.from_numpy(branch)

    def logits(parameters: Floats) -> Floats:
        weights = torch.from_numpy(np.append(parameters / scale, [COMPETITION, LIFT]))
        return mixture_logits(weights, *scores, gated=gated).numpy()

    def penalised(parameters: Floats) -> float:
        biased = logits(parameters[:-1]) + parameters[-1]
        losses = np.logaddexp(0.0, biased) - truth * biased
        away = ((parameters[:-1] - prior) ** 2).sum() / _PRIOR_VARIANCE
        return float(losses[cells].sum() + 0.5 * away)

    start = np.append(prior, _common_bias(logits(prior)[cells], truth[cells]))
    bounds = [*_BOUNDS, (None, None)]
    found = minimize(penalised, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    mixture = Mixture(gated=gated)
    mixture.weights[: len(NAMES)] = torch.from_numpy(found.x[:-1] / scale)
    return mixture


def _scale_and_prior(encoder: Floats, branch: Floats, policies: int, *, gated: bool) -> tuple[Floats, Floats]:
    """The spread (5,) of what each weight multiplies, and the prior (5,) of the weights for scores of spread 1."""
    scale, prior = np.ones(len(NAMES)), _PRIOR.copy()
    scale[[0, 1]] = _spread(encoder[:, :policies]), _spread(branch[:, :policies])
    if gated:
        some = encoder[:, policies], branch[:, policies]
        scale[[2, 3]] = _spread(encoder[:, policies:]), _spread(branch[:, policies:])
        # Half open on the average record.
        prior[4] = -float((prior[2] * some[0] / scale[2] + prior[3] * some[1] / scale[3]).mean())
    return scale, prior


def _common_bias(logits: Floats, truth: NDArray[np.bool_]) -> float:
    """The bias, in [-100, 100], at which the mean probability of the cells (C,) is their share of positives; 0 where
    there is none. Fitting starts from it."""

    def excess(bias: float) -> float:
        return float(expit(logits + bias).mean() - truth.mean())

    if not len(logits) or not excess(-100.0) < 0.0 < excess(100.0):
        return 0.0
    return float(bisect(excess, -100.0, 100.0, xtol=1e-15, rtol=4 * np.finfo(float).eps))
