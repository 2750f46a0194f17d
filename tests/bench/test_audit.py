"""The pieces of the audit's benchmarks that figures hang on: planted mistakes, a reviewer, margins, changed words."""

import numpy as np
import pytest
from audit.cases import NOISES, Case, confusable, plant, with_annotators
from audit.downstream import reviewed
from audit.duplicates import _edited
from audit.linear_model import area_under_margin, fit_logistic, out_of_fold
from audit.rankers import RANKERS, RankedCase, verified
from sklearn.metrics import average_precision_score

from merchantguard.audit.ranking.neighbours import nearest


@pytest.fixture(scope="module")
def case() -> Case:
    """200 rows of four classes, a fifth without any."""
    draw = np.random.default_rng(0)
    kinds = draw.integers(5, size=200)
    truth = np.eye(5, 4, dtype=bool)[kinds]
    return Case(
        name="made",
        texts=tuple(f"text {number}" for number in range(200)),
        classes=("a", "b", "c", "d"),
        given=truth,
        truth=truth,
        verified=np.ones(200, dtype=bool),
        groups=np.arange(200),
        single=False,
    )


@pytest.fixture(scope="module")
def vectors(case: Case) -> np.ndarray:
    draw = np.random.default_rng(1)
    kinds = np.where(case.truth.any(axis=1), case.truth.argmax(axis=1), 4)
    return (np.eye(5)[kinds] + 0.2 * draw.normal(size=(200, 5))).astype(np.float32)


PARTNERS = np.array([1, 0, 3, 2])


@pytest.mark.parametrize("noise", sorted(NOISES))
def test_as_many_rows_get_an_error_as_asked_for_and_the_same_each_time(noise: str, case: Case) -> None:
    planted = plant(case, noise, 0.1, PARTNERS, seed=3)
    able = case.truth.any(axis=1).sum() if noise in ("pair", "missing") else len(case.truth)
    assert planted.wrong.any(axis=1).sum() == round(0.1 * able)
    assert (plant(case, noise, 0.1, PARTNERS, seed=3).given == planted.given).all()
    assert not case.wrong.any()
    if noise == "missing":
        assert not (planted.given & ~case.truth).any()
    if noise == "pair":
        lost, got = np.argwhere(planted.wrong & case.truth), np.argwhere(planted.wrong & ~case.truth)
        assert (PARTNERS[lost[:, 1]] == got[:, 1]).all()


def test_partners_are_the_classes_that_lie_nearest() -> None:
    truth = np.eye(4, dtype=bool)
    places = np.array([[0.0, 0], [0.1, 0.1], [5, 5], [5, 5.2]], dtype=np.float32)
    assert confusable(truth, places).tolist() == [1, 0, 3, 2]


def test_bad_annotators_err_ten_times_as_often(case: Case) -> None:
    wrong: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(5):
        labelled = with_annotators(case, PARTNERS, seed=seed)
        assert labelled.annotators is not None
        for name, slipped in zip(labelled.annotators, labelled.wrong.any(axis=1), strict=True):
            wrong[name in ("annotator-00", "annotator-01", "annotator-02")].append(bool(slipped))
    assert np.mean(wrong[True]) == pytest.approx(0.35, abs=0.08)
    assert np.mean(wrong[False]) == pytest.approx(0.03, abs=0.02)


def test_a_reviewer_corrects_what_the_ranking_shows_and_nothing_else(case: Case) -> None:
    planted = plant(case, "uniform", 0.1, PARTNERS, seed=0)
    knowing = planted.wrong.astype(float)
    assert (reviewed(planted, knowing, 0.1, seed=0, missed=0.0) == case.truth).all()
    assert (reviewed(planted, knowing, 0.1, seed=0, missed=1.0) == planted.given).all()
    half = reviewed(planted, knowing, 0.05, seed=0, missed=0.0)
    assert (half != case.truth).any(axis=1).sum() == 10


def test_every_ranker_but_chance_beats_chance_where_the_texts_tell(case: Case, vectors: np.ndarray) -> None:
    planted = plant(case, "uniform", 0.1, PARTNERS, seed=0)
    features = np.hstack([vectors, np.ones((200, 1))]).astype(float)
    outputs = out_of_fold(planted, features, seed=0)
    ranked = RankedCase(planted, outputs, nearest(vectors, planted.groups), 0)
    precision = {
        name: average_precision_score(*verified(ranked, ranker(ranked))) for name, ranker in RANKERS.items()
    }
    chance = precision.pop("random")
    assert min(precision.values()) > 2 * chance
    assert precision["ours"] > 0.6


def test_margins_of_wrong_labels_are_lower(case: Case, vectors: np.ndarray) -> None:
    planted = plant(case, "uniform", 0.1, PARTNERS, seed=0)
    features = np.hstack([vectors, np.ones((200, 1))]).astype(float)
    margins = area_under_margin(features, planted.given, seed=0)
    assert margins[planted.wrong].mean() < margins[~planted.wrong].mean() - 1.0
    weights = fit_logistic(features, case.truth)
    assert ((features @ weights > 0) == case.truth).mean() > 0.95


def test_a_share_of_the_words_changes() -> None:
    draw = np.random.default_rng(0)
    text = " ".join(f"w{number}" for number in range(100))
    assert _edited(text, 0.0, ["other"], draw) == text
    assert _edited(text, 0.1, ["other"], draw).split().count("other") == 10
