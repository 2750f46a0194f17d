"""The serving benchmark: its arithmetic, the models it hands to peers, and that no process is left behind."""

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from serving import process
from serving.compare import list_entries, parse_peers, parse_pythons
from serving.inputs import Shape, Texts, _ridge, cut, write_model_folder
from serving.process import SCRIPTS, PeerFailed, run_script
from serving.report import Row, agreement, best_setting, bulk_table, figures, online_table
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification

from merchantguard.core.errors import MerchantGuardError
from merchantguard.data.windows import WindowTokenizer
from merchantguard.serve.bundle import Variant
from merchantguard.train.model.policy_model import build_model
from merchantguard.train.settings import LoraSettings, ModelSettings

WINDOW_TOKENS = 24


@pytest.fixture
def peer_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of the peers' folder, which is not on the path of anything else."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def _result(seconds: list[float], logits: list[list[float]]) -> dict[str, Any]:
    slow = {"setting": "slow", "seconds": [9.0, 9.0, 9.0], "logits": logits}
    settings = [slow, {"setting": "fast", "seconds": seconds, "logits": logits}]
    return {"settings": settings, "load_seconds": 1.5, "rss_mb": 100.0, "peak_mb": 120.0}


def _row(name: str, seconds: list[float], logits: list[list[float]], **changed: Any) -> Row:
    fields = {"precision": "fp32", "twin": None, "gflops": {"fp32": 100.0, "bf16": 200.0}}
    fields |= {"texts": 10, "tokens": 1000, "flops": 50e9}
    return Row(name=name, result=_result(seconds, logits), **(fields | changed))


def test_figures_are_medians_of_the_best_setting_and_ratios_are_against_ours() -> None:
    ours = _row("ours (plain)", [0.5, 0.4, 7.0], [[0.0]])
    low = _row("torch bf16", [1.0, 2.0, 3.0], [[1.0]], precision="bf16", twin="torch fp32")
    twin = _row("torch fp32", [4.0, 4.0, 4.0], [[-1.0]])
    assert best_setting(ours.result)["setting"] == "fast"
    assert figures(ours) == pytest.approx(
        {"texts": 20.0, "tokens": 2000.0, "gflops": 100.0, "of_peak": 100.0}
    )
    assert figures(low)["of_peak"] == pytest.approx(12.5)
    assert figures(_row("ours (int8)", [0.5], [[0.0]], precision="int8"))["of_peak"] == pytest.approx(100.0)
    lines = bulk_table([twin, low, ours]).splitlines()[2:]
    names, ratios, same = ([line.split(" | ")[column] for line in lines] for column in (0, 4, 5))
    assert names == ["| ours (plain)", "| torch bf16", "| torch fp32"]
    assert ratios == ["1.00", "4.00", "8.00"]
    assert same == ["1.00", "-", "8.00"]
    assert "0.46 / 0.00% (of torch fp32)" in lines[1]


def test_an_online_row_shows_the_latency_that_its_throughput_forces() -> None:
    setting = {
        "setting": "batch 8",
        "texts_per_second": [30.0, 32.0, 40.0],
        "p50_ms": 1999.0,
        "p99_ms": 2500.0,
    }
    costs = {"load_seconds": 2.0, "rss_mb": 1.0, "peak_mb": 2.0}
    row = Row("mosec", "fp32", None, {"settings": [setting | costs]}, {}, 1, 1, 1.0)
    assert "| mosec | batch 8 | 32.0 | - | 1999 | 2500 | 2000 | 2.0 | 1 | 2 |" in online_table(
        [row], clients=64
    )


def test_agreement_counts_decisions_at_a_half() -> None:
    found = agreement([[0.1, -5.0], [0.1, 5.0]], [[-0.1, -5.0], [0.1, 5.0]])
    assert found.equal == 0.75
    assert found.largest == pytest.approx(0.04996, abs=1e-4)
    with pytest.raises(ValueError, match="shape"):
        agreement([[1.0]], [[1.0, 2.0]])


