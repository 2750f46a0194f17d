"""Several processes: the same result as one, no row counted twice, and a clear error when one is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml

from merchantguard.cli import main as command
from merchantguard.core.errors import RunError
from merchantguard.train.evaluation.predictions import Predictions
from merchantguard.train.fitting.checkpoint import checkpoint_folders
from merchantguard.train.fitting.optimizer import (
    WeightAverage,
    build_optimizer,
    optimizer_tensors,
    restore_optimizer,
)
from merchantguard.train.fitting.speedups import encoder_layers
from merchantguard.train.model.policy_model import (
    PolicyModel,
    build_model,
    load_trained_state,
    load_weights,
    trained_state,
)
from merchantguard.train.processes import is_sharded, lost_peers_named
from merchantguard.train.run import predictions_file
from merchantguard.train.settings import LoraSettings, ModelSettings, OptimSettings

CONFIGS = Path(__file__).parents[3] / "configs" / "accelerate"


@pytest.fixture(scope="module")
def arguments(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_base: Path,
    taxonomy_file: Path,
    write_tiny_records: Callable[..., Path],
) -> list[str]:
    """Arguments of `merchantguard train`, without dropout, as each process draws its own random numbers."""
    folder = tmp_path_factory.mktemp("records")
    data = write_tiny_records(folder / "records.jsonl")
    config = folder / "tiny.yaml"
    config.write_text(
        f"""
model: {{base: {tiny_base}, window_tokens: 24, stride_tokens: 6, token_pooling: softmax, gate: true, head_dropout: 0.0}}
lora: {{rank: 4}}
optim: {{epochs: 3, learning_rate: 0.005, batch_records: 4, batch_tokens: 256, ema: 0.9}}
loop: {{trackers: [], checkpoint_every: 1, threads: 1}}
data: {{taxonomy: {taxonomy_file}, records: [{data}], train: 0.4, validation: 0.2, calibration: 0.2, test: 0.2}}
"""
    )
    return [str(config)]


def launch(processes: int, *arguments: str) -> list[str]:
    """The command that trains with this many processes on this machine's CPU.

    `accelerate launch --cpu` starts several processes through MPI only; on GPUs it starts them as torchrun does.
    """
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*run, "-m", "merchantguard.train", *arguments]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, arguments: list[str]) -> Path:
    """A run of one process with two micro-batches per step."""
    out = tmp_path_factory.mktemp("one") / "run"
    assert command(["train", *arguments, "optim.accumulate=2", "--out", str(out)]) == 0
    return out


def assert_same_run(one: Path, other: Path) -> None:
    """Weights and predictions are equal up to the order of summation; every record is predicted once, in the same order."""
    for name in ("head.safetensors", "adapter/adapter_model.safetensors"):
        first, second = load_weights(one / name), load_weights(other / name)
        for key, tensor in first.items():
            torch.testing.assert_close(second[key], tensor, rtol=1e-3, atol=1e-4)
    for split in ("validation", "calibration", "test"):
        first, second = (Predictions.load(predictions_file(run, split)) for run in (one, other))
        assert first.ids == second.ids
        np.testing.assert_allclose(second.logits, first.logits, atol=1e-3)


@pytest.mark.slow
def test_two_processes_equal_one_with_the_same_global_batch(
    unbroken: Path, arguments: list[str], tmp_path: Path
) -> None:
    call = launch(2, *arguments, "optim.accumulate=1", "--out", str(tmp_path / "two"))
    result = subprocess.run(call, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    provenance = json.loads((tmp_path / "two" / "provenance.json").read_text())
    assert provenance["training"]["processes"] == 2
    assert_same_run(unbroken, tmp_path / "two")


@pytest.mark.slow
def test_a_killed_worker_ends_the_job_with_a_reason_and_one_process_can_continue(
    unbroken: Path, arguments: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    two = [*arguments, "optim.accumulate=1"]
    launcher = subprocess.Popen(
        launch(2, *two, "--out", str(out)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not checkpoint_folders(out / "checkpoints") and time.monotonic() < deadline:
        assert launcher.poll() is None
        time.sleep(0.01)
    workers = [
        child
        for child in psutil.Process(launcher.pid).children(recursive=True)
        if child.environ().get("RANK") == "1"
    ]
    os.kill(workers[0].pid, signal.SIGKILL)
    _, messages = launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    assert "lost contact with the others" in messages
    assert "--resume" in messages
    assert not (out / "metrics.json").exists()
    # One process continues what two began, and ends with the same result as if it had been alone.
    assert command(["train", *two, "--out", str(out), "--resume"]) == 0
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["training"]["processes"] == 1
    assert_same_run(unbroken, out)


def test_only_communication_errors_of_several_processes_are_renamed() -> None:
    lost = RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:6000")
    with pytest.raises(RunError, match="process 1 of 2 lost contact"), lost_peers_named(2, 1):
        raise lost
    with pytest.raises(RuntimeError, match="closed by peer"), lost_peers_named(1, 0):
        raise lost
    with pytest.raises(RuntimeError, match="out of memory"), lost_peers_named(2, 0):
        raise RuntimeError("CUDA out of memory")


def test_every_launch_file_opens_with_its_command_and_is_what_accelerate_reads() -> None:
    from accelerate.commands.config.config_args import ClusterConfig

    files = sorted(CONFIGS.glob("*.yaml"))
    assert [file.stem for file in files] == ["eight_gpus", "fsdp", "one_gpu", "several_nodes"]
    for file in files:
        lines = file.read_text().splitlines()
        commands = [line for line in lines if line.startswith("#   accelerate launch")]
        assert f"--config_file configs/accelerate/{file.name}" in commands[0]
        assert "-m merchantguard.train configs/" in commands[0]
        config = ClusterConfig.from_yaml_file(str(file))
        assert config.num_processes == yaml.safe_load(file.read_text())["num_processes"]


def test_sharded_weights_are_saved_unsharded_and_restored(tiny_base: Path, tmp_path: Path) -> None:
    """FSDP2 with a process group of one on the CPU: the same as with several GPUs, except for communication."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model, optim = _trained(tiny_base), OptimSettings()
        plain, ids = trained_state(model), torch.randint(4, 40, (2, 7))
        before = model(ids, torch.ones_like(ids)).detach()
        mesh = init_device_mesh("cpu", (1,))
        for layer in encoder_layers(model.encoder):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        assert is_sharded(model)
        torch.testing.assert_close(trained_state(model), plain)
        optimizer, average = build_optimizer(model, optim, LoraSettings(rank=2)), WeightAverage(model, 0.9)
        model(ids, torch.ones_like(ids)).sum().backward()
        optimizer.step()
        average.update(model)
        kept = trained_state(model), optimizer_tensors(optimizer), average.tensors()
        for _ in range(2):
            optimizer.step()
            average.update(model)
        load_trained_state(model, kept[0])
        restore_optimizer(optimizer, kept[1])
        average.restore(kept[2], steps=1)
        torch.testing.assert_close(trained_state(model), kept[0])
        torch.testing.assert_close(optimizer_tensors(optimizer), kept[1])
        torch.testing.assert_close(average.tensors(), kept[2])
        load_trained_state(model, plain)
        torch.testing.assert_close(model(ids, torch.ones_like(ids)).detach(), before)
    finally:
        dist.destroy_process_group()


def _trained(base: Path) -> PolicyModel:
    torch.manual_seed(0)
    settings = ModelSettings(base=str(base), window_tokens=24, stride_tokens=6, head_dropout=0.0)
    return build_model(settings, LoraSettings(rank=2), n_policies=3)
