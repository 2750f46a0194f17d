import contextlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from merchantguard.cli import main as command
from merchantguard.serve import Assessment, MicroBatcher, Scorer
from merchantguard.serve.cli import measuring
from merchantguard.serve.cli.measuring import Gemm, Setting, Workload, flops_per_token, spread
from merchantguard.serve.engine import variants
from merchantguard.serve.engine.onnx_model import Ids, OnnxModel, Outputs

# Of many lengths: some are shorter than a window of 20 tokens, some take several windows.
DIFFERENT = ["Call us. " * times + "We sell crimson goods." for times in (0, 1, 2, 3, 5, 8, 13, 21)]
TEXTS = [*DIFFERENT, DIFFERENT[1], DIFFERENT[1]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "in.jsonl"
    rows = [json.dumps({"id": str(number), "text": text}) for number, text in enumerate(TEXTS)]
    path.write_text("\n".join([*rows, "{not json"]) + "\n")
    return path


@pytest.fixture(scope="module")
def whole_run(bundle_path: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """What one run prints, and the content of its JSON file."""
    figures = tmp_path_factory.mktemp("bench") / "figures.json"
    call = ["bench", bundle_path, "--data", data, "--threads", 1, "--batch-tokens", "128,40", "--repeats", 2]
    call += ["--seconds", 0.3, "--rate", 50, "--json", figures]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert command([str(each) for each in call]) == 0
    return printed.getvalue(), json.loads(figures.read_text())


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Ids]:
    """The attention mask of every run of a model from now on."""
    seen: list[Ids] = []
    original = OnnxModel.run

    def run(model: OnnxModel, input_ids: Ids, attention_mask: Ids) -> Outputs:
        seen.append(attention_mask)
        return original(model, input_ids, attention_mask)

    monkeypatch.setattr(OnnxModel, "run", run)
    return seen


def workload(scorer: Scorer, texts: list[str]) -> Workload:
    return Workload.of(texts, scorer.tokenizer, window_tokens=scorer.bundle.window_tokens)


def test_the_figures_agree_with_one_another(whole_run: tuple[str, Any], scorer: Scorer) -> None:
    _, figures = whole_run
    work = workload(scorer, TEXTS)
    # Equal texts are scored once, so they count once.
    assert (figures["texts"], figures["windows"], figures["tokens"]) == (8, work.windows, work.tokens)
    assert figures["gemm"]["gflops"] > 0
    assert sorted(row["setting"]["batch_tokens"] for row in figures["bulk"]) == [40, 128]
    for row in figures["bulk"]:
        assert len(row["seconds"]) == 2
        assert row["texts_per_second"] == pytest.approx(8 / np.median(row["seconds"]))
        assert row["tokens_per_second"] == pytest.approx(row["texts_per_second"] * work.tokens / 8)
        assert row["padding"] == pytest.approx(work.padding(row["setting"]["batch_tokens"]))
    fastest = max(figures["bulk"], key=lambda row: row["texts_per_second"])
    assert figures["best"] == figures["online"]["setting"] == fastest["setting"]
    online = figures["online"]
    assert (online["rate"], online["texts"], online["rejected"]) == (50, 15, 0)
    assert 0 < online["p50_ms"] <= online["p99_ms"]
    [memory] = figures["memory"]
    # An interpreter with numpy and ONNX Runtime, but nothing like all that the tests have loaded.
    assert 20 < memory["loaded_mb"] <= memory["peak_mb"] < 400


def test_the_advice_is_code_that_names_the_best_setting(
    whole_run: tuple[str, Any], bundle_path: Path
) -> None:
    printed, figures = whole_run
    best = figures["best"]["batch_tokens"]
    assert f'Scorer.load("{bundle_path}", variant="plain", threads=1)' in printed
    assert f"scorer.assess_many(texts, batch_tokens={best})" in printed
    assert f"MicroBatcher(scorer, batch_tokens={best})" in printed
    [_, first, second] = next(part for part in printed.split("\n\n") if part.startswith("bulk")).split("\n")[
        1:
    ]
    assert first.split()[:3] == ["plain", "1", str(best)]
    assert second.split()[2] == str(168 - best)
    # The model's only weights are looked up, not multiplied.
    assert figures["flops"] is None
    assert first.split()[-1] == "-"


@pytest.mark.parametrize("batch_tokens", [1, 40, 100, 100_000])
def test_bulk_scores_every_token_in_each_pass_with_the_padding_it_reports(
    bundle_path: Path, runs: list[Ids], batch_tokens: int
) -> None:
    setting = Setting("plain", 1, batch_tokens)
    scorer = measuring.load_for(bundle_path, setting)
    work = workload(scorer, TEXTS)
    runs.clear()
    shown: list[Setting] = []
    [row] = measuring.measure_bulk(
        scorer, [setting], work, repeats=2, flops=10**9, gemm=Gemm(2.0, 1.0), on_pass=shown.append
    )
    assert sum(int(mask.sum()) for mask in runs) == 3 * work.tokens
    assert row.padding == pytest.approx(sum(mask.size for mask in runs) / (3 * work.tokens) - 1)
    assert shown == [setting] * 3
    # A token takes half of what the machine does in a second.
    assert row.of_peak == pytest.approx(row.tokens_per_second / 2)


def test_padding_counts_texts_that_are_sorted_in_turns(scorer: Scorer, runs: list[Ids]) -> None:
    texts = [f"{number} " + "Call us. " * (number % 7) for number in range(600)]
    measuring.score_all(scorer, texts, 200)
    work = workload(scorer, texts)
    assert sum(int(mask.sum()) for mask in runs) == work.tokens
    assert sum(mask.size for mask in runs) / work.tokens - 1 == pytest.approx(work.padding(200))


class SlowModel:
    """Takes 20 ms for a run."""

    def run(self, input_ids: Ids, attention_mask: Ids) -> Outputs:
        time.sleep(0.02)
        return Outputs(np.zeros((len(input_ids), 3), dtype=np.float32))


@pytest.fixture
def slow_scorer(scorer: Scorer) -> Scorer:
    return Scorer(scorer.bundle, SlowModel(), scorer.tokenizer)


def test_what_is_too_much_waits(slow_scorer: Scorer) -> None:
    online = partial(measuring.measure_online, slow_scorer, Setting("plain", 1, 1), ["Call us."])
    calm, flood = online(rate=5.0, seconds=0.6), online(rate=200.0, seconds=0.3)
    assert calm.p50_ms >= 20
    # 50 texts a second are possible, so the last of 60 is due by 0.3 s and answered after 1.2 s.
    assert (flood.texts, flood.rejected) == (60, 0)
    assert flood.achieved <= 50
    assert flood.p99_ms >= 850


def test_latency_counts_from_when_a_text_was_due(
    slow_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HeldUp(MicroBatcher):
        def submit(self, text: str, *, deadline: float | None = None) -> "Future[Assessment]":
            time.sleep(0.1)
            return super().submit(text, deadline=deadline)

    monkeypatch.setattr(measuring, "MicroBatcher", HeldUp)
    online = measuring.measure_online(
        slow_scorer, Setting("plain", 1, 1), ["Call us."], rate=80.0, seconds=0.1
    )
    # The last of 8 is due by 0.1 s and submitted after 0.8 s.
    assert online.p99_ms >= 600


def test_texts_that_find_the_queue_full_are_counted(
    slow_scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "MicroBatcher", partial(MicroBatcher, queue_tokens=1))
    online = measuring.measure_online(
        slow_scorer, Setting("plain", 1, 1), ["Call us."], rate=400.0, seconds=0.25
    )
    # One waits and one runs; most of the 100 are refused.
    assert 0.5 < online.rejected < 1
    assert 0 < online.achieved <= (1 - online.rejected) * 400 + 1e-6


def test_a_variant_that_cannot_run_here_is_left_out_with_the_reason(
    make_bundle: Callable[..., Path],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fast = {"name": "fast", "engine": "openvino", "precision": "fp32", "graph": "model.onnx"}
    bundle = make_bundle(tmp_path / "bundle", variants=[fast])
    monkeypatch.setattr(variants, "find_spec", lambda name: None if name == "openvino" else find_spec(name))
    monkeypatch.setattr("merchantguard.serve.cli.bench.measure_memory", lambda *_: None)
    call = ["bench", str(bundle), "--data", str(data), "--texts", "2", "--threads", "1", "--repeats", "1"]
    assert command([*call, "--seconds", "0.1"]) == 0
    printed, errors = capsys.readouterr()
    assert "left out: fast: it needs OpenVINO: pip install 'merchantguard[openvino]'" in printed
    assert "\nfast " not in printed
    assert "not known on this system" in printed
    assert "in.jsonl, row 11: " in errors


def test_products_are_counted_by_their_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shapes = {"table": (50, 4), "first": (4, 6), "second": (2, 6), "bias": (2,)}
    weights = [
        helper.make_tensor(name, kind, shape, [0.0] * int(np.prod(shape))) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["a"]),
        helper.make_node("MatMul", ["a", "first"], ["b"]),
        helper.make_node("MatMul", ["b", "b"], ["c"]),
        helper.make_node("Gemm", ["c", "second", "bias"], ["d"], transB=1),
    ]
    ids = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"])
    out = helper.make_tensor_value_info("d", kind, ["n", 2])
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [ids], [out], weights)), tmp_path / "g.onnx")
    assert flops_per_token(tmp_path / "g.onnx") == 2 * (4 * 6 + 2 * 6)
    monkeypatch.setattr(measuring, "find_spec", lambda _: None)
    assert flops_per_token(tmp_path / "g.onnx") is None


