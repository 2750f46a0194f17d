"""Items that are no suspects: random controls that measure what is left, and planted ones whose answer is known."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...core.errors import AuditError
from ...data.records.record import Record, label_matrix
from ...data.taxonomy import Taxonomy
from ..ranking.scores import Cells
from ..storage.items import Item, Reason
from .suspects import ItemMaker

CellPlace = tuple[int, int]

# Parts of the controls, by given label and, of negatives, by rank of suspicion: where errors are likelier, more are drawn.
_POSITIVE_PART = 0.3
_NEGATIVE_BANDS = ((0.0, 0.02, 0.25), (0.02, 0.1, 0.2), (0.1, 1.0, 0.25))

_UNLIKELY = 0.05
_POOL = 4
"""Of the cells that may be planted the firmest are taken, so many times as are needed, and drawn among."""


def draw_controls(maker: ItemMaker, *, count: int, seed: int) -> dict[CellPlace, Item]:
    """About `count` random known cells, in strata by given label and suspicion; `share` is the probability of being drawn.

    The order is random, so that any number of them from the front is a sample too.
    """
    cells, suspicion = maker.ranking.cells, maker.ranking.suspicion
    draw = np.random.default_rng([seed, 1])
    drawn: list[tuple[int, int, float]] = []
    for places, part in _strata(cells, suspicion):
        wanted = min(len(places), max(1, round(part * count)))
        chosen = draw.choice(len(places), wanted, replace=False)
        drawn += [(*divmod(int(places[one]), cells.given.shape[1]), wanted / len(places)) for one in chosen]
    items: dict[CellPlace, Item] = {}
    for one in draw.permutation(len(drawn)).tolist():
        row, column, share = drawn[one]
        items[row, column] = replace(maker.item(row, column, "control"), share=share, value=0.0)
    return items


def _strata(cells: Cells, suspicion: NDArray[np.float64]) -> list[tuple[NDArray[np.int64], float]]:
    """Flat places of each stratum that has any, with its part of the controls."""
    positives = np.flatnonzero(cells.given & cells.known)
    negatives = np.flatnonzero(~cells.given & cells.known)
    negatives = negatives[np.argsort(-suspicion.ravel()[negatives], kind="stable")]
    strata = [(positives, _POSITIVE_PART)]
    for start, end, part in _NEGATIVE_BANDS:
        strata.append((negatives[round(start * len(negatives)) : round(end * len(negatives))], part))
    return [(places, part) for places, part in strata if len(places)]


def plant_gold(
    maker: ItemMaker,
    gold: Sequence[Record],
    taxonomy: Taxonomy,
    *,
    count: int,
    seed: int,
    taken: set[CellPlace],
) -> dict[CellPlace, Item]:
    """Up to `count` cells of which `gold` records with the same ids know the answer, half of them positive if they can be.

    Of the cells that do not hold the likelier ones are taken: an answer that anybody would know measures nobody.

    :raises AuditError: if no gold record is among those scanned.
    """
    places = {record.id: row for row, record in enumerate(maker.findings.records)}
    gold = [record for record in gold if record.id in places]
    if not gold:
        raise AuditError(
            "none of the gold records has the id of a record that is scanned; give records with the same ids"
        )
    truth = label_matrix(gold, taxonomy)
    rows = np.array([places[record.id] for record in gold])
    opinion = maker.ranking.cells.probabilities[rows]
    usable = truth.mask & maker.ranking.cells.known[rows]
    holds = [
        (int(rows[r]), int(c))
        for r, c in np.argwhere(usable & truth.positive)
        if (int(rows[r]), int(c)) not in taken
    ]
    nots = np.argwhere(usable & truth.negative)
    nots = nots[np.argsort(-opinion[nots[:, 0], nots[:, 1]], kind="stable")]
    others = [(int(rows[r]), int(c)) for r, c in nots if (int(rows[r]), int(c)) not in taken]
    return _planted(maker, holds, others, "the gold file says so", count=count, seed=seed)


def plant_agreed(maker: ItemMaker, *, count: int, seed: int, taken: set[CellPlace]) -> dict[CellPlace, Item]:
    """Up to `count` cells whose label everything agrees on.

    A positive has a verbatim quote as evidence, and model and neighbours go along; a negative stands in such a record, of the
    policies that do not hold the one nearest to holding, and is hardly suspected.
    """
    cells, suspicion = maker.ranking.cells, maker.ranking.suspicion
    columns = {policy: column for column, policy in enumerate(maker.findings.taxonomy.ids)}
    quoted = [
        (row, columns[policy])
        for row, record in enumerate(maker.findings.records)
        for policy in record.evidence
        if policy in columns and cells.given[row, columns[policy]]
    ]
    quoted.sort(key=lambda cell: (suspicion[cell], cell))
    firm = [cell for cell in quoted if cells.probabilities[cell] >= 0.5 and cell not in taken]
    firm = firm[: _POOL * count]
    negatives = []
    for row in dict.fromkeys(row for row, _ in firm):
        open_ = ~cells.given[row] & cells.known[row] & (cells.probabilities[row] < _UNLIKELY)
        if open_.any():
            column = int(np.where(open_, cells.probabilities[row], -1.0).argmax())
            if (row, column) not in taken:
                negatives.append((row, column))
    negatives.sort(key=lambda cell: (suspicion[cell], cell))
    return _planted(maker, firm, negatives, "label, quoted evidence and model agree", count=count, seed=seed)


def _planted(
    maker: ItemMaker,
    holds: Sequence[CellPlace],
    others: Sequence[CellPlace],
    why: str,
    *,
    count: int,
    seed: int,
) -> dict[CellPlace, Item]:
    """Items of both kinds, shuffled; the first of each list are preferred."""
    draw = np.random.default_rng([seed, 2])
    some = min(len(holds), max(count // 2, count - len(others)))
    chosen: list[tuple[CellPlace, bool]] = []
    for cells, wanted, known in ((holds, some, True), (others, min(len(others), count - some), False)):
        pool = cells[: _POOL * wanted]
        chosen += (
            [(pool[one], known) for one in draw.choice(len(pool), wanted, replace=False)] if wanted else []
        )
    items: dict[CellPlace, Item] = {}
    for one in draw.permutation(len(chosen)).tolist():
        (row, column), known = chosen[one]
        item = maker.item(row, column, "planted")
        reasons = (Reason("known", why, 1.0), *item.reasons)
        items[row, column] = replace(item, known=known, value=0.0, reasons=reasons)
    return items