def test_flops_count_weights_and_attention() -> None:
    shape = Shape(weights=1000, hidden=8, layers=3)
    assert shape.flops([10, 20]) == 2 * 1000 * 30 + 4 * (100 + 400) * 8 * 3


def test_a_wrong_peer_is_named() -> None:
    assert parse_pythons(["mosec=there/bin/python"])["mosec"].endswith("/there/bin/python")
    assert parse_pythons([])["torch"] == sys.executable
    for wrong in ("mosec", "nobody=python", "mosec="):
        with pytest.raises(MerchantGuardError, match="PEER=PYTHON"):
            parse_pythons([wrong])
    assert parse_peers("ours, torch") == ("ours", "torch")
    with pytest.raises(MerchantGuardError, match="no nobody"):
        parse_peers("ours,nobody")


def test_every_row_has_a_script_and_a_twin_that_is_measured(tmp_path: Path) -> None:
    variants = (Variant("plain", "model.onnx"), Variant("low", "low.onnx", precision="bf16"))
    bundle: Any = SimpleNamespace(path=tmp_path, variants=variants)
    entries = list_entries(bundle, 20)
    names = [entry.name for entry in entries if not entry.online]
    assert len(set(names)) == len(names)
    assert {entry.twin for entry in entries} - {None} <= set(names)
    assert all((SCRIPTS / f"peer_{entry.peer}.py").is_file() for entry in entries)
    assert not any(entry.twin == entry.name for entry in entries)


def test_batches_keep_to_their_budget(peer_module: Callable[[str], ModuleType]) -> None:
    lengths = [3, 9, 4, 30, 4, 2]
    cut_into = peer_module("harness").batches_by_length
    batches = cut_into(lengths, 12)
    assert sorted(row for batch in batches for row in batch) == list(range(6))
    assert batches[0] == [3]
    assert all(len(batch) * max(lengths[row] for row in batch) <= 12 for batch in batches[1:])
    assert all(len(batch) == 1 for batch in cut_into(lengths, 0))


def test_clients_over_http_count_what_was_answered_in_time(peer_module: Callable[[str], ModuleType]) -> None:
    closed_loop, harness = peer_module("closed_loop"), peer_module("harness")
    read: list[list[str]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            read.append(json.loads(await reader.readexactly(length))["windows"])
            await asyncio.sleep(0.01)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async def run() -> dict[str, Any]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        job = harness.Job(Path(), ["a b"], [["a", "b"]], 8, 1, 2, 4, 0.3, {})
        async with server:
            found: dict[str, Any] = await closed_loop.http_loop(job, port=port, path="/")
        return found

    found = asyncio.run(run())
    assert len(found["texts_per_second"]) == 2
    # Four clients, at least 10 ms an answer: no more than 400 a second, and all requests differ.
    assert all(0 < rate <= 400 for rate in found["texts_per_second"])
    assert 10 <= found["p50_ms"] <= found["p99_ms"]
    assert sorted(read) == sorted(["a", f"b {number}"] for number in range(len(read)))
    assert found["answers"] < len(read)


def test_ridge_finds_a_linear_map_even_in_tiny_features() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(4000, 3)) * [1.0, 1e-3, 1.0]
    truth, offset = draw.normal(size=(2, 3)) / [1.0, 1e-3, 1.0], np.array([0.5, -2.0])
    weight, bias = _ridge(features, features @ truth.T + offset)
    assert features @ weight.T + bias == pytest.approx(features @ truth.T + offset, abs=0.05)


