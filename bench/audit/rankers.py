"""The rankers that `compare.py` compares. All read the same out-of-fold probabilities; a higher score is a likelier error.

For data with one class per row a ranker gives one score per row, by cleanlab's own functions for such data, otherwise one per
cell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from cleanlab import rank
from numpy.typing import NDArray

from merchantguard.audit.ranking.combine import Ranking, rank_cells
from merchantguard.audit.ranking.neighbours import Neighbours
from merchantguard.audit.ranking.scores import Cells, self_confidence

from .cases import Case
from .linear_model import OutOfFold

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RankedCase:
    """A case with the outputs of models and the neighbours of each row."""

    case: Case
    outputs: OutOfFold
    neighbours: Neighbours
    seed: int

    @cached_property
    def cells(self) -> Cells:
        """Labels and probabilities; every cell is labelled."""
        return Cells(self.case.given, np.ones_like(self.case.given), self.outputs.probabilities)

    @cached_property
    def label(self) -> NDArray[np.int64]:
        """The given class of each row."""
        return np.asarray(self.case.given.argmax(axis=1))

    @cached_property
    def shares(self) -> Floats:
        """Share of the neighbours that have the label, (N, K)."""
        return self.neighbours.shares(self.case.given, np.ones_like(self.case.given))

    def ranking(self, *, annotators: bool = True) -> Ranking:
        """The ranking of label-audit, with or without the annotators."""
        who = self.case.annotators if annotators else None
        return rank_cells(self.cells, self.neighbours, margins=self.outputs.aum, annotators=who)


def normalized_margin(cells: Cells) -> Floats:
    """How far the probability of another label of the record is above that of the given one, (N, K).

    For a given positive: the likeliest policy that is not given, minus this one; for a given negative: this policy minus the
    least likely that is given, or minus its complement where none is.
    """
    p = np.where(cells.mask, cells.probabilities, np.nan)
    rival = np.where(cells.mask & ~cells.given, cells.probabilities, -np.inf).max(axis=1, keepdims=True)
    weakest = np.where(cells.mask & cells.given, cells.probabilities, np.inf).min(axis=1, keepdims=True)
    rival = np.where(np.isfinite(rival), rival, 1.0 - p)
    weakest = np.where(np.isfinite(weakest), weakest, 1.0 - p)
    return np.where(cells.given, rival - p, p - weakest)


def _ours(ranked: RankedCase) -> Floats:
    p_label_error = ranked.ranking().p_label_error
    return p_label_error.max(axis=1) if ranked.case.single else p_label_error


def _cleanlab(method: str, *, adjusted: bool) -> Callable[[RankedCase], Floats]:
    def score(ranked: RankedCase) -> Floats:
        if not ranked.case.single:
            if method == "normalized_margin":
                return normalized_margin(ranked.cells)
            return self_confidence(ranked.cells, adjusted=adjusted)
        p = ranked.outputs.probabilities
        shares = p / p.sum(axis=1, keepdims=True)
        return -rank.get_label_quality_scores(ranked.label, shares, method=method, adjust_pred_probs=adjusted)

    return score


def _aum(ranked: RankedCase) -> Floats:
    margins = ranked.outputs.aum
    if not ranked.case.single:
        return -margins
    # Of a class against its strongest rival, as Pleiss et al. define it: the others' margins point away from their class.
    return -(margins[ranked.case.given] + np.where(ranked.case.given, np.inf, margins).min(axis=1))


def _neighbours(ranked: RankedCase) -> Floats:
    doubt = np.where(ranked.case.given, 1.0 - ranked.shares, ranked.shares)
    return doubt[ranked.case.given] if ranked.case.single else doubt


def _random(ranked: RankedCase) -> Floats:
    shape = len(ranked.label) if ranked.case.single else ranked.case.given.shape
    return np.random.default_rng(ranked.seed).random(shape)


RANKERS: dict[str, Callable[[RankedCase], Floats]] = {
    "ours": _ours,
    "cleanlab": _cleanlab("self_confidence", adjusted=False),
    "cleanlab adjusted": _cleanlab("self_confidence", adjusted=True),
    "normalized margin": _cleanlab("normalized_margin", adjusted=False),
    "AUM": _aum,
    "kNN": _neighbours,
    "random": _random,
}


def row_scores(scores: Floats) -> Floats:
    """One score per row: the highest of its cells."""
    return scores if scores.ndim == 1 else scores.max(axis=1)


def verified(ranked: RankedCase, scores: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Truth and scores of the verified rows, or of their cells if a row can have several classes."""
    case = ranked.case
    if case.single:
        return case.wrong.any(axis=1)[case.verified], scores[case.verified]
    return case.wrong[case.verified].ravel(), scores[case.verified].ravel()
