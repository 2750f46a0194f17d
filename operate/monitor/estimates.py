"""Shares of all decisions from an audit sample with known probabilities, each with its support and its interval.

Horvitz and Thompson 1952; Hajek 1971; doubly robust (Robins et al. 1994), which with a model's prediction as control
variate is prediction-powered inference (Angelopoulos et al. 2023).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm

from ...core.errors import MerchantGuardError, SettingsError
from .eprocess import betting_interval

Floats = NDArray[np.float64]

_LEAST_SAMPLE = 20
_LEAST_EFFECTIVE = 10.0


class NoSupport(MerchantGuardError):
    """A figure is refused: what was looked at does not support it. The message says what is missing."""


@dataclass(frozen=True, slots=True)
class Support:
    """What an estimate rests on.

    :param looked: sampled units with a label.
    :param effective: effective sample size of the weights, (sum w)^2 / sum w^2.
    :param mean_weight: sum of the weights over the size of the population: near 1, or the probabilities are wrong.
    """

    looked: int
    effective: float
    mean_weight: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval, method and support."""

    value: float
    low: float
    high: float
    method: str
    support: Support


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A population of decisions of which some were sampled independently with known probabilities.

    :param probability: (units) probability with which each was sampled, above 0.
    :param looked: (units) whether it was sampled and has a label.
    :param stratum: (units) number of its stratum; strata have a probability each.
    """

    probability: Floats
    looked: NDArray[np.bool_]
    stratum: NDArray[np.int64]

    @property
    def weight(self) -> Floats:
        """(units) 1 / probability where it was looked at, else 0."""
        return np.asarray(self.looked / self.probability)

    def support(self, weight: Floats | None = None) -> Support:
        """The support of the whole, or of given weights."""
        weight = self.weight if weight is None else weight
        squares = float((weight**2).sum())
        effective = float(weight.sum()) ** 2 / squares if squares else 0.0
        return Support(int((weight > 0).sum()), effective, float(weight.sum()) / max(len(weight), 1))

    def check(self) -> None:
        """Refuse what cannot be estimated.

        :raises NoSupport: if a probability is 0, a stratum has no label, too few were looked at, or the weights do not add
            up to the population.
        """
        if not len(self.probability) or (self.probability <= 0).any() or (self.probability > 1).any():
            raise NoSupport(
                "decisions without an audit probability above 0 cannot be represented by the sample; switch the audit "
                "sample on for all strata"
            )
        empty = [int(s) for s in np.unique(self.stratum) if not self.looked[self.stratum == s].any()]
        if empty:
            raise NoSupport(
                f"strata {empty} have no audited decision yet; wait for labels or raise the budget"
            )
        support = self.support()
        if support.looked < _LEAST_SAMPLE or support.effective < _LEAST_EFFECTIVE:
            raise NoSupport(
                f"{support.looked} audited decisions with an effective size of {support.effective:.0f} are too few: at "
                f"least {_LEAST_SAMPLE} and {_LEAST_EFFECTIVE:.0f}"
            )
        spread = float(np.sqrt(((1 - self.probability) / self.probability).sum())) / len(self.probability)
        if abs(support.mean_weight - 1) > max(5 * spread, 0.02):
            raise NoSupport(
                f"the mean weight is {support.mean_weight:.2f}, not about 1: labels are missing, or the logged "
                "probabilities are not those the sample was drawn with"
            )


def responding(sample: Sample) -> Sample:
    """The sample with its probabilities scaled, within strata, by the share of the sampled that have labels.

    Only for labels that are missing at random; whoever calls it has checked that no more than a few are.
    """
    scaled = sample.probability.copy()
    for stratum in np.unique(sample.stratum):
        part = sample.stratum == stratum
        expected, got = float(scaled[part].sum()), int(sample.looked[part].sum())
        if got and expected > 0:
            scaled[part] = np.clip(scaled[part] * got / expected, 1e-9, 1.0)
    return Sample(scaled, sample.looked, sample.stratum)


def hajek(sample: Sample, values: Floats, alpha: float = 0.05) -> Estimate:
    """Mean of `values` (units; 0 where not looked at): sum w v / sum w, with a normal interval.

    :raises NoSupport: as `Sample.check`.
    """
    sample.check()
    weight = sample.weight
    mean = float((weight * values).sum() / weight.sum())
    variance = float(((1 - sample.probability) * weight**2 * (values - mean) ** 2).sum()) / len(weight) ** 2
    return _normal(mean, variance, alpha, "Hajek", sample.support())


def horvitz_thompson(sample: Sample, values: Floats, alpha: float = 0.05) -> Estimate:
    """Mean of `values` by sum w v / N, with a normal interval.

    :raises NoSupport: as `Sample.check`.
    """
    return doubly_robust(sample, values, np.zeros(len(values)), alpha, method="Horvitz-Thompson")


def doubly_robust(
    sample: Sample,
    values: Floats,
    predicted: Floats,
    alpha: float = 0.05,
    *,
    method: str = "doubly robust",
) -> Estimate:
    """Mean of `values` by predictions for all units, corrected by the weighted errors of those looked at.

    :param predicted: (units) calibrated probabilities; a bad model costs width, never the truth of the figure.
    :raises NoSupport: as `Sample.check`.
    """
    sample.check()
    weight, n = sample.weight, len(values)
    error = np.where(sample.looked, values - predicted, 0.0)
    mean = float(predicted.mean() + (weight * error).sum() / n)
    variance = float(((1 - sample.probability) * weight**2 * error**2).sum()) / n**2
    return _normal(mean, variance, alpha, method, sample.support())


def prediction_powered(
    predicted_labelled: Floats, labels: Floats, predicted_rest: Floats, alpha: float = 0.05
) -> tuple[float, float]:
    """Interval of a mean from few labels and many predictions (Angelopoulos et al. 2023, algorithm 1)."""
    error = labels - predicted_labelled
    centre = float(predicted_rest.mean() + error.mean())
    variance = predicted_rest.var() / len(predicted_rest) + error.var() / len(error)
    half = float(norm.ppf(1 - alpha / 2) * np.sqrt(variance))
    return centre - half, centre + half


def ratio(
    sample: Sample, above: Floats, below: Floats, alpha: float = 0.05, *, known: Floats | None = None
) -> Estimate:
    """Share sum(above) / sum(below) over the population, e.g. recall: flagged violations over violations.

    :param known: (units, 2) predictions of both, as control variates; None uses none.
    :raises NoSupport: as `Sample.check`, or if nothing looked at counts below.
    """
    sample.check()
    weight, n = sample.weight, len(above)
    weighted_below = weight * below
    if not (weighted_below > 0).any():
        raise NoSupport("no audited decision counts for the share's denominator yet")
    controls = np.zeros((n, 2)) if known is None else known
    parts = [
        float(controls[:, k].sum() + (weight * (values - controls[:, k])).sum())
        for k, values in enumerate((above, below))
    ]
    if parts[1] <= 0:
        raise NoSupport("the estimated denominator is not above 0; more audits are needed")
    value = parts[0] / parts[1]
    residual = np.where(
        sample.looked, (above - controls[:, 0]) - value * (below - controls[:, 1]), 0.0
    )  # linearised
    variance = float(((1 - sample.probability) * weight**2 * residual**2).sum()) / parts[1] ** 2
    # The population is itself a draw from the merchants to come: the share's binomial part.
    variance += max(value * (1 - value), 0.0) / max(parts[1], 1.0)
    found = _normal(value, variance, alpha, "ratio", sample.support(weighted_below))
    return Estimate(
        min(max(value, 0.0), 1.0), max(found.low, 0.0), min(found.high, 1.0), found.method, found.support
    )


def _normal(value: float, variance: float, alpha: float, method: str, support: Support) -> Estimate:
    half = float(norm.ppf(1 - alpha / 2) * np.sqrt(max(variance, 0.0)))
    return Estimate(value, value - half, value + half, method, support)


def exact_interval(hits: int, looks: int, alpha: float = 0.05) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share.

    :raises SettingsError: unless 0 <= hits <= looks.
    """
    if not 0 <= hits <= looks:
        raise SettingsError(f"{hits} of {looks} is no share")
    if looks == 0:
        return 0.0, 1.0
    low = float(beta.ppf(alpha / 2, hits, looks - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - alpha / 2, hits + 1, looks - hits)) if hits < looks else 1.0
    return low, high


