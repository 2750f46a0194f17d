"""The marks in a merchant's text, and which part of a long one is shown."""

from hypothesis import given
from hypothesis import strategies as st

from merchantguard.audit.review.excerpt import excerpt
from merchantguard.audit.review.marking import Mark, differences, policy_words, quotes, segments
from merchantguard.data.taxonomy import Policy, Taxonomy

TAXONOMY = Taxonomy(
    1,
    (
        Policy("crimson", "Crimson goods", "prohibited", "lotteries, glass boxes and ledgers", "none"),
        Policy("walrus", "Walrus goods", "prohibited", "ivory", "none"),
    ),
)


@given(
    st.text(max_size=80),
    st.lists(
        st.tuples(st.integers(0, 90), st.integers(0, 90), st.sampled_from(("word", "quote"))), max_size=6
    ),
    st.integers(0, 40),
    st.integers(0, 90),
)
def test_segments_say_of_every_character_how_it_is_marked(
    text: str, ranges: list[tuple[int, int, str]], start: int, length: int
) -> None:
    marks = [Mark(min(a, b), max(a, b), kind) for a, b, kind in ranges if a != b]  # type: ignore[arg-type]
    start = min(start, len(text))
    end = min(len(text), start + length)
    by_character = []
    for place in range(start, end):
        kinds = tuple(sorted({mark.kind for mark in marks if mark.start <= place < mark.end}))
        by_character.append((text[place], kinds))
    plain = [
        (segment.text, segment.kinds) for segment in segments(text, start, end, marks) if not segment.odd
    ]
    shown = [(character, kinds) for piece, kinds in plain for character in piece]
    # Symbols stand for the rest; what is not a symbol comes out in its order with its marks.
    remaining = iter(by_character)
    assert all(pair in remaining for pair in shown)
    if text.isascii() and text.isprintable():
        assert shown == by_character


def test_words_of_the_policy_are_found_also_in_their_other_form() -> None:
    text = "A LOTTERY in a box: lotteries, Boxes, glass. Boxing gloves, alphabox, goods, ledger."
    found = [text[mark.start : mark.end] for mark in policy_words(text, TAXONOMY.policies[0], TAXONOMY)]
    assert found == ["LOTTERY", "box", "lotteries", "Boxes", "glass", "Boxing", "ledger"]
    # "goods" is of both policies and says nothing of one. Letters that grow in small form move no mark.
    turkish = "İİİİ ledger"
    assert [(mark.start, mark.end) for mark in policy_words(turkish, TAXONOMY.policies[0], TAXONOMY)] == [
        (5, 11)
    ]


def test_quotes_are_marked_where_they_stand() -> None:
    assert quotes("one two one", ["two", "absent", ""]) == [Mark(4, 7, "quote")]


def test_differences_are_the_words_that_only_one_text_has() -> None:
    first, second = "We sell  fine wine and beer.", "we sell fine wine or BEER, today."
    left, right = differences(first, second)
    assert [first[mark.start : mark.end] for mark in left] == ["and"]
    assert [second[mark.start : mark.end] for mark in right] == ["or", ", today"]
    assert differences(first, first) == ([], [])


def test_huge_and_hostile_texts_take_no_time_to_mark() -> None:
    first, second = "a b " * 500_000, "b a " * 500_000
    left, right = differences(first, second)
    assert len(left) == len(right) == 1
    assert len(policy_words("ledger " * 500_000, TAXONOMY.policies[0], TAXONOMY)) == 2_000
    assert policy_words("ledgerledger" * 500_000, TAXONOMY.policies[0], TAXONOMY) == []


def test_of_a_long_text_the_part_around_the_marks_is_shown_and_more_on_request() -> None:
    text = "x " * 2_000_000 + "ledger here" + " y" * 500_000
    marks = policy_words(text, TAXONOMY.policies[0], TAXONOMY)
    part = excerpt(text, marks)
    assert part.end - part.start == 6_000
    assert any(segment.text == "ledger" and segment.kinds == ("word",) for segment in part.segments)
    after = excerpt(text, marks, start=part.end)
    assert after.start == part.end
    assert "".join(segment.text for segment in after.segments) == text[part.end : part.end + 6_000]
    assert excerpt(text, marks, start=10**9).segments == ()
    assert excerpt("short", []).end == 5


def test_pages_and_fields_have_headings_that_are_no_part_of_the_text() -> None:
    text = "Shop\nfirst page\nsecond"
    headings = {0: "name", 5: "http://a.example/\u202e", 16: "pages[1]"}
    pieces = segments(text, 2, len(text), [Mark(7, 12, "word")], headings)
    assert [piece.text for piece in pieces if piece.heading] == ["http://a.example/⟨RLO⟩", "pages[1]"]
    assert "".join(piece.text for piece in pieces if not piece.heading) == text[2:]
