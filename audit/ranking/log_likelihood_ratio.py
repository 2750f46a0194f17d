"""What the text says for and against each label: the model's opinion, the neighbours' labels and the training's own course,
in one log likelihood ratio a cell; and from it the share of given positives that are wrong."""

import numpy as np
from numpy.typing import NDArray

from .scores import Cells, Floats, log_odds

# Log-odds of model and neighbours see the same words: added at full weight they would count them twice. These weights sum to a
# little over one. All three were chosen on planted mistakes in the shipped corpus and the training half of NoisyAG-News.
MODEL_WEIGHT = 0.6
NEIGHBOUR_WEIGHT = 0.65
DYNAMICS_WEIGHT = 0.5
STRONGEST = 8.0
"""Beyond e^8 to one no evidence from text is believed."""

_QUANTILES = (0.1, 0.2, 0.3)


def base_rates(cells: Cells) -> Floats:
    """Share (K,) of the known cells that are given as positive, kept away from 0 and 1."""
    positives = (cells.given & cells.known).sum(axis=0)
    return np.asarray((positives + 1.0) / (cells.known.sum(axis=0) + 2.0))


def out_of_fold_evidence(cells: Cells, neighbours: Floats) -> Floats:
    """Log likelihood ratio (N, K), policy holds over does not hold, from what never saw the record's own label.

    :param neighbours: share (N, K) of the nearest records that have the label (`Neighbours.shares`).
    """
    base = log_odds(base_rates(cells))
    model = log_odds(cells.probabilities, margin=1e-4) - base
    near = log_odds(neighbours, margin=1e-3) - base
    return np.asarray(np.clip(MODEL_WEIGHT * model + NEIGHBOUR_WEIGHT * near, -STRONGEST, STRONGEST))


def with_dynamics(evidence: Floats, cells: Cells, margins: Floats | None) -> Floats:
    """Evidence with the area under the margin added (Pleiss et al. 2020).

    The margins come from models that were trained on the label in question and lean towards it, on positives more than on
    negatives: so they count by their distance from other margins of the same side, in standard deviations.

    :param margins: (N, K), higher where training went along with the given label; NaN where it saw none; None: there are none.
    """
    if margins is None:
        return evidence
    result = evidence.copy()
    for side, sign in ((cells.given & cells.known, 1.0), (~cells.given & cells.known, -1.0)):
        side = side & np.isfinite(margins)
        values = margins[side]
        if len(values) and (spread := values.std()) > 0:
            result[side] += sign * DYNAMICS_WEIGHT * (values - values.mean()) / spread
    return np.asarray(np.clip(result, -STRONGEST, STRONGEST))


def wrong_positive_rate(cells: Cells, evidence: Floats) -> float:
    """Share of the given positives that are no positives, from the evidence alone.

    Wrong positives have texts like those of negatives, so q of them lie below the negatives' q-quantile, and of the right ones
    at least none: the positives found there, over q, bound their share from above. The least bound of some small q is
    taken (mixture proportion estimation; Blanchard, Lee and Scott 2010).
    """
    found, positives = np.zeros(len(_QUANTILES)), 0
    for column in range(cells.given.shape[1]):
        known = cells.known[:, column]
        given = cells.given[:, column]
        values, others = evidence[known & given, column], evidence[known & ~given, column]
        if len(values) and len(others):
            limits = np.quantile(others, _QUANTILES)
            found += (values[:, None] <= limits).sum(axis=0)
            positives += len(values)
    bounds = (found + 0.5) / max(positives, 1) / np.array(_QUANTILES)
    return float(np.clip(bounds.min(), 0.005, 0.5))


def standing(values: Floats, side: NDArray[np.bool_]) -> Floats:
    """Share (N, K) of the cells of the same side and policy that have a lower value: 0 the lowest, towards 1 the highest."""
    result = np.zeros(values.shape)
    for column in range(values.shape[1]):
        for rows in (np.flatnonzero(side[:, column]), np.flatnonzero(~side[:, column])):
            order = np.argsort(values[rows, column], kind="stable")
            result[rows[order], column] = np.arange(len(rows)) / max(len(rows), 1)
    return result
