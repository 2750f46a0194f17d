"""One text's way through the micro-batcher."""

import heapq
import itertools
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError

import numpy as np

from ...core.errors import MerchantGuardError
from ..assessment import Assessment
from ..engine.onnx_model import Floats, Outputs
from ..preprocess import Reading


class QueueFull(MerchantGuardError):
    """The queue holds as many tokens as it may; nothing was queued."""


class BatcherClosed(MerchantGuardError):
    """The batcher takes no more texts, or was closed before this one had its turn."""


class DeadlineExceeded(MerchantGuardError, TimeoutError):
    """The request's deadline passed while it waited."""


class Request:
    """Windows that want logits; with a `reading`, a text that wants an assessment.

    `begun` and `ended` change under the batcher's lock only.
    """

    def __init__(self, windows: Sequence[Sequence[int]], *, reading: Reading | None) -> None:
        self.windows = windows
        self.reading = reading
        self.future: Future[Assessment] = Future()
        self.logits: Future[Floats] = Future()
        self.born = time.monotonic()
        self.begun = self.ended = False
        self._rows: list[tuple[Outputs, int] | None] = [None] * len(windows)
        self._missing = len(windows)
        self._lock = threading.Lock()

    @property
    def tokens(self) -> int:
        """Tokens of all windows."""
        return sum(map(len, self.windows))

    def take(self, number: int, outputs: Outputs, row: int) -> bool:
        """Keep what a batch says of a window in its row; True for the one that was the last."""
        with self._lock:
            self._rows[number] = outputs, row
            self._missing -= 1
            return self._missing == 0

    def results(self) -> Outputs:
        """What the model says of all windows, in their order; all must be there."""
        rows = [each for each in self._rows if each is not None]
        scores = [given.scores[row] for given, row in rows if given.scores is not None]
        added = [given.contributions[row] for given, row in rows if given.contributions is not None]
        return Outputs(
            np.stack([given.logits[row] for given, row in rows]),
            np.stack(scores) if scores else None,
            added or None,
        )

    def expired(self) -> DeadlineExceeded:
        """What to tell who waits past the deadline."""
        return DeadlineExceeded(
            f"waited {time.monotonic() - self.born:.3f} s, longer than the deadline allows"
        )

    def fail(self, error: BaseException) -> None:
        """Give the error to who waits, unless it was cancelled meanwhile."""
        try:
            (self.future if self.reading is not None else self.logits).set_exception(error)
        except InvalidStateError:
            return  # cancelled at this very moment: nobody waits

    def succeed(self, assessment: Assessment | None) -> None:
        """Give the answer; None: the logits."""
        if assessment is None:
            self.logits.set_result(self.results().logits)
        else:
            self.future.set_result(assessment)


class Expiries:
    """Deadlines of requests, the next one first. It keeps no request alive."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, weakref.ref[Request]]] = []
        self._count = itertools.count()

    def add(self, request: Request, moment: float) -> None:
        """Note a deadline, in the time of `time.monotonic`."""
        heapq.heappush(self._heap, (moment, next(self._count), weakref.ref(request)))

    def due(self) -> list[Request]:
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
        return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None
