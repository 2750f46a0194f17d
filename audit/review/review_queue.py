"""What a reviewer is shown next.

Suspects come in the order of their value times the observed yield of their queue: the share of wrong labels among its decided
cells, smoothed by a beta prior, so that a poor queue gives way to a good one. Controls, gold items and second opinions are mixed
in at fixed shares; their places and their order are drawn from the seed, so any first part of the controls is a random sample.
The suspects of one text come one after the other, so that it is read once and a swapped label is seen from both sides.
A reviewer never gets a cell that they have answered, that another reviewer is looking at, or (except gold items) that is decided.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..estimation.outcomes import Outcome, exact_duplicates_shown, outcome_of, standing_answers
from ..sampling.mix import Mix, Turn
from ..storage.items import SUSPECTS, Answer, Cause, Cell, Item, Stage
from ..storage.journal import Journal

CLAIM_SECONDS = 900.0
# Beta(2, 2): it takes a few answers until a queue counts as much better or worse than the others.
_PRIOR = 2.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """An item's number and the stage in which it is to be answered."""

    number: int
    stage: Stage


@dataclass(frozen=True, slots=True)
class CellState:
    """The standing answers on one cell and their outcome."""

    answers: list[Answer]
    outcome: Outcome | None


class ReviewQueue:
    """The queue of one reviewer. `refresh` reads what all reviewers have answered since."""

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
        self.cells: dict[Cell, CellState] = {}
        self.tally: dict[Cause, list[int]] = {cause: [0, 0] for cause in SUSPECTS}
        self.answered = 0
        self._history: dict[Cell, list[Answer]] = defaultdict(list)
        # Which cells an outcome applies to besides its own, both ways.
        self._sources: dict[Cell, set[Cell]] = defaultdict(set)
        self._duplicates: dict[Cell, set[Cell]] = {}
        self._numbers: dict[Cell, list[int]] = defaultdict(list)
        # Cells that wait for a second opinion, with their place in the order.
        self._second_opinions: dict[Cell, tuple[bool, int]] = {}
        self._settled: set[Cell] = set()
        self._current: Assignment | None = None
        self._order: dict[Cause, list[int]] = defaultdict(list)
        for number, item in items.items():
            self._numbers[item.cell].append(number)
            self._order[item.cause].append(number)
        for cause, numbers in self._order.items():
            numbers.sort(key=self._by_value if cause in SUSPECTS else self._at_random)
        self._heads: dict[Cause, int] = dict.fromkeys(self._order, 0)
        self._suspects_of: dict[str, list[int]] = defaultdict(list)
        for cause in SUSPECTS:
            for number in self._order.get(cause, ()):
                self._suspects_of[items[number].record].append(number)
        self._suspect_cells = {
            cell for cell, (first, *_) in self._numbers.items() if items[first].cause in SUSPECTS
        }
        self.refresh()

    def _by_value(self, number: int) -> tuple[float, int]:
        return -self.items[number].value, number

    def _at_random(self, number: int) -> float:
        return self._draw("order", number)

    def _draw(self, *what: object) -> float:
        return random.Random(f"{self.seed}/{what}").random()

    # Reading answers

    def refresh(self) -> None:
        """Read what was answered since the last time."""
        new = self.journal.answers(after=self.answers[-1].number if self.answers else 0)
        for answer in new:
            self._history[answer.cell].append(answer)
        self.answers += new
        for cell in dict.fromkeys(answer.cell for answer in new):
            self._update(cell)
        if any(answer.answer == "undo" for answer in new):
            self._rewind()

    def _update(self, cell: Cell) -> None:
        before = self.cells.get(cell)
        answers = standing_answers(self._history[cell])
        now = CellState(answers, outcome_of(answers))
        self.cells[cell] = now
        self.answered += self._own(now) - (self._own(before) if before else 0)
        if before:
            self._count(cell, before.outcome, -1)
        self._count(cell, now.outcome, +1)
        for changed in (cell, *self._update_duplicates(cell, now)):
            self._update_settled(changed)
        self._update_second_opinion(cell, now)

    def _own(self, state: CellState) -> int:
        return sum(
            answer.reviewer == self.reviewer and answer.answer != "comment" for answer in state.answers
        )

    def _count(self, cell: Cell, outcome: Outcome | None, step: int) -> None:
        if outcome is None or outcome.holds is None:
            return
        item = self.item_of(cell)
        if item is not None and item.cause in self.tally:
            self.tally[item.cause][0] += step
            self.tally[item.cause][1] += step * (outcome.holds != item.given)

    def _update_duplicates(self, cell: Cell, now: CellState) -> set[Cell]:
        """Note which cells of exact duplicates the outcome applies to; returns these and the ones it no longer applies to."""
        before = self._duplicates.pop(cell, set())
        after: set[Cell] = set()
        if now.outcome is not None and now.outcome.holds is not None:
            after = {(record, cell[1]) for answer in now.answers for record in exact_duplicates_shown(answer)}
            self._duplicates[cell] = after
        for duplicate in before:
            self._sources[duplicate].discard(cell)
        for duplicate in after:
            self._sources[duplicate].add(cell)
        return before | after

    def _update_second_opinion(self, cell: Cell, now: CellState) -> None:
        self._second_opinions.pop(cell, None)
        item = self.item_of(cell)
        if item is None or now.outcome is None or item.cause == "gold":
            return
        undecided = now.outcome.holds is None
        single = len({answer.reviewer for answer in now.answers if answer.answer in ("has", "has_not")}) == 1
        if undecided or (single and self._draw("second", *cell) < self.mix.second_share):
            self._second_opinions[cell] = (not undecided, now.outcome.answers[0])

    def _update_settled(self, cell: Cell) -> None:
        state = self.cells.get(cell)
        if self._sources.get(cell) or (state is not None and state.outcome is not None):
            self._settled.add(cell)
        elif cell in self._settled:
            self._settled.discard(cell)
            self._rewind()

    def _rewind(self) -> None:
        """Search the queues from the beginning: an item before the heads is open again."""
        self._heads = dict.fromkeys(self._order, 0)

    def item_of(self, cell: Cell) -> Item | None:
        """The first item of a cell; None if the scan has none."""
        numbers = self._numbers.get(cell)
        return self.items[numbers[0]] if numbers else None

    # Choosing

    def next(self) -> Assignment | None:
        """The next item, claimed for this reviewer; None if there is nothing left for this reviewer."""
        while True:
            self.refresh()
            claimed = self.journal.claimed_by_others(self.reviewer)
            assignment = self._choose(claimed, self.answered)
            if assignment is None or self._claim(assignment):
                self._current = assignment
                return assignment

    def return_to(self, assignment: Assignment) -> None:
        """Make an item the current one again, after its answer was undone."""
        self._current = assignment

    def peek(self) -> Assignment | None:
        """What most likely follows the current item; nothing is claimed."""
        cells = {self.items[self._current.number].cell} if self._current else set()
        return self._choose(self.journal.claimed_by_others(self.reviewer) | cells, self.answered + 1)

    def next_dispute(self) -> Assignment | None:
        """The next disputed cell, to be adjudicated."""
        self.refresh()
        claimed = self.journal.claimed_by_others(self.reviewer)
        for cell, _ in self.disputes():
            assignment = Assignment(self._numbers[cell][0], "adjudication")
            if (
                cell not in claimed
                and not self._answered_here(cell, "adjudication")
                and self._claim(assignment)
            ):
                return assignment
        return None

    def disputes(self) -> list[tuple[Cell, Outcome]]:
        """Disputed cells, oldest first, without gold items."""
        found = [
            (cell, state.outcome)
            for cell, state in self.cells.items()
            if state.outcome is not None
            and state.outcome.disputed
            and (item := self.item_of(cell)) is not None
            and item.cause != "gold"
        ]
        return sorted(found, key=lambda pair: pair[1].answers)

    def _claim(self, assignment: Assignment) -> bool:
        item = self.items[assignment.number]
        if item.cause == "gold":
            return True  # every reviewer answers these, even at the same time
        # Between reading the answers and claiming, another reviewer may have answered and released the claim.
        seen = self.answers[-1].number if self.answers else 0
        return self.journal.claim(*item.cell, self.reviewer, seconds=CLAIM_SECONDS, seen=seen)

    def _choose(self, claimed: set[Cell], answered: int) -> Assignment | None:
        ways: dict[Turn, Callable[[set[Cell]], Assignment | None]] = {
            "suspect": self._suspect,
            "second": self._second_opinion,
            "control": lambda claimed: self._first(self._head("control", claimed)),
            "gold": lambda claimed: self._first(self._head("gold", claimed)),
        }
        turn = self.mix.turn(answered, seed=self.seed, reviewer=self.reviewer)
        order: tuple[Turn, ...] = (turn, "suspect", "second", "control")
        for way in dict.fromkeys(order):
            if assignment := ways[way](claimed):
                return assignment
        return None

    def _suspect(self, claimed: set[Cell]) -> Assignment | None:
        if (same_text := self._same_text(claimed)) is not None:
            return self._first(same_text)
        heads = [number for cause in SUSPECTS if (number := self._head(cause, claimed)) is not None]
        worth = {
            number: self.items[number].value * self.observed_yield(self.items[number].cause)
            for number in heads
        }
        return self._first(max(worth, key=lambda number: (worth[number], -number), default=None))

    def _same_text(self, claimed: set[Cell]) -> int | None:
        """The best open suspect on the text that this reviewer has just read."""
        last = self.last_own()
        record = self.items[self._current.number].record if self._current else last.record if last else None
        if record is None:
            return None
        open_here = [
            number
            for number in self._suspects_of.get(record, ())
            if self.items[number].cell not in claimed and not self._closed(number)
        ]
        return min(open_here, key=self._by_value, default=None)

    def observed_yield(self, cause: Cause) -> float:
        """Share of wrong labels among a queue's decided cells, the mean of its beta posterior."""
        decided, wrong = self.tally[cause]
        return (wrong + _PRIOR) / (decided + 2.0 * _PRIOR)

    def _second_opinion(self, claimed: set[Cell]) -> Assignment | None:
        for cell in sorted(self._second_opinions, key=self._second_opinions.__getitem__):
            if cell not in claimed and not self._answered_here(cell):
                return Assignment(self._numbers[cell][0], "second")
        return None

    def _first(self, number: int | None) -> Assignment | None:
        return None if number is None else Assignment(number, "first")

    def _head(self, cause: Cause, claimed: set[Cell]) -> int | None:
        """The first open item of a queue; items before the head are closed and are not searched again."""
        numbers = self._order.get(cause, [])
        head = self._heads.get(cause, 0)
        while head < len(numbers) and self._closed(numbers[head]):
            head += 1
        self._heads[cause] = head
        for number in numbers[head:]:
            if self.items[number].cell not in claimed and not self._closed(number):
                return number
        return None

    def _closed(self, number: int) -> bool:
        item = self.items[number]
        return self._answered_here(item.cell) or (item.cause != "gold" and item.cell in self._settled)

    def _answered_here(self, cell: Cell, stage: Stage | None = None) -> bool:
        """Whether this reviewer has answered the cell (in that stage); comments do not count."""
        state = self.cells.get(cell)
        return state is not None and any(
            answer.reviewer == self.reviewer
            and answer.answer != "comment"
            and (stage is None or answer.stage == stage)
            for answer in state.answers
        )

    def last_own(self) -> Answer | None:
        """This reviewer's latest standing answer; comments do not count."""
        undone = {answer.undoes for answer in self.answers if answer.reviewer == self.reviewer}
        for answer in reversed(self.answers):
            own = answer.reviewer == self.reviewer and answer.answer not in ("undo", "comment")
            if own and answer.number not in undone:
                return answer
        return None

    def waiting(self) -> int:
        """Number of suspect cells without an answer on them or on an exact duplicate."""
        return len(self._suspect_cells - self._settled)

    def reviewed(self) -> int:
        """Number of cells with an outcome."""
        return sum(state.outcome is not None for state in self.cells.values())

    def number_of(self, cell: Cell, preferred: object = None) -> int | None:
        """The number of a cell's item, the preferred one if it belongs to the cell; None if the scan has none."""
        numbers = self._numbers.get(cell, [])
        return preferred if isinstance(preferred, int) and preferred in numbers else next(iter(numbers), None)
