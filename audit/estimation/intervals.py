"""Intervals for shares and counts that keep their coverage when errors are rare."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...core.extras import require

LEVEL = 0.9
"""Confidence of every interval of an audit."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the ends of its interval."""

    point: float
    low: float
    high: float


def share_interval(count: int, of: int, *, level: float = LEVEL) -> Interval:
    """Share `count` / `of` with Jeffreys' interval (Brown, Cai & DasGupta 2001); for 0 of 0, NaN within 0 to 1.

    With no success the lower end is 0, with no failure the upper end is 1, as the authors advise.
    """
    if not of:
        return Interval(math.nan, 0.0, 1.0)
    special = require("scipy.special", "audit")
    tail = (1.0 - level) / 2.0
    low = 0.0 if count == 0 else float(special.betaincinv(count + 0.5, of - count + 0.5, tail))
    high = 1.0 if count == of else float(special.betaincinv(count + 0.5, of - count + 0.5, 1.0 - tail))
    return Interval(count / of, low, high)


@dataclass(frozen=True, slots=True)
class Confidence:
    """Draws from the lower and the upper confidence distribution of one figure, each (draws,).

    Figures of independent samples are combined draw by draw: lower with lower ends where the result increases with them, with
    upper ends where it decreases (melded intervals; Fay, Proschan & Brittain 2015).
    """

    point: float
    low: Floats
    high: Floats

    def interval(self, level: float = LEVEL) -> Interval:
        """The two-sided interval."""
        tail = (1.0 - level) / 2.0
        low, high = float(np.quantile(self.low, tail)), float(np.quantile(self.high, 1.0 - tail))
        return Interval(self.point, min(low, self.point), max(high, self.point))


def share_confidence(count: int, of: int, generator: np.random.Generator, draws: int) -> Confidence:
    """Confidence distributions of a share: the betas of Clopper and Pearson (1934)."""
    low = generator.beta(count, of - count + 1, draws) if count else np.zeros(draws)
    high = generator.beta(count + 1, of - count, draws) if count < of else np.ones(draws)
    return Confidence(count / of if of else math.nan, low, high)


def weighted_count_confidence(
    weights: ArrayLike, variances: ArrayLike, largest: float, generator: np.random.Generator, draws: int
) -> Confidence:
    """Confidence distributions of a sum of weighted rare events: the gammas of Fay & Feuer (1997).

    :param weights: how many events each observed one represents.
    :param variances: what each adds to the variance of the sum.
    :param largest: the largest weight that an event could have; without any observed event it alone bounds the sum.
    """
    total, variance = float(np.sum(weights)), float(np.sum(variances))
    low = np.zeros(draws) if total <= 0.0 else _gamma(total, variance, generator, draws)
    return Confidence(total, low, _gamma(total + largest, variance + largest**2, generator, draws))


def _gamma(mean: float, variance: float, generator: np.random.Generator, draws: int) -> Floats:
    if mean <= 0.0 or variance <= 0.0:
        return np.full(draws, max(mean, 0.0))
    return generator.gamma(mean**2 / variance, variance / mean, draws)
