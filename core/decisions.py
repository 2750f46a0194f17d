"""From window logits to probabilities and decisions: shared, so that scoring decides exactly as training measured."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import RunError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Decision = Literal["clear", "review", "block"]

_ORDER: tuple[Decision, ...] = ("clear", "review", "block")
# The logarithm of 0 is not a number to calculate with.
_SMALLEST = 1e-300
# Beyond, a probability is 0 or 1 whatever is added.
_LARGEST_ODDS = 1e6


def pool(logits: Floats, scores: Floats | None) -> Floats:
    """Pool the logits of one text's windows (W, K) into its logits (K,).

    Without `scores` the maximum per policy; with `scores` (W, K) their softmax over windows weighs the
    logits, policy by policy.
    """
    if scores is None:
        return np.asarray(logits.max(axis=0), dtype=np.float32)
    weights = np.exp(scores - scores.max(axis=0))
    return np.asarray((weights * logits).sum(axis=0) / weights.sum(axis=0), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class AnyCalibration:
    """Log odds of any violation: scale * logit(1 - product(1 - p)) + bias - length * log(windows)."""

    scale: float = 1.0
    bias: float = 0.0
    length: float = 0.0


UNCHANGED = AnyCalibration()


@dataclass(frozen=True, slots=True)
class Prevalence:
    """The share of violating texts that probabilities are stated for, and that among the calibration records.

    :raises ValueError: if one of them is not inside (0, 1).
    """

    stated: float
    calibration: float

    def __post_init__(self) -> None:
        if not (0.0 < self.stated < 1.0 and 0.0 < self.calibration < 1.0):
            raise ValueError(f"prevalence {self.stated}, {self.calibration}: both must lie between 0 and 1")

    @property
    def shift(self) -> float:
        """What the stated prevalence adds to the log odds of any violation (Bayes' rule)."""
        stated, found = self.stated, self.calibration
        return math.log(stated) - math.log1p(-stated) - math.log(found) + math.log1p(-found)


@dataclass(frozen=True, slots=True, eq=False)
class Probabilities:
    """Of N texts: for each policy, float32 (N, K), and of any violation, float32 (N,), never below one of these."""

    policies: Floats
    any_violation: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How the pooled logits of a text become its probabilities.

    With w windows, p_k = sigmoid(scale_k * logit_k + bias_k - length * log(w)): the maximum over more windows is higher
    by chance alone. Any violation is calibrated by itself, as policies are not independent, and never lies below a policy.

    With a prevalence the log odds of any violation are shifted to the stated one (Bayes' rule), from a to a', and
    p'_k = p_k * a' / a, since P(k | violates, text) does not depend on how many texts violate. The assumption: only the
    share of violating merchants differs from the calibration records, not what either kind looks like.

    :param scale: (K,) > 0, float64; `bias` (K,), float64; `length` >= 0, shared, or one per policy (K,).
    :raises ValueError: if shapes or values are not so.
    """

    scale: Doubles
    bias: Doubles
    length: Doubles | float = 0.0
    any_violation: AnyCalibration = UNCHANGED
    prevalence: Prevalence | None = None

    def __post_init__(self) -> None:
        for name in ("scale", "bias", "length"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if self.scale.ndim != 1 or self.scale.shape != self.bias.shape:
            raise ValueError(
                f"scale {self.scale.shape} and bias {self.bias.shape} must hold one number per policy"
            )
        if np.shape(self.length) not in ((), self.scale.shape):
            raise ValueError(f"length {np.shape(self.length)} must be one number, or one per policy")
        some = self.any_violation
        scales, lengths = np.append(self.scale, some.scale), np.append(self.length, some.length)
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise ValueError("scale must be finite and positive")
        if not (np.isfinite(lengths).all() and (lengths >= 0).all()):
            raise ValueError("length must be finite and not negative")
        if not np.isfinite(np.append(self.bias, some.bias)).all():
            raise ValueError("bias must be finite")

    def probabilities(self, logits: ArrayLike, windows: ArrayLike | None = None) -> Probabilities:
        """Probabilities of logits (N, K), in the order of the policies.

        :param windows: (N,) windows of each text; None stands for one each.
        :raises ValueError: if there is not one column per policy.
        """
        # In C order a row is summed in the same order as a single text: training and scoring agree to the bit.
        values = np.asarray(logits, dtype=np.float64, order="C")
        if values.ndim != 2 or values.shape[1] != len(self.scale):
            raise ValueError(f"logits have shape {values.shape}; expected (N, {len(self.scale)})")
        counts = np.ones(len(values)) if windows is None else np.asarray(windows, dtype=np.float64)
        long = np.log(counts)
        with np.errstate(over="ignore"):
            odds = values * self.scale + self.bias - self.length * long[:, None]
            odds = np.clip(odds, -_LARGEST_ODDS, _LARGEST_ODDS)
            some = self.any_violation
            whole = some.scale * independent_log_odds(odds) + some.bias - some.length * long
        whole = np.clip(np.maximum(whole, odds.max(axis=1)), -_LARGEST_ODDS, _LARGEST_ODDS)
        policies = _sigmoid(odds)
        shifted = whole if self.prevalence is None else whole + self.prevalence.shift
        # a' / a, which is exactly 1 where nothing is shifted.
        ratio = np.exp(np.logaddexp(0.0, -whole) - np.logaddexp(0.0, -shifted))
        any_violation = _sigmoid(shifted)
        policies = np.minimum(policies * ratio[:, None], any_violation[:, None])
        return Probabilities(policies.astype(np.float32), any_violation.astype(np.float32))

    def apply(self, logits: ArrayLike, windows: ArrayLike | None = None) -> Floats:
        """The policies' probabilities, float32 (N, K), as in `probabilities`."""
        return self.probabilities(logits, windows).policies

    def to_json(self) -> dict[str, Any]:
        """JSON values, exact: `from_json` gives back the same bits."""
        stored = {name: getattr(self, name).tolist() for name in ("scale", "bias", "length")}
        prevalence = None if self.prevalence is None else asdict(self.prevalence)
        return {**stored, "any_violation": asdict(self.any_violation), "prevalence": prevalence}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Calibration":
        """Read what `to_json` wrote; what an older one lacks changes nothing.

        :raises RunError: if a field is missing or does not hold usable numbers.
        """
        try:
            prevalence = value.get("prevalence")
            return cls(
                np.array(value["scale"], dtype=np.float64),
                np.array(value["bias"], dtype=np.float64),
                np.array(value.get("length", 0.0), dtype=np.float64),
                AnyCalibration(**value.get("any_violation", {})),
                None if prevalence is None else Prevalence(**prevalence),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"the calibration cannot be read ({error}); calibrate the run again") from error

    @classmethod
    def identity(cls, policies: int) -> "Calibration":
        """The calibration that changes nothing, for `policies` policies."""
        return cls(np.ones(policies), np.zeros(policies))


def _sigmoid(odds: Doubles) -> Doubles:
    # exp takes no positive number here, so no log odds can overflow it.
    small = np.exp(-np.abs(odds))
    return np.asarray(np.where(odds >= 0, 1.0, small) / (1.0 + small))


def independent_log_odds(odds: Doubles) -> Doubles:
    """Log odds (N,) of 1 - product(1 - p), float64, from the log odds (N, K) of each p."""
    total = np.maximum(np.logaddexp(0.0, odds).sum(axis=1), _SMALLEST)
    return np.asarray(total + np.log(-np.expm1(-total)))


def any_violation(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Probability (...) that some policy is violated, of probabilities (..., K), were the policies independent.

    1 - product(1 - p), in float64. A `Calibration` gives a calibrated one.
    """
    scores = np.minimum(np.asarray(probabilities, dtype=np.float64, order="C"), 1.0 - 1e-12)
    return np.asarray(-np.expm1(np.log1p(-scores).sum(axis=-1)))


def decide(probability: float, review: float, block: float | None) -> Decision:
    """The decision on one policy; without a certified block threshold nothing is blocked."""
    if block is not None and probability >= block:
        return "block"
    return "review" if probability >= review else "clear"


def strictest(decisions: list[Decision]) -> Decision:
    """The strictest of some decisions; "clear" when there is none."""
    return max(decisions, key=_ORDER.index, default="clear")
