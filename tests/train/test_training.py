"""The training job from end to end on a tiny model: real files, real processes, real kills."""

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from merchantguard.cli import main as command
from merchantguard.core.errors import RunError
from merchantguard.train.fitting import fit, trainer
from merchantguard.train.fitting.checkpoint import checkpoint_folders
from merchantguard.train.model.policy_model import load_weights
from merchantguard.train.run import load_run

WriteRecords = Callable[..., Path]


@pytest.fixture(scope="module")
def arguments(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_base: Path,
    taxonomy_file: Path,
    write_tiny_records: WriteRecords,
) -> list[str]:
    """Arguments of `merchantguard train` besides --out, for a run of a few seconds."""
    folder = tmp_path_factory.mktemp("records")
    data = write_tiny_records(folder / "records.jsonl")
    config = folder / "tiny.yaml"
    config.write_text(
        f"""
name: tiny
model: {{base: {tiny_base}, window_tokens: 24, stride_tokens: 6, ngram_buckets: 256, token_pooling: softmax, gate: true, head_dropout: 0.2}}
lora: {{rank: 4, dropout: 0.1}}
optim: {{epochs: 4, learning_rate: 0.01, batch_records: 4, batch_tokens: 256, accumulate: 2, ema: 0.9}}
loop: {{trackers: [tensorboard], checkpoint_every: 1, threads: 1}}
data: {{taxonomy: {taxonomy_file}, records: [{data}], train: 0.4, validation: 0.2, calibration: 0.2, test: 0.2, quotes: true, compliant_passages: 1}}
"""
    )
    return [str(config)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, arguments: list[str]) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    assert command(["train", *arguments, "--out", str(out)]) == 0
    return out


def same_result(first: Path, second: Path) -> None:
    one, two = (json.loads((run / "metrics.json").read_text()) for run in (first, second))
    assert one == two
    for name in ("head.safetensors", "adapter/adapter_model.safetensors"):
        a, b = load_weights(first / name), load_weights(second / name)
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[k].numpy(), b[k].numpy()) for k in a)


def test_a_run_has_the_files_of_the_contract(unbroken: Path) -> None:
    names = {path.name for path in unbroken.iterdir()}
    assert {"settings.yaml", "adapter", "head.safetensors", "splits.json", "calibration.json"} <= names
    assert {"thresholds.json", "metrics.json", "log.jsonl", "report.html", "provenance.json"} <= names
    assert not [p for p in unbroken.rglob("*") if p.suffix in (".pkl", ".pt", ".bin", ".tmp")]
    assert list((unbroken / "trackers").rglob("events.out.tfevents*"))
    (hyperparameters,) = (unbroken / "trackers").rglob("hparams.yml")
    assert "optim.learning_rate: 0.01" in hyperparameters.read_text()
    run = load_run(unbroken)
    assert run.taxonomy.ids == ("crimson", "walrus")
    assert len(run.base.sha256 or "") == 64


def test_a_run_ends_with_behaviour_tests(unbroken: Path) -> None:
    found = json.loads((unbroken / "behaviour.json").read_text())
    assert found["to_review"]["of"] == 400
    assert len(found["unknown_policies"]) == 20  # the tiny taxonomy has none of them
    assert "ordinary lines sent to review" in (unbroken / "report.html").read_text()
    card = (unbroken / "README.md").read_text()
    assert "## Behaviour tests\n\nOrdinary lines sent to review: " in card
    assert "The model reads English." in card


def test_the_card_shows_data_figures_slices_limits_and_licence(unbroken: Path) -> None:
    card = (unbroken / "README.md").read_text()
    metrics = json.loads((unbroken / "metrics.json").read_text())["test"]
    precision = metrics["headline"]["macro_average_precision"]
    assert f"{precision['value']:.3f} ({precision['low']:.3f} to {precision['high']:.3f})" in card
    assert "licence unknown" in card  # as the settings say
    assert "records.jsonl" in card
    assert "| phrasebook texts, used for training only | 0 |" in card
    assert str(unbroken) not in card
    assert "/records.jsonl" not in card  # file names without their folders
    for heading in ("## Data", "## Slices", "## Limits", "## Policies and thresholds", "## Training"):
        assert heading in card
    assert f"| length | {metrics['slices']['length'][0]['value']} |" in card


def test_the_classifier_learns_the_rule(unbroken: Path) -> None:
    metrics = json.loads((unbroken / "metrics.json").read_text())
    assert metrics["test"]["headline"]["macro_average_precision"]["value"] > 0.9


def test_the_same_seed_gives_the_same_run(unbroken: Path, arguments: list[str], tmp_path: Path) -> None:
    assert command(["train", *arguments, "--out", str(tmp_path / "again")]) == 0
    same_result(unbroken, tmp_path / "again")


