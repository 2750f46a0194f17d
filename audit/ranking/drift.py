"""Annotators whose reading of a policy changes over time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scores import Cells, Floats

FALSE_DISCOVERY_RATE = 0.05
"""Expected share of the drifts found that are chance (Benjamini and Hochberg 1995)."""
_LEAST_RECORDS = 20
_LEAST_POSITIVES = 5


@dataclass(frozen=True, slots=True)
class Drift:
    """Over time, an annotator gives a policy (a column) more often or less often than the texts explain.

    `early` and `late`: share of the annotator's records with the label in the first and the second half; `score`: in standard
    deviations, above 0 for a rise. `late_rows`: records of the second half.
    """

    annotator: str
    policy: int
    score: float
    early: float
    late: float
    late_rows: NDArray[np.int64]


def drifts(cells: Cells, annotators: Sequence[str | None], times: Sequence[float | None]) -> list[Drift]:
    """The significant drifts, the clearest first.

    Each record is expected to have the label with the model's probability, so that a change in the merchants does not count as a
    change in the annotator. The score is that of a trend over the order of labelling (Cochran 1954; Armitage 1955).

    :param annotators: who labelled each record, None if unknown.
    :param times: when, in seconds; None if unknown.
    """
    tested: list[Drift] = []
    names = sorted({name for name in annotators if name})
    for name in names:
        rows = np.array(
            [
                row
                for row, (who, time) in enumerate(zip(annotators, times, strict=True))
                if who == name and time is not None
            ],
            dtype=np.int64,
        )
        if len(rows) < _LEAST_RECORDS:
            continue
        rows = rows[np.argsort([times[row] for row in rows], kind="stable")]
        tested += _of_annotator(cells, name, rows, _order([times[row] for row in rows]))
    if not tested:
        return []
    from scipy.stats import norm

    chances = 2.0 * norm.sf(np.abs([drift.score for drift in tested]))
    order = np.argsort(chances, kind="stable")
    limits = FALSE_DISCOVERY_RATE * np.arange(1, len(order) + 1) / len(order)
    passed = np.flatnonzero(chances[order] <= limits)
    return [tested[place] for place in order[: passed[-1] + 1]] if len(passed) else []


def _order(times: Sequence[float | None]) -> Floats:
    """Position of each record in time from -1 to 1; records of the same time share one."""
    _, inverse, counts = np.unique(np.array(times, dtype=float), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2.0
    return np.asarray(2.0 * middle[inverse] / max(len(times) - 1, 1) - 1.0)


def _of_annotator(cells: Cells, name: str, rows: NDArray[np.int64], place: Floats) -> list[Drift]:
    found = []
    half = place > 0
    for policy in range(cells.given.shape[1]):
        labelled = cells.mask[rows, policy]
        if labelled.sum() < _LEAST_RECORDS or not half[labelled].any() or half[labelled].all():
            continue
        given = cells.given[rows, policy][labelled].astype(float)
        expected = cells.probabilities[rows, policy][labelled]
        if max(given.sum(), expected.sum()) < _LEAST_POSITIVES:
            continue
        # An annotator who gives more positives overall does not drift: expectations are scaled to the annotator's total.
        expected = np.clip(expected * given.sum() / max(expected.sum(), 1e-9), 0.0, 1.0)
        centred = place[labelled] - np.average(
            place[labelled], weights=np.maximum(expected * (1 - expected), 1e-9)
        )
        spread = float(np.sqrt((expected * (1.0 - expected) * centred**2).sum()))
        if spread == 0.0:
            continue
        score = float(((given - expected) * centred).sum()) / spread
        late = half[labelled]
        found.append(
            Drift(
                name,
                policy,
                score,
                float(given[~late].mean()),
                float(given[late].mean()),
                rows[labelled][late],
            )
        )
    return found
