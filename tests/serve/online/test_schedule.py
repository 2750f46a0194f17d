import weakref
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from merchantguard.serve.engine.batching import padded_length
from merchantguard.serve.online.schedule import Schedule


@dataclass(eq=False)
class Waiting:
    lengths: list[int]
    ended: bool = False
    begun: int = 0
    seen: list[int] = field(default_factory=list)

    @property
    def windows(self) -> list[list[int]]:
        return [[0] * length for length in self.lengths]


def begin(request: Waiting) -> bool:
    request.begun += 1
    return True


requests_strategy = st.lists(st.lists(st.integers(1, 64), min_size=1, max_size=12), min_size=1, max_size=12)


@given(requests_strategy, st.integers(1, 200), st.data())
def test_every_window_goes_once_within_the_budget_unless_nobody_waits(
    shapes: list[list[int]], budget: int, data: st.DataObject
) -> None:
    schedule: Schedule[Waiting] = Schedule(batch_tokens=budget)
    requests = [Waiting(lengths) for lengths in shapes]
    late = requests[len(requests) // 2 :]
    for request in requests[: len(requests) // 2]:
        schedule.add(request)
    steps = 0
    while batch := schedule.next_batch(begin) or late:
        if batch is late or (late and data.draw(st.booleans())):
            schedule.add(late.pop())
        if batch is not late:
            longest = max(padded_length(request.lengths[number]) for request, number in batch)
            assert len(batch) == 1 or len(batch) * longest <= budget
            for request, number in batch:
                assert not request.ended
                request.seen.append(number)
        if data.draw(st.integers(0, 9)) == 0:
            given_up = data.draw(st.sampled_from(requests))
            given_up.ended = True
            if data.draw(st.booleans()):
                schedule.drop(given_up)
                assert not schedule.waits(given_up)
        steps += 1
        assert steps < 1000
    for request in requests:
        assert len(set(request.seen)) == len(request.seen)
        assert request.ended or sorted(request.seen) == list(range(len(request.lengths)))
        assert request.begun <= 1
    assert schedule.tokens == 0


def test_dropped_requests_give_back_their_tokens_and_are_not_kept() -> None:
    schedule: Schedule[Waiting] = Schedule(batch_tokens=16)
    first, last = Waiting([16] * 3), Waiting([8])
    schedule.add(first)
    assert schedule.next_batch(begin) == [(first, 0)]
    gone = []
    for _ in range(1000):
        request = Waiting([16, 4])
        schedule.add(request)
        schedule.drop(request)
        schedule.drop(request)
        gone.append(weakref.ref(request))
    del request
    assert schedule.tokens == 32
    assert sum(each() is not None for each in gone) < 10
    schedule.drop(first)
    schedule.add(last)
    assert schedule.tokens == 8
    assert schedule.next_batch(begin) == [(last, 0)]
    assert schedule.next_batch(begin) == []
    assert schedule.tokens == 0


def test_turns_are_shared_and_short_texts_of_some_windows_are_done_in_one() -> None:
    schedule: Schedule[Waiting] = Schedule(batch_tokens=16)
    giant, some, single = Waiting([16] * 20), Waiting([16] * 3), Waiting([16])
    for request in (giant, some, single):
        schedule.add(request)
    order = []
    while batch := schedule.next_batch(begin):
        order += [name for name, each in (("g", giant), ("s", some), ("1", single)) if batch[0][0] is each]
    assert "".join(order) == "gggg" + "sss" + "1" + "g" * 16


def test_what_is_far_shorter_is_not_padded_up() -> None:
    schedule: Schedule[Waiting] = Schedule(batch_tokens=512)
    long, close, short = Waiting([128]), Waiting([120]), Waiting([64])
    for request in (long, close, short):
        schedule.add(request)
    assert [request for request, _ in schedule.next_batch(begin)] == [long, close]
    assert [request for request, _ in schedule.next_batch(begin)] == [short]
    tiny = [Waiting([4]), Waiting([60])]
    for request in tiny[::-1]:
        schedule.add(request)
    assert len(schedule.next_batch(begin)) == 2, "short runs are shared, as each costs something to start"
