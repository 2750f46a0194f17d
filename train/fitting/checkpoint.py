"""Checkpoints: a folder of safetensors and JSON each, written completely or not at all."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.errors import RunError
from ...core.files import atomic_folder, read_json, sha256_file, write_json
from ..batching.dataset import shipped_files
from ..model.policy_model import load_weights, save_weights
from ..settings import Settings

FORMAT = 1


def fingerprint(settings: Settings, data_hash: str) -> str:
    """Identifies everything that determines a run's result: a checkpoint is resumed only under the same settings."""
    shipped = [sha256_file(path) for path in shipped_files(settings.data)]
    decisive = settings.model_dump(mode="json", exclude={"name": True, "version": True, "loop": {"trackers"}})
    return hashlib.sha256(json.dumps([decisive, data_hash, shipped], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class LogRow:
    """One evaluation in the training log; `loss` is the mean over the steps since the previous one."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    seconds: float
    validation_macro_average_precision: float
    validation_micro_f1: float

    def to_json(self) -> dict[str, float]:
        """The row by column, as log.jsonl and the trackers show it."""
        return asdict(self)


@dataclass(slots=True)
class Progress:
    """How far training has come, as stored in the checkpoint's JSON."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    best_metric: float = -1.0
    best_step: int = 0
    without_better: int = 0
    finished: bool = False
    per_step: int = 1
    """Micro-batches per optimizer step, of all processes together."""
    ema_steps: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    scaler: dict[str, float] = field(default_factory=dict)
    log: list[LogRow] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """A plain dictionary, which `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Progress":
        """Read what `to_json` gave."""
        return cls(**{**values, "log": [LogRow(**row) for row in values["log"]]})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Progress, and the tensors that belong to it: trained, best, average and optimizer weights by name."""

    progress: Progress
    tensors: dict[str, dict[str, Tensor]]


def checkpoint_folders(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / "progress.json").is_file())


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, fingerprint: str, keep: int = 2) -> None:
    """Write a checkpoint under a new name, then delete all but the newest `keep`.

    :param fingerprint: identifies settings and data; resuming with a different one is refused.
    """
    with atomic_folder(folder / f"step-{checkpoint.progress.step:08d}") as temporary:
        for name, tensors in checkpoint.tensors.items():
            save_weights(tensors, temporary / f"{name}.safetensors")
        write_json(
            temporary / "progress.json",
            {"format": FORMAT, "fingerprint": fingerprint, "progress": checkpoint.progress.to_json()},
        )
    for old in checkpoint_folders(folder)[:-keep]:
        shutil.rmtree(old)


def clear_leftovers(folder: Path) -> None:
    """Delete files that a killed process left half-written."""
    for leftover in [*folder.glob(".*.tmp"), *folder.glob(".*.old")]:
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def load_latest(folder: Path, *, fingerprint: str) -> Checkpoint | None:
    """The newest checkpoint, or None if there is none.

    :raises RunError: if it belongs to other settings or data, or has another format.
    """
    folders = checkpoint_folders(folder)
    if not folders:
        return None
    stored = read_json(folders[-1] / "progress.json")
    if stored["format"] != FORMAT:
        raise RunError(
            f"{folders[-1]}: has checkpoint format {stored['format']}; this version reads format {FORMAT}"
        )
    if stored["fingerprint"] != fingerprint:
        raise RunError(
            f"{folders[-1]}: was made with other settings or data; resume with the same ones, or choose another --out"
        )
    tensors = {path.stem: load_weights(path) for path in sorted(folders[-1].glob("*.safetensors"))}
    return Checkpoint(Progress.from_json(stored["progress"]), tensors)
