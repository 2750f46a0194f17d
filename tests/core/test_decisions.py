import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from merchantguard.core.decisions import any_violation, calibrate, decide, pool, strictest

window_logits = arrays(np.float32, (4, 3), elements=st.floats(-30, 30, width=32))


@given(window_logits)
def test_maximum_pooling_is_the_maximum_per_policy(logits: np.ndarray) -> None:
    assert np.array_equal(pool(logits, None), logits.max(axis=0))


@given(window_logits, window_logits)
def test_attention_pooling_lies_between_the_windows(logits: np.ndarray, scores: np.ndarray) -> None:
    pooled = pool(logits, scores)
    assert (pooled <= logits.max(axis=0) + 1e-4).all()
    assert (pooled >= logits.min(axis=0) - 1e-4).all()


def test_attention_pooling_weighs_by_softmax() -> None:
    logits = np.array([[1.0], [3.0]], dtype=np.float32)
    scores = np.log(np.array([[1.0], [3.0]], dtype=np.float32))
    assert pool(logits, scores) == pytest.approx(np.array([2.5]))


def test_calibration_is_the_sigmoid_without_overflow() -> None:
    logits = np.array([-1e30, -800, -2, 0, 2, 800, 1e30], dtype=np.float32)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probabilities = calibrate(logits, np.array([1.0]), np.array([0.0]))[:, 0]
    expected = [0, 0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2)), 1, 1]
    assert probabilities.dtype == np.float32
    assert probabilities == pytest.approx(expected, abs=1e-7)


def test_calibration_uses_scale_and_bias_per_policy() -> None:
    probabilities = calibrate(np.zeros((1, 2), np.float32), np.array([1.0, 2.0]), np.array([0.0, np.log(3)]))
    assert probabilities[0] == pytest.approx([0.5, 0.75])


def test_any_violation_is_the_chance_that_not_all_policies_are_kept() -> None:
    assert any_violation([0.5, 0.2]) == pytest.approx(1 - 0.5 * 0.8)
    assert any_violation(np.zeros((2, 3))).tolist() == [0.0, 0.0]
    assert 1 - 1e-9 < any_violation([1.0, 0.0]) <= 1.0
    assert any_violation([1e-9] * 4) == pytest.approx(4e-9)


@given(arrays(np.float32, (5, 20), elements=st.floats(0, 1, width=32)))
def test_any_violation_of_a_record_is_the_same_alone_and_among_others(probabilities: np.ndarray) -> None:
    together = any_violation(probabilities)
    for order in ("C", "F"):
        assert np.array_equal(any_violation(np.asarray(probabilities, order=order)), together)
    assert [any_violation(row).item() for row in probabilities] == together.tolist()


@pytest.mark.parametrize(
    ("probability", "block", "decision"),
    [
        (0.29, 0.9, "clear"),
        (0.3, 0.9, "review"),
        (0.89, 0.9, "review"),
        (0.9, 0.9, "block"),
        (1.0, None, "review"),
        (0.3, 0.3, "block"),
    ],
)
def test_decide(probability: float, block: float | None, decision: str) -> None:
    assert decide(probability, 0.3, block) == decision


def test_the_strictest_decision_wins() -> None:
    assert strictest([]) == "clear"
    assert strictest(["clear", "review", "clear"]) == "review"
    assert strictest(["review", "block", "clear"]) == "block"