@pytest.mark.slow
def test_accelerate_launch_gives_the_same_run(unbroken: Path, arguments: list[str], tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    call = [*launch, "-m", "merchantguard.train", *arguments, "--out", str(tmp_path / "launched")]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    same_result(unbroken, tmp_path / "launched")


@pytest.mark.slow
def test_a_packed_run_in_bf16_learns_the_rule_without_padding(arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "packed"
    changes = ["optim.packing=packed", "optim.mixed_precision=bf16", "optim.gradient_checkpointing=true"]
    # In a process of its own: accelerate keeps one precision per process.
    call = [sys.executable, "-m", "merchantguard.cli", "train", *arguments, "--out", str(out), *changes]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads((out / "provenance.json").read_text())["training"]["padding_share"] == 0.0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test"]["headline"]["macro_average_precision"]["value"] > 0.9


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_the_error_for_a_missing_tracker_gives_the_command_that_installs_it(
    tracker: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec(tracker):
        pytest.skip(f"{tracker} is installed here")
    out = str(tmp_path / "run")
    assert command(["train", *arguments, f"loop.trackers=[{tracker}]", "--out", out]) == 2
    assert f"`{tracker}` is required: pip install 'merchantguard[tracking]'" in capsys.readouterr().err


def test_a_run_is_not_trained_over(
    unbroken: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["train", *arguments, "--out", str(unbroken)]) == 2
    assert "holds a finished run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_killed_at_random_times_and_resumed_equals_an_unbroken_run(
    unbroken: Path, arguments: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    draw = random.Random(7)
    call = [sys.executable, "-m", "merchantguard.cli", "train", *arguments, "--out", str(out), "--resume"]
    kills = 0
    for _ in range(10):
        process = subprocess.Popen(
            call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ.copy()
        )
        before = len(list((out / "checkpoints").glob("step-*")))
        # Imports take most of the time: wait until it writes, and then a random time.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            newest = sorted((out / "checkpoints").glob("step-*"))
            if newest and (before == 0 or newest[-1].stat().st_mtime > time.time() - 1):
                break
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.4))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        for folder in checkpoint_folders(out / "checkpoints"):
            assert json.loads((folder / "progress.json").read_text())["progress"]["step"] > 0
            assert load_weights(folder / "trained.safetensors")
        if (out / "metrics.json").is_file():
            break
    assert kills >= 3
    finished = subprocess.run(call, capture_output=True, text=True, check=False)
    assert finished.returncode == 0 or "holds a finished run" in finished.stderr, finished.stderr
    same_result(unbroken, out)


def test_resuming_with_other_settings_is_rejected(arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    assert command(["train", *arguments, "--out", str(out)]) == 0
    for name in ("metrics.json",):
        (out / name).unlink()
    with_other = ["train", *arguments, "--out", str(out), "--resume", "optim.learning_rate=0.02"]
    assert command(with_other) == 2
    assert command(["train", *arguments, "--out", str(out)]) == 2  # a stopped run needs --resume
    assert command(["train", "--out", str(out), "--resume"]) == 0  # with the run's own settings


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.learning_rate=-1", "optim.learning_rate"),
        ("lora.rnk=3", "lora.rnk"),
        ("model.base=package:not_there/model", "not installed"),
        ("model.window_tokens=4096", "exceeds the 64 positions"),
        ("data.records=[missing.jsonl]", "missing.jsonl"),
        ("data.test=0.001", "test"),
        ("model.sha256=abc", "the settings expect abc"),
    ],
)
def test_wrong_settings_give_a_clear_error(
    override: str, message: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["train", *arguments, "--out", str(tmp_path / "bad"), override]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "bad" / "metrics.json").exists()


@pytest.mark.parametrize("first", ["the loss", "a validation logit", "logits"])
def test_training_that_diverges_says_so_whichever_figure_is_not_finite_first(
    arguments: list[str],
    tmp_path: Path,
    first: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = ["optim.max_steps=3"]
    if first == "the loss":
        settings = ["optim.learning_rate=1e30", "optim.max_steps=9", "loop.evaluate_every=9"]
    else:
        module = trainer if first == "a validation logit" else fit
        monkeypatch.setattr(module, "predict_logits", lambda *_, **__: np.full((8, 2), np.nan))
    assert command(["train", *arguments, *settings, "--out", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert f"training diverged: {first} " in message
    assert "lower optim.learning_rate" in message
    assert "Traceback" not in message


def test_a_policy_without_positives_stops_training(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], write_tiny_records: WriteRecords
) -> None:
    source = write_tiny_records(tmp_path / "all.jsonl")
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    for row in rows:
        row["labels"] = [label for label in row["labels"] if label != "walrus"]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command(["train", *arguments, "--out", str(tmp_path / "none"), "--data", str(source)]) == 2
    assert "walrus" in capsys.readouterr().err


def test_evaluate_gives_the_figures_the_run_gave(
    unbroken: Path, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load_run(unbroken)
    splits = json.loads((unbroken / "splits.json").read_text())["ids"]["test"]
    lines = Path(run.settings.data.records[0]).read_text().splitlines()
    chosen = tmp_path / "test.jsonl"
    chosen.write_text("".join(line + "\n" for line in lines if json.loads(line)["id"] in splits))
    call = ["evaluate", str(unbroken), str(chosen), "--out", str(tmp_path / "out"), "--bootstrap", "50"]
    assert command(call) == 0
    again = json.loads((tmp_path / "out" / "metrics.json").read_text())
    given = json.loads((unbroken / "metrics.json").read_text())["test"]
    for figure, value in given["headline"].items():
        assert again["headline"][figure]["value"] == pytest.approx(value["value"], abs=1e-5)
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_full_disk_leaves_nothing_half_written(arguments: list[str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs privileges")
    try:
        # In a process of its own: here the tracker's open file would keep the disk busy.
        call = [sys.executable, "-m", "merchantguard.cli", "train", *arguments, "--out", str(disk / "run")]
        result = subprocess.run(call, capture_output=True, text=True, check=False)
        assert result.returncode == 2, result.stderr
        assert "no space left on the disk" in result.stderr
        assert "Traceback" not in result.stderr
        assert not list(disk.rglob("*.tmp"))
        assert not list(disk.rglob("metrics.json"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_unfinished_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a finished run"):
        load_run(tmp_path)
