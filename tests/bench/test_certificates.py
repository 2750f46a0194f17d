import numpy as np
import pytest
from certificates import Outcome, World, simulate, summary


def test_a_few_repetitions_certify_rightly() -> None:
    outcomes = simulate(3, violating=300, ordinary=300, prevalence=0.5, truth=50_000)
    pooled = [each.pooled for each in outcomes if each.pooled is not None]
    assert pooled
    assert all(precision >= 0.93 for _, precision in pooled)
    assert all(each.calibrated == pytest.approx(0.5, abs=0.05) for each in outcomes)


def test_the_world_draws_what_it_is_asked_for() -> None:
    sample = World().draw(np.random.default_rng(0), 50, 70)
    assert sample.labels.any(axis=1).tolist() == [True] * 50 + [False] * 70
    assert sample.windows.min() == 1
    assert sample.logits[sample.labels].mean() > sample.logits[~sample.labels].mean() + 3


def test_violated_certificates_are_counted_among_all_repetitions() -> None:
    outcomes = [Outcome((0.8, 0.94), 2, 1, 0.02), Outcome(None, 0, 0, 0.02)]
    assert "50.0%      50.0%     0.80      5.0%      2.50%" in summary(outcomes, "x")
