import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.train.evaluation.breakdown import (
    LENGTH_BANDS,
    compliant_records,
    confusions,
    decision_counts,
    flagged_cells,
    length_band,
    reliability_bins,
    snippet,
    worst_errors,
)

PROBABILITIES = np.array([[0.9, 0.6], [0.2, 0.8], [0.1, 0.1], [0.7, 0.3]], dtype=np.float32)
LABELS = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], dtype=np.float32)
KNOWN = np.array([[1, 1], [1, 1], [1, 1], [0, 1]], dtype=bool)
REVIEW = np.array([0.5, 0.5])


@pytest.mark.parametrize(
    ("characters", "band"), [(0, 0), (299, 0), (300, 1), (999, 1), (2_999, 2), (3_000, 3), (10_000, 4)]
)
def test_bands_have_no_gap(characters: int, band: int) -> None:
    assert length_band(characters) == LENGTH_BANDS[band]


def test_an_unknown_cell_is_neither_compliant_nor_flagged() -> None:
    assert compliant_records(LABELS, KNOWN).tolist() == [False, False, True, True]
    assert compliant_records(LABELS, np.zeros_like(KNOWN)).tolist() == [False] * 4
    assert not flagged_cells(PROBABILITIES, KNOWN, REVIEW)[3].any()
    assert not flagged_cells(PROBABILITIES, KNOWN, np.array([np.nan, np.nan])).any()


def test_decisions_add_up_and_name_the_right_blocks() -> None:
    block = flagged_cells(PROBABILITIES, KNOWN, np.array([0.9, 0.75], dtype=np.float32))
    counts = decision_counts(LABELS, KNOWN, flagged_cells(PROBABILITIES, KNOWN, REVIEW), block)
    assert counts["block"] == {"records": 2, "violating": 2, "compliant": 0, "right_policy": 1}
    assert counts["clear"] == {"records": 2, "violating": 0, "compliant": 2}
    assert counts["review"]["records"] == 0


def test_confusions_count_records_of_one_policy_flagged_for_another() -> None:
    table = confusions(LABELS, KNOWN, flagged_cells(PROBABILITIES, KNOWN, REVIEW))
    assert table["records"] == [[0, 2], [0, 0]]
    assert table["share"] == [[None, 1.0], [None, None]]


def test_worst_errors_come_surest_first_and_bounded() -> None:
    errors = worst_errors(
        "abcd", ["x" * 1_000_000] * 4, ["p", "q"], PROBABILITIES, LABELS, KNOWN, REVIEW, limit=5
    )
    assert [(e["id"], e["policy"]) for e in errors["false_alarms"]] == [("b", "q"), ("a", "q")]
    assert [(e["id"], e["policy"], e["labels"]) for e in errors["misses"]] == [("b", "p", ["p"])]
    assert len(errors["misses"][0]["text"]) == 601
    assert snippet("short") == "short"


@given(seed=st.integers(0, 1_000))
def test_every_judged_record_gets_one_decision(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities, known = generator.random((30, 4)), generator.random((30, 4)) < 0.5
    labels = (generator.random((30, 4)) < 0.3).astype(np.float32)
    review = flagged_cells(probabilities, known, generator.random(4))
    block = flagged_cells(probabilities, known, generator.random(4))
    counts = decision_counts(labels, known, review, block)
    assert sum(entry["records"] for entry in counts.values()) == known.any(axis=1).sum()
    for entry in counts.values():
        assert entry["records"] == entry["violating"] + entry["compliant"]


def test_reliability_bins_hold_every_known_cell_and_their_intervals_the_share() -> None:
    bins = reliability_bins(PROBABILITIES, LABELS, KNOWN)
    assert sum(entry["cells"] for entry in bins) == KNOWN.sum()
    for entry in bins:
        assert 0.0 <= entry["low"] <= entry["observed"] <= entry["high"] <= 1.0
    sure = reliability_bins(np.ones((50, 1)), np.ones((50, 1)), np.ones((50, 1), dtype=bool))
    assert sure == [
        {"predicted": 1.0, "observed": 1.0, "low": pytest.approx(0.9286, abs=1e-3), "high": 1.0, "cells": 50}
    ]
