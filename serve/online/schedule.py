"""Which windows of which requests go through the model next: fair to all requests, with little padding in a batch."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from ..engine.batching import padded_length


class HasWindows(Protocol):
    """A request: token ids of its windows, and whether it has already ended (cancelled, expired)."""

    @property
    def windows(self) -> Sequence[Sequence[int]]:
        """Token ids of each window."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nobody waits for it any more; its windows are then dropped."""
        ...


_ENOUGH_TOKENS = 64
_BATCHES_A_TURN = 4

Request = TypeVar("Request", bound=HasWindows)


class Schedule(Generic[Request]):
    """Windows that wait, by request and by length.

    Requests take turns: each batch starts with the next window of the request whose turn it is. A turn lasts a few
    batches, so that a text of a few windows is answered about as soon as one of a single window, and a text of sixty
    delays nobody by more. The batch is filled with windows of the same padded length, then with slightly shorter ones.
    Nothing here is thread-safe: the caller holds a lock.
    """

    def __init__(self, *, batch_tokens: int) -> None:
        self._batch_tokens = batch_tokens
        self._turns: deque[Request] = deque()
        self._left: dict[int, deque[int]] = {}
        self._by_length: dict[int, deque[tuple[Request, int]]] = {}
        self._taken: dict[int, set[int]] = {}
        self._turn_left = _BATCHES_A_TURN
        self._gone = 0
        self.tokens = 0

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, request: Request) -> None:
        """Queue a request's windows."""
        self._turns.append(request)
        self._left[id(request)] = deque(range(len(request.windows)))
        self._taken[id(request)] = set()
        for number, window in enumerate(request.windows):
            self._by_length.setdefault(padded_length(len(window)), deque()).append((request, number))
            self.tokens += len(window)

    def drop(self, request: Request) -> None:
        """Give back the tokens of windows that have not begun; they never run."""
        if id(request) not in self._taken:
            return
        self._drop(request)
        self._gone += 1
        # What is left of dropped requests is passed over in its turn. When that is most of what is here it is removed
        # at once: a busy engine gives no turns, and the texts must not pile up until then.
        if self._gone > len(self._taken):
            self._turns = deque(each for each in self._turns if id(each) in self._taken)
            self._by_length = {
                length: kept
                for length, waiting in self._by_length.items()
                if (kept := deque(each for each in waiting if id(each[0]) in self._taken))
            }
            self._gone = 0

    def waits(self, request: Request) -> bool:
        """Whether some of a request's windows have not begun."""
        return self._next_of(request) is not None

    def next_batch(self, begin: Callable[[Request], bool]) -> list[tuple[Request, int]]:
        """Windows for one run of the model, as (request, number of its window); empty if none wait.

        :param begin: called before the first window of a request is taken; False drops the request.
        """
        while self._turns:
            request = self._turns.popleft()
            number = self._next_of(request)
            if number is None or not self._may_go(request, begin):
                self._drop(request)
                self._turn_left = _BATCHES_A_TURN
                continue
            self._take(request, number)
            batch = [(request, number)]
            self._fill(batch, padded_length(len(request.windows[number])), begin)
            self._end_of_batch(request)
            return batch
        self._by_length.clear()
        return []

    def _end_of_batch(self, request: Request) -> None:
        """Let the request go on with its turn, or wait for the next one."""
        self._turn_left -= 1
        if self._next_of(request) is None:
            self._drop(request)
        elif self._turn_left:
            self._turns.appendleft(request)
            return
        else:
            self._turns.append(request)
        self._turn_left = _BATCHES_A_TURN

    def _fill(self, batch: list[tuple[Request, int]], longest: int, begin: Callable[[Request], bool]) -> None:
        room = self._batch_tokens // longest - len(batch)
        # From 64 tokens on a run costs nearly the same per token: more padding than this costs more than it saves.
        shortest = longest * 7 // 8 if longest >= _ENOUGH_TOKENS else 0
        for length in sorted((each for each in self._by_length if shortest <= each <= longest), reverse=True):
            waiting = self._by_length[length]
            while waiting:
                request, number = waiting[0]
                # Taken by an earlier batch, or nobody waits for it: removed even if there is no room.
                gone = id(request) not in self._taken or number in self._taken[id(request)]
                if not gone and room <= 0:
                    return
                waiting.popleft()
                if gone:
                    continue
                if not self._may_go(request, begin):
                    self._drop(request)
                    continue
                self._take(request, number)
                batch.append((request, number))
                room -= 1
            del self._by_length[length]

    def _may_go(self, request: Request, begin: Callable[[Request], bool]) -> bool:
        return not request.ended and (bool(self._taken[id(request)]) or begin(request))

    def _next_of(self, request: Request) -> int | None:
        """The first window of a request that is not taken yet."""
        left, taken = self._left.get(id(request)), self._taken.get(id(request))
        if left is None or taken is None:
            return None
        while left and left[0] in taken:
            left.popleft()
        return left[0] if left else None

    def _take(self, request: Request, number: int) -> None:
        self._taken[id(request)].add(number)
        self.tokens -= len(request.windows[number])

    def _drop(self, request: Request) -> None:
        taken = self._taken.pop(id(request), None)
        self._left.pop(id(request), None)
        if taken is not None:
            self.tokens -= sum(len(w) for n, w in enumerate(request.windows) if n not in taken)
