"""Measures a model on labelled records."""

import math
from collections.abc import Sequence
from typing import Literal

from ...data.taxonomy import Taxonomy
from . import metrics
from .bootstrap import percentile_interval
from .breakdown import confusions, decision_counts, reliability_bins, slice_rows, trade_off, worst_errors
from .decision_rule import DecidedRecords, DecisionRule
from .figures import AtThreshold, Bootstrap, Evaluation, Figure, MacroFigures, MeanAt, PolicyFigures, defined
from .headline import CALIBRATION_SAMPLES, Sampled, headline
from .predictions import Predictions

CONFIDENCE = 0.95


def evaluate(
    predictions: Predictions, rule: DecisionRule, taxonomy: Taxonomy, *, bootstrap: int = 1000, seed: int = 0
) -> Evaluation:
    """Measure `predictions` as `rule` decides on them.

    Intervals are percentile intervals of a bootstrap over domains; `bootstrap` 0 leaves them out.

    :raises ValueError: if there is no record, or the policies of the arguments do not fit each other.
    """
    if not len(predictions):
        raise ValueError("there is no record to evaluate")
    decided = rule.decide(predictions, taxonomy)
    labels, over_review = decided.labels, decided.over_review
    figures, by_policy = headline(decided, bootstrap=bootstrap, seed=seed)
    per_policy = _per_policy(decided, taxonomy, by_policy)
    calibration_samples = min(bootstrap, CALIBRATION_SAMPLES)
    return Evaluation(
        records=len(predictions),
        policies=len(taxonomy),
        domains=len(set(predictions.domains)),
        violating=int(labels.violating.sum()),
        compliant=int(labels.compliant.sum()),
        unknown_cells=int((~labels.mask).sum()),
        bootstrap=Bootstrap(bootstrap, calibration_samples, CONFIDENCE, "domain", seed),
        headline={name: _figure(sampled) for name, sampled in figures.items()},
        macro=_macro(per_policy),
        per_policy=per_policy,
        reliability=reliability_bins(decided.probabilities, labels, decided.mix),
        decisions=decision_counts(labels, over_review, decided.over_block),
        slices={name: slice_rows(values, decided) for name, values in predictions.slices.items()},
        confusions=confusions(labels, over_review),
        errors=worst_errors(decided, taxonomy.ids),
        prevalence=None if decided.prevalence is None else decided.prevalence.stated,
        trade_off=trade_off(decided),
    )


def _figure(sampled: Sampled) -> Figure:
    return Figure.of(sampled.value, percentile_interval(sampled.samples, confidence=CONFIDENCE))


def _per_policy(
    decided: DecidedRecords, taxonomy: Taxonomy, precision: Sequence[Sampled]
) -> tuple[PolicyFigures, ...]:
    """The figures of each policy; `precision` holds their average precisions."""
    probabilities, labels = decided.probabilities, decided.labels
    recall = metrics.recall_at_precision(probabilities, labels, precision=0.95)
    at_review = metrics.decide(probabilities, labels, decided.limits)
    at_block = metrics.decide(probabilities, labels, decided.block)
    return tuple(
        PolicyFigures(
            policy=policy.id,
            title=policy.title,
            severity=policy.severity,
            support=int(at_review.positives[k]),
            known=int(labels.mask[:, k].sum()),
            average_precision=_figure(precision[k]),
            recall_at_precision_95=defined(recall[k]),
            review=_at(at_review, k, float(decided.review[k])),
            block=None if math.isnan(decided.block[k]) else _at(at_block, k, float(decided.block[k])),
        )
        for k, policy in enumerate(taxonomy.policies)
    )


def _at(decisions: metrics.Decisions, policy: int, threshold: float) -> AtThreshold:
    return AtThreshold(
        threshold=threshold,
        precision=defined(decisions.precision[policy]),
        recall=defined(decisions.recall[policy]),
        f1=defined(decisions.f1[policy]),
        flagged=int(decisions.flagged[policy]),
        found=int(decisions.found[policy]),
    )


def _macro(rows: Sequence[PolicyFigures]) -> MacroFigures:
    """Means over the policies with a violation here."""
    present = [row for row in rows if row.support]
    return MacroFigures(
        support=sum(row.support for row in rows),
        policies=len(present),
        policies_with_block=sum(row.block is not None for row in rows),
        recall_at_precision_95=_mean([row.recall_at_precision_95 for row in present]),
        review=_mean_at(present, "review"),
        block=_mean_at(present, "block"),
    )


def _mean_at(rows: Sequence[PolicyFigures], at: Literal["review", "block"]) -> MeanAt:
    # Without a block threshold nothing is found: recall and F1 are 0, and precision is not defined.
    places: list[AtThreshold | None] = [getattr(row, at) for row in rows]
    return MeanAt(
        precision=_mean([place.precision if place else None for place in places]),
        recall=_mean([place.recall if place else 0.0 for place in places]),
        f1=_mean([place.f1 if place else 0.0 for place in places]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are defined."""
    return defined(metrics.nan_mean([math.nan if value is None else value for value in values]))
