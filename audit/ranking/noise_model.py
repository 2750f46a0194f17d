"""How labels go wrong: a model of the slips in a record, which makes probabilities of the evidence.

A record is labelled right, or one slip was made in it: a label is spurious, one is missing, or one stands for another. Each has
a prior rate; the evidence of the cells concerned makes posteriors of them (Dawid and Skene 1979, with what the text says as
the prior of the truth, so that one annotator a record is enough). The rates of policies and of annotators are learnt from the
data and shrunk towards the common one, and which policies are taken for which likewise: a slip that is frequent is believed
sooner. The overall rates are not learnt from posteriors, which would confirm any rate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .log_likelihood_ratio import base_rates
from .scores import Cells, Floats

MISSING_RATE = 0.08
"""Missing positives for each given one, before evidence. The data bound it only from far above (near misses look like missing
labels), so it is set: the middle of what audits of multi-label data report."""

ROUNDS = 6
_SWAP_STRENGTH = 3.0
"""Slips' worth of belief that a policy is taken for another as often as for any other."""
_POLICY_STRENGTH = 10.0
_ANNOTATOR_STRENGTH = 2.0
_CELL_STRENGTH = 5.0
"""Slips' worth of belief that a policy, an annotator, an annotator on a policy errs as often as the others."""
_HARD_SHARE = 0.4
"""Share of the suspected slips that are hard texts instead: these are everyone's alike."""
_MOST_TIMES = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class Mistakes:
    """What the model of slips comes to.

    `suspicion` (N, K): probability that the given label is wrong, 0 where nothing is known. `swap` (N, K): the part of it that is
    one label standing for another. `swaps` (K, K): of slips that put row's policy for another, the share whose true one
    is the column's. `policy_factors` (K,) and `annotator_factors` (A,): slips over those expected of a common rate.
    """

    suspicion: Floats
    swap: Floats
    swaps: Floats
    policy_factors: Floats
    annotator_factors: Floats


def fit_mistakes(
    cells: Cells, evidence: Floats, *, wrong_rate: float, annotators: NDArray[np.int64] | None = None
) -> Mistakes:
    """Posterior of every slip in every record.

    :param evidence: log likelihood ratios (N, K) that the policy holds.
    :param wrong_rate: share of the given positives that are wrong, before evidence.
    :param annotators: number of each record's annotator, (N,) from 0; None: one for all.
    """
    who = np.zeros(len(evidence), dtype=np.int64) if annotators is None else annotators
    slips = _Slips(cells, evidence, wrong_rate)
    size = (int(who.max(initial=0)) + 1, evidence.shape[1])
    sizes = np.bincount(who, minlength=size[0])
    factors, policy_factors, by_annotator = np.ones(size), np.ones(size[1]), np.ones(size[0])
    expected: Floats | None = None
    for last in [False] * ROUNDS + [True]:
        suspicion, swap, counts, made = slips.posterior(factors[who] * policy_factors)
        if last:
            break
        slips.learn_swaps(counts)
        observed = np.zeros(size)
        np.add.at(observed, who, made)
        if expected is None:
            expected = observed.sum(axis=0, keepdims=True) * sizes[:, None] / max(len(who), 1)
            of_policies = observed.sum() * slips.base / slips.base.sum()
        policy_factors = _factors(observed.sum(axis=0), of_policies, 1.0, _POLICY_STRENGTH)
        # A mean of one, or they would raise the overall rate.
        policy_factors /= np.average(policy_factors, weights=of_policies + 1e-9)
        if annotators is not None:
            by_annotator = _factors(observed.sum(axis=1), expected.sum(axis=1), 1.0, _ANNOTATOR_STRENGTH)
            mean = (by_annotator * sizes).sum() / max(len(who), 1)
            by_annotator = by_annotator / mean
            factors = _factors(observed, expected, by_annotator[:, None], _CELL_STRENGTH)
    return Mistakes(suspicion, swap, slips.swaps, policy_factors, by_annotator)


def _factors(observed: Floats, expected: Floats, towards: Floats | float, strength: float) -> Floats:
    """Observed over expected slips, less the hard texts among both, shrunk (a gamma prior of that `strength`)."""
    surplus = np.maximum(observed - _HARD_SHARE * expected, 0.0)
    raw = (surplus + strength * towards) / ((1.0 - _HARD_SHARE) * expected + strength)
    return np.asarray(np.clip(raw, 1.0 / _MOST_TIMES, _MOST_TIMES))


class _Slips:
    """Likelihoods of the slips of each record, with the rates that do not change between rounds."""

    def __init__(self, cells: Cells, evidence: Floats, wrong_rate: float) -> None:
        self.positive = cells.given & cells.known
        negative = ~cells.given & cells.known
        self.base = base_rates(cells)
        self.against = np.where(self.positive, np.exp(-evidence), 0.0)
        self.towards = np.where(negative, np.exp(evidence), 0.0)
        # A wrong label on a record that must have one stands for another; where records may have none it may be spurious.
        judged = cells.known.any(axis=1)
        empty = float((judged & ~self.positive.any(axis=1)).sum() / max(judged.sum(), 1))
        self.wrong, self.spurious = wrong_rate, wrong_rate * empty
        self.missing = MISSING_RATE * self.base / (1.0 - self.base) * self._company(cells) * self.towards
        policies = len(self.base)
        self.prior = (np.ones((policies, policies)) - np.eye(policies)) / max(policies - 1, 1)
        self.swaps = self.prior

    def _company(self, cells: Cells) -> Floats:
        """How much likelier than on average a policy holds (N, 1 or K) beside another label, or without any."""
        beside = (self.positive.sum(axis=1, keepdims=True) - self.positive) > 0
        overall = max(float(self.positive.sum()) / max(int(cells.known.sum()), 1), 1e-9)
        rates = [
            float((self.positive & side).sum()) / max(int((cells.known & side).sum()), 1) / overall
            for side in (beside, ~beside)
        ]
        return np.where(beside, *rates)

    def posterior(self, factors: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Suspicion and its part by swaps (N, K), expected swaps (K, K), slips by the cell that was written or left out (N, K)."""
        swapped = factors * (self.wrong - self.spurious) * self.against
        alone = factors * self.spurious * self.against + factors * self.missing
        lost = swapped * (self.towards @ self.swaps.T)
        gained = (swapped @ self.swaps) * self.towards
        total = 1.0 + (alone + lost).sum(axis=1, keepdims=True)
        swap = (lost + gained) / total
        counts = (swapped / total).T @ self.towards * self.swaps
        return alone / total + swap, swap, counts, (alone + lost) / total

    def learn_swaps(self, counts: Floats) -> None:
        """Which policy stands for which, from expected swaps (K, K)."""
        self.swaps = (counts + _SWAP_STRENGTH * self.prior) / (
            counts.sum(axis=1, keepdims=True) + _SWAP_STRENGTH
        )
