"""Rankers of label errors on planted mistakes: what each promises, and that together they find what they should."""

import numpy as np
import pytest
from audit.rankers import normalized_margin
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from merchantguard.audit.ranking.combine import Ranking, rank_cells
from merchantguard.audit.ranking.drift import drifts
from merchantguard.audit.ranking.duplicates import contradictions, duplicate_counts
from merchantguard.audit.ranking.log_likelihood_ratio import (
    log_likelihood_ratio,
    with_margins,
    wrong_positive_rate,
)
from merchantguard.audit.ranking.neighbours import Neighbours, nearest, neighbour_vectors
from merchantguard.audit.ranking.noise_model import fit_noise_model
from merchantguard.audit.ranking.scores import Cells, self_confidence

POLICIES = 6


def _world(
    *, records: int = 1500, seed: int = 0, noise: float = 0.1, kind: str = "moved", blur: float = 0.5
) -> tuple[Cells, NDArray[np.bool_], Neighbours]:
    """Cells with planted mistakes, which of them are wrong, and neighbours of vectors that show the truth with noise."""
    draw = np.random.default_rng(seed)
    truth = draw.random((records, POLICIES)) < 0.08
    logits = np.where(truth, 1.0, -3.0) + draw.normal(0.0, 1.0 + 0.4 * blur, truth.shape)
    labels = truth.copy()
    for row in draw.choice(
        np.flatnonzero(truth.any(axis=1)), round(noise * truth.any(axis=1).sum()), replace=False
    ):
        old = draw.choice(np.flatnonzero(truth[row]))
        labels[row, old] = False
        if kind == "moved":
            labels[row, draw.choice(np.flatnonzero(~truth[row]))] = True
        elif kind == "pair":
            labels[row, (old + 1) % POLICIES] = True
    vectors = truth @ draw.normal(size=(POLICIES, 16)) + draw.normal(0.0, blur, (records, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cells = Cells(labels, np.ones_like(labels), 1.0 / (1.0 + np.exp(-logits)))
    return cells, labels != truth, nearest(vectors, np.arange(records))


def _precision(scores: NDArray[np.float64], wrong: NDArray[np.bool_]) -> float:
    return float(average_precision_score(wrong.ravel(), scores.ravel()))


@pytest.mark.parametrize("kind", ["moved", "pair", "missing"])
def test_no_kind_of_mistake_is_found_worse_than_by_the_best_single_ranker(kind: str) -> None:
    differences = []
    for seed in range(3):
        cells, wrong, near = _world(seed=seed, kind=kind)
        shares = near.shares(cells.given, cells.mask)
        single = (
            self_confidence(cells),
            self_confidence(cells, adjusted=True),
            normalized_margin(cells),
            np.where(cells.given, 1.0 - shares, shares),
        )
        best = max(_precision(scores, wrong) for scores in single)
        differences.append(_precision(rank_cells(cells, near).p_label_error, wrong) - best)
    assert np.mean(differences) > -0.02


def test_adjusted_confidence_is_relative_to_what_the_policy_gets_on_average() -> None:
    cells, _, _ = _world(records=200)
    plain = self_confidence(cells)
    np.testing.assert_allclose(plain, np.where(cells.given, 1 - cells.probabilities, cells.probabilities))
    adjusted = self_confidence(cells, adjusted=True)
    for side in (cells.given[:, 0], ~cells.given[:, 0]):
        # Within one side of one policy the same number is subtracted: the order stays.
        assert (np.argsort(plain[side, 0]) == np.argsort(adjusted[side, 0])).all()
    assert not np.allclose(np.argsort(plain[:, 0]), np.argsort(adjusted[:, 0]))


def test_unknown_cells_are_not_scored() -> None:
    cells, _, near = _world(records=200)
    known = np.random.default_rng(1).random(cells.given.shape) < 0.7
    known[:, 2] = False
    part = Cells(cells.given, known, cells.probabilities)
    assert (np.isnan(self_confidence(part, adjusted=True)) == ~known).all()
    assert (np.isnan(normalized_margin(part)) == ~known).all()
    p_label_error = rank_cells(part, near, margins=cells.probabilities).p_label_error
    assert (p_label_error[~known] == 0).all()
    assert (p_label_error[known] > 0).all()
    changed = Cells(cells.given ^ ~known, known, cells.probabilities)
    np.testing.assert_allclose(
        rank_cells(changed, near, margins=cells.probabilities).p_label_error, p_label_error
    )


@given(
    records=st.integers(3, 30),
    policies=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    rate=st.floats(0.0, 1.0),
    annotators=st.integers(0, 4),
)
@settings(max_examples=60, deadline=None)
def test_suspicions_are_probabilities_whatever_the_data(
    records: int, policies: int, seed: int, rate: float, annotators: int
) -> None:
    draw = np.random.default_rng(seed)
    shape = (records, policies)
    known = draw.random(shape) < 0.9
    cells = Cells((draw.random(shape) < rate) & known, known, draw.choice([0.0, 1e-9, 0.5, 1.0], shape))
    evidence = log_likelihood_ratio(cells, draw.random(shape))
    who = draw.integers(annotators, size=records) if annotators else None
    fitted = fit_noise_model(
        cells, evidence, wrong_positive_rate=wrong_positive_rate(cells, evidence), annotators=who
    )
    assert ((fitted.p_label_error >= 0) & (fitted.p_label_error <= 1)).all()
    assert ((fitted.swap >= 0) & (fitted.swap <= fitted.p_label_error + 1e-12)).all()
    order, columns = draw.permutation(records), draw.permutation(policies)
    moved = Cells(
        cells.given[order][:, columns], known[order][:, columns], cells.probabilities[order][:, columns]
    )
    again = fit_noise_model(
        moved,
        evidence[order][:, columns],
        wrong_positive_rate=wrong_positive_rate(cells, evidence),
        annotators=None if who is None else who[order],
    )
    np.testing.assert_allclose(
        again.p_label_error, fitted.p_label_error[order][:, columns], rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_the_share_of_wrong_positives_is_estimated_from_the_ratios(share: float) -> None:
    draw = np.random.default_rng(0)
    truth = draw.random((6000, 4)) < 0.1
    wrong = ~truth & (draw.random(truth.shape) < share / (1.0 - share) * 0.1 / 0.9)
    cells = Cells(truth | wrong, np.ones_like(truth), np.full(truth.shape, 0.5))
    evidence = np.where(truth, 3.0, 0.0) + draw.normal(0.0, 1.0, truth.shape)
    assert wrong_positive_rate(cells, evidence) == pytest.approx(share, abs=0.03)


def test_confusions_that_recur_are_learnt() -> None:
    cells, _, near = _world(kind="pair", noise=0.2)
    swaps = rank_cells(cells, near).noise.swaps
    meant = (np.arange(POLICIES) - 1) % POLICIES
    assert (swaps.argmax(axis=1) == meant).all()
    np.testing.assert_allclose(swaps.sum(axis=1), 1.0)


def _with_annotators(seed: int) -> tuple[Ranking, Ranking, NDArray[np.bool_]]:
    # Where texts leave doubt; where they do not, names add nothing.
    cells, _, near = _world(seed=seed, noise=0.0, blur=2.5)
    draw = np.random.default_rng(seed + 100)
    who = draw.integers(8, size=len(cells.given))
    slips = np.where(who < 2, 0.3, 0.02)[:, None] > draw.random(cells.given.shape)
    slips &= cells.given | (draw.random(cells.given.shape) < 0.05)
    noisy = Cells(cells.given ^ slips, cells.mask, cells.probabilities)
    names = tuple(f"a{number}" for number in who)
    return rank_cells(noisy, near), rank_cells(noisy, near, annotators=names), slips


def test_bad_annotators_are_found_and_their_labels_doubted_more() -> None:
    gains = []
    for seed in range(3):
        blind, informed, wrong = _with_annotators(seed)
        factors = informed.noise.annotator_factors
        assert {informed.annotator_names[n] for n in np.argsort(-factors)[:2]} == {"a0", "a1"}
        gains.append(_precision(informed.p_label_error, wrong) - _precision(blind.p_label_error, wrong))
    assert np.mean(gains) > 0.03


def test_one_annotator_for_all_changes_nothing() -> None:
    cells, _, near = _world(records=300)
    alone = rank_cells(cells, near, annotators=("one",) * 300)
    assert (alone.p_label_error == rank_cells(cells, near).p_label_error).all()


def test_training_that_went_against_a_label_adds_suspicion() -> None:
    cells, _, _ = _world(records=300)
    evidence = np.zeros(cells.given.shape)
    margins = np.random.default_rng(0).normal(size=evidence.shape)
    margins[7] = np.nan
    changed = with_margins(evidence, cells, margins)
    signed = np.where(cells.given, changed, -changed)
    seen = np.isfinite(margins) & cells.given
    assert np.corrcoef(signed[seen], margins[seen])[0, 1] == pytest.approx(1.0)
    assert (changed[7] == 0).all()


@given(records=st.integers(2, 40), k=st.integers(1, 8), seed=st.integers(0, 1000), copies=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_neighbours_are_those_of_all_pairs(records: int, k: int, seed: int, copies: int) -> None:
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(records, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = np.minimum(np.arange(records), records - 1 - min(copies, records - 1))
    near = nearest(vectors, groups, k=k)
    cosines = vectors @ vectors.T
    cosines[groups[:, None] == groups[None, :]] = -1.0
    wanted = np.maximum(-np.sort(-cosines, axis=1), 0.0)[:, : near.rows.shape[1]]
    np.testing.assert_allclose(near.similarities, wanted, atol=1e-5)
    weighed = near.similarities > 0
    assert (groups[near.rows] != groups[:, None])[weighed].all()


def test_of_many_records_a_sample_is_searched() -> None:
    vectors = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    near = nearest(vectors, np.arange(500), k=5, references=50)
    assert len(np.unique(near.rows)) <= 50


def test_texts_without_words_still_have_vectors() -> None:
    for texts in (["", "", ""], ["...", "!"], ["alpha beta", "alpha beta gamma", "alpha beta"]):
        vectors = neighbour_vectors(texts)
        assert np.isfinite(vectors).all()
        assert len(vectors) == len(texts)


def test_the_doubted_side_of_near_duplicates_is_listed_with_the_other() -> None:
    labels = np.array([[True], [True], [False], [True], [False]])
    known = np.array([[True], [True], [True], [True], [False]])
    cells = Cells(labels, known, np.full((5, 1), 0.5))
    groups = np.array([0, 0, 0, 1, 1])
    found = contradictions(cells, groups, np.array([[0.1], [0.2], [0.6], [0.9], [0.9]]))
    assert [(one.row, one.other, one.agreeing, one.opposing) for one in found] == [(2, 0, 1, 2)]
    assert found[0].p_label_error > 0.9
    assert duplicate_counts(cells, groups).ravel().tolist() == [2, 2, 1, 1, 1]


def _labelling(
    *, late: float, seed: int = 0, drifting: bool = True
) -> tuple[Cells, list[str | None], list[float | None]]:
    """Four annotators over time; the share of positives of one falls or rises to `late` of the truth, or the merchants change."""
    draw = np.random.default_rng(seed)
    times = np.arange(800.0)
    who = draw.integers(4, size=800)
    p = np.clip(0.3 * np.ones((800, 2)) + 0.15 * draw.normal(size=(800, 2)), 0.02, 0.98)
    if not drifting:
        p[400:, 0] *= late
    kept = np.ones((800, 2))
    if drifting:
        kept[(who == 2) & (times > 400), 0] = late
    labels = draw.random((800, 2)) < p * kept
    return Cells(labels, np.ones_like(labels), p), [f"a{number}" for number in who], times.tolist()


def test_a_drifting_annotator_is_named_with_the_policy() -> None:
    for seed in range(3):
        found = drifts(*_labelling(late=0.2, seed=seed))
        assert (found[0].annotator, found[0].policy) == ("a2", 0)
        assert found[0].score < 0
        assert found[0].late < found[0].early


def test_a_change_of_the_merchants_is_no_drift() -> None:
    false = sum(bool(drifts(*_labelling(late=0.4, seed=seed, drifting=False))) for seed in range(20))
    assert false <= 4


def test_drift_needs_names_and_dates() -> None:
    cells, who, times = _labelling(late=0.2)
    assert drifts(cells, [None] * 800, times) == []
    assert drifts(cells, who, [None] * 800) == []
