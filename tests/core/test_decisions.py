import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from merchantguard.core.decisions import (
    AnyCalibration,
    Calibration,
    Prevalence,
    any_violation,
    decide,
    pool,
    strictest,
)

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
        probabilities = Calibration(np.array([1.0]), np.array([0.0])).apply(logits)[:, 0]
    expected = [0, 0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2)), 1, 1]
    assert probabilities.dtype == np.float32
    assert probabilities == pytest.approx(expected, abs=1e-7)


def test_calibration_uses_scale_and_bias_per_policy() -> None:
    probabilities = Calibration(np.array([1.0, 2.0]), np.array([0.0, np.log(3)])).apply(np.zeros((1, 2)))
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


def calibration(prevalence: float | None = 0.02, length: float = 0.3) -> Calibration:
    generator = np.random.default_rng(0)
    return Calibration(
        generator.uniform(0.5, 2.0, 20),
        generator.normal(-2.0, 1.0, 20),
        length,
        AnyCalibration(0.8, -0.4, 0.2),
        None if prevalence is None else Prevalence(prevalence, 0.55),
    )


policy_logits = arrays(np.float32, (7, 20), elements=st.floats(-60, 60, width=32))
window_counts = arrays(np.int64, 7, elements=st.integers(1, 64))


@given(policy_logits, window_counts, st.sampled_from([None, 0.001, 0.02, 0.5]))
def test_a_text_gets_the_same_bits_alone_and_among_others(
    logits: np.ndarray, windows: np.ndarray, prevalence: float | None
) -> None:
    rule = calibration(prevalence)
    for order in ("C", "F"):
        together = rule.probabilities(np.asarray(logits, order=order), windows)
        for row in range(7):
            alone = rule.probabilities(logits[row][None], [int(windows[row])])
            assert np.array_equal(alone.policies[0], together.policies[row])
            assert alone.any_violation[0] == together.any_violation[row]


@given(policy_logits, window_counts)
def test_any_violation_is_never_below_a_policy_and_both_rise_with_the_prevalence(
    logits: np.ndarray, windows: np.ndarray
) -> None:
    before = None
    for prevalence in (0.001, 0.02, 0.3, 0.55, 0.9):
        found = calibration(prevalence).probabilities(logits, windows)
        for values in (found.policies, found.any_violation):
            assert values.dtype == np.float32
            assert ((values >= 0) & (values <= 1)).all()
        assert (found.any_violation >= found.policies.max(axis=1)).all()
        if before is not None:
            assert (found.any_violation >= before.any_violation).all()
            # p a'/a rounds after each step.
            assert (found.policies >= before.policies - 1e-7).all()
        before = found


def test_the_prevalence_of_the_calibration_records_changes_nothing() -> None:
    logits = np.random.default_rng(1).normal(-1.0, 3.0, (50, 20))
    same, none = (calibration(each).probabilities(logits) for each in (0.55, None))
    assert same.policies == pytest.approx(none.policies, rel=1e-6)
    assert same.any_violation == pytest.approx(none.any_violation, rel=1e-6)


def test_the_shift_is_bayes_rule_and_keeps_what_a_violation_is_of() -> None:
    logits = np.random.default_rng(2).normal(-1.0, 2.0, (50, 20))
    before, after = (calibration(each).probabilities(logits) for each in (None, 0.02))
    a = before.any_violation.astype(float)
    weight = 0.02 / 0.55, 0.98 / 0.45
    expected = a * weight[0] / (a * weight[0] + (1 - a) * weight[1])
    assert after.any_violation == pytest.approx(expected, rel=1e-4)
    of_violation = [each.policies / each.any_violation[:, None] for each in (before, after)]
    assert of_violation[1] == pytest.approx(of_violation[0], rel=1e-5)


def test_more_windows_lower_every_probability() -> None:
    logits = np.zeros((3, 20))
    found = calibration().probabilities(logits, [1, 4, 16])
    assert (np.diff(found.policies, axis=0) < 0).all()
    assert (np.diff(found.any_violation) < 0).all()


def test_without_more_any_violation_is_that_of_independent_policies() -> None:
    logits = np.random.default_rng(3).normal(-3.0, 2.0, (50, 20))
    found = Calibration.identity(20).probabilities(logits)
    assert found.any_violation == pytest.approx(any_violation(found.policies), rel=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"length": -0.1},
        {"scale": np.zeros(2)},
        {"any_violation": AnyCalibration(scale=0.0)},
        {"length": np.zeros(3)},
    ],
)
def test_unusable_numbers_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"scale|length"):
        Calibration(**{"scale": np.ones(2), "bias": np.zeros(2), **change})
    with pytest.raises(ValueError, match="prevalence"):
        Prevalence(0.0, 0.5)


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
