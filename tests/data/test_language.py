import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.data.cleaning.text import clean
from merchantguard.data.language import LanguageStatistics, language_statistics


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42 / 17 %",
        "Online casino with real money slots",
        "Imported Sports Sipper 750 ml Water Bottle",
        "JJC LH-CP17 Lens Hood for Sony VGN-Z799DHB and RC4 X5C",
        "SHIPPING IS FREE ON MONDAY",
        "Coffee from Oaxaca, Huehuetenango and Yirgacheffe, roasted every week",
        "50 \u03bcg vitamin D, 3 \u03a9",
        "Café crème brûlée",
    ],
)
def test_english_and_what_is_too_short_to_tell(text: str) -> None:
    assert language_statistics(clean(text).text).is_english


@pytest.mark.parametrize(
    "text",
    [
        "Wir verkaufen Zigaretten und Schnaps ohne Altersnachweis",
        "Vendemos medicamentos sin receta y los enviamos a toda Europa",
        "Nous livrons des médicaments sans ordonnance partout dans le monde",
        "Sprzedajemy papierosy bez sprawdzania wieku, wysyłka w jeden dzień",
        "Мы продаём сигареты без проверки возраста",
        "私たちは電子タバコを年齢確認なしで販売しています",
        "हम बिना उम्र की जाँच के सिगरेट बेचते हैं",
        "نبيع السجائر دون التحقق من العمر",
    ],
)
def test_other_languages(text: str) -> None:
    assert not language_statistics(clean(text).text).is_english


def test_vietnamese_letters_are_latin() -> None:
    assert language_statistics("Ưu đãi ễ ỗ ẫ").other_letters == 0


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_counts_of_any_text_fit_each_other(text: str) -> None:
    found = language_statistics(text)
    assert 0 <= found.other_letters <= found.letters <= len(text)
    assert 0 <= found.known <= found.known + found.other_words <= found.words
    assert 0 <= found.known_share <= 1
    assert found.is_english in (True, False)


@given(st.lists(st.sampled_from(["shop", "the", "goods", "delivery", "free", "return"]), max_size=30))
def test_words_of_the_list_are_english(words: list[str]) -> None:
    assert language_statistics(" ".join(words)).is_english


@pytest.mark.parametrize("piece", ["a", "\u00e9", "\u0436", "\u0301", "\ud800", "x ", "\u4e00\n", "_"])
def test_a_hostile_text_costs_little(piece: str) -> None:
    started = time.monotonic()
    language_statistics(piece * 5_000_000)
    assert time.monotonic() - started < 5


def test_shares() -> None:
    found = LanguageStatistics(letters=100, other_letters=26, words=6, known=1, other_words=0)
    assert found.other_share == 0.26
    assert found.known_share == 0.5
    assert not found.is_english
    assert LanguageStatistics(letters=4, other_letters=2, words=1, known=0, other_words=0).is_english
    assert (
        LanguageStatistics(letters=30, other_letters=0, words=6, known=1, other_words=3).known_share == 2 / 7
    )
