"""The training loop: accelerate handles devices, processes and precision; everything else is written out here."""

import gc
import json
import os
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from ...core.errors import RunError
from ...core.files import write_text
from ...core.labels import LabelMatrix
from ...core.progress import Update, progress
from ..batching.batches import StepPlan, collate, padding_share, record_logits, share
from ..batching.window_table import LabelledWindows
from ..evaluation.metric_module import PolicyMetrics
from ..model.policy_model import PolicyModel, build_model, load_trained_state, trained_state
from ..processes import is_sharded
from ..run import LOG
from ..settings import Settings
from .checkpoint import Checkpoint, LogRow, Progress, clear_leftovers, load_latest, save_checkpoint
from .losses import masked_loss
from .optimizer import (
    WeightAverage,
    build_optimizer,
    build_schedule,
    optimizer_tensors,
    rebuild_schedule,
    restore_optimizer,
    set_step,
)
from .predict import predict_logits
from .speedups import switch_off, switch_on

OnBatch = Callable[[np.ndarray, LabelMatrix, Tensor], None]
OnEvaluation = Callable[[LogRow], None]


FloatOrArray = TypeVar("FloatOrArray", float, np.ndarray)


def _finite(what: str, value: FloatOrArray) -> FloatOrArray:
    """The value, if it is finite: figures, trackers and checkpoints never hold another.

    :raises RunError: if it is not.
    """
    if not np.isfinite(value).all():
        raise RunError(f"training diverged: {what} is not finite; lower optim.learning_rate")
    return value


