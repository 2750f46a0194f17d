import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import binomtest, norm

from merchantguard.core.decisions import Probabilities, any_violation
from merchantguard.core.errors import RunError
from merchantguard.core.labels import LabelMatrix
from merchantguard.train.calibration.cross_fitting import Folds
from merchantguard.train.calibration.pooled import policy_floors
from merchantguard.train.calibration.precision_threshold import (
    PrecisionTest,
    allowed_errors,
    certify_block,
    lower_bound,
    upper_bound,
)
from merchantguard.train.calibration.thresholds import (
    PolicyThreshold,
    Targets,
    Thresholds,
    fit_all_thresholds,
    fit_any_review,
    fit_thresholds,
)

PREVALENCE, SEPARATION = 0.1, 4.0


def draw(records, policies, *, separation=SEPARATION, prevalence=PREVALENCE, seed=0):
    """Calibrated probabilities and labels (records, policies) of normal scores."""
    generator = np.random.default_rng(seed)
    labels = generator.random((records, policies)) < prevalence
    scores = generator.standard_normal(labels.shape) + separation * labels
    return expit(separation * scores - separation**2 / 2 + logit(prevalence)).astype(np.float32), labels


def score_of(threshold):
    return (logit(threshold) + SEPARATION**2 / 2 - logit(PREVALENCE)) / SEPARATION


def precision_at(score):
    hits = PREVALENCE * norm.sf(score - SEPARATION)
    return hits / (hits + (1 - PREVALENCE) * norm.sf(score))


def matrix(labels, mask=None):
    return LabelMatrix(labels, np.ones(labels.shape, bool) if mask is None else mask)


def fit(probabilities, labels, mask=None, **options):
    names = [f"policy-{column}" for column in range(labels.shape[1])]
    clusters = options.pop("clusters", None)
    return fit_thresholds(
        probabilities, matrix(labels, mask), names, clusters=clusters, targets=Targets(**options)
    )


def test_of_1000_resamples_few_certificates_are_violated_and_recall_is_near_the_oracle():
    resamples = fit(*draw(4_000, 1_000))
    oracle = brentq(lambda score: precision_at(score) - 0.95, 0, 8)
    blocks = np.array([score_of(np.float64(t.block)) for t in resamples if t.block is not None])
    violated = (precision_at(blocks) < 0.95).sum() / len(resamples)
    recall = norm.sf(blocks - SEPARATION).sum() / len(resamples)
    assert violated <= 0.05
    assert recall >= 0.95 * norm.sf(oracle - SEPARATION)
    reviews = np.array([score_of(np.float64(t.review)) for t in resamples])
    assert all(t.review_certificate.certified for t in resamples)
    assert (norm.sf(reviews - SEPARATION) < 0.95).mean() <= 0.05


