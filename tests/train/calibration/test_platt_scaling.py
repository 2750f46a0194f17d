import json
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.metrics import log_loss

from merchantguard.core.decisions import Calibration
from merchantguard.core.errors import RunError
from merchantguard.core.labels import LabelMatrix
from merchantguard.train.calibration.platt_scaling import fit_calibration
from merchantguard.train.evaluation.metrics import average_precision, micro, smooth_calibration_error


@dataclass
class World:
    """Policies whose right calibration is known: probability = sigmoid(scale * logit + bias)."""

    separation: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    prevalence: float = 0.04

    def draw(self, generator, records):
        shape = (records, len(self.scale))
        labels = generator.random(shape) < self.prevalence
        evidence = generator.standard_normal(shape) + self.separation * labels
        right = self.separation * evidence - self.separation**2 / 2 + logit(self.prevalence)
        return (right - self.bias) / self.scale, labels.astype(np.float32)


def world(policies=20, *, scale=0.5, bias=-3.0, spread=(0.0, 0.0), seed=0, **rest):
    generator = np.random.default_rng(seed)
    return World(
        separation=generator.uniform(2.5, 4.0, policies),
        scale=scale * np.exp(spread[0] * generator.standard_normal(policies)),
        bias=bias + spread[1] * generator.standard_normal(policies),
        **rest,
    )


def fit(logits, labels):
    return fit_calibration(logits, everything(labels))


def everything(labels):
    return LabelMatrix(labels, np.ones(labels.shape, bool))


def error(calibration, logits, labels):
    return micro(smooth_calibration_error, calibration.apply(logits), everything(labels))


def loss(calibration, logits, labels):
    return log_loss(labels.ravel(), np.clip(calibration.apply(logits).ravel().astype(float), 1e-7, 1 - 1e-7))


def test_calibrated_logits_stay_as_they_are():
    logits, labels = world(4, scale=1.0, bias=0.0, prevalence=0.2).draw(np.random.default_rng(1), 20_000)
    calibration = fit(logits, labels)
    assert calibration.scale == pytest.approx(np.ones(4), abs=0.05)
    assert calibration.bias == pytest.approx(np.zeros(4), abs=0.1)


def test_scale_and_bias_left_by_a_positive_weight_of_20_are_found():
    # A loss that counts positives 20 times learns the logit of 20 p / (20 p + 1 - p): log 20 too high.
    truth = world(3, scale=0.7, bias=-np.log(20), prevalence=0.1)
    generator = np.random.default_rng(2)
    logits, labels = truth.draw(generator, 20_000)
    calibration = fit(logits, labels)
    assert calibration.scale == pytest.approx(truth.scale, abs=0.04)
    assert calibration.bias == pytest.approx(truth.bias, abs=0.15)

    new_logits, new_labels = truth.draw(generator, 20_000)

    def temperature_loss(scale):
        return loss(Calibration(np.full(3, scale), np.zeros(3)), logits, labels)

    scale = minimize_scalar(temperature_loss, bounds=(0.05, 5), method="bounded").x
    temperature = Calibration(np.full(3, scale), np.zeros(3))
    assert error(Calibration.identity(3), new_logits, new_labels) > 0.08
    assert error(temperature, new_logits, new_labels) > 0.05
    assert error(calibration, new_logits, new_labels) < 0.01


@pytest.mark.parametrize("spread", [(0.0, 0.0), (0.15, 0.5), (0.4, 1.5)])
def test_eight_positives_a_policy_are_enough_for_all_together(spread):
    errors, excess = [], []
    for seed in range(6):
        truth, generator = world(spread=spread, seed=seed), np.random.default_rng(100 + seed)
        calibration = fit(*truth.draw(generator, 200))
        logits, labels = truth.draw(generator, 3_000)
        errors.append(error(calibration, logits, labels))
        best = loss(Calibration(truth.scale, truth.bias), logits, labels)
        excess.append(loss(calibration, logits, labels) - best)
    assert np.mean(errors) <= 0.02
    assert np.mean(excess) <= 0.008  # without shrinkage it is 0.014


