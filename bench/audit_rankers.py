"""The rankers that `audit.py` sets side by side: all read the same out-of-fold probabilities; higher is more suspicious.

Where a row has one class, a ranker gives one score a row, by cleanlab's own functions for such data; else one a cell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from audit_data import Case
from audit_model import OutOfFold
from cleanlab import rank
from numpy.typing import NDArray

from merchantguard.audit.ranking.combine import Ranking, rank_cells
from merchantguard.audit.ranking.neighbours import Neighbours
from merchantguard.audit.ranking.scores import Cells, normalized_margin, self_confidence

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Opinions:
    """A case, what models say of it, and each row's neighbours."""

    case: Case
    outputs: OutOfFold
    neighbours: Neighbours
    seed: int

    @cached_property
    def cells(self) -> Cells:
        """Labels and probabilities; every cell counts as known."""
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
        """Our ranking, with or without who labelled what."""
        who = self.case.annotators if annotators else None
        return rank_cells(self.cells, self.neighbours, margins=self.outputs.aum, annotators=who)


def _ours(opinions: Opinions) -> Floats:
    suspicion = opinions.ranking().suspicion
    return suspicion.max(axis=1) if opinions.case.single else suspicion


def _cleanlab(method: str, *, adjusted: bool) -> Callable[[Opinions], Floats]:
    def score(opinions: Opinions) -> Floats:
        if not opinions.case.single:
            if method == "normalized_margin":
                return normalized_margin(opinions.cells)
            return self_confidence(opinions.cells, adjusted=adjusted)
        p = opinions.outputs.probabilities
        shares = p / p.sum(axis=1, keepdims=True)
        return -rank.get_label_quality_scores(
            opinions.label, shares, method=method, adjust_pred_probs=adjusted
        )

    return score


def _aum(opinions: Opinions) -> Floats:
    margins = opinions.outputs.aum
    if not opinions.case.single:
        return -margins
    # Of a class against its strongest rival, as Pleiss et al. define it: the others' margins point away from their class.
    return -(margins[opinions.case.given] + np.where(opinions.case.given, np.inf, margins).min(axis=1))


def _neighbours(opinions: Opinions) -> Floats:
    doubt = np.where(opinions.case.given, 1.0 - opinions.shares, opinions.shares)
    return doubt[opinions.case.given] if opinions.case.single else doubt


def _random(opinions: Opinions) -> Floats:
    shape = len(opinions.label) if opinions.case.single else opinions.case.given.shape
    return np.random.default_rng(opinions.seed).random(shape)


RANKERS: dict[str, Callable[[Opinions], Floats]] = {
    "ours": _ours,
    "cleanlab": _cleanlab("self_confidence", adjusted=False),
    "cleanlab adjusted": _cleanlab("self_confidence", adjusted=True),
    "normalized margin": _cleanlab("normalized_margin", adjusted=False),
    "AUM": _aum,
    "kNN": _neighbours,
    "random": _random,
}


def row_scores(scores: Floats) -> Floats:
    """One score a row: of cells, the highest."""
    return scores if scores.ndim == 1 else scores.max(axis=1)


def judged(opinions: Opinions, scores: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Truth and scores of what can be judged: rows where a row has one class, else cells."""
    case = opinions.case
    if case.single:
        return case.wrong.any(axis=1)[case.judged], scores[case.judged]
    return case.wrong[case.judged].ravel(), scores[case.judged].ravel()
