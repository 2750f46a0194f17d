"""Requests of the micro-batcher: texts that wait for an assessment, and windows of evidence that wait for logits."""

import heapq
import itertools
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Generic, TypeVar

import numpy as np

from ...core.errors import MerchantGuardError
from ..assessment import Assessment
from ..engine.onnx_model import Floats, Outputs
from ..preprocess import EncodedText

Answer = TypeVar("Answer")


class QueueFull(MerchantGuardError):
    """The queue holds as many tokens as it may; nothing was queued."""


_LONGEST_WAIT = 3600.0
"""Seconds after which a worker looks again, if nothing happens before."""


class BatcherClosed(MerchantGuardError):
    """The batcher takes no more texts, or was closed before this one had its turn."""


class DeadlineExceeded(MerchantGuardError, TimeoutError):
    """The request's deadline passed while it, or some window of a long text, waited."""


class WindowRequest(Generic[Answer]):
    """Windows that go through the model, in any order and in several batches, and the future of what they are for.

    `begun` and `ended` change under the batcher's lock only.
    """

    def __init__(self, windows: Sequence[Sequence[int]]) -> None:
        self.windows = windows
        self.future: Future[Answer] = Future()
        self.begun = self.ended = False
        self._rows: list[tuple[Outputs, int] | None] = [None] * len(windows)
        self._missing = len(windows)
        self._lock = threading.Lock()
        self._settled = False

    @property
    def tokens(self) -> int:
        """Tokens of all windows."""
        return sum(map(len, self.windows))

    def take(self, number: int, outputs: Outputs, row: int) -> bool:
        """Keep the outputs of a window, which are in `row` of a batch; returns True for the last window."""
        with self._lock:
            self._rows[number] = outputs, row
            self._missing -= 1
            return self._missing == 0

    def outputs(self) -> Outputs:
        """The model's outputs for all windows, in their order, once `take` has returned True."""
        rows = [each for each in self._rows if each is not None]
        scores = [given.scores[row] for given, row in rows if given.scores is not None]
        attribution = [given.attribution[row] for given, row in rows if given.attribution is not None]
        return Outputs(
            np.stack([given.logits[row] for given, row in rows]),
            np.stack(scores) if scores else None,
            attribution or None,
        )

    def settle(self) -> bool:
        """From now on the future cannot be cancelled; False if it already was, which whoever waits for it is told."""
        with self._lock:
            if self._settled:
                return not self.future.cancelled()
            self._settled = True
        return self.future.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        """Give the error to whoever waits, unless the request was cancelled meanwhile."""
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            self.settle()  # cancelled at the same moment


class TextRequest(WindowRequest[Assessment]):
    """A text that waits for its assessment."""

    def __init__(self, encoded: EncodedText) -> None:
        super().__init__(encoded.ids)
        self.encoded = encoded
        self.born = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since it was submitted."""
        return time.monotonic() - self.born

    def expired(self) -> DeadlineExceeded:
        """The error for a caller who waits past the deadline."""
        return DeadlineExceeded(f"waited {self.age:.3f} s, longer than the deadline allows")


class EvidenceRequest(WindowRequest[Floats]):
    """Windows of evidence, whose logits a text waits for that is already through the model."""


class Expiries:
    """Deadlines of requests, the next one first. It keeps no request alive."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, weakref.ref[TextRequest]]] = []
        self._count = itertools.count()

    def add(self, request: TextRequest, deadline: float) -> None:
        """Note a deadline, on the clock of `time.monotonic`."""
        heapq.heappush(self._heap, (deadline, next(self._count), weakref.ref(request)))

    def due(self) -> list[TextRequest]:
        """Requests whose deadline has passed, each once; those that are gone are left out."""
        found = []
        now = time.monotonic()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2]() is None):
            request = heapq.heappop(self._heap)[2]()
            if request is not None:
                found.append(request)
        return found

    def seconds_left(self) -> float | None:
        """Seconds to the next deadline; None without any."""
        # A thread that waits for longer than the platform's clock reaches would end with OverflowError.
        left = self._heap[0][0] - time.monotonic() if self._heap else None
        return None if left is None else min(max(0.0, left), _LONGEST_WAIT)
