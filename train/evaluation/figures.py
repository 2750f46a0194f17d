"""The figures of an evaluation: what `evaluate` returns, and its JSON.

The names of the fields are the keys of metrics.json. None stands for what the records do not define: no positives,
nothing flagged, no interval asked for.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...core.errors import RunError


def defined(value: float) -> float | None:
    """The value, or None where it is not a finite number: JSON has no NaN."""
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its percentile interval."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, value: float, interval: tuple[float, float]) -> "Figure":
        """A figure from numbers that may be NaN."""
        return cls(defined(value), *map(defined, interval))


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How the intervals were made: resamples of whole clusters, fewer of them for the two calibration errors."""

    samples: int
    calibration_samples: int
    confidence: float
    clusters: str
    seed: int


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """A policy at one of its thresholds: `found` of the `flagged` cells are violations."""

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None
    flagged: int
    found: int


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """One policy: `support` violations among its `known` (labelled) cells; `block` is None without a block threshold."""

    policy: str
    title: str
    severity: str
    support: int
    known: int
    average_precision: Figure
    recall_at_precision_95: float | None
    review: AtThreshold
    block: AtThreshold | None


@dataclass(frozen=True, slots=True)
class MeanAt:
    """Means at the review or at the block thresholds."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class MacroFigures:
    """Means over the `policies` with a violation here; a policy without a block threshold has recall 0 at block."""

    support: int
    policies: int
    policies_with_block: int
    recall_at_precision_95: float | None
    review: MeanAt
    block: MeanAt


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Cells of about one probability: mean prediction, share of violations, and the Wilson interval of that share."""

    predicted: float
    observed: float
    low: float
    high: float
    cells: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Records with one decision."""

    records: int
    violating: int
    compliant: int


@dataclass(frozen=True, slots=True)
class BlockCounts(Counts):
    """Blocked records; of `right_policy` a policy that blocks it is one that it violates."""

    right_policy: int


@dataclass(frozen=True, slots=True)
class DecisionCounts:
    """Records by decision."""

    clear: Counts
    review: Counts
    block: BlockCounts


@dataclass(frozen=True, slots=True)
class TradeOff:
    """What a limit on the probability of any violation sends to review: shares of ordinary and of violating records."""

    limit: float
    ordinary: float
    violating: float


@dataclass(frozen=True, slots=True)
class SliceRow:
    """The records with one value of a slice; `policies` counts those with violations and others among them."""

    value: str
    records: int
    violating: int
    policies: int
    macro_average_precision: float | None
    false_alarm_rate: float | None


@dataclass(frozen=True, slots=True)
class Confusions:
    """How often a record that violates policy i (row), and not policy j (column), is flagged for j.

    `share` is None where there is no such record; `records` are the counts that it is a share of. Both are (K, K).
    """

    share: tuple[tuple[float | None, ...], ...] = ()
    records: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """A false alarm or a miss: the record, the policy, and the policies that the record violates."""

    id: str
    policy: str
    probability: float
    labels: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class WorstErrors:
    """The surest false alarms and the surest misses."""

    false_alarms: tuple[ErrorRow, ...] = ()
    misses: tuple[ErrorRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that is measured of a model on labelled records.

    Calibration errors, the Brier score and reliability are stated for `prevalence`; None is the share of violating records
    here, for which all counts, precisions and recalls hold. `trade_off` has a row for each budget of reviews.

    `headline` is keyed as `HEADLINE`, `slices` by the name of the slice. A bundle keeps no bins, confusions and errors.
    """

    records: int
    policies: int
    domains: int
    violating: int
    compliant: int
    unknown_cells: int
    bootstrap: Bootstrap
    headline: Mapping[str, Figure]
    macro: MacroFigures
    per_policy: tuple[PolicyFigures, ...]
    reliability: tuple[ReliabilityBin, ...] = ()
    decisions: DecisionCounts
    slices: Mapping[str, tuple[SliceRow, ...]]
    confusions: Confusions = Confusions()
    errors: WorstErrors = WorstErrors()
    prevalence: float | None = None
    trade_off: tuple[TradeOff, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON values, exact: `from_json` gives back an equal object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Evaluation":
        """Read what `to_json` wrote.

        :raises RunError: if it is not that.
        """
        try:
            return _ADAPTER.validate_python(value)
        except ValidationError as error:
            raise RunError(f"the figures cannot be read ({error}); evaluate the run again") from error


_ADAPTER = TypeAdapter(Evaluation)
