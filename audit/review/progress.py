"""How far an audit is: counts at once, estimates as soon as they are ready."""

from collections.abc import Iterable, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ..estimation.estimates import Estimates, Estimator
from ..storage.items import Answer, Item

_EVERY = 5
"""Answers after which the figures are worked out anew."""
_PATIENCE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """`mine`: answers of this reviewer that stand; `judged`: cells that somebody judged; `waiting`: suspects that nobody has;
    `disputed`: cells that wait for an adjudication. `estimates`: None until the first are worked out."""

    mine: int
    judged: int
    waiting: int
    disputed: int
    estimates: Estimates | None


class LiveEstimates:
    """Works the estimates out beside the reviewing, so that no screen waits for them."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._estimator = Estimator(items)
        self._workers = ThreadPoolExecutor(1, thread_name_prefix="estimates")
        self._running: Future[Estimates] | None = None
        self._latest: Estimates | None = None
        self._answers = -_EVERY

    def latest(self, answers: Sequence[Answer], *, wait: bool = False) -> Estimates | None:
        """The latest figures; begins to work out new ones when there are enough new answers.

        :param wait: until those of these answers are there.
        """
        self._collect(wait=False)
        new = len(answers) - self._answers
        if self._running is None and (new >= _EVERY or (wait and new)):
            self._answers = len(answers)
            self._running = self._workers.submit(self._estimator.estimate, list(answers))
        self._collect(wait=wait)
        if self._latest is None and self._running is not None:
            # Of a small audit they are there in a moment: no first screen without them.
            done, _ = futures.wait([self._running], timeout=_PATIENCE_SECONDS)
            self._collect(wait=bool(done))
        return self._latest

    def _collect(self, *, wait: bool) -> None:
        if self._running is not None and (wait or self._running.done()):
            self._latest = self._running.result()
            self._running = None

    def close(self) -> None:
        """Let the work under way end."""
        self._workers.shutdown(cancel_futures=True)
