"""Near-duplicate texts with different labels: one of the two labels is wrong, whatever a model says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scores import Cells, Floats

Ints = NDArray[np.int64]


CONTRADICTION_SIMILARITY = 0.5
"""Texts at least this similar with different labels are shown side by side. It is lower than the threshold of near-duplicates
because a person reads both."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A cell whose label another record of the same group contradicts.

    `row` and `other` are records, `policy` a column; `agreeing` and `opposing` count the records of the group with this label and
    with the other one; `p_label_error`: probability that this side is the wrong one.
    """

    row: int
    other: int
    policy: int
    agreeing: int
    opposing: int
    p_label_error: float


def contradictions(cells: Cells, groups: Ints, p_label_error: Floats) -> list[Contradiction]:
    """For each group and policy with both labels, one contradiction for each record on the side that is likelier to be wrong.

    :param groups: near-duplicate group of each record, (N,).
    :param p_label_error: probability (N, K) that a label is wrong.
    """
    found: list[Contradiction] = []
    for rows in members(groups):
        mask = cells.mask[rows]
        given = cells.given[rows] & mask
        mixed = given.any(axis=0) & (mask & ~given).any(axis=0)
        for column in np.flatnonzero(mixed).tolist():
            found += _of_group(rows, given[:, column], mask[:, column], column, p_label_error[rows, column])
    return found


def _of_group(
    rows: Ints, given: NDArray[np.bool_], mask: NDArray[np.bool_], column: int, p_label_error: Floats
) -> list[Contradiction]:
    has, has_not = np.flatnonzero(given), np.flatnonzero(mask & ~given)
    # Exactly one side is wrong: the odds that it is this one and not the other, weighted by the votes of the other side.
    odds = np.clip(p_label_error, 1e-6, 1.0 - 1e-6)
    odds = odds / (1.0 - odds)
    weight_has = float(odds[has].mean()) * len(has_not)
    weight_has_not = float(odds[has_not].mean()) * len(has)
    wrong, right = (has, has_not) if weight_has >= weight_has_not else (has_not, has)
    probability = max(weight_has, weight_has_not) / (weight_has + weight_has_not)
    trusted = int(right[np.argmin(p_label_error[right])])
    return [
        Contradiction(int(rows[place]), int(rows[trusted]), column, len(wrong), len(right), probability)
        for place in wrong.tolist()
    ]


def members(groups: Ints) -> list[Ints]:
    """Rows of each group of at least two."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return [rows for rows in np.split(order, starts) if len(rows) > 1]


def duplicate_counts(cells: Cells, groups: Ints) -> Ints:
    """How many cells (N, K) of the same group have the same label, the cell itself included."""
    count = int(groups.max(initial=-1)) + 1
    result = np.ones(cells.given.shape, dtype=np.int64)
    if len(groups) == count:
        return result
    for side in (cells.given & cells.mask, ~cells.given & cells.mask):
        totals = np.zeros((count, cells.given.shape[1]), dtype=np.int64)
        np.add.at(totals, groups, side)
        result = np.where(side, totals[groups], result)
    return result
