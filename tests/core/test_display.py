"""Hostile text made safe to show."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.core.display import safe_repr, visible, visible_line, visible_pieces


@given(st.text())
def test_nothing_that_acts_unseen_is_left(text: str) -> None:
    shown = "".join(piece for piece, _ in visible_pieces(text))
    for character in shown:
        category = unicodedata.category(character)
        assert category not in ("Cc", "Cs") or character in "\n\t"
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
    assert visible_line(text).isprintable() or any(
        unicodedata.category(c) in ("Cn", "Co", "Zs", "Cf") for c in text
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\u202egnp.exe\u202c", "a⟨RLO⟩gnp.exe⟨PDF⟩"),
        ("v\u200dape v\ufe0fape", "v⟨ZWJ⟩ape v⟨VS16⟩ape"),
        ("\x1b[31mred\x00", "⟨U+001B⟩[31mred⟨U+0000⟩"),
        ("a" + "\u0301" * 50, "a" + "\u0301" * 3 + "⟨+47 marks⟩"),
        ("half \ud83d pair", "half ⟨U+D83D⟩ pair"),
        ("v\u034fape v\U000e0061pe v\U000e0100pe\ufffc", "v⟨CGJ⟩ape v⟨U+E0061⟩pe v⟨U+E0100⟩pe⟨U+FFFC⟩"),
        ("ก" + "\u0e49" * 50, "ก" + "\u0e49" * 4 + "⟨+46 marks⟩"),
        ("e" + "\u0301" * 4, "e" + "\u0301" * 3 + "⟨+1 mark⟩"),
        ("line\r\nline\ttab", "line\nline\ttab"),
        # What belongs in emoji and in other scripts stays.
        ("👨\u200d👩 ❤\ufe0f می\u200cخواهم", "👨\u200d👩 ❤\ufe0f می\u200cخواهم"),
        ("ကြ္ပြီး שָׁלוֹם ตั้ง é 漢", "ကြ္ပြီး שָׁלוֹם ตั้ง é 漢"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ],
)
def test_what_is_unseen_becomes_a_symbol(text: str, expected: str) -> None:
    assert "".join(piece for piece, _ in visible_pieces(text)) == visible(text) == expected


def test_a_long_text_is_cut() -> None:
    assert visible("x" * 800, 700) == "x" * 700 + "…"
    assert visible("x" * 700, 700) == "x" * 700


def test_names_come_out_on_one_line() -> None:
    assert visible_line(" Ada\r\n\tLovelace\u202e ") == "Ada Lovelace⟨RLO⟩"


@pytest.mark.parametrize("value", ["x" * 10**6, ["x" * 10**6] * 50, 10**4000, {"a": b"y" * 10**6}])
def test_safe_repr_is_short(value: object) -> None:
    assert len(safe_repr(value)) < 200


def test_safe_repr_is_one_line_that_steers_no_terminal() -> None:
    assert safe_repr("a\nb\x1b[31m\u202e") == "'a\\nb\\x1b[31m\\u202e'"
