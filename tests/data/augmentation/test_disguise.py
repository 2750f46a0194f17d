"""Disguised copies: another spelling, the same record."""

import random

from hypothesis import given
from hypothesis import strategies as st

from merchantguard.data.augmentation.disguise import DISGUISES, disguise, disguised_copies
from merchantguard.data.records.record import Record, parse_record


def _record(name: str, text: str) -> Record:
    return parse_record({"id": name, "text": text, "labels": []}, None, row_number=1)


RECORDS = [
    _record("a", "crimson walrus teapots shipped overnight"),
    _record("b", "plain lantern harbour ledger"),
]


@given(st.text(max_size=60), st.integers(0, 1000))
def test_a_share_of_zero_changes_nothing_in_any_text(text: str, seed: int) -> None:
    assert disguise(text, random.Random(seed), share=0.0) == text
    assert isinstance(disguise(text, random.Random(seed), share=1.0), str)


@given(st.from_regex(r"[A-Za-z]{4,12}", fullmatch=True), st.integers(0, 100))
def test_every_disguise_gives_something_to_read(word: str, seed: int) -> None:
    for way in DISGUISES:
        found = way(word, random.Random(seed))
        assert found[0].isalnum() or found[0] in "@*!+|$"
        assert len(found) >= 1


def test_short_words_and_figures_stay() -> None:
    assert disguise("we do it at 12.50 EUR", random.Random(0), share=1.0) == "we do it at 12.50 EUR"


def test_copies_keep_labels_and_have_ids_of_their_own() -> None:
    copies = disguised_copies(RECORDS, per_record=2, seed=3)
    assert [copy.id for copy in copies] == [
        "a#disguised-0",
        "a#disguised-1",
        "b#disguised-0",
        "b#disguised-1",
    ]
    assert all(copy.labels == () for copy in copies)
    assert copies[0].text != RECORDS[0].text


def test_a_records_copies_do_not_depend_on_the_others() -> None:
    both = disguised_copies(RECORDS, per_record=1, seed=3)
    alone = disguised_copies(RECORDS[1:], per_record=1, seed=3)
    assert both[1:] == alone
    assert disguised_copies(RECORDS, per_record=1, seed=4) != both
    assert disguised_copies(RECORDS, per_record=0, seed=3) == []
