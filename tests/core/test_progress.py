import io
import subprocess
import sys
from collections.abc import Iterator

import pytest

from merchantguard.core import progress as module
from merchantguard.core.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(steps: Iterator[tuple[float, int, str]], total: int | None, done: int = 0) -> list[str]:
    stream, clock = io.StringIO(), Clock()
    with progress("training", total=total, done=done, stream=stream, clock=clock) as update:
        for seconds, finished, status in steps:
            clock.now = 100.0 + seconds
            update(finished, status)
    return stream.getvalue().splitlines()


def test_without_a_terminal_there_is_a_line_every_half_minute() -> None:
    steps = ((second, second, f"loss {1 / (second + 1):.2f}") for second in range(121))
    assert lines(steps, total=3720) == [
        "training: 30/3,720, loss 0.03, 1:01:30 left",
        "training: 60/3,720, loss 0.02, 1:01:00 left",
        "training: 90/3,720, loss 0.01, 1:00:30 left",
        "training: 120/3,720, loss 0.01, 1:00:00 left",
    ]


def test_work_of_under_half_a_minute_writes_nothing() -> None:
    assert lines(iter([(1, 1, ""), (29.9, 2, "")]), total=2) == []


def test_work_that_was_resumed_counts_only_its_own_steps_for_the_time_left() -> None:
    assert lines(iter([(30, 90, "")]), total=100, done=80) == ["training: 90/100, 0:00:30 left"]
    assert lines(iter([(30, 80, "slow")]), total=100, done=80) == ["training: 80/100, slow"]


def test_without_a_total_there_is_the_time_so_far() -> None:
    assert lines(iter([(90, 1234, "")]), total=None) == ["training: 1,234, 0:01:30 so far"]


def test_nothing_is_shown_where_it_is_not_wanted() -> None:
    for stream in (io.StringIO(), Terminal()):
        with progress("training", total=2, shown=False, stream=stream) as update:
            update(2)
        assert stream.getvalue() == ""


@pytest.mark.parametrize("total", [200, None])
def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with progress("training", total=total, stream=stream, keep=True) as update:
        update(120, "epoch [1], loss 0.3")
    output = stream.getvalue()
    assert "training: epoch [1], loss 0.3" in output
    assert ("120/200" if total else "120") in output


def test_a_terminal_without_rich_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    stream, clock = Terminal(), Clock()
    with progress("scored", stream=stream, clock=clock) as update:
        clock.now += 31
        update(7)
    assert stream.getvalue() == "scored: 7, 0:00:31 so far\n"


def test_rich_stays_out_without_a_terminal() -> None:
    program = (
        "import sys; from merchantguard.core.progress import progress\n"
        "with progress('x', total=1) as update: update(1)\n"
        "print('rich' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ended.stdout == "False\n"
