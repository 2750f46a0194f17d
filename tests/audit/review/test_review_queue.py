"""What is shown next, to one reviewer and to several."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merchantguard.audit.review.session import Session
from merchantguard.audit.sampling.mix import Mix
from merchantguard.audit.storage.items import SUSPECTS, Cause, Item
from merchantguard.audit.storage.journal import JOURNAL, Journal
from merchantguard.core.errors import AuditError

SUSPECTS_ONLY = Mix(controls=0, gold=0, second_opinions=0, second_share=0.0)


def _item(record: int, cause: Cause = "wrong_positive", value: float = 0.5, **more: object) -> Item:
    gold = False if cause == "gold" else None
    return Item(f"r{record}", "crimson", True, cause, 0.5, 0.5, value, gold_answer=gold, **more)  # type: ignore[arg-type]


def _rows(count: int) -> list[dict[str, object]]:
    return [
        {"id": f"r{number}", "text": f"crimson goods number {number}", "labels": []}
        for number in range(count)
    ]


@pytest.fixture
def open_session(write_audit: Callable[..., Path], tmp_path: Path) -> Callable[..., Session]:
    """Writes the audit at the first call, and opens a session of a reviewer."""

    def open_it(reviewer: str, items: list[Item] | None = None, **more: object) -> Session:
        duplicates = more.pop("duplicates", None)
        rows = more.pop("rows", None)
        if items is not None:
            write_audit(rows or _rows(60), items, duplicates=duplicates)
        return Session(tmp_path / "audit", reviewer, **more)  # type: ignore[arg-type]

    return open_it


def _answer_all(session: Session, kind: Callable[[Item], str]) -> list[Item]:
    seen = []
    while (card := session.next()) is not None:
        session.answer(card, kind(card.item))  # type: ignore[arg-type]
        seen.append(card.item)
        assert len(seen) < 1000
    return seen


def test_suspects_come_by_value_and_each_once(open_session: Callable[..., Session]) -> None:
    items = [_item(number, value=number % 7) for number in range(30)]
    seen = _answer_all(open_session("ada", items, mix=SUSPECTS_ONLY), lambda item: "has")
    assert [item.value for item in seen] == sorted((item.value for item in items), reverse=True)
    assert len({item.record for item in seen}) == 30


def test_a_queue_that_pays_overtakes_one_that_does_not(open_session: Callable[..., Session]) -> None:
    items = [_item(number, "wrong_positive", 1.0) for number in range(20)]
    items += [_item(number, "annotator_drift", 0.9) for number in range(20, 40)]
    # Given labels are "has": wrong positives turn out right, labels of the drifting annotator wrong.
    seen = _answer_all(
        open_session("ada", items, mix=SUSPECTS_ONLY),
        lambda item: "has" if item.cause == "wrong_positive" else "has_not",
    )
    causes = [item.cause for item in seen]
    assert causes[0] == "wrong_positive"
    assert Counter(causes[:22])["annotator_drift"] == 20
    session = open_session("ada", mix=SUSPECTS_ONLY)
    assert session.queue.observed_yield("wrong_positive") == pytest.approx(2 / 24)
    assert session.queue.observed_yield("annotator_drift") == pytest.approx(22 / 24)
    assert session.queue.observed_yield("confused_pair") == 0.5


def test_controls_and_gold_items_keep_their_shares_and_the_seed_their_places(
    open_session: Callable[..., Session],
) -> None:
    items = [_item(number) for number in range(40)]
    items += [_item(number, "control") for number in range(40, 50)]
    items += [_item(number, "gold") for number in range(50, 60)]
    mix = Mix(controls=2, gold=1, second_opinions=0, second_share=0.0)
    session = open_session("ada", items, mix=mix)
    seen = []
    for _ in range(40):
        card = session.next()
        assert card is not None
        session.answer(card, "has")
        seen.append(card.item)
    for block in (seen[:20], seen[20:]):
        assert Counter(item.cause for item in block) == {"wrong_positive": 17, "control": 2, "gold": 1}
    controls = [item.record for item in seen if item.cause == "control"]
    assert controls != sorted(controls) or controls[0] != "r40"  # drawn, not in the order of the file
    # Another reviewer answers the same gold items, and nothing else that is decided.
    more = Mix(controls=2, gold=6, second_opinions=0, second_share=0.0)
    other = _answer_all(open_session("bob", mix=more), lambda item: "has")
    shared = {item.record for item in seen} & {item.record for item in other}
    assert shared == {item.record for item in seen if item.cause == "gold"}


def test_two_reviewers_never_look_at_the_same_item(open_session: Callable[..., Session]) -> None:
    ada = open_session("ada", [_item(number) for number in range(12)], mix=SUSPECTS_ONLY)
    bob = open_session("bob", mix=SUSPECTS_ONLY)
    seen: list[str] = []
    for _ in range(6):
        cards = ada.next(), bob.next()
        assert cards[0] is not None
        assert cards[1] is not None
        assert cards[0].item != cards[1].item
        # The item stays the reviewer's own until he answers.
        assert ada.next() == cards[0]
        seen += [card.item.record for card in cards if card]
        ada.answer(cards[0], "has")
        bob.answer(cards[1], "has_not")
    assert sorted(seen) == sorted(f"r{number}" for number in range(12))
    assert ada.next() is None
    assert bob.next() is None


REVIEWER = """
import sys
from pathlib import Path
from merchantguard.audit.sampling.mix import Mix
from merchantguard.audit.review.session import Session
session = Session(Path(sys.argv[1]), sys.argv[2], mix=Mix(0, 0, 0, 0.0))
print("open", flush=True)
sys.stdin.readline()
while (card := session.next()) is not None:
    session.answer(card, "has")
