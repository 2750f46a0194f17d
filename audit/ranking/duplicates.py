"""Near-duplicate texts with different labels: one of the two is wrong, whatever a model says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scores import Cells, Floats

Ints = NDArray[np.int64]


ALIKE = 0.5
"""Similarity from which texts with different labels are shown side by side: below that of near-duplicates, which one answer
settles unseen, as a person reads both."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A cell whose label another record of the same group contradicts.

    `row` and `other` are records, `policy` a column; `for_it` and `against` count the records of the group with this and with
    the other label; `suspicion`: probability that this side is the wrong one.
    """

    row: int
    other: int
    policy: int
    for_it: int
    against: int
    suspicion: float


def contradictions(cells: Cells, groups: Ints, suspicion: Floats) -> list[Contradiction]:
    """One for each record on the side that is likelier wrong, of each group and policy with both labels.

    :param groups: near-duplicate group of each record, (N,).
    :param suspicion: probability (N, K) that a label is wrong, by the texts alone.
    """
    found: list[Contradiction] = []
    for rows in members(groups):
        known = cells.known[rows]
        given = cells.given[rows] & known
        mixed = given.any(axis=0) & (known & ~given).any(axis=0)
        for column in np.flatnonzero(mixed).tolist():
            found += _of_group(rows, given[:, column], known[:, column], column, suspicion[rows, column])
    return found


def _of_group(
    rows: Ints, given: NDArray[np.bool_], known: NDArray[np.bool_], column: int, suspicion: Floats
) -> list[Contradiction]:
    has, has_not = np.flatnonzero(given), np.flatnonzero(known & ~given)
    # Exactly one side is wrong: its odds are those of either being, given that the other is not, times the votes.
    odds = np.clip(suspicion, 1e-6, 1.0 - 1e-6)
    odds = odds / (1.0 - odds)
    weight_has = float(odds[has].mean()) * len(has_not)
    weight_has_not = float(odds[has_not].mean()) * len(has)
    wrong, right = (has, has_not) if weight_has >= weight_has_not else (has_not, has)
    sure = max(weight_has, weight_has_not) / (weight_has + weight_has_not)
    trusted = int(right[np.argmin(suspicion[right])])
    return [
        Contradiction(int(rows[place]), int(rows[trusted]), column, len(wrong), len(right), sure)
        for place in wrong.tolist()
    ]


def members(groups: Ints) -> list[Ints]:
    """Rows of each group of at least two."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return [rows for rows in np.split(order, starts) if len(rows) > 1]


def settled(cells: Cells, groups: Ints) -> Ints:
    """How many cells (N, K) one answer settles: those of the same group with the same known label, itself included."""
    count = int(groups.max(initial=-1)) + 1
    result = np.ones(cells.given.shape, dtype=np.int64)
    if len(groups) == count:
        return result
    for side in (cells.given & cells.known, ~cells.given & cells.known):
        totals = np.zeros((count, cells.given.shape[1]), dtype=np.int64)
        np.add.at(totals, groups, side)
        result = np.where(side, totals[groups], result)
    return result