def stratified_bounds(sample: Sample, values: NDArray[np.bool_], alpha: float = 0.05) -> Estimate:
    """Mean of a yes-or-no value with exact bounds: Clopper-Pearson in each stratum, alpha divided among them.

    :raises NoSupport: as `Sample.check`.
    """
    sample.check()
    strata = np.unique(sample.stratum)
    mean = low = high = 0.0
    for stratum in strata:
        part = sample.stratum == stratum
        looks, hits = int(sample.looked[part].sum()), int(values[part & sample.looked].sum())
        share, bounds = part.mean(), exact_interval(hits, looks, alpha / len(strata))
        mean += share * hits / looks
        low, high = low + share * bounds[0], high + share * bounds[1]
    return Estimate(float(mean), float(low), float(high), "exact within strata", sample.support())


def stratified_recall(
    sample: Sample, violating: NDArray[np.bool_], flagged: NDArray[np.bool_], alpha: float = 0.05
) -> Estimate:
    """Recall with exact bounds: violations among the flagged and among the others each have `stratified_bounds`.

    :raises NoSupport: as `Sample.check`, or if no violation was found.
    """
    found = stratified_bounds(sample, violating & flagged, alpha / 2)
    missed = stratified_bounds(sample, violating & ~flagged, alpha / 2)
    if found.value + missed.value == 0:
        raise NoSupport("no audited decision violates this policy yet")
    low = found.low / (found.low + missed.high) if found.low + missed.high else 0.0
    high = found.high / (found.high + missed.low) if found.high + missed.low else 1.0
    value = found.value / (found.value + missed.value)
    support = sample.support(sample.weight * violating)
    return Estimate(value, low, high, "exact within strata", support)


def betting_mean(sample: Sample, values: Floats, predicted: Floats, alpha: float = 0.05) -> Estimate:
    """Mean by the doubly robust values of all units in their order, with a betting interval: true at any sample size.

    :raises NoSupport: as `Sample.check`.
    """
    sample.check()
    centre = doubly_robust(sample, values, predicted, alpha)
    corrected = predicted + sample.weight * np.where(sample.looked, values - predicted, 0.0)
    # Bounds that do not depend on the labels: the extremes that any label could give at these probabilities.
    lowest = float((predicted - predicted / sample.probability).min())
    highest = float((predicted + (1 - predicted) / sample.probability).max())
    scale = highest - lowest
    low, high = betting_interval(np.clip((corrected - lowest) / scale, 0.0, 1.0), alpha)
    return Estimate(
        centre.value,
        max(lowest + scale * low, 0.0),
        min(lowest + scale * high, 1.0),
        "betting, doubly robust",
        centre.support,
    )
