"""The evidence for and against each label in one log likelihood ratio per cell: the model's probability, the neighbours'
labels and the course of training; and from it the share of given positives that are wrong."""

import numpy as np
from numpy.typing import NDArray

from .scores import Cells, Floats, log_odds

# The log-odds of model and neighbours rest on the same words: at full weight these would count twice. The two weights sum to a
# little over one. All three were chosen on planted errors in the shipped corpus and on the training half of NoisyAG-News.
MODEL_WEIGHT = 0.6
NEIGHBOUR_WEIGHT = 0.65
MARGIN_WEIGHT = 0.5
LARGEST = 8.0
"""Ratios are clipped at e^8 to one either way."""

_QUANTILES = (0.1, 0.2, 0.3)


def base_rates(cells: Cells) -> Floats:
    """Share (K,) of the labelled cells that are positive, kept away from 0 and 1."""
    positives = (cells.given & cells.mask).sum(axis=0)
    return np.asarray((positives + 1.0) / (cells.mask.sum(axis=0) + 2.0))


def log_likelihood_ratio(cells: Cells, neighbours: Floats) -> Floats:
    """Log likelihood ratio (N, K) of "policy holds" over "does not hold", from sources that never saw the record's own label.

    :param neighbours: share (N, K) of the nearest records that have the label (`Neighbours.shares`).
    """
    base = log_odds(base_rates(cells))
    model = log_odds(cells.probabilities, margin=1e-4) - base
    near = log_odds(neighbours, margin=1e-3) - base
    return np.asarray(np.clip(MODEL_WEIGHT * model + NEIGHBOUR_WEIGHT * near, -LARGEST, LARGEST))


def with_margins(ratios: Floats, cells: Cells, margins: Floats | None) -> Floats:
    """Log likelihood ratios (N, K) with the area under the margin added (Pleiss et al. 2020).

    The margins come from models that were trained on the label in question. They lean towards it, on positives more than on
    negatives, so each is compared with the other margins of the same given label, in standard deviations.

    :param margins: (N, K), higher where training agreed with the given label; NaN where it did not see it; None without any.
    """
    if margins is None:
        return ratios
    result = ratios.copy()
    for side, sign in ((cells.given & cells.mask, 1.0), (~cells.given & cells.mask, -1.0)):
        side = side & np.isfinite(margins)
        values = margins[side]
        if len(values) and (spread := values.std()) > 0:
            result[side] += sign * MARGIN_WEIGHT * (values - values.mean()) / spread
    return np.asarray(np.clip(result, -LARGEST, LARGEST))


def wrong_positive_rate(cells: Cells, ratios: Floats) -> float:
    """Share of the given positives that are wrong, from the log likelihood ratios (N, K) alone.

    Wrong positives have texts like those of negatives, so a share q of them lies below the negatives' q-quantile; the number of
    positives found there, divided by q, is an upper bound on how many are wrong. The lowest bound of some small q is taken
    (mixture proportion estimation; Blanchard, Lee and Scott 2010).
    """
    found, positives = np.zeros(len(_QUANTILES)), 0
    for column in range(cells.given.shape[1]):
        labelled = cells.mask[:, column]
        given = cells.given[:, column]
        values, others = ratios[labelled & given, column], ratios[labelled & ~given, column]
        if len(values) and len(others):
            limits = np.quantile(others, _QUANTILES)
            found += (values[:, None] <= limits).sum(axis=0)
            positives += len(values)
    bounds = (found + 0.5) / max(positives, 1) / np.array(_QUANTILES)
    return float(np.clip(bounds.min(), 0.005, 0.5))


def quantile_within_label(values: Floats, given: NDArray[np.bool_]) -> Floats:
    """Share (N, K) of the cells of the same policy and given label that have a lower value: 0 for the lowest."""
    result = np.zeros(values.shape)
    for column in range(values.shape[1]):
        for rows in (np.flatnonzero(given[:, column]), np.flatnonzero(~given[:, column])):
            order = np.argsort(values[rows, column], kind="stable")
            result[rows[order], column] = np.arange(len(rows)) / max(len(rows), 1)
    return result