class Trainer:
    """Trains one model, from the start or from a checkpoint.

    :param folder: the run's folder, for checkpoints and the log.
    :param fingerprint: identifies settings and data in the checkpoints.
    :param on_batch: called with the texts, labels and logits of each micro-batch's rows before its step.
    :param on_evaluation: called with each row of the log; an exception that it raises ends training.
    """

    def __init__(
        self,
        model: PolicyModel,
        settings: Settings,
        train: LabelledWindows,
        validation: LabelledWindows,
        *,
        accelerator: Accelerator,
        folder: Path,
        fingerprint: str,
        on_batch: OnBatch | None = None,
        on_evaluation: OnEvaluation | None = None,
    ) -> None:
        self.settings, self.train, self.validation = settings, train, validation
        self.accelerator, self.folder, self.fingerprint = accelerator, folder, fingerprint
        self.on_batch, self.on_evaluation = on_batch, on_evaluation
        optim = settings.optim
        self.speedups = switch_on(model, optim, accelerator.device)
        self.plan = StepPlan(
            train.table,
            budget=optim.batch_tokens,
            most=optim.batch_records,
            per_step=optim.accumulate * accelerator.num_processes,
            seed=settings.seed,
            alternatives=train.alternatives,
            packed=self.speedups.layout is not None,
        )
        self.total_steps = self._total_steps()
        self.steps_in_epoch = 1
        self.unwrapped = model
        optimizer = build_optimizer(model, optim, settings.lora)
        self.schedule = build_schedule(optimizer, optim, steps=self.total_steps)
        with warnings.catch_warnings():
            # The option has a newer name in torch, which older versions do not know.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.sharded = is_sharded(model)
        self.average = WeightAverage(model, optim.ema) if optim.ema else None
        self.best: dict[str, Tensor] = {}
        self.progress = Progress(per_step=self.plan.per_step)

    def _total_steps(self) -> int:
        optim = self.settings.optim
        self.epoch_steps = [0] * optim.epochs
        for epoch in range(optim.epochs):
            self.epoch_steps[epoch] = sum(1 for _ in self.plan.steps(epoch))
            if optim.max_steps and sum(self.epoch_steps) >= optim.max_steps:
                return optim.max_steps
        return sum(self.epoch_steps)

    # -- one step ---------------------------------------------------------------------------------------

    def _logits(self, records: list[int]) -> Tensor:
        layout = self.speedups.layout
        batch = collate(self.train.table, records, layout=layout, one_group=self.sharded)
        return record_logits(self.model, batch.to(self.accelerator.device))

    def _micro_loss(self, records: list[int], n_records: int) -> Tensor:
        logits, labels = self._logits(records), self.train.labels[records]
        if self.on_batch is not None:
            texts = np.asarray(records) if self.train.texts is None else self.train.texts[records]
            self.on_batch(texts, labels, logits)
        targets = torch.from_numpy(labels.values).to(logits.device)
        mask = torch.from_numpy(labels.mask).to(logits.device)
        weights = None if labels.weights is None else torch.tensor(labels.weights, device=logits.device)
        return masked_loss(logits, targets, mask, self.settings.loss, n_records=n_records, weights=weights)

    def _empty_loss(self) -> Tensor:
        """Zero, computed from any record: a process without records must still take part in a step."""
        return 0.0 * self._logits([0]).sum()

    def step(self, micro_batches: list[list[int]]) -> float:
        """Do one optimizer step over this process's share of the micro-batches; returns the step's loss."""
        accelerator, world = self.accelerator, self.accelerator.num_processes
        n_records = sum(len(batch) for batch in micro_batches)
        mine = share(micro_batches, rank=accelerator.process_index, world=world)
        # Seeding every step instead of once makes dropout the same after a resume, without any state to store.
        torch.manual_seed(hash((self.settings.seed, self.progress.step, accelerator.process_index)) % 2**63)
        total = torch.zeros((), device=accelerator.device)
        for place, records in enumerate(mine):
            with accelerator.no_sync(self.model) if place + 1 < len(mine) else nullcontext():
                loss = self._micro_loss(records, n_records) if records else self._empty_loss()
                # Processes average their gradients; the factor `world` turns the average into the sum over the step.
                accelerator.backward(loss * world)
            total += loss.detach()
        accelerator.clip_grad_norm_(self.model.parameters(), self.settings.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update(self.unwrapped)
        return float(accelerator.reduce(total, reduction="sum"))

    # -- evaluation and checkpoints ---------------------------------------------------------------------

    def _validate(self) -> dict[str, float]:
        if self.average is not None:
            self.average.swap(self.unwrapped)
        logits = predict_logits(
            self.model,
            self.validation.table,
            self.accelerator.state,
            budget=2 * self.settings.optim.batch_tokens,
            n_outputs=self.train.labels.policies,
        )
        figures = self._score(_finite("a validation logit", logits))
        improved = figures["macro_average_precision"] > self.progress.best_metric
        if improved:
            self.progress.best_metric = figures["macro_average_precision"]
            self.progress.best_step = self.progress.step
            self.best = trained_state(self.unwrapped)
        self.progress.without_better = 0 if improved else self.progress.without_better + 1
        if self.average is not None:
            self.average.swap(self.unwrapped)
        return figures

    def _score(self, logits: np.ndarray) -> dict[str, float]:
        """Validation figures of uncalibrated logits; zero where no policy has a positive."""
        metric = PolicyMetrics(cache_dir=str(self.folder / "cache"), experiment_id=f"process-{os.getpid()}")
        labels = self.validation.labels
        metric.add_batch(predictions=logits, references=labels.values, mask=labels.mask)
        figures = metric.compute(threshold=0.0)
        return {name: float(np.nan_to_num(value)) for name, value in figures.items()}

    def _evaluate(self, seconds: float) -> None:
        progress = self.progress
        figures = self._validate()
        row = LogRow(
            step=progress.step,
            epoch=round(progress.epoch + progress.step_in_epoch / self.steps_in_epoch, 4),
            loss=progress.loss_sum / max(progress.loss_steps, 1),
            learning_rate=float(self.schedule.get_last_lr()[0]),
            seconds=round(seconds, 2),
            **{f"validation_{name}": value for name, value in figures.items()},
        )
        progress.loss_sum, progress.loss_steps = 0.0, 0
        progress.log.append(row)
        self.accelerator.log({k: v for k, v in row.to_json().items() if k != "step"}, step=progress.step)
        if self.accelerator.is_main_process:
            lines = [json.dumps(each.to_json()) + "\n" for each in progress.log]
            write_text(self.folder / LOG, "".join(lines))
        if progress.without_better >= self.settings.loop.patience:
            progress.finished = True
        if self.on_evaluation is not None:
            self.on_evaluation(row)

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process and not self.sharded:
            return
        scaler = self.accelerator.scaler
        self.progress.scaler = scaler.state_dict() if scaler is not None else {}
        tensors = {"trained": trained_state(self.unwrapped), "optimizer": optimizer_tensors(self.optimizer)}
        if self.best:
            tensors["best"] = self.best
        if self.average is not None:
            self.progress.ema_steps = self.average.steps
            tensors["average"] = self.average.tensors()
        if self.accelerator.is_main_process:
            checkpoint = Checkpoint(self.progress, tensors)
            save_checkpoint(self.folder / "checkpoints", checkpoint, fingerprint=self.fingerprint)

    def resume(self) -> bool:
        """Continue from the newest checkpoint; returns False if there is none and training starts from the beginning.

        :raises RunError: if the checkpoint belongs to other settings or data.
        """
        if self.accelerator.is_main_process:
            clear_leftovers(self.folder / "checkpoints")
        self.accelerator.wait_for_everyone()
        checkpoint = load_latest(self.folder / "checkpoints", fingerprint=self.fingerprint)
        if checkpoint is None:
            return False
        self.progress = checkpoint.progress
        self._keep_steps()
        load_trained_state(self.unwrapped, checkpoint.tensors["trained"])
        restore_optimizer(self.optimizer, checkpoint.tensors.get("optimizer", {}))
        self.best = checkpoint.tensors.get("best", {})
        if self.average is not None:
            self.average.restore(checkpoint.tensors["average"], steps=self.progress.ema_steps)
        if self.accelerator.scaler is not None and self.progress.scaler:
            self.accelerator.scaler.load_state_dict(self.progress.scaler)
        set_step(self.schedule, self.progress.step)
        return True

    def _keep_steps(self) -> None:
        """Keep the micro-batches per step that the run started with, even if the number of processes has changed."""
        if self.progress.per_step == self.plan.per_step:
            return
        self.plan.per_step = self.progress.per_step
        self.total_steps = self._total_steps()
        self.schedule = rebuild_schedule(self.schedule, self.settings.optim, steps=self.total_steps)

    # -- the loop ---------------------------------------------------------------------------------------

    def _due(self, every: int | None, *, last_of_epoch: bool) -> bool:
        at_end = self.progress.step >= self.total_steps
        return at_end or (last_of_epoch if every is None else self.progress.step % every == 0)

    def _run_epoch(self, update: Update, started: float) -> None:
        progress, loop = self.progress, self.settings.loop
        self.steps_in_epoch = self.epoch_steps[progress.epoch]
        remaining = islice(self.plan.steps(progress.epoch), progress.step_in_epoch, None)
        for number, micro_batches in enumerate(remaining, start=progress.step_in_epoch):
            progress.loss_sum += _finite("the loss", self.step(micro_batches))
            progress.loss_steps += 1
            progress.step += 1
            progress.step_in_epoch = number + 1
            last = number + 1 == self.steps_in_epoch
            status = f"epoch {progress.epoch + 1}, loss {progress.loss_sum / progress.loss_steps:.4f}"
            if self._due(loop.evaluate_every, last_of_epoch=last):
                self._evaluate(time.perf_counter() - started)
                status += f", validation AP {progress.log[-1].validation_macro_average_precision:.3f}"
            progress.finished = progress.finished or progress.step >= self.total_steps
            if progress.finished or self._due(loop.checkpoint_every, last_of_epoch=last):
                self._save()
            update(progress.step, status)
            if progress.finished:
                return
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0

    def fit(self) -> dict[str, Tensor]:
        """Train until the last step or until validation stops improving; returns the best weights.

        Progress is shown on standard error; figures go to `log.jsonl`, the trackers and the checkpoints.

        :raises RunError: if training diverges: the loss or a validation logit is not finite.
        """
        self.model.train()
        started = time.perf_counter()
        shown, done = self.accelerator.is_local_main_process, self.progress.step
        with progress("training", total=self.total_steps, done=done, shown=shown, keep=True) as update:
            while not self.progress.finished:
                self._run_epoch(update, started)
        return self.best

    def plain_model(self) -> PolicyModel:
        """The model without accelerate's wrappers and the speed-ups of training, so that its logits are float32.

        A sharded model is built again, unsharded, on each process; the caller loads the best weights.
        """
        if self.sharded:
            outputs = self.unwrapped.head.out_features
            fresh = build_model(self.settings.model, self.settings.lora, n_policies=outputs)
            return fresh.to(self.accelerator.device)
        switch_off(self.unwrapped, self.settings.optim, self.speedups)
        return self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)

    def release(self) -> None:
        """Drop accelerate's wrappers while the processes are still connected: a reducer that outlives its process group
        destroys the group with the interpreter's lock held, and may wait forever for threads that need the lock."""
        self.model = self.unwrapped
        self.accelerator.free_memory()
        gc.collect()

    def padding(self) -> float:
        """Share of padding in the first thousand steps of the first epoch."""
        batches = [batch for step in islice(self.plan.steps(0), 1000) for batch in step]
        return padding_share(self.train.table, batches, layout=self.speedups.layout)
