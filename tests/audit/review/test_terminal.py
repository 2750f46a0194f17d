"""The terminal interface, driven by keys."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from merchantguard.audit.review.review_queue import Assignment
from merchantguard.audit.review.session import Session
from merchantguard.audit.review.tui.terminal import ReviewApp
from merchantguard.audit.sampling.mix import Mix
from merchantguard.audit.storage.items import Item, Reason
from merchantguard.audit.storage.journal import Journal
from merchantguard.core.errors import StorageError

HOSTILE = "[bold]crimson[/bold] \u202egnp.exe \x1b[31m <script>alert(1)</script>"


@pytest.fixture
def audit(write_audit: Callable[..., Path]) -> Path:
    """Three items: a hostile text, a pair that contradicts itself, a long text."""
    rows = [
        {"id": "hostile", "text": HOSTILE, "labels": []},
        {"id": "one", "text": "we sell crimson paint", "labels": ["crimson"]},
        {"id": "two", "text": "we rent crimson paint", "labels": []},
        {"id": "long", "text": "word " * 4_000 + "crimson" + " tail" * 4_000, "labels": []},
    ]
    reason = (Reason("margin", "the model [b]doubts[/b] it", 0.25),)
    items = [
        Item("hostile", "crimson", False, "missing_positive", 0.9, 0.875, 9.0, reasons=reason),
        Item("one", "crimson", True, "contradicting_duplicates", 0.5, 0.5, 5.0, other_record="two"),
        Item("long", "crimson", True, "wrong_positive", 0.5, 0.5, 1.0),
    ]
    return write_audit(rows, items, duplicates=[0, 1, 1, 2])


def _drive(audit: Path, steps: Callable[[ReviewApp, Any], Awaitable[None]], **more: Any) -> None:
    session = Session(audit, "ada", mix=Mix(0, 0, 0, 0.0), **more)

    async def run() -> None:
        app = ReviewApp(session)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            await steps(app, pilot)

    try:
        asyncio.run(run())
    finally:
        session.close()


def _seen(app: ReviewApp, name: str) -> str:
    return str(app.query_one(f"#{name}").visual)  # type: ignore[attr-defined]


async def _press(pilot: Any, *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


def _answers(audit: Path) -> list[tuple[str, str, str]]:
    return [(answer.record, answer.answer, answer.comment) for answer in Journal(audit).answers()]


def test_an_answer_is_one_key_and_shows_what_was_hidden(audit: Path) -> None:
    async def steps(app: ReviewApp, pilot: Any) -> None:
        assert "[bold]crimson[/bold] ⟨RLO⟩gnp.exe ⟨U+001B⟩[31m <script>" in _seen(app, "text0")
        assert "87.5%" not in _seen(app, "reveal")
        await _press(pilot, "enter")  # not before there is an answer
        assert app.card is not None
        assert app.card.item.record == "hostile"
        await _press(pilot, "h")
        assert "87.5%" in _seen(app, "reveal")
        assert "the model [b]doubts[/b] it" in _seen(app, "reveal")
        await _press(pilot, "n")  # answered already: this key does nothing now
        assert _answers(audit) == [("hostile", "has", "")]
        await _press(pilot, "space")
        assert app.card.item.record == "one"

    _drive(audit, steps)


def test_contradicting_texts_stand_side_by_side(audit: Path) -> None:
    async def steps(app: ReviewApp, pilot: Any) -> None:
        assert not app.query_one("#pane1").display
        await _press(pilot, "t", "enter")
        assert app.query_one("#pane1").display
        assert "to review · one" in _seen(app, "text0")
        assert "to compare · two" in _seen(app, "text1")
        assert app.card is not None
        marked = [mark for mark in app.card.panes[1].marks if mark.kind == "differs"]
        assert [(mark.start, mark.end) for mark in marked] == [(3, 7)]

    _drive(audit, steps)


def test_comment_undo_skip_and_the_end(audit: Path) -> None:
    async def steps(app: ReviewApp, pilot: Any) -> None:
        await _press(pilot, "c", *"so so", "enter")
        await _press(pilot, "n", "u")
        assert app.card is not None
        assert app.card.item.record == "hostile"
        assert app.reveal is None
        await _press(pilot, "c", "x", "escape", "s")
        await _press(pilot, "s")
        assert "characters before" in _seen(app, "text0")
        assert "crimson" in _seen(app, "text0")
        await _press(pilot, "m")
        assert "crimson" not in _seen(app, "text0")
        await _press(pilot, "h", "enter")
        assert app.card is None
        assert "There is nothing left for you" in _seen(app, "text0")
        await _press(pilot, "question_mark", "escape", "q")

    _drive(audit, steps)
    assert _answers(audit) == [
        ("hostile", "comment", "so so"),
        ("hostile", "has_not", ""),
        ("hostile", "undo", ""),
        ("hostile", "skip", ""),
        ("one", "skip", ""),
        ("long", "has", ""),
    ]


def test_adjudication_shows_all_sides(audit: Path) -> None:
    for reviewer, kind in (("bob", "has"), ("cem", "has_not")):
        session = Session(audit, reviewer)
        card = session.card(Assignment(1, "first"))
        session.answer(card, "comment", f"{reviewer} [red]thinks")
        session.answer(card, kind)  # type: ignore[arg-type]
        session.close()

    async def steps(app: ReviewApp, pilot: Any) -> None:
        side = _seen(app, "reveal")
        assert (
            side.index("violates\n· bob")
            < side.index("does not violate\n· cem")
            < side.index("“bob [red]thinks”")
        )
        assert "87.5%" not in side
        await _press(pilot, "n", "enter")
        assert app.card is None

    _drive(audit, steps, adjudicate=True)
    last = Journal(audit).answers()[-1]
    assert (last.reviewer, last.stage, last.answer, last.shown["blind"]) == (
        "ada",
        "adjudication",
        "has_not",
        False,
    )


def test_a_full_disk_is_said_and_the_screen_stays(audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(app: ReviewApp, pilot: Any) -> None:
        with monkeypatch.context() as patch:

            def full(answer: object) -> None:
                raise StorageError("journal.db: no space left on the disk")

            patch.setattr(app.session.journal, "append", full)
            await _press(pilot, "h")
            assert "no space left" in _seen(app, "message")
            assert app.reveal is None
        await _press(pilot, "h")
        assert app.reveal is not None
        assert _seen(app, "message") == ""

    _drive(audit, steps)