def test_the_limit_on_the_whole_record_is_certified_and_spares_false_alarms():
    missed, alarms, alarms_of_policies = [], [], []
    for seed in range(200):
        probabilities, labels = draw(400, 20, separation=3.0, prevalence=0.02, seed=seed)
        certificate = fit_any_review(any_violation(probabilities), matrix(labels))
        assert certificate.certified
        review = np.array([t.review for t in fit(probabilities, labels)])
        new, truth = draw(4_000, 20, separation=3.0, prevalence=0.02, seed=10_000 + seed)
        over, violating = any_violation(new) >= certificate.threshold, truth.any(axis=1)
        missed.append((~over)[violating].mean())
        alarms.append(over[~violating].mean())
        alarms_of_policies.append((new >= review).any(axis=1)[~violating].mean())
    assert np.mean(np.array(missed) > 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert np.median(alarms) < np.median(alarms_of_policies)


def test_the_limit_on_the_whole_record_counts_a_domain_once():
    probabilities, labels = draw(300, 3, prevalence=0.3)
    certificate = fit_any_review(any_violation(probabilities), matrix(labels), clusters=["one"] * 300)
    assert certificate.positives <= 1
    assert not certificate.certified


def test_labels_drawn_from_the_target_itself_are_certified_at_most_one_time_in_twenty():
    # The hardest case: every threshold has a precision a hair under the target, so any certificate is wrong.
    generator = np.random.default_rng(1)
    probabilities = generator.random((1_500, 1_000)).astype(np.float32)
    labels = generator.random(probabilities.shape) < 0.9499
    wrong = np.mean([t.block is not None for t in fit(probabilities, labels)])
    assert wrong <= 0.05


def test_bounds_are_those_of_clopper_and_pearson():
    for right, flagged in [(0, 5), (59, 59), (90, 93), (500, 510)]:
        exact = binomtest(right, flagged, alternative="greater").proportion_ci(0.95, "exact").low
        assert lower_bound(right, flagged, 0.95) == pytest.approx(exact)


def test_allowed_errors_are_the_most_whose_bound_reaches_the_target():
    allowed = allowed_errors(400, 0.95, 0.95)
    assert allowed[[0, 58, 59, 92, 93]].tolist() == [-1, -1, 0, 0, 1]
    for flagged in range(59, 401):
        errors = int(allowed[flagged])
        assert lower_bound(flagged - errors, flagged, 0.95) >= 0.95
        assert lower_bound(flagged - errors - 1, flagged, 0.95) < 0.95


def test_a_test_passes_where_its_bound_reaches_the_target():
    for violating, ordinary, prevalence in [(100, 400, 0.3), (60, 4_000, 0.02), (40, 0, 0.9)]:
        test = PrecisionTest(violating, ordinary, prevalence, 0.95, 0.95)
        for found in (0, violating // 2, violating):
            for alarms in range(min(ordinary, 12) + 1):
                passes = bool(test.passes(found, alarms))
                assert passes == (test.precision_lower(found, alarms) >= 0.95)


def test_a_failed_certificate_says_how_many_ordinary_records_are_missing():
    scores = np.r_[np.full(80, 0.9), np.full(1_000, 0.1)].astype(np.float32)
    positive = np.arange(1_080) < 100
    options = {"prevalence": 0.02, "precision_target": 0.95, "confidence": 0.95}
    few = certify_block(scores, positive, **options)
    assert few.threshold is None
    assert few.reason == (
        "80 of 100 found, 0 of 980 ordinary records blocked: 3,300 ordinary calibration records more without a false "
        "alarm are needed"
    )
    more = np.r_[scores, np.full(3_300, 0.1, np.float32)]
    enough = certify_block(more, np.arange(len(more)) < 100, **options)
    assert enough.certified
    assert enough.precision_lower >= 0.95


def test_the_mix_of_the_calibration_records_does_not_matter():
    probabilities, labels = draw(3_000, 1, prevalence=0.3, seed=8)
    options = {"prevalence": 0.1, "precision_target": 0.9, "confidence": 0.95}
    once = certify_block(probabilities[:, 0], labels[:, 0], **options)
    # Bounds of shares: ten times the violating records make them surer, and change no share.
    rows = np.r_[np.arange(3_000), np.repeat(np.flatnonzero(labels[:, 0]), 9)]
    tenfold = certify_block(probabilities[rows, 0], labels[rows, 0], **options)
    assert tenfold.threshold == pytest.approx(once.threshold, abs=0.1)
    assert tenfold.prevalence == once.prevalence == 0.1


def everything(probabilities, labels, **options):
    names = [f"policy-{column}" for column in range(labels.shape[1])]
    clusters = [f"shop-{row}" for row in range(len(labels))]
    found = Probabilities(probabilities, any_violation(probabilities).astype(np.float32))
    return fit_all_thresholds(
        found,
        matrix(labels),
        names,
        clusters=clusters,
        folds=Folds.by_cluster(clusters),
        targets=Targets(**options),
    )


def test_policies_without_a_certificate_of_their_own_block_by_a_pooled_one():
    probabilities, labels = draw(1_500, 20, prevalence=0.01, separation=5.0, seed=1)
    found = everything(probabilities, labels)
    assert found.pooled.certified
    assert found.pooled.cross_fitted
    assert found.pooled.precision_lower >= 0.95
    scopes = {each.block_certificate.scope for each in found.policies if each.block is not None}
    assert "pooled" in scopes
    for each in found.policies:
        assert each.block is None or each.review <= each.block
        if each.block_certificate.scope == "pooled":
            assert each.block >= found.pooled.threshold
            assert each.block_certificate.reason.startswith("pooled with other policies: ")


def test_a_policy_that_is_mostly_wrong_has_no_part_in_the_pooled_certificate():
    probabilities, labels = draw(2_000, 20, prevalence=0.01, separation=5.0, seed=2)
    probabilities[:60, 0], labels[:60, 0] = 0.99, np.arange(60) % 3 == 0
    probabilities[60:, 0] *= 0.5
    probabilities[:60, 1:], labels[:60, 1:] = 0.001, False
    found = everything(probabilities, labels)
    assert found.policies[0].block is None
    assert found.pooled.certified


def test_floors_are_where_the_estimate_still_reaches_the_precision():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)[:, None]
    labels = matrix(np.array([1, 1, 0, 1, 0])[:, None])
    for precision, floor in [(0.9, 0.8), (0.7, 0.6), (0.1, 0.5)]:
        # At a prevalence of 0.6 each record counts as much as it does here.
        found = policy_floors(scores, labels, prevalence=np.array([0.6]), precision=precision)
        assert found[0] == np.float32(floor)
    rare = policy_floors(scores, labels, prevalence=np.array([0.02]), precision=0.7)
    assert rare[0] == np.float32(0.8)
    few = policy_floors(scores[:3], labels[:3], prevalence=np.array([0.6]), precision=0.1)
    assert np.isinf(few[0])


def test_folds_hold_whole_clusters_and_are_always_the_same():
    clusters = [f"shop-{row // 3}" for row in range(300)]
    folds = Folds.by_cluster(clusters)
    assert folds.count == 5
    assert np.bincount(folds.numbers).min() >= 57
    assert (folds.numbers.reshape(-1, 3) == folds.numbers[::3, None]).all()
    again = Folds.by_cluster(clusters[::-1])
    assert (again.numbers[::-1] == folds.numbers).all()
    assert Folds.by_cluster(["one"] * 4).count == 1


@pytest.mark.parametrize("budget", [0.01, 0.05, 0.2])
def test_a_budget_limits_the_ordinary_records_in_review(budget):
    probabilities, labels = draw(2_000, 20, prevalence=0.01, seed=6)
    some = any_violation(probabilities).astype(np.float32)
    certificate = fit_any_review(some, matrix(labels), targets=Targets(review_budget=budget))
    ordinary = ~labels.any(axis=1)
    reviewed = (some[ordinary] >= np.float32(certificate.threshold)).sum()
    assert certificate.reviewed == reviewed <= budget * ordinary.sum() < reviewed + 1
    assert certificate.reviewed_upper == upper_bound(reviewed, ordinary.sum(), 0.95) > budget
    assert certificate.budget == budget
    assert f"{reviewed} of" in certificate.reason


def test_certificate_counts_are_those_at_the_threshold():
    probabilities, labels = draw(3_000, 5, seed=2)
    for column, threshold in enumerate(fit(probabilities, labels)):
        certificate = threshold.block_certificate
        flagged = probabilities[:, column] >= np.float32(threshold.block)
        right = labels[flagged, column].sum()
        assert (flagged.sum() - right, right) == (certificate.false_alarms, certificate.found)
        assert certificate.precision_lower >= 0.95
        found = (labels[:, column] & (probabilities[:, column] >= np.float32(threshold.review))).sum()
        assert found == threshold.review_certificate.found


def test_ties_are_flagged_together():
    # 59 right ones alone would certify; 20 wrong ones share the lowest probability with 30 of them.
    probabilities = np.r_[np.full(29, 0.99), np.full(50, 0.9), np.full(100, 0.1)][:, None]
    labels = np.r_[np.ones(59), np.zeros(120)][:, None]
    assert fit(probabilities, labels)[0].block is None


def test_probabilities_above_099_are_candidates():
    probabilities = np.r_[np.linspace(0.995, 0.9999, 200), np.linspace(0.98, 0.99, 200)][:, None]
    labels = np.r_[np.ones(200), np.zeros(200)][:, None]
    assert 0.9895 < fit(probabilities, labels)[0].block < 0.9951


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, (120, 2), elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.bool_, (120, 2)),
    hnp.arrays(np.bool_, (120, 2)),
)
def test_review_never_lies_above_block_and_json_round_trips(probabilities, labels, mask):
    labels |= probabilities > 0.3
    for threshold in fit(probabilities, labels, mask):
        assert threshold.block is None or threshold.review <= threshold.block
        assert 0 <= threshold.review <= 1
        assert PolicyThreshold.from_json(json.loads(json.dumps(threshold.to_json()))) == threshold


