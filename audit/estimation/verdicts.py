"""What the answers on each cell come to.

A reviewer has one vote a cell: his latest answer, be it a first or a second one. If all votes are the same, that is
the verdict. If not, the cell is disputed, unless a second opinion gave one side the majority. Who adjudicates has the
last word. "Cannot tell", "skip" and comments are no votes. An answer also holds for the records with the same words that
its reviewer was told of (`shown["twins"]`), as long as nobody answered on those themselves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..storage.items import Answer, Verdict

Cell = tuple[str, str]
_VOTES = ("has", "has_not")


def standing(answers: Iterable[Answer]) -> list[Answer]:
    """The answers that nobody took back, without the undoing itself, in the order of writing."""
    answers = sorted(answers, key=lambda answer: answer.number)
    undone = {answer.undoes for answer in answers if answer.answer == "undo"}
    return [answer for answer in answers if answer.answer != "undo" and answer.number not in undone]


def verdicts(answers: Iterable[Answer]) -> dict[Cell, Verdict]:
    """The verdict on each cell that somebody judged; cells that were only skipped or commented on have none.

    :param answers: as `Journal.answers` gives them, in any order.
    """
    by_cell: dict[Cell, list[Answer]] = {}
    for answer in standing(answers):
        by_cell.setdefault((answer.record, answer.policy), []).append(answer)
    found = {cell: verdict for cell, given in by_cell.items() if (verdict := verdict_of(given))}
    return _on_twins(found, by_cell) | found


def verdict_of(answers: Iterable[Answer]) -> Verdict | None:
    """The verdict that standing answers on one cell come to, None if nobody judged it."""
    latest = latest_answers(answers)
    words = [answer for (stage, _), answer in latest.items() if stage == "adjudication"]
    if final := [answer for answer in words if answer.answer in _VOTES]:
        return _verdict(final[-1:], disputed=False)
    # Of a reviewer who gave a first and a second opinion, the later one counts.
    opinions = {answer.reviewer: answer for (stage, _), answer in latest.items() if stage != "adjudication"}
    votes = [answer for answer in opinions.values() if answer.answer in _VOTES]
    if not votes:
        unsure = [answer for answer in (*opinions.values(), *words) if answer.answer == "cannot_tell"]
        return _verdict(unsure, disputed=False) if unsure else None
    for side in _VOTES:
        same = [answer for answer in votes if answer.answer == side]
        outvoted = 2 * len(same) > len(votes) and any(answer.stage == "second" for answer in votes)
        if len(same) == len(votes) or outvoted:
            return _verdict(same, disputed=False)
    return _verdict(votes, disputed=True)


def latest_answers(answers: Iterable[Answer]) -> dict[tuple[str, str], Answer]:
    """Of standing answers on one cell the latest of each (stage, reviewer), oldest first; comments replace nothing."""
    latest: dict[tuple[str, str], Answer] = {}
    for answer in answers:
        if answer.answer != "comment":
            # Taken out first, so that it takes its new place in the order.
            latest.pop((answer.stage, answer.reviewer), None)
            latest[answer.stage, answer.reviewer] = answer
    return latest


def _verdict(answers: list[Answer], *, disputed: bool) -> Verdict:
    sides = {answer.answer for answer in answers}
    last = max(answers, key=lambda answer: answer.number)
    return Verdict(
        record=last.record,
        policy=last.policy,
        holds=None if disputed or not sides <= set(_VOTES) else sides == {"has"},
        disputed=disputed,
        reviewers=tuple(sorted({answer.reviewer for answer in answers})),
        answers=tuple(sorted(answer.number for answer in answers)),
        at=last.at,
    )


def _on_twins(found: Mapping[Cell, Verdict], by_cell: Mapping[Cell, list[Answer]]) -> dict[Cell, Verdict]:
    spread: dict[Cell, Verdict] = {}
    # Later verdicts come last and so replace earlier ones on the same twin.
    for (_, policy), verdict in sorted(found.items(), key=lambda pair: max(pair[1].answers)):
        if verdict.holds is None:
            continue
        for answer in by_cell[verdict.record, policy]:
            if answer.number in verdict.answers:
                for twin in twins_shown(answer):
                    spread[twin, policy] = replace(verdict, record=twin)
    return spread


def twins_shown(answer: Answer) -> list[str]:
    """Ids of the records with the same words that the reviewer was told his answer also holds for."""
    twins = answer.shown.get("twins", ())
    return [twin for twin in twins if isinstance(twin, str)] if isinstance(twins, list) else []
