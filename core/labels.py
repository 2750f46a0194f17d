"""Labels of many records at once: what holds, and which cells are labelled at all."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class LabelMatrix:
    """Labels of N records for K policies.

    :param values: float32 (N, K), 1 where a policy is violated, else 0; between them for soft targets.
    :param mask: bool (N, K), False where a cell is unlabelled: it counts in no loss and in no metric.
    :param weights: float32 (N, K), what a cell counts in the training loss; None, as everywhere else, counts all alike.
    :raises ValueError: if they do not have one shape (N, K).
    """

    values: NDArray[np.float32]
    mask: Bools
    weights: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.asarray(self.values, dtype=np.float32))
        object.__setattr__(self, "mask", np.asarray(self.mask, dtype=bool))
        if self.values.ndim != 2 or self.values.shape != self.mask.shape:
            raise ValueError(f"values {self.values.shape} and mask {self.mask.shape} must both be (N, K)")
        if self.weights is not None and self.weights.shape != self.values.shape:
            raise ValueError(f"weights {self.weights.shape} must be as values, {self.values.shape}")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> "LabelMatrix":
        """The labels of some records, by indices, a slice or a bool mask."""
        weights = None if self.weights is None else self.weights[rows]
        return LabelMatrix(self.values[rows], self.mask[rows], weights)

    @property
    def policies(self) -> int:
        """Number of policies, K."""
        return int(self.values.shape[1])

    @property
    def positive(self) -> Bools:
        """(N, K) labelled cells that hold."""
        return np.asarray((self.values > 0) & self.mask)

    @property
    def negative(self) -> Bools:
        """(N, K) labelled cells that do not hold."""
        return np.asarray((self.values == 0) & self.mask)

    @property
    def labelled(self) -> Bools:
        """(N,) records with at least one labelled cell."""
        return np.asarray(self.mask.any(axis=1))

    @property
    def violating(self) -> Bools:
        """(N,) records that violate some policy."""
        return np.asarray(self.positive.any(axis=1))

    @property
    def compliant(self) -> Bools:
        """(N,) records with a labelled cell and no violation."""
        return np.asarray(self.labelled & ~self.violating)
