"""A contrastive warm-up of the encoder, before the head is put on it: texts are drawn to the descriptions of the policies that
they violate and to other texts that violate them, compliant texts to each other, and all away from the rest.

Supervised contrastive loss: Khosla et al., NeurIPS 2020; as a first stage before a classifier: SetFit, Tunstall et al., 2022. Here it
works on window vectors, so that a head that starts from the descriptions starts from a geometry made for it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from ..batching.batches import length_groups, padded
from ..batching.window_table import Labelled
from ..model.policy_model import PolicyModel
from ..settings import WarmUpSettings


def warm_up(
    model: PolicyModel,
    train: Labelled,
    descriptions: Sequence[Sequence[int]],
    settings: WarmUpSettings,
    *,
    bf16: bool,
    seed: int,
    shown: bool = True,
) -> None:
    """Train the encoder's trainable weights in place for `settings.steps` steps, on the first window of each record.

    :param train: its first columns are the policies of `descriptions`.
    :param descriptions: token ids of one description a policy, special tokens included.
    :param bf16: compute in bfloat16 where that is safe.
    :param shown: show a progress bar.
    """
    device = model.head.weight.device
    parameters = [p for p in model.encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate)
    schedule = LambdaLR(optimizer, lambda step: _rate(step, settings.steps))
    cut = [list(ids[: settings.tokens]) for ids in descriptions]
    targets = (train.targets * train.known)[:, : len(cut)]
    compliant = train.known[:, : len(cut)].all(axis=1) & ~targets.any(axis=1)
    draw = np.random.default_rng(seed)
    model.train()
    steps = range(settings.steps)
    for _ in track(steps, "warm-up", console=Console(stderr=True), disable=not shown, transient=True):
        rows = draw.choice(len(train.table), min(settings.batch_records, len(train.table)), replace=False)
        firsts = [windows[0][: settings.tokens] for windows in train.table.windows(rows.tolist())]
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            vectors = _vectors(model, [*firsts, *cut], train.table.pad_id, device)
        loss = contrastive_loss(
            vectors[: len(rows)],
            vectors[len(rows) :],
            torch.from_numpy(targets[rows]).float().to(device),
            torch.from_numpy(compliant[rows]).to(device),
            settings.temperature,
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()


def _rate(step: int, steps: int) -> float:
    """Share of the peak rate at a step: up over the first tenth, and linearly down to nothing."""
    return min(1.0, (step + 1) / max(1, steps // 10)) * (1.0 - step / steps)


def _vectors(
    model: PolicyModel, windows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> Tensor:
    """Unit vectors (N, hidden) of N windows, float32, in their order."""
    groups = length_groups([len(window) for window in windows])
    batches = [padded([windows[place] for place in group], pad_id) for group in groups]
    pooled = torch.cat([model.pooled(ids.to(device), mask.to(device)) for ids, mask in batches]).float()
    order = torch.tensor([place for group in groups for place in group], device=device)
    return nn.functional.normalize(pooled[order.argsort()], dim=1)


def contrastive_loss(
    texts: Tensor, descriptions: Tensor, targets: Tensor, compliant: Tensor, temperature: float
) -> Tensor:
    """How far texts are from the descriptions of their policies, and from the other texts of their kind, beside all others.

    :param texts: unit vectors (B, hidden); `descriptions`: likewise (K, hidden).
    :param targets: float (B, K), 1 where a policy is violated.
    :param compliant: bool (B,), texts that violate nothing. Those that are neither violating nor compliant are unknown, and only stand by.
    """
    violating = targets.sum(1) > 0
    to_descriptions = texts @ descriptions.T / temperature
    loss = _mean_of(_cross_entropy(to_descriptions, targets), violating)
    others = ~torch.eye(len(texts), dtype=torch.bool, device=texts.device)
    alike = (targets @ targets.T > 0) | (compliant[:, None] & compliant[None])
    to_texts = (texts @ texts.T / temperature).masked_fill(~others, torch.finfo(texts.dtype).min)
    same = (alike & others).float()
    return loss + _mean_of(_cross_entropy(to_texts, same), same.sum(1) > 0)


def _cross_entropy(similarities: Tensor, positives: Tensor) -> Tensor:
    """Per row, (B,), of even shares over its positives; 0 where it has none."""
    shares = positives / positives.sum(1, keepdim=True).clamp(min=1.0)
    return -(shares * similarities.log_softmax(1)).sum(1)


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
