"""What the answers show so far: the yield of each queue, the accuracy of each reviewer, the errors left, and whether to go on."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..storage.items import SUSPECTS, Answer, Cause, Cell, Item
from .intervals import Interval, share_interval
from .outcomes import outcomes, standing_answers
from .remaining import Controls, Remaining, ReviewerAccuracy, errors_left
from .stopping import StopRule, advice, left_words

NEXT_ITEMS = 50


@dataclass(frozen=True, slots=True)
class QueueYield:
    """A queue so far: decided cells, those whose label was wrong, their share, and the cells without an answer."""

    cause: Cause
    decided: int
    wrong: int
    precision: Interval
    waiting: int


@dataclass(frozen=True, slots=True)
class ReviewerSummary:
    """A reviewer: answered cells, gold items answered and how many were right, and the median seconds per answer."""

    reviewer: str
    answers: int
    gold: int
    right: int
    accuracy: Interval
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimates:
    """All figures of an audit so far; intervals are of 90 % confidence.

    `wrong`: cells decided against their label, controls included. `expected_left`: errors in the cells that no queue has reached,
    by the scan's probabilities, scaled by the errors found so far; `remaining`: the same from the controls alone, None until some
    are answered. `next_wrong`: errors expected in the next `next_items` items, which take `next_minutes` (NaN before the first
    answer). `next_step`: what to do next in a sentence; `advice`: the same with the errors left.
    """

    decided: int
    wrong: int
    disputed: int
    queues: tuple[QueueYield, ...]
    reviewers: tuple[ReviewerSummary, ...]
    expected_left: float
    remaining: Remaining | None
    next_items: int
    next_wrong: float
    next_minutes: float
    stop: bool
    next_step: str
    advice: str


class Estimator:
    """Holds a scan's items as columns, so that a new estimate reads answers only."""

    def __init__(self, items: Iterable[Item]) -> None:
        """Keep the first suspect of each cell: it is reviewed once even if several queues list it. It may be a control too."""
        self.suspects: dict[Cell, Item] = {}
        self.controls: dict[Cell, Item] = {}
        self.gold: dict[Cell, Item] = {}
        self.queues: dict[Cause, list[Item]] = {cause: [] for cause in SUSPECTS}
        for item in items:
            if item.cause in ("control", "gold"):
                (self.controls if item.cause == "control" else self.gold)[item.cell] = item
            elif item.cell not in self.suspects:
                self.suspects[item.cell] = item
                self.queues[item.cause].append(item)

    def estimate(self, answers: Iterable[Answer], rule: StopRule | None = None) -> Estimates:
        """The figures from `answers`, which are all of the journal in order."""
        journal = list(answers)
        answered = outcomes(journal)
        decided = {
            cell: outcome.holds
            for cell, outcome in answered.items()
            if outcome.holds is not None and (cell in self.suspects or cell in self.controls)
        }
        found = {cell for cell, holds in decided.items() if holds != self._item(cell).given}
        queues = tuple(
            _queue_yield(cause, items, decided, found, answered)
            for cause, items in self.queues.items()
            if items
        )
        reviewers, accuracy = self._reviewers(journal)
        unreached = self._unreached(journal, decided)
        remaining = self._remaining(unreached, decided, found, accuracy)
        expected = self._expected_left(unreached, decided, found)
        upcoming, wrong = self._next_items(answered, queues)
        minutes = upcoming * _median_seconds(journal[-200:]) / 60.0
        left = left_words(remaining, expected, sum(cell in decided for cell in unreached))
        suspects = sum(queue.decided for queue in queues)
        stop, words = advice(suspects, remaining, (upcoming, wrong, minutes), rule or StopRule())
        return Estimates(
            decided=len(decided),
            wrong=len(found),
            disputed=sum(outcome.disputed for outcome in answered.values()),
            queues=queues,
            reviewers=reviewers,
            expected_left=expected,
            remaining=remaining,
            next_items=upcoming,
            next_wrong=wrong,
            next_minutes=minutes,
            stop=stop,
            next_step=words,
            advice=f"{words} {left}",
        )

    def _item(self, cell: Cell) -> Item:
        return self.suspects.get(cell) or self.controls[cell]

    def _remaining(
        self,
        unreached: Sequence[Cell],
        decided: Mapping[Cell, object],
        found: set[Cell],
        accuracy: ReviewerAccuracy,
    ) -> Remaining | None:
        controls = {}
        for given in (False, True):
            drawn = [cell for cell in unreached if self.controls[cell].given == given]
            items = [self.controls[cell] for cell in drawn]
            controls[given] = Controls(
                np.array([1.0 / item.inclusion_probability for item in items]),
                np.array([item.p_label_error for item in items]),
                np.array([cell in decided for cell in drawn], dtype=bool),
                np.array([cell in found for cell in drawn], dtype=bool),
            )
        return errors_left(controls, accuracy)

    def _expected_left(
        self, unreached: Sequence[Cell], decided: Mapping[Cell, object], found: set[Cell]
    ) -> float:
        """Errors expected in the unreached cells: the sum of their error probabilities (estimated from all controls, answered or not)
        times the ratio of errors found to errors expected in decided cells, by given label. It assumes that the probabilities
        are right in proportion."""
        total = 0.0
        for given in (False, True):
            expected = sum(
                self._item(cell).p_label_error for cell in decided if self._item(cell).given == given
            )
            confirmed = sum(self._item(cell).given == given for cell in found)
            # A control represents the cells it was drawn from, itself included until it is answered.
            waiting = sum(
                item.p_label_error * (1.0 / item.inclusion_probability - (cell in decided))
                for cell in unreached
                if (item := self.controls[cell]).given == given
            )
            # The scan's own estimate has the weight of one error.
            total += waiting * (confirmed + 1.0) / (expected + 1.0)
        return total

    def _unreached(self, journal: Sequence[Answer], decided: Mapping[Cell, object]) -> list[Cell]:
        """Controls in cells that no queue of suspects has reached: a random sample of these cells.

        This leaves out cells that were reviewed as suspects (or decided through an exact duplicate), and those reviewed as controls
        that their queue would have reached by now.
        """
        first: dict[Cell, object] = {}
        for answer in standing_answers(journal):
            first.setdefault(answer.cell, answer.shown.get("cause", "control"))
        as_suspects = {
            cell
            for cell in self.controls
            if first.get(cell, "none" if cell in decided else "control") != "control"
        }
        upcoming = {cause: -math.inf for cause in SUSPECTS}
        for cell, item in self.suspects.items():
            if cell not in first and cell not in decided:
                upcoming[item.cause] = max(upcoming[item.cause], item.value)

        def passed(cell: Cell) -> bool:
            item = self.suspects.get(cell)
            return item is not None and item.value > upcoming[item.cause]

        return [cell for cell in self.controls if cell not in as_suspects and not passed(cell)]

    def _reviewers(self, journal: Sequence[Answer]) -> tuple[tuple[ReviewerSummary, ...], ReviewerAccuracy]:
        """Each reviewer's figures, and the accuracy of all of them on gold items."""
        by_reviewer: dict[str, list[Answer]] = defaultdict(list)
        for answer in standing_answers(journal):
            if answer.answer in ("has", "has_not"):
                by_reviewer[answer.reviewer].append(answer)
        counts = {(truth, right): 0 for truth in (False, True) for right in (False, True)}
        rows = []
        for reviewer, own in sorted(by_reviewer.items()):
            last = {answer.cell: answer.answer == "has" for answer in own}
            gold = [
                (item.gold_answer, holds)
                for cell, holds in last.items()
                if (item := self.gold.get(cell)) and item.gold_answer is not None
            ]
            for truth, holds in gold:
                counts[truth, holds == truth] += 1
            right = sum(truth == holds for truth, holds in gold)
            share = share_interval(right, len(gold))
            rows.append(ReviewerSummary(reviewer, len(last), len(gold), right, share, _median_seconds(own)))
        accuracy = ReviewerAccuracy(
            holds=counts[True, True] + counts[True, False],
            holds_right=counts[True, True],
            not_holding=counts[False, True] + counts[False, False],
            not_holding_right=counts[False, True],
        )
        return tuple(rows), accuracy

    def _next_items(self, answered: Mapping[Cell, object], queues: Iterable[QueueYield]) -> tuple[int, float]:
        """The number of suspects that come next, at most `NEXT_ITEMS`, and how many of them are expected to be wrong."""
        yields = {queue.cause: queue for queue in queues}
        waiting: list[tuple[float, float]] = []
        for cause, items in self.queues.items():
            expected = sum(item.p_label_error for item in items if item.cell in answered)
            # The probabilities are scaled by what the queue has yielded so far; they have the weight of one error themselves.
            factor = (yields[cause].wrong + 1.0) / (expected + 1.0) if cause in yields else 1.0
            waiting += [
                (-item.value, min(1.0, item.p_label_error * factor))
                for item in items
                if item.cell not in answered
            ]
        upcoming = sorted(waiting)[:NEXT_ITEMS]
        return len(upcoming), sum(chance for _, chance in upcoming)


def _queue_yield(
    cause: Cause,
    items: Sequence[Item],
    decided: Mapping[Cell, object],
    found: set[Cell],
    answered: Mapping[Cell, object],
) -> QueueYield:
    count = sum(item.cell in decided for item in items)
    wrong = sum(item.cell in found for item in items)
    waiting = sum(item.cell not in answered for item in items)
    return QueueYield(cause, count, wrong, share_interval(wrong, count), waiting)


def _median_seconds(answers: Sequence[Answer]) -> float:
    times = [answer.milliseconds for answer in answers if answer.answer not in ("undo", "comment")]
    return float(np.median(times)) / 1000.0 if times else math.nan
