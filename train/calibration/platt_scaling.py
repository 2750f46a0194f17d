"""Calibrated probabilities from logits, by a scale and a bias per policy (Platt scaling).

A temperature alone cannot undo the shift that a weighted loss causes, so each policy has a bias too. Eight positives are
too few to fit two free numbers, so the policies share a prior: each policy's (log scale, bias) is drawn from a normal
distribution whose centre and spread are estimated from all policies together (empirical Bayes, by
expectation-maximisation with Laplace approximations; Gelman et al., Bayesian Data Analysis, chapters 5 and 13). If the
policies agree, the spread is small and they share one calibration; if they differ, each follows its own data as far as
it has any. Fixed spreads were tried: no single pair of them did well in both cases. The policies share a third number, by
which a text's probabilities fall with the logarithm of its windows. Any violation is calibrated in the same way, as one
more policy whose logit is that of 1 - product(1 - p).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import block_diag
from scipy.optimize import minimize
from scipy.special import expit

from ...core.decisions import AnyCalibration, Calibration, Prevalence, independent_log_odds
from ...core.errors import RunError
from ...core.labels import LabelMatrix

Floats = NDArray[np.float64]

# Prior of the centre: no change, give or take a factor of e and a bias of 4 (a positive weight of 50 shifts logits by
# log 50 = 3.9).
CENTRE_PRIOR_SD = np.array([1.0, 4.0])
# Prior of the spread between policies, worth SPREAD_PRIOR_WEIGHT policies of evidence.
SPREAD_PRIOR_SD = np.array([0.15, 0.3])
SPREAD_PRIOR_WEIGHT = 4.0
# Prior of what a factor of e more windows takes from the log odds: half of a normal distribution.
LENGTH_PRIOR_SD = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Logits, labels and 0/1 weights, each (N, K); an unlabelled cell has weight 0 and logit 0.

    `long` (N, 1) is the logarithm of the windows, less its mean, and `length` what is taken from the log odds for each.
    """

    logits: Floats
    labels: Floats
    weights: Floats
    long: Floats
    length: float = 0.0

    def _log_odds(self, theta: Floats) -> Floats:
        return np.asarray(np.exp(theta[:, 0]) * self.logits + theta[:, 1] - self.length * self.long)

    def evaluate(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Negative log-likelihood (K,) at theta (K, 2) = (log scale, bias), gradient (K, 2), Fisher information (K, 2, 2)."""
        scaled = np.exp(theta[:, 0]) * self.logits
        margins = scaled + theta[:, 1] - self.length * self.long
        # One exponential serves loss and probability, and takes no positive number.
        small = np.exp(-np.abs(margins))
        probability = np.where(margins >= 0, 1.0, small) / (1.0 + small)
        wrong = np.maximum(np.where(self.labels > 0, -margins, margins), 0.0)
        loss = np.einsum("nk,nk->k", self.weights, wrong + np.log1p(small))
        residual = self.weights * (probability - self.labels)
        gradient = np.stack([np.einsum("nk,nk->k", residual, scaled), residual.sum(axis=0)], axis=1)
        curvature = self.weights * probability * (1.0 - probability)
        mixed = np.einsum("nk,nk->k", curvature, scaled)
        square = np.einsum("nk,nk,nk->k", curvature, scaled, scaled)
        information = np.stack([square, mixed, mixed, curvature.sum(axis=0)], axis=1).reshape(-1, 2, 2)
        return loss, gradient, information

    def with_length(self, theta: Floats, *, steps: int = 20, tolerance: float = 1e-6) -> "_Cells":
        """The same cells with the most probable `length` >= 0 at theta, found by Newton's method."""
        length, precision = self.length, 1.0 / LENGTH_PRIOR_SD**2
        if not self.long.any():
            return self
        for _ in range(steps):
            probability = expit(replace(self, length=length)._log_odds(theta))
            slope = (self.weights * (self.labels - probability) * self.long).sum() + precision * length
            curvature = self.weights * probability * (1.0 - probability) * self.long**2
            step = slope / (curvature.sum() + precision)
            moved = max(0.0, length - float(np.clip(step, -1.0, 1.0)))
            if abs(moved - length) < tolerance:
                break
            length = moved
        return replace(self, length=length)


def fit_calibration(
    logits: ArrayLike,
    labels: LabelMatrix,
    windows: ArrayLike | None = None,
    *,
    prevalence: float | None = None,
) -> Calibration:
    """Fit a calibration on pooled logits (N, K) that training never saw.

    A policy without a labelled cell gets the centre of all policies; with no labelled cell at all nothing is changed.
    There is no randomness.

    :param windows: (N,) windows of each record; None stands for one each.
    :param prevalence: what the probabilities are stated for; None, or records of one kind only, shift nothing.
    :raises ValueError: if the shapes differ or the label of a labelled cell is not 0 or 1.
    :raises RunError: if the logit of a labelled cell is not finite.
    """
    counts = np.ones(len(labels)) if windows is None else np.asarray(windows, dtype=np.float64)
    mean = float(np.log(counts).mean()) if len(counts) else 0.0
    cells = _check_cells(logits, labels, np.log(counts)[:, None] - mean)
    if not cells.weights.any():
        return Calibration.identity(labels.policies)
    theta, length = _fit_policies(cells, *_fit_pooled(cells))
    # The log odds took the logarithm of the windows less its mean.
    policies = Calibration(np.exp(theta[:, 0]), theta[:, 1] + length * mean, length)
    violating, compliant = labels.violating, labels.compliant
    if not violating.any() or not compliant.any():
        return policies
    odds = np.asarray(logits, dtype=np.float64) * policies.scale + policies.bias
    whole = independent_log_odds(np.nan_to_num(odds - length * np.log(counts)[:, None]))
    known = (violating | compliant).astype(np.float64)
    whole_cells = _Cells(whole[:, None], violating.astype(np.float64)[:, None], known[:, None], cells.long)
    centre, length = _fit_pooled(whole_cells)
    share = float(violating.sum() / known.sum())
    return replace(
        policies,
        any_violation=AnyCalibration(
            float(np.exp(centre[0])), float(centre[1] + length * mean), float(length)
        ),
        prevalence=None if prevalence is None else Prevalence(prevalence, share),
    )


def _check_cells(logits: ArrayLike, labels: LabelMatrix, long: Floats) -> _Cells:
    values, truth, mask = np.asarray(logits, dtype=np.float64), labels.values.astype(np.float64), labels.mask
    if values.shape != mask.shape:
        raise ValueError(f"logits {values.shape} and labels {mask.shape} must both be (N, K)")
    broken = np.argwhere(mask & ~np.isfinite(values))
    if len(broken):
        row, column = broken[0]
        raise RunError(
            f"the logit of record {row}, policy {column} is {values[row, column]} "
            f"({len(broken)} such cells): the model did not train to finite numbers; "
            "lower the learning rate and train again"
        )
    if not np.isin(truth[mask], (0.0, 1.0)).all():
        raise ValueError("the label of a labelled cell is neither 0 nor 1")
    return _Cells(np.where(mask, values, 0.0), np.where(mask, truth, 0.0), mask.astype(np.float64), long)


def _fit_pooled(cells: _Cells, *, rounds: int = 50, tolerance: float = 1e-4) -> tuple[Floats, float]:
    """One (log scale, bias), (2,), and the length, for all cells together: the starting point of the policies."""
    long = np.broadcast_to(cells.long, cells.logits.shape)
    logits, labels, weights, long = (
        np.asarray(each).reshape(-1, 1) for each in (cells.logits, cells.labels, cells.weights, long)
    )
    pooled = _Cells(logits, labels, weights, long)
    theta = np.zeros((1, 2))
    for _ in range(rounds):
        theta, _ = _maximise(pooled, theta, np.zeros(2), CENTRE_PRIOR_SD)
        before, pooled = pooled.length, pooled.with_length(theta)
        if abs(pooled.length - before) < tolerance:
            break
    return theta[0], pooled.length


def _fit_policies(
    cells: _Cells, centre: Floats, length: float, *, rounds: int = 50, tolerance: float = 1e-4
) -> tuple[Floats, float]:
    """Posterior modes (K, 2) of the policies, and the length; centre and spread of their prior are estimated too."""
    spread = SPREAD_PRIOR_SD
    has_labels = cells.weights.sum(axis=0) > 0
    theta, cells = np.tile(centre, (len(has_labels), 1)), replace(cells, length=length)
    for _ in range(rounds):
        theta, covariance = _maximise(cells, theta, centre, spread)
        before = np.concatenate([centre, spread, [cells.length]])
        centre, spread = _update_prior(theta[has_labels], covariance[has_labels], spread)
        cells = cells.with_length(theta)
        if np.abs(np.concatenate([centre, spread, [cells.length]]) - before).max() < tolerance:
            break
    theta, _ = _maximise(cells, theta, centre, spread)
    result: Floats = np.where(has_labels[:, None], theta, centre)
    return result, cells.length


def _update_prior(theta: Floats, covariance: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Centre (2,) and spread (2,) that best explain the policies' modes (K, 2) and covariances (K, 2, 2)."""
    precision = len(theta) / spread**2
    centre = precision * theta.mean(axis=0) / (precision + 1.0 / CENTRE_PRIOR_SD**2)
    scatter = ((theta - centre) ** 2 + np.diagonal(covariance, axis1=1, axis2=2)).sum(axis=0)
    variance = (SPREAD_PRIOR_WEIGHT * SPREAD_PRIOR_SD**2 + scatter) / (SPREAD_PRIOR_WEIGHT + len(theta))
    return centre, np.asarray(np.sqrt(variance), dtype=np.float64)


def _maximise(cells: _Cells, start: Floats, centre: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Posterior modes (K, 2) and covariances (K, 2, 2) of the policies, from a Laplace approximation at the modes."""
    precision = 1.0 / spread**2

    last: dict[bytes, tuple[Floats, Floats, Floats]] = {}

    def evaluate(theta: Floats) -> tuple[Floats, Floats, Floats]:
        # The search asks for value, gradient and curvature of one place apart.
        key = theta.tobytes()
        if key not in last:
            last.clear()
            last[key] = cells.evaluate(theta)
        return last[key]

    def objective(flat: Floats) -> tuple[float, Floats]:
        theta = flat.reshape(-1, 2)
        penalty = 0.5 * (precision * (theta - centre) ** 2).sum(axis=1)
        loss, slope, _ = evaluate(theta)
        return float((loss + penalty).sum()), (slope + precision * (theta - centre)).ravel()

    def information(theta: Floats) -> Floats:
        return np.asarray(evaluate(theta)[2] + np.diag(precision))

    # The policies' objectives are separate: their sum has the same minima. Rounding of the sum may stop the search before
    # its gradient is quite so small.
    found = minimize(
        objective,
        start.ravel(),
        jac=True,
        hess=lambda flat: block_diag(*information(flat.reshape(-1, 2))),
        method="trust-ncg",
        options={"gtol": 1e-6},
    )
    theta = found.x.reshape(-1, 2)
    return theta, np.asarray(np.linalg.inv(information(theta)), dtype=np.float64)
