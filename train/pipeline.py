"""The training job: from split records to a finished run, in stages that a resumed job can repeat or skip."""

import hashlib
import shutil
from pathlib import Path

import torch

from ..core.errors import RunError
from ..core.files import sha256_file, write_json
from ..data.splitting.splits import SPLITS
from .batching.dataset import SplitRecords, check_positives
from .batching.shards import shard_paths, shards_hash
from .batching.weak import weak_hash
from .evaluation.behaviour import check_suite
from .finalize import finalize
from .fitting.checkpoint import checkpoint_folders, fingerprint
from .fitting.fit import fit_splits
from .model.encoder import describe_base
from .processes import lost_peers_named, process_state
from .run import METRICS, SETTINGS, SPLIT_MANIFEST, TAXONOMY, TOKENIZER, Provenance, environment
from .settings import Settings, save_settings


def train_run(settings: Settings, data: SplitRecords, folder: Path, *, resume: bool = False) -> Path:
    """Train, calibrate, certify, evaluate on the test split once, and write the run's folder.

    A resumed job repeats the stages after training, which are quick. metrics.json is written last and marks the run as
    finished.

    :raises RunError: if the folder contains another run, a split cannot be used, or training diverges.
    :raises SettingsError: if base weights or LoRA targets do not fit the settings.
    :raises RecordError: if the texts of the behaviour tests cannot be used.
    """
    _prepare_folder(folder, resume=resume)
    without = _policies_without_positives(data)
    check_suite(settings.data.behaviour)
    base = describe_base(settings.model)
    data_hash = _data_hash(settings, data)
    if settings.loop.threads:
        torch.set_num_threads(settings.loop.threads)
    state = process_state()
    if state.process_index == 0 and not (folder / SETTINGS).exists():
        save_settings(settings, folder / SETTINGS)  # for who resumes it
    with lost_peers_named(state.num_processes, state.process_index):
        result = fit_splits(
            settings, data, folder, fingerprint=fingerprint(settings, data_hash), resume=resume
        )
    if result is None:
        return folder
    save_settings(settings, folder / SETTINGS)
    write_json(folder / TAXONOMY, data.taxonomy.to_json())
    if data.manifest is not None:
        write_json(folder / SPLIT_MANIFEST, data.manifest.to_json())
    provenance = Provenance(
        base=base,
        data_hash=data_hash,
        files=data.files,
        tokenizer_sha256=sha256_file(folder / TOKENIZER),
        environment=environment(),
        training=result.facts,
        policies_without_positives=without,
    )
    provenance.save(folder)
    finalize(result, settings, data, provenance, folder)
    for temporary in ("windows", "cache"):
        shutil.rmtree(folder / temporary, ignore_errors=True)
    return folder


def _prepare_folder(folder: Path, *, resume: bool) -> None:
    if (folder / METRICS).is_file():
        raise RunError(f"{folder}: holds a finished run; choose another --out, or delete it first")
    if checkpoint_folders(folder / "checkpoints") and not resume:
        raise RunError(
            f"{folder}: holds an unfinished run; continue it with --resume, or choose another --out"
        )
    folder.mkdir(parents=True, exist_ok=True)


def _policies_without_positives(data: SplitRecords) -> dict[str, list[str]]:
    """The policies without a positive by split.

    :raises RunError: if a split cannot be used, or the training split lacks positives of a policy.
    """
    without = {split: check_positives(split, data.records[split], data.taxonomy) for split in SPLITS}
    if without["train"]:
        raise RunError(
            f"train: no positive record for {', '.join(without['train'])}; add records with these labels, or remove "
            "the policies from the taxonomy"
        )
    return without


def _data_hash(settings: Settings, data: SplitRecords) -> str:
    """SHA-256 over the records of every split, and over the shards and weak records if there are any."""
    parts = [data.data_hash()]
    if settings.data.shards:
        parts.append(shards_hash(shard_paths(settings.data.shards)))
    if settings.data.weak:
        parts.append(weak_hash(settings.data.weak))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest() if parts[1:] else parts[0]
