import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score

from merchantguard.data.taxonomy import Policy, Taxonomy
from merchantguard.train.calibration.platt_scaling import Calibration
from merchantguard.train.calibration.precision_threshold import BlockCertificate
from merchantguard.train.calibration.thresholds import PolicyThreshold, ReviewCertificate
from merchantguard.train.evaluation.evaluate import evaluate, format_table
from merchantguard.core.decisions import any_violation
from merchantguard.train.evaluation.predictions import Predictions


def taxonomy(policies: int) -> Taxonomy:
    return Taxonomy(
        1, tuple(Policy(f"p{k}", f"Policy {k}", "prohibited", "covers", "") for k in range(policies))
    )


def threshold(policy: str, review: float = 0.5, block: float | None = 0.8) -> PolicyThreshold:
    return PolicyThreshold(
        policy,
        review,
        block,
        BlockCertificate(block, 0.95, 0.95, 60, 60, 0.951, block is not None, "60 flagged, 60 right"),
        ReviewCertificate(review, 0.95, 0.95, 60, 60, 0.951, True, "60 of 60 positives found"),
    )


def simulate(records: int = 200, policies: int = 4, seed: int = 0) -> Predictions:
    generator = np.random.default_rng(seed)
    labels = (generator.random((records, policies)) < 0.2).astype(np.float32)
    return Predictions(
        ids=tuple(f"r{row}" for row in range(records)),
        logits=(generator.normal(size=labels.shape) * 1.5 + 3 * labels - 2).astype(np.float32),
        labels=labels,
        known=generator.random(labels.shape) < 0.9,
        domains=tuple(f"d{row // 3}" for row in range(records)),
        slices={"form": tuple("listing" if row % 3 else "about" for row in range(records))},
        texts=tuple(f"text {row}" for row in range(records)),
    )


def run(predictions: Predictions, **options: Any) -> dict[str, Any]:
    policies = predictions.policies
    return evaluate(
        predictions,
        Calibration.identity(policies),
        [threshold(f"p{k}", block=None if k == 1 else 0.8) for k in range(policies)],
        taxonomy(policies),
        **{"bootstrap": 50} | options,
    )


def test_figures_are_those_of_scikit_learn_on_the_known_cells() -> None:
    predictions = simulate()
    metrics = run(predictions)
    probabilities = Calibration.identity(4).apply(predictions.logits)
    for k, row in enumerate(metrics["per_policy"]):
        cells = predictions.known[:, k]
        truth, scores = predictions.labels[cells, k], probabilities[cells, k]
        assert row["average_precision"]["value"] == pytest.approx(average_precision_score(truth, scores))
        assert row["review"]["precision"] == pytest.approx(precision_score(truth, scores >= 0.5))
        assert row["review"]["recall"] == pytest.approx(recall_score(truth, scores >= 0.5))
        assert row["support"] == truth.sum()
    assert metrics["per_policy"][1]["block"] is None
    values = [row["average_precision"]["value"] for row in metrics["per_policy"]]
    assert metrics["headline"]["macro_average_precision"]["value"] == pytest.approx(np.mean(values))


def test_an_unknown_cell_changes_nothing() -> None:
    predictions = simulate()
    hidden = ~predictions.known
    flipped = replace(
        predictions,
        labels=np.where(hidden, 1 - predictions.labels, predictions.labels),
        logits=np.where(hidden, 9.0, predictions.logits),
    )
    assert run(flipped) == run(predictions)


def test_a_record_below_the_limit_of_the_whole_is_not_reviewed() -> None:
    predictions = simulate()
    some = any_violation(Calibration.identity(4).apply(predictions.logits))
    limit = float(np.median(some))
    free, limited = run(predictions), run(predictions, any_review=limit)
    assert limited["decisions"]["clear"]["records"] > free["decisions"]["clear"]["records"]
    assert (
        limited["headline"]["false_alarm_rate_review"]["value"]
        < free["headline"]["false_alarm_rate_review"]["value"]
    )
    assert limited["per_policy"][0]["review"]["threshold"] == free["per_policy"][0]["review"]["threshold"]
    for name in ("macro_average_precision", "any_violation_auroc", "brier_score"):
        assert limited["headline"][name] == free["headline"][name]
    rates = [row["false_alarm_rate"] for row in limited["slices"]["form"]]
    assert all(0.0 <= rate < 1.0 for rate in rates)


