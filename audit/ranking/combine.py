"""The ranking: log likelihood ratios from texts and training, turned into probabilities by the noise model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .log_likelihood_ratio import log_likelihood_ratio, with_margins, wrong_positive_rate
from .neighbours import Neighbours
from .noise_model import NoiseEstimate, fit_noise_model
from .scores import Cells, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The probability of a label error in every cell, with everything it is computed from.

    `neighbours` (N, K): share of the nearest records that have the label. `margins`: area under the margin (N, K), if there is one.
    `wrong_positive_rate`: share of the given positives that are wrong. `annotators` (N,) are indices into `annotator_names`;
    None where fewer than two annotators are named.
    """

    cells: Cells
    neighbours: Floats
    margins: Floats | None
    wrong_positive_rate: float
    noise: NoiseEstimate
    annotators: NDArray[np.int64] | None
    annotator_names: tuple[str, ...]

    @property
    def p_label_error(self) -> Floats:
        """Probability (N, K) that the given label is wrong."""
        return self.noise.p_label_error


def rank_cells(
    cells: Cells,
    neighbours: Neighbours,
    *,
    margins: Floats | None = None,
    annotators: tuple[str | None, ...] | None = None,
) -> Ranking:
    """Rank the cells.

    :param margins: area under the margin (N, K) of models that were trained on the records, if there is one.
    :param annotators: who labelled each record; records without a name count as one annotator.
    """
    near = neighbours.shares(cells.given, cells.mask)
    unseen = log_likelihood_ratio(cells, near)
    # Without the margins: they come from models trained on the labels, and would make positives look better than they are.
    rate = wrong_positive_rate(cells, unseen)
    numbers, names = _numbered(annotators)
    ratios = with_margins(unseen, cells, margins)
    noise = fit_noise_model(cells, ratios, wrong_positive_rate=rate, annotators=numbers)
    return Ranking(cells, near, margins, rate, noise, numbers, names)


def _numbered(annotators: tuple[str | None, ...] | None) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    if annotators is None or len({name for name in annotators if name}) < 2:
        return None, ()
    names = tuple(dict.fromkeys(name or "" for name in annotators))
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[name or ""] for name in annotators], dtype=np.int64), names
