"""Losses over a matrix of independent labels, without its unlabelled cells."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..settings import LossSettings


def cell_losses(logits: Tensor, targets: Tensor, settings: LossSettings) -> Tensor:
    """Loss of every cell, shape (N, K), from logits and targets in [0, 1] of that shape.

    "bce" is binary cross-entropy; "focal" Lin 2017; "asl" the asymmetric loss of Ridnik 2021, without focusing on
    positives. The positive weight multiplies the positive part of each; smoothing moves targets towards 1/2.
    """
    logits, targets = logits.float(), targets.float()
    targets = targets * (1.0 - settings.label_smoothing) + 0.5 * settings.label_smoothing
    log_p, log_q = F.logsigmoid(logits), F.logsigmoid(-logits)
    positive, negative = log_p, log_q
    if settings.name == "asl":
        p = torch.sigmoid(logits)
        q = (1.0 - p + settings.asl_clip).clamp(max=1.0)
        # The derivative of 0 ** gamma is undefined at q == 1, where the cell is easy enough to have no weight.
        negative = (1.0 - q).clamp(min=1e-12).pow(settings.asl_gamma_negative) * q.clamp(min=1e-8).log()
    elif settings.name == "focal":
        p = torch.sigmoid(logits)
        positive = (1.0 - p).pow(settings.focal_gamma) * log_p
        negative = p.pow(settings.focal_gamma) * log_q
    return -(settings.positive_weight * targets * positive + (1.0 - targets) * negative)


def masked_loss(
    logits: Tensor,
    targets: Tensor,
    mask: Tensor,
    settings: LossSettings,
    *,
    n_records: int,
    weights: Tensor | None = None,
) -> Tensor:
    """Sum of the labelled cells' losses divided by `n_records` times K, a scalar.

    Dividing by the records of the whole optimizer step instead of the micro-batch makes the sum of the micro-batches'
    gradients equal to that of one large batch, for any accumulation and number of processes.

    :param mask: bool (N, K), False for unlabelled cells, which have neither loss nor gradient.
    :param weights: (N, K), factors of the cells' losses; None, all 1.
    """
    losses = cell_losses(logits, targets, settings)
    if weights is not None:
        losses = losses * weights
    return losses.masked_fill(~mask, 0.0).sum() / (n_records * logits.shape[1])
