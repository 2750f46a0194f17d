"""Optimizer groups, the learning-rate schedule and the weight average."""

from typing import Any

import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from ..model.policy_model import PolicyModel
from ..processes import sharded_like, unsharded
from ..settings import LoraSettings, OptimSettings


def _split_encoder(model: PolicyModel, optim: OptimSettings) -> list[dict[str, Any]]:
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.encoder.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    return [
        {"params": decayed, "lr": optim.learning_rate, "weight_decay": optim.weight_decay},
        {"params": plain, "lr": optim.learning_rate, "weight_decay": 0.0},
    ]


def _loraplus_groups(model: PolicyModel, optim: OptimSettings, lora: LoraSettings) -> list[dict[str, Any]]:
    encoder = model.encoder
    if not isinstance(encoder, PeftModel):
        raise TypeError("LoRA+ needs an encoder with an adapter")
    optimizer = create_loraplus_optimizer(
        encoder,
        torch.optim.AdamW,
        lr=optim.learning_rate,
        loraplus_lr_ratio=lora.plus_ratio,
        loraplus_weight_decay=optim.weight_decay,
        weight_decay=optim.weight_decay,
    )
    return [
        {"params": g["params"], "lr": g["lr"], "weight_decay": g["weight_decay"]}
        for g in optimizer.param_groups
    ]


def build_optimizer(model: PolicyModel, optim: OptimSettings, lora: LoraSettings) -> torch.optim.Optimizer:
    """AdamW over all trainable weights: the encoder or adapter, and the head, each with its own learning rate."""
    use_plus = lora.enabled and lora.plus_ratio > 1.0
    groups = _loraplus_groups(model, optim, lora) if use_plus else _split_encoder(model, optim)
    own: list[nn.Parameter] = [
        p for n, p in model.named_parameters() if n.startswith(("head.", "gate.", "window_scores."))
    ]
    head_rate = optim.head_learning_rate or optim.learning_rate
    groups.append({"params": own, "lr": head_rate, "weight_decay": optim.weight_decay})
    fused = model.head.weight.is_cuda or None
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=optim.learning_rate, fused=fused)


def build_schedule(optimizer: torch.optim.Optimizer, optim: OptimSettings, *, steps: int) -> LambdaLR:
    """Warm-up to the peak rate, then cosine or linear decay to zero at `steps`."""
    return get_scheduler(
        optim.schedule,
        optimizer,
        num_warmup_steps=round(optim.warmup * steps),
        num_training_steps=max(steps, 1),
    )


def rebuild_schedule(schedule: LambdaLR, optim: OptimSettings, *, steps: int) -> LambdaLR:
    """The same rates over another number of steps, starting at the first step."""
    optimizer = schedule.optimizer
    for group, rate in zip(optimizer.param_groups, schedule.base_lrs, strict=True):
        group["lr"] = group["initial_lr"] = rate
    return build_schedule(optimizer, optim, steps=steps)


def set_step(schedule: LambdaLR, step: int) -> None:
    """Set schedule and optimizer to the state after `step` steps."""
    rates = [base * scale(step) for base, scale in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    schedule.last_epoch, schedule._last_lr = step, rates
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


class WeightAverage:
    """Exponential moving average of the trained weights (Polyak averaging), with a lower decay in the first steps."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.average = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the weights after a step."""
        self.steps += 1
        decay = min(self.decay, (1.0 + self.steps) / (10.0 + self.steps))
        for name, parameter in model.named_parameters():
            if name in self.average:
                self.average[name].lerp_(parameter.detach(), 1.0 - decay)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's weights with the average; a second call restores them."""
        for name, parameter in model.named_parameters():
            if name in self.average:
                kept = parameter.detach().clone()
                parameter.copy_(self.average[name])
                self.average[name] = kept

    def tensors(self) -> dict[str, Tensor]:
        """The average by name, unsharded and on the CPU, for a checkpoint."""
        return {name: unsharded(tensor).cpu().contiguous() for name, tensor in self.average.items()}

    def restore(self, tensors: dict[str, Tensor], *, steps: int) -> None:
        """Restore what `tensors` returned."""
        self.steps = steps
        for name, tensor in tensors.items():
            self.average[name].copy_(sharded_like(tensor, self.average[name]))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors, for a safetensors file."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": unsharded(torch.as_tensor(value).detach()).cpu().contiguous().clone()
        for index, values in state.items()
        for key, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        pattern = parameters[int(index)]
        fits = tensor.shape == pattern.shape
        state.setdefault(int(index), {})[key] = sharded_like(tensor, pattern) if fits else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
