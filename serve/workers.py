"""Threads that call the model side by side."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Cores that this process may use: its affinity, not the whole machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """A pool of `count` threads, made when first needed and made anew in a forked process.

    Runs of the model that use one core each, side by side, beat one run that uses all cores by a fifth or more:
    threads inside a run wait for one another at every layer (`bench/serving.py`).
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"count is {count}: at least one worker is needed")
        self.count = count
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._owner = os.getpid()

    def submit(self, call: Callable[[Item], Result], item: Item) -> "Future[Result]":
        """Run `call(item)` on a worker."""
        return self._threads().submit(call, item)

    def map(self, call: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`call` of each item, in order; the first exception is raised once no call is running any more."""
        if self.count == 1 or len(items) < 2:
            return [call(item) for item in items]
        futures = [self.submit(call, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _threads(self) -> ThreadPoolExecutor:
        if self._owner != os.getpid():
            # After a fork the parent's threads are not here, and its lock may have been held.
            self._lock, self._pool, self._owner = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="merchantguard")
            return self._pool
