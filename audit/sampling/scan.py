"""A scan: records and model outputs in, ranked items out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.cleaning.text import clean_parts
from ...data.records.record import Record, label_matrix
from ...data.records.schema import parse_timestamp
from ...data.splitting.near_duplicates import near_duplicate_groups
from ...data.taxonomy import Taxonomy
from ..ranking.combine import Ranking, rank_cells
from ..ranking.drift import drifts
from ..ranking.duplicates import CONTRADICTION_SIMILARITY, contradictions
from ..ranking.model_outputs import ModelOutputs
from ..ranking.neighbours import nearest, neighbour_vectors
from ..ranking.scores import Cells
from ..storage.items import Item
from .samples import CellPlace, draw_controls, draw_gold, gold_where_sources_agree
from .suspects import Findings, ItemMaker, suspects

MOST_SUSPECTS = 100_000
"""Suspects that are listed unless more are asked for: more than any team reviews."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The largest number of items of each kind; None: depends on the number of records."""

    suspects: int | None = None
    controls: int | None = None
    gold: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ScanResult:
    """Items in the order they are written, the near-duplicate group (N,) of each record, and the ranking behind both."""

    items: list[Item]
    duplicates: NDArray[np.int64]
    ranking: Ranking


def scan_records(
    records: Sequence[Record],
    taxonomy: Taxonomy,
    outputs: ModelOutputs,
    *,
    gold: Sequence[Record] | None = None,
    sizes: Sizes | None = None,
    seed: int = 0,
) -> ScanResult:
    """Rank every labelled cell and make the items of all queues.

    :param gold: records with verified labels and the ids of some of the scanned records.
    :raises AuditError: if no gold record is among those scanned.
    """
    labels = label_matrix(records, taxonomy)
    cells = Cells(labels.positive, labels.mask, outputs.probabilities)
    texts = [clean_parts(record.text, record.hidden_from)[0].text for record in records]
    duplicates = near_duplicate_groups(texts, seed=seed)
    neighbours = nearest(neighbour_vectors(texts, outputs.vectors), duplicates, seed=seed)
    annotators = tuple(record.annotator for record in records)
    ranking = rank_cells(cells, neighbours, margins=outputs.margins, annotators=annotators)
    similar = near_duplicate_groups(texts, threshold=CONTRADICTION_SIMILARITY, seed=seed)
    found = contradictions(cells, similar, ranking.p_label_error)
    times = [
        parse_timestamp(record.labelled_at).timestamp() if record.labelled_at else None for record in records
    ]
    findings = Findings(records, taxonomy, ranking, duplicates, found, drifts(cells, annotators, times))
    items = _items(findings, ItemMaker(findings), gold, sizes or Sizes(), seed)
    return ScanResult(items, duplicates, ranking)


def _items(
    findings: Findings, maker: ItemMaker, gold: Sequence[Record] | None, sizes: Sizes, seed: int
) -> list[Item]:
    count = len(findings.records)
    most_suspects = min(2 * count, MOST_SUSPECTS) if sizes.suspects is None else sizes.suspects
    most_controls = min(400, max(100, count // 5)) if sizes.controls is None else sizes.controls
    most_gold = min(200, max(10, count // 20)) if sizes.gold is None else sizes.gold
    controls = draw_controls(maker, count=most_controls, seed=seed)
    # A gold cell is in no other queue, and no control becomes gold: without it the controls would no longer be random.
    taken: set[CellPlace] = set(controls)
    if gold is None:
        taken |= {(found.row, found.policy) for found in findings.contradictions}
        gold_items = gold_where_sources_agree(maker, count=most_gold, seed=seed, taken=taken)
    else:
        gold_items = draw_gold(maker, gold, findings.taxonomy, count=most_gold, seed=seed, taken=taken)
    listed = suspects(findings, maker, most=most_suspects, taken=set(gold_items))
    return [*listed, *controls.values(), *gold_items.values()]
