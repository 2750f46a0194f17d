"""One reviewer at work: what is shown, answered and undone."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ...core.display import safe_repr
from ...core.errors import AuditError
from ...data.taxonomy import Policy
from .. import tool_version
from ..estimation.outcomes import standing_answers
from ..sampling.mix import Mix
from ..storage.items import Answer, AnswerKind
from ..storage.journal import Journal
from ..storage.store import Scan
from .card import Card, CardMaker, Reveal
from .highlights import Evidence
from .progress import LiveEstimates, Progress
from .review_queue import CLAIM_SECONDS, Assignment, ReviewQueue

MAX_REVIEWER_CHARACTERS = 60


class Session:
    """What a screen needs, in the terminal or in a browser. It serves one thread."""

    def __init__(
        self,
        folder: Path,
        reviewer: str,
        *,
        adjudicate: bool = False,
        mix: Mix | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        """Open the audit in `folder`.

        :param evidence: finds the passages to highlight; without it only words of the policy are marked.
        :raises AuditError: if there is no usable audit, or the reviewer's name is not valid.
        """
        self.reviewer = checked_name(reviewer)
        self.adjudicate = adjudicate
        self.scan = Scan(folder)
        self.journal = Journal(folder)
        items = dict(self.scan.items())
        self.queue = ReviewQueue(items, self.journal, self.reviewer, mix=mix, seed=self.scan.summary.seed)
        self.cards = CardMaker(self.scan, evidence)
        self.live = LiveEstimates(items.values())
        self._tool = tool_version()

    def close(self) -> None:
        """Release all claims and close the files."""
        self.journal.release(self.reviewer)
        self.journal.close()
        self.scan.close()
        self.live.close()
        self.cards.close()

    def next(self) -> Card | None:
        """The next item to answer; None if nothing is left for this reviewer."""
        assignment = self.queue.next_dispute() if self.adjudicate else self.queue.next()
        if assignment is None:
            return None
        card = self.card(assignment)
        if not self.adjudicate and (upcoming := self.queue.peek()) is not None:
            self.cards.prepare(self.queue.items[upcoming.number])
        return card

    def card(self, assignment: Assignment) -> Card:
        """The card of an item that has been chosen."""
        item = self.queue.items.get(assignment.number)
        if item is None:
            raise AuditError(f"{self.scan.path}: has no item {assignment.number}")
        return self.cards.card(assignment.number, item, assignment.stage)

    def keep(self, card: Card) -> None:
        """Extend the claim on the item: its reviewer is still reading."""
        if card.item.cause != "gold":
            self.journal.claim(*card.item.cell, self.reviewer, seconds=CLAIM_SECONDS)

    def answer(self, card: Card, answer: AnswerKind, comment: str = "") -> Answer:
        """Write an answer; it is on disk when this returns.

        :raises StorageError: if it cannot be written; then nothing is written.
        """
        return self.journal.append(
            Answer(
                reviewer=self.reviewer,
                record=card.item.record,
                policy=card.item.policy,
                answer=answer,
                stage=card.stage,
                at=_now(),
                milliseconds=max(0, round(1000 * (time.monotonic() - card.since))),
                tool=self._tool,
                shown=card.shown(),
                comment=comment,
            )
        )

    def labels_left(self, card: Card) -> tuple[str, ...]:
        """The policies that the record still violates, by its labels and this reviewer's answers, without the card's own."""
        labels = dict.fromkeys(card.panes[0].record.labels, True)
        for answer in standing_answers(self.queue.answers):
            same = answer.record == card.item.record and answer.reviewer == self.reviewer
            if same and answer.answer in ("has", "has_not"):
                labels[answer.policy] = answer.answer == "has"
        return tuple(policy for policy, holds in labels.items() if holds and policy != card.item.policy)

    def leaves_nothing(self, card: Card, answer: AnswerKind) -> bool:
        """Whether an answer takes the record's last label: then it counts only once "anything else?" is answered."""
        removes = answer == "has_not" and card.item.policy in card.panes[0].record.labels
        return removes and not self.labels_left(card)

    def other_policies(self, card: Card) -> list[Policy]:
        """The policies that may be added to the card's record, likely ones first: those that the scan lists, then the rest."""
        listed = [item for item in self.queue.items.values() if item.record == card.item.record]
        listed.sort(key=lambda item: -item.model_probability)
        likely = [
            card.item.other_policy,
            *(policy for item in listed for policy in (item.policy, item.other_policy)),
        ]
        order = dict.fromkeys([*(policy for policy in likely if policy), *self.scan.taxonomy.ids])
        return [self.cards.policy(policy) for policy in order if policy != card.item.policy]

    def add(self, card: Card, policies: Sequence[str]) -> None:
        """Write that the card's record violates these policies too.

        :raises AuditError: if one is not in the taxonomy; then nothing is written.
        """
        known = {policy.id for policy in self.other_policies(card)}
        if unknown := [policy for policy in policies if policy not in known]:
            raise AuditError(
                f"{safe_repr(unknown[0])} is not a policy that can be added here; choose one of the list"
            )
        for policy in dict.fromkeys(policies):
            self.journal.append(
                Answer(
                    reviewer=self.reviewer,
                    record=card.item.record,
                    policy=policy,
                    answer="has",
                    stage=card.stage,
                    at=_now(),
                    milliseconds=0,
                    tool=self._tool,
                    shown=card.shown() | {"item": None, "added_at": card.number},
                )
            )

    def undo(self) -> Card | None:
        """Undo this reviewer's latest answer and return its item; None if there is nothing to undo."""
        self.queue.refresh()
        last = self.queue.last_own()
        if last is None:
            return None
        self.journal.append(
            Answer(
                reviewer=self.reviewer,
                record=last.record,
                policy=last.policy,
                answer="undo",
                stage=last.stage,
                at=_now(),
                milliseconds=0,
                tool=self._tool,
                shown=last.shown,
                undoes=last.number,
            )
        )
        self.queue.refresh()
        assignment = self._assignment(last)
        if assignment is None:
            return None
        self.queue.return_to(assignment)
        card = self.card(assignment)
        self.keep(card)
        return card

    def _assignment(self, answer: Answer) -> Assignment | None:
        """The item of an answer, if this scan has it."""
        number = self.queue.number_of(answer.cell, answer.shown.get("item"))
        if number is None:
            return None
        return Assignment(number, answer.stage)

    def answered(self, number: int) -> tuple[Card, Answer]:
        """The item of one of this reviewer's standing answers, and the answer.

        :raises AuditError: if there is no such answer.
        """
        self.queue.refresh()
        for answer in standing_answers(self.queue.answers):
            if answer.number == number and answer.reviewer == self.reviewer:
                assignment = self._assignment(answer)
                if assignment is not None:
                    return self.card(assignment), answer
        raise AuditError(f"{number} is not a standing answer of {safe_repr(self.reviewer)}")

    def reveal(self, card: Card) -> Reveal:
        """What was hidden before the answer."""
        self.queue.refresh()
        item = card.item
        state = self.queue.cells.get(item.cell)
        return Reveal(
            given=item.given,
            model_probability=item.model_probability,
            cause=item.cause,
            reasons=item.reasons,
            other_policy=self.cards.policy(item.other_policy) if item.other_policy else None,
            answers=tuple(state.answers) if state else (),
            outcome=state.outcome if state else None,
            panes=self.cards.with_quotes(card),
        )

    def progress(self, *, wait: bool = False) -> Progress:
        """The progress of the audit.

        :param wait: wait until the estimates are ready.
        """
        self.queue.refresh()
        return Progress(
            mine=self.queue.answered,
            reviewed=self.queue.reviewed(),
            waiting=self.queue.waiting(),
            disputed=len(self.queue.disputes()),
            estimates=self.live.latest(self.queue.answers, wait=wait),
        )


def checked_name(reviewer: str) -> str:
    """The reviewer's name without white space around it.

    :raises AuditError: if it is empty, too long or not printable.
    """
    name = reviewer.strip()
    if not name or len(name) > MAX_REVIEWER_CHARACTERS or not name.isprintable():
        raise AuditError(
            f"reviewer: {safe_repr(reviewer)} must be a name with 1 to {MAX_REVIEWER_CHARACTERS} printable characters"
        )
    return name


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
