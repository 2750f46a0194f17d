import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.data.passages import split_passages

LINES = "Home | Shop | Contact us today\nWe ship vapes overnight. No questions asked!\n\nPrice: 9.99 a pack"


def passages(text: str, **options: int) -> list[str]:
    return [text[start:end] for start, end in split_passages(text, **options)]


def test_sentences_and_lines() -> None:
    found = passages(LINES, shortest=1)
    assert found == [
        "Home |",
        "Shop |",
        "Contact us today",
        "We ship vapes overnight.",
        "No questions asked!",
        "Price: 9.99 a pack",
    ]


def test_short_passages_are_joined_to_the_next() -> None:
    assert passages("Hi. We sell teapots here.", shortest=12) == ["Hi. We sell teapots here."]


def test_a_long_line_is_cut_at_clauses_then_at_spaces_then_anywhere() -> None:
    clauses = passages("word " * 9 + "word, and " + "more " * 12, longest=70)
    assert clauses[0].endswith("word,")
    assert all(len(passage) <= 70 for passage in passages("w" * 1000, longest=70))


@given(st.text(alphabet="ab .,;!?\n|-'\")。\u2028", max_size=400), st.integers(1, 20), st.integers(30, 100))
def test_passages_cover_all_but_white_space_in_order(text: str, shortest: int, longest: int) -> None:
    found = split_passages(text, shortest=shortest, longest=longest)
    covered = set[int]()
    before = 0
    for start, end in found:
        assert before <= start < end <= len(text)
        assert not text[start].isspace()
        assert not text[end - 1].isspace()
        covered.update(range(start, end))
        before = end
    assert all(text[place].isspace() for place in set(range(len(text))) - covered)
    assert len(found) <= 64


@pytest.mark.parametrize("unit", ["a", "a ", ".", ". ", '!"', "\n", " | ", "a.\n", " -", "。", ", ", " "])
def test_a_hostile_megabyte_is_cut_in_bounded_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    started = time.perf_counter()
    assert len(split_passages(text)) <= 64
    assert time.perf_counter() - started < 10
