"""How much people agree beyond chance: Krippendorff's alpha, with an interval."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.extras import require
from ...train.evaluation.bootstrap import cluster_interval
from .intervals import LEVEL, Interval

SAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class Agreement:
    """Alpha (Krippendorff 2004, nominal): 1 is perfect, 0 is chance; NaN if everybody always gives the same answer.

    `cells`: those with two or more votes; `same`: those of them with equal votes.
    """

    alpha: Interval
    cells: int
    same: int


def agreement(votes: Iterable[Sequence[bool]], *, seed: int = 0) -> Agreement:
    """Agreement of the votes on each cell; cells with one vote are ignored.

    The interval is the percentile bootstrap over cells.
    """
    counts = np.array([(len(cell) - sum(cell), sum(cell)) for cell in votes if len(cell) > 1], dtype=np.int64)
    if not len(counts):
        return Agreement(Interval(math.nan, math.nan, math.nan), 0, 0)
    low, high = cluster_interval(
        lambda rows: _alpha(counts[rows]),
        [f"{cell:09d}" for cell in range(len(counts))],
        samples=SAMPLES,
        seed=seed,
        confidence=LEVEL,
    )
    interval = Interval(_alpha(counts), low, high)
    return Agreement(interval, len(counts), int((counts == 0).any(axis=1).sum()))


def _alpha(counts: NDArray[np.int64]) -> float:
    if not counts.any(axis=0).all():
        return math.nan
    krippendorff = require("krippendorff", "audit")
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def by_policy(votes: Mapping[tuple[str, str], Sequence[bool]]) -> dict[str, list[Sequence[bool]]]:
    """The cells' votes by policy, the second half of a cell's key."""
    grouped: dict[str, list[Sequence[bool]]] = {}
    for (_, policy), cell in votes.items():
        grouped.setdefault(policy, []).append(cell)
    return grouped
