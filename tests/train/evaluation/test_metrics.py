import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score

from merchantguard.core.decisions import any_violation
from merchantguard.core.labels import LabelMatrix
from merchantguard.train.evaluation import metrics
from merchantguard.train.evaluation.bootstrap import cluster_interval
from merchantguard.train.evaluation.metric_module import PolicyMetrics

NAN = float("nan")


def sample(seed=0, shape=(300, 4)):
    generator = np.random.default_rng(seed)
    probabilities = generator.random(shape).astype(np.float32)
    labels = (generator.random(shape) < probabilities).astype(np.float32)
    return probabilities, LabelMatrix(labels, generator.random(shape) < 0.9)


def matrix(labels, mask=None):
    return LabelMatrix(labels, np.ones(np.shape(labels)) if mask is None else mask)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int64, 30, elements=st.integers(0, 8)), hnp.arrays(np.bool_, 30))
def test_average_precision_is_that_of_scikit_learn_with_ties(scores, truth):
    truth[0] = True
    column = (scores / 8.0)[:, None]
    ours = metrics.average_precision(column, matrix(truth[:, None]))[0]
    assert ours == pytest.approx(average_precision_score(truth, column[:, 0]))


def test_unlabelled_cells_count_nowhere():
    probabilities, labels = sample()
    flipped = LabelMatrix(np.where(labels.mask, labels.values, 1 - labels.values), labels.mask)
    noisy = np.where(labels.mask, probabilities, NAN)
    for figure in (
        metrics.macro_average_precision,
        lambda p, cells: metrics.any_violation_auroc(any_violation(np.where(cells.mask, p, 0)), cells),
        lambda *cells: metrics.false_alarm_rate(*cells, 0.9),
        lambda *cells: metrics.decide(*cells, 0.5).micro_f1,
        lambda *cells: metrics.micro(metrics.brier, *cells),
    ):
        assert figure(probabilities, labels) == figure(noisy, flipped)


def test_several_doubts_outrank_a_single_one_of_the_same_size():
    probabilities = np.array([[0.4, 0.4, 0.4], [0.4, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    labels = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]])
    assert metrics.any_violation_auroc(any_violation(probabilities), matrix(labels)) == 1.0


def test_policy_without_positives_is_nan_and_left_out_of_the_mean():
    probabilities, labels = sample()
    labels.values[:, 1] = 0
    labels.mask[:, 2] = False
    values = metrics.average_precision(probabilities, labels)
    assert np.isnan(values).tolist() == [False, True, True, False]
    assert metrics.macro_average_precision(probabilities, labels) == values[[0, 3]].mean()
    assert np.isnan(metrics.macro_average_precision(probabilities, matrix(np.zeros((300, 4)))))


def test_decisions_at_a_threshold_agree_with_scikit_learn():
    probabilities, labels = sample()
    decisions = metrics.decide(probabilities, matrix(labels.values), [0.2, 0.5, 0.7, NAN])
    expected = [
        f1_score(labels.values[:, k], probabilities[:, k] >= t) for k, t in enumerate([0.2, 0.5, 0.7])
    ]
    assert decisions.f1[:3] == pytest.approx(expected)
    assert decisions.flagged[3] == 0
    assert np.isnan(decisions.precision[3])
    assert decisions.recall[3] == 0


def test_threshold_equal_to_a_float32_probability_is_reached():
    probability = np.float32(0.1)
    decisions = metrics.decide([[probability]], matrix([[1]]), [float(probability)])
    assert decisions.found.tolist() == [1]


def test_recall_at_precision_by_hand():
    probabilities = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]]).T
    labels = np.array([[1, 1, 0, 1, 0]]).T
    assert metrics.recall_at_precision(probabilities, matrix(labels))[0] == pytest.approx(2 / 3)
    assert metrics.recall_at_precision(probabilities, matrix(labels), precision=0.75)[0] == 1.0
    assert metrics.recall_at_precision(probabilities, matrix(1 - labels))[0] == 0.0


def test_false_alarms_are_a_share_of_compliant_records_only():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.9], [0.1, 0.1], [0.9, 0.9]])
    labels = np.array([[0, 0], [0, 0], [0, 0], [1, 0]])
    mask = np.array([[1, 1], [1, 0], [1, 1], [1, 1]])
    assert metrics.false_alarm_rate(probabilities, matrix(labels, mask), [0.5, 0.5]) == pytest.approx(1 / 3)
    assert np.isnan(metrics.false_alarm_rate(probabilities, matrix(np.ones((4, 2)), mask), 0.5))


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


def mean_of(values):
    return lambda rows: float(values[rows].mean())


def test_bootstrap_of_clusters_is_wider_than_that_of_rows():
    generator = np.random.default_rng(0)
    values = np.repeat(generator.standard_normal(40), 10)
    domains = [f"shop-{row // 10}" for row in range(400)]
    rows = [str(row) for row in range(400)]
    low, high = cluster_interval(mean_of(values), domains, samples=400)
    assert low < values.mean() < high
    ratio = (high - low) / -np.subtract(*cluster_interval(mean_of(values), rows, samples=400))
    assert 2.2 < ratio < 4.2  # the square root of the cluster size, 3.16


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        values = np.repeat(generator.standard_normal(40), 3) + 0.3 * generator.standard_normal(120)
        clusters = [str(row // 3) for row in range(120)]
        low, high = cluster_interval(mean_of(values), clusters, samples=200, confidence=0.9)
        covered += low <= 0 <= high
    assert 80 <= covered <= 98


def test_paired_difference_is_surer_than_two_models_apart():
    generator = np.random.default_rng(0)
    base = generator.standard_normal(200)
    better = base + 0.1
    clusters = [str(row) for row in range(200)]
    low, high = cluster_interval(mean_of(better), clusters, samples=200)
    assert high - low > 0.2

    def difference(rows):
        return mean_of(better)(rows) - mean_of(base)(rows)

    assert cluster_interval(difference, clusters, samples=200) == pytest.approx((0.1, 0.1))


def test_bootstrap_repeats_and_bears_nan():
    values = np.array([NAN, 1.0, 2.0, 3.0])
    first, second = (cluster_interval(mean_of(values), list("abcd"), samples=50) for _ in "ab")
    assert first == second
    assert 1.0 <= first[0] <= first[1] <= 3.0
    assert np.isnan(cluster_interval(lambda rows: NAN, list("ab"), samples=5)).all()
    with pytest.raises(ValueError, match="0 records"):
        cluster_interval(mean_of(values), [])


def test_evaluate_module_gathers_batches_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    probabilities, labels = sample()
    module = PolicyMetrics(cache_dir=str(tmp_path))
    for rows in np.split(np.arange(300), [7, 150]):
        part = labels[rows]
        module.add_batch(predictions=probabilities[rows], references=part.values, mask=part.mask)
    result = module.compute(threshold=0.4)
    assert result == {
        "macro_average_precision": metrics.macro_average_precision(probabilities, labels),
        "micro_f1": metrics.decide(probabilities, labels, 0.4).micro_f1,
    }
