"""The soak finds nothing wrong with the micro-batcher, and finds every fault that is put into one."""

import json
import math
import sys
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from serving import soak, soak_load
from serving.soak import Load, Phase, run_phase
from serving.soak_load import Input, Memory, draw_inputs, hostile_inputs

from merchantguard.serve import Assessment, MicroBatcher, Scorer

TEXTS = [
    "We sell crimson goods in every town.",
    "A walrus comes with each order.",
    "Call us or write a letter.",
]
CRIMSON, CALL = TEXTS[0], TEXTS[2]


class LosesSome(MicroBatcher):
    """Every answer to a text about the walrus goes nowhere."""

    def submit(self, text: str, *, deadline: float | None = None) -> "Future[Assessment]":
        future = super().submit(text, deadline=deadline)
        return Future() if text == TEXTS[1] else future


class Doubles(MicroBatcher):
    """Ends every request twice."""

    def submit(self, text: str, *, deadline: float | None = None) -> "Future[Assessment]":
        return Twice(super().submit(text, deadline=deadline))


class Twice(Future):  # type: ignore[type-arg]
    def __init__(self, inner: "Future[Assessment]") -> None:
        super().__init__()
        self._inner = inner

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        self._inner.add_done_callback(fn)
        self._inner.add_done_callback(fn)


class Swaps(MicroBatcher):
    """Gives the answer to another text."""

    def submit(self, text: str, *, deadline: float | None = None) -> "Future[Assessment]":
        return super().submit(CALL if text == CRIMSON else text, deadline=deadline)


class Fails(MicroBatcher):
    def submit(self, text: str, *, deadline: float | None = None) -> "Future[Assessment]":
        if text == CRIMSON:
            raise RuntimeError("out of memory")
        return super().submit(text, deadline=deadline)


class TakesAnything(MicroBatcher):
    def submit(self, text: Any, *, deadline: float | None = None) -> "Future[Assessment]":
        return super().submit(str(text), deadline=deadline)


class Miscounts(MicroBatcher):
    def submit(self, text: str, *, deadline: float | None = None) -> "Future[Assessment]":
        self._recorder.submitted += 1
        return super().submit(text, deadline=deadline)


@pytest.fixture(autouse=True)
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_load, "HUGE_CHARACTERS", 100_000)


def test_a_sound_batcher_under_overload_passes_all_checks(scorer: Scorer) -> None:
    inputs = draw_inputs(scorer, TEXTS, 0.3)
    phase = run_phase(scorer, inputs, Load(1500.0, 1.5, deadline=0.05, queue_tokens=300))
    assert phase.faults() == []
    figures = phase.figures()
    assert figures["requests"] > 1000
    assert min(figures[name] for name in ("completed", "rejected", "refused")) > 0
    ended = ("completed", "rejected", "refused", "expired", "failed", "cancelled")
    assert sum(figures[name] for name in ended) == figures["requests"]
    assert 0 < figures["latency_p50"] <= figures["latency_p99"]


def _broken(scorer: Scorer, batcher_of: Callable[..., MicroBatcher], hostile: float = 0.0) -> Phase:
    inputs = draw_inputs(scorer, TEXTS, hostile)
    return run_phase(scorer, inputs, Load(100.0, 0.4, patience=0.3), batcher_of=batcher_of)


@pytest.mark.parametrize(
    ("batcher_of", "fault"),
    [
        (LosesSome, "requests never ended"),
        (Doubles, "requests ended more than once"),
        (Swaps, "a known answer moved by inf"),
        (Fails, "unexpected errors: {'RuntimeError: out of memory'"),
        (Miscounts, "requests reached the batcher"),
    ],
)
def test_a_broken_batcher_is_found(
    scorer: Scorer, batcher_of: Callable[..., MicroBatcher], fault: str
) -> None:
    assert fault in "; ".join(_broken(scorer, batcher_of).faults())


def test_a_batcher_that_takes_what_is_no_text_is_found(scorer: Scorer) -> None:
    assert "moved by inf" in "; ".join(_broken(scorer, TakesAnything, hostile=1.0).faults())


def test_hostile_inputs_come_as_often_as_asked_for(scorer: Scorer) -> None:
    inputs = draw_inputs(scorer, TEXTS, 0.25)
    count = len(hostile_inputs())
    assert math.isclose(sum(each.weight for each in inputs[:count]), 0.25)
    assert math.isclose(sum(each.weight for each in inputs[count:]), 0.75)
    assert all(isinstance(each, Input) and each.expected for each in inputs[count:])


def test_the_slope_is_that_of_what_stays_in_the_second_half() -> None:
    memory = Memory()
    for second in range(300):
        memory.seconds.append(second)
        stays = 900.0 if second < 150 else 500 + 2 * (second - 150) / 3600
        memory.megabytes.append(stays + 300 * (second % 7 == 0))  # a long text, for a moment
    assert math.isclose(memory.slope(300.0), 2.0, rel_tol=1e-6)
    assert math.isnan(memory.slope(1000.0))


def test_the_command_prints_a_table_and_its_checks(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data.jsonl", tmp_path / "soak.json"
    data.write_text("".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(TEXTS)))
    options = ["--minutes", "0.02", "--rates", "0.1,0.3", "--data", str(data), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["soak.py", str(bundle_path), *options])
    assert soak.main() == 0
    shown = capsys.readouterr().out
    assert "| 0.3 x |" in shown
    assert shown.endswith("all checks hold\n")
    phases = json.loads(out.read_text())["phases"]
    assert [phase["megabytes_an_hour"] for phase in phases] == [None, None]
    monkeypatch.setattr(soak, "run_phase", partial(run_phase, batcher_of=Doubles))
    assert soak.main() == 1
    assert "0.3 x: " in capsys.readouterr().out
