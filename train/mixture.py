"""How the encoder's and the n-gram branch's scores become one logit per policy, and the fitting of its weights."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp
from torch import Tensor, nn

Floats = NDArray[np.float64]

NAMES = ("encoder", "ngrams", "share", "gate_policies", "gate_encoder", "gate_ngrams", "gate_bias")
# Where fitting starts from and is drawn back to, by one standard deviation of a unit each: the weights that did well
# on merchants by other writers. A few validation records move them a little, thousands as far as they like.
_PRIOR = np.array([1.5, 1.0, 0.3, 0.3, 0.5, 0.5, 0.0])
_BOUNDS = [(0.0, None), (0.0, None), (0.0, 0.9), (0.0, None), (0.0, None), (0.0, None), (None, None)]


class Mixture(nn.Module):
    """Policy logits from the scores of both parts: a weighted sum, and with a gate

        logit_k = c_k - share * logsumexp(c) + log sigmoid(gate_policies * logsumexp(c) + gate_encoder * a_e
                  + gate_ngrams * a_n + gate_bias)

    where c is the weighted sum for the policies, and a_e and a_n are each part's score of "some violation": the logarithm of
    P(some violation) x P(policy | some violation), as in a hierarchical classifier. What tells compliant merchants
    from others ("we ask for a licence", "we do not sell") is learnt from the violations of all policies
    together, not from the few of each.

    :param gated: whether the scores carry a last column, that of "some violation".
    """

    weights: Tensor

    def __init__(self, *, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.register_buffer("weights", torch.tensor(_PRIOR, dtype=torch.float32))

    def forward(self, encoder: Tensor, ngrams: Tensor | None) -> Tensor:
        """Logits (B, K) from the scores of encoder and n-gram branch, each (B, K), or (B, K + 1) when gated."""
        by_encoder, by_ngrams, share, gate_policies, gate_encoder, gate_ngrams, gate_bias = (
            self.weights.unbind()
        )
        scores = by_encoder * encoder if ngrams is None else by_encoder * encoder + by_ngrams * ngrams
        if not self.gated:
            return scores
        policies = scores[:, :-1]
        total = policies.logsumexp(dim=1, keepdim=True)
        gate = gate_policies * total + gate_encoder * encoder[:, -1:] + gate_bias
        if ngrams is not None:
            gate = gate + gate_ngrams * ngrams[:, -1:]
        return policies - share * total + nn.functional.logsigmoid(gate)


def with_any_violation(targets: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets and known cells, (N, K + 1), with a last column for "some violation": known where a positive is, or
    where every cell is."""
    some = (targets * known).max(axis=1, keepdims=True)
    return np.hstack([targets, some]), np.hstack([known, (some > 0.5) | known.all(axis=1, keepdims=True)])


def _logits(weights: Floats, encoder: Floats, ngrams: Floats, *, gated: bool) -> Floats:
    by_encoder, by_ngrams, share, gate_policies, gate_encoder, gate_ngrams, gate_bias = weights
    scores = by_encoder * encoder + by_ngrams * ngrams
    if not gated:
        return scores
    policies = scores[:, :-1]
    total = logsumexp(policies, axis=1, keepdims=True)
    gate = gate_policies * total + gate_encoder * encoder[:, -1:] + gate_ngrams * ngrams[:, -1:] + gate_bias
    return policies - share * total + log_expit(gate)


def _spread(scores: Floats) -> float:
    """Standard deviation of the scores around their policy's mean; 1 where they do not differ."""
    return float((scores - scores.mean(axis=0)).std()) or 1.0


def fit_mixture(
    encoder: np.ndarray, ngrams: np.ndarray | None, targets: np.ndarray, known: np.ndarray, *, gated: bool
) -> Mixture:
    """Fit the weights by penalised likelihood on records that neither part was trained on (stacked
    generalisation, Wolpert 1992); calibration, which comes after, has data of its own.

    :param encoder: record scores (N, K), or (N, K + 1) when gated; `ngrams` likewise, or None without that branch.
    :param targets: labels (N, K), and `known` bool (N, K).
    """
    encoder = encoder.astype(np.float64)
    branch = np.zeros_like(encoder) if ngrams is None else ngrams.astype(np.float64)
    k = targets.shape[1]
    scale = np.ones(len(NAMES))
    scale[[0, 1]] = _spread(encoder[:, :k]), _spread(branch[:, :k])
    if gated:
        scale[[4, 5]] = _spread(encoder[:, k:]), _spread(branch[:, k:])
    prior = _PRIOR.copy()
    if gated:
        prior[6] = -_gate_centre(prior / scale, encoder, branch)
    truth, cells = targets >= 0.5, known.astype(bool)

    def penalised(parameters: Floats) -> float:
        logits = _logits(parameters[:-1] / scale, encoder, branch, gated=gated) + parameters[-1]
        losses = np.logaddexp(0.0, logits) - truth * logits
        return float(losses[cells].sum() + 0.5 * ((parameters[:-1] - prior) ** 2).sum())

    start = np.append(prior, _common_bias(_logits(prior / scale, encoder, branch, gated=gated), truth, cells))
    bounds = [*_BOUNDS, (None, None)]
    found = minimize(penalised, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    mixture = Mixture(gated=gated)
    mixture.weights.copy_(torch.from_numpy(found.x[:-1] / scale))
    return mixture


def _gate_centre(weights: Floats, encoder: Floats, ngrams: Floats) -> float:
    """Mean of the gate's input without its bias, so that the prior's gate is half open on the average record."""
    policies = (weights[0] * encoder + weights[1] * ngrams)[:, :-1]
    inputs = (
        weights[3] * logsumexp(policies, axis=1) + weights[4] * encoder[:, -1] + weights[5] * ngrams[:, -1]
    )
    return float(inputs.mean())


def _common_bias(logits: Floats, truth: np.ndarray, cells: np.ndarray) -> float:
    """Bias that lets the mean probability be the share of positives, to start from: found by bisection."""
    rate = truth[cells].mean() if cells.any() else 0.5
    low, high = -100.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(logits[cells] + middle).mean() < rate else (low, middle)
    return low
