"""What reviewers see next: expected harm first, with a share for what teaches most and a share at random.

Every decision gets a probability of being looked at (Poisson sampling), which is logged, so that estimates from the queue and
the evaluation of another queue are possible at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.errors import SettingsError

Floats = NDArray[np.float64]

SEVERITY_WEIGHTS: Mapping[str, float] = {"prohibited": 3.0, "restricted": 1.0}


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How a day's looks are spent.

    :param looks: expected looks a day.
    :param exploit: share by expected harm; `inform`: share by uncertainty; the rest is uniform.
    """

    looks: float = 200.0
    exploit: float = 0.8
    inform: float = 0.1

    def __post_init__(self) -> None:
        if not self.looks > 0:
            raise SettingsError(f"looks is {self.looks}; it must be positive")
        if min(self.exploit, self.inform) < 0 or not self.exploit + self.inform < 1:
            raise SettingsError(
                f"exploit {self.exploit} and inform {self.inform}: their sum must be below 1, so that everything may be "
                "looked at"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Decisions that wait for a look.

    :param probabilities: (decisions, policies) calibrated.
    :param severity: (policies) weight of a violation.
    :param exposure: (decisions) what is at stake, such as monthly volume; 1 where it is not known.
    """

    probabilities: Floats
    severity: Floats
    exposure: Floats

    def harm(self, offsets: Floats | None = None) -> Floats:
        """(decisions) severity x exposure x probability, of the worst policy.

        :param offsets: (policies) added to the logits, as `thompson_offsets` draws them.
        """
        chances = self.probabilities
        if offsets is not None:
            clipped = np.clip(chances, 1e-9, 1 - 1e-9)
            chances = 1 / (1 + np.exp(-(np.log(clipped) - np.log1p(-clipped) + offsets)))
        return np.asarray((chances * self.severity).max(1, initial=0.0) * self.exposure)

    def uncertainty(self) -> Floats:
        """(decisions) the largest variance of a label over the policies: what a look teaches."""
        return np.asarray((self.probabilities * (1 - self.probabilities)).max(1, initial=0.0))


def inclusion_probabilities(
    candidates: Candidates, settings: QueueSettings, offsets: Floats | None = None
) -> Floats:
    """(decisions) probability of a look: harm takes the top, softened at the edge; the rest is proportional.

    The sum is about `settings.looks`, or all decisions where there are fewer.
    """
    count = len(candidates.exposure)
    if count <= settings.looks:
        return np.ones(count)
    uniform = (1 - settings.exploit - settings.inform) * settings.looks / count
    top = _top(candidates.harm(offsets), settings.exploit * settings.looks)
    inform = proportional(candidates.uncertainty(), settings.inform * settings.looks)
    chosen = 1 - (1 - top) * (1 - inform) * (1 - uniform)
    # What the parts choose twice is spent on the others.
    room = settings.looks - chosen.sum()
    if room > 0:
        chosen = chosen + proportional((1 - chosen) * (candidates.harm(offsets) + 1e-12), room) * (1 - chosen)
    return np.asarray(np.clip(chosen, uniform, 1.0))


def _top(scores: Floats, looks: float) -> Floats:
    """Nearly 1 for the largest `looks` scores and nearly 0 below; within a tenth of them, in between."""
    order = np.empty(len(scores))
    order[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    width = max(0.05 * looks, 0.5)
    share = 1 / (1 + np.exp(np.clip((order + 0.5 - looks) / width, -50, 50)))
    return np.asarray(share * min(looks / max(share.sum(), 1e-12), 1.0))


def proportional(sizes: Floats, looks: float) -> Floats:
    """Inclusion probabilities proportional to `sizes` with the sum `looks`, those that would pass 1 cut there."""
    sizes = np.maximum(np.asarray(sizes, float), 0.0)
    if not sizes.any():
        return np.full(len(sizes), min(looks / max(len(sizes), 1), 1.0))
    full = np.zeros(len(sizes), bool)
    result = np.zeros(len(sizes))
    for _ in range(len(sizes) + 1):
        rest = sizes[~full].sum()
        if rest <= 0:
            break
        result = np.where(full, 1.0, sizes * max(looks - full.sum(), 0.0) / rest)
        grown = (result >= 1.0) & ~full
        if not grown.any():
            break
        full |= grown
    return np.asarray(np.minimum(np.where(full, 1.0, result), 1.0))


def poisson_sample(probabilities: Floats, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Which decisions are looked at: an independent coin for each."""
    return np.asarray(generator.random(len(probabilities)) < probabilities)


def thompson_offsets(
    expected: Floats, found: Floats, generator: np.random.Generator, *, prior: float = 0.5
) -> Floats:
    """(policies) offsets of the logits, drawn from what the looks so far say about each policy's calibration.

    A normal posterior: prior around 0 with standard deviation `prior`; the logs of found over expected violations count with the
    violations found. A policy whose probabilities are too low is looked at more, and one that is hardly known now and then.

    :param expected: (policies) sum of the probabilities of the decisions looked at, weighted by 1 / inclusion probability.
    :param found: (policies) weighted violations among them.
    """
    information = np.minimum(expected, found + 1.0)
    observed = np.log((found + 0.5) / (expected + 0.5))
    precision = 1 / prior**2 + information
    mean = information * observed / precision
    return np.asarray(generator.normal(mean, 1 / np.sqrt(precision)))


def severity_weights(severities: Sequence[str]) -> Floats:
    """Weights of severities; one that is not known counts 1."""
    return np.array([SEVERITY_WEIGHTS.get(severity, 1.0) for severity in severities])