def test_unlabelled_cells_change_nothing():
    probabilities, labels = draw(2_000, 2, seed=3)
    mask = np.random.default_rng(0).random(labels.shape) < 0.7
    noise = np.where(mask, probabilities, np.nan)
    assert fit(noise, labels & mask, mask) == fit(probabilities, labels, mask)


def test_policy_with_few_positives_shares_the_limit_of_all():
    probabilities, labels = draw(1_000, 4, seed=4)
    mask = np.ones(labels.shape, bool)
    mask[np.flatnonzero(labels[:, 0])[8:], 0] = False
    mask[labels[:, 1], 1] = False
    few, none, *many = fit(probabilities, labels, mask)
    assert few.review == none.review
    assert not few.review_certificate.certified
    assert few.review_certificate.reason.startswith(
        "8 positives, at least 59 are needed: conformal limit of all"
    )
    assert none.review_certificate.reason.startswith("0 positives")
    assert all(t.review_certificate.certified for t in many)


def test_shared_review_threshold_finds_more_than_the_policies_own_lowest():
    shared, own = [], []
    for seed in range(10):
        probabilities, labels = draw(200, 20, prevalence=0.04, separation=3.0, seed=seed)
        new, truth = draw(2_000, 20, prevalence=0.04, separation=3.0, seed=100 + seed)
        review = np.array([t.review for t in fit(probabilities, labels)], np.float32)
        lowest = np.where(labels, probabilities, 1).min(axis=0)
        shared.append((truth & (new >= review)).sum() / truth.sum())
        own.append((truth & (new >= lowest)).sum() / truth.sum())
    assert np.mean(shared) >= 0.95
    assert np.mean(own) < 0.90


