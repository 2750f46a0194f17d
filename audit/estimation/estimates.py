"""What the answers say so far: how good each queue and each reviewer is, what is left, and whether to go on."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..storage.items import SUSPECTS, Answer, Cause, Item
from ..storage.store import Scan
from .intervals import Interval, share_interval
from .remaining import Controls, Remaining, Skill, errors_left
from .stopping import StopRule, advice, left_words
from .verdicts import Cell, standing, verdicts

NEXT_LOOKS = 50


@dataclass(frozen=True, slots=True)
class QueueYield:
    """A queue so far: cells decided, those whose label was wrong, their share, and the cells that nobody has
    judged."""

    cause: Cause
    decided: int
    wrong: int
    precision: Interval
    waiting: int


@dataclass(frozen=True, slots=True)
class ReviewerAccuracy:
    """A reviewer: answers given, planted items answered and how many right, and the median seconds of a look."""

    reviewer: str
    answers: int
    planted: int
    right: int
    accuracy: Interval
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimates:
    """All figures of an audit so far; intervals are of 90 % confidence.

    `wrong`: cells decided against their label, controls included. `expected_left`: errors in the cells that no queue has
    reached, by their suspicion as the answers bear it out; `remaining`: what the controls alone prove of them, None until some
    are answered.
    `next_wrong`: errors expected in the next `next_looks` looks, which take `next_minutes` (NaN before the first
    answer). `advice`: all of it in a sentence or two, for people.
    """

    decided: int
    wrong: int
    disputed: int
    queues: tuple[QueueYield, ...]
    reviewers: tuple[ReviewerAccuracy, ...]
    expected_left: float
    remaining: Remaining | None
    next_looks: int
    next_wrong: float
    next_minutes: float
    stop: bool
    advice: str


def estimate(scan: Scan, answers: Iterable[Answer], rule: StopRule | None = None) -> Estimates:
    """The figures of one moment; whoever asks often keeps an `Estimator`."""
    return Estimator(item for _, item in scan.items()).estimate(answers, rule)


class Estimator:
    """Holds a scan's items as columns, so that a new estimate reads answers only."""

    def __init__(self, items: Iterable[Item]) -> None:
        """Keep the first suspect of each cell, which is looked at once, whatever queues list it; it may be a control too."""
        self.suspects: dict[Cell, Item] = {}
        self.controls: dict[Cell, Item] = {}
        self.planted: dict[Cell, Item] = {}
        self.queues: dict[Cause, list[Item]] = {cause: [] for cause in SUSPECTS}
        for item in items:
            cell = (item.record, item.policy)
            if item.cause in ("control", "planted"):
                (self.controls if item.cause == "control" else self.planted)[cell] = item
            elif cell not in self.suspects:
                self.suspects[cell] = item
                self.queues[item.cause].append(item)

    def estimate(self, answers: Iterable[Answer], rule: StopRule | None = None) -> Estimates:
        """The figures that `answers`, all of the journal in order, give."""
        journal = list(answers)
        decisions = verdicts(journal)
        settled = {
            cell: verdict.holds
            for cell, verdict in decisions.items()
            if verdict.holds is not None and (cell in self.suspects or cell in self.controls)
        }
        found = {cell for cell, holds in settled.items() if holds != self._item(cell).given}
        queues = tuple(
            _queue_yield(cause, items, settled, found, decisions)
            for cause, items in self.queues.items()
            if items
        )
        reviewers, skill = self._reviewers(journal)
        unreached = self._unreached(journal, settled)
        remaining = self._remaining(unreached, settled, found, skill)
        expected = self._expected_left(unreached, settled, found)
        looks, wrong = self._next_looks(decisions, queues)
        minutes = looks * _median_seconds(journal[-200:]) / 60.0
        left = left_words(remaining, expected)
        known = sum(queue.decided for queue in queues)
        stop, words = advice(known, remaining, left, (looks, wrong, minutes), rule or StopRule())
        return Estimates(
            decided=len(settled),
            wrong=len(found),
            disputed=sum(verdict.disputed for verdict in decisions.values()),
            queues=queues,
            reviewers=reviewers,
            expected_left=expected,
            remaining=remaining,
            next_looks=looks,
            next_wrong=wrong,
            next_minutes=minutes,
            stop=stop,
            advice=words,
        )

    def _item(self, cell: Cell) -> Item:
        return self.suspects.get(cell) or self.controls[cell]

    def _remaining(
        self, unreached: Sequence[Cell], settled: Mapping[Cell, object], found: set[Cell], skill: Skill
    ) -> Remaining | None:
        controls = {}
        for given in (False, True):
            drawn = [cell for cell in unreached if self.controls[cell].given == given]
            items = [self.controls[cell] for cell in drawn]
            controls[given] = Controls(
                np.array([1.0 / item.share for item in items]),
                np.array([item.suspicion for item in items]),
                np.array([cell in settled for cell in drawn], dtype=bool),
                np.array([cell in found for cell in drawn], dtype=bool),
            )
        return errors_left(controls, skill)

    def _expected_left(
        self, unreached: Sequence[Cell], settled: Mapping[Cell, object], found: set[Cell]
    ) -> float:
        """The sum of the unreached cells' suspicions, which all controls tell, answered or not, times how far those of decided
        cells were borne out: a ratio estimate, by given label. It takes suspicion to be right in proportion."""
        total = 0.0
        for given in (False, True):
            expected = sum(self._item(cell).suspicion for cell in settled if self._item(cell).given == given)
            borne_out = sum(self._item(cell).given == given for cell in found)
            # A control stands for the cells it was drawn from, itself among them until it is answered.
            waiting = sum(
                item.suspicion * (1.0 / item.share - (cell in settled))
                for cell in unreached
                if (item := self.controls[cell]).given == given
            )
            # One error's worth of trust in the scan before the first look.
            total += waiting * (borne_out + 1.0) / (expected + 1.0)
        return total

    def _unreached(self, journal: Sequence[Answer], settled: Mapping[Cell, object]) -> list[Cell]:
        """Controls in cells that no queue of suspects has reached: a random sample of these cells.

        Left out are cells that were looked at as suspects (or settled by a near-duplicate), and those looked at as controls
        that their queue would have come to by now.
        """
        first: dict[Cell, object] = {}
        for answer in standing(journal):
            first.setdefault((answer.record, answer.policy), answer.shown.get("cause", "control"))
        as_suspects = {
            cell
            for cell in self.controls
            if first.get(cell, "none" if cell in settled else "control") != "control"
        }
        upcoming = {cause: -math.inf for cause in SUSPECTS}
        for cell, item in self.suspects.items():
            if cell not in first and cell not in settled:
                upcoming[item.cause] = max(upcoming[item.cause], item.value)

        def passed(cell: Cell) -> bool:
            item = self.suspects.get(cell)
            return item is not None and item.value > upcoming[item.cause]

        return [cell for cell in self.controls if cell not in as_suspects and not passed(cell)]

    def _reviewers(self, journal: Sequence[Answer]) -> tuple[tuple[ReviewerAccuracy, ...], Skill]:
        """Each reviewer's figures, and the answers of all of them on planted items."""
        by_reviewer: dict[str, list[Answer]] = defaultdict(list)
        for answer in standing(journal):
            if answer.answer in ("has", "has_not"):
                by_reviewer[answer.reviewer].append(answer)
        counts = {(known, right): 0 for known in (False, True) for right in (False, True)}
        rows = []
        for reviewer, own in sorted(by_reviewer.items()):
            last = {(answer.record, answer.policy): answer.answer == "has" for answer in own}
            known = [
                (item.known, holds)
                for cell, holds in last.items()
                if (item := self.planted.get(cell)) and item.known is not None
            ]
            for truth, holds in known:
                counts[truth, holds == truth] += 1
            right = sum(truth == holds for truth, holds in known)
            accuracy = share_interval(right, len(known))
            rows.append(
                ReviewerAccuracy(reviewer, len(last), len(known), right, accuracy, _median_seconds(own))
            )
        skill = Skill(
            holds=counts[True, True] + counts[True, False],
            holds_right=counts[True, True],
            holds_not=counts[False, True] + counts[False, False],
            holds_not_right=counts[False, True],
        )
        return tuple(rows), skill

    def _next_looks(self, settled: Mapping[Cell, object], queues: Iterable[QueueYield]) -> tuple[int, float]:
        """How many suspects come next, at most `NEXT_LOOKS`, and how many of them are expected to be wrong."""
        yields = {queue.cause: queue for queue in queues}
        waiting: list[tuple[float, float]] = []
        for cause, items in self.queues.items():
            expected = sum(item.suspicion for item in items if (item.record, item.policy) in settled)
            # Suspicion as the queue has borne it out so far; one error's worth of trust before the first look.
            factor = (yields[cause].wrong + 1.0) / (expected + 1.0) if cause in yields else 1.0
            waiting += [
                (-item.value, min(1.0, item.suspicion * factor))
                for item in items
                if (item.record, item.policy) not in settled
            ]
        upcoming = sorted(waiting)[:NEXT_LOOKS]
        return len(upcoming), sum(chance for _, chance in upcoming)


def _queue_yield(
    cause: Cause,
    items: Sequence[Item],
    settled: Mapping[Cell, object],
    found: set[Cell],
    judged: Mapping[Cell, object],
) -> QueueYield:
    cells = [(item.record, item.policy) for item in items]
    decided = sum(cell in settled for cell in cells)
    wrong = sum(cell in found for cell in cells)
    return QueueYield(
        cause, decided, wrong, share_interval(wrong, decided), sum(c not in judged for c in cells)
    )


def _median_seconds(answers: Sequence[Answer]) -> float:
    times = [answer.milliseconds for answer in answers if answer.answer not in ("undo", "comment")]
    return float(np.median(times)) / 1000.0 if times else math.nan