def test_held_out_log_loss_is_hardly_ever_worse_than_before():
    worse = []
    for seed in range(40):
        truth = world(5, scale=1.0, bias=0.0, seed=seed)  # nothing to gain, so there is only loss to risk
        generator = np.random.default_rng(seed)
        calibration = fit(*truth.draw(generator, 200))
        logits, labels = truth.draw(generator, 4_000)
        worse.append(loss(calibration, logits, labels) - loss(Calibration.identity(5), logits, labels))
    assert np.mean(worse) < 0.002
    assert np.max(worse) < 0.012


def test_policy_with_two_positives_stays_near_the_others():
    truth, generator = world(10, spread=(0.05, 0.2)), np.random.default_rng(3)
    logits, labels = truth.draw(generator, 2_000)
    rows = np.r_[np.flatnonzero(labels[:, 0] == 1)[:2], np.flatnonzero(labels[:, 0] == 0)[:60]]
    mask = np.ones(labels.shape, bool)
    mask[:, 0] = False
    mask[rows, 0] = True
    calibration = fit_calibration(logits, LabelMatrix(labels, mask))
    assert abs(np.log(calibration.scale[0] / np.median(calibration.scale[1:]))) < 0.2
    assert abs(calibration.bias[0] - np.median(calibration.bias[1:])) < 0.5


def test_policy_with_many_positives_follows_its_own_data():
    truth, generator = world(10, spread=(0.05, 0.2)), np.random.default_rng(4)
    truth.bias[0] += 3
    calibration = fit(*truth.draw(generator, 5_000))
    assert calibration.bias[0] == pytest.approx(truth.bias[0], abs=0.4)


def test_policies_without_positives_without_negatives_or_without_cells():
    logits, labels = world(6).draw(np.random.default_rng(5), 300)
    labels[:, 0], labels[:, 1] = 0, 1
    mask = np.ones(labels.shape, bool)
    mask[:, 2] = False
    logits[:, 2] = np.nan  # unlabelled, so that the value does not matter
    calibration = fit_calibration(logits, LabelMatrix(labels, mask))
    assert np.isfinite(calibration.scale).all()
    assert (calibration.scale > 0).all()
    assert calibration.bias[0] < calibration.bias[2] < calibration.bias[1]
    assert calibration.scale.min() <= calibration.scale[2] <= calibration.scale.max()


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_sided_labels_everywhere_stay_finite(label):
    logits = np.random.default_rng(0).standard_normal((50, 3))
    probabilities = fit(logits, np.full((50, 3), label)).apply(logits)
    assert np.abs(probabilities - label).max() < 0.5


def test_nothing_labelled_changes_nothing():
    calibration = fit_calibration(np.ones((5, 2)), LabelMatrix(np.ones((5, 2)), np.zeros((5, 2))))
    assert calibration.scale.tolist() == [1, 1]
    assert calibration.bias.tolist() == [0, 0]
    assert fit(np.ones((0, 2)), np.ones((0, 2))).bias.tolist() == [0, 0]


def test_extreme_logits_are_tamed():
    generator = np.random.default_rng(6)
    labels = (generator.random((400, 3)) < 0.3).astype(np.float32)
    wrong = generator.random((400, 3)) < 0.1
    logits = np.where((labels == 1) ^ wrong, 1e4, -1e4)
    calibration = fit(logits, labels)
    probabilities = calibration.apply(logits)
    assert np.isfinite(probabilities).all()
    assert probabilities[logits > 0].mean() == pytest.approx(labels[logits > 0].mean(), abs=0.05)


def test_order_and_so_average_precision_are_kept():
    logits, labels = world(8).draw(np.random.default_rng(7), 400)
    probabilities = fit(logits, labels).apply(logits)
    assert probabilities.dtype == np.float32
    before, after = (average_precision(each, everything(labels)) for each in (logits, probabilities))
    assert after == pytest.approx(before, abs=1e-6)


