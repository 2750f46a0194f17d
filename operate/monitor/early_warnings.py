"""Warnings without labels: what the probabilities expect, label shift, and changes of what comes in. Never certificates.

Label shift by expectation maximisation: Saerens, Latinne and Decaestecker 2002. Change points: two-sample tests of each day
against the reference days, by an e-process that may be looked at every day.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.errors import SettingsError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Expected:
    """Precision and recall of a threshold if the calibrated probabilities were right."""

    precision: float | None
    recall: float | None
    flagged: int
    violating: float


def expected_figures(probabilities: Floats, threshold: float | None) -> Expected:
    """Sums of probabilities: of the flagged over their number, and over all.

    :param threshold: None where the policy never blocks.
    """
    flagged = np.zeros(len(probabilities), bool) if threshold is None else probabilities >= threshold
    mass, total = float(probabilities[flagged].sum()), float(probabilities.sum())
    count = int(flagged.sum())
    return Expected(mass / count if count else None, mass / total if total else None, count, total)


def label_shift(probabilities: Floats, trained: float, *, rounds: int = 10_000) -> float:
    """The share of violating records now, from probabilities stated for the share `trained`.

    Right only if violating texts look as before and there are just more or fewer of them.

    :param probabilities: (records) calibrated for `trained`.
    :raises SettingsError: if `trained` is not between 0 and 1.
    """
    if not 0.0 < trained < 1.0:
        raise SettingsError(f"the share that the probabilities are stated for is {trained}; between 0 and 1")
    if not len(probabilities):
        raise SettingsError("label shift needs probabilities")
    share = float(trained)
    for _ in range(rounds):
        violating = probabilities * (share / trained)
        ordinary = (1 - probabilities) * ((1 - share) / (1 - trained))
        following = float((violating / np.maximum(violating + ordinary, 1e-300)).mean())
        if abs(following - share) < 1e-9:
            return following
        share = following
    return share


@dataclass(frozen=True, slots=True)
class Drift:
    """A quantity that left its reference days.

    :param began: the day from which the evidence grew.
    :param noticed: the day at which it was enough.
    :param examples: decision ids of that time that show it.
    """

    quantity: str
    before: float
    now: float
    began: str
    noticed: str
    examples: tuple[str, ...]


def drift(
    quantity: str,
    days: Sequence[str],
    values: Floats,
    ids: Sequence[str],
    *,
    reference: int = 7,
    alpha: float = 0.01,
    least: float = 0.05,
) -> Drift | None:
    """Whether a quantity left what it was on the first `reference` days.

    Values become yes or no by the median of the reference (shares stay as they are), and an e-process with both directions
    watches the share from then on, around the reference's own uncertainty.

    :param days: day of each decision, in order; `values` and `ids` of the same length.
    :param least: differences of the share up to this are no drift.
    """
    names = sorted(set(days))
    if len(names) <= reference:
        return None
    day = np.searchsorted(np.array(names), np.array(days))
    values = np.asarray(values, float)
    known = np.isfinite(values)
    first = values[(day < reference) & known]
    if len(first) < 50:
        return None
    two_valued = set(np.unique(first)) <= {0.0, 1.0}
    limit = 0.5 if two_valued else float(np.median(first))
    high = (values > limit).astype(float)
    share = float(high[(day < reference) & known].mean())
    spread = 3 * float(np.sqrt(max(share * (1 - share), 1 / len(first)) / len(first)))
    slack = max(spread, min(least, share) if two_valued else least)
    evidence = _leaving(high, day, known, reference, len(names), max(share - slack, 0), share + slack)
    reached = np.flatnonzero(evidence >= np.log(1 / alpha))
    if not reached.size:
        return None
    noticed = int(reached[0])
    began = int(np.argmin(evidence[:noticed])) + 1 if noticed else 0
    began_day = names[min(reference + began, reference + noticed)]
    later = [k for k in np.flatnonzero(known & (day >= reference + began))][:2000]
    moved = values[later].mean() - first.mean()
    order = sorted(later, key=lambda k: -values[k] if moved > 0 else values[k])
    return Drift(
        quantity,
        float(first.mean()),
        float(values[later].mean()),
        began_day,
        names[int(reference + noticed)],
        tuple(ids[int(k)] for k in order[:5]),
    )


def _leaving(
    high: Floats,
    day: NDArray[np.int64],
    known: NDArray[np.bool_],
    reference: int,
    days: int,
    low: float,
    top: float,
) -> Floats:
    """Log wealth at the end of each day after the reference, against "the share stays between low and top"."""
    wealth = np.full(4, -np.inf)
    # Bets on a clearly smaller and a clearly larger share; each is at most fair under every share in the band.
    bets = [(low, low * 0.5), (low, low * 0.85), (top, top + (1 - top) * 0.1), (top, top + (1 - top) * 0.3)]
    result = np.empty(days - reference)
    for k in range(reference, days):
        part = high[(day == k) & known]
        passed = k - reference  # bets that begin today: prior weights 30 / ((d + 30)(d + 31)) add up to 1
        wealth = np.logaddexp(wealth, np.log(30 / ((passed + 30) * (passed + 31)) / len(bets)))
        ones, zeros = float(part.sum()), float(len(part) - part.sum())
        for b, (null, bet) in enumerate(bets):
            if 0.0 < null < 1.0 and 0.0 < bet < 1.0:
                wealth[b] += ones * np.log(bet / null) + zeros * np.log((1 - bet) / (1 - null))
        result[k - reference] = np.logaddexp.reduce(wealth)
    return result
