"""When to stop reviewing, in words."""

import math
from dataclasses import dataclass

from .remaining import Remaining

LEAST_DECIDED = 50
"""Decided suspects that are needed before any advice to stop."""


@dataclass(frozen=True, slots=True)
class StopRule:
    """When to stop: fewer than `errors_per_minute` are found, or the upper bound of wrong cells is below the share `share_left`."""

    errors_per_minute: float = 0.1
    share_left: float = 0.005


def advice(
    decided: int,
    remaining: Remaining | None,
    left: str,
    upcoming: tuple[int, float, float],
    rule: StopRule,
) -> tuple[bool, str]:
    """Whether to stop, and the reason in words.

    :param decided: suspects decided so far.
    :param left: the errors left, in words.
    :param upcoming: number of next items, errors expected in them, minutes they take.
    """
    items, wrong, minutes = upcoming
    if not items:
        return True, f"All suspects are decided. {left}"
    if decided < LEAST_DECIDED or math.isnan(minutes):
        return False, f"Keep going: advice on when to stop needs {LEAST_DECIDED} decided suspects."
    if remaining and remaining.left.high < rule.share_left * remaining.cells:
        return True, f"You can stop. {left} That is below the target of {_percent(rule.share_left)}."
    found = f"the next {items} items should contain about {wrong:.1f} errors"
    rate = wrong / minutes if minutes else math.inf
    pace = f", {rate:.2g} per minute" if minutes else ""
    if rate < rule.errors_per_minute:
        return True, f"You can stop: {found}{pace}, below the limit of {rule.errors_per_minute:g}. {left}"
    return False, f"Keep going: {found}{pace}. {left}"


def left_words(remaining: Remaining | None, expected: float) -> str:
    """The errors left: the number expected by the scan, and the estimate from random controls."""
    if remaining is None:
        return "The number of errors left is unknown until control items are answered."
    left = remaining.left
    return (
        f"Errors left in {remaining.cells:,.0f} cells not reviewed: {expected:,.0f} expected by the scan, "
        f"{left.point:,.0f} ({left.low:,.0f} to {left.high:,.0f}) estimated from random controls."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
