"""A scan: records and opinions in, ranked items out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.cleaning.text import clean
from ...data.records.record import Record, label_matrix
from ...data.records.schema import parse_timestamp
from ...data.splitting.near_duplicates import near_duplicate_groups
from ...data.taxonomy import Taxonomy
from ..ranking.combine import Ranking, rank_cells
from ..ranking.drift import drifts
from ..ranking.duplicates import ALIKE, contradictions
from ..ranking.neighbours import nearest, neighbour_vectors
from ..ranking.scores import Cells, Floats
from ..storage.items import Item
from .samples import CellPlace, draw_controls, plant_agreed, plant_gold
from .suspects import Findings, ItemMaker, suspects

MOST_SUSPECTS = 100_000
"""Suspects that are listed unless more are asked for: more than any team will look at."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutputs:
    """What models say of N records: probabilities (N, K) out of fold; area under the margin (N, K) and an encoder's vectors (N, H)
    where they are at hand."""

    probabilities: Floats
    margins: Floats | None = None
    vectors: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many items of each kind at most; None: by the number of records."""

    most: int | None = None
    controls: int | None = None
    planted: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ScanResult:
    """Items in the order they are written, the near-duplicate group (N,) of each record, and the ranking behind both."""

    items: list[Item]
    duplicates: NDArray[np.int64]
    ranking: Ranking


def scan_records(
    records: Sequence[Record],
    taxonomy: Taxonomy,
    opinions: ModelOutputs,
    *,
    gold: Sequence[Record] | None = None,
    sizes: Sizes | None = None,
    seed: int = 0,
) -> ScanResult:
    """Rank every known cell and make the items of all queues.

    :param gold: records with the ids of some scanned ones, whose labels are surely right.
    :raises AuditError: if no gold record is among those scanned.
    """
    sizes = sizes or Sizes()
    labels = label_matrix(records, taxonomy)
    cells = Cells(labels.positive, labels.mask, opinions.probabilities)
    texts = [clean(record.text).text for record in records]
    duplicates = near_duplicate_groups(texts, seed=seed)
    neighbours = nearest(neighbour_vectors(texts, opinions.vectors), duplicates, seed=seed)
    annotators = tuple(record.annotator for record in records)
    ranking = rank_cells(cells, neighbours, margins=opinions.margins, annotators=annotators)
    alike = near_duplicate_groups(texts, threshold=ALIKE, seed=seed)
    found = contradictions(cells, alike, ranking.p_label_error)
    times = [parse_timestamp(record.labelled_at).timestamp() if record.labelled_at else None for record in records]
    findings = Findings(records, taxonomy, ranking, duplicates, found, drifts(cells, annotators, times))
    maker = ItemMaker(findings)
    return ScanResult(_items(findings, maker, gold, sizes, seed), duplicates, ranking)


def _items(
    findings: Findings, maker: ItemMaker, gold: Sequence[Record] | None, sizes: Sizes, seed: int
) -> list[Item]:
    size = len(findings.records)
    most = min(2 * size, MOST_SUSPECTS) if sizes.most is None else sizes.most
    wanted = min(400, max(100, size // 5)) if sizes.controls is None else sizes.controls
    controls = draw_controls(maker, count=wanted, seed=seed)
    # A planted cell is listed as nothing else: a control that is taken out would no longer be random.
    count = min(200, max(10, size // 20)) if sizes.planted is None else sizes.planted
    taken: set[CellPlace] = set(controls)
    if gold is None:
        taken |= {(found.row, found.policy) for found in findings.contradictions}
        planted = plant_agreed(maker, count=count, seed=seed, taken=taken)
    else:
        planted = plant_gold(maker, gold, findings.taxonomy, count=count, seed=seed, taken=taken)
    doubted = suspects(findings, maker, most=most, taken=set(planted))
    return [*doubted, *controls.values(), *planted.values()]
