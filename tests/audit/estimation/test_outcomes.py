"""What answers come to."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.audit.estimation.outcomes import Outcome, outcomes, standing_answers
from merchantguard.audit.storage.items import ANSWERS, STAGES, Answer

CELL = ("r1", "crimson")


def _answer(number: int, reviewer: str, answer: str, stage: str = "first", **more: object) -> Answer:
    values = {
        "record": "r1",
        "policy": "crimson",
        "at": f"t{number}",
        "milliseconds": 1,
        "tool": "test",
        "shown": {},
    }
    return Answer(reviewer=reviewer, answer=answer, stage=stage, number=number, **(values | more))  # type: ignore[arg-type]


def _outcome(*answers: tuple[str, ...]) -> Outcome | None:
    return outcomes([_answer(number, *answer) for number, answer in enumerate(answers, start=1)]).get(CELL)


def _result(*answers: tuple[str, ...]) -> tuple[bool | None, bool] | None:
    outcome = _outcome(*answers)
    return outcome and (outcome.holds, outcome.disputed)


def test_agreement_settles_and_disagreement_waits_for_more() -> None:
    has, has_not = ("ada", "has"), ("bob", "has_not")
    assert _result(has) == (True, False)
    assert _result(has, ("bob", "has")) == (True, False)
    assert _result(has, has_not) == (None, True)
    assert _result(has, ("bob", "has_not", "second")) == (None, True)
    assert _result(has, has_not, ("cem", "has_not", "second")) == (False, False)
    assert _result(has, has_not, ("cem", "cannot_tell", "second")) == (None, True)
    assert _result(has, has_not, ("cem", "has_not", "second"), ("dia", "has", "second")) == (None, True)
    # First answers alone never outvote one another.
    assert _result(has, has_not, ("cem", "has")) == (None, True)
    assert _result(has, has_not, ("eve", "has", "adjudication")) == (True, False)


def test_what_is_no_vote_settles_nothing() -> None:
    assert _result(("ada", "skip")) is None
    assert _result(("ada", "comment")) is None
    assert _result(("ada", "cannot_tell")) == (None, False)
    assert _result(("ada", "cannot_tell"), ("bob", "has_not", "second")) == (False, False)
    assert _result(("ada", "has"), ("ada", "comment")) == (True, False)


def test_a_later_answer_of_a_reviewer_replaces_his_earlier_one() -> None:
    outcome = _outcome(("ada", "has"), ("bob", "has"), ("ada", "has_not"), ("bob", "has_not", "second"))
    assert outcome == Outcome("r1", "crimson", False, False, ("ada", "bob"), (3, 4), "t4")


def test_a_verdict_names_the_answers_it_rests_on() -> None:
    settled = _outcome(("ada", "has"), ("bob", "has_not"), ("cem", "has", "second"))
    assert settled == Outcome("r1", "crimson", True, False, ("ada", "cem"), (1, 3), "t3")
    disputed = _outcome(("ada", "has"), ("bob", "has_not"))
    assert disputed == Outcome("r1", "crimson", None, True, ("ada", "bob"), (1, 2), "t2")


def test_an_answer_holds_for_the_same_words_elsewhere_until_someone_answers_there() -> None:
    first = _answer(1, "ada", "has", shown={"exact_duplicates": ["r2", "r3"]})
    there = _answer(2, "bob", "has_not", record="r3")
    found = outcomes([first, there])
    assert {cell[0]: outcome.holds for cell, outcome in found.items()} == {
        "r1": True,
        "r2": True,
        "r3": False,
    }
    assert found["r2", "crimson"].answers == (1,)
    # Disputed: then it duplicate_count nothing elsewhere either.
    assert set(outcomes([first, _answer(3, "bob", "has_not")])) == {CELL}


@st.composite
def histories(draw: st.DrawFn) -> list[Answer]:
    """Journals of up to 25 answers on three cells by three people, undoing as they please."""
    answers: list[Answer] = []
    for number in range(1, draw(st.integers(1, 25)) + 1):
        kind = draw(st.sampled_from(ANSWERS))
        open_ones = standing_answers(answers)
        if kind == "undo" and open_ones:
            back = draw(st.sampled_from(open_ones))
            answers.append(replace(back, answer="undo", undoes=back.number, number=number))
        elif kind != "undo":
            answers.append(
                _answer(
                    number,
                    draw(st.sampled_from(("ada", "bob", "cem"))),
                    kind,
                    draw(st.sampled_from(STAGES)),
                    record=draw(st.sampled_from(("r1", "r2", "r3"))),
                    shown={
                        "exact_duplicates": draw(st.lists(st.sampled_from(("r2", "r3", "r4")), max_size=2))
                    },
                )
            )
    return answers


@given(histories(), st.randoms())
@settings(deadline=None)
def test_undone_answers_and_the_order_of_reading_leave_no_trace(answers: list[Answer], order: object) -> None:
    expected = outcomes(answers)
    undone = {answer.undoes for answer in answers}
    kept = [answer for answer in answers if answer.answer != "undo" and answer.number not in undone]
    assert outcomes(kept) == expected
    shuffled = list(answers)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert outcomes(shuffled) == expected


@given(histories())
@settings(deadline=None)
def test_every_verdict_rests_on_standing_votes_that_say_so(answers: list[Answer]) -> None:
    by_number = {answer.number: answer for answer in standing_answers(answers)}
    for (record, policy), outcome in outcomes(answers).items():
        assert (outcome.record, outcome.policy) == (record, policy)
        rests = [by_number[number] for number in outcome.answers]
        kinds = {answer.answer for answer in rests}
        assert {answer.reviewer for answer in rests} == set(outcome.reviewers)
        assert not (outcome.disputed and outcome.holds is not None)
        if outcome.disputed:
            assert kinds == {"has", "has_not"}
        elif outcome.holds is None:
            assert kinds == {"cannot_tell"}
        else:
            assert kinds == {"has" if outcome.holds else "has_not"}


@given(histories())
@settings(deadline=None)
def test_an_adjudication_ends_any_dispute(answers: list[Answer]) -> None:
    last = _answer(99, "eve", "has_not", "adjudication")
    outcome = outcomes([*answers, last])[CELL]
    assert (outcome.holds, outcome.disputed, outcome.answers) == (False, False, (99,))
