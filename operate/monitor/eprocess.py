"""Evidence that may be looked at after every audit: e-processes and confidence sequences of a precision.

An e-process is a bet whose wealth, under the hypothesis bet against, is at most 1 on average whenever one stops. Wealth of
1/alpha therefore refutes the hypothesis at level alpha, however often it was looked at (Ville's inequality). Sources: Shafer
2021, "Testing by betting"; Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting"; Wang and
Ramdas 2022, "False discovery rate control with e-values".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc, betaincc, betaln, xlogy

from ...core.errors import SettingsError

Floats = NDArray[np.float64]

_DROPS = (0.05, 0.15)
_DROP_WEIGHTS = (2 / 3, 1 / 3)
_PATIENCE = 200
"""Half of the wealth kept for restarts is bet within so many audits; the rest waits for later drops."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Errors of the reviewers that remain after second looks, measured by gold items or double reviews.

    :param false_error: largest probability that a right block is judged wrong; an alarm allows for it.
    :param missed_error: largest probability that a wrong block is judged right; a certificate allows for it.
    """

    false_error: float = 0.0
    missed_error: float = 0.0

    def __post_init__(self) -> None:
        for name in ("false_error", "missed_error"):
            if not 0.0 <= getattr(self, name) < 0.5:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 0.5")


NO_NOISE = Noise()


def certificate_evidence(right: NDArray[np.int64], wrong: NDArray[np.int64], target: float) -> Floats:
    """Log wealth against "precision <= target" after `right` and `wrong` audits (any shape).

    The uniform mixture over all precisions above the target: a ratio of incomplete beta functions.
    """
    s, f = np.asarray(right, float), np.asarray(wrong, float)
    with np.errstate(divide="ignore"):
        mass = betaln(s + 1, f + 1) + np.log(betaincc(s + 1, f + 1, target)) - np.log1p(-target)
    return np.asarray(mass - xlogy(s, target) - xlogy(f, 1 - target))


def _drop_evidence(s: Floats, f: Floats, target: float) -> Floats:
    """The same against "precision >= target", without restarts."""
    with np.errstate(divide="ignore"):
        mass = betaln(s + 1, f + 1) + np.log(betainc(s + 1, f + 1, target)) - np.log(target)
    return np.asarray(mass - xlogy(s, target) - xlogy(f, 1 - target))


def alarm_evidence(right: NDArray[np.bool_], target: float) -> Floats:
    """Log wealth against "precision >= target" after each audit.

    Half of the wealth is the uniform mixture over all precisions below the target, from the first audit on. It loses
    while all goes well, and then finds a later drop late; the other half therefore bets on drops of 5 and 15 points that begin
    at audit k, with prior weight c / ((k + c)(k + c + 1)). The sum over all k costs one multiplication an audit.

    :param right: (..., audits) whether each audited block was right, in their order.
    """
    right = np.asarray(right, bool)
    count = np.arange(1, right.shape[-1] + 1)
    s = np.cumsum(right, -1).astype(float)
    steady = _drop_evidence(s, count - s, target)
    late = np.full(right.shape, -np.inf)
    for drop, share in zip(_DROPS, _DROP_WEIGHTS, strict=True):
        late = np.logaddexp(late, np.log(share) + _late_bets(right, target, max(target - drop, target / 2)))
    waiting = np.log(_PATIENCE / (count + _PATIENCE))
    return np.asarray(np.logaddexp(steady, np.logaddexp(late, waiting)) - np.log(2))


def _late_bets(right: NDArray[np.bool_], target: float, precision: float) -> Floats:
    """Log wealth of bets on a precision that begins at audit k, summed over k by the prior weights."""
    c = _PATIENCE
    step = np.where(right, np.log(precision / target), np.log((1 - precision) / (1 - target)))
    wealth: Floats = np.full(right.shape[:-1], -np.inf)
    log_wealth: Floats = np.empty(right.shape)
    for k in range(right.shape[-1]):
        wealth = np.logaddexp(wealth, np.log(c / ((k + c) * (k + c + 1)))) + np.take(step, k, axis=-1)
        log_wealth[..., k] = wealth
    return log_wealth


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionEvidence:
    """The two processes of a precision after each audit (shape: audits), in log wealth.

    :param certificate: against "precision <= target", overdue audits counted as errors.
    :param alarm: against "precision >= target", overdue audits counted as right.
    """

    target: float
    certificate: Floats
    alarm: Floats

    def first(self, kind: str, alpha: float) -> int | None:
        """After which audit (from 1) "certificate" or "alarm" had wealth 1/alpha; None where it never had."""
        reached = np.flatnonzero(getattr(self, kind) >= -np.log(alpha))
        return int(reached[0]) + 1 if reached.size else None

    def wealth(self, kind: str) -> float:
        """The wealth now, for `e_bh`; finite, at most e to the power of 600.

        Not the largest so far, whose mean is not bounded: that one may only be held against a fixed limit (`first`).
        """
        log_wealth = getattr(self, kind)
        return float(np.exp(min(log_wealth[-1], 600.0))) if log_wealth.size else 1.0


def precision_evidence(
    right: Sequence[bool | None], target: float, noise: Noise = NO_NOISE
) -> PrecisionEvidence:
    """Both processes over audits in the order of their decisions.

    :param right: whether each block was right; None for an audit that is overdue.
    :raises SettingsError: if the target is not between 0 and 1, or the noise leaves nothing to certify.
    """
    if not 0.0 < target < 1.0:
        raise SettingsError(f"target is {target}; it must be between 0 and 1")
    sure = np.array([value is True for value in right], bool)
    perhaps = np.array([value is not False for value in right], bool)
    count = np.arange(1, len(sure) + 1)
    s = np.cumsum(sure)
    # What is observed at a precision of exactly the target, in the worst case for each claim.
    certified_at = target + (1 - target) * noise.missed_error
    alarm_at = target * (1 - noise.false_error)
    return PrecisionEvidence(
        target, certificate_evidence(s, count - s, certified_at), alarm_evidence(perhaps, alarm_at)
    )


def confidence_sequence(right: int, wrong: int, alpha: float = 0.05) -> tuple[float, float]:
    """Interval of a Bernoulli mean that holds at all times at once with confidence 1 - alpha.

    The means against which the uniform mixture over [0, 1] has not won 1/alpha (Robbins 1970).
    """
    if right + wrong == 0:
        return 0.0, 1.0
    limit = -np.log(alpha)
    top = float(betaln(right + 1, wrong + 1))

    def excess(mean: float) -> float:
        return top - float(xlogy(right, mean) + xlogy(wrong, 1 - mean)) - limit

    middle = right / (right + wrong)
    tiny = 1e-12
    low = float(brentq(excess, tiny, middle)) if right and excess(tiny) > 0 else 0.0
    high = float(brentq(excess, middle, 1 - tiny)) if wrong and excess(1 - tiny) > 0 else 1.0
    return low, high


def proven(evidence: Mapping[str, PrecisionEvidence], kind: str, alpha: float) -> set[str]:
    """The policies whose claim ("certificate" or "alarm") is proven now.

    Those whose wealth ever passed K / alpha, which stays (Ville, Bonferroni), and those that e-BH rejects by the wealth now. If
    no claim holds, the chance that any is ever named is at most alpha: either way the mean wealth of the K processes, an
    e-process itself, has passed 1 / alpha. Of what e-BH alone names, at most a share of alpha is expected to be false.
    """
    stays = {name for name, each in evidence.items() if each.first(kind, alpha / len(evidence)) is not None}
    return stays | set(e_bh({name: each.wealth(kind) for name, each in evidence.items()}, alpha))


def e_bh(wealth: Mapping[str, float], alpha: float) -> tuple[str, ...]:
    """The hypotheses that e-Benjamini-Hochberg rejects: a false discovery rate of at most alpha under any dependence.

    :param wealth: e-values, such as the wealth of e-processes at the time of looking.
    """
    ranked = sorted(wealth, key=lambda name: -wealth[name])
    kept = [
        k for k in range(1, len(ranked) + 1) if wealth[ranked[k - 1]] >= len(ranked) / (k * alpha)
    ]  # e-values above the line K / (k alpha)
    return tuple(ranked[: kept[-1]]) if kept else ()


def _bets(values: Floats, means: Floats, side: int) -> Floats:
    """Log wealth after each value (values, means), betting that the mean lies above (side 1) or below (-1).

    The bet on each value is chosen from those before it: the predictable plug-in of Waudby-Smith and Ramdas.
    """
    count = np.arange(1, len(values) + 1)
    average = (0.5 + np.cumsum(values)) / (count + 1)
    variance = (0.25 + np.cumsum((values - average) ** 2)) / (count + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    size = np.sqrt(2 * np.log(40) / (before * count * np.log1p(count)))  # no horizon: it may go on for ever
    room = means if side > 0 else 1 - means
    bet = np.minimum(size[:, None], 0.5 / np.maximum(room, 1e-9))
    return np.asarray(np.cumsum(np.log1p(side * bet * (values[:, None] - means)), axis=0))


def betting_interval(values: Floats, alpha: float = 0.05) -> tuple[float, float]:
    """Interval for the mean of values in [0, 1] with confidence 1 - alpha, by bets on both sides.

    A mean is left out when the bets against it ever won 2/alpha; their wealth falls as the mean approaches the values, so
    that bisection finds the ends.

    :param values: in an order that does not depend on them; it holds also if one stopped when it pleased.
    :raises SettingsError: if a value lies outside [0, 1].
    """
    values = np.asarray(values, float)
    if not values.size:
        return 0.0, 1.0
    if values.min() < 0.0 or values.max() > 1.0:
        raise SettingsError("betting_interval needs values between 0 and 1; scale them first")
    return _end(values, 1, alpha), _end(values, -1, alpha)


def _end(values: Floats, side: int, alpha: float) -> float:
    """The outermost mean on one side that the bets leave; rounded outwards."""
    limit = np.log(2 / alpha)
    outer, inner = (0.0, 1.0) if side > 0 else (1.0, 0.0)
    if _bets(values, np.array([outer]), side).max() < limit:
        return outer
    for _ in range(40):
        middle = (outer + inner) / 2
        if _bets(values, np.array([middle]), side).max() < limit:
            inner = middle
        else:
            outer = middle
    return outer


def calibration_wealth(probabilities: Floats, labels: NDArray[np.bool_]) -> float:
    """Wealth after all audits (1 before the first) against "each label holds with its stated probability".

    The coin depends on the decision alone, so that among the audited the stated probabilities are right if they are right at
    all, without weights. Bets that the logits are off by 0.7 or 1.5 either way, or too extreme or too cautious, in equal parts.
    """
    p = np.clip(np.asarray(probabilities, float), 1e-6, 1 - 1e-6)
    y = np.asarray(labels, bool)
    logit = np.log(p) - np.log1p(-p)
    bets = [logit + shift for shift in (-1.5, -0.7, 0.7, 1.5)] + [logit * slope for slope in (0.6, 1.6)]
    log_wealth = []
    for bet in bets:
        q = 1 / (1 + np.exp(-np.clip(bet, -30, 30)))
        steps = np.where(y, np.log(q / p), np.log1p(-q) - np.log1p(-p))
        log_wealth.append(float(steps.sum()))
    mixed = float(np.logaddexp.reduce(log_wealth)) - np.log(len(bets))
    return float(np.exp(min(mixed, 600.0)))
