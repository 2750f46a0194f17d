"""Cross-fitting: every calibration record gets its probabilities from a calibration that was fitted without it.

So all records both calibrate and certify (Chernozhukov et al. 2018, for estimates in general). The shipped calibration is
fitted on all of them: what is certified is the procedure, of which each fold is a run on four fifths of the records.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...core.decisions import Probabilities
from ...core.labels import LabelMatrix
from .platt_scaling import fit_calibration

FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """The fold (N,) of each record, from 0 to `count` - 1."""

    numbers: NDArray[np.int64]
    count: int

    @classmethod
    def by_cluster(cls, clusters: Sequence[str], count: int = FOLDS) -> "Folds":
        """Folds of whole clusters, in an order that depends on their names alone; as many folds as clusters at most."""
        names = sorted(
            set(clusters), key=lambda name: hashlib.sha256(name.encode("utf-8", "replace")).digest()
        )
        places = {name: place for place, name in enumerate(names)}
        folds = max(1, min(count, len(names)))
        return cls(np.array([places[name] % folds for name in clusters], dtype=np.int64), folds)

    @classmethod
    def none(cls, records: int) -> "Folds":
        """One fold of all records."""
        return cls(np.zeros(records, dtype=np.int64), 1)

    def __getitem__(self, rows: ArrayLike) -> "Folds":
        """The folds of some records, by indices or a bool mask."""
        return Folds(self.numbers[np.asarray(rows)], self.count)


def cross_fit(
    logits: ArrayLike, labels: LabelMatrix, windows: ArrayLike, folds: Folds, *, prevalence: float | None
) -> Probabilities:
    """Out-of-fold probabilities of the calibration records; with a single fold those of a calibration on all.

    Arguments as in `fit_calibration`.
    """
    values, counts = np.asarray(logits), np.asarray(windows)
    policies = np.zeros(values.shape, dtype=np.float32)
    some = np.zeros(len(values), dtype=np.float32)
    for fold in range(folds.count):
        held = folds.numbers == fold
        fitted = ~held if folds.count > 1 else held
        calibration = fit_calibration(values[fitted], labels[fitted], counts[fitted], prevalence=prevalence)
        found = calibration.probabilities(values[held], counts[held])
        policies[held], some[held] = found.policies, found.any_violation
    return Probabilities(policies, some)
