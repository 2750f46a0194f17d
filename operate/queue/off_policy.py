"""What another queue (or any other choice) would have found, from the log of this one, before it goes live.

Inverse propensity (IPS), self-normalised (SNIPS; Swaminathan and Joachims 2015) and doubly robust (DR; Dudik et al. 2014)
estimates. Each states its mean weight, which is near 1 if the logged probabilities are right, and its effective sample size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from ..monitor.eprocess import betting_interval
from ..monitor.estimates import NoSupport

Floats = NDArray[np.float64]

_LEAST_EFFECTIVE = 20.0


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a policy a decision.

    :param anytime: a confidence sequence: true at all sizes of the log at once.
    """

    ips: float
    ips_interval: tuple[float, float]
    snips: float
    dr: float | None
    dr_interval: tuple[float, float] | None
    anytime: tuple[float, float]
    mean_weight: float
    effective: float
    logged: int


def off_policy(
    reward: Floats,
    logged: Floats,
    target: Floats,
    *,
    predicted: Floats | None = None,
    predicted_target: Floats | None = None,
    most: float = 1.0,
    alpha: float = 0.05,
    outside: float = 0.0,
) -> Value:
    """Value of a target policy from a log.

    :param reward: (log) of the choice that was made, in [0, most].
    :param logged: (log) probability with which the logging policy made it.
    :param target: (log) probability with which the target policy makes it.
    :param predicted: (log) a model's reward for the choice made; `predicted_target`: its mean over the target's choices.
    :param outside: share of the target's choices that the logging policy never makes.
    :raises NoSupport: if the log cannot tell: choices it never makes, probabilities of 0, a mean weight far from 1, or too few
        decisions that count.
    """
    reward, logged, target = (np.asarray(each, float) for each in (reward, logged, target))
    if outside > 0.01:
        raise NoSupport(
            f"the target makes {100 * outside:.1f} % of its choices where the log never does: the log cannot say what they "
            "are worth; let the live queue explore there first"
        )
    if not len(reward) or (logged <= 0).any():
        raise NoSupport(
            "the log has choices with a logged probability of 0; they cannot have been made by it"
        )
    weight = target / logged
    effective = float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0
    mean_weight = float(weight.mean())
    if effective < _LEAST_EFFECTIVE:
        raise NoSupport(
            f"an effective size of {effective:.0f} is too small (at least {_LEAST_EFFECTIVE:.0f}): the two policies hardly "
            "make the same choices"
        )
    error = float(weight.std(ddof=1) / np.sqrt(len(weight)))
    if abs(mean_weight - 1) > max(5 * error, 0.1):
        raise NoSupport(
            f"the mean weight is {mean_weight:.2f} ± {error:.2f}, not 1: the probabilities are not those the choices were "
            "made with, or the target chooses where the log never does"
        )
    gains = weight * reward
    dr = dr_interval = None
    if predicted is not None and predicted_target is not None:
        corrected = predicted_target + weight * (reward - predicted)
        dr, dr_interval = float(corrected.mean()), _interval(corrected, alpha)
    return Value(
        float(gains.mean()),
        _interval(gains, alpha),
        float(gains.sum() / weight.sum()),
        dr,
        dr_interval,
        _anytime(gains, float(weight.max()) * most, alpha),
        mean_weight,
        effective,
        len(reward),
    )


def _interval(values: Floats, alpha: float) -> tuple[float, float]:
    half = float(norm.ppf(1 - alpha / 2) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def _anytime(gains: Floats, largest: float, alpha: float) -> tuple[float, float]:
    low, high = betting_interval(gains / largest, alpha)
    return low * largest, high * largest


def queue_value(
    reward: Floats,
    looked: NDArray[np.bool_],
    logged: Floats,
    target: Floats,
    predicted: Floats,
    alpha: float = 0.05,
) -> Value:
    """Violations (or harm) a decision that another queue would find.

    A queue chooses each decision or not, with a probability for each; a decision not chosen finds nothing.

    :param reward: (decisions) what a look found; only read where `looked`.
    :param logged: (decisions) inclusion probability in the log; `target`: in the other queue.
    :param predicted: (decisions) what a look is expected to find, in [0, 1].
    :raises NoSupport: as `off_policy`; also where the other queue looks at what this one never did.
    """
    logged, target = np.asarray(logged, float), np.asarray(target, float)
    blind = (logged <= 0) & (target > 0)
    outside = float(target[blind].sum() / max(target.sum(), 1e-12))
    if outside > 0.01 or (logged[looked] <= 0).any():
        raise NoSupport(
            f"the other queue makes {100 * outside:.1f} % of its looks where this one never looked, so that the log cannot say "
            "what they find"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(looked, target / np.where(logged > 0, logged, 1.0), 0.0)
    gains = weight * np.where(looked, reward, 0.0)
    corrected = target * predicted + weight * np.where(looked, reward - predicted, 0.0)
    total = float(weight.sum())
    effective = total**2 / float((weight**2).sum()) if total else 0.0
    if effective < _LEAST_EFFECTIVE:
        raise NoSupport(f"an effective size of {effective:.0f} looks is too small")
    mean_weight = total / max(float(target.sum()), 1e-12)
    spread = np.sqrt(float((target**2 * (1 - logged) / np.where(logged > 0, logged, 1.0)).sum()))
    if abs(mean_weight - 1) > max(5 * spread / max(float(target.sum()), 1e-12), 0.1):
        raise NoSupport(f"the mean weight is {mean_weight:.2f}, not 1: looks are missing from the log")
    return Value(
        float(gains.mean()),
        _interval(gains, alpha),
        float(gains.sum() / total * target.mean()),
        float(corrected.mean()),
        _interval(corrected, alpha),
        _anytime(gains, max(float((target / np.where(logged > 0, logged, 1.0)).max()), 1.0), alpha),
        mean_weight,
        effective,
        int(np.sum(looked)),
    )
