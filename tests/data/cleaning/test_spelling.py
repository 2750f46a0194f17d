import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.data.cleaning.spelling import decode_ones, find_split_words, known_words
from merchantguard.data.cleaning.text import clean


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("we sell fent anyl and he ro in", "we sell fentanyl and heroin"),
        ("gam-bling, can/na/bis, pass~ports", "gambling, cannabis, passports"),
        ("m aster, the n~ame", "master, the name"),
        ("p1lls g4mb1ing ca$in0 pas5ports", "pills gambling casino passports"),
        ("pric3 pills5", "price pills5"),
    ],
)
def test_broken_words_are_joined(raw: str, expected: str) -> None:
    assert clean(raw).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "the rapist, a theist, a muse; over dose",
        "de al, con la, par jour, in der",
        "5tier shelf, model5, level3, 3star, 100ml, $5off",
        "red/green, his/her, on/off, U.S.A., e.g. this",
        "it's ale, won't you, children's, l'aube",
        "no fake passports.Buy now",
    ],
)
def test_whole_words_are_not_joined(text: str) -> None:
    assert clean(text).text == text


def test_a_joined_word_points_at_all_its_pieces() -> None:
    cleaned = clean("buy fent anyl here")
    start = cleaned.text.index("fentanyl")
    assert cleaned.original_span(start, start + 8) == (4, 13)


@given(st.sampled_from(sorted(word for word in known_words() if len(word) >= 4)), st.data())
def test_any_known_word_is_found_between_signs_that_never_separate_words(
    word: str, data: st.DataObject
) -> None:
    place = data.draw(st.integers(1, len(word) - 1))
    assert find_split_words(f"{word[:place]}~{word[place:]}") == [place]


@given(st.sampled_from(sorted(word for word in known_words() if 1 <= word.count("i") + word.count("l") <= 3)))
def test_ones_are_read_as_a_word(word: str) -> None:
    reading = decode_ones(word.replace("i", "1").replace("l", "1"))
    assert reading in known_words()


def test_the_list_is_lower_case_ascii_and_sorted() -> None:
    assert all(word.isascii() and word.isalpha() and word == word.lower() for word in known_words())


def test_only_the_beginning_of_junk_is_read() -> None:
    assert len(find_split_words("gam~bling " * 60_000)) <= 50_000
