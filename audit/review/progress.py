"""The progress of an audit: counts at once, estimates as soon as they are ready."""

from collections.abc import Iterable, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ..estimation.estimates import Estimates, Estimator
from ..storage.items import Answer, Item

_EVERY = 5
"""New answers after which the estimates are computed again."""
_WAIT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """`mine`: standing answers of this reviewer; `reviewed`: cells with an answer; `waiting`: suspects without one; `disputed`:
    cells that wait for an adjudication. `estimates`: None until the first are ready."""

    mine: int
    reviewed: int
    waiting: int
    disputed: int
    estimates: Estimates | None


class LiveEstimates:
    """Computes the estimates in a background thread, so that no screen waits for them."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._estimator = Estimator(items)
        self._workers = ThreadPoolExecutor(1, thread_name_prefix="estimates")
        self._running: Future[Estimates] | None = None
        self._latest: Estimates | None = None
        self._answers = -_EVERY

    def latest(self, answers: Sequence[Answer], *, wait: bool = False) -> Estimates | None:
        """The latest estimates; starts to compute new ones if there are enough new answers.

        :param wait: wait for the estimates from exactly these answers.
        """
        self._collect(wait=False)
        new = len(answers) - self._answers
        if self._running is None and (new >= _EVERY or (wait and new)):
            self._answers = len(answers)
            self._running = self._workers.submit(self._estimator.estimate, list(answers))
        self._collect(wait=wait)
        if self._latest is None and self._running is not None:
            # For a small audit they are ready in a moment: even the first screen has them.
            done, _ = futures.wait([self._running], timeout=_WAIT_SECONDS)
            self._collect(wait=bool(done))
        return self._latest

    def _collect(self, *, wait: bool) -> None:
        if self._running is not None and (wait or self._running.done()):
            self._latest = self._running.result()
            self._running = None

    def close(self) -> None:
        """Wait for the current computation and stop."""
        self._workers.shutdown(cancel_futures=True)
