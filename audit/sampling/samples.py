"""Items that are not suspects: random controls that measure the errors left, and gold items whose answer is known."""

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

# Shares of the controls by given label and, for negatives, by rank of label error: more are drawn where errors are likelier.
_POSITIVE_SHARE = 0.3
_NEGATIVE_BANDS = ((0.0, 0.02, 0.25), (0.02, 0.1, 0.2), (0.1, 1.0, 0.25))

_UNLIKELY = 0.05
_POOL = 4
"""Gold items are drawn from a pool of the most certain cells, so many times larger than their number."""


def draw_controls(maker: ItemMaker, *, count: int, seed: int) -> dict[CellPlace, Item]:
    """About `count` random labelled cells with their inclusion probabilities, in strata by given label and rank of label error.

    The order is random, so that any number of them from the front is a random sample too.
    """
    cells = maker.ranking.cells
    draw = np.random.default_rng([seed, 1])
    drawn: list[tuple[int, int, float]] = []
    for places, share in _strata(cells, maker.ranking.p_label_error):
        wanted = min(len(places), max(1, round(share * count)))
        chosen = draw.choice(len(places), wanted, replace=False)
        drawn += [(*divmod(int(places[one]), cells.given.shape[1]), wanted / len(places)) for one in chosen]
    items: dict[CellPlace, Item] = {}
    for one in draw.permutation(len(drawn)).tolist():
        row, column, probability = drawn[one]
        item = maker.item(row, column, "control")
        items[row, column] = replace(item, inclusion_probability=probability, value=0.0)
    return items


def _strata(cells: Cells, p_label_error: NDArray[np.float64]) -> list[tuple[NDArray[np.int64], float]]:
    """Flat places of each stratum that is not empty, with its share of the controls."""
    positives = np.flatnonzero(cells.given & cells.mask)
    negatives = np.flatnonzero(~cells.given & cells.mask)
    negatives = negatives[np.argsort(-p_label_error.ravel()[negatives], kind="stable")]
    strata = [(positives, _POSITIVE_SHARE)]
    for start, end, share in _NEGATIVE_BANDS:
        strata.append((negatives[round(start * len(negatives)) : round(end * len(negatives))], share))
    return [(places, share) for places, share in strata if len(places)]


def draw_gold(
    maker: ItemMaker,
    gold: Sequence[Record],
    taxonomy: Taxonomy,
    *,
    count: int,
    seed: int,
    taken: set[CellPlace],
) -> dict[CellPlace, Item]:
    """Up to `count` cells whose answer is in the `gold` records with the same ids, half of them positive if possible.

    Of the negative cells the likelier positives are preferred: an answer that is obvious measures nobody.

    :raises AuditError: if no gold record is among those scanned.
    """
    places = {record.id: row for row, record in enumerate(maker.findings.records)}
    gold = [record for record in gold if record.id in places]
    if not gold:
        raise AuditError(
            "none of the gold records has the id of a scanned record; give records with the same ids"
        )
    truth = label_matrix(gold, taxonomy)
    rows = np.array([places[record.id] for record in gold])
    probabilities = maker.ranking.cells.probabilities[rows]
    usable = truth.mask & maker.ranking.cells.mask[rows]
    positive = np.argwhere(usable & truth.positive)
    negative = np.argwhere(usable & truth.negative)
    negative = negative[np.argsort(-probabilities[negative[:, 0], negative[:, 1]], kind="stable")]

    def free(found: NDArray[np.int64]) -> list[CellPlace]:
        return [cell for row, column in found if (cell := (int(rows[row]), int(column))) not in taken]

    return _gold_items(
        maker, free(positive), free(negative), "the answer is in the gold file", count=count, seed=seed
    )


def gold_where_sources_agree(
    maker: ItemMaker, *, count: int, seed: int, taken: set[CellPlace]
) -> dict[CellPlace, Item]:
    """Up to `count` cells whose label all sources agree on.

    A positive has a verbatim quote as evidence, and model and neighbours agree with it. A negative is taken from the same
    records: the likeliest of the policies that the model is sure do not hold.
    """
    cells, p_label_error = maker.ranking.cells, maker.ranking.p_label_error
    columns = {policy: column for column, policy in enumerate(maker.findings.taxonomy.ids)}
    quoted = [
        (row, columns[policy])
        for row, record in enumerate(maker.findings.records)
        for policy in record.evidence
        if policy in columns and cells.given[row, columns[policy]]
    ]
    quoted.sort(key=lambda cell: (p_label_error[cell], cell))
    certain = [cell for cell in quoted if cells.probabilities[cell] >= 0.5 and cell not in taken]
    certain = certain[: _POOL * count]
    negatives = []
    for row in dict.fromkeys(row for row, _ in certain):
        unlikely = ~cells.given[row] & cells.mask[row] & (cells.probabilities[row] < _UNLIKELY)
        if unlikely.any():
            column = int(np.where(unlikely, cells.probabilities[row], -1.0).argmax())
            if (row, column) not in taken:
                negatives.append((row, column))
    negatives.sort(key=lambda cell: (p_label_error[cell], cell))
    return _gold_items(
        maker, certain, negatives, "label, quoted evidence and model agree", count=count, seed=seed
    )


def _gold_items(
    maker: ItemMaker,
    positives: Sequence[CellPlace],
    negatives: Sequence[CellPlace],
    why: str,
    *,
    count: int,
    seed: int,
) -> dict[CellPlace, Item]:
    """Items of both kinds, shuffled; those at the front of each list are preferred."""
    draw = np.random.default_rng([seed, 2])
    wanted_positives = min(len(positives), max(count // 2, count - len(negatives)))
    wanted_negatives = min(len(negatives), count - wanted_positives)
    chosen: list[tuple[CellPlace, bool]] = []
    for cells, wanted, holds in ((positives, wanted_positives, True), (negatives, wanted_negatives, False)):
        pool = cells[: _POOL * wanted]
        if wanted:
            chosen += [(pool[one], holds) for one in draw.choice(len(pool), wanted, replace=False)]
    items: dict[CellPlace, Item] = {}
    for one in draw.permutation(len(chosen)).tolist():
        (row, column), holds = chosen[one]
        item = maker.item(row, column, "gold")
        reasons = (Reason("gold", why, 1.0), *item.reasons)
        items[row, column] = replace(item, gold_answer=holds, value=0.0, reasons=reasons)
    return items