def test_no_positive_anywhere_takes_the_default_and_says_so():
    threshold = fit(np.full((100, 1), 0.2), np.zeros((100, 1)))[0]
    assert threshold.review == 0.05
    assert "default" in threshold.review_certificate.reason
    assert threshold.block is None
    assert fit(np.zeros((0, 1)), np.zeros((0, 1)))[0].block_certificate.violating == 0


def test_one_record_stands_for_a_cluster():
    probabilities, labels = draw(2_000, 1, seed=5)
    copies = [np.repeat(array, 10, axis=0) for array in (probabilities, labels)]
    names = [f"shop-{row // 10}" for row in range(20_000)]
    assert fit(*copies, clusters=names) == fit(probabilities, labels)
    with pytest.raises(ValueError, match="1 clusters are named for 20000 records"):
        fit(*copies, clusters=["one"])


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5])
def test_what_is_no_probability_is_named(value):
    probabilities = np.full((3, 2), 0.5)
    probabilities[2, 1] = value
    with pytest.raises(ValueError, match="record 2, policy 'policy-1'"):
        fit(probabilities, np.zeros((3, 2)))


def test_wrong_input_is_refused():
    cells = np.zeros((3, 2))
    with pytest.raises(ValueError, match="precision_target is 1"):
        fit(cells, cells, precision_target=1.0)
    with pytest.raises(ValueError, match="1 policies are named"):
        fit_thresholds(cells, matrix(cells), ["one"])
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        fit(cells, cells + 0.5)
    with pytest.raises(RunError, match="block_certificate"):
        PolicyThreshold.from_json({"policy": "x"})


def test_thresholds_go_out_and_come_back():
    thresholds = everything(*draw(300, 3, prevalence=0.3))
    stored = json.loads(json.dumps(thresholds.to_json()))
    assert Thresholds.from_json(stored) == thresholds
    for broken in ([], {"policies": []}, {"any_violation": {}, "pooled": None, "policies": []}):
        with pytest.raises(RunError, match="calibrate the run again"):
            Thresholds.from_json(broken)


def test_under_a_budget_a_policy_with_little_of_the_limit_is_no_finding():
    probabilities, labels = draw(3_000, 4, separation=2.0)
    free, limited = everything(probabilities, labels), everything(probabilities, labels, review_budget=0.02)
    least = limited.any_review.threshold / 4
    assert any(each.review < least for each in free.policies)
    for before, after in zip(free.policies, limited.policies, strict=True):
        assert after.review == max(before.review, least)
        if before.review < least:
            assert "quarter" in after.review_certificate.reason
            assert not after.review_certificate.certified