session.close()
"""


def test_two_processes_answer_every_item_once(open_session: Callable[..., Session], tmp_path: Path) -> None:
    open_session("ada", [_item(number) for number in range(60)]).close()
    people = [
        subprocess.Popen(
            [sys.executable, "-c", REVIEWER, str(tmp_path / "audit"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("ada", "bob")
    ]
    for person in people:
        assert person.stdout is not None
        assert person.stdout.readline() == "open\n"
    for person in people:
        assert person.stdin is not None
        person.stdin.write("begin\n")
        person.stdin.flush()
    assert [person.wait() for person in people] == [0, 0]
    answers = Journal(tmp_path / "audit").answers()
    assert Counter(answer.record for answer in answers) == {f"r{number}": 1 for number in range(60)}


def test_who_leaves_gives_his_item_back(open_session: Callable[..., Session]) -> None:
    ada = open_session("ada", [_item(0)], mix=SUSPECTS_ONLY)
    bob = open_session("bob", mix=SUSPECTS_ONLY)
    assert ada.next() is not None
    assert bob.next() is None
    ada.close()
    assert bob.next() is not None


def test_what_one_skips_another_gets(open_session: Callable[..., Session]) -> None:
    ada = open_session("ada", [_item(0)], mix=SUSPECTS_ONLY)
    card = ada.next()
    assert card is not None
    ada.answer(card, "skip")
    assert ada.next() is None
    bob = open_session("bob", mix=SUSPECTS_ONLY)
    assert bob.next() is not None


def test_undo_asks_again_and_leaves_no_trace(open_session: Callable[..., Session]) -> None:
    ada = open_session("ada", [_item(0, value=2.0), _item(1, value=1.0)], mix=SUSPECTS_ONLY)
    first = ada.next()
    assert first is not None
    ada.answer(first, "comment", "odd one")
    ada.answer(first, "has_not")
    assert ada.progress().mine == 1
    assert ada.next() != first
    assert ada.undo() == first
    assert ada.undo() is None
    assert ada.progress().mine == 0
    assert ada.queue.tally["wrong_positive"] == [0, 0]
    assert ada.next() == first
    kinds = [answer.answer for answer in ada.journal.answers()]
    assert kinds == ["comment", "has_not", "undo"]


def test_one_answer_settles_the_same_words_and_only_those(open_session: Callable[..., Session]) -> None:
    texts = ("Crimson goods, 20 %", "crimson GOODS - 20 %", "crimson goods 30 %", "Crimson\u200b goods 20 %")
    rows = [{"id": f"r{number}", "text": text, "labels": []} for number, text in enumerate(texts)]
    items = [_item(number, value=9 - number) for number in range(4)]
    ada = open_session("ada", items, rows=rows, duplicates=[0, 0, 0, 0], mix=SUSPECTS_ONLY)
    card = ada.next()
    assert card is not None
    assert card.exact_duplicates == ("r1", "r3")
    assert ada.answer(card, "has").shown["exact_duplicates"] == ["r1", "r3"]
    rest = ada.next()
    assert rest is not None
    assert rest.item.record == "r2"
    # Taking it back opens the others again.
    ada.undo()
    ada.answer(card, "skip")
    again = ada.next()
    assert again is not None
    assert again.item.record == "r1"


def test_disagreement_goes_to_another_reviewer_and_then_to_adjudication(
    open_session: Callable[..., Session],
) -> None:
    mix = Mix(controls=0, gold=0, second_opinions=3, second_share=1.0)
    ada = open_session("ada", [_item(0)], mix=mix)
    card = ada.next()
    assert card is not None
    ada.answer(card, "has")
    assert ada.next() is None  # never his own again
    bob = open_session("bob", mix=mix)
    second = bob.next()
    assert second is not None
    assert second.stage == "second"
    bob.answer(second, "has_not", "ships no crimson")
    assert bob.progress().disputed == 1
    eve = open_session("eve", adjudicate=True)
    dispute = eve.next()
    assert dispute is not None
    assert dispute.stage == "adjudication"
    opinions = eve.reveal(dispute).answers
    assert [(each.reviewer, each.answer, each.comment) for each in opinions] == [
        ("ada", "has", ""),
        ("bob", "has_not", "ships no crimson"),
    ]
    eve.answer(dispute, "has_not")
    assert eve.next() is None
    assert eve.progress().disputed == 0
    assert ada.progress().disputed == 0


def test_a_share_of_answers_gets_a_second_opinion(open_session: Callable[..., Session]) -> None:
    items = [_item(number) for number in range(60)]
    mix = Mix(controls=0, gold=0, second_opinions=3, second_share=0.3)
    _answer_all(open_session("ada", items, mix=mix), lambda item: "has")
    seconds = _answer_all(open_session("bob", mix=mix), lambda item: "has")
    assert 8 <= len(seconds) <= 28
    assert _answer_all(open_session("cem", mix=mix), lambda item: "has") == []


def test_blind_cards_keep_opinions_and_quotes_to_themselves(open_session: Callable[..., Session]) -> None:
    rows = [
        {
            "id": "r0",
            "text": "we sell crimson goods",
            "labels": ["crimson"],
            "evidence": {"crimson": ["we sell"]},
        }
    ]
    ada = open_session("ada", [_item(0)], rows=rows, evidence=lambda text, policy: [(8, 15)])
    card = ada.next()
    assert card is not None
    assert {(mark.start, mark.end, mark.kind) for mark in card.panes[0].marks} == {
        (8, 15, "evidence"),
        (8, 15, "word"),
    }
    ada.answer(card, "has")
    reveal = ada.reveal(card)
    assert {(mark.start, mark.end) for mark in reveal.panes[0].marks if mark.kind == "quote"} == {(0, 7)}
    assert reveal.given is True


def test_a_name_that_is_none_is_refused(open_session: Callable[..., Session]) -> None:
    for name in ("", "  ", "a\nb", "x" * 61, "\u202eada"):
        with pytest.raises(AuditError, match="reviewer"):
            open_session(name, [])


@given(data=st.data())
@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_queue_that_followed_along_is_the_one_that_starts_anew(
    data: st.DataObject, open_session: Callable[..., Session], tmp_path: Path
) -> None:
    """Whatever people do, in any order: what is kept up to date equals what is read from the journal at once."""
    causes = st.sampled_from((*SUSPECTS[:3], "control", "gold"))
    items = [_item(number, data.draw(causes), number / 8) for number in range(6)]
    rows = [{"id": f"r{number}", "text": f"crimson {number % 4}", "labels": []} for number in range(6)]
    duplicates = [number % 4 for number in range(6)]
    for path in (tmp_path / "audit").glob(f"{JOURNAL}*"):
        path.unlink()  # the last example's
    people = [open_session("ada", items, rows=rows, duplicates=duplicates), open_session("bob")]
    for _ in range(data.draw(st.integers(1, 12))):
        person = data.draw(st.sampled_from(people))
        act = data.draw(
            st.sampled_from(("has", "has", "has_not", "has_not", "cannot_tell", "skip", "undo", "comment"))
        )
        if act == "undo":
            person.undo()
        elif (card := person.next()) is not None:
            person.answer(card, act)  # type: ignore[arg-type]
    for person in people:
        person.queue.refresh()
        fresh = open_session(person.reviewer)
        assert fresh.queue.tally == person.queue.tally
        assert fresh.queue.answered == person.queue.answered
        assert fresh.queue.disputes() == person.queue.disputes()
        assert fresh.queue.waiting() == person.queue.waiting()
        person.journal.release("ada")
        person.journal.release("bob")
        assert fresh.next() == person.next()
        fresh.close()
    for person in people:
        person.close()