@pytest.fixture(scope="module")
def served(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Texts, Shape]:
    """The folder that peers serve, made of a tiny model with random weights."""
    torch.manual_seed(0)
    settings = ModelSettings(base=str(tiny_base), window_tokens=WINDOW_TOKENS, stride_tokens=4)
    model = build_model(settings, LoraSettings(rank=2), n_policies=3, complete=True)
    path = tiny_base / "tokenizer.json"
    tokenizer = WindowTokenizer.from_file(path, window_tokens=WINDOW_TOKENS, stride_tokens=4, max_windows=4)
    texts = cut(["a walrus rule " * 20, "teapot", ""], tokenizer, Tokenizer.from_file(str(path)))
    run_settings = SimpleNamespace(model=settings)
    run: Any = SimpleNamespace(model=model, path=tiny_base, taxonomy=range(3), settings=run_settings)
    bundle: Any = SimpleNamespace(path=tiny_base, calibration=(np.ones(3), np.zeros(3)))
    folder = tmp_path_factory.mktemp("served")
    return folder, texts, write_model_folder(run, bundle, texts, folder)


def test_a_peer_reads_the_windows_that_we_read(served: tuple[Path, Texts, Shape]) -> None:
    _, texts, shape = served
    assert [len(windows) for windows in texts.windows] == [4, 1, 1]
    assert texts.peer_tokens == [len(ids) for ids in texts.ids]
    assert shape.hidden == 32
    assert shape.weights == 2 * (4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32)


def test_a_peers_process_gives_the_models_own_logits(served: tuple[Path, Texts, Shape]) -> None:
    folder, texts, _ = served
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = [model(torch.tensor([ids])).logits[0].tolist() for ids in texts.ids]
    job = {"raw": texts.raw, "windows": texts.windows, "window_tokens": WINDOW_TOKENS, "threads": 1}
    job |= {"repeats": 2, "clients": 1, "seconds": 1.0}
    for graph in ("model.onnx", "model.fused.onnx"):
        options = {"options": {"graph": graph}}
        found = run_script(
            sys.executable, "peer_onnxruntime.py", folder, job | options, arguments=(), timeout=60
        )
        (setting,) = found["settings"]
        assert len(setting["seconds"]) == 2
        assert np.array(setting["logits"]) == pytest.approx(np.array(expected), abs=1e-3)
        assert 0 < found["rss_mb"] <= found["peak_mb"]
    wrong = job | {"options": {"graph": "nothing.onnx"}}
    with pytest.raises(PeerFailed, match=r"(?s)status 1: .*nothing\.onnx"):
        run_script(sys.executable, "peer_onnxruntime.py", folder, wrong, arguments=(), timeout=60)


def test_windows_that_share_a_batch_keep_their_logits(
    served: tuple[Path, Texts, Shape], peer_module: Callable[[str], ModuleType]
) -> None:
    folder, texts, _ = served
    engines = peer_module("engines")
    engine = engines.OnnxEngine(folder, graph="model.onnx", window_tokens=WINDOW_TOKENS, threads=1)
    flat = [window for windows in texts.windows for window in windows]
    alone, together = (np.array(engine.classify(flat, budget=budget)) for budget in (0, 4096))
    assert np.ptp(alone, axis=0).min() > 1e-3
    assert together == pytest.approx(alone, abs=1e-4)
    answers = np.array(engines.classify_texts(engine, texts.windows))
    assert answers == pytest.approx(np.stack([alone[:4].max(axis=0), alone[4], alone[5]]), abs=1e-4)


def test_what_a_peer_started_is_ended_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SCRIPTS", tmp_path)
    script = "import pathlib, subprocess, sys, time\n"
    script += "child = subprocess.Popen(['sleep', '60'])\n"
    script += "pathlib.Path(sys.argv[1], 'pid').write_text(str(child.pid))\ntime.sleep(60)\n"
    (tmp_path / "peer.py").write_text(script)
    with pytest.raises(PeerFailed, match="longer than 1 s"):
        run_script(sys.executable, "peer.py", tmp_path, {}, arguments=(), timeout=1)
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not _runs(child):
            break
        time.sleep(0.05)
    assert not _runs(child)
    with pytest.raises(PeerFailed, match="cannot be started"):
        run_script(str(tmp_path / "python"), "peer.py", tmp_path, {}, arguments=(), timeout=1)


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
