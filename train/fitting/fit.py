"""Fitting a model on splits of records: data to windows, the training loop, the mixture, and predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, set_seed

from ...core.errors import RunError
from ...core.extras import require
from ...data.splitting.splits import SPLITS
from ..batching.dataset import SplitRecords
from ..batching.split_tables import split_tables, training_blocks
from ..batching.window_table import LabelledWindows, window_tokenizer
from ..evaluation.predictions import Predictions
from ..model.encoder import save_tokenizer
from ..model.ngram_stage import MOST_TEXTS, add_ngrams_and_mixture, block_tokenizers
from ..model.policy_model import (
    PolicyModel,
    build_model,
    count_parameters,
    load_trained_state,
    start_from_descriptions,
)
from ..processes import on_cpu
from ..run import TOKENIZER, TrainingFacts, record_predictions, save_model
from ..settings import Settings, flat_settings
from .checkpoint import LogRow
from .predict import predict_logits
from .trainer import OnBatch, OnEvaluation, Trainer


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training returns besides the saved model: predictions of the held-out splits, the log, and facts."""

    predictions: dict[str, Predictions]
    log: Sequence[LogRow]
    facts: TrainingFacts


def fit_splits(
    settings: Settings,
    data: SplitRecords,
    folder: Path,
    *,
    fingerprint: str,
    resume: bool = False,
    on_batch: OnBatch | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> TrainingResult | None:
    """Train, predict every held-out split of `data`, and save the model; None in all processes but the first.

    :param fingerprint: identifies settings and data in the checkpoints.
    :param on_batch: called with the texts, labels and logits of each micro-batch's rows before its step.
    :param on_evaluation: called with each row of the log; an exception that it raises ends training.
    :raises RunError: if training diverges, or a checkpoint to resume belongs to other settings or data.
    """
    accelerator = _start_accelerator(settings, folder)
    tables = _prepare_tables(settings, data, folder, accelerator)
    trainer = Trainer(
        _initial_model(settings, data, folder, accelerator),
        settings,
        tables["train"],
        tables["validation"],
        accelerator=accelerator,
        folder=folder,
        fingerprint=fingerprint,
        on_batch=on_batch,
        on_evaluation=on_evaluation,
    )
    if resume:
        trainer.resume()
    model = _train(trainer, settings, data, tables, folder)
    predictions = _predict_held_out(model, settings, data, tables)
    trainer.release()
    accelerator.end_training()
    if not accelerator.is_main_process:
        return None
    save_model(model, folder)
    return TrainingResult(predictions, trainer.progress.log, _facts(model, trainer))


def _start_accelerator(settings: Settings, folder: Path) -> Accelerator:
    for tracker in settings.loop.trackers:
        # accelerate only warns about a tracker that is not installed, and then trains without it.
        require(tracker, "train" if tracker == "tensorboard" else "tracking")
    accelerator = Accelerator(
        cpu=on_cpu(),
        # Buffers do not change in training, and processes may call the model a different number of times per micro-batch.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        mixed_precision=settings.optim.mixed_precision,
        log_with=list(settings.loop.trackers) or None,
        project_dir=str(folder / "trackers"),
    )
    if settings.loop.trackers:
        accelerator.init_trackers(settings.name, config=flat_settings(settings))
    return accelerator


def _prepare_tables(
    settings: Settings, data: SplitRecords, folder: Path, accelerator: Accelerator
) -> dict[str, LabelledWindows]:
    """Save the tokenizer and tokenise every split; the first process writes, the others open what it wrote."""
    if accelerator.is_main_process:
        save_tokenizer(settings.model, folder / TOKENIZER)
    accelerator.wait_for_everyone()
    with accelerator.main_process_first():
        return split_tables(data, settings, folder / TOKENIZER, folder)


def _initial_model(
    settings: Settings, data: SplitRecords, folder: Path, accelerator: Accelerator
) -> PolicyModel:
    """The model before its first step."""
    set_seed(settings.seed)
    model = build_model(settings.model, settings.lora, n_policies=len(data.taxonomy)).to(accelerator.device)
    if settings.model.describe_head:
        tokenizer = window_tokenizer(folder / TOKENIZER, settings.model)
        texts = [f"{policy.title}: {policy.covers}" for policy in data.taxonomy.policies]
        start_from_descriptions(model, [each.windows[0].ids for each in tokenizer.encode_batch(texts)])
    return model


def _train(
    trainer: Trainer,
    settings: Settings,
    data: SplitRecords,
    tables: dict[str, LabelledWindows],
    folder: Path,
) -> PolicyModel:
    """Run the training loop; returns the plain model with the best weights, n-gram branch and mixture."""
    best = trainer.fit()
    # Unwrapped once: unwrapping may copy, and the saved model must be the one that is extended below.
    model = trainer.plain_model()
    load_trained_state(model, best)
    if settings.model.ngram_buckets:
        model_settings = settings.model
        blocks = block_tokenizers(folder / TOKENIZER, max_windows=model_settings.max_windows)
        add_ngrams_and_mixture(
            model,
            model_settings,
            training_blocks(data, settings, blocks, folder, most=MOST_TEXTS),
            tables["validation"],
            _logits(model, settings, tables["validation"], len(data.taxonomy)),
            tokenizer=window_tokenizer(folder / TOKENIZER, model_settings),
        )
    return model


def _logits(model: PolicyModel, settings: Settings, labelled: LabelledWindows, outputs: int) -> np.ndarray:
    """Record logits (N, outputs) in float32, which the exported graph uses and figures and thresholds refer to.

    :raises RunError: if they are not finite.
    """
    logits = predict_logits(
        model, labelled.table, PartialState(), budget=2 * settings.optim.batch_tokens, n_outputs=outputs
    )
    if not np.isfinite(logits).all():
        raise RunError("training diverged: logits are not finite; lower optim.learning_rate")
    return logits


def _predict_held_out(
    model: PolicyModel, settings: Settings, data: SplitRecords, tables: dict[str, LabelledWindows]
) -> dict[str, Predictions]:
    predictions = {}
    for split in SPLITS[1:]:
        if split in data.records:
            logits = _logits(model, settings, tables[split], len(data.taxonomy))
            windows = tables[split].table.n_windows.tolist()
            predictions[split] = record_predictions(data.records[split], data.taxonomy, logits, windows)
    return predictions


def _facts(model: PolicyModel, trainer: Trainer) -> TrainingFacts:
    trainable, total = count_parameters(model)
    return TrainingFacts(
        trainable_parameters=trainable,
        parameters=total,
        padding_share=round(trainer.padding(), 4),
        best_step=trainer.progress.best_step,
        steps=trainer.progress.step,
        processes=trainer.accelerator.num_processes,
    )
