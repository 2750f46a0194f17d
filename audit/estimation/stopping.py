"""When to stop looking, in words."""

import math
from dataclasses import dataclass

from .remaining import Remaining

LEAST_LOOKS = 50
"""Before so many decided suspects, nothing is said of stopping."""


@dataclass(frozen=True, slots=True)
class StopRule:
    """When to stop: fewer than `errors_per_minute` are still found, or surely less than `share_left` of the cells is wrong."""

    errors_per_minute: float = 0.1
    share_left: float = 0.005


def advice(
    decided: int,
    remaining: Remaining | None,
    left: str,
    upcoming: tuple[int, float, float],
    rule: StopRule,
) -> tuple[bool, str]:
    """Whether to stop, and why or why not, in words.

    :param decided: suspects decided so far.
    :param left: what is left, in words.
    :param upcoming: the next looks, the errors expected in them, the minutes they take.
    """
    looks, wrong, minutes = upcoming
    if not looks:
        return True, f"All suspects are decided. {left}"
    if decided < LEAST_LOOKS or math.isnan(minutes):
        return False, f"Go on: it takes {LEAST_LOOKS} decided suspects to say when to stop."
    if remaining and remaining.left.high < rule.share_left * remaining.cells:
        return True, f"You can stop. {left} That is under the target of {_percent(rule.share_left)}."
    found = f"the next {looks} looks should find about {wrong:.1f} errors"
    rate = wrong / minutes if minutes else math.inf
    pace = f", {rate:.2g} a minute" if minutes else ""
    if rate < rule.errors_per_minute:
        return True, f"You can stop: {found}{pace}, under the floor of {rule.errors_per_minute:g}. {left}"
    return False, f"Go on: {found}{pace}. {left}"


def left_words(remaining: Remaining | None, expected: float) -> str:
    """What is left: what suspicion expects, what the controls prove."""
    if remaining is None:
        return "How many errors are left cannot be said before control items are answered."
    left = remaining.left
    return (
        f"Left in {remaining.cells:,.0f} unseen cells: {expected:,.0f} errors by suspicion, {left.point:,.0f} "
        f"({left.low:,.0f} to {left.high:,.0f}) by random controls."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
