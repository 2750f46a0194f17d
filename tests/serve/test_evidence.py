import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.data.passages import split_passages
from merchantguard.serve.evidence import (
    EvidenceOptions,
    Ranges,
    ScoreTexts,
    added_by_passages,
    find_passages,
    passages_by_attribution,
    search_passages,
)

TEXT = "One plain line here.\nThe first bad line.\nMore plain text.\nThe other bad line.\nThe end of it."


class Scores:
    """Column 0: 2 for every "bad", less 1; column 1: 5 where "first" and "other" stand together."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += len(texts)
        rows = [[2.0 * text.count("bad") - 1, 5.0 * ("first" in text and "other" in text)] for text in texts]
        return np.array(rows, dtype=np.float32)


def spans_of(
    text: str, logits: np.ndarray, policies: list[int], *, score: ScoreTexts, options: EvidenceOptions
) -> Ranges:
    [found] = find_passages([search_passages(text, logits, policies, options=options)], score)
    return found


def spans(policies: list[int], options: EvidenceOptions) -> list[list[str]]:
    score = Scores()
    found = spans_of(TEXT, score([TEXT])[0], policies, score=score, options=options)
    return [[TEXT[start:end] for start, end in ranges] for ranges in found]


@pytest.mark.parametrize(
    "options",
    [EvidenceOptions(near=1.0), EvidenceOptions(alone=1.0, near=1.0), EvidenceOptions(alone=0.0, near=1.0)],
)
def test_the_passages_that_carry_a_policy_come_first(options: EvidenceOptions) -> None:
    assert spans([0], options) == [["The first bad line.", "The other bad line."]]


def test_leaving_out_finds_what_only_shows_in_company() -> None:
    assert set(spans([1], EvidenceOptions(left_out=64))[0]) == {"The first bad line.", "The other bad line."}


def test_policies_are_looked_at_together() -> None:
    together = spans([0, 1], EvidenceOptions(left_out=64))
    assert together == [
        spans([0], EvidenceOptions(left_out=64))[0],
        spans([1], EvidenceOptions(left_out=64))[0],
    ]


def test_at_most_so_many_spans() -> None:
    assert spans([0], EvidenceOptions(spans=1)) == [["The first bad line."]]


def test_the_number_of_runs_is_bounded() -> None:
    score = Scores()
    text = "A bad line here.\n" * 500
    spans_of(text, np.zeros(2, np.float32), [0, 1], score=score, options=EvidenceOptions(left_out=4))
    assert score.asked <= 64 + 2 * 4


def test_a_single_passage_needs_no_run() -> None:
    score = Scores()
    logits = np.zeros(2, np.float32)
    assert spans_of("bad", logits, [0, 1], score=score, options=EvidenceOptions()) == [[(0, 3)], [(0, 3)]]
    assert spans_of("", logits, [0], score=score, options=EvidenceOptions()) == [[]]
    assert score.asked == 0


def test_searches_side_by_side_find_what_each_finds_alone() -> None:
    texts = [TEXT, "bad", TEXT.upper().replace("BAD", "bad"), "", "A bad line here.\n" * 9]
    score, options = Scores(), EvidenceOptions(left_out=4)
    calls: list[int] = []

    def counted(asked: Sequence[str]) -> np.ndarray:
        calls.append(len(asked))
        return score(asked)

    searches = [search_passages(text, score([text])[0], [0, 1], options=options) for text in texts]
    alone = [spans_of(text, score([text])[0], [0, 1], score=score, options=options) for text in texts]
    assert find_passages(searches, counted) == alone
    assert len(calls) == 2, "what is asked for at the same step goes together"
    assert find_passages([], counted) == []


def tokens_of(text: str) -> list[tuple[int, int]]:
    """One token a word, between two special ones."""
    return [(0, 0), *((match.start(), match.end()) for match in re.finditer(r"\S+", text)), (0, 0)]


def contributed(text: str, options: EvidenceOptions) -> list[str]:
    """What is shown where every "bad" adds 2, every "plain" takes 5, and the second "bad" of the text a little more."""
    offsets = tokens_of(text)
    words = [text[start:end] for start, end in offsets]
    added = np.array([2.0 * (word == "bad") - 5.0 * (word == "plain") for word in words], dtype=np.float32)
    found = [row for row, word in enumerate(words) if word == "bad"]
    added[found[1:2]] += 0.5
    [ranges] = passages_by_attribution(text, offsets, added[:, None], options=options)
    return [text[start:end] for start, end in ranges]


def test_the_passages_whose_tokens_add_most_come_first() -> None:
    assert contributed(TEXT, EvidenceOptions()) == ["The other bad line.", "The first bad line."]
    assert contributed(TEXT, EvidenceOptions(share=0.9)) == ["The other bad line."]
    assert contributed(TEXT, EvidenceOptions(spans=1)) == ["The other bad line."]


def test_what_speaks_against_a_policy_takes_nothing_from_a_passage() -> None:
    text = "A line of no use.\nNo plain bad line here.\nAnother of no use."
    assert contributed(text, EvidenceOptions()) == ["No plain bad line here."]


def test_a_window_without_text_has_no_passages() -> None:
    assert passages_by_attribution("", [(0, 0)], np.ones((1, 2), np.float32), options=EvidenceOptions()) == [
        [],
        [],
    ]


@given(st.text("ab .\n", max_size=80), st.integers(0, 2**31))
def test_every_token_of_a_passage_counts_once(text: str, seed: int) -> None:
    offsets, passages = tokens_of(text), split_passages(text, shortest=3, longest=10)
    added = np.random.default_rng(seed).normal(size=(len(offsets), 2)).astype(np.float32)
    worth = added_by_passages(passages, offsets, added)
    for (start, end), row in zip(passages, worth, strict=True):
        inside = [start <= first < end and last > first for first, last in offsets]
        assert np.allclose(row, np.maximum(added[inside], 0).sum(axis=0))
