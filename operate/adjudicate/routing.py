"""Which cases are asked about, in which order, and within which limits."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .case import Case


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what is asked; None is no limit.

    :param money: in the unit of the price list, over all the journal's time.
    :param a_day: questions a day (UTC).
    :param a_merchant: questions about a merchant.
    :param largest_amount: cases with more money at risk go to a person at once.
    """

    money: float | None = None
    a_day: int | None = None
    a_merchant: int | None = None
    largest_amount: float | None = None


def value_of(case: Case) -> float:
    """How much a second opinion is worth: uncertainty, and the money at risk with diminishing weight."""
    return case.uncertainty * (1.0 + math.log1p(max(case.amount, 0.0)))


def ordered(cases: Iterable[Case]) -> list[Case]:
    """Cases by their value, the highest first; ties by record and policy, so that a resumed run has the same order."""
    return sorted(cases, key=lambda case: (-value_of(case), case.record, case.policy))
