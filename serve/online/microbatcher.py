"""Online scoring: requests that arrive one by one, from many threads or coroutines, share runs of the model."""

import asyncio
import os
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self

from ...core.errors import MerchantGuardError
from ...data.site_text import SiteText
from ..assessment import Assessment
from ..engine.onnx_model import Floats, Outputs
from ..postprocess import Postprocessor, ScoredText
from ..preprocess import EncodedText, encode_texts, outputs_by_text
from ..scorer import BATCH_TOKENS, Scorer
from .request import (
    BatcherClosed,
    DeadlineExceeded,
    EvidenceRequest,
    Expiries,
    QueueFull,
    TextRequest,
)
from .schedule import Schedule
from .stats import Recorder, Stats

__all__ = ["BatcherClosed", "DeadlineExceeded", "MicroBatcher", "QueueFull"]

Request = TextRequest | EvidenceRequest

_EVIDENCE_THREADS = 4
# No new text is begun while this many wait for their evidence.
_MOST_SEARCHING = 2 * _EVIDENCE_THREADS
# In an event loop a longer text is cleaned and cut on a thread; a shorter one takes about a millisecond.
_CHARACTERS_INLINE = 4000


class MicroBatcher:
    """Runs texts of many callers through a scorer in shared batches.

    A batch starts as soon as a worker is free: on a CPU, waiting for it to fill up gains nothing. While all workers
    are busy requests queue, and the next batch takes those that fit together. `submit` cleans and cuts the text
    on the caller's own thread.

    Threads may share it. In a forked process it starts empty; requests of the parent stay with the parent.
    (Forking after an OpenVINO variant was loaded does not work: load the scorer in each process.)

    :param queue_tokens: most tokens that may wait; more are refused with `QueueFull`.
    :param batch_tokens: tokens, padding included, of one run of the model.
    """

    def __init__(
        self, scorer: Scorer, *, queue_tokens: int = 1_000_000, batch_tokens: int = BATCH_TOKENS
    ) -> None:
        if queue_tokens < 1 or batch_tokens < 1:
            raise ValueError(f"queue_tokens {queue_tokens} and batch_tokens {batch_tokens} must be positive")
        self._scorer = scorer
        self._postprocessor = Postprocessor(scorer.bundle, scorer.tokenizer, scorer.evidence)
        self._queue_tokens, self._batch_tokens = queue_tokens, batch_tokens
        self._closing = False
        self.reset()
        _batchers.add(self)

    def reset(self) -> None:
        """Forget all requests and threads: for a forked process, which has neither."""
        self._changed = threading.Condition()
        self._schedule: Schedule[Request] = Schedule(batch_tokens=self._batch_tokens)
        self._evidence_schedule: Schedule[Request] = Schedule(batch_tokens=self._batch_tokens)
        self._searching = 0
        self._expiries = Expiries()
        self._recorder = Recorder()
        self._open: set[Request] = set()
        self._evidence_pool = ThreadPoolExecutor(
            _EVIDENCE_THREADS, thread_name_prefix="merchantguard-evidence"
        )
        self._threads: list[threading.Thread] = []

    # -- for callers ------------------------------------------------------------------------------------

    def submit(self, text: str | SiteText, *, deadline: float | None = None) -> "Future[Assessment]":
        """Queue a text or a site's text; the future gives its assessment.

        `future.cancel()` withdraws the text as long as one of its windows waits: its tokens leave the queue at once,
        and windows that have not begun never run.

        :param deadline: seconds from now after which nobody needs the answer: a request of which a window still
            waits then fails with `DeadlineExceeded`, and that window is not scored.
        :raises TypeError: if `text` is neither.
        :raises QueueFull: if the text's tokens do not fit into the queue; nothing is queued.
        :raises BatcherClosed: after `close`.
        """
        if not isinstance(text, str | SiteText):
            raise TypeError(f"text must be a str or a SiteText, not {type(text).__name__}")
        [encoded] = encode_texts([text], self._scorer.tokenizer)
        [early] = self._scorer.clear_early([encoded])
        return self._enqueue(encoded, deadline).future if early is None else self._answered(early)

    async def assess_async(self, text: str | SiteText, *, deadline: float | None = None) -> Assessment:
        """Assess a text from a coroutine; cancelling the coroutine withdraws the request.

        :raises TypeError, QueueFull, BatcherClosed: as `submit`.
        :raises DeadlineExceeded: if it waited too long.
        """
        if isinstance(text, str | SiteText) and len(text) > _CHARACTERS_INLINE:
            future = await asyncio.to_thread(self.submit, text, deadline=deadline)
        else:
            future = self.submit(text, deadline=deadline)
        return await asyncio.wrap_future(future)

    def stats(self) -> Stats:
        """Figures since the start."""
        self._expire()
        with self._changed:
            return self._recorder.snapshot(
                queued_requests=sum(not request.begun for request in self._open),
                queued_tokens=self._schedule.tokens,
            )

    @property
    def alive(self) -> bool:
        """Whether texts would be scored: no thread that scores has ended, and the batcher is open."""
        return not self._closing and all(thread.is_alive() for thread in self._threads)

    def close(self, *, drain: bool = True) -> None:
        """Take no more requests; with `drain` answer those that wait, otherwise fail them with `BatcherClosed`."""
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
        self._evidence_pool.shutdown()

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

    def _enqueue(self, encoded: EncodedText, deadline: float | None) -> TextRequest:
        request = TextRequest(encoded)
        self._expire()
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
        # Weak: callers may keep the future for long, and it must not keep the batcher, hence the model, alive.
        request.future.add_done_callback(partial(_withdraw, weakref.ref(self), weakref.ref(request)))
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
        # A text longer than the whole queue is accepted when nothing else waits: it could never be accepted otherwise.
        if waiting and waiting + tokens > self._queue_tokens:
            raise QueueFull(
                f"{waiting} tokens wait, {tokens} more would pass queue_tokens {self._queue_tokens}: try again "
                "later, or score on more cores"
            )

    def _begin(self, request: Request) -> bool:
        """Called by the schedule before it takes a request's first window; the lock is held."""
        if isinstance(request, TextRequest):
            if request.future.cancelled():
                return False
            self._recorder.wait.add(request.age)
        request.begun = True
        return True

    # -- the workers ------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, timeout=self._expiries.seconds_left())
            self._expire()
            with self._changed:
                if self._closing and not self._open:
                    return
                batch = self._next_batch()
                if batch:
                    self._count(batch)
            if batch:
                self._run(batch)
            # Not kept while the thread waits.
            del batch

    def _expire(self) -> None:
        """Fail the requests whose deadline has passed while one of their windows waits."""
        with self._changed:
            expired = [each for each in self._expiries.due() if self._schedule.waits(each)]
        for request in expired:
            self._end(request, "expired", error=request.expired())

    def _has_work(self) -> bool:
        if self._evidence_schedule or (self._closing and not self._open):
            return True
        return bool(self._schedule) and self._searching < _MOST_SEARCHING

    def _next_batch(self) -> list[tuple[Request, int]]:
        """The next batch: windows of evidence go first.

        Otherwise, under load, texts would wait for their evidence without end, and ever more of them.
        """
        batch = self._evidence_schedule.next_batch(self._begin)
        if not batch and self._searching < _MOST_SEARCHING:
            batch = self._schedule.next_batch(self._begin)
        whole = {request for request, _ in batch if not self._waits(request)}
        gone = {request for request in whole if not request.settle()}
        return [each for each in batch if each[0] not in gone]

    def _waits(self, request: Request) -> bool:
        return self._schedule_of(request).waits(request)

    def _schedule_of(self, request: Request) -> Schedule[Request]:
        return self._schedule if isinstance(request, TextRequest) else self._evidence_schedule

    def _count(self, batch: Sequence[tuple[Request, int]]) -> None:
        lengths = [len(request.windows[number]) for request, number in batch]
        self._recorder.batches += 1
        self._recorder.fill.add(sum(lengths) / (len(lengths) * max(lengths)))

    def _run(self, batch: Sequence[tuple[Request, int]]) -> None:
        """Run a batch and pass on its outputs.

        An error's traceback holds the local variables of this method and of those below; requests are deleted from
        them, because a request holds the error.
        """
        windows = [request.windows[number] for request, number in batch]
        try:
            outputs = self._scorer.runner.run_batch(windows)
        except Exception as error:  # noqa: BLE001
            # The engine failed on this batch: its requests fail, the others go on.
            for request in {request for request, _ in batch}:
                self._end(request, "failed", error=error)
            del batch, request
            return
        for row, (request, number) in enumerate(batch):
            self._take(request, number, outputs, row)

    def _take(self, request: Request, number: int, outputs: Outputs, row: int) -> None:
        """Give a window's outputs to its request, and answer it after its last window."""
        try:
            if request.take(number, outputs, row):
                self._complete(request)
        except Exception as error:  # noqa: BLE001
            # A failure on one text must not end the worker that others wait for.
            self._end(request, "failed", error=error)
            del request

    def _complete(self, request: Request) -> None:
        """Answer a request whose windows are all through; evidence that runs the model again gets its own thread."""
        if isinstance(request, EvidenceRequest):
            self._end(request, "completed", answer=request.outputs().logits)
            return
        scored = self._postprocessor.score(outputs_by_text([request.encoded], request.outputs())[0])
        if self._postprocessor.needs_model(scored):
            with self._changed:
                self._searching += 1
            self._evidence_pool.submit(self._assess_aside, request, scored)
        else:
            self._assess(request, scored)

    def _assess_aside(self, request: TextRequest, scored: ScoredText) -> None:
        try:
            self._assess(request, scored)
        finally:
            with self._changed:
                self._searching -= 1
                self._changed.notify_all()

    def _assess(self, request: TextRequest, scored: ScoredText) -> None:
        try:
            [assessment] = self._postprocessor.assess([scored], self._run_windows)
        except Exception as error:  # noqa: BLE001
            self._end(request, "failed", error=error)
            del request
        else:
            self._end(request, "completed", answer=assessment)

    def _run_windows(self, windows: Sequence[Sequence[int]]) -> Floats:
        """Windows of evidence share batches with those of other texts."""
        request = EvidenceRequest(windows)
        with self._changed:
            self._add(request, self._evidence_schedule)
        try:
            return request.future.result()
        finally:
            del request  # see `_run`

    def _end(
        self,
        request: Request,
        outcome: str,
        *,
        error: BaseException | None = None,
        answer: Assessment | Floats | None = None,
    ) -> None:
        """End a request, once. The lock is not held when its future is set, as callbacks may call the batcher."""
        with self._changed:
            if request.ended:
                return
            request.ended = True
            self._open.discard(request)
            self._schedule_of(request).drop(request)
            if isinstance(request, TextRequest):
                self._recorder.outcomes[outcome] += 1
                if outcome == "completed":
                    self._recorder.latency.add(request.age)
            self._changed.notify_all()
        if outcome == "cancelled":
            request.settle()
        elif error is not None:
            request.fail(error)
        elif answer is not None:
            future: Future[Any] = request.future
            future.set_result(answer)


def _withdraw(
    batcher: "weakref.ref[MicroBatcher]", request: weakref.ref[TextRequest], future: "Future[Assessment]"
) -> None:
    """End a request whose future was cancelled; one that is gone has ended."""
    here, withdrawn = batcher(), request()
    if future.cancelled() and here is not None and withdrawn is not None:
        here._end(withdrawn, "cancelled")


_batchers: "weakref.WeakSet[MicroBatcher]" = weakref.WeakSet()


def _reset_all() -> None:
    for batcher in _batchers:
        batcher.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