def test_every_interval_holds_its_figure_and_repeats() -> None:
    predictions = simulate(400)
    metrics = run(predictions, bootstrap=100)
    for name in ("macro_average_precision", "any_violation_auroc", "false_alarm_rate_review", "brier_score"):
        figure = metrics["headline"][name]
        assert figure["low"] < figure["value"] < figure["high"], name
    assert run(predictions, bootstrap=100) == metrics
    assert metrics["bootstrap"]["calibration_samples"] == 100
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_records_of_one_domain_widen_the_interval() -> None:
    single = simulate(100)
    single = replace(single, domains=single.ids)
    tenfold = single.select(np.repeat(np.arange(100), 10))
    blind = replace(tenfold, domains=tuple(f"d{row}" for row in range(1000)))

    def width(predictions: Predictions) -> float:
        figure = run(predictions, bootstrap=100)["headline"]["macro_average_precision"]
        return float(figure["high"] - figure["low"])

    assert width(tenfold) == pytest.approx(width(single), rel=0.3)
    assert width(blind) < 0.5 * width(tenfold)


def test_a_policy_without_positives_is_none_and_not_averaged() -> None:
    predictions = simulate()
    labels = predictions.labels.copy()
    labels[:, 2] = 0
    metrics = run(replace(predictions, labels=labels))
    assert metrics["per_policy"][2]["average_precision"] == {"value": None, "low": None, "high": None}
    assert metrics["macro"]["policies"] == 3
    assert metrics["headline"]["macro_average_precision"]["value"] is not None
    assert "p2" in format_table(metrics)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_records_of_one_kind_only_give_none_not_an_error(label: float) -> None:
    predictions = simulate(10)
    metrics = run(replace(predictions, labels=np.full((10, 4), label)), bootstrap=0)
    assert metrics["headline"]["any_violation_auroc"]["value"] is None
    assert metrics["headline"]["brier_score"]["low"] is None
    assert "AUROC" in format_table(metrics)


def test_slices_add_up_and_leave_out_what_ranks_by_itself() -> None:
    predictions = simulate()
    metrics = run(predictions)
    rows = {row["value"]: row for row in metrics["slices"]["form"]}
    assert sum(row["records"] for row in rows.values()) == len(predictions)
    lone = run(replace(predictions, slices={"id": predictions.ids}))["slices"]["id"]
    assert all(row["policies"] == 0 and row["macro_average_precision"] is None for row in lone)


def test_arguments_that_do_not_fit_are_refused() -> None:
    predictions = simulate()
    identity, names = Calibration.identity(4), taxonomy(4)
    thresholds = [threshold(policy) for policy in names.ids]
    with pytest.raises(ValueError, match="same policies: p3"):
        evaluate(predictions, identity, thresholds[:3], names)
    with pytest.raises(ValueError, match="one given twice"):
        evaluate(predictions, identity, [*thresholds, thresholds[0]], names)
    with pytest.raises(ValueError, match="predictions have 4 policies, the taxonomy 5"):
        evaluate(predictions, identity, [*thresholds, threshold("p4")], taxonomy(5))
    with pytest.raises(ValueError, match="no record"):
        evaluate(predictions.select([]), identity, thresholds, names)


@pytest.mark.slow
def test_a_thousand_samples_of_a_real_size_take_seconds() -> None:
    predictions = simulate(1500, 20)
    started = time.process_time()
    run(predictions, bootstrap=1000)
    assert time.process_time() - started < 30
