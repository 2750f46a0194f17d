"""The whole training job: records to a finished run, in stages that a resume can find its way through."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, set_seed

from ..core.errors import RunError
from ..core.extras import require
from ..core.files import sha256_file, write_json
from ..data.records.fingerprint import fingerprint_records
from ..data.records.record import Record
from ..data.shipped import phrase_files
from ..data.splitting.splits import SPLITS
from ..data.windows import WindowTokenizer
from . import run_files as names
from .batching.dataset import (
    SplitRecords,
    check_positives,
    labelled_windows,
    training_records,
    window_tokenizer,
)
from .batching.shards import (
    open_labelled,
    shard_paths,
    shard_records,
    shards_hash,
    stream_labelled,
    table_key,
)
from .batching.window_table import Labelled
from .evaluation.predictions import Predictions
from .finalize import Trained, judge
from .fitting.checkpoint import checkpoint_folders
from .fitting.predict import predict_logits
from .fitting.trainer import Trainer
from .fitting.warm_up import warm_up
from .model.encoder import describe_base, save_tokenizer
from .model.mixture import with_any_violation
from .model.ngram_stage import complete
from .model.policy_model import (
    PolicyModel,
    build_model,
    is_mixed,
    load_trained_state,
    n_outputs,
    start_from_descriptions,
    trainable_share,
)
from .processes import lost_peers_named, on_cpu, process_state
from .run import record_predictions, save_model, write_provenance
from .settings import Settings, flat_settings, save_settings

_VERSION = "1"


def fingerprint(settings: Settings, data_hash: str) -> str:
    """Identifies what decides a run's result, so that a checkpoint is never resumed under other settings."""
    decisive = settings.model_dump(mode="json", exclude={"name": True, "loop": {"trackers"}})
    phrases = [sha256_file(path) for path in phrase_files(settings.data.phrasebook)]
    return hashlib.sha256(json.dumps([decisive, data_hash, phrases], sort_keys=True).encode()).hexdigest()


def _prepare_folder(folder: Path, *, resume: bool) -> None:
    if (folder / names.METRICS).is_file():
        raise RunError(f"{folder}: holds a finished run; choose another --out, or delete it first")
    if any((folder / "checkpoints").glob("step-*")) and not resume:
        raise RunError(f"{folder}: holds a run that stopped; go on with --resume, or choose another --out")
    folder.mkdir(parents=True, exist_ok=True)


def _accelerator(settings: Settings, folder: Path) -> Accelerator:
    for tracker in settings.loop.trackers:
        # accelerate would only warn of a tracker that is not installed, and train untracked.
        require(tracker, "train" if tracker == "tensorboard" else "tracking")
    accelerator = Accelerator(
        cpu=on_cpu(),
        # No buffer changes in training; and processes may call the model a different number of times in a micro-batch.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        mixed_precision=settings.optim.mixed_precision,
        log_with=list(settings.loop.trackers) or None,
        project_dir=str(folder / "trackers"),
    )
    if settings.loop.trackers:
        accelerator.init_trackers(settings.name, config=flat_settings(settings))
    return accelerator


def _window_tables(data: SplitRecords, settings: Settings, folder: Path) -> dict[str, Labelled]:
    tokenizer = window_tokenizer(folder / names.TOKENIZER, settings.model)
    cache = Path(settings.data.window_cache) if settings.data.window_cache else folder / "windows"
    train, versions = training_records(
        data.records["train"], data.taxonomy, settings.data, seed=settings.seed
    )

    def table(records: list[Record], versions: Sequence[Sequence[int]] = ()) -> Labelled:
        key = table_key(tokenizer, folder / names.TOKENIZER, fingerprint_records(records))
        return labelled_windows(records, data.taxonomy, tokenizer, cache / key, versions=versions)

    tables = {split: table(data.records[split]) for split in SPLITS[1:] if split in data.records}
    if settings.data.shards:
        return {"train": _streamed(train, versions, data, settings, tokenizer, cache, folder), **tables}
    return {"train": table(train, versions), **tables}


def _streamed(
    train: list[Record],
    versions: Sequence[Sequence[int]],
    data: SplitRecords,
    settings: Settings,
    tokenizer: WindowTokenizer,
    cache: Path,
    folder: Path,
) -> Labelled:
    """The table of the training split and the shards; one that was written before is opened, not written again."""
    paths, gate = shard_paths(settings.data.shards), settings.model.gate
    held_out = [r for split in SPLITS[1:] for r in data.records.get(split, [])]
    parts = (
        fingerprint_records(train),
        shards_hash(paths),
        fingerprint_records(held_out),
        data.taxonomy.ids,
        gate,
    )
    place = cache / table_key(tokenizer, folder / names.TOKENIZER, *parts)
    if place.is_dir():
        return open_labelled(place, pad_id=tokenizer.pad_id, versions=versions)
    further = shard_records(paths, data.taxonomy, held_out, rejects=folder / "rejects-shards.jsonl")
    records = chain(train, further)
    return stream_labelled(records, data.taxonomy, tokenizer, place, gate=gate, versions=versions)


