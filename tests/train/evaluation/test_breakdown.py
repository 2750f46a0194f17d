import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.core.labels import LabelMatrix
from merchantguard.train.evaluation.breakdown import (
    LENGTH_BANDS,
    confusions,
    decision_counts,
    length_band,
    reliability_bins,
    snippet,
    worst_errors,
)
from merchantguard.train.evaluation.decision_rule import DecidedRecords
from merchantguard.train.evaluation.figures import BlockCounts, Counts
from merchantguard.train.evaluation.metrics import flag_cells
from merchantguard.train.evaluation.predictions import Predictions

PROBABILITIES = np.array([[0.9, 0.6], [0.2, 0.8], [0.1, 0.1], [0.7, 0.3]], dtype=np.float32)
LABELS = LabelMatrix(np.array([[1, 0], [1, 0], [0, 0], [0, 0]]), np.array([[1, 1], [1, 1], [1, 1], [0, 1]]))
REVIEW = np.array([0.5, 0.5])


@pytest.mark.parametrize(
    ("characters", "band"), [(0, 0), (299, 0), (300, 1), (999, 1), (2_999, 2), (3_000, 3), (10_000, 4)]
)
def test_bands_have_no_gap(characters: int, band: int) -> None:
    assert length_band(characters) == LENGTH_BANDS[band]


def test_an_unlabelled_cell_is_not_flagged() -> None:
    assert not flag_cells(PROBABILITIES, LABELS, REVIEW)[3].any()
    assert not flag_cells(PROBABILITIES, LABELS, np.array([np.nan, np.nan])).any()


def test_decisions_add_up_and_name_the_right_blocks() -> None:
    block = flag_cells(PROBABILITIES, LABELS, np.array([0.9, 0.75]))
    counts = decision_counts(LABELS, flag_cells(PROBABILITIES, LABELS, REVIEW), block)
    assert counts.block == BlockCounts(records=2, violating=2, compliant=0, right_policy=1)
    assert counts.clear == Counts(records=2, violating=0, compliant=2)
    assert counts.review.records == 0


def test_confusions_count_records_of_one_policy_flagged_for_another() -> None:
    table = confusions(LABELS, flag_cells(PROBABILITIES, LABELS, REVIEW))
    assert table.records == ((0, 2), (0, 0))
    assert table.share == ((None, 1.0), (None, None))


def test_worst_errors_come_surest_first_and_bounded() -> None:
    texts = ("x" * 1_000_000,) * 4
    predictions = Predictions(tuple("abcd"), PROBABILITIES, LABELS, tuple("abcd"), {}, texts)
    decided = DecidedRecords(predictions, PROBABILITIES, PROBABILITIES[:, 0], REVIEW, REVIEW, REVIEW)
    errors = worst_errors(decided, ["p", "q"], limit=5)
    assert [(e.id, e.policy) for e in errors.false_alarms] == [("b", "q"), ("a", "q")]
    assert [(e.id, e.policy, e.labels) for e in errors.misses] == [("b", "p", ("p",))]
    assert len(errors.misses[0].text) == 601
    assert snippet("short") == "short"


@given(seed=st.integers(0, 1_000))
def test_every_labelled_record_gets_one_decision(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities, mask = generator.random((30, 4)), generator.random((30, 4)) < 0.5
    labels = LabelMatrix(generator.random((30, 4)) < 0.3, mask)
    review = flag_cells(probabilities, labels, generator.random(4))
    block = flag_cells(probabilities, labels, generator.random(4))
    counts = decision_counts(labels, review, block)
    entries = (counts.clear, counts.review, counts.block)
    assert sum(entry.records for entry in entries) == mask.any(axis=1).sum()
    for entry in entries:
        assert entry.records == entry.violating + entry.compliant


def test_reliability_bins_hold_every_labelled_cell_and_their_intervals_the_share() -> None:
    bins = reliability_bins(PROBABILITIES, LABELS, np.ones(len(LABELS)))
    assert sum(entry.cells for entry in bins) == LABELS.mask.sum()
    for entry in bins:
        assert 0.0 <= entry.low <= entry.observed <= entry.high <= 1.0
    (sure,) = reliability_bins(
        np.ones((50, 1)), LabelMatrix(np.ones((50, 1)), np.ones((50, 1))), np.full(50, 2.0)
    )
    assert (sure.predicted, sure.observed, sure.high, sure.cells) == (1.0, 1.0, 1.0, 50)
    assert sure.low == pytest.approx(0.9286, abs=1e-3)
