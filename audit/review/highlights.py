"""The model's passages, searched one item ahead while the reviewer reads: a long text takes seconds."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

Evidence = Callable[[str, str], Sequence[tuple[int, int]]]
"""Returns, for a text and a policy id, the passages (start, end) that speak most for the policy, even if the model does not find it."""

_KEPT = 32
# A screen never waits longer; the passages then appear after the answer.
_WAIT_SECONDS = 0.5

Passages = Sequence[tuple[int, int]]


class Highlights:
    """Remembers the passages of the last few texts; searches in a background thread, one text at a time."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="highlights")
        self._found: OrderedDict[tuple[str, str], Future[Passages]] = OrderedDict()

    def passages(self, record: str, text: str, policy: str) -> Passages:
        """The passages of a record's text; none while a long search is still running."""
        try:
            return self.search(record, text, policy).result(timeout=_WAIT_SECONDS)
        except TimeoutError:
            return ()

    def search(self, record: str, text: str, policy: str) -> "Future[Passages]":
        """Start searching a record's text, unless that has already been started."""
        key = record, policy
        if key not in self._found:
            self._found[key] = self._worker.submit(self._evidence, text, policy)
            if len(self._found) > _KEPT:
                self._found.popitem(last=False)[1].cancel()
        return self._found[key]

    def close(self) -> None:
        """Stop searching."""
        self._worker.shutdown(wait=False, cancel_futures=True)
