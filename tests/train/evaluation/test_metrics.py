import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score

from merchantguard.train.evaluation import metrics
from merchantguard.train.evaluation.metric_module import PolicyMetrics

NAN = float("nan")


def sample(seed=0, shape=(300, 4)):
    generator = np.random.default_rng(seed)
    probabilities = generator.random(shape).astype(np.float32)
    labels = (generator.random(shape) < probabilities).astype(np.float32)
    return probabilities, labels, generator.random(shape) < 0.9


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int64, 30, elements=st.integers(0, 8)), hnp.arrays(np.bool_, 30))
def test_average_precision_is_that_of_scikit_learn_with_ties(scores, truth):
    truth[0] = True
    column = (scores / 8.0)[:, None]
    ours = metrics.average_precision(column, truth[:, None], np.ones((30, 1)))[0]
    assert ours == pytest.approx(average_precision_score(truth, column[:, 0]))


def test_unknown_cells_count_nowhere():
    probabilities, labels, known = sample()
    flipped = np.where(known, labels, 1 - labels)
    noisy = np.where(known, probabilities, NAN)
    for figure in (
        metrics.macro_average_precision,
        metrics.any_violation_auroc,
        lambda *cells: metrics.false_alarm_rate(*cells, 0.9),
        lambda *cells: metrics.decide(*cells, 0.5).micro_f1,
        lambda *cells: metrics.pooled(metrics.brier, *cells),
    ):
        assert figure(probabilities, labels, known) == figure(noisy, flipped, known)


def test_several_doubts_outrank_a_single_one_of_the_same_size():
    probabilities = np.array([[0.4, 0.4, 0.4], [0.4, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    labels = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]])
    assert metrics.any_violation_auroc(probabilities, labels, np.ones((4, 3))) == 1.0


def test_policy_without_positives_is_nan_and_left_out_of_the_mean():
    probabilities, labels, known = sample()
    labels[:, 1] = 0
    known[:, 2] = False
    values = metrics.average_precision(probabilities, labels, known)
    assert np.isnan(values).tolist() == [False, True, True, False]
    assert metrics.macro_average_precision(probabilities, labels, known) == values[[0, 3]].mean()
    assert np.isnan(metrics.macro_average_precision(probabilities, np.zeros_like(labels), known))


def test_decisions_at_a_threshold_agree_with_scikit_learn():
    probabilities, labels, _ = sample()
    known = np.ones_like(labels)
    decisions = metrics.decide(probabilities, labels, known, [0.2, 0.5, 0.7, NAN])
    expected = [f1_score(labels[:, k], probabilities[:, k] >= t) for k, t in enumerate([0.2, 0.5, 0.7])]
    assert decisions.f1[:3] == pytest.approx(expected)
    assert decisions.flagged[3] == 0
    assert np.isnan(decisions.precision[3])
    assert decisions.recall[3] == 0


def test_threshold_equal_to_a_float32_probability_is_reached():
    probability = np.float32(0.1)
    decisions = metrics.decide([[probability]], [[1]], [[1]], [float(probability)])
    assert decisions.found.tolist() == [1]


def test_recall_at_precision_by_hand():
    probabilities = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]]).T
    labels = np.array([[1, 1, 0, 1, 0]]).T
    known = np.ones((5, 1))
    assert metrics.recall_at_precision(probabilities, labels, known)[0] == pytest.approx(2 / 3)
    assert metrics.recall_at_precision(probabilities, labels, known, precision=0.75)[0] == 1.0
    assert metrics.recall_at_precision(probabilities, 1 - labels, known)[0] == 0.0


def test_false_alarms_are_a_share_of_compliant_records_only():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.9], [0.1, 0.1], [0.9, 0.9]])
    labels = np.array([[0, 0], [0, 0], [0, 0], [1, 0]])
    known = np.array([[1, 1], [1, 0], [1, 1], [1, 1]])
    assert metrics.false_alarm_rate(probabilities, labels, known, [0.5, 0.5]) == pytest.approx(1 / 3)
    assert np.isnan(metrics.false_alarm_rate(probabilities, np.ones((4, 2)), known, 0.5))


