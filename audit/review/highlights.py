"""The model's passages, searched one item ahead while the reviewer reads: for a long text it takes seconds."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

Evidence = Callable[[str, str], Sequence[tuple[int, int]]]
"""Gives, for a text and a policy id, the passages (start, end) that a model would point at, whatever it thinks of them."""

_KEPT = 32
# A screen never waits longer; the passages are then there after the answer.
_PATIENCE_SECONDS = 0.5

Passages = Sequence[tuple[int, int]]


class Highlights:
    """Remembers the passages of the last few texts; searches in a thread of its own, one text at a time."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="highlights")
        self._found: OrderedDict[tuple[str, str], Future[Passages]] = OrderedDict()

    def passages(self, record: str, text: str, policy: str) -> Passages:
        """The passages of a record's text; none while a long search is still under way."""
        try:
            return self.search(record, text, policy).result(timeout=_PATIENCE_SECONDS)
        except TimeoutError:
            return ()

    def search(self, record: str, text: str, policy: str) -> "Future[Passages]":
        """Begin to search a record's text, unless that is under way or done."""
        key = record, policy
        if key not in self._found:
            self._found[key] = self._worker.submit(self._evidence, text, policy)
            if len(self._found) > _KEPT:
                self._found.popitem(last=False)[1].cancel()
        return self._found[key]

    def close(self) -> None:
        """Search no further."""
        self._worker.shutdown(wait=False, cancel_futures=True)
