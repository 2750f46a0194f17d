"""What a reviewer is shown next.

Suspects come by value times the observed yield of their queue: wrong labels among the decided ones, smoothed by a
beta prior, so that a queue that disappoints gives way to one that pays. Controls, planted items and second opinions are
mixed in at fixed shares, their places and their order drawn by the seed: any first part of the controls is a random sample.
Nobody is shown a cell that he has answered, that another reviewer looks at now, or (but for planted ones) that is decided.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..estimation.verdicts import Cell, standing, twins_shown, verdict_of
from ..sampling.mix import Mix, Turn, Turned
from ..storage.items import SUSPECTS, Answer, Cause, Item, Stage, Verdict
from ..storage.journal import Journal

CLAIM_SECONDS = 900.0
# Beta(2, 2): a queue needs a few answers before it is believed to be much better or worse than the others.
_PRIOR = 2.0


@dataclass(slots=True)
class _Cell:
    """What is known of one cell: its answers that stand, and what they come to."""

    answers: list[Answer]
    verdict: Verdict | None


class ReviewQueue:
    """The queue of one reviewer. `refresh` takes in what all reviewers have answered since."""

    def __init__(
        self,
        items: Mapping[int, Item],
        journal: Journal,
        reviewer: str,
        *,
        mix: Mix | None = None,
        seed: int = 0,
    ) -> None:
        self.items = items
        self.journal = journal
        self.reviewer = reviewer
        self.mix = mix or Mix()
        self.seed = seed
        self.answers: list[Answer] = []
        self.cells: dict[Cell, _Cell] = {}
        self.tally: dict[Cause, list[int]] = {cause: [0, 0] for cause in SUSPECTS}
        self.answered = 0
        self._history: dict[Cell, list[Answer]] = defaultdict(list)
        self._carried: dict[Cell, set[Cell]] = defaultdict(set)
        self._sources: dict[Cell, set[Cell]] = {}
        self._numbers: dict[Cell, list[int]] = defaultdict(list)
        # Cells that wait for a second opinion, with the order in which they get it.
        self._seconds: dict[Cell, tuple[bool, int]] = {}
        self._settled: set[Cell] = set()
        self._current: Turned | None = None
        self._order: dict[Cause, list[int]] = defaultdict(list)
        for number, item in items.items():
            self._numbers[item.record, item.policy].append(number)
            self._order[item.cause].append(number)
        for cause, numbers in self._order.items():
            numbers.sort(key=self._by_value if cause in SUSPECTS else self._by_lot)
        self._heads: dict[Cause, int] = dict.fromkeys(self._order, 0)
        self._suspect_cells = {
            cell for cell, (first, *_) in self._numbers.items() if items[first].cause in SUSPECTS
        }
        self.refresh()

    def _by_value(self, number: int) -> tuple[float, int]:
        return -self.items[number].value, number

    def _by_lot(self, number: int) -> float:
        return self._draw("order", number)

    def _draw(self, *what: object) -> float:
        return random.Random(f"{self.seed}/{what}").random()

    # Taking in answers

    def refresh(self) -> None:
        """Read what was answered since the last time."""
        fresh = self.journal.answers(after=self.answers[-1].number if self.answers else 0)
        touched: dict[Cell, None] = {}
        for answer in fresh:
            cell = answer.record, answer.policy
            self._history[cell].append(answer)
            touched[cell] = None
        self.answers += fresh
        for cell in touched:
            self._update(cell)
        if any(answer.answer == "undo" for answer in fresh):
            self._reopen()

    def _update(self, cell: Cell) -> None:
        before = self.cells.get(cell)
        answers = standing(self._history[cell])
        now = _Cell(answers, verdict_of(answers))
        self.cells[cell] = now
        self.answered += self._own(now) - (self._own(before) if before else 0)
        if before:
            self._count(cell, before.verdict, -1)
        self._count(cell, now.verdict, +1)
        for settled in (cell, *self._carry(cell, now)):
            self._settle(settled)
        self._mend_seconds(cell, now)

    def _own(self, cell: _Cell) -> int:
        return sum(answer.reviewer == self.reviewer and answer.answer != "comment" for answer in cell.answers)

    def _count(self, cell: Cell, verdict: Verdict | None, step: int) -> None:
        if verdict is None or verdict.holds is None:
            return
        item = self.item_of(cell)
        if item is not None and item.cause in self.tally:
            self.tally[item.cause][0] += step
            self.tally[item.cause][1] += step * (verdict.holds != item.given)

    def _carry(self, cell: Cell, now: _Cell) -> set[Cell]:
        """Note to which cells of twins the verdict is carried over; gives those and the ones it no longer is."""
        before = self._sources.pop(cell, set())
        twins: set[Cell] = set()
        if now.verdict is not None and now.verdict.holds is not None:
            twins = {(twin, cell[1]) for answer in now.answers for twin in twins_shown(answer)}
            self._sources[cell] = twins
        for twin in before:
            self._carried[twin].discard(cell)
        for twin in twins:
            self._carried[twin].add(cell)
        return before | twins

    def _mend_seconds(self, cell: Cell, now: _Cell) -> None:
        self._seconds.pop(cell, None)
        item = self.item_of(cell)
        if item is None or now.verdict is None or item.cause == "planted":
            return
        unsettled = now.verdict.holds is None
        single = len({answer.reviewer for answer in now.answers if answer.answer in ("has", "has_not")}) == 1
        if unsettled or (single and self._draw("second", *cell) < self.mix.second_share):
            self._seconds[cell] = (not unsettled, now.verdict.answers[0])

    def _settle(self, cell: Cell) -> None:
        known = self.cells.get(cell)
        if self._carried.get(cell) or (known is not None and known.verdict is not None):
            self._settled.add(cell)
        elif cell in self._settled:
            self._settled.discard(cell)
            self._reopen()

    def _reopen(self) -> None:
        """Look at the queues from their beginning: something that lay behind the heads is open again."""
        self._heads = dict.fromkeys(self._order, 0)

    def item_of(self, cell: Cell) -> Item | None:
        """The item that stands for a cell, its first; None if the scan has none."""
        numbers = self._numbers.get(cell)
        return self.items[numbers[0]] if numbers else None

    # Choosing

    def next(self) -> Turned | None:
        """The next item, claimed for this reviewer; None when nothing is left for him."""
        while True:
            self.refresh()
            claimed = self.journal.claimed(besides=self.reviewer)
            turned = self._choose(claimed, self.answered)
            if turned is None or self._claim(turned):
                self._current = turned
                return turned

    def peek(self) -> Turned | None:
        """What most likely comes after the current item; nothing is claimed."""
        item = self.items[self._current.number] if self._current else None
        cells = {(item.record, item.policy)} if item else set()
        return self._choose(self.journal.claimed(besides=self.reviewer) | cells, self.answered + 1)

    def next_dispute(self) -> Turned | None:
        """The next disputed cell, for who adjudicates."""
        self.refresh()
        claimed = self.journal.claimed(besides=self.reviewer)
        for cell, _ in self.disputes():
            turned = Turned(self._numbers[cell][0], "adjudication")
            if cell not in claimed and not self._looked(cell, "adjudication") and self._claim(turned):
                return turned
        return None

    def disputes(self) -> list[tuple[Cell, Verdict]]:
        """Disputed cells, oldest first; planted ones are nobody's dispute."""
        found = [
            (cell, known.verdict)
            for cell, known in self.cells.items()
            if known.verdict is not None
            and known.verdict.disputed
            and (item := self.item_of(cell)) is not None
            and item.cause != "planted"
        ]
        return sorted(found, key=lambda pair: pair[1].answers)

    def _claim(self, turned: Turned) -> bool:
        item = self.items[turned.number]
        if item.cause == "planted":
            return True  # everybody answers these, also at once
        # Between reading the answers and claiming, another one may have answered and given his claim up.
        seen = self.answers[-1].number if self.answers else 0
        return self.journal.claim(item.record, item.policy, self.reviewer, seconds=CLAIM_SECONDS, seen=seen)

    def _choose(self, claimed: set[Cell], answered: int) -> Turned | None:
        ways: dict[Turn, Callable[[set[Cell]], Turned | None]] = {
            "suspect": self._suspect,
            "second": self._second,
            "control": lambda claimed: self._first(self._head("control", claimed)),
            "planted": lambda claimed: self._first(self._head("planted", claimed)),
        }
        turn = self.mix.turn(answered, seed=self.seed, reviewer=self.reviewer)
        order: tuple[Turn, ...] = (turn, "suspect", "second", "control")
        for way in dict.fromkeys(order):
            if turned := ways[way](claimed):
                return turned
        return None

    def _suspect(self, claimed: set[Cell]) -> Turned | None:
        heads = [number for cause in SUSPECTS if (number := self._head(cause, claimed)) is not None]
        worth = {
            number: self.items[number].value * self.observed(self.items[number].cause) for number in heads
        }
        return self._first(max(worth, key=lambda number: (worth[number], -number), default=None))

    def observed(self, cause: Cause) -> float:
        """Share of wrong labels among a queue's decided cells, the mean of its beta posterior."""
        decided, wrong = self.tally[cause]
        return (wrong + _PRIOR) / (decided + 2.0 * _PRIOR)

    def _second(self, claimed: set[Cell]) -> Turned | None:
        for cell in sorted(self._seconds, key=self._seconds.__getitem__):
            if cell not in claimed and not self._looked(cell):
                return Turned(self._numbers[cell][0], "second")
        return None

    def _first(self, number: int | None) -> Turned | None:
        return None if number is None else Turned(number, "first")

    def _head(self, cause: Cause, claimed: set[Cell]) -> int | None:
        """The first open item of a queue; what is answered for good is never looked at again."""
        numbers = self._order.get(cause, [])
        head = self._heads.get(cause, 0)
        while head < len(numbers) and self._closed(numbers[head]):
            head += 1
        self._heads[cause] = head
        for place in range(head, len(numbers)):
            item = self.items[numbers[place]]
            if (item.record, item.policy) not in claimed and not self._closed(numbers[place]):
                return numbers[place]
        return None

    def _closed(self, number: int) -> bool:
        item = self.items[number]
        cell = item.record, item.policy
        if self._looked(cell):
            return True
        return item.cause != "planted" and cell in self._settled

    def _looked(self, cell: Cell, stage: Stage | None = None) -> bool:
        """Whether this reviewer has answered here (in that stage); a comment is no answer."""
        known = self.cells.get(cell)
        return known is not None and any(
            answer.reviewer == self.reviewer
            and answer.answer != "comment"
            and (stage is None or answer.stage == stage)
            for answer in known.answers
        )

    def last_own(self) -> Answer | None:
        """This reviewer's latest answer that stands, comments apart."""
        undone = {answer.undoes for answer in self.answers if answer.reviewer == self.reviewer}
        for answer in reversed(self.answers):
            own = answer.reviewer == self.reviewer and answer.answer not in ("undo", "comment")
            if own and answer.number not in undone:
                return answer
        return None

    def waiting(self) -> int:
        """Suspect cells that nobody has judged, nor a twin of theirs."""
        return len(self._suspect_cells - self._settled)

    def judged(self) -> int:
        """Cells that somebody judged."""
        return sum(known.verdict is not None for known in self.cells.values())

    def number_of(self, cell: Cell, preferred: object = None) -> int | None:
        """The number of a cell's item, the preferred one if it is one of them; None if the scan has none."""
        numbers = self._numbers.get(cell, [])
        return preferred if isinstance(preferred, int) and preferred in numbers else next(iter(numbers), None)