def _started_model(
    settings: Settings,
    data: SplitRecords,
    train: Labelled,
    folder: Path,
    accelerator: Accelerator,
    *,
    resumes: bool,
) -> PolicyModel:
    """The model where training begins; what a checkpoint replaces anyway is left out if one `resumes`."""
    set_seed(settings.seed)
    model = build_model(settings.model, settings.lora, n_policies=len(data.taxonomy)).to(accelerator.device)
    warms_up = settings.warm_up.steps > 0 and not resumes
    if not (warms_up or settings.model.describe_head):
        return model
    tokenizer = window_tokenizer(folder / names.TOKENIZER, settings.model)
    texts = [f"{policy.title}: {policy.covers}" for policy in data.taxonomy.policies]
    descriptions = [windows.windows[0].ids for windows in tokenizer.encode_batch(texts)]
    if warms_up:
        # Every process by itself, all alike: the stage is short.
        bf16 = settings.optim.mixed_precision == "bf16"
        shown = accelerator.is_local_main_process
        warm_up(model, train, descriptions, settings.warm_up, bf16=bf16, seed=settings.seed, shown=shown)
    if settings.model.describe_head:
        start_from_descriptions(model, descriptions)
    return model


def fit_splits(
    settings: Settings,
    data: SplitRecords,
    folder: Path,
    *,
    mark: str,
    resume: bool,
    watch: Callable[[Sequence[int], torch.Tensor], None] | None = None,
    after_evaluation: Callable[[dict[str, Any]], None] | None = None,
) -> Trained | None:
    """Train, predict every held-out split that `data` has, save the model; None on processes other than the first.

    :param after_evaluation: sees each row of the log; what it raises ends training.
    """
    accelerator = _accelerator(settings, folder)
    if accelerator.is_main_process:
        save_tokenizer(settings.model, folder / names.TOKENIZER)
    accelerator.wait_for_everyone()
    with accelerator.main_process_first():
        tables = _window_tables(data, settings, folder)
    train = tables["train"]
    resumes = resume and bool(checkpoint_folders(folder / "checkpoints"))
    model = _started_model(settings, data, train, folder, accelerator, resumes=resumes)
    if settings.model.gate and not settings.data.shards:
        targets, known = with_any_violation(train.targets, train.known)
        train = replace(train, targets=targets, known=known)
    trainer = Trainer(
        model,
        settings,
        train,
        tables["validation"],
        accelerator=accelerator,
        folder=folder,
        fingerprint=mark,
    )
    trainer.watch, trainer.after_evaluation = watch, after_evaluation
    if resume:
        trainer.resume()
    best = trainer.fit()
    # Taken once: unwrapping may copy, and what is added below must be in what is saved.
    model = trainer.plain_model()
    load_trained_state(model, best)
    if is_mixed(settings.model):
        scores = _logits(model, settings, tables["validation"], n_outputs(settings.model, len(data.taxonomy)))
        complete(
            model,
            settings.model,
            train,
            tables["validation"],
            scores,
            tokenizer=window_tokenizer(folder / names.TOKENIZER, settings.model),
        )
    predictions = {
        split: _predict(model, settings, tables[split], data.records[split], data)
        for split in SPLITS[1:]
        if split in data.records
    }
    trainer.let_go()
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None
    save_model(model, folder)
    trainable, total = trainable_share(model)
    facts = {
        "trainable_parameters": trainable,
        "parameters": total,
        "padding_share": round(trainer.padding(), 4),
        "best_step": trainer.progress.best_step,
        "steps": trainer.progress.step,
        "processes": accelerator.num_processes,
    }
    return Trained(predictions, trainer.progress.log, facts)


def _logits(model: PolicyModel, settings: Settings, labelled: Labelled, outputs: int) -> np.ndarray:
    # Figures, calibration and thresholds are of float32, as the exported graph computes it.
    logits = predict_logits(
        model, labelled.table, PartialState(), budget=2 * settings.optim.batch_tokens, n_outputs=outputs
    )
    if not np.isfinite(logits).all():
        raise RunError("training diverged: logits are not finite; lower optim.learning_rate")
    return logits


def _predict(
    model: PolicyModel, settings: Settings, labelled: Labelled, records: list[Record], data: SplitRecords
) -> Predictions:
    logits = _logits(model, settings, labelled, len(data.taxonomy))
    return record_predictions(records, data.taxonomy, logits, labelled.table.n_windows.tolist())


def train_run(settings: Settings, data: SplitRecords, folder: Path, *, resume: bool = False) -> Path:
    """Train, calibrate, certify, evaluate on the test split once, and write the run's folder.

    Stages after training are computed again by a resume: they are quick, and metrics.json, written last,
    marks the run as finished.

    :raises RunError: if the folder holds another run, a split cannot be used, or training diverges.
    :raises SettingsError: if base weights or LoRA targets do not fit the settings.
    """
    _prepare_folder(folder, resume=resume)
    without = {split: check_positives(split, data.records[split], data.taxonomy) for split in SPLITS}
    if without["train"]:
        raise RunError(
            f"train: no positive record for {', '.join(without['train'])}; give records that carry these "
            "labels, or take the policies out of the taxonomy"
        )
    base = describe_base(settings.model)
    data_hash = data.data_hash()
    if settings.data.shards:
        data_hash = hashlib.sha256(
            f"{data_hash} {shards_hash(shard_paths(settings.data.shards))}".encode()
        ).hexdigest()
    if settings.loop.threads:
        torch.set_num_threads(settings.loop.threads)
    state = process_state()
    with lost_peers_named(state.num_processes, state.process_index):
        trained = fit_splits(settings, data, folder, mark=fingerprint(settings, data_hash), resume=resume)
    if trained is None:
        return folder
    save_settings(settings, folder / names.SETTINGS)
    write_json(folder / names.TAXONOMY, data.taxonomy.to_json())
    if data.manifest is not None:
        write_json(folder / names.SPLITS, data.manifest.to_json())
    facts = {"training": trained.facts, "policies_without_positives": without}
    write_provenance(
        folder, base=base, data_hash=data_hash, files=data.files, package_version=_VERSION, extra=facts
    )
    judge(trained, settings, data, folder)
    shutil.rmtree(folder / "windows", ignore_errors=True)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    return folder
