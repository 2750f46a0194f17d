import json
import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score

from merchantguard.core.decisions import Calibration, Prevalence, any_violation
from merchantguard.core.errors import RunError
from merchantguard.core.labels import LabelMatrix
from merchantguard.data.taxonomy import Policy, Taxonomy
from merchantguard.train.calibration.precision_threshold import BlockCertificate
from merchantguard.train.calibration.thresholds import PolicyThreshold, ReviewCertificate
from merchantguard.train.evaluation.decision_rule import DecisionRule
from merchantguard.train.evaluation.evaluate import evaluate
from merchantguard.train.evaluation.figures import Evaluation, Figure
from merchantguard.train.evaluation.predictions import Predictions
from merchantguard.train.report.table import format_table


def taxonomy(policies: int) -> Taxonomy:
    return Taxonomy(
        1, tuple(Policy(f"p{k}", f"Policy {k}", "prohibited", "covers", "") for k in range(policies))
    )


def review_certificate(threshold: float) -> ReviewCertificate:
    return ReviewCertificate(threshold, 0.95, 0.95, 60, 60, 0.951, True, "60 of 60 positives found")


def threshold(policy: str, review: float = 0.5, block: float | None = 0.8) -> PolicyThreshold:
    return PolicyThreshold(
        policy,
        review,
        block,
        BlockCertificate(block, 0.95, 0.95, 0.5, 60, 60, 60, 0, 0.951, block is not None, "60 of 60 found"),
        review_certificate(review),
    )


def simulate(records: int = 200, policies: int = 4, seed: int = 0) -> Predictions:
    generator = np.random.default_rng(seed)
    values = (generator.random((records, policies)) < 0.2).astype(np.float32)
    logits = (generator.normal(size=values.shape) * 1.5 + 3 * values - 2).astype(np.float32)
    return Predictions(
        ids=tuple(f"r{row}" for row in range(records)),
        logits=logits,
        labels=LabelMatrix(values, generator.random(values.shape) < 0.9),
        domains=tuple(f"d{row // 3}" for row in range(records)),
        slices={"form": tuple("listing" if row % 3 else "about" for row in range(records))},
        texts=tuple(f"text {row}" for row in range(records)),
    )


def run(predictions: Predictions, *, any_review: float | None = None, bootstrap: int = 50) -> Evaluation:
    policies = predictions.policies
    rule = DecisionRule(
        Calibration.identity(policies),
        [threshold(f"p{k}", block=None if k == 1 else 0.8) for k in range(policies)],
        None if any_review is None else review_certificate(any_review),
    )
    return evaluate(predictions, rule, taxonomy(policies), bootstrap=bootstrap)


def test_figures_are_those_of_scikit_learn_on_the_labelled_cells() -> None:
    predictions = simulate()
    metrics = run(predictions)
    probabilities = Calibration.identity(4).apply(predictions.logits)
    for k, row in enumerate(metrics.per_policy):
        cells = predictions.labels.mask[:, k]
        truth, scores = predictions.labels.values[cells, k], probabilities[cells, k]
        assert row.average_precision.value == pytest.approx(average_precision_score(truth, scores))
        assert row.review.precision == pytest.approx(precision_score(truth, scores >= 0.5))
        assert row.review.recall == pytest.approx(recall_score(truth, scores >= 0.5))
        assert row.support == truth.sum()
    assert metrics.per_policy[1].block is None
    values = [row.average_precision.value for row in metrics.per_policy]
    assert metrics.headline["macro_average_precision"].value == pytest.approx(np.mean(values))


def test_an_unlabelled_cell_changes_nothing() -> None:
    predictions = simulate()
    values, mask = predictions.labels.values, predictions.labels.mask
    flipped = replace(
        predictions,
        labels=LabelMatrix(np.where(mask, values, 1 - values), mask),
        logits=np.where(mask, predictions.logits, 9.0),
    )
    assert run(flipped) == run(predictions)


def test_a_record_below_the_limit_of_the_whole_is_not_reviewed() -> None:
    predictions = simulate()
    some = any_violation(Calibration.identity(4).apply(predictions.logits))
    limit = float(np.median(some))
    free, limited = run(predictions), run(predictions, any_review=limit)
    assert limited.decisions.clear.records > free.decisions.clear.records
    assert limited.headline["false_alarm_rate_review"].value < free.headline["false_alarm_rate_review"].value
    assert limited.per_policy[0].review.threshold == free.per_policy[0].review.threshold
    for name in ("macro_average_precision", "any_violation_auroc", "brier_score"):
        assert limited.headline[name] == free.headline[name]
    rates = [row.false_alarm_rate for row in limited.slices["form"]]
    assert all(0.0 <= rate < 1.0 for rate in rates)


