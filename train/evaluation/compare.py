"""Two models on the same records: paired differences of the figures, McNemar tests of decisions, records that changed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from ...core.errors import RunError
from ...core.labels import LabelMatrix
from ...data.taxonomy import Taxonomy
from .bootstrap import percentile_interval
from .breakdown import snippet
from .decision_rule import DECISIONS, DecidedRecords, DecisionRule
from .evaluate import CONFIDENCE
from .figures import defined
from .headline import HEADLINE, Sampled, headline
from .predictions import Predictions

EFFECTS = ("broken", "fixed", "other")

Bools = NDArray[np.bool_]
Effect = Literal["broken", "fixed", "other"]


@dataclass(frozen=True, slots=True, eq=False)
class ComparedModel:
    """One of the two models: its name, its predictions, and how it decides."""

    name: str
    predictions: Predictions
    rule: DecisionRule


@dataclass(frozen=True, slots=True)
class PairedBootstrap:
    """How the intervals were made: resamples of whole clusters in which both models are measured."""

    samples: int
    confidence: float
    clusters: str
    seed: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of both models and `change`, second - first, with its interval; None where it is not defined.

    `verdict` says what the second is where the interval does not hold zero: "better", "worse", else "".
    """

    first: float | None
    second: float | None
    change: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class McNemar:
    """An exact McNemar test: of `records`, those that only one of the two models has right, and the p-value."""

    records: int
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True, slots=True)
class DecisionTest:
    """A McNemar test of the decisions at "review" or "block" on "all", "violating" or "compliant" records."""

    at: str
    of: str
    records: int
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True, slots=True)
class PolicyDifference:
    """One policy: `support` violations, both average precisions, and a test of the flags at review."""

    policy: str
    title: str
    support: int
    average_precision: Difference
    mcnemar: McNemar


@dataclass(frozen=True, slots=True)
class ChangedRecord:
    """A record whose decision or flagged policies differ; `policy` is the one whose probability moved most."""

    id: str
    domain: str
    labels: tuple[str, ...]
    before: str
    after: str
    effect: Effect
    flags_gone: tuple[str, ...]
    flags_new: tuple[str, ...]
    policy: str
    probability_before: float
    probability_after: float
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the second model does otherwise than the first; the names of the fields are the keys of comparison.json.

    `decisions` counts records, rows the first's decision and columns the second's, in the order of DECISIONS.
    """

    first: str
    second: str
    records: int
    domains: int
    violating: int
    bootstrap: PairedBootstrap
    headline: Mapping[str, Difference]
    per_policy: tuple[PolicyDifference, ...]
    mcnemar: tuple[DecisionTest, ...]
    decisions: tuple[tuple[int, ...], ...]
    changed: tuple[ChangedRecord, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def compare(
    first: ComparedModel, second: ComparedModel, taxonomy: Taxonomy, *, bootstrap: int = 1000, seed: int = 0
) -> Comparison:
    """Compare two models on the same records.

    Intervals are those of a paired bootstrap: both models are measured in every draw of domains. The McNemar tests
    (McNemar 1947; exact binomial) take records as independent, so with many records a domain rely on the intervals.

    :raises RunError: if the two do not answer for the same records, or `bootstrap` is not positive.
    """
    _check(first, second, bootstrap)
    one, two = (model.rule.decide(model.predictions, taxonomy) for model in (first, second))
    figures, by_policy = headline(one, bootstrap=bootstrap, seed=seed)
    other_figures, other_by_policy = headline(two, bootstrap=bootstrap, seed=seed)
    p = first.predictions
    return Comparison(
        first=first.name,
        second=second.name,
        records=len(p),
        domains=len(set(p.domains)),
        violating=int(p.labels.violating.sum()),
        bootstrap=PairedBootstrap(bootstrap, CONFIDENCE, "domain", seed),
        headline={
            name: _difference(
                figure, other_figures[name], better=1 if HEADLINE[name].higher_is_better else -1
            )
            for name, figure in figures.items()
        },
        per_policy=_per_policy(one, two, by_policy, other_by_policy, taxonomy),
        mcnemar=_decision_tests(one, two),
        decisions=_decision_table(one, two),
        changed=_changed_records(one, two, taxonomy),
    )


def _check(first: ComparedModel, second: ComparedModel, bootstrap: int) -> None:
    if bootstrap < 1:
        raise RunError(f"--bootstrap {bootstrap}: at least one sample is needed")
    if first.predictions.ids != second.predictions.ids:
        raise RunError(
            f"{first.name} answers for {len(first.predictions)} records, {second.name} for "
            f"{len(second.predictions)}, and not for the same ones in the same order"
        )


def _difference(first: Sampled, second: Sampled, *, better: int) -> Difference:
    """The difference of two figures; `better` is 1 where more is better, else -1."""
    low, high = percentile_interval(second.samples - first.samples, confidence=CONFIDENCE)
    sign = 1 if low > 0 else -1 if high < 0 else 0
    return Difference(
        first=defined(first.value),
        second=defined(second.value),
        change=defined(second.value - first.value),
        low=defined(low),
        high=defined(high),
        verdict={1: "better", -1: "worse", 0: ""}[sign * better],
    )


def _per_policy(
    one: DecidedRecords,
    two: DecidedRecords,
    precision: Sequence[Sampled],
    other_precision: Sequence[Sampled],
    taxonomy: Taxonomy,
) -> tuple[PolicyDifference, ...]:
    """Average precision of each policy in both, and the flags at review that one of the two has alone."""
    positive, mask = one.labels.positive, one.labels.mask
    right, other_right = one.over_review == positive, two.over_review == positive
    return tuple(
        PolicyDifference(
            policy=policy.id,
            title=policy.title,
            support=int(positive[:, k].sum()),
            average_precision=_difference(precision[k], other_precision[k], better=1),
            mcnemar=_mcnemar(right[mask[:, k], k], other_right[mask[:, k], k]),
        )
        for k, policy in enumerate(taxonomy.policies)
    )


def _mcnemar(first: Bools, second: Bools) -> McNemar:
    """Exact McNemar test of two boolean columns, `right` or not: the p-value of as uneven a split of what differs."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differ = only_first + only_second
    p = float(binomtest(only_second, differ).pvalue) if differ else 1.0
    return McNemar(len(first), only_first, only_second, p)


