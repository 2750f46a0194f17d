"""Losses over a matrix of independent labels, with cells that nobody has judged left out."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..settings import LossSettings


def cell_losses(logits: Tensor, targets: Tensor, settings: LossSettings) -> Tensor:
    """Loss of every cell, shape (N, K), from logits and targets in [0, 1] of that shape.

    "bce" is binary cross-entropy; "focal" Lin 2017; "asl" the asymmetric loss of Ridnik 2021. The positive
    weight multiplies the positive part of each; smoothing moves targets towards 1/2.
    """
    logits, targets = logits.float(), targets.float()
    targets = targets * (1.0 - settings.label_smoothing) + 0.5 * settings.label_smoothing
    log_p, log_q = F.logsigmoid(logits), F.logsigmoid(-logits)
    if settings.name == "asl":
        p = torch.sigmoid(logits)
        q = (1.0 - p + settings.asl_clip).clamp(max=1.0)
        positive = (1.0 - p).pow(settings.asl_gamma_positive) * log_p
        # Differentiating 0 ** gamma is undefined at q == 1: those cells are easy enough to weigh nothing.
        negative = (1.0 - q).clamp(min=1e-12).pow(settings.asl_gamma_negative) * q.clamp(min=1e-8).log()
    elif settings.name == "focal":
        p = torch.sigmoid(logits)
        positive = (1.0 - p).pow(settings.focal_gamma) * log_p
        negative = p.pow(settings.focal_gamma) * log_q
    else:
        positive, negative = log_p, log_q
    return -(settings.positive_weight * targets * positive + (1.0 - targets) * negative)


def masked_loss(
    logits: Tensor, targets: Tensor, known: Tensor, settings: LossSettings, *, n_records: int
) -> Tensor:
    """Sum of the known cells' losses over `n_records` times K, a scalar.

    Dividing by the records of the whole optimizer step, not of the micro-batch, makes the sum of the
    micro-batches' gradients equal that of one large batch, whatever the accumulation or number of processes.

    :param known: bool (N, K); unknown cells give neither loss nor gradient.
    """
    losses = cell_losses(logits, targets, settings)
    return losses.masked_fill(~known, 0.0).sum() / (n_records * logits.shape[1])
