import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from merchantguard.train.evaluation.bootstrap import (
    cluster_weights,
    percentile_interval,
    weighted_auroc,
    weighted_average_precision,
    weighted_share,
)


@given(seed=st.integers(0, 10_000), values=st.integers(2, 40))
def test_measures_equal_those_of_the_drawn_records(seed: int, values: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, values, 40) / values  # few values: many ties
    truth = generator.random(40) < 0.4
    weights = generator.integers(0, 3, (5, 40))
    precision = weighted_average_precision(scores, truth, weights)
    area = weighted_auroc(scores, truth, weights)
    for row, drawn in enumerate(weights):
        rows = np.repeat(np.arange(40), drawn)
        if truth[rows].all() or not truth[rows].any():
            continue
        assert precision[row] == pytest.approx(average_precision_score(truth[rows], scores[rows]))
        assert area[row] == pytest.approx(roc_auc_score(truth[rows], scores[rows]))


def test_what_is_not_defined_is_nan() -> None:
    weights = np.array([[1, 0], [0, 0]])
    assert np.isnan(weighted_average_precision([0.5, 0.2], [False, True], weights)).all()
    assert np.isnan(weighted_auroc([0.5, 0.2], [False, True], weights)).all()
    assert np.isnan(weighted_average_precision([], [], np.zeros((3, 0)))).tolist() == [True] * 3
    assert weighted_share([1, 0], [1, 1], weights).tolist()[0] == 1.0
    assert np.isnan(weighted_share([1, 0], [1, 1], weights)[1])
    assert np.isnan(percentile_interval([np.nan], confidence=0.95)).all()


def test_records_of_one_cluster_are_drawn_together() -> None:
    weights = cluster_weights(["a", "b", "a", "c"], samples=500, seed=1)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    assert ((weights[:, 0] + weights[:, 1] + weights[:, 3]) == 3).all()
    assert weights.mean(axis=0) == pytest.approx([1, 1, 1, 1], abs=0.15)
    np.testing.assert_array_equal(weights, cluster_weights(["a", "b", "a", "c"], samples=500, seed=1))
    with pytest.raises(ValueError, match="nothing to draw"):
        cluster_weights([], samples=10, seed=0)


def test_the_interval_covers_the_middle() -> None:
    low, high = percentile_interval(np.linspace(0, 1, 1001), confidence=0.9)
    assert (low, high) == pytest.approx((0.05, 0.95))