def _decision_tests(one: DecidedRecords, two: DecidedRecords) -> tuple[DecisionTest, ...]:
    """Tests of record decisions: who finds violations, who leaves compliant records alone, who blocks rightly."""
    labels = one.labels
    groups = {"all": labels.labelled, "violating": labels.violating, "compliant": labels.compliant}
    rows = []
    for level, at in enumerate(DECISIONS[1:], start=1):
        right, other_right = ((each.decisions >= level) == labels.violating for each in (one, two))
        for of, inside in groups.items():
            rows.append(DecisionTest(at, of, **asdict(_mcnemar(right[inside], other_right[inside]))))
    return tuple(rows)


def _decision_table(one: DecidedRecords, two: DecidedRecords) -> tuple[tuple[int, ...], ...]:
    table = np.zeros((len(DECISIONS), len(DECISIONS)), dtype=np.int64)
    np.add.at(table, (one.decisions, two.decisions), 1)
    return tuple(map(tuple, table.tolist()))


def _effects(labels: LabelMatrix, before: NDArray[np.int64], after: NDArray[np.int64]) -> list[Effect]:
    """Whether each decision came nearer to the truth: violations belong in block, compliant records in clear."""
    fixed = (after > before) == labels.violating
    effects = np.where(fixed, "fixed", "broken").astype(object)
    effects[~labels.labelled | (before == after)] = "other"
    return list(effects)


def _changed_records(
    one: DecidedRecords, two: DecidedRecords, taxonomy: Taxonomy
) -> tuple[ChangedRecord, ...]:
    """Broken records first, then fixed ones, the largest moves first."""
    p, positive = one.predictions, one.labels.positive
    flags, other_flags = one.over_review, two.over_review
    decisions, other_decisions = one.decisions, two.decisions
    differs = (decisions != other_decisions) | (flags != other_flags).any(axis=1)
    moves = np.abs(two.probabilities.astype(np.float64) - one.probabilities)
    most = np.where(one.labels.mask, moves, 0.0).argmax(axis=1)
    effects = _effects(one.labels, decisions, other_decisions)

    def names(cells: Bools) -> tuple[str, ...]:
        return tuple(taxonomy.ids[k] for k in np.flatnonzero(cells).tolist())

    rows = [
        ChangedRecord(
            id=p.ids[row],
            domain=p.domains[row],
            labels=names(positive[row]),
            before=DECISIONS[decisions[row]],
            after=DECISIONS[other_decisions[row]],
            effect=effects[row],
            flags_gone=names(flags[row] & ~other_flags[row]),
            flags_new=names(other_flags[row] & ~flags[row]),
            policy=taxonomy.ids[most[row]],
            probability_before=float(one.probabilities[row, most[row]]),
            probability_after=float(two.probabilities[row, most[row]]),
            text=snippet(p.texts[row]),
        )
        for row in np.flatnonzero(differs).tolist()
    ]
    return tuple(sorted(rows, key=_severity))


def _severity(row: ChangedRecord) -> tuple[int, float]:
    return EFFECTS.index(row.effect), -abs(row.probability_after - row.probability_before)
