"""How labels go wrong: a model of the errors in a record that turns log likelihood ratios into probabilities.

A record is labelled correctly, or it has one error: a label is spurious, a label is missing, or one label stands for another.
Each kind has a prior rate; the log likelihood ratios of the cells concerned turn these into posteriors (Dawid and Skene 1979,
with the text as the prior of the truth, so that one annotator per record is enough). The rates of policies and of annotators,
and which policies are confused with which, are estimated from the data and shrunk towards the common rate. The overall rates
are not estimated from posteriors: these would confirm any rate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .log_likelihood_ratio import base_rates
from .scores import Cells, Floats

MISSING_RATE = 0.08
"""Missing positives for each given one, before any evidence. The data give only a loose upper bound (near misses look like
missing labels), so it is fixed: the middle of what audits of multi-label data report."""

ROUNDS = 6
_SWAP_STRENGTH = 3.0
"""Weight, in errors, of the prior that a policy is confused equally often with each other one."""
_POLICY_STRENGTH = 10.0
_ANNOTATOR_STRENGTH = 2.0
_CELL_STRENGTH = 5.0
"""Weight, in errors, of the prior that a policy, an annotator, an annotator on a policy errs as often as the others."""
_HARD_SHARE = 0.4
"""Share of the suspected errors that are in fact hard texts; these are the same for everybody."""
_LARGEST_FACTOR = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class NoiseEstimate:
    """The fitted noise model.

    `p_label_error` (N, K): probability that the given label is wrong, 0 in unlabelled cells. `swap` (N, K): the part of it
    where one label stands for another. `swaps` (K, K): where the row's policy is given for another, how often the true one is the
    column's. `policy_factors` (K,) and `annotator_factors` (A,): errors over those expected at a common rate.
    """

    p_label_error: Floats
    swap: Floats
    swaps: Floats
    policy_factors: Floats
    annotator_factors: Floats


def fit_noise_model(
    cells: Cells,
    ratios: Floats,
    *,
    wrong_positive_rate: float,
    annotators: NDArray[np.int64] | None = None,
) -> NoiseEstimate:
    """Posterior of every possible error in every record.

    :param ratios: log likelihood ratios (N, K) that the policy holds.
    :param wrong_positive_rate: share of the given positives that are wrong, before evidence.
    :param annotators: index of each record's annotator, (N,) from 0; None: one for all.
    """
    who = np.zeros(len(ratios), dtype=np.int64) if annotators is None else annotators
    model = NoiseModel(cells, ratios, wrong_positive_rate)
    size = (int(who.max(initial=0)) + 1, ratios.shape[1])
    sizes = np.bincount(who, minlength=size[0])
    factors, policy_factors, by_annotator = np.ones(size), np.ones(size[1]), np.ones(size[0])
    expected: Floats | None = None
    for last in [False] * ROUNDS + [True]:
        p_label_error, swap, counts, made = model.posterior(factors[who] * policy_factors)
        if last:
            break
        model.update_swaps(counts)
        observed = np.zeros(size)
        np.add.at(observed, who, made)
        if expected is None:
            expected = observed.sum(axis=0, keepdims=True) * sizes[:, None] / max(len(who), 1)
            of_policies = observed.sum() * model.base / model.base.sum()
        policy_factors = _factors(observed.sum(axis=0), of_policies, 1.0, _POLICY_STRENGTH)
        # A mean of one, otherwise they would raise the overall rate.
        policy_factors /= np.average(policy_factors, weights=of_policies + 1e-9)
        if annotators is not None:
            by_annotator = _factors(observed.sum(axis=1), expected.sum(axis=1), 1.0, _ANNOTATOR_STRENGTH)
            mean = (by_annotator * sizes).sum() / max(len(who), 1)
            by_annotator = by_annotator / mean
            factors = _factors(observed, expected, by_annotator[:, None], _CELL_STRENGTH)
    return NoiseEstimate(p_label_error, swap, model.swaps, policy_factors, by_annotator)


def _factors(observed: Floats, expected: Floats, towards: Floats | float, strength: float) -> Floats:
    """Observed over expected errors, without the hard texts among both, shrunk (a gamma prior of that `strength`)."""
    surplus = np.maximum(observed - _HARD_SHARE * expected, 0.0)
    raw = (surplus + strength * towards) / ((1.0 - _HARD_SHARE) * expected + strength)
    return np.asarray(np.clip(raw, 1.0 / _LARGEST_FACTOR, _LARGEST_FACTOR))


class NoiseModel:
    """Likelihoods of the errors of each record, with the rates that do not change between rounds."""

    def __init__(self, cells: Cells, ratios: Floats, wrong_positive_rate: float) -> None:
        self.positive = cells.given & cells.mask
        negative = ~cells.given & cells.mask
        self.base = base_rates(cells)
        self.against = np.where(self.positive, np.exp(-ratios), 0.0)
        self.towards = np.where(negative, np.exp(ratios), 0.0)
        # Where every record must have a label, a wrong one stands for another; where records may have none it may be spurious.
        labelled = cells.mask.any(axis=1)
        empty = float((labelled & ~self.positive.any(axis=1)).sum() / max(labelled.sum(), 1))
        self.wrong, self.spurious = wrong_positive_rate, wrong_positive_rate * empty
        self.missing = (
            MISSING_RATE * self.base / (1.0 - self.base) * self._co_occurrence(cells) * self.towards
        )
        policies = len(self.base)
        self.prior = (np.ones((policies, policies)) - np.eye(policies)) / max(policies - 1, 1)
        self.swaps = self.prior

    def _co_occurrence(self, cells: Cells) -> Floats:
        """How much more often than on average a policy holds (N, 1 or K) next to another label, or without any."""
        beside = (self.positive.sum(axis=1, keepdims=True) - self.positive) > 0
        overall = max(float(self.positive.sum()) / max(int(cells.mask.sum()), 1), 1e-9)
        rates = [
            float((self.positive & side).sum()) / max(int((cells.mask & side).sum()), 1) / overall
            for side in (beside, ~beside)
        ]
        return np.where(beside, *rates)

    def posterior(self, factors: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Posteriors at the rates that `factors` (N, K) scale.

        :return: probability of a label error (N, K), its part by swaps (N, K), expected swaps (K, K), and expected errors (N, K)
            by the cell where a label was given or left out.
        """
        swapped = factors * (self.wrong - self.spurious) * self.against
        alone = factors * self.spurious * self.against + factors * self.missing
        lost = swapped * (self.towards @ self.swaps.T)
        gained = (swapped @ self.swaps) * self.towards
        total = 1.0 + (alone + lost).sum(axis=1, keepdims=True)
        swap = (lost + gained) / total
        counts = (swapped / total).T @ self.towards * self.swaps
        return alone / total + swap, swap, counts, (alone + lost) / total

    def update_swaps(self, counts: Floats) -> None:
        """Estimate which policy stands for which from expected swaps (K, K)."""
        self.swaps = (counts + _SWAP_STRENGTH * self.prior) / (
            counts.sum(axis=1, keepdims=True) + _SWAP_STRENGTH
        )
