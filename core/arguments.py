"""Types for argparse options: their errors say what the option takes, not the name of a function."""

import argparse
import math
from collections.abc import Callable


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """The type of a whole number from `low` to `high`, both included; without `high` there is no upper limit."""
    if high is not None:
        what = f"a whole number from {low:,} to {high:,}"
    else:
        what = "a positive whole number" if low == 1 else f"a whole number, {low:,} or more"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return parse


count = whole_number(0)
positive_count = whole_number(1)
port = whole_number(0, 65535)


def positive_counts(text: str) -> list[int]:
    """Positive whole numbers separated by commas, sorted, each once."""
    return sorted({positive_count(part) for part in text.split(",")})


def positive_number(text: str) -> float:
    """A finite number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def open_share(text: str) -> float:
    """A number between 0 and 1, neither of them included."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
