"""What to do next, in words: go on or stop, and how many errors are left."""

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
    upcoming: tuple[int, float, float],
    rule: StopRule,
) -> tuple[bool, str]:
    """Whether to stop, and what to do next in a sentence.

    :param decided: suspects decided so far.
    :param upcoming: number of next items, errors expected in them, minutes they take.
    """
    items, wrong, minutes = upcoming
    if not items:
        return True, "Stop: every label that the scan lists is checked. Apply the answers."
    if decided < LEAST_DECIDED or math.isnan(minutes):
        missing = max(LEAST_DECIDED - decided, 1)
        return False, f"Go on: after {missing} more answers there is advice on when to stop."
    if remaining and remaining.left.high < rule.share_left * remaining.cells:
        share = _percent(rule.share_left)
        return True, f"Stop: fewer labels are wrong than the target of {share}. Apply the answers."
    found = f"of the next {items} labels about {wrong:.0f} should be wrong"
    if wrong < rule.errors_per_minute * minutes:
        limit = f"{rule.errors_per_minute:g} a minute"
        return True, f"Stop: {found}, fewer than {limit}. Apply the answers."
    return False, f"Go on: {found} ({minutes:.0f} min)." if minutes >= 1 else f"Go on: {found}."


def left_words(remaining: Remaining | None, expected: float, checks: int) -> str:
    """The errors left and how far to trust the number: what the scan expects, held against the random checks.

    :param expected: errors left as the scan expects them.
    :param checks: random checks answered in cells that no queue has reached.
    """
    if remaining is None:
        return (
            "How many labels are still wrong is not known yet: it takes answers to random checks of both kinds, "
            "labels that are given and labels that are not. They come among the other items by themselves."
        )
    left = remaining.left
    start = f"About {expected:,.0f} of the {remaining.cells:,.0f} labels that nobody checked are probably still wrong."
    bounds = f"{left.low:,.0f} to {left.high:,.0f}"
    of_checks = f"The {checks:,} random check{'s' * (checks != 1)} answered so far"
    if expected < left.low:
        return (
            f"{start} {of_checks} point to more, {bounds}: the scan overlooks some kinds of error. "
            "Look at the random checks that were wrong before you stop."
        )
    if expected > left.high:
        return f"{start} {of_checks} point to fewer, {bounds}."
    if left.high > max(3.0 * expected, 10.0):
        return (
            f"{start} {of_checks} do not contradict that, but are too few to confirm it: they would allow up to "
            f"{left.high:,.0f}. Answer more of them before you rely on this number."
        )
    return f"{start} {of_checks} agree: {bounds}."


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
