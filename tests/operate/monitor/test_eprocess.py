"""What the e-processes promise, on simulated audits."""

import numpy as np
import pytest

from merchantguard.operate.monitor.champion import Rollout, duel
from merchantguard.operate.monitor.eprocess import alarm_evidence, e_bh, precision_evidence
from merchantguard.operate.monitor.estimates import NoSupport, Sample, doubly_robust, exact_interval


def test_without_an_error_88_audits_certify() -> None:
    assert precision_evidence([True] * 87, 0.95).first("certificate", 0.05) is None
    assert precision_evidence([True] * 88, 0.95).first("certificate", 0.05) == 88


def test_an_overdue_audit_counts_against_the_certificate_and_not_for_the_alarm() -> None:
    found = precision_evidence([None] * 60, 0.95)
    assert found.first("certificate", 0.05) is None
    assert found.first("alarm", 0.05) is None


def test_false_alarms_at_the_target_are_rare_however_often_one_looks() -> None:
    right = np.random.default_rng(1).random((300, 2000)) < 0.95
    assert (alarm_evidence(right, 0.95).max(1) >= np.log(20)).mean() <= 0.05


def test_a_drop_after_a_long_good_time_is_found() -> None:
    random = np.random.default_rng(2)
    right = np.concatenate([random.random((100, 500)) < 0.98, random.random((100, 900)) < 0.9], 1)
    alarmed = alarm_evidence(right, 0.95) >= np.log(20)
    assert np.median(np.where(alarmed.any(1), alarmed.argmax(1), 10**6)) - 500 < 400


def test_e_bh_needs_more_of_the_single_than_of_the_many() -> None:
    assert e_bh({"a": 21.0, "b": 1.0}, 0.05) == ()
    assert e_bh({"a": 21.0, "b": 20.0}, 0.05) == ("a", "b")


def test_the_better_bundle_is_named() -> None:
    wins = np.random.default_rng(3).random(2000) < 0.6
    assert duel(list(wins)).verdict == "challenger"
    assert duel(list(~wins)).verdict == "champion"


def test_a_rollout_rolls_back_on_an_alarm_and_stays_back() -> None:
    state = Rollout("new", "salt").step(audits=50, alarm=False)
    assert state.share == 0.1
    assert state.step(audits=60, alarm=True).step(audits=500, alarm=False).share == 0.0


def test_a_stratum_without_a_label_is_refused() -> None:
    sample = Sample(np.full(100, 0.5), np.arange(100) < 50, (np.arange(100) >= 50).astype(int))
    with pytest.raises(NoSupport, match="strata"):
        doubly_robust(sample, np.zeros(100), np.zeros(100))


def test_exact_interval_of_no_error_in_59() -> None:
    assert exact_interval(59, 59, 0.10)[0] == pytest.approx(0.05 ** (1 / 59))
