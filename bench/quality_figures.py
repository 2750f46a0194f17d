"""The figures of one test set: ranking, any-violation AUROC, recall and false alarms at the review threshold."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from baselines import Outcome
from numpy.typing import NDArray
from quality_data import TestSet, is_near_miss

from merchantguard.core.decisions import any_violation
from merchantguard.core.labels import LabelMatrix
from merchantguard.data.records.record import Record, label_matrix
from merchantguard.data.taxonomy import Taxonomy
from merchantguard.train.calibration.platt_scaling import fit_calibration
from merchantguard.train.calibration.thresholds import fit_any_review, fit_thresholds
from merchantguard.train.evaluation.bootstrap import cluster_interval
from merchantguard.train.evaluation.metrics import (
    any_violation_auroc,
    decide,
    false_alarm_rate,
    macro_average_precision,
    review_limits,
)

REFERENCE = "tfidf"
FEWEST_POSITIVES = 3
Rows = NDArray[np.int64]
Statistic = Callable[[Rows], float]
# A model's review thresholds (K,), and the probability of any violation below which a record is clear.
Review = tuple[NDArray[np.float64], float]


class TestSetFigures:
    """Measures one test set: `probabilities` and `reviews` of a model are lists with one entry per seed."""

    def __init__(self, test: TestSet, taxonomy: Taxonomy, *, samples: int) -> None:
        self.labels = label_matrix(test.records, taxonomy)
        self.clusters = [record.domain or record.id for record in test.records]
        self.samples = samples
        self.compliant = np.array([not record.labels for record in test.records])
        self.near = self.compliant & np.array([is_near_miss(record) for record in test.records])
        self.ranked = self._cells_to_rank(test)
        ranked = self.ranked.mask.any(axis=0)
        self.policies = [policy for k, policy in enumerate(taxonomy.ids) if ranked[k]]

    def _cells_to_rank(self, test: TestSet) -> LabelMatrix:
        """Labelled cells of the policies that are present often enough; of one kind only, where the set says so."""
        cells, positive = self.labels.mask.copy(), self.labels.values == 1
        least = FEWEST_POSITIVES
        if test.kind is not None:
            other = np.array([record.extra.get("kind") != test.kind for record in test.records])
            cells &= ~(other[:, None] & positive)
            least = 1
        cells[:, (positive & cells).sum(axis=0) < least] = False
        return LabelMatrix(self.labels.values, cells)

    def interval(self, statistic: Statistic) -> dict[str, float] | None:
        """Point, low and high of a statistic of rows; None where it has no meaning in this set."""
        point = statistic(np.arange(len(self.labels)))
        if not np.isfinite(point):
            return None
        low, high = cluster_interval(statistic, self.clusters, samples=self.samples)
        return {"point": point, "low": low, "high": high}

    def ranking(self, probabilities: Sequence[NDArray[np.float32]]) -> Statistic:
        """Macro average precision over the policies present, averaged over seeds."""

        def statistic(rows: Rows) -> float:
            labels = self.ranked[rows]
            return float(np.mean([macro_average_precision(each[rows], labels) for each in probabilities]))

        return statistic

    def any_violation(self, probabilities: Sequence[NDArray[np.float32]]) -> Statistic:
        """Any-violation AUROC over all cells, labelled or not.

        Over the labelled ones alone a row of a market would be scored on five policies and a compliant row on all.
        """
        labels = LabelMatrix(self.labels.values, np.ones_like(self.labels.mask))

        def statistic(rows: Rows) -> float:
            return float(
                np.mean([any_violation_auroc(any_violation(p[rows]), labels[rows]) for p in probabilities])
            )

        return statistic

    def false_alarms(
        self,
        probabilities: Sequence[NDArray[np.float32]],
        reviews: Sequence[Review],
        *,
        near: bool,
    ) -> Statistic:
        """Share of compliant (or near-miss) rows that go to review."""
        kept = self.near if near else self.compliant

        def statistic(rows: Rows) -> float:
            rows = rows[kept[rows]]
            labels = self.labels[rows]
            pairs = zip(probabilities, reviews, strict=True)
            return float(
                np.mean(
                    [
                        false_alarm_rate(p[rows], labels, review_limits(any_violation(p[rows]), *r))
                        for p, r in pairs
                    ]
                )
            )

        return statistic

    def found(self, probabilities: Sequence[NDArray[np.float32]], reviews: Sequence[Review]) -> Statistic:
        """Share of the violations that go to review under their own policy."""

        def statistic(rows: Rows) -> float:
            shares = []
            for each, review in zip(probabilities, reviews, strict=True):
                limits = review_limits(any_violation(each[rows]), *review)
                counts = decide(each[rows], self.labels[rows], limits)
                total = int(counts.positives.sum())
                shares.append(int(counts.found.sum()) / total if total else float("nan"))
            return float(np.mean(shares))

        return statistic


def measure_set(
    test: TestSet, taxonomy: Taxonomy, scored: Mapping[str, tuple[list[Any], list[Any]]], *, samples: int
) -> dict[str, Any]:
    """All figures of one test set; `scored` is model -> (probabilities per seed, review thresholds per seed)."""
    measured = TestSetFigures(test, taxonomy, samples=samples)
    models: dict[str, Any] = {}
    for name, (probabilities, reviews) in scored.items():
        ranking = measured.ranking(probabilities)
        figures: dict[str, Any] = {"macro_ap": measured.interval(ranking)}
        if name != REFERENCE and REFERENCE in scored:
            figures[f"minus_{REFERENCE}"] = measured.interval(
                _difference(ranking, measured.ranking(scored[REFERENCE][0]))
            )
        if test.kind is None:
            alarms = partial(measured.false_alarms, probabilities, reviews)
            figures["any_violation_auroc"] = measured.interval(measured.any_violation(probabilities))
            figures["found_at_review"] = measured.interval(measured.found(probabilities, reviews))
            figures["false_alarms"] = measured.interval(alarms(near=False))
            figures["false_alarms_near_misses"] = measured.interval(alarms(near=True))
        models[name] = figures
    return {
        "records": len(test.records),
        "groups": len(set(measured.clusters)),
        "compliant": int(measured.compliant.sum()),
        "near_misses": int(measured.near.sum()),
        "distribution": test.distribution,
        "policies": measured.policies,
        "models": models,
    }


def _difference(first: Statistic, second: Statistic) -> Statistic:
    return lambda rows: first(rows) - second(rows)


def calibrated(
    outcome: Outcome, calibration: Sequence[Record], taxonomy: Taxonomy
) -> tuple[dict[str, NDArray[np.float32]], Review]:
    """Probabilities per test set, and the review thresholds, both from the calibration split."""
    labels = label_matrix(calibration, taxonomy)
    fitted = fit_calibration(outcome.logits["calibration"], labels)
    held = fitted.apply(outcome.logits["calibration"])
    thresholds = fit_thresholds(held, labels, taxonomy.ids)
    review = np.array([threshold.review for threshold in thresholds])
    limit = fit_any_review(any_violation(held), labels).threshold
    return {name: fitted.apply(values) for name, values in outcome.logits.items()}, (review, limit)
