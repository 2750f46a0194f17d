"""Threads that call the model side by side."""

import operator
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from .cores import quota_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Cores that this process may use: the smallest of its affinity, its container's limits and OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # The variable may list a number for each nested level.
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    limits = [quota_cores(), int(wanted) if wanted.isdecimal() else None]
    return min([cores, *(limit for limit in limits if limit)])


def thread_count(threads: int | str | None) -> int:
    """The number of threads that is meant: None, 0 and "auto" are all usable cores.

    :raises ValueError: if it is negative or no whole number.
    """
    if threads is None or threads == "auto":
        return usable_cores()
    try:
        number = operator.index(threads)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f'threads is {threads!r}: it must be a whole number, or 0 or "auto" for all cores')
    return number or usable_cores()


class Workers:
    """A pool of `count` threads (0: one for each usable core), made when it is first needed and made again in a forked process.

    Runs of the model that use one core each, side by side, beat one run that uses all cores by a fifth or more:
    threads inside a run wait for one another at every layer (`bench/serving`).
    """

    def __init__(self, count: int) -> None:
        self.count = thread_count(count)
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._owner = os.getpid()

    def submit(self, call: Callable[[Item], Result], item: Item) -> "Future[Result]":
        """Run `call(item)` on a worker."""
        return self._threads().submit(call, item)

    def start(self, call: Callable[[Item], Result], items: Sequence[Item]) -> "Calls[Result]":
        """Start `call` for each item.

        A single item, with which no other thread could help, is called when its result is asked for, on the caller's
        own thread: that saves a change of threads.
        """
        if len(items) < 2:
            return Calls([], lambda: [call(item) for item in items])
        return Calls([self.submit(call, item) for item in items])

    def _threads(self) -> ThreadPoolExecutor:
        if self._owner != os.getpid():
            # After a fork the parent's threads are not here, and its lock may have been held.
            self._lock, self._pool, self._owner = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="merchantguard")
            return self._pool


class Calls(Generic[Result]):
    """Calls that `Workers.start` has started."""

    def __init__(
        self, futures: "Sequence[Future[Result]]", late: Callable[[], list[Result]] | None = None
    ) -> None:
        self._futures, self._late = futures, late

    def wait(self) -> None:
        """Wait until none is running or queued."""
        wait(self._futures)

    def result(self) -> list[Result]:
        """The results, in order; raises the first exception, and drops calls that have not begun."""
        if self._late is not None:
            return self._late()
        try:
            return [future.result() for future in self._futures]
        finally:
            for future in self._futures:
                future.cancel()
