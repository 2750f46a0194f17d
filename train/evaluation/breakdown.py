"""Where a classifier errs: decisions, confusions between policies, worst errors, reliability, slices.

Probabilities and flagged cells are (N, K). An unlabelled cell counts neither as right nor as wrong.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.labels import LabelMatrix
from . import metrics
from .decision_rule import DecidedRecords
from .figures import (
    BlockCounts,
    Confusions,
    Counts,
    DecisionCounts,
    ErrorRow,
    ReliabilityBin,
    SliceRow,
    TradeOff,
    WorstErrors,
    defined,
)

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

SNIPPET_CHARACTERS = 600
REVIEW_BUDGETS = (0.005, 0.01, 0.02, 0.05, 0.1)
_BANDS = (
    (300, "under 300 characters"),
    (1_000, "300 to 999 characters"),
    (3_000, "1,000 to 2,999 characters"),
    (10_000, "3,000 to 9,999 characters"),
)
_LONGEST = "10,000 characters or more"
LENGTH_BANDS = (*(name for _, name in _BANDS), _LONGEST)


def length_band(characters: int) -> str:
    """The band, out of `LENGTH_BANDS`, of a text with so many characters."""
    return next((name for bound, name in _BANDS if characters < bound), _LONGEST)


def decision_counts(labels: LabelMatrix, review: Bools, block: Bools) -> DecisionCounts:
    """Records per decision, and how many of them violate; `review` and `block` are flagged cells."""
    violating = labels.violating
    blocked = np.asarray(block.any(axis=1))
    reviewed = np.asarray(review.any(axis=1) & ~blocked)
    cleared = np.asarray(labels.labelled & ~blocked & ~reviewed)

    def count(chosen: Bools) -> tuple[int, int, int]:
        return int(chosen.sum()), int((chosen & violating).sum()), int((chosen & ~violating).sum())

    right = int((blocked & (block & labels.positive).any(axis=1)).sum())
    return DecisionCounts(
        Counts(*count(cleared)), Counts(*count(reviewed)), BlockCounts(*count(blocked), right)
    )


def confusions(labels: LabelMatrix, flagged: Bools) -> Confusions:
    """How often the records of one policy are flagged for another."""
    positive, negative = labels.positive.astype(np.int64), labels.negative.astype(np.int64)
    records = positive.T @ negative
    wrong = positive.T @ (negative * flagged)
    share = tuple(
        tuple(float(wrong[i, j] / total) if total else None for j, total in enumerate(row))
        for i, row in enumerate(records)
    )
    return Confusions(share, tuple(map(tuple, records.tolist())))


def worst_errors(decided: DecidedRecords, policies: Sequence[str], *, limit: int = 20) -> WorstErrors:
    """Surest false alarms (highest probability first) and surest misses (lowest first), `limit` of each."""
    p, labels, over = decided.predictions, decided.labels, decided.over_review
    positive = labels.positive

    def rows(cells: Bools, order: Floats) -> tuple[ErrorRow, ...]:
        where = np.argwhere(cells)
        ranked = where[np.argsort(order[cells], kind="stable")][:limit].tolist()
        return tuple(
            ErrorRow(
                id=p.ids[record],
                policy=policies[policy],
                probability=float(decided.probabilities[record, policy]),
                labels=tuple(policies[k] for k in np.flatnonzero(positive[record]).tolist()),
                text=snippet(p.texts[record]),
            )
            for record, policy in ranked
        )

    return WorstErrors(
        rows(labels.negative & over, -decided.probabilities), rows(positive & ~over, decided.probabilities)
    )


def snippet(text: str) -> str:
    """The first `SNIPPET_CHARACTERS` characters, with an ellipsis where the text goes on."""
    return text if len(text) <= SNIPPET_CHARACTERS else text[:SNIPPET_CHARACTERS] + "…"


def reliability_bins(
    probabilities: Floats, labels: LabelMatrix, weights: Floats, *, bins: int = 10, z: float = 1.96
) -> tuple[ReliabilityBin, ...]:
    """Predicted and observed share of all labelled cells in bins of equal width, empty bins left out.

    The Wilson interval (Wilson 1927) takes the cells of one record as independent, so it is a little too narrow. Its number
    of cells is the one that weighted cells are worth, (sum w)^2 / sum w^2 (Kish 1965).

    :param weights: (N,) of the records.
    """
    scores, truth = probabilities[labels.mask].astype(np.float64), labels.values[labels.mask] > 0
    weight = np.broadcast_to(weights[:, None], labels.mask.shape)[labels.mask].astype(np.float64)
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    rows = []
    for number in np.unique(place).tolist():
        inside = place == number
        w = weight[inside]
        observed = float(w @ truth[inside] / w.sum())
        cells = float(w.sum() ** 2 / (w @ w))
        centre = (observed + z * z / (2 * cells)) / (1 + z * z / cells)
        spread = observed * (1 - observed) / cells + z * z / (4 * cells * cells)
        half = z * float(np.sqrt(spread)) / (1 + z * z / cells)
        low, high = min(observed, max(0.0, centre - half)), max(observed, min(1.0, centre + half))
        rows.append(ReliabilityBin(float(w @ scores[inside] / w.sum()), observed, low, high, len(w)))
    return tuple(rows)


def trade_off(decided: DecidedRecords, budgets: Sequence[float] = REVIEW_BUDGETS) -> tuple[TradeOff, ...]:
    """What is found where a budget limits the share of ordinary records in review, by any violation alone.

    Both shares are of one kind of record, so they hold at any prevalence.
    """
    ordinary = np.sort(decided.any_violation[decided.labels.compliant])[::-1]
    violating = decided.any_violation[decided.labels.violating]
    if not len(ordinary) or not len(violating):
        return ()
    rows = []
    for budget in budgets:
        # The first that stays out of review: all that is above it goes there.
        first_out = ordinary[min(int(np.floor(np.round(budget * len(ordinary), 9))), len(ordinary) - 1)]
        over = float((ordinary > first_out).mean()), float((violating > first_out).mean())
        rows.append(TradeOff(float(first_out), *over))
    return tuple(rows)


def slice_rows(values: Sequence[str], decided: DecidedRecords) -> tuple[SliceRow, ...]:
    """One row per value of a slice, most records first; length bands from short to long."""
    column = np.asarray(values, dtype=object)
    rows = [_slice_row(value, decided, column == value) for value in sorted(set(values))]
    bands = {band: place for place, band in enumerate(LENGTH_BANDS)}
    return tuple(sorted(rows, key=lambda row: (bands.get(row.value, 0), -row.records)))


def _slice_row(value: str, decided: DecidedRecords, inside: Bools) -> SliceRow:
    probabilities, labels = decided.probabilities[inside], decided.labels[inside]
    # A policy that all its labelled records here violate ranks perfectly whatever the model says.
    ranked = labels.positive.any(axis=0) & labels.negative.any(axis=0)
    precision = metrics.macro_average_precision(
        probabilities, LabelMatrix(labels.values, labels.mask & ranked)
    )
    return SliceRow(
        value=value,
        records=int(inside.sum()),
        violating=int(labels.violating.sum()),
        policies=int(ranked.sum()),
        macro_average_precision=defined(precision),
        false_alarm_rate=defined(metrics.false_alarm_rate(probabilities, labels, decided.limits[inside])),
    )
