"""One reviewer at work: what is shown, what is answered, what is taken back."""

import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ...core.display import safe_repr
from ...core.errors import AuditError
from ..estimation.outcomes import standing, outcome_of
from ..sampling.mix import Mix, Assignment
from ..storage.items import Answer, AnswerKind
from ..storage.journal import Journal
from ..storage.store import Scan
from .card import Card, CardMaker, Opinion, Reveal
from .highlights import Evidence
from .progress import LiveEstimates, Progress
from .review_queue import CLAIM_SECONDS, ReviewQueue

MAX_REVIEWER_CHARACTERS = 60


class Session:
    """What a screen needs, be it a terminal or a web page. It serves one thread."""

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

        :param evidence: finds the passages to highlight; without it words of the policy are marked.
        :raises AuditError: if there is no usable audit, or the reviewer's name is none.
        """
        self.reviewer = checked_name(reviewer)
        self.adjudicate = adjudicate
        self.scan = Scan(folder)
        self.journal = Journal(folder)
        items = dict(self.scan.items())
        seed = self.scan.about.get("seed", 0)
        self.queue = ReviewQueue(
            items, self.journal, self.reviewer, mix=mix, seed=seed if isinstance(seed, int) else 0
        )
        self.cards = CardMaker(self.scan, evidence)
        self.live = LiveEstimates(items.values())
        self._tool = _tool()

    def close(self) -> None:
        """Give up what is claimed and let go of the files."""
        self.journal.release(self.reviewer)
        self.journal.close()
        self.scan.close()
        self.live.close()
        self.cards.close()

    def next(self) -> Card | None:
        """The next item to answer; None when nothing is left for this reviewer."""
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
        """Keep the item claimed: its reviewer is still reading."""
        if card.item.cause != "planted":
            self.journal.claim(card.item.record, card.item.policy, self.reviewer, seconds=CLAIM_SECONDS)

    def answer(self, card: Card, answer: AnswerKind, comment: str = "") -> Answer:
        """Write an answer; when this returns it is on the disk.

        :raises StorageError: if it cannot be written; then nothing is.
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

    def undo(self) -> Card | None:
        """Take back this reviewer's latest answer and show its item again; None if there is nothing to take back."""
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
        card = self.card(assignment)
        self.keep(card)
        return card

    def _assignment(self, answer: Answer) -> Assignment | None:
        """The item of an answer in this scan, if it still has one."""
        number = self.queue.number_of((answer.record, answer.policy), answer.shown.get("item"))
        if number is None:
            return None
        return Assignment(number, answer.stage)

    def answered(self, number: int) -> tuple[Card, Answer]:
        """The item of one of this reviewer's own answers that stands, and the answer.

        :raises AuditError: if it is none.
        """
        self.queue.refresh()
        for answer in standing(self.queue.answers):
            if answer.number == number and answer.reviewer == self.reviewer:
                assignment = self._assignment(answer)
                if assignment is not None:
                    return self.card(assignment), answer
        raise AuditError(f"{number} is no answer of {safe_repr(self.reviewer)} that stands")

    def reveal(self, card: Card) -> Reveal:
        """What was hidden while the reviewer made up his mind."""
        self.queue.refresh()
        item = card.item
        known = self.queue.cells.get((item.record, item.policy))
        answers = known.answers if known else []
        return Reveal(
            given=item.given,
            model_probability=item.model_probability,
            cause=item.cause,
            reasons=item.reasons,
            other_policy=self.cards.policy(item.other_policy) if item.other_policy else None,
            opinions=tuple(
                Opinion(answer.reviewer, answer.answer, answer.stage, answer.at, answer.comment)
                for answer in answers
            ),
            outcome=outcome_of(answers),
            panes=self.cards.with_quotes(card),
        )

    def progress(self, *, wait: bool = False) -> Progress:
        """How far the audit is.

        :param wait: until the estimates are worked out.
        """
        self.queue.refresh()
        return Progress(
            mine=self.queue.answered,
            judged=self.queue.judged(),
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
            f"reviewer: {safe_repr(reviewer)} must be a name of 1 to {MAX_REVIEWER_CHARACTERS} printable characters"
        )
    return name


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _tool() -> str:
    try:
        return f"merchantguard {version('merchantguard')}"
    except PackageNotFoundError:
        return "merchantguard"
