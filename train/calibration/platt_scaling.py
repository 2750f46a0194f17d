"""Calibrated probabilities from logits, by a scale and a bias per policy (Platt scaling).

A temperature alone cannot undo the shift that a weighted loss causes, so each policy has a bias too. Eight positives are
too few to fit two free numbers, so the policies share a prior: each policy's (log scale, bias) is drawn from a normal
distribution whose centre and spread are estimated from all policies together (empirical Bayes, by
expectation-maximisation with Laplace approximations; Gelman et al., Bayesian Data Analysis, chapters 5 and 13). If the
policies agree, the spread is small and they share one calibration; if they differ, each follows its own data as far as
it has any. Fixed spreads were tried: no single pair of them did well in both cases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import block_diag
from scipy.optimize import minimize
from scipy.special import expit

from ...core.decisions import calibrate
from ...core.errors import RunError
from ...core.labels import LabelMatrix

Floats = NDArray[np.float64]

# Prior of the centre: no change, give or take a factor of e and a bias of 4 (a positive weight of 50 shifts logits by
# log 50 = 3.9).
CENTRE_PRIOR_SD = np.array([1.0, 4.0])
# Prior of the spread between policies, worth SPREAD_PRIOR_WEIGHT policies of evidence.
SPREAD_PRIOR_SD = np.array([0.15, 0.3])
SPREAD_PRIOR_WEIGHT = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Probability = sigmoid(scale * logit + bias), with scale (K,) > 0 and bias (K,), float64."""

    scale: Floats
    bias: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", np.asarray(self.scale, dtype=np.float64))
        object.__setattr__(self, "bias", np.asarray(self.bias, dtype=np.float64))
        if self.scale.ndim != 1 or self.scale.shape != self.bias.shape:
            raise ValueError(
                f"scale {self.scale.shape} and bias {self.bias.shape} must hold one number per policy"
            )
        if not (np.isfinite(self.scale).all() and np.isfinite(self.bias).all() and (self.scale > 0).all()):
            raise ValueError("scale and bias must be finite, and scale positive")

    def apply(self, logits: ArrayLike) -> NDArray[np.float32]:
        """Probabilities (N, K) float32 of logits (N, K), in the order of the policies.

        :raises ValueError: if there is not one column per policy.
        """
        values = np.asarray(logits, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.scale):
            raise ValueError(f"logits have shape {values.shape}; expected (N, {len(self.scale)})")
        return calibrate(values, self.scale, self.bias)

    def to_json(self) -> dict[str, list[float]]:
        """Lists of numbers, exact: `from_json` gives back the same bits."""
        return {"scale": self.scale.tolist(), "bias": self.bias.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Calibration":
        """Read what `to_json` wrote.

        :raises RunError: if a field is missing or does not hold usable numbers.
        """
        try:
            return cls(np.array(value["scale"], dtype=np.float64), np.array(value["bias"], dtype=np.float64))
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"the calibration cannot be read ({error}); calibrate the run again") from error

    @classmethod
    def identity(cls, policies: int) -> "Calibration":
        """The calibration that changes nothing, for `policies` policies."""
        return cls(np.ones(policies), np.zeros(policies))


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Logits, labels and 0/1 weights, each (N, K); an unlabelled cell has weight 0 and logit 0."""

    logits: Floats
    labels: Floats
    weights: Floats

    def loss(self, theta: Floats) -> Floats:
        """Negative log-likelihood (K,) at theta (K, 2) = (log scale, bias)."""
        margins = np.exp(theta[:, 0]) * self.logits + theta[:, 1]
        signed = np.where(self.labels > 0, margins, -margins)
        return (self.weights * np.logaddexp(0.0, -signed)).sum(axis=0)

    def slopes(self, theta: Floats) -> tuple[Floats, Floats]:
        """Gradient (K, 2) and Fisher information (K, 2, 2) of the loss."""
        scaled = np.exp(theta[:, 0]) * self.logits
        probability = expit(scaled + theta[:, 1])
        residual = self.weights * (probability - self.labels)
        gradient = np.stack([(residual * scaled).sum(axis=0), residual.sum(axis=0)], axis=1)
        curvature = self.weights * probability * (1.0 - probability)
        mixed = (curvature * scaled).sum(axis=0)
        square = (curvature * scaled**2).sum(axis=0)
        information = np.stack([square, mixed, mixed, curvature.sum(axis=0)], axis=1).reshape(-1, 2, 2)
        return gradient, information


def fit_calibration(logits: ArrayLike, labels: LabelMatrix) -> Calibration:
    """Fit a scale and a bias per policy on pooled logits (N, K) that training never saw.

    A policy without a labelled cell gets the centre of all policies; with no labelled cell at all nothing is changed.
    There is no randomness.

    :raises ValueError: if the shapes differ or the label of a labelled cell is not 0 or 1.
    :raises RunError: if the logit of a labelled cell is not finite.
    """
    cells = _check_cells(logits, labels)
    policies = cells.logits.shape[1]
    if not cells.weights.any():
        return Calibration.identity(policies)
    theta = _fit_policies(cells, _fit_pooled(cells))
    return Calibration(np.exp(theta[:, 0]), theta[:, 1])


def _check_cells(logits: ArrayLike, labels: LabelMatrix) -> _Cells:
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
    return _Cells(np.where(mask, values, 0.0), np.where(mask, truth, 0.0), mask.astype(np.float64))


def _fit_pooled(cells: _Cells) -> Floats:
    """One (log scale, bias) for all cells together, (2,): the starting point of the policies."""
    pooled = _Cells(*(array.reshape(-1, 1) for array in (cells.logits, cells.labels, cells.weights)))
    return _maximise(pooled, np.zeros((1, 2)), np.zeros(2), CENTRE_PRIOR_SD)[0][0]


def _fit_policies(cells: _Cells, centre: Floats, *, rounds: int = 50, tolerance: float = 1e-4) -> Floats:
    """Posterior modes (K, 2) of the policies; centre and spread of their prior are estimated too."""
    spread = SPREAD_PRIOR_SD
    has_labels = cells.weights.sum(axis=0) > 0
    theta = np.tile(centre, (len(has_labels), 1))
    for _ in range(rounds):
        theta, covariance = _maximise(cells, theta, centre, spread)
        before = np.concatenate([centre, spread])
        centre, spread = _update_prior(theta[has_labels], covariance[has_labels], spread)
        if np.abs(np.concatenate([centre, spread]) - before).max() < tolerance:
            break
    theta, _ = _maximise(cells, theta, centre, spread)
    result: Floats = np.where(has_labels[:, None], theta, centre)
    return result


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

    def objective(flat: Floats) -> tuple[float, Floats]:
        theta = flat.reshape(-1, 2)
        penalty = 0.5 * (precision * (theta - centre) ** 2).sum(axis=1)
        gradient = cells.slopes(theta)[0] + precision * (theta - centre)
        return float((cells.loss(theta) + penalty).sum()), gradient.ravel()

    def information(theta: Floats) -> Floats:
        return cells.slopes(theta)[1] + np.diag(precision)

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
