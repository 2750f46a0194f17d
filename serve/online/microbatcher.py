"""Online scoring: requests that come one by one, from many threads or coroutines, share runs of the model."""

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from ...core.errors import MerchantGuardError
from ..assessment import Assessment
from ..engine.onnx_model import Floats
from ..postprocess import Verdict, by_text
from ..preprocess import Reading, read_texts
from ..scorer import BATCH_TOKENS, Scorer
from .request import BatcherClosed, DeadlineExceeded, Expiries, QueueFull, Request
from .schedule import Schedule
from .stats import Recorder, Stats

__all__ = ["BatcherClosed", "DeadlineExceeded", "MicroBatcher", "QueueFull"]

_EVIDENCE_THREADS = 4
# No new text is begun while so many wait for their evidence.
_MOST_CONCLUDING = 2 * _EVIDENCE_THREADS
# In an event loop a longer text is cleaned and cut on a thread: below this it takes about a millisecond.
_CHARACTERS_INLINE = 4000


class MicroBatcher:
    """Runs texts of many callers through a scorer in shared batches.

    A batch starts as soon as a worker is free: on a CPU, waiting for it to fill up gains nothing. While all workers
    are busy requests queue, and the next batch takes from them what fits together. `submit` cleans and cuts the text
    on the caller's own thread.

    It may be shared by threads. In a forked process it is empty and starts anew; requests of the parent stay the
    parent's. (Forking after an OpenVINO variant was loaded does not work: load the scorer in each process.)

    :param queue_tokens: tokens that may wait; more are refused with `QueueFull`.
    :param batch_tokens: tokens, padding included, of one run of the model.
    """

    def __init__(
        self, scorer: Scorer, *, queue_tokens: int = 1_000_000, batch_tokens: int = BATCH_TOKENS
    ) -> None:
        if queue_tokens < 1 or batch_tokens < 1:
            raise ValueError(f"queue_tokens {queue_tokens} and batch_tokens {batch_tokens} must be positive")
        self._scorer = scorer
        self._queue_tokens, self._batch_tokens = queue_tokens, batch_tokens
        self._closing = False
        self.reset()
        _batchers.add(self)

    def reset(self) -> None:
        """Forget all requests and threads: for a forked process, which has neither."""
        self._changed = threading.Condition()
        self._schedule: Schedule[Request] = Schedule(batch_tokens=self._batch_tokens)
        self._inner: Schedule[Request] = Schedule(batch_tokens=self._batch_tokens)
        self._concluding = 0
        self._expiries = Expiries()
        self._recorder = Recorder()
        self._open: set[Request] = set()
        self._evidence = ThreadPoolExecutor(_EVIDENCE_THREADS, thread_name_prefix="merchantguard-evidence")
        self._threads: list[threading.Thread] = []

    # -- what callers use -------------------------------------------------------------------------------

    def submit(self, text: str, *, deadline: float | None = None) -> "Future[Assessment]":
        """Queue a text; the future gives its assessment. `future.cancel()` takes it back while it waits.

        :param deadline: seconds from now after which nobody wants the answer: a request that still waits then fails
            with `DeadlineExceeded`, and costs nothing.
        :raises TypeError: if `text` is not a str.
        :raises QueueFull: if the text's tokens do not fit into the queue; nothing is queued.
        :raises BatcherClosed: after `close`.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, not {type(text).__name__}")
        reading = read_texts([text], self._scorer.tokenizer)[0]
        [early] = self._scorer.clear_early([reading])
        return self._enqueue(reading, deadline).future if early is None else self._answered(early)

    async def assess_async(self, text: str, *, deadline: float | None = None) -> Assessment:
        """Assess a text from a coroutine; cancelling the coroutine takes the request back.

        :raises TypeError, QueueFull, BatcherClosed: as `submit`; `DeadlineExceeded` when it waited too long.
        """
        if isinstance(text, str) and len(text) > _CHARACTERS_INLINE:
            future = await asyncio.to_thread(self.submit, text, deadline=deadline)
        else:
            future = self.submit(text, deadline=deadline)
        return await asyncio.wrap_future(future)

    def stats(self) -> Stats:
        """Figures since the start."""
        with self._changed:
            return self._recorder.snapshot(
                queued_requests=sum(not request.begun for request in self._open),
                queued_tokens=self._schedule.tokens,
            )

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests; with `drain` answer those that wait, else fail them with `BatcherClosed`."""
        with self._changed:
            self._closing = True
            dropped = [] if drain else [request for request in self._open if not request.begun]
        for request in dropped:
            self._end(request, "failed", error=BatcherClosed("the batcher was closed"))
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._open)
        for thread in self._threads:
            thread.join()
        self._evidence.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(drain=kind is None)

    # -- the queue --------------------------------------------------------------------------------------

    def _answered(self, assessment: Assessment) -> "Future[Assessment]":
        """The future of a text that the first stage cleared on the caller's thread: it never queues."""
        with self._changed:
            self._recorder.submitted += 1
            if self._closing:
                self._recorder.outcomes["rejected"] += 1
                raise BatcherClosed("the batcher is closed: it takes no more texts")
            self._recorder.outcomes["completed"] += 1
        future: Future[Assessment] = Future()
        future.set_result(assessment)
        return future

    def _enqueue(self, reading: Reading, deadline: float | None) -> Request:
        request = Request(reading.ids, reading=reading)
        with self._changed:
            self._recorder.submitted += 1
            try:
                self._check_room(request.tokens)
            except MerchantGuardError:
                self._recorder.outcomes["rejected"] += 1
                raise
            self._add(request, self._schedule)
            if deadline is not None:
                self._expiries.add(request, request.born + deadline)
        request.future.add_done_callback(
            lambda future: self._end(request, "cancelled", error=None) if future.cancelled() else None
        )
        return request

    def _add(self, request: Request, schedule: Schedule[Request]) -> None:
        """The lock is held."""
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, name=f"merchantguard-batch-{number}", daemon=True)
                for number in range(self._scorer.runner.workers.count)
            ]
            for thread in self._threads:
                thread.start()
        self._open.add(request)
        schedule.add(request)
        self._changed.notify_all()

    def _check_room(self, tokens: int) -> None:
        if self._closing:
            raise BatcherClosed("the batcher is closed: it takes no more texts")
        waiting = self._schedule.tokens
        # A text longer than the whole queue is taken when nothing else waits: it could never be taken otherwise.
        if waiting and waiting + tokens > self._queue_tokens:
            raise QueueFull(
                f"{waiting} tokens wait, {tokens} more would pass queue_tokens {self._queue_tokens}: try again "
                "later, or score on more cores"
            )

    def _begin(self, request: Request) -> bool:
        """Called by the schedule before a request's first window goes; the lock is held."""
        if request.reading is not None:
            if not request.future.set_running_or_notify_cancel():
                return False
            self._recorder.wait.add(time.monotonic() - request.born)
        request.begun = True
        return True

    # -- the workers ------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, timeout=self._expiries.seconds_left())
                expired = [each for each in self._expiries.due() if not each.begun]
                if self._closing and not self._open:
                    return
                batch = [] if expired else self._next_batch()
                if batch:
                    self._count(batch)
            for request in expired:
                self._end(request, "expired", error=request.expired())
            if batch:
                self._run(batch)

    def _has_work(self) -> bool:
        if self._inner or (self._closing and not self._open):
            return True
        return bool(self._schedule) and self._concluding < _MOST_CONCLUDING

    def _next_batch(self) -> list[tuple[Request, int]]:
        """What was begun is finished first: else, under load, texts would wait for evidence without end, and nothing
        would hold their number down."""
        batch = self._inner.next_batch(self._begin)
        if not batch and self._concluding < _MOST_CONCLUDING:
            batch = self._schedule.next_batch(self._begin)
        return batch

    def _count(self, batch: Sequence[tuple[Request, int]]) -> None:
        lengths = [len(request.windows[number]) for request, number in batch]
        self._recorder.batches += 1
        self._recorder.fill.add(sum(lengths) / (len(lengths) * max(lengths)))

    def _run(self, batch: Sequence[tuple[Request, int]]) -> None:
        try:
            outputs = self._scorer.runner.run_batch([request.windows[n] for request, n in batch])
        except Exception as error:  # noqa: BLE001
            # The engine failed on this batch: those who wait for it are told, the others go on.
            for request in {request for request, _ in batch}:
                self._end(request, "failed", error=error)
            return
        for row, (request, number) in enumerate(batch):
            try:
                if request.take(number, outputs, row):
                    self._complete(request)
            except Exception as error:  # noqa: BLE001
                # What fails on one text must not end the worker that others wait for.
                self._end(request, "failed", error=error)

    def _complete(self, request: Request) -> None:
        """All windows are through: conclude, on a thread of its own where evidence runs the model again."""
        if request.reading is None:
            self._end(request, "completed", error=None)
            return
        verdict = self._scorer.concluder.judge(by_text([request.reading], request.results())[0])
        if self._scorer.concluder.runs_again(verdict):
            with self._changed:
                self._concluding += 1
            self._evidence.submit(self._conclude_aside, request, verdict)
        else:
            self._conclude(request, verdict)

    def _conclude_aside(self, request: Request, verdict: Verdict) -> None:
        try:
            self._conclude(request, verdict)
        finally:
            with self._changed:
                self._concluding -= 1
                self._changed.notify_all()

    def _conclude(self, request: Request, verdict: Verdict) -> None:
        try:
            [assessment] = self._scorer.concluder.conclude([verdict], self._run_windows)
        except Exception as error:  # noqa: BLE001
            self._end(request, "failed", error=error)
        else:
            self._end(request, "completed", error=None, assessment=assessment)

    def _run_windows(self, windows: Sequence[Sequence[int]]) -> Floats:
        """Windows of evidence take their turn among all others."""
        request = Request(windows, reading=None)
        with self._changed:
            self._add(request, self._inner)
        return request.logits.result()

    def _end(
        self,
        request: Request,
        outcome: str,
        *,
        error: BaseException | None,
        assessment: Assessment | None = None,
    ) -> None:
        """Answer a request, once. The lock is not held when its future is set: callbacks may do as they like."""
        with self._changed:
            if request.ended:
                return
            request.ended = True
            self._open.discard(request)
            if request.reading is not None:
                self._recorder.outcomes[outcome] += 1
                if outcome == "completed":
                    self._recorder.latency.add(time.monotonic() - request.born)
            self._changed.notify_all()
        if error is not None:
            request.fail(error)
        elif outcome == "completed":
            request.succeed(assessment)


_batchers: "weakref.WeakSet[MicroBatcher]" = weakref.WeakSet()


def _start_anew() -> None:
    for batcher in _batchers:
        batcher.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
