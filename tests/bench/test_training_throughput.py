"""The arithmetic of the throughput benchmark, and one run of each contender on a tiny model."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from training import throughput_runs as runs
from training.throughput import table


def test_ratios_are_of_the_same_repeat() -> None:
    row = {"mfu": 0.1, "peak_memory": 2**20, "padding": 0.0}
    speeds = {"ours": [200.0, 300.0], "trainer": [100.0, 300.0]}
    found = {
        name: [row | {"tokens_per_second": s, "tokens_per_cpu_second": s / 2} for s in of]
        for name, of in speeds.items()
    }
    assert "1.50 (1.00 to 2.00)" in table(found)
    assert "1.00 (1.00 to 1.00)" in table(found)


def test_steps_before_the_clock_starts_count_for_nothing() -> None:
    meter = runs.Meter(torch.device("cpu"))
    for step in range(runs.WARM_UP + 2):
        meter.count(10 if step >= runs.WARM_UP else 1000, 20)
        meter.step_done()
    assert (meter.real, meter.padded) == (20, 40)
    assert meter.seconds > 0.0


@pytest.mark.parametrize("contender", ["ours", "ours-packed", "trainer", "trainer-grouped"])
def test_every_contender_trains_on_the_same_windows(
    contender: str, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    windows = [draw.integers(4, 60, length).tolist() for length in draw.integers(3, 24, 40)]
    monkeypatch.setattr(runs, "corpus_windows", lambda base, tokens: (windows, "made up"))
    monkeypatch.setattr(runs, "peak_flops", lambda device, precision: (1e9, "made up"))
    args = argparse.Namespace(
        device="cpu", precision="no", full=False, window_tokens=24, batch_records=4, steps=3, compile=False
    )
    found = runs.measure(contender, str(tiny_base), args)
    assert found["tokens_per_second"] > 0
    assert found["mfu"] > 0
    assert 0.0 <= found["padding"] < 0.6
    if contender == "ours-packed":
        assert found["padding"] == 0.0