def test_same_data_same_bits_and_json_keeps_them():
    logits, labels = world(5).draw(np.random.default_rng(8), 200)
    first, second = fit(logits, labels), fit(logits, labels)
    again = Calibration.from_json(json.loads(json.dumps(first.to_json())))
    for other in (second, again):
        assert (first.scale == other.scale).all()
        assert (first.bias == other.bias).all()
    assert first.apply(logits) == pytest.approx(expit(first.scale * logits + first.bias), abs=1e-6)


def long_records(generator, records, *, length=0.8):
    """Logits whose log odds of a violation fall by `length` for each factor of e of windows."""
    windows = generator.integers(1, 40, records)
    logits = generator.normal(-1.0, 3.0, (records, 4)) + length * np.log(windows)[:, None]
    labels = generator.random(logits.shape) < expit(0.7 * logits - 1.0 - length * np.log(windows)[:, None])
    return logits, labels.astype(np.float32), windows


def test_the_length_is_found_and_is_zero_where_it_does_not_matter():
    logits, labels, windows = long_records(np.random.default_rng(9), 8_000)
    calibration = fit_calibration(logits, everything(labels), windows)
    assert calibration.length == pytest.approx(0.8, abs=0.05)
    assert calibration.scale == pytest.approx(np.full(4, 0.7), abs=0.04)
    assert calibration.bias == pytest.approx(np.full(4, -1.0), abs=0.12)
    shorter = fit_calibration(logits, everything(labels), np.ones(len(logits)))
    assert shorter.length == 0.0
    rising = fit_calibration(logits, everything(labels), 41 - windows)
    assert rising.length >= 0.0


def test_any_violation_of_dependent_policies_is_calibrated_by_itself():
    generator = np.random.default_rng(10)
    violating = generator.random(6_000) < 0.5
    # All policies rise and fall together, so 1 - product(1 - p) is far too sure.
    shared = generator.normal(0.0, 1.0, 6_000)[:, None] + 2.0 * violating[:, None]
    labels = violating[:, None] & (np.arange(12) == generator.integers(0, 12, 6_000)[:, None])
    logits = shared + 1.5 * labels + generator.normal(0.0, 0.3, labels.shape)
    half = np.arange(6_000) < 3_000
    calibration = fit_calibration(logits[half], everything(labels[half].astype(np.float32)))
    found = calibration.probabilities(logits[~half])
    truth = violating[~half].astype(float)
    assert smooth_calibration_error(found.any_violation, truth) < 0.03
    assert (found.any_violation >= found.policies.max(axis=1)).all()


def test_a_stated_prevalence_is_kept_with_the_share_of_the_records():
    logits, labels = world(5, prevalence=0.2).draw(np.random.default_rng(11), 400)
    calibration = fit_calibration(logits, everything(labels), prevalence=0.02)
    assert calibration.prevalence.stated == 0.02
    assert calibration.prevalence.calibration == pytest.approx(labels.any(axis=1).mean())
    one_kind = fit_calibration(logits, everything(np.zeros_like(labels)), prevalence=0.02)
    assert one_kind.prevalence is None
    stored = json.loads(json.dumps(calibration.to_json()))
    again, before = (Calibration.from_json(stored).probabilities(logits), calibration.probabilities(logits))
    assert (again.policies == before.policies).all()
    assert (again.any_violation == before.any_violation).all()
    old = Calibration.from_json({"scale": [1.0], "bias": [0.0]})
    assert old.length == 0.0
    assert old.prevalence is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_logit_is_named(value):
    logits = np.zeros((4, 3))
    logits[2, 1] = value
    with pytest.raises(RunError, match=r"record 2, policy 1 is -?(nan|inf)"):
        fit(logits, np.zeros((4, 3)))


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        fit(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        fit(np.zeros((1, 1)), np.full((1, 1), 0.5))
    with pytest.raises(ValueError, match=r"expected \(N, 2\)"):
        Calibration.identity(2).apply(np.zeros((4, 3)))
    with pytest.raises(RunError, match="bias"):
        Calibration.from_json({"scale": [1.0]})
    with pytest.raises(RunError, match="positive"):
        Calibration.from_json({"scale": [0.0], "bias": [0.0]})