def test_figures_that_depend_on_the_mix_are_of_the_stated_prevalence() -> None:
    generator = np.random.default_rng(3)
    labels = (generator.random((20_000, 1)) < 0.5).astype(np.float32)
    logits = generator.normal(size=labels.shape) + 3 * labels
    predictions = Predictions(
        ids=tuple(map(str, range(20_000))),
        logits=3 * logits - 4.5,
        labels=LabelMatrix(labels, np.ones_like(labels)),
        domains=tuple(map(str, range(20_000))),
        slices={},
        texts=("",) * 20_000,
    )
    for stated in (None, 0.05):
        prevalence = None if stated is None else Prevalence(stated, 0.5)
        calibration = Calibration(np.ones(1), np.zeros(1), prevalence=prevalence)
        rule = DecisionRule(calibration, [threshold("p0")])
        metrics = evaluate(predictions, rule, taxonomy(1), bootstrap=0)
        assert metrics.headline["smooth_calibration_error"].value < 0.01
        brier = metrics.headline["brier_score"].value
        assert brier == pytest.approx(0.051 if stated is None else 0.0155, rel=0.1)
        assert all(entry.low - 0.02 <= entry.predicted <= entry.high + 0.02 for entry in metrics.reliability)


def test_every_interval_holds_its_figure_and_repeats() -> None:
    predictions = simulate(400)
    metrics = run(predictions, bootstrap=100)
    for name in ("macro_average_precision", "any_violation_auroc", "false_alarm_rate_review", "brier_score"):
        figure = metrics.headline[name]
        assert figure.low < figure.value < figure.high, name
    assert run(predictions, bootstrap=100) == metrics
    assert metrics.bootstrap.calibration_samples == 100


def test_json_comes_back_the_same_and_a_bundle_keeps_a_part() -> None:
    metrics = run(simulate())
    stored = json.loads(json.dumps(metrics.to_json(), allow_nan=False))
    assert Evaluation.from_json(stored) == metrics
    del stored["errors"], stored["reliability"], stored["confusions"]
    assert Evaluation.from_json(stored).headline == metrics.headline
    with pytest.raises(RunError, match="evaluate the run again"):
        Evaluation.from_json({"records": 3})


def test_records_of_one_domain_widen_the_interval() -> None:
    single = simulate(100)
    single = replace(single, domains=single.ids)
    tenfold = single.select(np.repeat(np.arange(100), 10))
    blind = replace(tenfold, domains=tuple(f"d{row}" for row in range(1000)))

    def width(predictions: Predictions) -> float:
        figure = run(predictions, bootstrap=100).headline["macro_average_precision"]
        assert figure.low is not None
        assert figure.high is not None
        return figure.high - figure.low

    assert width(tenfold) == pytest.approx(width(single), rel=0.3)
    assert width(blind) < 0.5 * width(tenfold)


def test_a_policy_without_positives_is_none_and_not_averaged() -> None:
    predictions = simulate()
    predictions.labels.values[:, 2] = 0
    metrics = run(predictions)
    assert metrics.per_policy[2].average_precision == Figure(None, None, None)
    assert metrics.macro.policies == 3
    assert metrics.headline["macro_average_precision"].value is not None
    assert "p2" in format_table(metrics)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_records_of_one_kind_only_give_none_not_an_error(label: float) -> None:
    predictions = simulate(10)
    predictions.labels.values[:] = label
    metrics = run(predictions, bootstrap=0)
    assert metrics.headline["any_violation_auroc"].value is None
    assert metrics.headline["brier_score"].low is None
    assert "AUROC" in format_table(metrics)


def test_slices_add_up_and_leave_out_what_ranks_by_itself() -> None:
    predictions = simulate()
    metrics = run(predictions)
    assert sum(row.records for row in metrics.slices["form"]) == len(predictions)
    lone = run(replace(predictions, slices={"id": predictions.ids})).slices["id"]
    assert all(row.policies == 0 and row.macro_average_precision is None for row in lone)


def test_arguments_that_do_not_fit_are_refused() -> None:
    predictions = simulate()
    identity, names = Calibration.identity(4), taxonomy(4)
    thresholds = [threshold(policy) for policy in names.ids]
    with pytest.raises(ValueError, match="same policies: p3"):
        evaluate(predictions, DecisionRule(identity, thresholds[:3]), names)
    with pytest.raises(ValueError, match="one given twice"):
        evaluate(predictions, DecisionRule(identity, [*thresholds, thresholds[0]]), names)
    with pytest.raises(ValueError, match="predictions have 4 policies, the taxonomy 5"):
        evaluate(predictions, DecisionRule(identity, [*thresholds, threshold("p4")]), taxonomy(5))
    with pytest.raises(ValueError, match="no record"):
        evaluate(predictions.select([]), DecisionRule(identity, thresholds), names)


@pytest.mark.slow
def test_a_thousand_samples_of_a_real_size_take_seconds() -> None:
    predictions = simulate(1500, 20)
    started = time.process_time()
    run(predictions, bootstrap=1000)
    assert time.process_time() - started < 30
