"""The ranking: evidence from text and training, made probabilities by the model of slips."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .log_likelihood_ratio import out_of_fold_evidence, with_dynamics, wrong_positive_rate
from .neighbours import Neighbours
from .noise_model import Mistakes, fit_mistakes
from .scores import Cells, Floats


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Suspicion of every cell, with all that it rests on.

    `neighbours` (N, K): share of the nearest records that have the label. `margins`: area under the margin (N, K), if there is one.
    `annotators` (N,) are numbers into `annotator_names`; None where no record says who labelled it.
    """

    cells: Cells
    neighbours: Floats
    margins: Floats | None
    wrong_rate: float
    mistakes: Mistakes
    annotators: NDArray[np.int64] | None
    annotator_names: tuple[str, ...]

    @property
    def suspicion(self) -> Floats:
        """Probability (N, K) that the given label is wrong."""
        return self.mistakes.suspicion


def rank_cells(
    cells: Cells,
    neighbours: Neighbours,
    *,
    margins: Floats | None = None,
    annotators: tuple[str | None, ...] | None = None,
) -> Ranking:
    """Rank the cells.

    :param margins: area under the margin (N, K) of models that were trained on the records; None: there is none.
    :param annotators: who labelled each record; those without a name count as one.
    """
    near = neighbours.shares(cells.given, cells.known)
    unseen = out_of_fold_evidence(cells, near)
    # From evidence that never saw the label: the margins lean towards it, and would make positives look better than they are.
    rate = wrong_positive_rate(cells, unseen)
    numbers, names = _numbered(annotators)
    mistakes = fit_mistakes(cells, with_dynamics(unseen, cells, margins), wrong_rate=rate, annotators=numbers)
    return Ranking(cells, near, margins, rate, mistakes, numbers, names)


def _numbered(annotators: tuple[str | None, ...] | None) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    if annotators is None or len({name for name in annotators if name}) < 2:
        return None, ()
    names = tuple(dict.fromkeys(name or "" for name in annotators))
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[name or ""] for name in annotators], dtype=np.int64), names