@pytest.mark.parametrize(("given", "count"), [(0, 3), (2, 3), (3, 3), (7, 3), (1000, 1), (1001, 64)])
def test_texts_are_spread_over_all(given: int, count: int) -> None:
    chosen = [int(text) for text in spread(map(str, range(given)), count)]
    assert len(chosen) == min(given, count)
    assert chosen == sorted(set(chosen))
    if chosen:
        gaps = np.diff(chosen)
        assert not len(gaps) or gaps.max() <= 2 * gaps.min()
        assert chosen[0] == 0
        assert given - chosen[-1] <= 3 * given / count


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--threads", "1,0"], "argument --threads: '0' is not a positive whole number"),
        (["--batch-tokens", "many"], "argument --batch-tokens: 'many' is not a positive whole number"),
        (["--rate", "nan"], "argument --rate: 'nan' is not a positive number"),
        (["--seconds", "-1"], "argument --seconds: '-1' is not a positive number"),
        (["--threads", "1,100000"], "--threads 100000: this process may use "),
        (["--data", "missing.jsonl"], "missing.jsonl: no such file"),
        (["--json", "."], "--json .: is a folder"),
    ],
)
def test_what_cannot_work_is_named(
    bundle_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], fault: str
) -> None:
    try:
        status = command(["bench", str(bundle_path), *arguments])
    except SystemExit as stopped:  # argparse leaves by itself
        status = int(stopped.code or 0)
    assert status == 2
    assert fault in capsys.readouterr().err


def test_a_file_without_records_is_an_error(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": "q"}\n')
    assert command(["bench", str(bundle_path), "--data", str(tmp_path / "in.jsonl")]) == 2
    assert "--data: holds no usable record" in capsys.readouterr().err
    assert command(["bench", str(tmp_path / "nothing")]) == 2


def test_help_shows_examples_and_imports_nothing_heavy() -> None:
    program = (
        "import sys, merchantguard.serve.cli.bench as bench; print(bench.EPILOG)\n"
        "print('heavy:', *{'torch', 'onnx', 'rich', 'yaml', 'pyarrow', 'openvino'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "merchantguard bench bundle/" in shown.partition("examples:")[2]
    assert shown.strip().endswith("heavy:")