def test_calibration_errors_of_a_right_and_a_shifted_model():
    generator = np.random.default_rng(0)
    probability = generator.random(20_000)
    labels = (generator.random(20_000) < probability).astype(np.float64)
    shifted = np.clip(probability + 0.1, 0, 1)
    for error in (metrics.adaptive_calibration_error, metrics.smooth_calibration_error):
        assert error(probability, labels) < 0.015
        assert 0.08 < error(shifted, labels) < 0.12


def test_adaptive_error_does_not_depend_on_the_order_of_equal_probabilities():
    probability = np.repeat([0.2, 0.8], 50)
    labels = np.r_[np.ones(10), np.zeros(40), np.ones(40), np.zeros(10)]
    order = np.random.default_rng(0).permutation(100)
    assert metrics.adaptive_calibration_error(probability, labels) == pytest.approx(0)
    assert metrics.adaptive_calibration_error(probability[order], labels[order]) == pytest.approx(0)


def test_log_loss_is_finite_where_the_model_is_surely_wrong():
    assert metrics.log_loss(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(16.118, abs=0.01)


def mean_of(values):
    return lambda rows: float(values[rows].mean())


def test_bootstrap_of_clusters_is_wider_than_that_of_rows():
    generator = np.random.default_rng(0)
    values = np.repeat(generator.standard_normal(40), 10)
    domains = [f"shop-{row // 10}" for row in range(400)]
    rows = [str(row) for row in range(400)]
    by_domain = metrics.cluster_bootstrap(mean_of(values), domains, samples=400)
    by_row = metrics.cluster_bootstrap(mean_of(values), rows, samples=400)
    assert by_domain.low < by_domain.point < by_domain.high
    ratio = (by_domain.high - by_domain.low) / (by_row.high - by_row.low)
    assert 2.2 < ratio < 4.2  # the square root of the cluster size, 3.16


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        values = np.repeat(generator.standard_normal(40), 3) + 0.3 * generator.standard_normal(120)
        interval = metrics.cluster_bootstrap(
            mean_of(values), [str(row // 3) for row in range(120)], samples=200, level=0.9
        )
        covered += interval.low <= 0 <= interval.high
    assert 80 <= covered <= 98


def test_paired_difference_is_surer_than_two_models_apart():
    generator = np.random.default_rng(0)
    base = generator.standard_normal(200)
    better = base + 0.1
    clusters = [str(row) for row in range(200)]
    apart = metrics.cluster_bootstrap(mean_of(better), clusters, samples=200)
    both = metrics.cluster_bootstrap(metrics.paired(mean_of(better), mean_of(base)), clusters, samples=200)
    assert both.low == pytest.approx(0.1)
    assert both.high == pytest.approx(0.1)
    assert apart.high - apart.low > 0.2


def test_bootstrap_repeats_and_bears_nan():
    values = np.array([NAN, 1.0, 2.0, 3.0])
    first, second = (metrics.cluster_bootstrap(mean_of(values), list("abcd"), samples=50) for _ in "ab")
    assert (first.low, first.high) == (second.low, second.high)
    assert 1.0 <= first.low <= first.high <= 3.0
    assert np.isnan(metrics.cluster_bootstrap(lambda rows: NAN, list("ab"), samples=5).low)
    with pytest.raises(ValueError, match="0 clusters"):
        metrics.cluster_bootstrap(mean_of(values), [])


def test_evaluate_module_gathers_batches_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    probabilities, labels, known = sample()
    module = PolicyMetrics(cache_dir=str(tmp_path))
    for rows in np.split(np.arange(300), [7, 150]):
        module.add_batch(predictions=probabilities[rows], references=labels[rows], known=known[rows])
    result = module.compute(threshold=0.4)
    assert result == {
        "macro_average_precision": metrics.macro_average_precision(probabilities, labels, known),
        "micro_f1": metrics.decide(probabilities, labels, known, 0.4).micro_f1,
    }
