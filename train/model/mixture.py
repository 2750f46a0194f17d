"""How the encoder's and the n-gram branch's scores become one logit per policy, and the fitting of its weights."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp
from torch import Tensor, nn

Floats = NDArray[np.float64]

NAMES = ("encoder", "ngrams", "gate_encoder", "gate_ngrams", "gate_bias")
# Where fitting starts from and is drawn back to, of scores brought to a spread of 1: the weights that did well on
# merchants by other writers. A hundred validation records move them little, lest the n-grams, at their best on the
# corpus's own words, take over; thousands move them as far as they like.
_PRIOR = np.array([1.5, 1.0, 1.0, 1.0, 0.0])
_PRIOR_VARIANCE = 0.02
_LEAST_SPREAD = 0.2
# Not fitted, as a fit on the few texts that decide them would be a guess (measured: bench/README.md).
# How much of the strongest policies' score the others give up: pays on texts of one policy, costs on texts of several.
COMPETITION = 0.3
# How far a gate that is open goes on to lift the policies: what is surely some violation should rank above what may be.
LIFT = 0.5
_BOUNDS = [(0.0, None), (0.0, None), (0.0, None), (0.0, None), (None, None)]


class Mixture(nn.Module):
    """Policy logits from the scores of both parts: a weighted sum, some competition, and with a gate

        logit_k = c_k - competition * logsumexp(c) + log sigmoid(g) + lift * softplus(g)
        g = gate_encoder * a_e + gate_ngrams * a_n + gate_bias

    where c is the weighted sum for the policies, and a_e and a_n are each part's score of "some violation". `weights` holds
    those of `NAMES`, then competition and lift. What tells compliant merchants from others ("we ask for a licence", "we do not sell") is learnt from the
    violations of all policies together, not from the few of each.

    :param gated: whether the scores carry a last column, that of "some violation".
    """

    weights: Tensor

    def __init__(self, *, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.register_buffer("weights", torch.tensor([*_PRIOR, COMPETITION, LIFT], dtype=torch.float32))

    def forward(self, encoder: Tensor, ngrams: Tensor | None) -> Tensor:
        """Logits (B, K) from the scores of encoder and n-gram branch, each (B, K), or (B, K + 1) when gated."""
        by_encoder, by_ngrams, gate_encoder, gate_ngrams, gate_bias, competition, lift = self.weights.unbind()
        scores = by_encoder * encoder if ngrams is None else by_encoder * encoder + by_ngrams * ngrams
        policies = scores[:, :-1] if self.gated else scores
        logits = policies - competition * torch.logsumexp(policies, dim=1, keepdim=True)
        if not self.gated:
            return logits
        gate = gate_encoder * encoder[:, -1:] + gate_bias
        if ngrams is not None:
            gate = gate + gate_ngrams * ngrams[:, -1:]
        # Written out: exporters turn logsigmoid into log(sigmoid), which is minus infinity far below zero.
        rest = torch.log1p(torch.exp(-gate.abs()))
        return logits + (gate.clamp(max=0.0) - rest) + lift * (gate.clamp(min=0.0) + rest)


def current_weights(weights: Tensor) -> Tensor:
    """The weights of a run in today's form: the first runs kept five, with a competition of 0.2 and no lift."""
    return weights if len(weights) > len(NAMES) else torch.cat([weights, weights.new_tensor([0.2, 0.0])])


def with_any_violation(targets: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets and known cells, (N, K + 1), with a last column for "some violation": known where a positive is, or
    where every cell is."""
    some = (targets * known).max(axis=1, keepdims=True)
    return np.hstack([targets, some]), np.hstack([known, (some > 0.5) | known.all(axis=1, keepdims=True)])


def _logits(weights: Floats, encoder: Floats, ngrams: Floats, *, gated: bool) -> Floats:
    by_encoder, by_ngrams, gate_encoder, gate_ngrams, gate_bias = weights
    scores = by_encoder * encoder + by_ngrams * ngrams
    policies = scores[:, :-1] if gated else scores
    logits: Floats = policies - COMPETITION * logsumexp(policies, axis=1, keepdims=True)
    if not gated:
        return logits
    gate = gate_encoder * encoder[:, -1:] + gate_ngrams * ngrams[:, -1:] + gate_bias
    return np.asarray(logits + log_expit(gate) + LIFT * np.logaddexp(0.0, gate))


def _spread(scores: Floats) -> float:
    """Standard deviation of the scores around their policy's mean, but not so little that what is hardly trained would
    be blown up to rounding errors."""
    return max(float((scores - scores.mean(axis=0)).std()), _LEAST_SPREAD)


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
        scale[[2, 3]] = _spread(encoder[:, k:]), _spread(branch[:, k:])
    prior = _PRIOR.copy()
    if gated:
        # Half open on the average record.
        prior[4] = -float((prior[2] * encoder[:, k] / scale[2] + prior[3] * branch[:, k] / scale[3]).mean())
    truth, cells = targets >= 0.5, known.astype(bool)

    def penalised(parameters: Floats) -> float:
        logits = _logits(parameters[:-1] / scale, encoder, branch, gated=gated) + parameters[-1]
        losses = np.logaddexp(0.0, logits) - truth * logits
        away = ((parameters[:-1] - prior) ** 2).sum() / _PRIOR_VARIANCE
        return float(losses[cells].sum() + 0.5 * away)

    start = np.append(prior, _common_bias(_logits(prior / scale, encoder, branch, gated=gated), truth, cells))
    bounds = [*_BOUNDS, (None, None)]
    found = minimize(penalised, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    mixture = Mixture(gated=gated)
    mixture.weights[: len(NAMES)] = torch.from_numpy(found.x[:-1] / scale)
    return mixture


def _common_bias(logits: Floats, truth: np.ndarray, cells: np.ndarray) -> float:
    """Bias that lets the mean probability be the share of positives, to start from: found by bisection."""
    rate = truth[cells].mean() if cells.any() else 0.5
    low, high = -100.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(logits[cells] + middle).mean() < rate else (low, middle)
    return low
