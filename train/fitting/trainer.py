"""The training loop: accelerate for devices, processes and precision; everything else in plain sight."""

import gc
import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from ...core.files import write_text
from ...core.progress import Update, progress
from ..batching.batches import StepPlan, collate, padding_share, record_logits, share
from ..batching.window_table import Labelled
from ..evaluation.metric_module import PolicyMetrics
from ..model.policy_model import PolicyModel, build_model, load_trained_state, trained_state
from ..processes import is_sharded
from ..run_files import log_lines
from ..settings import Settings
from .checkpoint import Checkpoint, Progress, clear_leftovers, load_latest, save_checkpoint
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


class Trainer:
    """Trains one model to its end, or to the end of what a checkpoint began.

    :param folder: the run's folder; checkpoints, log and trackers go under it.
    :param fingerprint: identifies settings and data in the checkpoints.
    """

    def __init__(
        self,
        model: PolicyModel,
        settings: Settings,
        train: Labelled,
        validation: Labelled,
        *,
        accelerator: Accelerator,
        folder: Path,
        fingerprint: str,
    ) -> None:
        self.settings, self.train, self.validation = settings, train, validation
        self.accelerator, self.folder, self.fingerprint = accelerator, folder, fingerprint
        optim = settings.optim
        self.speedups = switch_on(model, optim, accelerator.device)
        self.plan = StepPlan(
            train.table,
            budget=optim.batch_tokens,
            most=optim.batch_records,
            per_step=optim.accumulate * accelerator.num_processes,
            seed=settings.seed,
            versions=train.versions,
            packed=self.speedups.layout is not None,
        )
        self.total_steps = self._total_steps()
        self.steps_in_epoch = 1
        self.bare = model
        optimizer = build_optimizer(model, optim, settings.lora)
        self.schedule = build_schedule(optimizer, optim, steps=self.total_steps)
        with warnings.catch_warnings():
            # torch has a newer name for not sending buffers around, which older versions do not know.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.sharded = is_sharded(model)
        self.average = WeightAverage(model, optim.ema) if optim.ema else None
        self.best: dict[str, Tensor] = {}
        self.watch: Callable[[Sequence[int], Tensor], None] | None = None  # sees each micro-batch's logits
        self.after_evaluation: Callable[[dict[str, Any]], None] | None = None  # sees each row of the log
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
        logits = self._logits(records)
        if self.watch is not None:
            self.watch(records, logits)
        targets = torch.from_numpy(self.train.targets[records]).to(logits.device)
        known = torch.from_numpy(self.train.known[records]).to(logits.device)
        return masked_loss(logits, targets, known, self.settings.loss, n_records=n_records)

    def _empty_loss(self) -> Tensor:
        """Zero, of a record that counts for nothing: a process without records must still take part in a step."""
        return 0.0 * self._logits([0]).sum()

    def step(self, micro_batches: list[list[int]]) -> float:
        """One optimizer step over this process's share of the micro-batches; gives the step's loss."""
        accelerator, world = self.accelerator, self.accelerator.num_processes
        n_records = sum(len(batch) for batch in micro_batches)
        mine = share(micro_batches, rank=accelerator.process_index, world=world)
        # Seeding by step, not once, makes dropout the same after a resume with no state to carry.
        torch.manual_seed(hash((self.settings.seed, self.progress.step, accelerator.process_index)) % 2**63)
        total = torch.zeros((), device=accelerator.device)
        for place, records in enumerate(mine):
            with accelerator.no_sync(self.model) if place + 1 < len(mine) else nullcontext():
                loss = self._micro_loss(records, n_records) if records else self._empty_loss()
                # Processes average their gradients; times `world` turns that into the sum over the step.
                accelerator.backward(loss * world)
            total += loss.detach()
        accelerator.clip_grad_norm_(self.model.parameters(), self.settings.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update(self.bare)
        return float(accelerator.reduce(total, reduction="sum"))

    # -- evaluation and checkpoints ---------------------------------------------------------------------

    def _validate(self) -> dict[str, float]:
        if self.average is not None:
            self.average.swap(self.bare)
        logits = predict_logits(
            self.model,
            self.validation.table,
            self.accelerator.state,
            budget=2 * self.settings.optim.batch_tokens,
            n_outputs=self.train.targets.shape[1],
        )
        figures = self._score(logits[:, : self.validation.targets.shape[1]])
        improved = figures["macro_average_precision"] > self.progress.best_metric
        if improved:
            self.progress.best_metric = figures["macro_average_precision"]
            self.progress.best_step = self.progress.step
            self.best = trained_state(self.bare)
        self.progress.without_better = 0 if improved else self.progress.without_better + 1
        if self.average is not None:
            self.average.swap(self.bare)
        return figures

    def _score(self, logits: np.ndarray) -> dict[str, float]:
        """Validation figures of uncalibrated logits; zero where no policy has a positive to rank."""
        metric = PolicyMetrics(cache_dir=str(self.folder / "cache"), experiment_id=f"process-{os.getpid()}")
        metric.add_batch(predictions=logits, references=self.validation.targets, known=self.validation.known)
        figures = metric.compute(threshold=0.0)
        return {name: float(np.nan_to_num(value)) for name, value in figures.items()}

    def _evaluate(self, seconds: float) -> None:
        progress = self.progress
        figures = self._validate()
        row = {
            "step": progress.step,
            "epoch": round(progress.epoch + progress.step_in_epoch / self.steps_in_epoch, 4),
            "loss": progress.loss_sum / max(progress.loss_steps, 1),
            "learning_rate": self.schedule.get_last_lr()[0],
            "seconds": round(seconds, 2),
            **{f"validation_{name}": value for name, value in figures.items()},
        }
        progress.loss_sum, progress.loss_steps = 0.0, 0
        progress.log.append(row)
        self.accelerator.log({k: v for k, v in row.items() if k != "step"}, step=progress.step)
        if self.accelerator.is_main_process:
            write_text(self.folder / "log.jsonl", log_lines(progress.log))
        if progress.without_better >= self.settings.loop.patience:
            progress.finished = True
        if self.after_evaluation is not None:
            self.after_evaluation(row)

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process and not self.sharded:
            return
        scaler = self.accelerator.scaler
        self.progress.scaler = scaler.state_dict() if scaler is not None else {}
        tensors = {"trained": trained_state(self.bare), "optimizer": optimizer_tensors(self.optimizer)}
        if self.best:
            tensors["best"] = self.best
        if self.average is not None:
            self.progress.ema_steps = self.average.steps
            tensors["average"] = self.average.tensors()
        if self.accelerator.is_main_process:
            checkpoint = Checkpoint(self.progress, tensors)
            save_checkpoint(self.folder / "checkpoints", checkpoint, fingerprint=self.fingerprint)

    def resume(self) -> bool:
        """Go back to the newest checkpoint; False where there is none and training begins anew.

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
        load_trained_state(self.bare, checkpoint.tensors["trained"])
        restore_optimizer(self.optimizer, checkpoint.tensors.get("optimizer", {}))
        self.best = checkpoint.tensors.get("best", {})
        if self.average is not None:
            self.average.restore(checkpoint.tensors["average"], steps=self.progress.ema_steps)
        if self.accelerator.scaler is not None and self.progress.scaler:
            self.accelerator.scaler.load_state_dict(self.progress.scaler)
        set_step(self.schedule, self.progress.step)
        return True

    def _keep_steps(self) -> None:
        """As many micro-batches to a step as the run began with, though other processes may share them now."""
        if self.progress.per_step == self.plan.per_step:
            return
        self.plan.per_step = self.progress.per_step
        self.total_steps = self._total_steps()
        self.schedule = rebuild_schedule(self.schedule, self.settings.optim, steps=self.total_steps)

    # -- the whole --------------------------------------------------------------------------------------

    def _due(self, every: int | None, *, last_of_epoch: bool) -> bool:
        at_end = self.progress.step >= self.total_steps
        return at_end or (last_of_epoch if every is None else self.progress.step % every == 0)

    def _run_epoch(self, update: Update, started: float) -> None:
        progress, loop = self.progress, self.settings.loop
        self.steps_in_epoch = self.epoch_steps[progress.epoch]
        remaining = islice(self.plan.steps(progress.epoch), progress.step_in_epoch, None)
        for number, micro_batches in enumerate(remaining, start=progress.step_in_epoch):
            progress.loss_sum += self.step(micro_batches)
            progress.loss_steps += 1
            progress.step += 1
            progress.step_in_epoch = number + 1
            last = number + 1 == self.steps_in_epoch
            status = f"epoch {progress.epoch + 1}, loss {progress.loss_sum / progress.loss_steps:.4f}"
            if self._due(loop.evaluate_every, last_of_epoch=last):
                self._evaluate(time.perf_counter() - started)
                status += f", validation AP {progress.log[-1]['validation_macro_average_precision']:.3f}"
            progress.finished = progress.finished or progress.step >= self.total_steps
            if progress.finished or self._due(loop.checkpoint_every, last_of_epoch=last):
                self._save()
            update(progress.step, status)
            if progress.finished:
                return
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0

    def fit(self) -> dict[str, Tensor]:
        """Train until the steps run out or validation stops improving; gives the best weights.

        Progress goes to standard error; figures to `log.jsonl`, the trackers and the checkpoints.
        """
        self.model.train()
        started = time.perf_counter()
        shown, done = self.accelerator.is_local_main_process, self.progress.step
        with progress("training", total=self.total_steps, done=done, shown=shown, keep=True) as update:
            while not self.progress.finished:
                self._run_epoch(update, started)
        return self.best

    def plain_model(self) -> PolicyModel:
        """The model without the wrappers of accelerate and the speed-ups of training: its logits are float32.

        What was sharded is built anew, whole, on each process; the caller loads the best weights.
        """
        if self.sharded:
            outputs = self.bare.head.out_features
            gated = self.settings.model.gate
            fresh = build_model(self.settings.model, self.settings.lora, n_policies=outputs - gated)
            return fresh.to(self.accelerator.device)
        switch_off(self.bare, self.settings.optim, self.speedups)
        return self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)

    def let_go(self) -> None:
        """Give up the wrappers of accelerate while its processes still talk to each other: a reducer that outlives its
        process group ends it with the interpreter's lock held, and may wait for ever for threads that want the lock."""
        self.model = self.bare
        self.accelerator.free_memory()
        gc.collect()

    def padding(self) -> float:
        """Share of padding in the first epoch's first thousand steps."""
        batches = [batch for step in islice(self.plan.steps(0), 1000) for batch in step]
        return padding_share(self.train.table, batches, layout=self.speedups.layout)
