"""Where a classifier errs: decisions, confusions between policies, worst errors, length bands.

Throughout, `probabilities`, `labels` and `known` are (records, policies), thresholds are (policies,), and a
cell that is not known counts neither as right nor as wrong.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import metrics

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

SNIPPET_CHARACTERS = 600
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


def compliant_records(labels: Floats, known: Bools) -> Bools:
    """(records,) True where some policy has been judged and none is known to be violated."""
    judged, violating = known.any(axis=1), ((labels > 0) & known).any(axis=1)
    return np.asarray(judged & ~violating)


def flagged_cells(probabilities: Floats, known: Bools, thresholds: Floats) -> Bools:
    """Known cells at or above their policy's threshold; a threshold of NaN flags nothing."""
    result: Bools = (probabilities >= thresholds) & known
    return result


def decision_counts(labels: Floats, known: Bools, review: Bools, block: Bools) -> dict[str, dict[str, int]]:
    """Records per decision, and how many of them violate; `review` and `block` are flagged cells.

    A blocked record is `right_policy` when a policy that blocks it is one that it violates.
    """
    positives = (labels > 0) & known
    violating, judged = positives.any(axis=1), known.any(axis=1)
    blocked = np.asarray(block.any(axis=1))
    reviewed = np.asarray(review.any(axis=1) & ~blocked)
    cleared = np.asarray(judged & ~blocked & ~reviewed)

    def count(chosen: Bools) -> dict[str, int]:
        return {
            "records": int(chosen.sum()),
            "violating": int((chosen & violating).sum()),
            "compliant": int((chosen & ~violating).sum()),
        }

    right = {"right_policy": int((blocked & (block & positives).any(axis=1)).sum())}
    return {"clear": count(cleared), "review": count(reviewed), "block": count(blocked) | right}


def confusions(labels: Floats, known: Bools, flagged: Bools) -> dict[str, Any]:
    """How often a record of policy i (row), and not of policy j (column), is flagged for policy j.

    `share` is None where there is no such record; `records` holds the counts it is a share of.
    """
    positive = ((labels > 0) & known).astype(np.int64)
    negative = ((labels == 0) & known).astype(np.int64)
    records = positive.T @ negative
    wrong = positive.T @ (negative * flagged)
    share = [
        [float(wrong[i, j] / total) if total else None for j, total in enumerate(row)]
        for i, row in enumerate(records)
    ]
    return {"share": share, "records": records.tolist()}


def worst_errors(
    ids: Sequence[str],
    texts: Sequence[str],
    policies: Sequence[str],
    probabilities: Floats,
    labels: Floats,
    known: Bools,
    review: Floats,
    *,
    limit: int = 20,
) -> dict[str, list[dict[str, Any]]]:
    """Surest false alarms (highest probability first) and surest misses (lowest first), `limit` of each."""
    over = probabilities >= review
    alarms = known & (labels == 0) & over
    misses = known & (labels > 0) & ~over

    def rows(cells: Bools, order: Floats) -> list[dict[str, Any]]:
        where = np.argwhere(cells)
        ranked = where[np.argsort(order[cells], kind="stable")][:limit]
        chosen = [(int(record), int(policy)) for record, policy in ranked]
        return [
            {
                "id": ids[record],
                "policy": policies[policy],
                "probability": float(probabilities[record, policy]),
                "labels": [
                    policies[k] for k in np.flatnonzero((labels[record] > 0) & known[record]).tolist()
                ],
                "text": snippet(texts[record]),
            }
            for record, policy in chosen
        ]

    return {"false_alarms": rows(alarms, -probabilities), "misses": rows(misses, probabilities)}


def snippet(text: str) -> str:
    """The first `SNIPPET_CHARACTERS` characters, with an ellipsis where the text goes on."""
    return text if len(text) <= SNIPPET_CHARACTERS else text[:SNIPPET_CHARACTERS] + "…"


def reliability_bins(
    probabilities: Floats, labels: Floats, known: Bools, *, bins: int = 10, z: float = 1.96
) -> list[dict[str, Any]]:
    """Predicted and observed share of all known cells in bins of equal width, empty bins left out.

    `low` and `high` are the Wilson interval (Wilson 1927) of the observed share; cells of one record are
    taken as independent, so it is a little too narrow.
    """
    scores, truth = probabilities[known].astype(np.float64), labels[known] > 0
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    rows = []
    for number in np.unique(place).tolist():
        inside = place == number
        cells, observed = int(inside.sum()), float(truth[inside].mean())
        centre = (observed + z * z / (2 * cells)) / (1 + z * z / cells)
        spread = observed * (1 - observed) / cells + z * z / (4 * cells * cells)
        half = z * float(np.sqrt(spread)) / (1 + z * z / cells)
        rows.append(
            {
                "predicted": float(scores[inside].mean()),
                "observed": observed,
                "low": min(observed, max(0.0, centre - half)),
                "high": max(observed, min(1.0, centre + half)),
                "cells": cells,
            }
        )
    return rows


def slice_rows(
    values: Sequence[str],
    probabilities: Floats,
    labels: Floats,
    known: Bools,
    review: Floats,
) -> list[dict[str, Any]]:
    """One row per value of a slice, most records first; length bands from short to long.

    `review` may hold limits of each cell, (records, policies).
    """
    limits = np.broadcast_to(review, probabilities.shape)
    column = np.asarray(values, dtype=object)
    rows = []
    for value in sorted(set(values)):
        inside = column == value
        truth, mask = labels[inside], known[inside]
        # A policy whose every judged record here is a violation ranks perfectly whatever the model says.
        ranked = ((truth > 0) & mask).any(axis=0) & ((truth == 0) & mask).any(axis=0)
        rows.append(
            {
                "value": value,
                "records": int(inside.sum()),
                "violating": int(((truth > 0) & mask).any(axis=1).sum()),
                "policies": int(ranked.sum()),
                "macro_average_precision": metrics.macro_average_precision(
                    probabilities[inside], truth, mask & ranked
                ),
                "false_alarm_rate": metrics.false_alarm_rate(
                    probabilities[inside], truth, mask, limits[inside]
                ),
            }
        )
    bands = {band: place for place, band in enumerate(LENGTH_BANDS)}
    return sorted(rows, key=lambda row: (bands.get(row["value"], 0), -row["records"]))
