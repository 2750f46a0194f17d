"""The outcome of each cell, from all the answers on it.

A reviewer has one vote on a cell: the latest answer, whether a first or a second opinion. If all votes agree, they are the outcome.
If not, the cell is disputed, unless second opinions gave one side the majority. An adjudication decides. "Cannot tell", "skip" and
comments are not votes. An answer also holds for the exact duplicates that its reviewer was shown
(`shown["exact_duplicates"]`), unless those have answers of their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..storage.items import Answer, Cell

_VOTES = ("has", "has_not")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the answers on one cell decide.

    `holds`: whether the policy holds; None if nobody could tell, or if reviewers disagree and nobody has adjudicated (`disputed`).
    `answers`: the numbers of the answers that it rests on.
    """

    record: str
    policy: str
    holds: bool | None
    disputed: bool
    reviewers: tuple[str, ...]
    answers: tuple[int, ...]
    at: str


def standing_answers(answers: Iterable[Answer]) -> list[Answer]:
    """The answers that were not undone, without the undos themselves, in the order of writing."""
    answers = sorted(answers, key=lambda answer: answer.number)
    undone = {answer.undoes for answer in answers if answer.answer == "undo"}
    return [answer for answer in answers if answer.answer != "undo" and answer.number not in undone]


def outcomes(answers: Iterable[Answer]) -> dict[Cell, Outcome]:
    """The outcome of each cell that was answered; cells with only skips or comments have none.

    :param answers: as `Journal.answers` returns them, in any order.
    """
    by_cell: dict[Cell, list[Answer]] = {}
    for answer in standing_answers(answers):
        by_cell.setdefault(answer.cell, []).append(answer)
    found = {cell: outcome for cell, given in by_cell.items() if (outcome := outcome_of(given))}
    return _on_exact_duplicates(found, by_cell) | found


def outcome_of(answers: Iterable[Answer]) -> Outcome | None:
    """The outcome of standing answers on one cell; None without any vote or "cannot tell"."""
    latest = latest_answers(answers)
    final = [answer for (stage, _), answer in latest.items() if stage == "adjudication"]
    if decided := [answer for answer in final if answer.answer in _VOTES]:
        return _outcome(decided[-1:], disputed=False)
    # Of a reviewer who gave a first and a second opinion, the later one counts.
    opinions = {answer.reviewer: answer for (stage, _), answer in latest.items() if stage != "adjudication"}
    votes = [answer for answer in opinions.values() if answer.answer in _VOTES]
    if not votes:
        unsure = [answer for answer in (*opinions.values(), *final) if answer.answer == "cannot_tell"]
        return _outcome(unsure, disputed=False) if unsure else None
    for side in _VOTES:
        same = [answer for answer in votes if answer.answer == side]
        outvoted = 2 * len(same) > len(votes) and any(answer.stage == "second" for answer in votes)
        if len(same) == len(votes) or outvoted:
            return _outcome(same, disputed=False)
    return _outcome(votes, disputed=True)


def latest_answers(answers: Iterable[Answer]) -> dict[tuple[str, str], Answer]:
    """The latest of the standing answers on one cell for each (stage, reviewer), oldest first; comments replace nothing."""
    latest: dict[tuple[str, str], Answer] = {}
    for answer in answers:
        if answer.answer != "comment":
            # Removed first, so that it moves to its new place in the order.
            latest.pop((answer.stage, answer.reviewer), None)
            latest[answer.stage, answer.reviewer] = answer
    return latest


def _outcome(answers: list[Answer], *, disputed: bool) -> Outcome:
    sides = {answer.answer for answer in answers}
    last = max(answers, key=lambda answer: answer.number)
    return Outcome(
        record=last.record,
        policy=last.policy,
        holds=None if disputed or not sides <= set(_VOTES) else sides == {"has"},
        disputed=disputed,
        reviewers=tuple(sorted({answer.reviewer for answer in answers})),
        answers=tuple(sorted(answer.number for answer in answers)),
        at=last.at,
    )


def _on_exact_duplicates(
    found: Mapping[Cell, Outcome], by_cell: Mapping[Cell, list[Answer]]
) -> dict[Cell, Outcome]:
    spread: dict[Cell, Outcome] = {}
    # Later outcomes come last and so replace earlier ones on the same duplicate.
    for (_, policy), outcome in sorted(found.items(), key=lambda pair: max(pair[1].answers)):
        if outcome.holds is None:
            continue
        for answer in by_cell[outcome.record, policy]:
            if answer.number in outcome.answers:
                for record in exact_duplicates_shown(answer):
                    spread[record, policy] = replace(outcome, record=record)
    return spread


def exact_duplicates_shown(answer: Answer) -> list[str]:
    """Ids of the records with the same words that the reviewer was told the answer also applies to."""
    records = answer.shown.get("exact_duplicates", ())
    return [record for record in records if isinstance(record, str)] if isinstance(records, list) else []
