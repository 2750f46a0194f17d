"""Checkpoints: safetensors and JSON in a folder of their own, complete or absent, never half."""

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.errors import RunError
from ...core.files import atomic_folder, read_json, write_json
from ..model.policy_model import load_weights, save_weights

FORMAT = 2


@dataclass(slots=True)
class Progress:
    """Where training stands; everything in it goes into the checkpoint's JSON."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    best_metric: float = -1.0
    best_step: int = 0
    without_better: int = 0
    finished: bool = False
    per_step: int = 1
    """Micro-batches to an optimizer step, of all processes together."""
    ema_steps: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Progress and the tensors that go with it: trained, best, average and optimizer weights by name."""

    progress: Progress
    tensors: dict[str, dict[str, Tensor]]


def checkpoint_folders(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / "progress.json").is_file())


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, fingerprint: str, keep: int = 2) -> None:
    """Write a checkpoint under a new name, then drop all but the newest `keep`.

    :param fingerprint: identifies settings and data; resuming with another is refused.
    """
    with atomic_folder(folder / f"step-{checkpoint.progress.step:08d}") as temporary:
        for name, tensors in checkpoint.tensors.items():
            save_weights(tensors, temporary / f"{name}.safetensors")
        write_json(
            temporary / "progress.json",
            {"format": FORMAT, "fingerprint": fingerprint, "progress": asdict(checkpoint.progress)},
        )
    for old in checkpoint_folders(folder)[:-keep]:
        shutil.rmtree(old)


def clear_leftovers(folder: Path) -> None:
    """Delete what a killed process left half-written."""
    for leftover in [*folder.glob(".*.tmp"), *folder.glob(".*.old")]:
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def load_latest(folder: Path, *, fingerprint: str) -> Checkpoint | None:
    """The newest checkpoint, or None where there is none yet.

    :raises RunError: if it belongs to other settings or data, or to another format.
    """
    folders = checkpoint_folders(folder)
    if not folders:
        return None
    stored = read_json(folders[-1] / "progress.json")
    if stored["format"] != FORMAT:
        raise RunError(f"{folders[-1]}: checkpoint format {stored['format']}, this version reads {FORMAT}")
    if stored["fingerprint"] != fingerprint:
        raise RunError(
            f"{folders[-1]}: was made with other settings or data; resume with the same ones, or train into a new folder"
        )
    tensors = {path.stem: load_weights(path) for path in sorted(folders[-1].glob("*.safetensors"))}
    return Checkpoint(Progress(**stored["progress"]), tensors)
